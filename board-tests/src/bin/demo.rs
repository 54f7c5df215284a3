//! `cargo demo`: see [`board_tests::demo`].

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use board_tests::demo::{Action, DemoError, USAGE, board, reboot, run};

fn main() -> ExitCode {
    let mut out = io::stdout().lock();
    match Action::parse(std::env::args_os().skip(1)) {
        Ok(Action::Help) => {
            let _ = out.write_all(USAGE.as_bytes());
            ExitCode::SUCCESS
        }
        Ok(Action::Run(options)) => end(run(&options, &mut out)),
        Ok(Action::Reboot(options)) => {
            let terminal = io::stdout().is_terminal();
            end(reboot::run(&options, terminal, &mut out))
        }
        Ok(Action::Board) => {
            let terminal = io::stdout().is_terminal();
            end(board::run(terminal, &mut out))
        }
        Err(message) => fail(64, &format!("{message}; see cargo demo --help")),
    }
}

fn end(done: Result<bool, DemoError>) -> ExitCode {
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => fail(70, &error.to_string()),
    }
}

fn fail(code: u8, message: &str) -> ExitCode {
    let _ = writeln!(io::stderr(), "demo: {message}");
    ExitCode::from(code)
}

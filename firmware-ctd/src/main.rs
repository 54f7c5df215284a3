//! The `firmware-ctd` program: the command line leads to one function, its result to the exit.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use firmware_ctd::cli::{self, Action, At};
use firmware_ctd::{config, daemon, exit};

#[global_allocator]
static ALLOCATOR: daemon::sys::CountingAllocator = daemon::sys::CountingAllocator;

fn main() -> ExitCode {
    ExitCode::from(match cli::parse(std::env::args_os()) {
        Ok(action) => act(&action),
        Err(error) => {
            // Nobody is left to tell when standard error is gone; the exit code still tells.
            let _ = writeln!(std::io::stderr(), "firmware-ctd: {error}");
            exit::USAGE
        }
    })
}

fn act(action: &Action) -> u8 {
    match action {
        Action::Run { files } => daemon::run(files),
        Action::Validate { files } => config::validate(files),
        Action::Status { at, format } => ask(at, |socket| daemon::status(socket, *format)),
        Action::Flows { at, json, all, filter } => {
            ask(at, |socket| daemon::flows(socket, *json, *all, filter))
        }
        Action::Events { at, json } => ask(at, |socket| daemon::events(socket, *json)),
        Action::CheckpointSave { at, wait_s } => {
            ask(at, |socket| daemon::command::save(socket, *wait_s))
        }
        Action::CheckpointRestore { files, image } => {
            daemon::checkpoint::command::restore(files, image.as_deref())
        }
        Action::CheckpointShow { file, json } => daemon::checkpoint::show::show(file, *json),
        Action::CheckpointVerify { file } => daemon::checkpoint::show::verify(file),
        Action::Selftest { json } => daemon::selftest(*json),
        Action::Version => daemon::print(cli::VERSION),
        Action::Help(topic) => daemon::print(topic.help()),
    }
}

/// Asks the daemon that is meant; the exit code.
fn ask(at: &At, question: impl FnOnce(&Path) -> u8) -> u8 {
    match at {
        At::Socket(socket) => question(socket),
        At::Configured(files) => match config::load_or_tell(files) {
            Ok(config) => question(&config.control.socket),
            Err(code) => code,
        },
    }
}

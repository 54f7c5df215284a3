//! The serial console: a person types the daemon's commands and reads what it answers.
//!
//! What OpenWrt's shell would do with `firmware-ctd status`, this does with `status`, or with the
//! whole line. The terminal's own echo and line editing are used. Limits: no quoting.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Write};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use board_guest::error::{Context, LabError};

use crate::Router;
use crate::service::PROGRAM;

const CONSOLE: &str = "/dev/console";
const PROMPT: &str = "router# ";
/// How long a command may take.
const LIMIT: Duration = Duration::from_secs(60);

/// Shows text on the console.
pub(crate) fn print(text: &str) {
    // A console that is gone shows nothing.
    if let Ok(mut console) = OpenOptions::new().write(true).open(CONSOLE) {
        let _ = console.write_all(text.as_bytes());
    }
}

/// Serves it on a thread of its own.
pub(crate) fn serve(router: &Arc<Router>) -> Result<(), LabError> {
    let console = OpenOptions::new().read(true).open(CONSOLE).context("opening the console")?;
    let router = Arc::clone(router);
    std::thread::spawn(move || {
        print(
            "\nType `status`, `flows` or another command of firmware-ctd; `help` has them all.\n",
        );
        print(PROMPT);
        for line in BufReader::new(console).lines().map_while(Result::ok) {
            answer(&router, &line);
            print(PROMPT);
        }
    });
    Ok(())
}

fn answer(router: &Router, line: &str) {
    let mut words: Vec<&str> = line.split_whitespace().collect();
    if words.first() == Some(&"firmware-ctd") {
        words.remove(0);
    }
    match words.first() {
        None => return,
        Some(&"reboot") => return crate::shutdown::now(router, false),
        Some(&"help") => words = vec!["--help"],
        Some(_) => {}
    }
    match router.reaper.output(Command::new(PROGRAM).args(&words), LIMIT) {
        Ok((text, Some(_))) => print(&text),
        Ok((text, None)) => print(&format!("{text}it took too long, and was ended\n")),
        Err(error) => print(&format!("{PROGRAM}: {error}\n")),
    }
}

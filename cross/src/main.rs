//! `cargo cross`: what is shipped, and for which compilers and boards.
//!
//! Decides how the shipped binary is built and measured (`size`), which compiler must still build
//! it (`msrv`), and how it is packed for OpenWrt (`package`, `key`). It does not test what the binary does; `cargo board-tests` does, and calls
//! this. Each command is one module with one `run`; what they share (cargo, paths, files in TOML)
//! is in [`workspace`].
//!
//! Exit codes are those of sysexits: 0; 1 when a limit is not kept; 64 for wrong usage; 69 when
//! something needed is not there; 70 when a step failed.

mod debian;
mod error;
mod key;
mod msrv;
mod package;
mod size;
mod workspace;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use error::CrossError;
use lexopt::{Arg, Parser};
use workspace::Workspace;

const USAGE: &str = "\
Checks what is shipped of firmware-ctd.

Usage: cargo cross COMMAND

  size     build the release binary for this machine and hold its size
           against cross/limits.toml
  msrv     compile the shipped crate with the oldest Rust that it promises
           (rust-version in firmware-ctd/Cargo.toml): rustup's toolchain if it
           is installed, otherwise Debian's packages, unpacked in the target
           directory and not installed
  package TARGET... | all
           make packages for OpenWrt's opkg, and a feed for each target
           (target/cross/feed/TARGET) that a web server can serve
    --key FILE      sign the feeds with this secret key
    --feed DIR      put the feeds there
    --profile NAME  the board's profile in config/boards
    --binary FILE   pack this program, not target/cross/TARGET/firmware-ctd
  key DIR  make a key pair that signs feeds
  help     this text

Exits with 0, with 1 when a limit is not kept, with 64 for a wrong command,
with 69 when something needed is missing, with 70 when a step failed.
";

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Action {
    Size,
    Msrv,
    Package(package::Options),
    Key(PathBuf),
    Help,
}

fn main() -> ExitCode {
    match parse(Parser::from_env()).and_then(act) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell when standard error is gone; the exit code still tells.
            let _ = writeln!(io::stderr(), "cross: {error}");
            ExitCode::from(error.code())
        }
    }
}

fn act(action: Action) -> Result<(), CrossError> {
    let mut out = io::stdout().lock();
    match action {
        Action::Help => Ok(out.write_all(USAGE.as_bytes())?),
        Action::Size => size::run(&Workspace::find()?, &mut out),
        Action::Msrv => msrv::run(&Workspace::find()?, &mut out),
        Action::Package(options) => package::run(&Workspace::find()?, &options, &mut out),
        Action::Key(directory) => key::run(&directory, &mut out),
    }
}

fn parse(mut parser: Parser) -> Result<Action, CrossError> {
    let action = match parser.next().map_err(|error| CrossError::Usage(error.to_string()))? {
        Some(Arg::Long("help") | Arg::Short('h')) | None => Action::Help,
        Some(Arg::Value(name)) => match name.to_str() {
            Some("size") => Action::Size,
            Some("msrv") => Action::Msrv,
            Some("package") => Action::Package(package::Options::parse(&mut parser)?),
            Some("key") => Action::Key(directory(&mut parser)?),
            Some("help") => Action::Help,
            _ => return Err(CrossError::Usage(format!("no such command: {}", name.display()))),
        },
        Some(other) => return Err(CrossError::Usage(other.unexpected().to_string())),
    };
    match parser.next().map_err(|error| CrossError::Usage(error.to_string()))? {
        None => Ok(action),
        Some(other) => Err(CrossError::Usage(other.unexpected().to_string())),
    }
}

fn directory(parser: &mut Parser) -> Result<PathBuf, CrossError> {
    match parser.next().map_err(|error| CrossError::Usage(error.to_string()))? {
        Some(Arg::Value(path)) => Ok(path.into()),
        Some(other) => Err(CrossError::Usage(other.unexpected().to_string())),
        None => Err(CrossError::Usage("key: name a directory for the pair".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::{Action, CrossError, USAGE, parse};
    use lexopt::Parser;

    fn of(arguments: &[&str]) -> Result<Action, CrossError> {
        parse(Parser::from_args(arguments.iter().copied()))
    }

    #[test]
    fn each_command_has_its_name() {
        assert_eq!(of(&["size"]).unwrap(), Action::Size);
        assert_eq!(of(&["msrv"]).unwrap(), Action::Msrv);
        assert_eq!(of(&["key", "d"]).unwrap(), Action::Key("d".into()));
        assert!(matches!(of(&["package", "all"]).unwrap(), Action::Package(_)));
        for help in [&[][..], &["help"], &["--help"], &["-h"]] {
            assert_eq!(of(help).unwrap(), Action::Help);
        }
    }

    #[test]
    fn wrong_usage_is_64_and_named() {
        for (arguments, named) in [
            (&["weigh"][..], "weigh"),
            (&["size", "msrv"], "msrv"),
            (&["--fast"], "--fast"),
            (&["key"], "directory"),
            (&["key", "d", "e"], "e"),
            (&["package", "pdp11"], "pdp11"),
        ] {
            let error = of(arguments).unwrap_err();
            assert_eq!(error.code(), 64);
            assert!(error.to_string().contains(named), "{error}");
        }
    }

    #[test]
    fn help_fits_into_eighty_columns() {
        assert!(USAGE.lines().all(|line| line.len() <= 80));
    }
}

//! `cargo cross`: what is shipped, and for which compilers and boards.
//!
//! Decides how the shipped binary is built for boards (`build`) and measured (`size`), which compiler
//! must still build it (`msrv`), and how it is packed for OpenWrt (`package`, `key`). It does not
//! test what the binary does; `cargo board-tests` does, and calls this. Each command is one module with one `run`; what they share (cargo, paths, files in TOML)
//! is in [`workspace`].
//!
//! Exit codes are those of sysexits: 0; 1 when a limit is not kept; 64 for wrong usage; 69 when
//! something needed is not there; 70 when a step failed.

mod arch;
mod bloat;
mod build;
mod debian;
mod elf;
mod emulate;
mod error;
mod key;
mod link;
mod msrv;
mod package;
mod size;
mod strip;
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

  build TARGET... | all
           build static programs for boards (target/cross/TARGET/PACKAGE)
    --package NAME  another package of the workspace than firmware-ctd
    --profile feed  as OpenWrt's feed builds it: dynamic, its own profile
    --install       install what is missing: zig from PyPI and, as root on
                    Debian, a Rust with its library's source
  size [TARGET... | all] [--install]
           build the release binary for this machine, or for boards, and hold
           its sizes against cross/limits.toml
  bloat [TARGET...] [--install]
           what its bytes are: sections, crates, the largest functions
  smoke TARGET... | all [--install]
           build, and run the programs under QEMU: version, configurations, a
           checkpoint; what they print must be what this machine's prints
  test TARGET... | all [--install]
           the daemon's unit tests, compiled for boards, under QEMU
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
    Build(build::Options),
    Size(build::Options),
    Bloat(build::Options),
    Smoke(build::Options),
    Test(build::Options),
    Msrv,
    Package(package::Options),
    Key(PathBuf),
    Help,
}

fn main() -> ExitCode {
    if let Some(arch) = link::wanted() {
        return link::link(arch).unwrap_or_else(|error| failed(&error));
    }
    match parse(Parser::from_env()).and_then(act) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn failed(error: &CrossError) -> ExitCode {
    // Nobody is left to tell when standard error is gone; the exit code still tells.
    let _ = writeln!(io::stderr(), "cross: {error}");
    ExitCode::from(error.code())
}

fn act(action: Action) -> Result<(), CrossError> {
    let mut out = io::stdout().lock();
    match action {
        Action::Help => Ok(out.write_all(USAGE.as_bytes())?),
        Action::Build(options) => build::run(&Workspace::find()?, &options, &mut out),
        Action::Size(options) => size::run(&Workspace::find()?, &options, &mut out),
        Action::Bloat(options) => bloat::run(&Workspace::find()?, &options, &mut out),
        Action::Smoke(options) => emulate::smoke(&Workspace::find()?, &options, &mut out),
        Action::Test(options) => emulate::test(&Workspace::find()?, &options, &mut out),
        Action::Msrv => msrv::run(&Workspace::find()?, &mut out),
        Action::Package(options) => package::run(&Workspace::find()?, &options, &mut out),
        Action::Key(directory) => key::run(&directory, &mut out),
    }
}

fn parse(mut parser: Parser) -> Result<Action, CrossError> {
    let action = match parser.next().map_err(|error| CrossError::Usage(error.to_string()))? {
        Some(Arg::Long("help") | Arg::Short('h')) | None => Action::Help,
        Some(Arg::Value(name)) => match name.to_str() {
            Some("build") => Action::Build(build::Options::parse(&mut parser)?.named()?),
            Some("size") => Action::Size(build::Options::parse(&mut parser)?.shipped()?),
            Some("bloat") => Action::Bloat(build::Options::parse(&mut parser)?.or_smallest()),
            Some("smoke") => Action::Smoke(build::Options::parse(&mut parser)?.shipped()?.named()?),
            Some("test") => Action::Test(build::Options::parse(&mut parser)?.shipped()?.named()?),
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
    use super::{Action, CrossError, USAGE, build, parse};
    use lexopt::Parser;

    fn of(arguments: &[&str]) -> Result<Action, CrossError> {
        parse(Parser::from_args(arguments.iter().copied()))
    }

    #[test]
    fn each_command_has_its_name() {
        assert_eq!(of(&["size"]).unwrap(), Action::Size(build::Options::default()));
        assert!(matches!(of(&["build", "all"]).unwrap(), Action::Build(_)));
        assert!(matches!(of(&["bloat"]).unwrap(), Action::Bloat(_)));
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

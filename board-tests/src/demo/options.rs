//! The demo's command line.

use std::path::PathBuf;

use lexopt::prelude::*;

/// What `--help` says.
pub const USAGE: &str = "\
Watch firmware-ctd account real flows through a real NAT router, and check it;
or watch a download go on although the router in its way reboots: a network
namespace, or an emulated MIPS board with a kernel and a flash of its own.

Usage: cargo demo [OPTION]...
       cargo demo reboot [--daemon PATH]
       cargo demo board

  --flows N      flows to make: 60 % TCP, 35 % UDP, 5 % ICMP        [2000]
  --seconds N    over how many seconds to begin them, at most 20     [8]
  --seed N       what all sizes and addresses follow from            [1]
  --daemon PATH  use this binary instead of building one
  --help         show this

Needs no root (a user namespace is made) and changes nothing on this machine.
board needs QEMU and cross compilers; cargo board-tests --only packages installs
them on Debian. Its first run builds a kernel, which takes minutes.
Exits with 0 if every flow is accounted as the hosts made it, with 1 if not,
with 64 for a wrong option, with 70 if the demo could not be carried out.
";

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Run the demo.
    Run(Options),
    /// Run the one with the reboot.
    Reboot(Options),
    /// Run the one with the emulated board.
    Board,
    /// Print [`USAGE`].
    Help,
}

/// How to run the demo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Flows to make, 1 to 100,000.
    pub flows: u32,
    /// Seconds over which they begin, 1 to 20.
    pub seconds: u32,
    /// Seed of the plan.
    pub seed: u64,
    /// A daemon that is built already.
    pub daemon: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self { flows: 2000, seconds: 8, seed: 1, daemon: None }
    }
}

impl Action {
    /// Reads the arguments after the program's name.
    ///
    /// # Errors
    /// What is wrong with them, in one line.
    pub fn parse<I>(arguments: I) -> Result<Self, String>
    where
        I: IntoIterator,
        I::Item: Into<std::ffi::OsString>,
    {
        let mut options = Options::default();
        let mut which = None;
        let mut parser = lexopt::Parser::from_args(arguments);
        while let Some(argument) = parser.next().map_err(|error| error.to_string())? {
            match argument {
                Long("flows") => options.flows = number(&mut parser, "--flows", 1..=100_000)?,
                Long("seconds") => options.seconds = number(&mut parser, "--seconds", 1..=20)?,
                Long("seed") => options.seed = number(&mut parser, "--seed", 0..=u64::MAX)?,
                Long("daemon") => {
                    let value = parser.value().map_err(|error| error.to_string())?;
                    options.daemon = Some(value.into());
                }
                Long("help") | Short('h') => return Ok(Self::Help),
                Value(word) if word == "reboot" => {
                    which = Some(Self::Reboot as fn(Options) -> Self);
                }
                Value(word) if word == "board" => which = Some(|_| Self::Board),
                other => return Err(other.unexpected().to_string()),
            }
        }
        let other = Options { daemon: options.daemon.clone(), ..Options::default() };
        let Some(which) = which else { return Ok(Self::Run(options)) };
        let action = which(options.clone());
        match action {
            Self::Board if options != Options::default() => {
                Err("with board, nothing can be chosen".to_owned())
            }
            _ if options != other => Err("with reboot, only --daemon can be chosen".to_owned()),
            _ => Ok(action),
        }
    }
}

fn number<T>(
    parser: &mut lexopt::Parser,
    name: &str,
    range: std::ops::RangeInclusive<T>,
) -> Result<T, String>
where
    T: std::str::FromStr + PartialOrd + std::fmt::Display,
{
    let value = parser.value().map_err(|error| error.to_string())?;
    let number = value.to_str().and_then(|text| text.parse().ok());
    number.filter(|n| range.contains(n)).ok_or_else(|| {
        let (low, high) = (range.start(), range.end());
        format!("{name} takes a number from {low} to {high}, not {}", value.to_string_lossy())
    })
}

#[cfg(test)]
mod tests {
    use super::{Action, Options, USAGE};

    fn parse(arguments: &[&str]) -> Result<Action, String> {
        Action::parse(arguments.iter().copied())
    }

    #[test]
    fn defaults_and_values() {
        assert_eq!(parse(&[]), Ok(Action::Run(Options::default())));
        let wanted = Options { flows: 5, seconds: 20, seed: 9, daemon: Some("/x".into()) };
        let arguments = ["--flows", "5", "--seconds=20", "--seed", "9", "--daemon", "/x"];
        assert_eq!(parse(&arguments), Ok(Action::Run(wanted)));
        assert_eq!(parse(&["--help"]), Ok(Action::Help));
        let daemon = Options { daemon: Some("/x".into()), ..Options::default() };
        assert_eq!(parse(&["reboot", "--daemon", "/x"]), Ok(Action::Reboot(daemon)));
        assert!(parse(&["reboot", "--flows", "5"]).is_err());
        assert_eq!(parse(&["board"]), Ok(Action::Board));
        assert!(parse(&["board", "--daemon", "/x"]).is_err());
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (arguments, named) in [
            (["--flows", "0"], "1 to 100000"),
            (["--flows", "many"], "many"),
            (["--seconds", "21"], "1 to 20"),
            (["--seed", "-1"], "-1"),
            (["--speed", "1"], "--speed"),
        ] {
            let error = parse(&arguments).unwrap_err();
            assert!(error.contains(named), "{error}");
        }
    }

    #[test]
    fn usage_tells_the_defaults_in_eighty_columns() {
        let Options { flows, seconds, seed, .. } = Options::default();
        for (option, default) in
            [("--flows", flows.into()), ("--seconds", u64::from(seconds)), ("--seed", seed)]
        {
            let line = USAGE.lines().find(|line| line.contains(option)).unwrap();
            assert!(line.ends_with(&format!("[{default}]")), "{line}");
        }
        assert!(USAGE.lines().all(|line| line.len() <= 80));
    }
}

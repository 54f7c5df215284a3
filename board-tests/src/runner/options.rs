//! The command line of `cargo board-tests`.

use std::ffi::OsString;

use lexopt::prelude::*;

use super::steps::{STEPS, Step};

/// What `--help` says.
pub(super) const USAGE: &str = "\
Runs every test of firmware-ctd.

Usage: cargo board-tests [OPTION]...

  --only STEP  this step only; may be given again
  --fast       without the steps that take longest (fuzzing, the oldest Rust)
  --all-boards every emulated board, not only big-endian MIPS and aarch64
  --seed N     what property tests draw their cases from, so that a run can be
               repeated; another number tries other cases            [1]
  --list       the steps
  --help       this text

As root on Debian it installs the packages that it needs; otherwise it lists
what is missing. Real traffic stays in network namespaces that it makes.
Exits with 0 when everything passed, with 1 when something failed, with 64
for a wrong option.
";

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Run(Options),
    List,
    Help,
}

/// What to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Options {
    /// Names of steps; all when empty.
    pub(super) only: Vec<&'static str>,
    /// Leave the slow steps out.
    pub(super) fast: bool,
    /// Every emulated board.
    pub(super) all_boards: bool,
    /// Seed of the property tests.
    pub(super) seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { only: Vec::new(), fast: false, all_boards: false, seed: 1 }
    }
}

impl Options {
    /// Whether the step is to be run.
    pub(super) fn takes(&self, step: &Step) -> bool {
        (self.only.is_empty() || self.only.contains(&step.name)) && !(self.fast && step.slow)
    }
}

impl Action {
    /// Reads the arguments after the program's name.
    ///
    /// # Errors
    /// What is wrong with them, in one line.
    pub(super) fn parse<I>(arguments: I) -> Result<Self, String>
    where
        I: IntoIterator,
        I::Item: Into<OsString>,
    {
        let mut options = Options::default();
        let mut parser = lexopt::Parser::from_args(arguments);
        while let Some(argument) = parser.next().map_err(|error| error.to_string())? {
            match argument {
                Long("only") => {
                    let value = parser.value().map_err(|error| error.to_string())?;
                    options.only.push(step(&value.to_string_lossy())?);
                }
                Long("fast") => options.fast = true,
                Long("all-boards") => options.all_boards = true,
                Long("seed") => options.seed = seed(&mut parser)?,
                Long("list") => return Ok(Self::List),
                Long("help") | Short('h') => return Ok(Self::Help),
                other => return Err(other.unexpected().to_string()),
            }
        }
        let slow = STEPS.iter().find(|it| it.slow && options.only.contains(&it.name));
        match slow {
            Some(step) if options.fast => Err(format!("--fast leaves {} out", step.name)),
            _ => Ok(Self::Run(options)),
        }
    }
}

fn seed(parser: &mut lexopt::Parser) -> Result<u64, String> {
    let value = parser.value().map_err(|error| error.to_string())?;
    let number = value.to_str().and_then(|text| text.parse().ok());
    number.ok_or_else(|| format!("--seed takes a number, not {}", value.to_string_lossy()))
}

fn step(name: &str) -> Result<&'static str, String> {
    let known = || STEPS.iter().map(|step| step.name);
    known().find(|it| *it == name).ok_or_else(|| {
        format!("no such step: {name}; there are {}", known().collect::<Vec<_>>().join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::{Action, Options, STEPS, USAGE};

    fn parse(arguments: &[&str]) -> Result<Action, String> {
        Action::parse(arguments.iter().copied())
    }

    fn taken(options: &Options) -> Vec<&'static str> {
        STEPS.iter().filter(|step| options.takes(step)).map(|step| step.name).collect()
    }

    #[test]
    fn everything_is_run_unless_told_otherwise() {
        let Ok(Action::Run(options)) = parse(&[]) else { panic!("not run") };
        assert_eq!(taken(&options).len(), STEPS.len());
        let Ok(Action::Run(options)) = parse(&["--only", "fuzz", "--only=format"]) else {
            panic!("not run")
        };
        assert_eq!(taken(&options), ["format", "fuzz"]);
    }

    #[test]
    fn the_seed_is_the_same_unless_told_otherwise() {
        let seed = |arguments: &[&str]| match parse(arguments) {
            Ok(Action::Run(options)) => options.seed,
            other => panic!("{other:?}"),
        };
        assert_eq!((seed(&[]), seed(&["--seed", "7"])), (1, 7));
    }

    #[test]
    fn fast_leaves_out_fuzzing_and_the_oldest_rust_only() {
        let Ok(Action::Run(options)) = parse(&["--fast"]) else { panic!("not run") };
        let all = taken(&Options::default());
        let left: Vec<_> = all.into_iter().filter(|it| !taken(&options).contains(it)).collect();
        assert_eq!(left, ["fuzz", "msrv"]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let wrong: [(&[&str], &str); 5] = [
            (&["--only", "flying"], "flying"),
            (&["--only"], "--only"),
            (&["--quick"], "--quick"),
            (&["--seed", "x"], "x"),
            (&["--fast", "--only", "msrv"], "msrv"),
        ];
        for (arguments, named) in wrong {
            let error = parse(arguments).unwrap_err();
            assert!(error.contains(named), "{error}");
        }
    }

    #[test]
    fn help_fits_into_eighty_columns() {
        assert_eq!(parse(&["--help"]), Ok(Action::Help));
        assert!(USAGE.lines().all(|line| line.len() <= 80));
    }
}

//! `cargo board-tests`: every test of the project, in one run.
//!
//! Runs the steps one after the other, each a few commands with a time limit; shows the whole
//! output of a step that failed; counts tests over all steps. A step that runs no test counts as
//! one. Everything is built below the target directory that this program is in, where each step
//! also leaves its output (`board-tests/STEP.log`).
//!
//! Decides nothing about what is tested: the steps' commands do. Only children that it started are
//! ended, by their process ids. Installs packages as root on Debian and nowhere else.

mod job;
mod licences;
mod options;
mod packages;
mod progress;
mod spdx;
mod steps;
mod tally;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use job::{Job, Outcome};
use options::{Action, Options, USAGE};
use progress::Progress;
use steps::{STEPS, Step};
use tally::Tally;

use crate::board::MODELS;
use crate::board::kernel::Kernel;
use crate::measure;

/// What a step did not achieve, for people.
type Failure = String;

/// Where things are.
#[derive(Debug)]
pub(crate) struct Places {
    /// The workspace.
    root: PathBuf,
    /// Everything that is built.
    target: PathBuf,
    /// Output of the steps.
    logs: PathBuf,
    /// What property tests draw their cases from.
    seed: u64,
    /// Every emulated board, not only those of the default tier.
    all_boards: bool,
}

impl Places {
    fn find(options: &Options) -> io::Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize()?;
        let program = std::env::current_exe()?;
        let target = program.parent().and_then(Path::parent).unwrap_or(Path::new("target"));
        let logs = target.join("board-tests");
        std::fs::create_dir_all(&logs)?;
        let (seed, all_boards) = (options.seed, options.all_boards);
        Ok(Self { root, target: target.to_owned(), logs, seed, all_boards })
    }
}

/// The whole program: reads the command line, runs the steps, prints a summary.
///
/// Exit codes: 0 when everything passed, 1 when something failed, 64 for wrong usage, 74 when its
/// own files cannot be written.
#[must_use]
pub fn main() -> ExitCode {
    let done = match Action::parse(std::env::args_os().skip(1)) {
        Ok(Action::Help) => io::stdout().write_all(USAGE.as_bytes()).map(|()| true),
        Ok(Action::List) => list(),
        Ok(Action::Run(options)) => run(&options),
        Err(message) => {
            // Nobody is left to tell when standard error is gone; the exit code still tells.
            let _ = writeln!(io::stderr(), "board-tests: {message}; see --help");
            return ExitCode::from(64);
        }
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(io::stderr(), "board-tests: {error}");
            ExitCode::from(74)
        }
    }
}

fn list() -> io::Result<bool> {
    let mut out = io::stdout().lock();
    for step in STEPS {
        let slow = if step.slow { " (not with --fast)" } else { "" };
        writeln!(out, "{:<10}{}{slow}", step.name, step.about)?;
    }
    Ok(true)
}

fn run(options: &Options) -> io::Result<bool> {
    let places = Places::find(options)?;
    let chosen: Vec<&Step> = STEPS.iter().filter(|step| options.takes(step)).collect();
    let begin = measure::now();
    let mut progress = Progress::new(chosen.len());
    let mut outcomes = Vec::new();
    for step in &chosen {
        progress.begin(step)?;
        let mut job = Job::new(&places, step, &chosen, &mut progress)?;
        let result = (step.work)(&mut job);
        let outcome = job.end(result)?;
        progress.end(&outcome)?;
        let stop = outcome.failure.is_some() && step.needed;
        outcomes.push(outcome);
        if step.name == "packages" && !stop && chosen.iter().any(|it| it.name == "boards") {
            kernels_beside(options.all_boards);
        }
        if stop {
            break;
        }
    }
    summary(options, &chosen, &outcomes, begin.elapsed())
}

/// Builds or fetches the boards' kernels while other steps run; they give way to those.
///
/// The step that needs them waits for them, and tells what went wrong.
fn kernels_beside(all: bool) {
    std::thread::spawn(move || {
        for model in MODELS.iter().filter(|model| all || model.default_tier) {
            let _ = Kernel::get(model, &mut |_| {});
        }
    });
}

/// Prints what each step came to, and the sum as the last line; whether all passed.
fn summary(
    options: &Options,
    chosen: &[&Step],
    outcomes: &[Outcome],
    elapsed: std::time::Duration,
) -> io::Result<bool> {
    let mut out = io::stdout().lock();
    writeln!(out)?;
    for outcome in outcomes {
        writeln!(out, "{outcome}")?;
    }
    let mut sum = outcomes.iter().fold(Tally::default(), |sum, it| sum + it.tally);
    let left: Vec<&str> = chosen.iter().skip(outcomes.len()).map(|step| step.name).collect();
    if !left.is_empty() {
        writeln!(out, "not run, since the step before failed: {}", left.join(", "))?;
    }
    if options.fast {
        let slow: Vec<&str> = STEPS.iter().filter(|it| it.slow).map(|it| it.name).collect();
        sum.skipped += slow.len();
        writeln!(out, "left out by --fast: {}", slow.join(", "))?;
    }
    writeln!(out, "{:<10}{:>8}", "all", progress::seconds(elapsed))?;
    writeln!(out, "{sum}")?;
    out.flush()?;
    Ok(sum.failed == 0)
}

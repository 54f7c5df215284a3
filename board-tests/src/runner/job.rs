//! A step while it runs: its commands, their output, its time limit, its counts.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::progress::{self, Progress};
use super::steps::Step;
use super::tally::Tally;
use super::{Failure, Places};
use crate::load::sys;
use crate::measure;

/// A running step.
#[derive(Debug)]
pub(super) struct Job<'a> {
    places: &'a Places,
    step: &'a Step,
    chosen: &'a [&'a Step],
    progress: &'a mut Progress,
    log: File,
    path: PathBuf,
    begin: Instant,
    tally: Tally,
    told: Vec<String>,
}

/// What a step came to.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    pub(super) name: &'static str,
    pub(super) tally: Tally,
    pub(super) elapsed: Duration,
    /// Why it failed.
    pub(super) failure: Option<Failure>,
    /// Lines of its output that are shown when it passed, too.
    pub(super) told: Vec<String>,
    /// All that its commands printed.
    pub(super) log: PathBuf,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let result = if self.failure.is_some() { "FAILED" } else { "ok" };
        let elapsed = progress::seconds(self.elapsed);
        write!(f, "{:<10}{elapsed:>8}  {result:<6}  {}", self.name, self.tally)
    }
}

impl<'a> Job<'a> {
    /// Begins `step`, one of `chosen`.
    pub(super) fn new(
        places: &'a Places,
        step: &'a Step,
        chosen: &'a [&'a Step],
        progress: &'a mut Progress,
    ) -> io::Result<Self> {
        let path = places.logs.join(step.name).with_extension("log");
        File::create(&path)?;
        let log = OpenOptions::new().append(true).open(&path)?;
        let (begin, tally) = (measure::now(), Tally::default());
        let told = Vec::new();
        Ok(Self { places, step, chosen, progress, log, path, begin, tally, told })
    }

    /// Ends it. A step without tests counts as one; so does a failure that is no test's.
    pub(super) fn end(mut self, result: Result<(), Failure>) -> io::Result<Outcome> {
        let failed = self.tally.failed;
        let failure = match result {
            Ok(()) if failed > 0 => Some(format!("{failed} failed")),
            result => result.err(),
        };
        if failure.is_some() && failed == 0 {
            self.tally.failed = 1;
        } else if self.tally.total() == 0 {
            self.tally.passed = 1;
        }
        self.log.flush()?;
        let (name, elapsed) = (self.step.name, self.begin.elapsed());
        let Self { tally, told, path: log, .. } = self;
        Ok(Outcome { name, tally, elapsed, failure, told, log })
    }

    /// The names of the steps of this run.
    pub(super) fn chosen(&self) -> impl Iterator<Item = &'static str> {
        self.chosen.iter().map(|step| step.name)
    }

    /// Whether every emulated board is wanted.
    pub(super) const fn all_boards(&self) -> bool {
        self.places.all_boards
    }

    /// A path in the workspace.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.places.root.join(name)
    }

    /// A path in the target directory.
    pub(super) fn target(&self, name: &str) -> PathBuf {
        self.places.target.join(name)
    }

    /// The release build of the daemon.
    pub(super) fn daemon(&self) -> PathBuf {
        self.target("release/firmware-ctd")
    }

    /// Cargo in the workspace, with the target directory of this program.
    pub(super) fn cargo(&self, arguments: &[&str]) -> Command {
        self.cargo_in(Path::new(""), &self.places.target, arguments)
    }

    /// Cargo in a directory of the workspace, with a target directory of its own.
    pub(super) fn cargo_in(&self, place: &Path, target: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
        command.current_dir(self.places.root.join(place)).args(arguments);
        command.env("CARGO_TARGET_DIR", target).env("CARGO_TERM_COLOR", "never");
        // Property tests panic once for every case that they try to make smaller.
        command.env("RUST_BACKTRACE", "0").env("PROPTEST_RNG_SEED", self.places.seed.to_string());
        command
    }

    /// Writes a line into the step's output.
    pub(super) fn say(&mut self, text: &str) -> Result<(), Failure> {
        writeln!(self.log, "{text}").map_err(|error| self.own_failure(&error))
    }

    /// Shows the lines of the output that contain `word`, whatever the step comes to.
    pub(super) fn tell(&mut self, word: &str) -> Result<(), Failure> {
        let said = std::fs::read_to_string(&self.path).map_err(|error| self.own_failure(&error))?;
        let lines = said.lines().filter(|it| !it.starts_with('$') && it.contains(word));
        self.told.extend(lines.map(str::to_owned));
        Ok(())
    }

    /// Counts one check under its name.
    pub(super) fn check(
        &mut self,
        name: &str,
        result: &Result<(), Failure>,
    ) -> Result<(), Failure> {
        match result {
            Ok(()) => self.tally.passed += 1,
            Err(_) => self.tally.failed += 1,
        }
        let text = result.as_ref().err().map_or("ok", String::as_str);
        self.say(&format!("{name} ... {text}"))
    }

    /// Runs a command to its end and counts the tests that it reports.
    pub(super) fn run(&mut self, command: &mut Command) -> Result<(), Failure> {
        self.run_all(std::slice::from_mut(command))?.into_iter().collect()
    }

    /// Runs commands at the same time, each to its end; what each came to, in their order.
    pub(super) fn run_all(
        &mut self,
        commands: &mut [Command],
    ) -> Result<Vec<Result<(), Failure>>, Failure> {
        let before = std::fs::read(&self.path).map_or(0, |text| text.len());
        let mut children = Vec::new();
        for command in commands {
            let name = shown(command);
            self.say(&format!("$ {name}"))?;
            children.push((name, self.spawn(command)?));
        }
        let results: Vec<_> =
            children.iter_mut().map(|(name, child)| self.wait(name, child)).collect();
        let said = std::fs::read(&self.path).map_err(|error| self.own_failure(&error))?;
        let said = String::from_utf8_lossy(said.get(before..).unwrap_or_default());
        self.tally = self.tally + Tally::read(&said);
        Ok(results)
    }

    fn spawn(&self, command: &mut Command) -> Result<Child, Failure> {
        let log = || self.log.try_clone().map_err(|error| self.own_failure(&error));
        command.stdin(Stdio::null()).stdout(log()?).stderr(log()?);
        sys::prepare(command, None);
        command.spawn().map_err(|error| format!("{}: {error}", shown(command)))
    }

    fn wait(&mut self, name: &str, child: &mut Child) -> Result<(), Failure> {
        loop {
            match child.try_wait().map_err(|error| format!("{name}: {error}"))? {
                Some(status) => return succeeded(name, status),
                None if self.begin.elapsed() > self.step.limit() => {
                    end_tree(child);
                    let limit = progress::seconds(self.step.limit());
                    return Err(format!("{name}: ended after the step's limit of {limit}"));
                }
                None => self.progress.tick(),
            }
            measure::pause(50);
        }
    }

    fn own_failure(&self, error: &io::Error) -> Failure {
        format!("{} ({}): {error}", self.path.display(), self.log.as_raw_fd())
    }
}

fn succeeded(name: &str, status: ExitStatus) -> Result<(), Failure> {
    if status.success() { Ok(()) } else { Err(format!("{name}: {status}")) }
}

/// The command as one would type it.
fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy();
    let arguments = command.get_args().map(|it| it.to_string_lossy());
    std::iter::once(name).chain(arguments).collect::<Vec<_>>().join(" ")
}

/// Ends a child and its descendants: stops them first, so that none starts another unseen.
fn end_tree(child: &mut Child) {
    let Ok(pid) = i32::try_from(child.id()) else { return };
    for signal in [Signal::SIGSTOP, Signal::SIGKILL] {
        for pid in measure::tree(pid) {
            // Fails only when it has ended already, which is what is wanted.
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }
    let _ = child.wait();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runner::steps::STEPS;

    fn places(directory: &Path) -> Places {
        let path = directory.to_owned();
        Places { root: path.clone(), target: path.clone(), logs: path, seed: 1, all_boards: false }
    }

    fn outcome(step: &Step, work: impl FnOnce(&mut Job<'_>) -> Result<(), Failure>) -> Outcome {
        let directory = tempfile::tempdir().unwrap();
        let (places, mut progress) = (places(directory.path()), Progress::new(1));
        let mut job = Job::new(&places, step, &[], &mut progress).unwrap();
        let result = work(&mut job);
        job.end(result).unwrap()
    }

    fn sh(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_step_without_tests_counts_as_one() {
        let done = outcome(&STEPS[0], |job| job.run(&mut sh("echo fine")));
        assert_eq!(done.tally, Tally { passed: 1, ..Tally::default() });
        let done = outcome(&STEPS[0], |job| job.run(&mut sh("echo wrong >&2; exit 3")));
        assert_eq!(done.tally, Tally { failed: 1, ..Tally::default() });
        assert!(done.failure.unwrap().contains("exit status: 3"));
    }

    #[test]
    fn tests_are_counted_once_and_a_crash_after_them_fails() {
        let line = "echo 'test result: ok. 4 passed; 0 failed; 0 ignored; 0 measured'";
        let done = outcome(&STEPS[0], |job| {
            job.run(&mut sh(line))?;
            job.run(&mut sh(&format!("{line}; kill -SEGV $$")))
        });
        assert_eq!(done.tally, Tally { passed: 8, failed: 1, skipped: 0 });
    }

    #[test]
    fn a_failed_check_fails_the_step() {
        let done = outcome(&STEPS[0], |job| {
            job.check("one", &Ok(()))?;
            job.check("two", &Err("no".to_owned()))
        });
        assert_eq!(done.tally, Tally { passed: 1, failed: 1, skipped: 0 });
        assert!(done.failure.is_some());
    }

    #[test]
    fn what_runs_too_long_is_ended_with_its_children() {
        let step = Step { limit_s: 1, ..STEPS[0] };
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pid");
        let script = format!("sleep 100 & echo $! > {}; wait", file.display());
        let done = outcome(&step, |job| job.run(&mut sh(&script)));
        assert!(done.failure.unwrap().contains("limit"));
        let pid: i32 = std::fs::read_to_string(file).unwrap().trim().parse().unwrap();
        let gone = measure::wait_for("the grandchild to end", 10, || {
            let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let ended = state.rsplit_once(')').is_none_or(|it| it.1.trim().starts_with('Z'));
            Ok(ended.then_some(()))
        });
        gone.unwrap();
    }
}

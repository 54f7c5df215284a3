//! What is shown while the steps run.
//!
//! A line when a step begins and one when it ends; between them the elapsed time, every second on
//! a terminal and every half minute elsewhere.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use super::job::Outcome;
use super::steps::Step;
use crate::measure;

/// The display.
#[derive(Debug)]
pub(super) struct Progress {
    steps: usize,
    begun: usize,
    start: Instant,
    name: &'static str,
    shown: Instant,
    terminal: bool,
}

impl Progress {
    /// For that many steps.
    pub(super) fn new(steps: usize) -> Self {
        let now = measure::now();
        let terminal = io::stdout().is_terminal();
        Self { steps, begun: 0, start: now, name: "", shown: now, terminal }
    }

    /// A step begins.
    pub(super) fn begin(&mut self, step: &Step) -> io::Result<()> {
        self.begun += 1;
        self.start = measure::now();
        self.shown = self.start;
        self.name = step.name;
        self.write(&format!("[{:>2}/{}] {}: {}\n", self.begun, self.steps, step.name, step.about))
    }

    /// Some time went by.
    pub(super) fn tick(&mut self) {
        let period = Duration::from_secs(if self.terminal { 1 } else { 30 });
        if self.shown.elapsed() < period {
            return;
        }
        self.shown = measure::now();
        let text = format!("        {} is running, {}", self.name, seconds(self.start.elapsed()));
        // A display that is gone ends the run at the next line that matters.
        let _ = if self.terminal {
            self.write(&format!("\r{text}"))
        } else {
            self.write(&format!("{text}\n"))
        };
    }

    /// A step ended; shows all that it said when it failed.
    pub(super) fn end(&mut self, outcome: &Outcome) -> io::Result<()> {
        let clear = if self.terminal { "\r\x1b[K" } else { "" };
        let told = outcome.told.iter().map(|line| format!("        {line}\n")).collect::<String>();
        self.write(&format!("{clear}{told}        {outcome}\n"))?;
        let Some(failure) = &outcome.failure else { return Ok(()) };
        let mut out = io::stdout().lock();
        writeln!(out, "----- output of {} ({})", outcome.name, outcome.log.display())?;
        out.write_all(&std::fs::read(&outcome.log)?)?;
        writeln!(out, "----- {} failed:\n{failure}", outcome.name)
    }

    fn write(&self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }
}

/// A duration in seconds with one decimal.
pub(super) fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

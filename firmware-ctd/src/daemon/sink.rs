//! Where records of destroyed flows go.
//!
//! A sink is offered a line and takes it whole or refuses it; it never blocks and never tears a
//! line. What it took it owes until it is written. Who drives it decides what becomes of a record
//! that a sink refused.
//!
//! Not here: retries of refused records, and sinks other than files.

mod file;

pub use file::FileSink;

use crate::config::{self, Config};
use crate::record::{Record, json, text::Text};
use crate::time::Instant;

/// A sink that has no room; the line is not in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused;

/// A place that takes records, one line each.
pub trait Sink {
    /// Takes a whole line, its newline included.
    ///
    /// # Errors
    ///
    /// [`Refused`] if there is no room for it now.
    fn offer(&mut self, line: &[u8]) -> Result<(), Refused>;

    /// Writes out what was taken, as far as that goes without waiting.
    fn flush(&mut self, now: Instant);

    /// How it stands.
    fn state(&self) -> SinkState<'_>;
}

/// How a sink stands.
#[derive(Clone, Copy, Debug)]
pub struct SinkState<'s> {
    /// What kind of sink it is, in the configuration's word.
    pub kind: &'static str,
    /// Where it writes to.
    pub target: &'s str,
    /// Records written out.
    pub delivered: u64,
    /// Records taken and not yet written.
    pub owed: u64,
    /// Records refused, or dropped by a sink that is not reliable.
    pub refused: u64,
    /// Attempts to write that failed.
    pub failures: u64,
    /// Number of the last error (`errno`), 0 if it has been overcome.
    pub errno: i32,
}

/// All sinks of the configuration.
#[derive(Debug)]
pub struct Sinks {
    files: Vec<FileSink>,
    scratch: Box<[u8]>,
}

impl Sinks {
    /// Opens every sink. A file that cannot be opened is tried again later.
    #[must_use]
    pub fn open(config: &Config, now: Instant) -> Self {
        let files = config.sinks.iter().map(|config::Sink::File(file)| FileSink::open(file, now));
        Self { files: files.collect(), scratch: vec![0; json::MAX_LINE].into() }
    }

    /// Gives a record to every sink.
    pub fn take(&mut self, record: &Record) {
        let mut line = Text::new(&mut self.scratch);
        json::line(&mut line, record);
        for sink in &mut self.files {
            // The sink counts what it refuses.
            let _ = sink.offer(line.as_bytes());
        }
    }

    /// Records that sinks refused or dropped, each sink for itself.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.states().map(|sink| sink.refused).sum()
    }

    /// Writes out what the sinks took.
    pub fn flush(&mut self, now: Instant) {
        for sink in &mut self.files {
            sink.flush(now);
        }
    }

    /// Takes over what a changed configuration may change while the daemon runs.
    pub fn reconfigure(&mut self, config: &Config) {
        for (sink, config::Sink::File(file)) in self.files.iter_mut().zip(&config.sinks) {
            sink.reconfigure(file);
        }
    }

    /// How the sinks stand.
    pub fn states(&self) -> impl Iterator<Item = SinkState<'_>> {
        self.files.iter().map(Sink::state)
    }
}

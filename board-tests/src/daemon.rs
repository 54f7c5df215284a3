//! The daemon as its tests meet it: the shipped binary in a network namespace with a load
//! generator beside it, asked through its control socket and judged by its file.
//!
//! A [`Scene`] is a namespace, a [`Loader`] in it and a [`Tested`] daemon. [`Scene::rest`] is the
//! one way to wait for "everything has been accounted": the kernel holds no more entries than
//! live, nothing waits in the daemon's sockets, and its status says the same twice. [`Account`]
//! is what its file then holds.
//!
//! It decides nothing about what is right. Limits: one file sink, whose lines are all read into
//! memory; what the daemon says of itself is read from its socket, not through its own commands
//! (tests of the commands run them).

pub mod client;
pub mod mounts;
pub mod netlink;
pub mod requests;
pub mod saved;
pub mod settings;
pub mod sink;
pub mod tool;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::lab::daemon::Daemon;
use crate::lab::{self, Netns};
use crate::load::{Flows, Loader, Tally};
use crate::measure;
use crate::peers::bench;
pub use client::Status;
pub use settings::Settings;
pub use sink::Account;

/// Seconds that anything may take that the daemon is waited for.
pub const PATIENCE_S: u64 = 60;

/// The daemon's binary in the shipped profile, built once.
///
/// # Errors
/// When cargo fails.
pub fn binary() -> io::Result<PathBuf> {
    static BUILT: Mutex<Option<PathBuf>> = Mutex::new(None);
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    if built.is_none() {
        *built = Some(lab::daemon::release_binary().map_err(io::Error::other)?);
    }
    built.clone().ok_or_else(|| io::Error::other("the daemon was not built"))
}

/// A daemon that runs, and its files.
#[derive(Debug)]
pub struct Tested {
    /// The process.
    pub daemon: Daemon,
    directory: Arc<TempDir>,
    settings: Settings,
}

impl Tested {
    /// Starts it in `netns` in a directory of its own and waits until it is ready.
    ///
    /// # Errors
    /// When it does not get ready, with the end of its log.
    pub fn start(netns: &Netns, settings: &Settings) -> io::Result<Self> {
        let directory = tempfile::Builder::new().prefix("ctd-").tempdir()?;
        Self::start_at(netns, settings, Arc::new(directory))
    }

    /// The same in a directory that another one had.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_at(
        netns: &Netns,
        settings: &Settings,
        directory: Arc<TempDir>,
    ) -> io::Result<Self> {
        let text = settings.toml(directory.path());
        let daemon = Daemon::start_in(netns, &binary()?, Arc::clone(&directory), &text);
        let daemon = daemon.map_err(io::Error::other)?;
        Ok(Self { daemon, directory, settings: settings.clone() })
    }

    /// Its directory, to start another one in.
    #[must_use]
    pub fn directory(&self) -> Arc<TempDir> {
        Arc::clone(&self.directory)
    }

    /// Its process id.
    pub fn pid(&mut self) -> i32 {
        self.daemon.process().pid().as_raw()
    }

    /// The process that does the work.
    ///
    /// # Errors
    /// `NotFound` when there is none just now.
    pub fn worker(&mut self) -> io::Result<i32> {
        measure::tree(self.pid()).get(1).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Sends it a signal: stops and continues all its processes, tells all else to the first.
    ///
    /// # Errors
    /// When it has ended.
    pub fn signal(&mut self, signal: Signal) -> io::Result<()> {
        if matches!(signal, Signal::SIGSTOP | Signal::SIGCONT) {
            let worker = nix::unistd::Pid::from_raw(self.worker()?);
            nix::sys::signal::kill(worker, signal)?;
        }
        self.daemon.process().signal(signal).map_err(io::Error::other)
    }

    /// What it says of itself.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn status(&self) -> io::Result<Status> {
        client::status(&self.daemon.socket())
    }

    /// Its whole table, one object for each flow.
    ///
    /// # Errors
    /// When it does not answer, or not with JSON.
    pub fn flows(&self) -> io::Result<Vec<Value>> {
        let answer = client::ask(&self.daemon.socket(), "flows json all")?;
        answer.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }

    /// Asks for its status until `enough` likes it; that status.
    ///
    /// # Errors
    /// `TimedOut` after `seconds`, with `what` and the last status.
    pub fn wait(
        &self,
        what: &str,
        seconds: u64,
        mut enough: impl FnMut(&Status) -> bool,
    ) -> io::Result<Status> {
        let mut last = None;
        let found = measure::wait_for(what, seconds, || {
            let status = self.status()?;
            let found = enough(&status).then(|| status.clone());
            last = Some(status);
            Ok(found)
        });
        found.map_err(|error| {
            let log = self.log();
            io::Error::new(error.kind(), format!("{error}; its log:\n{log}\n{last:?}"))
        })
    }

    /// Where its records go.
    #[must_use]
    pub fn sink(&self) -> PathBuf {
        self.settings.sink(self.daemon.directory())
    }

    /// Its records so far.
    ///
    /// # Errors
    /// When a line is no JSON, or the last one is torn.
    pub fn account(&self) -> io::Result<Account> {
        Account::read(&self.sink())
    }

    /// Its log so far, joined.
    #[must_use]
    pub fn log(&self) -> String {
        self.daemon.log().join("\n")
    }
}

/// A namespace with a load generator and a daemon.
#[derive(Debug)]
pub struct Scene {
    /// The namespace.
    pub netns: Netns,
    /// Makes flows in it.
    pub loader: Loader,
    /// The daemon.
    pub tested: Tested,
}

impl Scene {
    /// A daemon in a namespace whose events, counters and timestamps are on.
    ///
    /// # Errors
    /// Where the machine forbids it; when the daemon does not get ready.
    pub fn new(settings: &Settings) -> io::Result<Self> {
        let (netns, loader) = bench::place()?;
        let tested = Tested::start(&netns, settings)?;
        Ok(Self { netns, loader, tested })
    }

    /// Creates and deletes the first `count` flows, `batch` at a time.
    ///
    /// # Errors
    /// When the kernel refused any.
    pub fn churn(&mut self, flows: &Flows, count: u32, batch: u32) -> io::Result<()> {
        complete(&self.loader.churn(flows, 0..count, batch)?)
    }

    /// Waits until everything is accounted while `live` entries stay; the status then.
    ///
    /// # Errors
    /// `TimedOut` after [`PATIENCE_S`], with what was still waiting.
    pub fn rest(&mut self, live: u32) -> io::Result<Status> {
        let pid = self.tested.pid();
        let mut before = None;
        let mut waits = String::new();
        let found = measure::wait_for("the daemon to come to rest", PATIENCE_S, || {
            let entries = self.loader.entries()?;
            let queued: u64 = measure::netlink_sockets(&[pid]).iter().map(|it| it.waiting).sum();
            let status = self.tested.status()?;
            waits = format!("{entries} entries, {queued} bytes queued, {status:?}");
            let quiet = entries <= live && queued == 0 && status.sink("owed") == 0;
            let events = quiet.then(|| (status.stat("events_destroy"), status.stat("events_new")));
            let same = events.is_some() && before == events;
            before = events;
            Ok(same.then_some(status))
        });
        found.map_err(|error| io::Error::new(error.kind(), format!("{error}: {waits}")))
    }
}

/// Fails if the kernel refused a request.
///
/// # Errors
/// What it refused.
pub fn complete(tally: &Tally) -> io::Result<()> {
    if tally.complete() {
        return Ok(());
    }
    Err(io::Error::other(format!("the kernel refused requests: {:?}", tally.errors())))
}

/// Runs `program` in `netns` to its end; its standard output.
///
/// # Errors
/// When it is not installed or fails, with its standard error.
pub fn output_in(netns: &Netns, program: &str, arguments: &[&str]) -> io::Result<String> {
    tool::output(netns, Path::new(program), arguments)
}

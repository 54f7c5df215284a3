//! Ends of processes: the first process is told of all of them, also of those that are orphans.
//!
//! One thread waits ([`Reaper::run`]); whoever has started a process asks here for its end.

use std::collections::HashMap;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use board_guest::error::{Context, LabError};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Exit(i32),
    Signal(Signal),
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exit(code) => write!(f, "exit {code}"),
            Self::Signal(signal) => write!(f, "{signal}"),
        }
    }
}

/// The ends that nobody has asked for yet.
#[derive(Debug)]
pub(crate) struct Reaper {
    signals: SignalFd,
    ended: Mutex<HashMap<Pid, End>>,
    changed: Condvar,
}

impl Reaper {
    /// Blocks the signal that tells of ends; before any thread is started.
    pub(crate) fn new() -> Result<std::sync::Arc<Self>, LabError> {
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGCHLD);
        mask.thread_block().context("blocking SIGCHLD")?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&mask, flags).context("listening to SIGCHLD")?;
        let (ended, changed) = (Mutex::default(), Condvar::new());
        let reaper = std::sync::Arc::new(Self { signals, ended, changed });
        let own = std::sync::Arc::clone(&reaper);
        std::thread::spawn(move || own.watch());
        Ok(reaper)
    }

    /// Never returns: the first process does not end.
    pub(crate) fn run(&self) -> Result<(), LabError> {
        loop {
            std::thread::park();
        }
    }

    fn watch(&self) {
        loop {
            let mut fds = [PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
            // Looking without need does no harm.
            let _ = poll(&mut fds, PollTimeout::NONE);
            while let Ok(Some(_)) = self.signals.read_signal() {}
            loop {
                let (pid, end) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                    Ok(WaitStatus::Exited(pid, code)) => (pid, End::Exit(code)),
                    Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, End::Signal(signal)),
                    _ => break,
                };
                self.lock().insert(pid, end);
                self.changed.notify_all();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Pid, End>> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The end of `pid`, a child of this process; `None` when it still runs after `limit`.
    pub(crate) fn wait(&self, pid: Pid, limit: Duration) -> Option<End> {
        let running = |ended: &mut HashMap<Pid, End>| !ended.contains_key(&pid);
        let waited = self.changed.wait_timeout_while(self.lock(), limit, running);
        waited.unwrap_or_else(PoisonError::into_inner).0.remove(&pid)
    }

    /// Runs a command to its end, at most `limit`; what it printed, errors too, and how it ended.
    /// It is killed when that takes longer.
    pub(crate) fn output(
        &self,
        command: &mut Command,
        limit: Duration,
    ) -> io::Result<(String, Option<End>)> {
        let (mut from, to) = io::pipe()?;
        command.stdin(Stdio::null()).stdout(to.try_clone()?).stderr(to);
        let child = command.spawn()?;
        // Or the pipe never ends.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let pid = pid_of(&child);
        let reader = std::thread::spawn(move || {
            let mut text = Vec::new();
            from.read_to_end(&mut text).map(|_| text)
        });
        let end = self.wait(pid, limit);
        if end.is_none() {
            // It fails only when it has just ended.
            let _ = nix::sys::signal::kill(pid, Signal::SIGKILL);
        }
        let text = reader.join().unwrap_or_else(|_| Err(io::Error::other("reading failed")))?;
        Ok((String::from_utf8_lossy(&text).into_owned(), end))
    }
}

/// The process id of a child.
pub(crate) fn pid_of(child: &std::process::Child) -> Pid {
    Pid::from_raw(child.id().cast_signed())
}

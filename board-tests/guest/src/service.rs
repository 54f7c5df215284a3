//! The daemon as procd runs it: started at boot, started anew when it ends, ended with SIGTERM.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use board_guest::error::{Context, LabError};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::journal::Journal;
use crate::reaper::{End, Reaper, pid_of};
use crate::talk::Talk;

/// The daemon's program.
pub(crate) const PROGRAM: &str = "/usr/sbin/firmware-ctd";
/// Its configuration as the package brings it, and what a test puts on top of it.
const CONFIGURATIONS: [&str; 2] = ["/etc/firmware-ctd.toml", "/overlay/board.toml"];
/// procd's `respawn`: the pause before a new start.
const RESPAWN: Duration = Duration::from_secs(5);

/// What is to be.
#[derive(Debug, Default)]
struct State {
    wanted: bool,
    pid: Option<Pid>,
    /// How it ended last.
    end: Option<End>,
}

/// The daemon's keeper.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    reaper: Arc<Reaper>,
    talk: Arc<Talk>,
    journal: Arc<Journal>,
    state: Arc<(Mutex<State>, Condvar)>,
}

impl Service {
    pub(crate) fn new(reaper: Arc<Reaper>, talk: Arc<Talk>, journal: Arc<Journal>) -> Self {
        Self { reaper, talk, journal, state: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The daemon's first process, while there is one.
    pub(crate) fn pid(&self) -> Option<Pid> {
        self.lock().pid
    }

    /// Starts it, and starts it anew whenever it ends.
    pub(crate) fn start(&self) -> Result<(), LabError> {
        let mut state = self.lock();
        if std::mem::replace(&mut state.wanted, true) {
            return Ok(());
        }
        state.pid = Some(self.spawn()?);
        drop(state);
        let own = self.clone();
        std::thread::spawn(move || own.keep());
        Ok(())
    }

    fn spawn(&self) -> Result<Pid, LabError> {
        let mut command = Command::new(PROGRAM);
        command.arg("run");
        for file in CONFIGURATIONS.iter().filter(|file| Path::new(file).exists()) {
            command.args(["-c", file]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().context(&format!("starting {PROGRAM}"))?;
        if let Some(errors) = child.stderr.take() {
            let journal = Arc::clone(&self.journal);
            std::thread::spawn(move || {
                for line in BufReader::new(errors).lines().map_while(Result::ok) {
                    journal.tell(&line);
                }
            });
        }
        Ok(pid_of(&child))
    }

    /// Waits for ends, and starts it anew.
    fn keep(&self) {
        while let Some(pid) = self.pid() {
            let Some(end) = self.reaper.wait(pid, Duration::from_secs(3600)) else { continue };
            self.talk.event(&format!("ended {end}"));
            {
                let mut state = self.lock();
                (state.pid, state.end) = (None, Some(end));
            }
            self.state.1.notify_all();
            let again = |state: &mut State| state.wanted;
            let paused = self.state.1.wait_timeout_while(self.lock(), RESPAWN, again);
            let mut state = paused.unwrap_or_else(PoisonError::into_inner).0;
            if !state.wanted {
                return;
            }
            match self.spawn() {
                Ok(pid) => state.pid = Some(pid),
                Err(error) => {
                    self.talk.event(&format!("ended {error}"));
                    state.wanted = false;
                }
            }
        }
    }

    /// Sends SIGTERM and does not start it anew; how it ended, if it did within `limit`.
    pub(crate) fn stop(&self, limit: Duration) -> Option<End> {
        self.lock().wanted = false;
        self.state.1.notify_all();
        let pid = self.pid()?;
        // It fails only when it has ended.
        let _ = kill(pid, Signal::SIGTERM);
        let running = |state: &mut State| state.pid.is_some();
        let waited = self.state.1.wait_timeout_while(self.lock(), limit, running);
        let state = waited.unwrap_or_else(PoisonError::into_inner).0;
        state.end.filter(|_| state.pid.is_none())
    }
}

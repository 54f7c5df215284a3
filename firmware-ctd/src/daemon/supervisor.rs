//! The supervisor: the process that holds the event sockets and the shared memory, and keeps a
//! worker going that does everything else.
//!
//! A worker that crashes or is killed is started anew at once; it handles what its predecessor had
//! received and finds the sockets as they were. The supervisor reads no events. It watches that the
//! worker does: every [`TICK`] it looks at the worker's heartbeat, and every [`ALARM`] while destroys
//! wait and the worker is stopped or silent; a flood fills a table within a [`TICK`]. It measures what the kernel keeps; beyond the dying budget, or after
//! `retry.stall_s`, it opens the **valve**: it switches `NETLINK_BROADCAST_ERROR` off, so that the
//! kernel lets go of what it kept and the router goes on. The worker closes the valve when it lives
//! again, and the ledger has the span and a lower bound of what was lost. A worker that stays
//! stuck for [`STUCK`] longer is killed and started anew.
//!
//! Signals are forwarded. It needs no memory of its own beyond its start, but for a configuration
//! that is read again.

use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::signalfd::SignalFd;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::checkpoint::Loaded;
use super::dying::{self, DUMP_BYTES, count_dying};
use super::netlink::EventSocket;
use super::shared::{Shared, Word, Words};
use super::sys::{self, Batch, Fork};
use super::sysctl::Setting;
use super::{Failure, clock};
use crate::config::Config;
use crate::engine::EventPath;
use crate::pressure::is_alarming;
use crate::time::{Duration, Instant};

/// Between two looks at the worker.
const TICK: u16 = 100;
/// The same, while the worker leaves destroys waiting.
const ALARM: u16 = 10;
/// A worker that did nothing for so long although destroys wait is worth a closer look.
const SILENT: Duration = Duration::from_millis(100);
/// How long after the valve was opened a worker that still does nothing is killed.
const STUCK: Duration = Duration::from_secs(60);
/// How long a worker may take to end when told so.
const ENDING: Duration = Duration::from_secs(20);
/// Workers that die in a row, each before it has lived for [`LIVED`], until the next one waits.
const DEATHS: u32 = 10;
const LIVED: Duration = Duration::from_secs(5);
const CRASH_LOOP_PAUSE: Duration = Duration::from_secs(1);
/// Between two measurements of the kernel's backlog.
const MEASURE: Duration = Duration::from_millis(500);
/// Between two looks, so much is more than this machine is busy.
const OVERSLEPT: Duration = Duration::from_millis(1_000);
/// What it is told by signals; blocked in workers too.
const SIGNALS: [Signal; 4] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGCHLD];

/// The event sockets: they outlive every worker.
#[derive(Debug)]
pub(super) struct Sockets {
    /// NEW and UPDATE.
    pub(super) state: EventSocket,
    /// DESTROY.
    pub(super) destroy: EventSocket,
}

/// What a worker begins with.
#[derive(Debug)]
pub(super) struct Birth {
    pub(super) config: Config,
    pub(super) sockets: Sockets,
    pub(super) shared: Shared,
    /// The kernel's: a part of every flow's key.
    pub(super) boot_id: [u8; 16],
    /// The image that the daemon goes on with.
    pub(super) loaded: Option<Loaded>,
    /// What the self-test found, if it could be made.
    pub(super) tested: Option<EventPath>,
    /// There was a worker before it, of this daemon or an earlier one.
    pub(super) successor: bool,
    /// Nobody listened between the two.
    pub(super) unheard: bool,
}

/// What becomes of a process.
#[derive(Debug)]
pub(super) enum Fate {
    /// It is a worker.
    Worker(Box<Birth>),
    /// It is the supervisor, and has ended with this exit code.
    Ended(u8),
}

/// The supervisor. See the module's own documentation.
#[derive(Debug)]
pub(super) struct Supervisor {
    files: Vec<PathBuf>,
    birth: Birth,
    signals: SignalFd,
    batch: Batch,
    worker: Option<Pid>,
    /// Somebody stopped the worker by a signal.
    stopped: bool,
    /// Until the next look.
    pause: u16,
    born: Instant,
    /// Workers that died young, in a row.
    deaths: u32,
    not_before: Instant,
    measured_at: Instant,
    /// Since when it has looked at the worker every [`TICK`], and when it last did: a supervisor
    /// that was itself stopped must not blame the worker.
    watching: Instant,
    looked_at: Instant,
    /// It was told to end then.
    ending: Option<Instant>,
    was_ready: bool,
}

impl Supervisor {
    /// A supervisor of open sockets and memory.
    pub(super) fn new(files: &[PathBuf], birth: Birth) -> io::Result<Self> {
        let now = clock::now().boot;
        Ok(Self {
            files: files.to_vec(),
            birth,
            signals: super::signals(&SIGNALS)?,
            batch: Batch::new(1, DUMP_BYTES)?,
            worker: None,
            stopped: false,
            pause: TICK,
            born: now,
            deaths: 0,
            not_before: now,
            measured_at: now,
            watching: now,
            looked_at: now,
            ending: None,
            was_ready: false,
        })
    }

    /// Starts workers and watches them, until told to end. Returns in the workers too.
    pub(super) fn run(mut self) -> Result<Fate, Failure> {
        loop {
            let now = clock::now().boot;
            if self.worker.is_none() && now >= self.not_before {
                // Whoever was ready before, also in a daemon before this one, says nothing of it.
                self.words().set(Word::Ready, 0);
                match sys::fork().map_err(|error| Failure::of_io("fork", &error))? {
                    Fork::Child => return Ok(Fate::Worker(Box::new(self.birth))),
                    Fork::Parent(worker) => self.born(worker, now),
                }
            }
            self.wait();
            if let Some(code) = self.look() {
                return Ok(Fate::Ended(code));
            }
        }
    }

    fn words(&self) -> Words {
        self.birth.shared.words()
    }

    fn born(&mut self, worker: Pid, now: Instant) {
        self.worker = Some(worker);
        self.stopped = false;
        self.born = now;
        self.birth.successor = true;
        self.birth.unheard = false;
        self.words().beat(now);
    }

    fn wait(&self) {
        let mut waited = [PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        // Time and signals are looked at in any case.
        let _ = poll(&mut waited, PollTimeout::from(self.pause));
    }

    /// Looks at signals, the worker's end, and its work: the exit code if all is over.
    fn look(&mut self) -> Option<u8> {
        let now = clock::now().boot;
        super::log::set_now(now.as_secs_u32());
        while let Ok(Some(info)) = self.signals.read_signal() {
            let signal = i32::try_from(info.ssi_signo).ok().and_then(|n| Signal::try_from(n).ok());
            self.forward(signal, now);
        }
        if let Some(code) = self.bury(now) {
            return Some(code);
        }
        match (self.worker, self.ending) {
            (Some(worker), Some(since)) if now.since(since) > ENDING => {
                log::error!("the worker does not end; killing it");
                send(worker, Signal::SIGKILL);
            }
            (Some(worker), _) => self.watch(worker, now),
            (None, Some(_)) => return Some(crate::exit::OK),
            (None, None) => {}
        }
        None
    }

    fn forward(&mut self, signal: Option<Signal>, now: Instant) {
        match signal {
            Some(Signal::SIGTERM | Signal::SIGINT) => {
                self.ending.get_or_insert(now);
                self.send_to_worker(Signal::SIGTERM);
            }
            Some(Signal::SIGHUP) => {
                // The next worker begins with it; the worker of now tells what is wrong.
                if let Ok(new) = crate::config::load(&self.files) {
                    self.birth.config.take_live(&new);
                }
                self.send_to_worker(Signal::SIGHUP);
            }
            _ => {}
        }
    }

    fn send_to_worker(&self, signal: Signal) {
        if let Some(worker) = self.worker {
            send(worker, signal);
        }
    }

    /// Notes that the worker has ended: the exit code if that is the end of all.
    fn bury(&mut self, now: Instant) -> Option<u8> {
        let worker = self.worker?;
        let changes = WaitPidFlag::WNOHANG | WaitPidFlag::WUNTRACED | WaitPidFlag::WCONTINUED;
        let (told, by_kill) = match waitpid(worker, Some(changes)) {
            Ok(WaitStatus::Exited(_, code)) => (u8::try_from(code).ok(), false),
            Ok(WaitStatus::Signaled(_, signal, _)) => (None, signal == Signal::SIGKILL),
            Ok(WaitStatus::Stopped(..)) => {
                self.stopped = true;
                return None;
            }
            Ok(WaitStatus::Continued(_)) => {
                self.stopped = false;
                return None;
            }
            _ => return None,
        };
        self.worker = None;
        self.was_ready |= self.words().get(Word::Ready) != 0;
        match told {
            Some(code) if code == crate::exit::OK || !self.was_ready => return Some(code),
            _ if self.ending.is_some() => return Some(crate::exit::OK),
            _ => {}
        }
        self.words().add(Word::Restarts, 1);
        self.count_death(now, by_kill);
        None
    }

    /// A worker that somebody kills is started anew at once, one that crashes again and again after
    /// a pause.
    fn count_death(&mut self, now: Instant, by_kill: bool) {
        static LIMIT: super::log::RateLimit = super::log::RateLimit::new(5, 60);
        let young = now.since(self.born) < LIVED;
        self.deaths = if young && !by_kill { self.deaths + 1 } else { 0 };
        let level = log::Level::Error;
        let how = if by_kill { "was killed" } else { "has crashed" };
        crate::limited!(LIMIT, level, "the worker {how}; starting it anew");
        if self.deaths >= DEATHS {
            self.not_before = now + CRASH_LOOP_PAUSE;
            self.open_valve(now, 0, "the worker crashes again and again");
        }
    }

    /// Opens the valve if destroys wait, nobody reads them, and that goes on for too long or the
    /// kernel keeps too many.
    fn watch(&mut self, worker: Pid, now: Instant) {
        if now.since(self.looked_at) > OVERSLEPT {
            self.watching = now;
        }
        self.looked_at = now;
        let silence = self.words().silence(now).min(now.since(self.watching));
        let waiting = self.birth.sockets.destroy.memory().is_ok_and(|m| m.receive_queued > 0);
        let unread = waiting && (self.stopped || silence >= SILENT);
        let is_open = self.words().get(Word::ValveOpen) != 0;
        self.pause = if unread && !is_open { ALARM } else { TICK };
        if !unread {
            return;
        }
        if is_open {
            if silence > STUCK + self.stall() {
                log::error!("the worker is stuck for good; killing it");
                send(worker, Signal::SIGKILL);
            }
            return;
        }
        let backlog = self.backlog_beyond_budget(now);
        if let Some(backlog) = backlog {
            self.open_valve(
                now,
                backlog,
                "the worker does not read, and the kernel keeps too much",
            );
        } else if silence > self.stall() {
            self.open_valve(now, 0, "the worker has not read for retry.stall_s");
        }
    }

    fn stall(&self) -> Duration {
        Duration::from_secs(u64::from(self.birth.config.retry.stall_s))
    }

    /// What the kernel keeps, if it is time to ask and it is more than it may.
    fn backlog_beyond_budget(&mut self, now: Instant) -> Option<u32> {
        let max = Setting::Max.read().ok()?;
        let count = Setting::Count.read().ok()?;
        if !is_alarming(count, max) && now.since(self.measured_at) < MEASURE {
            return None;
        }
        self.measured_at = now;
        let budget = dying::policy(&self.birth.config).budget(max);
        let backlog = count_dying(&mut self.batch, budget).ok()?;
        (backlog > budget).then_some(backlog)
    }

    fn open_valve(&self, now: Instant, backlog: u32, why: &str) {
        let words = self.words();
        if words.get(Word::ValveOpen) != 0 || !self.birth.config.events.reliable {
            return;
        }
        for socket in [&self.birth.sockets.destroy, &self.birth.sockets.state] {
            if let Err(error) = socket.set_reliable(false) {
                log::error!("the valve does not open: {error}");
            }
        }
        // From here on each drop is a loss: read before, it would count attempts that were repeated.
        let drops = self.birth.sockets.destroy.memory().map_or(0, |m| m.drops);
        words.set(Word::ValveDrops, drops);
        words.set(Word::ValveFrom, now.as_secs_u32());
        words.set(Word::ValveBacklog, backlog);
        words.add(Word::ValveTimes, 1);
        words.set(Word::ValveOpen, 1);
        log::error!(
            "{why}: the kernel lets go of ended flows, which are lost, until it reads again"
        );
    }
}

fn send(worker: Pid, signal: Signal) {
    // It fails only for a process that has ended, which is noticed anyway.
    let _ = kill(worker, signal);
}

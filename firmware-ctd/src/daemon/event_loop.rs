//! The event loop: one thread around one epoll.
//!
//! A turn is: wait, read events, hand them over in order, let the engine do what is due, read a
//! part of a dump, serve clients, write out. Each step is bounded, so that none starves another.
//!
//! # Order
//!
//! A batch of destroys is read first, then all that waits on the state socket, and the state
//! messages are handed over first: what the kernel sent before a DESTROY is then known before it.
//!
//! When events come fast, it naps between its reads: see `nap`. When sinks are behind, it leaves
//! destroys in the kernel: see `hold`.

mod dump;
mod finish;
mod hold;
mod nap;
mod settings;
mod takeover;
mod watch;

pub use settings::tell_setting;

use std::io;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signalfd::SignalFd;

use super::checkpoint::Checkpoints;
use super::control::{Control, FIRST_CLIENT};
use super::dying::{self, DUMP_BYTES};
use super::log::RateLimit;
use super::netlink::{EventSocket, RequestSocket, SocketMemory};
use super::relay::Relay;
use super::shared::BATCH;
use super::sink::Sinks;
use super::status::{EdgeFacts, Facts};
use super::sys::Batch;
use super::{clock, listeners, log as log_backend};
use crate::config::Config;
use crate::engine::{Engine, EventPath, Output, Source};
use crate::limited;
use crate::losses::{Growth, Losses};
use crate::pressure::{Pressure, State};
use crate::time::{Duration, Instant, Now};
use crate::wire::nlmsg::Messages;

/// Batches of destroys read in one turn.
const ROUNDS: usize = 16;
/// Batches of states read for one batch of destroys.
const STATE_ROUNDS: usize = 16;

mod token {
    pub(super) const INNER: u64 = 0;
    pub(super) const STATE: u64 = 1;
    pub(super) const DESTROY: u64 = 2;
    pub(super) const SIGNAL: u64 = 3;
    pub(super) const LISTENER: u64 = 4;
}

/// Why the loop ended, or what it must be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM or SIGINT.
    End,
    /// SIGHUP.
    Reload,
}

/// All descriptors that the loop lives on.
#[derive(Debug)]
pub struct Edge {
    /// NEW and UPDATE.
    pub state: EventSocket,
    /// DESTROY.
    pub destroy: EventSocket,
    /// Requests and dumps.
    pub requests: RequestSocket,
    /// Local clients.
    pub control: Control,
    /// Signals.
    pub signals: SignalFd,
    /// Sinks.
    pub sinks: Sinks,
    /// Checkpoints, if there are any.
    pub checkpoints: Option<Checkpoints>,
}

/// The loop. See the module's own documentation.
#[derive(Debug)]
pub struct EventLoop<'m> {
    engine: Engine<'m>,
    edge: Edge,
    facts: EdgeFacts,
    /// Everything but the event sockets.
    inner: Epoll,
    /// The inner one and, unless they are looked at without being told, the event sockets.
    outer: Epoll,
    watching: watch::Watching,
    batches: Batches,
    /// The process that reads the dump under way, if one does.
    relay: Option<Relay>,
    /// Such processes are of use.
    relays: bool,
    /// What the self-test found.
    tested: EventPath,
    coalesce: Duration,
    manage_sysctls: bool,
    pressure: Pressure,
    /// How long the last nap was meant to be.
    nap_length: Duration,
    /// How fast events come.
    rate: nap::Rate,
    /// The nap to take now.
    nap: Option<Duration>,
    settings_at: Instant,
    signal: Option<Signal>,
    /// When flows were found to have vanished.
    vanished: Growth,
    /// The loss ledger, as sinks tell of it.
    losses: Losses,
}

#[derive(Debug)]
struct Batches {
    state: Batch,
    destroy: Batch,
    dump: Batch,
}

impl<'m> EventLoop<'m> {
    /// A loop over open descriptors.
    ///
    /// # Errors
    ///
    /// What epoll(7) says.
    pub fn new(
        engine: Engine<'m>,
        edge: Edge,
        facts: EdgeFacts,
        config: &Config,
        (destroy, state): (Batch, Batch),
    ) -> io::Result<Self> {
        let inner = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let outer = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let input = |token| EpollEvent::new(EpollFlags::EPOLLIN, token);
        inner.add(&edge.signals, input(token::SIGNAL))?;
        inner.add(edge.control.listener(), input(token::LISTENER))?;
        outer.add(&inner.0, input(token::INNER))?;
        if let Some(checkpoints) = &edge.checkpoints {
            checkpoints.watch(&inner)?;
        }
        let mut this = Self {
            tested: engine.settings().events,
            vanished: Growth::at(engine.ledger().vanished_unseen),
            losses: Losses::default(),
            engine,
            edge,
            facts,
            inner,
            outer,
            watching: watch::Watching::default(),
            batches: Batches { state, destroy, dump: Batch::new(1, DUMP_BYTES)? },
            relay: None,
            relays: Relay::is_worth_it(),
            coalesce: Duration::ZERO,
            manage_sysctls: false,
            pressure: Pressure::new(dying::policy(config)),
            nap_length: nap::NAP_MIN,
            rate: nap::Rate::default(),
            nap: None,
            settings_at: facts.started + settings::PERIOD,
            signal: None,
        };
        this.reconfigure(config);
        Ok(this)
    }

    /// Takes over what a changed configuration may change while the daemon runs.
    pub fn reconfigure(&mut self, config: &Config) {
        self.coalesce = Duration::from_millis(u64::from(config.events.coalesce_ms));
        self.manage_sysctls = config.kernel.manage_sysctls;
        let mut settings = self.engine.settings();
        settings.events = self.worth(config);
        settings.refresh = Duration::from_secs(u64::from(config.table.refresh_s));
        self.engine.set_settings(settings);
        self.pressure.set_policy(dying::policy(config));
        self.engine.set_dropping(self.pressure.dropping());
        self.edge.sinks.reconfigure(config, self.engine.queue_mut());
        if let Some(checkpoints) = &mut self.edge.checkpoints {
            checkpoints.reconfigure(config, clock::now().boot);
        }
    }

    /// Asks for what the configuration wants of events; what they are worth then.
    fn worth(&self, config: &Config) -> EventPath {
        let reliable = config.events.reliable;
        for socket in [&self.edge.state, &self.edge.destroy] {
            if let Err(error) = socket.set_reliable(reliable) {
                log::warn!("events.reliable = {reliable}: {error}");
            }
        }
        if reliable { self.tested } else { self.tested.min(EventPath::BestEffort) }
    }

    /// What the edge tells of itself in a status.
    pub fn facts_mut(&mut self) -> &mut EdgeFacts {
        &mut self.facts
    }

    /// Turns until a signal comes.
    ///
    /// # Errors
    ///
    /// What epoll(7) or a netlink socket say, if it cannot go on.
    pub fn run(&mut self) -> io::Result<Signal> {
        loop {
            self.turn()?;
            if let Some(signal) = self.signal.take() {
                return Ok(signal);
            }
        }
    }

    fn turn(&mut self) -> io::Result<()> {
        self.wait()?;
        let now = clock::now();
        log_backend::set_now(now.boot.as_secs_u32());
        self.facts.words.beat(now.boot);
        self.close_valve(now.boot);
        self.engine.set_observed(self.edge.control.is_watched());
        self.read_events(now)?;
        self.engine.handle_timeout(now);
        self.poll_engine(now);
        self.read_dump_part(now);
        self.deliver(now);
        self.watch_backlog(now);
        self.save(now);
        self.commit();
        self.note_losses(now);
        self.check_settings(now.boot);
        self.serve_watchers(now);
        Ok(())
    }

    // --- waiting -------------------------------------------------------------------------------

    /// Waits for something to do; during a nap, for anything but events.
    fn wait(&mut self) -> io::Result<()> {
        let now = clock::now();
        let mut wait = self.time_until_due(now.boot);
        let napping = self.nap.take();
        if let Some(nap) = napping {
            wait = Some(wait.map_or(nap, |wait| wait.min(nap)));
        }
        let timeout = wait.map_or(EpollTimeout::NONE, |wait| {
            EpollTimeout::from(u16::try_from(wait.as_millis_ceil()).unwrap_or(u16::MAX))
        });
        self.watch_events(napping.is_some())?;
        let epoll = if napping.is_some() { &self.inner } else { &self.outer };
        let mut events = [EpollEvent::empty(); 8];
        let count = match epoll.wait(&mut events, timeout) {
            Err(nix::errno::Errno::EINTR) => 0,
            other => other?,
        };
        for event in &events[..count] {
            match (napping, event.data()) {
                (None, token::INNER) => self.serve_inner()?,
                (Some(_), token) => self.serve(token, event.events()),
                _ => {}
            }
        }
        Ok(())
    }

    fn time_until_due(&self, now: Instant) -> Option<Duration> {
        let due = [
            self.engine.poll_timeout().filter(|_| self.can_sweep()),
            self.edge.control.poll_timeout(),
            Some(self.settings_at),
            self.edge.sinks.poll_timeout(),
            self.edge.checkpoints.as_ref().and_then(Checkpoints::poll_timeout),
            self.engine.queue().poll_timeout(),
            self.pressure.poll_timeout(),
        ];
        due.into_iter().flatten().min().map(|at| at.since(now))
    }

    fn serve_inner(&mut self) -> io::Result<()> {
        let mut events = [EpollEvent::empty(); 8];
        let count = match self.inner.wait(&mut events, EpollTimeout::ZERO) {
            Err(nix::errno::Errno::EINTR) => 0,
            other => other?,
        };
        for event in &events[..count] {
            self.serve(event.data(), event.events());
        }
        Ok(())
    }

    fn serve(&mut self, token: u64, events: EpollFlags) {
        let now = clock::now();
        match token {
            token::SIGNAL => self.read_signal(),
            token::LISTENER => {
                self.edge.control.accept(&self.inner, now.boot);
                self.count_clients();
            }
            Relay::TOKEN => self.relay.iter_mut().for_each(Relay::wake),
            _ if self.edge.checkpoints.as_mut().is_some_and(|it| it.wake(token)) => {}
            _ if self.edge.sinks.wake(token) => {}
            FIRST_CLIENT.. => {
                self.read_socket_memory();
                // Only who is repeated to wants to know.
                let repeated = self.engine.stats().repeated_destroys > 0;
                let other =
                    if repeated { listeners::fullest(&self.edge.destroy) } else { Ok(None) };
                self.facts.other = other.unwrap_or(None);
                let Edge { control, sinks, checkpoints, .. } = &mut self.edge;
                let (engine, pressure) = (&self.engine, &self.pressure);
                let checkpoints = checkpoints.as_ref();
                let facts = Facts { engine, sinks, pressure, checkpoints, edge: &self.facts, now };
                control.handle(&self.inner, token, events, &facts);
                self.count_clients();
            }
            _ => {}
        }
    }

    fn count_clients(&mut self) {
        self.facts.clients = self.edge.control.clients();
        self.facts.clients_refused = self.edge.control.refused();
    }

    fn read_signal(&mut self) {
        while let Ok(Some(info)) = self.edge.signals.read_signal() {
            let hangup = nix::sys::signal::Signal::SIGHUP as i32;
            let reload = i32::try_from(info.ssi_signo) == Ok(hangup);
            // An end is not forgotten for a reload that comes with it.
            if self.signal != Some(Signal::End) {
                self.signal = Some(if reload { Signal::Reload } else { Signal::End });
            }
        }
    }

    fn serve_watchers(&mut self, now: Now) {
        let Edge { control, sinks, checkpoints, .. } = &mut self.edge;
        let (engine, pressure) = (&self.engine, &self.pressure);
        let checkpoints = checkpoints.as_ref();
        let facts = Facts { engine, sinks, pressure, checkpoints, edge: &self.facts, now };
        control.flush(&self.inner, &facts);
        self.count_clients();
    }

    // --- events --------------------------------------------------------------------------------

    /// Reads what waits on the event sockets, and decides whether to nap.
    fn read_events(&mut self, now: Now) -> io::Result<()> {
        let [state_before, destroy_before] = self.read_socket_memory();
        let mut count = 0;
        let mut rest = true;
        for _ in 0..ROUNDS {
            let wanted = self.destroys_wanted(BATCH);
            let destroy = &mut self.batches.destroy;
            let destroys = self.edge.destroy.receive_up_to(wanted, destroy)?;
            let more_destroys = destroys > 0 && destroys == wanted;
            let (states, more_states) = self.read_states(now)?;
            if destroys > 0 {
                self.take_destroys(now);
            }
            count += destroys + states;
            rest = more_destroys || more_states;
            if !rest {
                break;
            }
        }
        if rest {
            self.engine.destroys_are_waiting(now.boot);
        }
        let late = self.tell_drops(now.boot, state_before, destroy_before);
        self.choose_nap(now.boot, (count, rest), late, [state_before, destroy_before]);
        Ok(())
    }

    /// Reads and hands over what waits on the state socket: how much, and whether more waits.
    fn read_states(&mut self, now: Now) -> io::Result<(usize, bool)> {
        let mut count = 0;
        for _ in 0..STATE_ROUNDS {
            count += self.edge.state.receive(&mut self.batches.state)?;
            let more = self.batches.state.is_full();
            take(&mut self.engine, &mut self.edge, now, Source::State, &self.batches.state);
            self.batches.state.clear();
            if !more {
                return Ok((count, false));
            }
        }
        Ok((count, true))
    }

    fn take_destroys(&mut self, now: Now) {
        take(&mut self.engine, &mut self.edge, now, Source::Destroy, &self.batches.destroy);
        self.commit();
        self.batches.destroy.clear();
        // So many at a time that the queue does not fill while sinks keep up.
        if self.engine.queue().room() < self.engine.queue().capacity() / 2 {
            self.deliver(now);
        }
    }

    /// A sweep that has found what the queue has no room for goes on when there is some.
    fn can_sweep(&self) -> bool {
        self.pressure.state() == State::Open || self.pressure.dropping().is_some()
    }

    fn read_socket_memory(&mut self) -> [SocketMemory; 2] {
        // A socket that cannot tell has not changed.
        let [state, destroy] = &mut self.facts.sockets;
        *state = self.edge.state.memory().unwrap_or(*state);
        *destroy = self.edge.destroy.memory().unwrap_or(*destroy);
        self.facts.sockets
    }

    /// Tells the engine of new drops; whether destroys found the buffer full.
    fn tell_drops(&mut self, now: Instant, state: SocketMemory, destroy: SocketMemory) -> bool {
        static LIMIT: RateLimit = RateLimit::new(2, 60);
        let (states_before, destroys_before) =
            (self.engine.stats().state_overruns, self.engine.stats().destroy_overruns);
        self.engine.handle_drops(now, Source::State, state.drops);
        self.engine.handle_drops(now, Source::Destroy, destroy.drops);
        let stats = self.engine.stats();
        if stats.state_overruns != states_before {
            limited!(
                LIMIT,
                log::Level::Warn,
                "events came faster than they were read; the table is read anew. \
                 A larger events.receive_buffer helps if this goes on"
            );
        }
        stats.destroy_overruns != destroys_before
    }

    // --- the engine ----------------------------------------------------------------------------

    /// Does what the engine wants.
    fn poll_engine(&mut self, now: Now) {
        while let Some(output) = self.engine.poll_output() {
            match output {
                Output::Record(record) => {
                    let missed = self.edge.control.show(&record);
                    self.engine.ledger_mut().clients_behind += missed;
                }
                Output::StartDump { seq, purpose } => self.start_dump(now, seq, purpose),
            }
        }
    }
}

/// Hands over a batch, and shows what becomes of it to those who watch.
fn take(engine: &mut Engine<'_>, edge: &mut Edge, now: Now, source: Source, batch: &Batch) {
    for datagram in batch.datagrams() {
        if datagram.port != 0 {
            engine.stats_mut().foreign_messages += 1;
            continue;
        }
        if datagram.truncated {
            engine.handle_truncated(now.boot);
        }
        for raw in Messages::new(datagram.bytes) {
            engine.handle_message(now, source, raw);
            if let (Some(slot), Some(save)) = (engine.shown(), &mut edge.checkpoints) {
                save.show(engine, slot);
            }
            while let Some(record) = engine.peek_record() {
                let missed = edge.control.show(record);
                engine.drop_record();
                engine.ledger_mut().clients_behind += missed;
            }
        }
    }
}

//! The engine joins wire, table and records: it is told every message of the kernel and decides
//! what lives, what ended, and what must be asked again.
//!
//! Sans-IO: it is handed messages, drop counts of sockets and the time, and it gives out records
//! and wishes for dumps. The contract, for every call in any order:
//!
//! 1. [`Engine::handle_message`] for each netlink message, [`Engine::handle_drops`] after each
//!    round of reading, [`Engine::handle_timeout`] when [`Engine::poll_timeout`] has come.
//! 2. After each of these, [`Engine::poll_output`] until it gives nothing.
//!
//! Calls that were not needed are harmless. The same calls give the same outputs.
//!
//! # Order of events
//!
//! DESTROY comes on a socket of its own, so the order between it and NEW/UPDATE is lost. The edge
//! restores most of it: it reads a batch of destroys, then everything that waits on the state
//! socket, and hands over the state messages first. What is left (a NEW read before an earlier
//! flow's DESTROY with the same tuple; a NEW that another processor sent late) is decided here, by
//! start and stop times where the kernel gives them, else by `CTA_ID`: see `events`.
//!
//! # What vanished unseen
//!
//! A flow that a completed dump does not show is first only *missed*. It is reported as destroyed
//! (`cause` `resync`) if a second dump does not show it either, and only after the destroy socket
//! has been quiet: a DESTROY that is still on its way has the exact counters. See `dump`.
//!
//! # Records
//!
//! A record of a destroyed flow goes straight into the retry queue ([`Engine::queue_mut`]), before
//! the flow is forgotten: so a crash between two messages, or in the middle of one, loses none.
//! The memory may be shared with the process that comes after ([`Engine::open`]); messages that
//! were being handled are handed over again then, and make no record twice.

mod apply;
mod carry;
mod clock;
mod commit;
mod dump;
mod ended;
mod events;
mod recent;
mod restore;
mod save;

pub use dump::{DumpWish, Purpose, WishedDump};

use heapless::Deque;

use crate::probe;
use crate::record::{Record, RecordKeys};
use crate::retry::{Loss, RetryQueue, SinkId};
use crate::stats::{Ledger, Stats};
use crate::table::{FlowTable, Slot, WrongSize, flag};
use crate::time::{Duration, Instant, Now};
use crate::wire::nlmsg::RawMessage;
use crate::wire::{self, Conntrack, Event, Message};
use clock::Clock;
use commit::{Commits, Committed};
use dump::Cycle;
use ended::Ended;
use recent::{RecentKeys, Tombstones};

/// Records that wait for those who watch. One message makes at most one; a sweep stops when there
/// is no room.
const OUTPUTS: usize = 32;

/// What the kernel's event path can do, as the self-test found it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EventPath {
    /// No events come: the table is learnt from dumps alone.
    None,
    /// Events come, but a destroy that does not fit is lost.
    BestEffort,
    /// A destroy that does not fit is repeated until it does.
    Reliable,
}

impl EventPath {
    /// The words for it in status and log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::BestEffort => "best effort",
            Self::Reliable => "reliable",
        }
    }
}

/// Which socket something came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The event socket of NEW and UPDATE.
    State,
    /// The event socket of DESTROY.
    Destroy,
    /// The socket of requests and dumps.
    Request,
}

/// What can be changed while the engine runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What the kernel's events are worth.
    pub events: EventPath,
    /// From the end of one dump to the start of the next.
    pub refresh: Duration,
    /// Whether somebody watches: then all records are given out as [`Output::Record`] too, also
    /// those of NEW and UPDATE.
    pub observed: bool,
}

/// What the engine wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "records are what is given out, and are copied once")]
pub enum Output {
    /// Show this to those who watch.
    Record(Record),
    /// Ask for a dump of the table with this sequence number; if that fails, call
    /// [`Engine::dump_failed`].
    StartDump {
        /// Sequence number of the request.
        seq: u32,
        /// Why.
        purpose: Purpose,
    },
}

/// How large the engine's memory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Flows, counted in IPv4 flows.
    pub capacity: u32,
    /// Flows with rare attributes.
    pub extensions: u32,
    /// Keys of destroyed flows that are remembered.
    pub remember: u32,
    /// Records that are owed to sinks.
    pub queue: u32,
}

impl Sizes {
    /// Words of memory that the engine takes.
    #[must_use]
    pub fn words(&self) -> usize {
        self.parts().iter().sum()
    }

    /// Words of commits, queue, keys, tombstones, table.
    fn parts(&self) -> [usize; 5] {
        [
            Commits::WORDS,
            RetryQueue::words(self.queue),
            RecentKeys::words(self.remember),
            Tombstones::WORDS,
            self.table_words(),
        ]
    }

    /// The memory cut into its parts.
    fn cut<'m>(&self, mut mem: &'m mut [u32]) -> Result<[&'m mut [u32]; 5], WrongSize> {
        if mem.len() != self.words() {
            return Err(WrongSize);
        }
        Ok(self.parts().map(|words| {
            let (part, rest) = core::mem::take(&mut mem).split_at_mut(words);
            mem = rest;
            part
        }))
    }

    fn table_words(&self) -> usize {
        FlowTable::words(self.capacity, self.extensions)
    }
}

/// The engine. See the module's own documentation.
#[derive(Debug)]
pub struct Engine<'m> {
    table: FlowTable<'m>,
    queue: RetryQueue<'m>,
    recent: RecentKeys<'m>,
    tombstones: Tombstones<'m>,
    commits: Commits<'m>,
    keys: RecordKeys,
    settings: Settings,
    cycle: Cycle,
    clock: Clock,
    outputs: Deque<Record, OUTPUTS>,
    stats: Stats,
    ledger: Ledger,
    malformed: [u64; wire::Error::ALL.len()],
    drops: [u32; 2],
    /// Messages of the destroy socket that were handled, in all.
    serial: u64,
    /// Records for which the queue has no room push out its oldest.
    dropping: Option<Loss>,
    ended: Ended,
    /// What the last message showed, if it was an entry of a dump.
    shown: Option<Slot>,
}

impl<'m> Engine<'m> {
    /// An engine with an empty table, in zeroed memory of [`Sizes::words`] words. Its first wish
    /// is a dump.
    ///
    /// # Errors
    ///
    /// [`WrongSize`] if the memory is not of that size.
    pub fn new(
        mem: &'m mut [u32],
        sizes: &Sizes,
        settings: Settings,
        boot_id: [u8; 16],
        seed: [u32; 2],
        sinks: &[SinkId],
    ) -> Result<Self, WrongSize> {
        let [commits, queue, recent, tombstones, table] = sizes.cut(mem)?;
        let table = FlowTable::format(table, sizes.capacity, sizes.extensions, seed)?;
        let queue = RetryQueue::format(queue, sizes.queue, sinks).map_err(|_| WrongSize)?;
        let (recent, tombstones) = (RecentKeys::new(recent), Tombstones::new(tombstones));
        let commits = Commits::new(commits);
        Ok(Self::join(table, queue, recent, tombstones, commits, (settings, boot_id)))
    }

    /// Whether an engine of these sizes was made in this memory.
    #[must_use]
    pub fn is_there(mem: &mut [u32], sizes: &Sizes) -> bool {
        let Ok([_, queue, _, _, table]) = sizes.cut(mem) else { return false };
        FlowTable::is_there(table, sizes.capacity, sizes.extensions)
            && RetryQueue::is_there(queue, sizes.queue)
    }

    /// Takes over what an engine of an earlier process left in this memory, wherever that process
    /// was killed. With `unheard`, nobody listened meanwhile: flows that a dump does not show any
    /// more are then reported with [`Cause::Restart`](crate::record::Cause::Restart).
    ///
    /// # Errors
    ///
    /// [`WrongSize`] if the memory does not hold an engine of these sizes.
    pub fn open(
        mem: &'m mut [u32],
        sizes: &Sizes,
        settings: Settings,
        boot_id: [u8; 16],
        sinks: &[SinkId],
        unheard: bool,
    ) -> Result<Self, WrongSize> {
        let [commits, queue, recent, tombstones, table] = sizes.cut(mem)?;
        let flags = if unheard { flag::UNHEARD } else { 0 };
        let table = FlowTable::open(table, sizes.capacity, sizes.extensions, flags)?;
        let queue = RetryQueue::open(queue, sizes.queue, sinks).map_err(|_| WrongSize)?;
        let (recent, tombstones) = (RecentKeys::new(recent), Tombstones::new(tombstones));
        let commits = Commits::new(commits);
        let mut engine = Self::join(table, queue, recent, tombstones, commits, (settings, boot_id));
        // One may have been put there just before a crash, and its key not remembered.
        engine.recent.remember(engine.queue.records());
        Ok(engine)
    }

    fn join(
        table: FlowTable<'m>,
        queue: RetryQueue<'m>,
        recent: RecentKeys<'m>,
        tombstones: Tombstones<'m>,
        commits: Commits<'m>,
        (settings, boot_id): (Settings, [u8; 16]),
    ) -> Self {
        let Committed { serial, stats, ledger, .. } = commits.load();
        Self {
            table,
            queue,
            recent,
            tombstones,
            commits,
            keys: RecordKeys::new(boot_id),
            settings,
            cycle: Cycle::new(),
            clock: Clock::default(),
            outputs: Deque::new(),
            stats,
            ledger,
            malformed: [0; wire::Error::ALL.len()],
            drops: [0; 2],
            serial,
            dropping: None,
            ended: Ended::default(),
            shown: None,
        }
    }

    /// All messages of a batch have been handled: what they counted is in force from now on.
    /// `batch` is the caller's number of it.
    pub fn commit(&mut self, batch: u32) {
        let Self { serial, stats, ledger, .. } = *self;
        self.commits.store(&Committed { serial, batch, stats, ledger });
    }

    /// The batch that was committed last; 0 before the first.
    #[must_use]
    pub fn committed_batch(&self) -> u32 {
        self.commits.load().batch
    }

    /// One message off a socket, or why there is none.
    pub fn handle_message(
        &mut self,
        now: Now,
        source: Source,
        raw: Result<RawMessage<'_>, wire::Error>,
    ) {
        self.clock.look(now);
        self.shown = None;
        if source == Source::Destroy {
            self.serial += 1;
        }
        let raw = match raw {
            Ok(raw) => raw,
            Err(error) => return self.on_malformed(source, error),
        };
        // Entries are read apart from all else, so that they are not moved about in memory.
        if let Some(event) = Event::of_conntrack(&raw.header) {
            let mut ct = Conntrack::default();
            return match ct.read(raw.payload) {
                Ok(()) if probe::is_probe(&ct) => {}
                Ok(()) if source == Source::Request => self.handle_entry(now, &raw.header, &ct),
                Ok(()) if event == Event::Destroy => self.on_destroy(now, &ct),
                Ok(()) => self.on_state(now, event, &ct),
                Err(error) => self.on_malformed(source, error),
            };
        }
        match &Message::parse(&raw) {
            Ok(message) if source == Source::Request => {
                self.handle_reply(now, &raw.header, message);
            }
            Ok(Message::Expect { .. }) => self.stats.expectations += 1,
            Ok(_) => self.stats.other_messages += 1,
            Err(error) => self.on_malformed(source, *error),
        }
    }

    /// What a dump shows in a message that cannot be read would seem to be gone.
    fn on_malformed(&mut self, source: Source, error: wire::Error) {
        self.count_malformed(error);
        if source == Source::Request {
            self.cycle.spoil_dump();
        }
    }

    fn count_malformed(&mut self, error: wire::Error) {
        self.ledger.malformed += 1;
        if let Some(count) = self.malformed.get_mut(error.index()) {
            *count += 1;
        }
    }

    /// What `SK_MEMINFO_DROPS` of an event socket stands at.
    ///
    /// In reliable mode the count is of attempts, most of which are repeated: it tells that
    /// something was late, not what was lost.
    pub fn handle_drops(&mut self, now: Instant, source: Source, total: u32) {
        let index = match source {
            Source::State => 0,
            Source::Destroy => 1,
            Source::Request => return,
        };
        // The count of a socket that was opened anew begins again.
        let new = total.checked_sub(self.drops[index]).unwrap_or(total);
        self.drops[index] = total;
        if new == 0 {
            return;
        }
        let lost = if source == Source::State {
            self.stats.state_overruns += u64::from(new);
            true
        } else {
            self.stats.destroy_overruns += u64::from(new);
            self.cycle.destroys_were_late(now);
            self.settings.events != EventPath::Reliable
        };
        if lost {
            self.cycle.want_resync(now);
        }
    }

    /// A message that was longer than the receive buffer: its rest is gone.
    pub fn handle_truncated(&mut self, now: Instant) {
        self.ledger.truncated += 1;
        self.cycle.spoil_dump();
        self.cycle.want_resync(now);
    }

    /// The next record for those who watch, in place; [`Self::drop_record`] when it is done. For
    /// the path of every event: what a message makes is done before the next message.
    #[must_use]
    pub fn peek_record(&self) -> Option<&Record> {
        self.outputs.front()
    }

    /// Takes away the record that [`Self::peek_record`] shows.
    pub fn drop_record(&mut self) {
        self.outputs.pop_front();
    }

    /// What to do next, until there is nothing more.
    pub fn poll_output(&mut self) -> Option<Output> {
        if let Some(record) = self.outputs.pop_front() {
            return Some(Output::Record(record));
        }
        let (seq, purpose) = self.cycle.take_request()?;
        Some(Output::StartDump { seq, purpose })
    }

    /// Changes what can be changed.
    pub fn set_settings(&mut self, settings: Settings) {
        self.cycle.change_refresh(self.settings.refresh, settings.refresh);
        self.settings = settings;
    }

    /// Whether NEW and UPDATE make records too.
    pub fn set_observed(&mut self, observed: bool) {
        self.settings.observed = observed;
    }

    /// The settings in force.
    #[must_use]
    pub const fn settings(&self) -> Settings {
        self.settings
    }

    /// The records that are owed to sinks.
    #[must_use]
    pub const fn queue(&self) -> &RetryQueue<'m> {
        &self.queue
    }

    /// The records that are owed to sinks, to be delivered.
    pub const fn queue_mut(&mut self) -> &mut RetryQueue<'m> {
        &mut self.queue
    }

    /// Whether, and by what cause, records push out the queue's oldest ones when there is no room.
    /// Without, the caller hands over no more destroys than [`RetryQueue::room`].
    pub fn set_dropping(&mut self, cause: Option<Loss>) {
        self.dropping = cause;
    }

    /// The table, to look at.
    #[must_use]
    pub const fn table(&self) -> &FlowTable<'m> {
        &self.table
    }

    /// What happened so far.
    #[must_use]
    pub const fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Counters that the edge keeps up.
    pub fn stats_mut(&mut self) -> &mut Stats {
        &mut self.stats
    }

    /// What was lost so far.
    #[must_use]
    pub const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Losses that the edge saw.
    pub fn ledger_mut(&mut self) -> &mut Ledger {
        &mut self.ledger
    }

    /// Messages that could not be read, by [`wire::Error::index`].
    #[must_use]
    pub const fn malformed(&self) -> &[u64; wire::Error::ALL.len()] {
        &self.malformed
    }

    /// Owes a record of a destroyed flow to all sinks. There is room, or the oldest gives way.
    fn owe(&mut self, now: Now, record: &Record) {
        if self.queue.push(record, self.serial, now.boot).is_err() {
            self.queue.drop_oldest(self.dropping.unwrap_or(Loss::Policy));
            // There is room now.
            let _ = self.queue.push(record, self.serial, now.boot);
        }
    }

    /// Shows a record to those who watch; the caller has made sure that there is room, or it is
    /// the one record of a message after which the outputs are polled.
    fn give_out(&mut self, record: &Record) {
        if self.settings.observed && self.outputs.push_back(*record).is_err() {
            self.ledger.clients_behind += 1;
        }
    }
}

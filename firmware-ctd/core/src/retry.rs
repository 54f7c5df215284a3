//! The retry queue: records of destroyed flows that are owed to sinks, in memory that is fixed at
//! start and outlives a worker that crashed.
//!
//! One ring holds each record once, for all sinks. Per sink there are two marks in it: up to where
//! the sink has *taken* records for good (delivered, or lost and counted), and up to where they
//! have been *sent*. So what a sink is owed is a span of the ring, and all work is by counting: no
//! lists, no heap, nothing to search. A record's room is free when every sink has taken it.
//!
//! # Retries
//!
//! A refusal is always about the sink, never about the one record that met it (a full disk, a
//! collector that is away). So the wait is the sink's: after the first attempt, which is made at
//! once, its oldest record is tried again after a random share of the grace (`max_delay_s`), as
//! the kernel's own retries of DESTROY were spread; when that goes, all others follow at once.
//!
//! # Full
//!
//! [`RetryQueue::push`] makes room at the cost of sinks that are best effort; where a reliable one
//! is in the way it gives [`Full`] and changes nothing. The caller decides: it stops reading from
//! the kernel before that (see [`RetryQueue::room`]), or calls [`RetryQueue::drop_oldest`], which
//! counts what it drops by sink and cause, with packets and bytes. For each sink, delivered + owed
//! + lost = all that was ever pushed while it was there.
//!
//! # Crash
//!
//! No pointers, and every change takes effect by the store of one word: a process that is killed
//! anywhere leaves a queue that [`RetryQueue::open`] takes over, with a record either wholly in it
//! or not, and counters that belong together. What was sent and not taken is sent again then.
//!
//! # Elsewhere
//!
//! [`RetryQueue::export`] and [`RetryQueue::import`] carry all that is owed into a queue of another
//! size or with other sinks, also over a reboot.
//!
//! Not here: what a sink does, and time and chance, which are parameters.

mod block;
mod carry;
mod outbox;

pub use block::{Loss, Lost, Note, SinkCount};
pub use outbox::Outbox;

use crate::record::{Record, stored};
use crate::time::Instant;
use crate::wire::Counters;
use crate::words::{get_u64, put_u64, settle};
use block::{Block, SinkWords};
pub(crate) use carry::Carried;

/// Most sinks of one queue.
pub const MOST_SINKS: usize = 16;
/// Fewest and most records that a queue is made for.
pub const CAPACITIES: core::ops::RangeInclusive<u32> = 16..=1 << 20;

const MAGIC: u32 = 0x6663_7451;
/// Of the layout and of the records in it.
const VERSION: u32 = 1 << 16 | stored::VERSION;

mod header {
    pub(super) const MAGIC: usize = 0;
    pub(super) const VERSION: usize = 1;
    pub(super) const CAPACITY: usize = 2;
    /// The position after the newest record.
    pub(super) const TAIL: usize = 3;
    /// Lost with sinks that are configured no more: records, packets, bytes; two words each.
    pub(super) const REMOVED: usize = 4;
    pub(super) const WORDS: usize = 10;
}

mod slot {
    pub(super) const SERIAL: usize = 0; // two words
    pub(super) const PUSHED_S: usize = 2;
    pub(super) const RECORD: usize = 4;
    pub(super) const WORDS: usize = RECORD + crate::record::stored::WORDS;
}

/// Bytes that one record takes.
pub const BYTES_RECORD: usize = slot::WORDS * 4;

/// There is no room, and a reliable sink is in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// The memory holds no queue of this version and capacity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsound;

/// A sink, as the queue knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SinkId {
    /// Tells the sink from all others, also after a restart.
    pub id: u64,
    /// Whether its records may keep the queue full. Otherwise they give way.
    pub reliable: bool,
}

/// When a sink may be tried next.
#[derive(Clone, Copy, Debug, Default)]
struct Wait {
    /// Failed attempts in a row.
    attempts: u32,
    due: Option<Instant>,
    /// Attempts after a failed one, in all.
    retried: u64,
}

/// The queue. See the module's own documentation.
#[derive(Debug)]
pub struct RetryQueue<'m> {
    mem: &'m mut [u32],
    capacity: u32,
    /// Positions are counted up to here and then from 0 on: a multiple of the capacity.
    modulus: u32,
    tail: u32,
    /// Records in the ring.
    len: u32,
    sinks: usize,
    reliable: [bool; MOST_SINKS],
    taken: [u32; MOST_SINKS],
    sent: [u32; MOST_SINKS],
    /// Records that were dropped after they had been sent, and whose acknowledgement may come.
    dropped_in_flight: [u32; MOST_SINKS],
    waits: [Wait; MOST_SINKS],
}

impl<'m> RetryQueue<'m> {
    /// How many words a queue takes.
    #[must_use]
    pub const fn words(capacity: u32) -> usize {
        header::WORDS + MOST_SINKS * Block::WORDS + capacity as usize * slot::WORDS
    }

    /// An empty queue, in memory of [`Self::words`] words.
    ///
    /// # Errors
    ///
    /// [`Unsound`] if the memory is not of that size or the capacity is out of range.
    pub fn format(mem: &'m mut [u32], capacity: u32, sinks: &[SinkId]) -> Result<Self, Unsound> {
        if !CAPACITIES.contains(&capacity) || mem.len() != Self::words(capacity) {
            return Err(Unsound);
        }
        mem[..header::WORDS + MOST_SINKS * Block::WORDS].fill(0);
        // The serial of the slot before the first is looked at: see `last_serial`.
        let last = mem.len() - slot::WORDS;
        mem[last..].fill(0);
        mem[header::CAPACITY] = capacity;
        mem[header::VERSION] = VERSION;
        settle();
        mem[header::MAGIC] = MAGIC;
        Ok(Self::adopt(mem, capacity, sinks))
    }

    /// Takes over a queue with all that it owes. Sinks are found again by their ids, in any order;
    /// a new one is owed nothing, and what one was owed that is there no more is lost and counted.
    ///
    /// # Errors
    ///
    /// [`Unsound`] if there is no such queue.
    pub fn open(mem: &'m mut [u32], capacity: u32, sinks: &[SinkId]) -> Result<Self, Unsound> {
        if !Self::is_there(mem, capacity) {
            return Err(Unsound);
        }
        Ok(Self::adopt(mem, capacity, sinks))
    }

    /// Whether a queue of this capacity was made in this memory.
    #[must_use]
    pub fn is_there(mem: &[u32], capacity: u32) -> bool {
        mem.len() == Self::words(capacity)
            && CAPACITIES.contains(&capacity)
            && mem[header::MAGIC] == MAGIC
            && mem[header::VERSION] == VERSION
            && mem[header::CAPACITY] == capacity
            && mem[header::TAIL] < modulus(capacity)
    }

    fn adopt(mem: &'m mut [u32], capacity: u32, sinks: &[SinkId]) -> Self {
        let sinks = &sinks[..sinks.len().min(MOST_SINKS)];
        let tail = mem[header::TAIL];
        let mut queue = Self {
            mem,
            capacity,
            modulus: modulus(capacity),
            tail,
            len: 0,
            sinks: sinks.len(),
            reliable: core::array::from_fn(|i| sinks.get(i).is_some_and(|s| s.reliable)),
            taken: [tail; MOST_SINKS],
            sent: [tail; MOST_SINKS],
            dropped_in_flight: [0; MOST_SINKS],
            waits: [Wait::default(); MOST_SINKS],
        };
        queue.find_sinks(sinks);
        queue.count();
        queue
    }

    /// Puts the blocks of known sinks where they belong now.
    fn find_sinks(&mut self, sinks: &[SinkId]) {
        let old: [Block; MOST_SINKS] = core::array::from_fn(|i| self.block(i).load());
        for block in &old {
            if block.id != 0 && sinks.iter().all(|sink| sink.id != block.id) {
                self.count_removed(block);
            }
        }
        for place in 0..MOST_SINKS {
            let known = sinks.get(place).map(|sink| {
                let known = old.iter().find(|block| block.id == sink.id);
                let fresh = Block { id: sink.id, taken: self.tail, ..Block::default() };
                *known.filter(|block| self.is_sound(block.taken)).unwrap_or(&fresh)
            });
            let block = known.unwrap_or_default();
            if block != old[place] {
                self.block(place).store(&block);
            }
            if known.is_some() {
                (self.taken[place], self.sent[place]) = (block.taken, block.taken);
            }
        }
    }

    fn is_sound(&self, taken: u32) -> bool {
        taken < self.modulus && self.span(taken, self.tail) <= self.capacity
    }

    fn count_removed(&mut self, block: &Block) {
        if !self.is_sound(block.taken) {
            return;
        }
        let owed = self.span(block.taken, self.tail);
        let mut lost = Lost::default();
        lost.add(owed, self.sum(block.taken, owed));
        self.add_removed(lost);
    }

    fn add_removed(&mut self, more: Lost) {
        let Lost { records, packets, bytes } = self.removed().and(more);
        for (at, sum) in [records, packets, bytes].into_iter().enumerate() {
            put_u64(self.mem, header::REMOVED + 2 * at, sum);
        }
    }

    /// Puts in a record that all sinks are owed from now on. `serial` tells which message it was
    /// made from: see [`Self::last_serial`].
    ///
    /// # Errors
    ///
    /// [`Full`] if there is no room and a reliable sink is in the way; nothing is changed.
    pub fn push(&mut self, record: &Record, serial: u64, now: Instant) -> Result<(), Full> {
        if self.len == self.capacity {
            if self.room() == 0 {
                return Err(Full);
            }
            self.drop_oldest(Loss::BestEffort);
        }
        let at = self.slot(self.tail);
        put_u64(self.mem, at + slot::SERIAL, serial);
        self.mem[at + slot::PUSHED_S] = now.as_secs_u32();
        if let Some(words) = self.mem[at + slot::RECORD..].first_chunk_mut() {
            stored::store(record, words);
        }
        settle();
        self.tail = self.after(self.tail, 1);
        self.mem[header::TAIL] = self.tail;
        settle();
        if self.sinks == 0 {
            self.taken = [self.tail; MOST_SINKS];
        } else {
            self.len += 1;
        }
        Ok(())
    }

    /// The serial of the newest record that was ever put in; 0 before the first. A message that is
    /// handled again after a crash made its record already if its own serial is not greater.
    #[must_use]
    pub fn last_serial(&self) -> u64 {
        let newest = self.after(self.tail, self.modulus - 1);
        get_u64(self.mem, self.slot(newest) + slot::SERIAL)
    }

    /// How many records can be put in before [`Full`].
    #[must_use]
    pub fn room(&self) -> u32 {
        let reliable = (0..self.sinks).filter(|&sink| self.reliable[sink]);
        self.capacity - reliable.map(|sink| self.owed(sink)).max().unwrap_or(0)
    }

    /// Drops the oldest record, which is lost for every sink that is still owed it: for a reliable
    /// one by this cause, for others by [`Loss::BestEffort`].
    pub fn drop_oldest(&mut self, cause: Loss) {
        let oldest = self.after(self.tail, self.modulus - self.len);
        if self.len == 0 {
            return;
        }
        for sink in 0..self.sinks {
            if self.taken[sink] == oldest {
                self.lose_oldest(sink, if self.reliable[sink] { cause } else { Loss::BestEffort });
            }
        }
        self.count();
    }

    /// The oldest record that the sink is owed is lost for it.
    fn lose_oldest(&mut self, sink: usize, cause: Loss) {
        let oldest = self.taken[sink];
        let counters = self.sum(oldest, 1);
        let taken = self.after(oldest, 1);
        if self.sent[sink] == oldest {
            self.sent[sink] = taken;
        } else {
            self.dropped_in_flight[sink] += 1;
        }
        self.taken[sink] = taken;
        self.block(sink).change(|block| {
            block.taken = taken;
            block.lost[cause as usize].add(1, counters);
        });
    }

    fn sum(&self, from: u32, records: u32) -> Counters {
        totals((0..records).filter_map(|n| self.words_at(self.after(from, n))))
    }

    /// Changes whether a sink's records may keep the queue full.
    pub fn set_reliable(&mut self, sink: usize, reliable: bool) {
        if let Some(known) = self.reliable.get_mut(sink) {
            *known = reliable;
        }
    }

    /// What one sink is owed, to be delivered to it.
    pub fn outbox(&mut self, sink: usize) -> Outbox<'_, 'm> {
        Outbox { queue: self, sink }
    }

    /// Records that a sink is owed.
    #[must_use]
    pub fn owed(&self, sink: usize) -> u32 {
        self.span(self.taken[sink], self.tail)
    }

    /// Records in the queue.
    #[must_use]
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// Whether nothing is owed to any sink.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Records that the queue was made for.
    #[must_use]
    pub const fn capacity(&self) -> u32 {
        self.capacity
    }

    /// The records in the queue, oldest first.
    pub fn records(&self) -> impl Iterator<Item = Record> + '_ {
        let oldest = self.after(self.tail, self.modulus - self.len);
        (0..self.len).filter_map(move |n| self.words_at(self.after(oldest, n)).map(stored::load))
    }

    /// How a sink stands.
    #[must_use]
    pub fn count_of(&self, sink: usize) -> SinkCount {
        let block = SinkWords::load_from(self.mem, Self::block_at(sink));
        let owed = self.owed(sink);
        let oldest = self.slot(self.taken[sink]) + slot::PUSHED_S;
        SinkCount {
            delivered: block.delivered,
            owed,
            in_flight: self.span(self.taken[sink], self.sent[sink]),
            retried: self.waits[sink].retried,
            attempts: self.waits[sink].attempts,
            oldest_s: (owed > 0).then(|| self.mem[oldest]),
            lost: block.lost,
        }
    }

    /// What was lost with sinks that are there no more.
    #[must_use]
    pub fn removed(&self) -> Lost {
        let at = |n: usize| get_u64(self.mem, header::REMOVED + 2 * n);
        Lost { records: at(0), packets: at(1), bytes: at(2) }
    }

    /// All that was lost, for any sink and by any cause: a record counts once for each sink that
    /// does not get it.
    #[must_use]
    pub fn lost(&self, cause: Loss) -> Lost {
        (0..self.sinks).fold(Lost::default(), |sum, sink| {
            sum.and(SinkWords::load_from(self.mem, Self::block_at(sink)).lost[cause as usize])
        })
    }

    /// When a sink that has refused may be tried again, the earliest of all.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let waiting = (0..self.sinks).filter(|&sink| self.unsent(sink) > 0);
        waiting.filter_map(|sink| self.waits[sink].due).min()
    }

    fn unsent(&self, sink: usize) -> u32 {
        self.span(self.sent[sink], self.tail)
    }

    /// Counts the records in the ring: those that the slowest sink is owed.
    fn count(&mut self) {
        self.len = (0..self.sinks).map(|sink| self.owed(sink)).max().unwrap_or(0);
    }

    #[inline]
    fn after(&self, position: u32, records: u32) -> u32 {
        let beyond = position + records;
        if beyond >= self.modulus { beyond - self.modulus } else { beyond }
    }

    #[inline]
    fn span(&self, from: u32, to: u32) -> u32 {
        if to >= from { to - from } else { to + self.modulus - from }
    }

    #[inline]
    fn slot(&self, position: u32) -> usize {
        let first = header::WORDS + MOST_SINKS * Block::WORDS;
        first + (position % self.capacity) as usize * slot::WORDS
    }

    fn words_at(&self, position: u32) -> Option<&[u32; stored::WORDS]> {
        self.mem[self.slot(position) + slot::RECORD..].first_chunk()
    }

    fn note(&self, sink: usize) -> Note {
        SinkWords::load_from(self.mem, Self::block_at(sink)).note
    }

    const fn block_at(sink: usize) -> usize {
        header::WORDS + sink * Block::WORDS
    }

    fn block(&mut self, sink: usize) -> SinkWords<'_> {
        SinkWords::at(self.mem, Self::block_at(sink))
    }
}

/// What these records count in both directions together.
fn totals<'r>(records: impl Iterator<Item = &'r [u32; stored::WORDS]>) -> Counters {
    records.map(stored::totals).fold(Counters::default(), |sum, more| Counters {
        packets: sum.packets.saturating_add(more.packets),
        bytes: sum.bytes.saturating_add(more.bytes),
    })
}

/// Twice a position fits 32 bits, and the ring has gone round often before it is reached.
const fn modulus(capacity: u32) -> u32 {
    (1 << 30) / capacity * capacity
}

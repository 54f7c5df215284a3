//! All that a queue owes, as words that can be carried elsewhere: into a queue of another size or
//! with other sinks, in other memory, over a reboot.
//!
//! ```text
//! | version, counts, lost with removed sinks | a sink each | a record each, oldest first |
//! ```
//!
//! A sink is owed the newest records, as many as it says. No positions and no serials: those mean
//! something in one memory only. Times are ages, in seconds.

use super::block::{Block, Lost};
use super::{CAPACITIES, Loss, MOST_SINKS, Note, RetryQueue, Unsound, slot, totals};
use crate::record::stored;
use crate::time::Instant;
use crate::wire::Counters;
use crate::words::{get_u64, put_u64, settle};

/// Of the words, and of the records in them.
const VERSION: u32 = 1 << 16 | stored::VERSION;

mod head {
    pub(super) const VERSION: usize = 0;
    pub(super) const SINKS: usize = 1;
    pub(super) const RECORDS: usize = 2;
    /// Lost with sinks that were removed.
    pub(super) const REMOVED: usize = 3; // six words
    pub(super) const WORDS: usize = 9;
}

mod sink {
    use super::Loss;

    pub(super) const ID: usize = 0; // two words
    pub(super) const OWED: usize = 2;
    pub(super) const DELIVERED: usize = 3; // two words
    pub(super) const LOST: usize = 5; // six words a cause
    pub(super) const NOTE: usize = LOST + 6 * Loss::ALL.len(); // six words
    pub(super) const WORDS: usize = NOTE + 6;
}

mod record {
    pub(super) const AGE_S: usize = 0;
    pub(super) const RECORD: usize = 1;
    pub(super) const WORDS: usize = RECORD + crate::record::stored::WORDS;
}

impl RetryQueue<'_> {
    /// Gives out all that is owed, and to whom, and what became of the rest, as words, piece by
    /// piece. What is in flight is owed.
    pub fn export(&self, now: Instant, out: &mut dyn FnMut(&[u32])) {
        let mut words = [0; head::WORDS];
        words[head::VERSION] = VERSION;
        words[head::SINKS] = u32::try_from(self.sinks).unwrap_or(0);
        words[head::RECORDS] = self.len;
        put_lost(&mut words[head::REMOVED..], self.removed());
        out(&words);
        for place in 0..self.sinks {
            out(&self.sink_words(place));
        }
        let oldest = self.after(self.tail, self.modulus - self.len);
        for n in 0..self.len {
            let at = self.slot(self.after(oldest, n));
            let mut words = [0; record::WORDS];
            words[record::AGE_S] = now.as_secs_u32().saturating_sub(self.mem[at + slot::PUSHED_S]);
            words[record::RECORD..].copy_from_slice(&self.mem[at + slot::RECORD..at + slot::WORDS]);
            out(&words);
        }
    }

    fn sink_words(&self, place: usize) -> [u32; sink::WORDS] {
        let block = super::SinkWords::load_from(self.mem, Self::block_at(place));
        let mut words = [0; sink::WORDS];
        put_u64(&mut words, sink::ID, block.id);
        words[sink::OWED] = self.owed(place);
        put_u64(&mut words, sink::DELIVERED, block.delivered);
        for (to, lost) in words[sink::LOST..sink::NOTE].chunks_exact_mut(6).zip(block.lost) {
            put_lost(to, lost);
        }
        words[sink::NOTE..].copy_from_slice(&block.note);
        words
    }

    /// Takes in what [`Self::export`] gave out: this queue goes on with what that one owed and had
    /// counted.
    ///
    /// Sinks are found by their ids. What a sink was owed that is not there any more is lost with
    /// removed sinks. When there are more records than fit, the oldest are lost, for a reliable
    /// sink by [`Loss::Policy`], for others by [`Loss::BestEffort`]. The records have serial 0:
    /// they belong to no message of this memory.
    ///
    /// For the time before the first record: a process that is killed meanwhile may leave some
    /// sinks with all of theirs and others with nothing.
    ///
    /// # Errors
    ///
    /// [`Unsound`] if these words are no whole export of this version, or if something is owed
    /// already; nothing is changed.
    pub fn import(&mut self, words: &[u32], now: Instant) -> Result<(), Unsound> {
        let (carried, rest) = Carried::parse(words)?;
        if !rest.is_empty() || !self.is_empty() {
            return Err(Unsound);
        }
        self.take_in(&carried, now);
        Ok(())
    }

    /// Takes in words that are sound. Records are laid behind the tail, so that each sink has all
    /// of its own by one store.
    pub(crate) fn take_in(&mut self, carried: &Carried<'_>, now: Instant) {
        let places = |id: u64| (0..self.sinks).find(|&place| self.id_of(place) == id);
        let known = carried.sinks().map(|sink| (sink, places(sink.id)));
        let known: heapless::Vec<_, MOST_SINKS> = known.collect();
        let owed = known.iter().filter(|(_, place)| place.is_some()).map(|(sink, _)| sink.owed);
        let kept = owed.max().unwrap_or(0).min(self.capacity);
        for n in 0..kept {
            self.lay(n + 1, carried.newest(n), now);
        }
        settle();
        let mut removed = carried.removed();
        for (sink, place) in known {
            match place {
                Some(place) => self.go_on(place, &sink, carried),
                None => removed.add(sink.owed, carried.sum(0, sink.owed)),
            }
        }
        self.add_removed(removed);
        self.count();
    }

    fn id_of(&self, place: usize) -> u64 {
        super::SinkWords::load_from(self.mem, Self::block_at(place)).id
    }

    /// Lays a record so many places behind the tail.
    fn lay(&mut self, behind: u32, words: &[u32], now: Instant) {
        let at = self.slot(self.after(self.tail, self.modulus - behind));
        put_u64(self.mem, at + slot::SERIAL, 0);
        let age_s = words[record::AGE_S];
        self.mem[at + slot::PUSHED_S] = now.as_secs_u32().saturating_sub(age_s);
        self.mem[at + slot::RECORD..at + slot::WORDS].copy_from_slice(&words[record::RECORD..]);
    }

    fn go_on(&mut self, place: usize, sink: &CarriedSink, carried: &Carried<'_>) {
        let kept = sink.owed.min(self.capacity);
        let cause = if self.reliable[place] { Loss::Policy } else { Loss::BestEffort };
        let mut too_many = Lost::default();
        too_many.add(sink.owed - kept, carried.sum(kept, sink.owed));
        let taken = self.after(self.tail, self.modulus - kept);
        (self.taken[place], self.sent[place]) = (taken, taken);
        self.block(place).change(|block: &mut Block| {
            block.taken = taken;
            block.delivered = block.delivered.saturating_add(sink.delivered);
            block.note = sink.note;
            for (lost, before) in block.lost.iter_mut().zip(sink.lost) {
                *lost = lost.and(before);
            }
            let lost = &mut block.lost[cause as usize];
            *lost = lost.and(too_many);
        });
    }
}

/// What was given out of a queue: words that are sound.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Carried<'w> {
    head: &'w [u32],
    sinks: &'w [u32],
    records: &'w [u32],
}

/// A sink as it was.
#[derive(Clone, Copy, Debug)]
struct CarriedSink {
    id: u64,
    owed: u32,
    delivered: u64,
    lost: [Lost; 3],
    note: Note,
}

impl<'w> Carried<'w> {
    /// Looks at all of what an export begins with; what comes after it, too.
    pub(crate) fn parse(words: &'w [u32]) -> Result<(Self, &'w [u32]), Unsound> {
        let (head, rest) = words.split_at_checked(head::WORDS).ok_or(Unsound)?;
        let (sinks, records) = (head[head::SINKS] as usize, head[head::RECORDS]);
        if head[head::VERSION] != VERSION
            || sinks > MOST_SINKS
            || records > *CAPACITIES.end()
            || sinks == 0 && records > 0
        {
            return Err(Unsound);
        }
        let (sinks, rest) = rest.split_at_checked(sinks * sink::WORDS).ok_or(Unsound)?;
        let records = records as usize * record::WORDS;
        let (records, rest) = rest.split_at_checked(records).ok_or(Unsound)?;
        let carried = Self { head, sinks, records };
        if carried.sinks().enumerate().all(|(at, sink)| carried.is_sound(at, &sink)) {
            Ok((carried, rest))
        } else {
            Err(Unsound)
        }
    }

    /// A sink is there once, and is owed no more than there is.
    fn is_sound(&self, at: usize, sink: &CarriedSink) -> bool {
        sink.id != 0
            && sink.owed <= self.head[head::RECORDS]
            && self.sinks().take(at).all(|before| before.id != sink.id)
    }

    fn sinks(&self) -> impl Iterator<Item = CarriedSink> + use<'w> {
        self.sinks.chunks_exact(sink::WORDS).map(|words| CarriedSink {
            id: get_u64(words, sink::ID),
            owed: words[sink::OWED],
            delivered: get_u64(words, sink::DELIVERED),
            lost: core::array::from_fn(|cause| get_lost(&words[sink::LOST + 6 * cause..])),
            note: core::array::from_fn(|n| words[sink::NOTE + n]),
        })
    }

    fn removed(&self) -> Lost {
        get_lost(&self.head[head::REMOVED..])
    }

    /// The words of the newest record, or of the one so many before it, which must be there.
    fn newest(&self, before: u32) -> &'w [u32] {
        let end = self.records.len() - before as usize * record::WORDS;
        &self.records[end - record::WORDS..end]
    }

    /// What those records count that are the newest but for so many, up to so many.
    fn sum(&self, from: u32, to: u32) -> Counters {
        totals((from..to).filter_map(|n| self.newest(n)[record::RECORD..].first_chunk()))
    }
}

fn put_lost(words: &mut [u32], lost: Lost) {
    put_u64(words, 0, lost.records);
    put_u64(words, 2, lost.packets);
    put_u64(words, 4, lost.bytes);
}

fn get_lost(words: &[u32]) -> Lost {
    Lost { records: get_u64(words, 0), packets: get_u64(words, 2), bytes: get_u64(words, 4) }
}

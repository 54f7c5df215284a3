//! What the queue remembers of one sink: how far it has taken records, and what became of them.
//!
//! It stands twice in memory; a change is written to the copy that is not in force, which a store
//! of one word then puts in force. So the counters always belong together.

use crate::wire::Counters;
use crate::words::{get_u64, put_u64, settle};

/// Why a record was lost for a sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Loss {
    /// The sink is best effort and was behind.
    BestEffort = 0,
    /// The queue was full, and `when_full` says to drop the oldest.
    Policy = 1,
    /// The kernel held as many undelivered destroys as `dying_budget_percent` allows.
    DyingBudget = 2,
}

impl Loss {
    /// All causes, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::BestEffort, Self::Policy, Self::DyingBudget];
}

/// Records that were lost, and what they counted in both directions together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Records.
    pub records: u64,
    /// Their packets.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Lost {
    pub(super) fn add(&mut self, records: u32, counters: Counters) {
        let Counters { packets, bytes } = counters;
        *self = self.and(Self { records: u64::from(records), packets, bytes });
    }

    /// Both together.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self {
            records: self.records.saturating_add(other.records),
            packets: self.packets.saturating_add(other.packets),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }
}

/// How a sink stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SinkCount {
    /// Records that it has taken.
    pub delivered: u64,
    /// Records that it is owed, sent ones included.
    pub owed: u32,
    /// Records that were sent and are not acknowledged.
    pub in_flight: u32,
    /// Attempts after a failed one.
    pub retried: u64,
    /// Failed attempts in a row, up to now.
    pub attempts: u32,
    /// When the oldest record that it is owed was put in, in seconds since boot.
    pub oldest_s: Option<u32>,
    /// Records that it will not get, by [`Loss`].
    pub lost: [Lost; 3],
}

/// The words of one sink, read out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Block {
    /// 0 where there is no sink.
    pub(super) id: u64,
    /// Position up to which it has taken records.
    pub(super) taken: u32,
    pub(super) delivered: u64,
    pub(super) lost: [Lost; 3],
    pub(super) note: Note,
}

/// What a sink notes for itself together with how far it has taken records: for a file, where the
/// next line begins. All zero at first.
pub type Note = [u32; 6];

const ID: usize = 0; // two words
const ACTIVE: usize = 2;
const COPIES: usize = 3;
const TAKEN: usize = 0;
const DELIVERED: usize = 1; // two words
const LOST: usize = 3; // six words a cause
const NOTE: usize = LOST + 6 * Loss::ALL.len();
const COPY: usize = NOTE + 6;

impl Block {
    pub(super) const WORDS: usize = COPIES + 2 * COPY;
}

/// Where a block lies.
pub(super) struct SinkWords<'q> {
    words: &'q mut [u32],
}

impl<'q> SinkWords<'q> {
    pub(super) fn at(mem: &'q mut [u32], at: usize) -> Self {
        Self { words: &mut mem[at..at + Block::WORDS] }
    }

    pub(super) fn load(&self) -> Block {
        load(self.words)
    }

    pub(super) fn load_from(mem: &[u32], at: usize) -> Block {
        load(&mem[at..at + Block::WORDS])
    }

    /// Puts another sink in this place.
    pub(super) fn store(&mut self, block: &Block) {
        put_u64(self.words, ID, 0);
        settle();
        self.replace(block);
        put_u64(self.words, ID, block.id);
    }

    /// Changes all but the id, wholly or not at all.
    pub(super) fn change(&mut self, change: impl FnOnce(&mut Block)) {
        let mut block = self.load();
        change(&mut block);
        self.replace(&block);
    }

    fn replace(&mut self, block: &Block) {
        let other = 1 - self.words[ACTIVE] % 2;
        let copy = &mut self.words[COPIES + other as usize * COPY..][..COPY];
        copy[TAKEN] = block.taken;
        put_u64(copy, DELIVERED, block.delivered);
        copy[NOTE..].copy_from_slice(&block.note);
        for (lost, to) in block.lost.iter().zip(copy[LOST..NOTE].chunks_exact_mut(6)) {
            put_u64(to, 0, lost.records);
            put_u64(to, 2, lost.packets);
            put_u64(to, 4, lost.bytes);
        }
        settle();
        self.words[ACTIVE] = other;
        settle();
    }
}

fn load(words: &[u32]) -> Block {
    let copy = &words[COPIES + (words[ACTIVE] % 2) as usize * COPY..][..COPY];
    Block {
        id: get_u64(words, ID),
        taken: copy[TAKEN],
        delivered: get_u64(copy, DELIVERED),
        lost: core::array::from_fn(|cause| {
            let at = |n: usize| get_u64(copy, LOST + 6 * cause + n);
            Lost { records: at(0), packets: at(2), bytes: at(4) }
        }),
        note: core::array::from_fn(|n| copy[NOTE + n]),
    }
}

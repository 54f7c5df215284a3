//! The engine's counters in memory that outlives a worker: two copies, of which a store of one
//! word puts the newer in force.
//!
//! A commit stands between two batches of messages. A worker that follows one that crashed takes
//! the counters up as they were committed, and handles the batch after it again: the messages get
//! the same serials, and records that they made already are known by that (see
//! [`crate::retry::RetryQueue::last_serial`]).

use crate::stats::{Ledger, Stats};
use crate::words::{get_u64, put_u64, settle};

const ACTIVE: usize = 0;
const COPIES: usize = 1;
const SERIAL: usize = 0; // two words
const BATCH: usize = 2;
const COUNTERS: usize = 3;
const COPY: usize = COUNTERS + 2 * (Stats::COUNT + Ledger::COUNT);

/// What was committed last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Committed {
    /// Messages of the destroy socket that were handled, in all.
    pub(super) serial: u64,
    /// The caller's number of the last batch that was handled whole.
    pub(super) batch: u32,
    pub(super) stats: Stats,
    pub(super) ledger: Ledger,
}

/// Where commits lie.
#[derive(Debug)]
pub(super) struct Commits<'m> {
    mem: &'m mut [u32],
}

impl<'m> Commits<'m> {
    pub(super) const WORDS: usize = COPIES + 2 * COPY;

    /// Commits in memory of [`Self::WORDS`] words; zeroed memory holds one of nothing.
    pub(super) fn new(mem: &'m mut [u32]) -> Self {
        Self { mem }
    }

    pub(super) fn load(&self) -> Committed {
        let copy = &self.mem[COPIES + self.active() * COPY..][..COPY];
        let at = |n: usize| get_u64(copy, COUNTERS + 2 * n);
        Committed {
            serial: get_u64(copy, SERIAL),
            batch: copy[BATCH],
            stats: Stats::from_values(core::array::from_fn(at)),
            ledger: Ledger::from_values(core::array::from_fn(|n| at(Stats::COUNT + n))),
        }
    }

    pub(super) fn store(&mut self, new: &Committed) {
        let other = 1 - self.active();
        let copy = &mut self.mem[COPIES + other * COPY..][..COPY];
        put_u64(copy, SERIAL, new.serial);
        copy[BATCH] = new.batch;
        let values = new.stats.values().into_iter().chain(new.ledger.values());
        for (n, value) in values.enumerate() {
            put_u64(copy, COUNTERS + 2 * n, value);
        }
        settle();
        self.mem[ACTIVE] = u32::from(other == 1);
        settle();
    }

    fn active(&self) -> usize {
        (self.mem[ACTIVE] % 2) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_commit_is_in_force_and_comes_back_whole() {
        let mut mem = [0; Commits::WORDS];
        assert_eq!(Commits::new(&mut mem).load(), Committed::default());
        for serial in 1..4 {
            let stats = Stats { events_new: serial * 7, ..Stats::default() };
            let ledger = Ledger { clients_behind: u64::MAX - serial, ..Ledger::default() };
            let committed = Committed { serial: serial << 40, batch: 9, stats, ledger };
            Commits::new(&mut mem).store(&committed);
            assert_eq!(Commits::new(&mut mem).load(), committed);
        }
    }
}

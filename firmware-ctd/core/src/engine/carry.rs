//! What an engine hands on to one in other memory: when sizes or sinks have changed, and over an
//! orderly reboot.
//!
//! ```text
//! | version | the queue | keys of records: how many, newest first | counters: how many, name and value |
//! ```
//!
//! Counters go by the hash of their names ([`Stats::IDS`]), so that another version of this program
//! takes up those that it knows. Flows are not here: they are saved one by one.

use super::Engine;
use crate::retry::{Carried, Unsound};
use crate::stats::{Ledger, Stats};
use crate::time::Instant;
use crate::words::{get_u64, halves};

const VERSION: u32 = 1;
/// Words of a counter: its name's hash and its value.
const COUNTER: usize = 3;
/// No counter reaches this: in words that say so something else stands.
const MOST: u64 = 1 << 62;

/// Words that are sound, cut into their parts.
struct Parts<'w> {
    queue: Carried<'w>,
    keys: &'w [u32],
    counters: &'w [u32],
}

impl Engine<'_> {
    /// Gives out what is owed to sinks, the keys of records that were made, and all counters, as
    /// words, piece by piece.
    pub fn export(&self, now: Instant, out: &mut dyn FnMut(&[u32])) {
        self.export_keys(now, usize::MAX, out);
    }

    /// The same without keys, for another boot: no flow of it can have one of them, since the id of
    /// the boot is a part of each. They would be most of an image in flash.
    pub fn export_over_reboot(&self, now: Instant, out: &mut dyn FnMut(&[u32])) {
        self.export_keys(now, 0, out);
    }

    fn export_keys(&self, now: Instant, most: usize, out: &mut dyn FnMut(&[u32])) {
        out(&[VERSION]);
        self.queue.export(now, out);
        let keys = self.recent.newest_first().take(most).count();
        out(&[u32::try_from(keys).unwrap_or(0)]);
        for key in self.recent.newest_first().take(most) {
            out(&halves(key));
        }
        out(&[u32::try_from(Stats::COUNT + Ledger::COUNT).unwrap_or(0)]);
        let values = self.stats.values().into_iter().chain(self.ledger.values());
        for (id, value) in Stats::IDS.into_iter().chain(Ledger::IDS).zip(values) {
            let [low, high] = halves(value);
            out(&[id, low, high]);
        }
    }

    /// Takes in what [`Self::export`] gave out, into an engine that was just made: see
    /// [`RetryQueue::import`](crate::retry::RetryQueue::import) for what becomes of records that do
    /// not fit, and of sinks that are not there. Keys that do not fit are forgotten, the oldest
    /// first; counters are added.
    ///
    /// # Errors
    ///
    /// [`Unsound`] if these words are no whole export that this version understands, or if
    /// something is owed already; nothing is changed.
    pub fn import(&mut self, words: &[u32], now: Instant) -> Result<(), Unsound> {
        let parts = parse(words).filter(|_| self.queue.is_empty()).ok_or(Unsound)?;
        self.queue.take_in(&parts.queue, now);
        for key in parts.keys.rchunks_exact(2) {
            self.recent.insert(get_u64(key, 0));
        }
        self.stats = Stats::from_values(sums(self.stats.values(), &Stats::IDS, parts.counters));
        self.ledger = Ledger::from_values(sums(self.ledger.values(), &Ledger::IDS, parts.counters));
        self.commit(self.committed_batch());
        Ok(())
    }
}

fn sums<const N: usize>(mut sums: [u64; N], ids: &[u32; N], counters: &[u32]) -> [u64; N] {
    for counter in counters.chunks_exact(COUNTER) {
        if let Some(at) = ids.iter().position(|id| *id == counter[0]) {
            sums[at] = sums[at].saturating_add(get_u64(counter, 1)).min(MOST);
        }
    }
    sums
}

fn parse(words: &[u32]) -> Option<Parts<'_>> {
    let rest = words.strip_prefix(&[VERSION])?;
    let (queue, rest) = Carried::parse(rest).ok()?;
    let (keys, rest) = counted(rest, 2)?;
    let (counters, rest) = counted(rest, COUNTER)?;
    let possible = counters.chunks_exact(COUNTER).all(|counter| get_u64(counter, 1) < MOST);
    (rest.is_empty() && possible).then_some(Parts { queue, keys, counters })
}

/// A count, and as many things of so many words; what comes after them.
fn counted(words: &[u32], each: usize) -> Option<(&[u32], &[u32])> {
    let (&count, rest) = words.split_first()?;
    rest.split_at_checked((count as usize).checked_mul(each)?)
}

//! What was destroyed not long ago: keys of records, so that the kernel's repeats reach a sink
//! once, and tombstones, so that late events and stale dump entries make no ghosts.
//!
//! Both are set-associative: a hash chooses a small set, in which the newest takes the place of
//! the oldest. Memory and time are fixed, what is remembered is exact (no false positives), how
//! long depends on what falls into the same set.
//!
//! The kernel repeats a DESTROY to every listener while any one listener's buffer is full, so as
//! many keys are worth remembering as the kernel may hold undelivered.

use crate::record::{Record, RecordKey};
use crate::words::{get_u64, halves};

/// Keys of one set.
const WAYS: usize = 16;
/// Words of one set: the keys and the place of the oldest.
const SET_WORDS: usize = 2 * WAYS + 1;

/// The keys of records that were given out.
#[derive(Debug)]
pub(super) struct RecentKeys<'m> {
    mem: &'m mut [u32],
    sets: usize,
}

impl<'m> RecentKeys<'m> {
    /// How many words it takes to remember about `keys` keys.
    pub(super) const fn words(keys: u32) -> usize {
        (keys as usize).div_ceil(WAYS) * SET_WORDS
    }

    /// An empty memory, in zeroed words of the size that [`Self::words`] tells.
    pub(super) fn new(mem: &'m mut [u32]) -> Self {
        let sets = mem.len() / SET_WORDS;
        Self { mem, sets }
    }

    /// Whether the key was given to [`Self::insert`] not long ago.
    pub(super) fn contains(&self, key: u64) -> bool {
        let (at, pair) = self.place(key);
        self.mem[at..at + 2 * WAYS].chunks_exact(2).any(|way| way == pair)
    }

    /// Remembers a key, and forgets the oldest of its set.
    pub(super) fn insert(&mut self, key: u64) {
        let (at, pair) = self.place(key);
        let oldest = self.mem[at + 2 * WAYS] as usize % WAYS;
        self.mem[at + 2 * oldest..at + 2 * oldest + 2].copy_from_slice(&pair);
        self.mem[at + 2 * WAYS] = u32::try_from((oldest + 1) % WAYS).unwrap_or(0);
    }

    /// Remembers the keys of records of which it is not known whether they are.
    pub(super) fn remember(&mut self, records: impl Iterator<Item = Record>) {
        for record in records {
            if let RecordKey::Strong(key) = record.key {
                if !self.contains(key) {
                    self.insert(key);
                }
            }
        }
    }

    /// All that is remembered, the newest of each set first: so the newer half of all comes before
    /// most of the older one.
    pub(super) fn newest_first(&self) -> impl Iterator<Item = u64> + '_ {
        (0..WAYS).flat_map(move |age| {
            let sets = self.mem.chunks_exact(SET_WORDS);
            let keys = sets.map(move |set| get_u64(set, 2 * nth_newest(set, age)));
            keys.filter(|&key| key != 0)
        })
    }

    /// First word of the key's set, and the words that stand for it: never both zero, which is
    /// what an empty place holds.
    fn place(&self, key: u64) -> (usize, [u32; 2]) {
        let [low, high] = halves(key.max(1));
        (scale(high, self.sets) * SET_WORDS, [low, high])
    }
}

/// Which way of a set is the newest, or so many before it.
fn nth_newest(set: &[u32], age: usize) -> usize {
    (set[2 * WAYS] as usize % WAYS + 2 * WAYS - 1 - age) % WAYS
}

/// What is remembered of a destroyed flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tombstone {
    /// Hash of tuple and zone, as the table keeps it.
    pub(super) hash: u32,
    /// `CTA_ID`.
    pub(super) id: u32,
    /// When it ended, wall clock in nanoseconds by the kernel's timestamps; 0 is unknown.
    pub(super) stop_ns: u64,
    /// When the daemon was told, in seconds since boot.
    pub(super) at_s: u32,
}

const TOMBSTONE_SETS: usize = 256;
const TOMBSTONE_WAYS: usize = 4;
const TOMBSTONE_WORDS: usize = 5;

/// A fixed number of tombstones.
#[derive(Debug)]
pub(super) struct Tombstones<'m> {
    mem: &'m mut [u32],
}

impl<'m> Tombstones<'m> {
    /// How many words the tombstones take.
    pub(super) const WORDS: usize = TOMBSTONE_SETS * TOMBSTONE_WAYS * TOMBSTONE_WORDS;

    /// No tombstones, in [`Self::WORDS`] zeroed words.
    pub(super) fn new(mem: &'m mut [u32]) -> Self {
        Self { mem }
    }

    /// The newest tombstone with this hash and id.
    pub(super) fn find(&self, hash: u32, id: u32) -> Option<Tombstone> {
        let at = Self::set(hash, id);
        self.mem[at..at + TOMBSTONE_WAYS * TOMBSTONE_WORDS]
            .chunks_exact(TOMBSTONE_WORDS)
            .map(load)
            .find(|stone| stone.hash == hash && stone.id == id && stone.at_s != 0)
    }

    /// Sets a tombstone, in the place of an earlier one with this hash and id if there is one, else
    /// of the oldest of its set.
    pub(super) fn insert(&mut self, stone: Tombstone) {
        let at = Self::set(stone.hash, stone.id);
        let set = &mut self.mem[at..at + TOMBSTONE_WAYS * TOMBSTONE_WORDS];
        let place = set
            .chunks_exact(TOMBSTONE_WORDS)
            .position(|words| words[..2] == [stone.hash, stone.id])
            .unwrap_or(TOMBSTONE_WAYS - 1);
        set.copy_within(..place * TOMBSTONE_WORDS, TOMBSTONE_WORDS);
        let [stop_low, stop_high] = halves(stone.stop_ns);
        set[..TOMBSTONE_WORDS].copy_from_slice(&[
            stone.hash,
            stone.id,
            stop_low,
            stop_high,
            stone.at_s.max(1),
        ]);
    }

    /// The id has a part in it, so that flows which follow one another in one tuple do not push
    /// each other out.
    fn set(hash: u32, id: u32) -> usize {
        scale(hash ^ id, TOMBSTONE_SETS) * TOMBSTONE_WAYS * TOMBSTONE_WORDS
    }
}

fn load(words: &[u32]) -> Tombstone {
    Tombstone { hash: words[0], id: words[1], stop_ns: get_u64(words, 2), at_s: words[4] }
}

/// Scales a 32-bit hash to `0..count`.
fn scale(hash: u32, count: usize) -> usize {
    usize::try_from((u64::from(hash) * count as u64) >> 32).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Distributes like a hash of the number does.
    fn spread(n: u64) -> u64 {
        n.wrapping_add(1)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(31)
            .wrapping_mul(0xd134_2543_de82_ef95)
    }

    #[test]
    fn the_last_half_is_remembered_almost_whole_and_nothing_else_is_claimed() {
        let keys = 4096;
        let mut mem = vec![0; RecentKeys::words(keys)];
        let mut recent = RecentKeys::new(&mut mem);
        for n in 0..20_000 {
            assert!(!recent.contains(spread(n)), "never inserted: {n}");
            recent.insert(spread(n));
        }
        let remembered = (20_000 - 2048..20_000).filter(|&n| recent.contains(spread(n))).count();
        assert!(remembered > 2000, "{remembered} of 2048");
        assert!((20_000..60_000).all(|n| !recent.contains(spread(n))));
    }

    #[test]
    fn what_is_carried_into_another_memory_is_the_newest() {
        let mut mem = vec![0; RecentKeys::words(4096)];
        let mut recent = RecentKeys::new(&mut mem);
        for n in 0..9_000 {
            recent.insert(spread(n));
        }
        let all: Vec<u64> = recent.newest_first().collect();
        assert_eq!(all.len(), 4096, "every place is taken");
        let carried = |keys: u32, newest: std::ops::Range<u64>| {
            let mut mem = vec![0; RecentKeys::words(keys)];
            let mut other = RecentKeys::new(&mut mem);
            all.iter().rev().for_each(|&key| other.insert(key));
            assert!((0..9_000).all(|n| !other.contains(spread(n)) || recent.contains(spread(n))));
            newest.filter(|&n| other.contains(spread(n))).count()
        };
        assert_eq!(carried(8192, 0..9_000), 4096, "into a larger one goes all");
        let half = carried(1024, 9_000 - 512..9_000);
        assert!(half > 450, "{half} of 512");
    }

    #[test]
    fn the_zero_key_is_not_found_in_an_empty_memory() {
        let mut mem = vec![0; RecentKeys::words(16)];
        let mut recent = RecentKeys::new(&mut mem);
        assert!(!recent.contains(0));
        recent.insert(0);
        assert!(recent.contains(0));
    }

    #[test]
    fn a_tombstone_needs_hash_and_id() {
        let mut mem = vec![0; Tombstones::WORDS];
        let mut stones = Tombstones::new(&mut mem);
        let stone = Tombstone { hash: 0x9000_0001, id: 7, stop_ns: u64::MAX - 1, at_s: 3 };
        stones.insert(stone);
        assert_eq!(stones.find(0x9000_0001, 7), Some(stone));
        assert_eq!(stones.find(0x9000_0001, 8), None);
        assert_eq!(stones.find(0x9000_0002, 7), None);
        assert_eq!(stones.find(0, 0), None);
    }

    #[test]
    fn the_newest_of_two_tombstones_is_found() {
        let mut mem = vec![0; Tombstones::WORDS];
        let mut stones = Tombstones::new(&mut mem);
        for stop_ns in [1, 2] {
            stones.insert(Tombstone { hash: 1, id: 7, stop_ns, at_s: 1 });
        }
        assert_eq!(stones.find(1, 7).unwrap().stop_ns, 2);
    }

    #[test]
    fn flows_that_follow_one_another_in_one_tuple_are_all_remembered() {
        let mut mem = vec![0; Tombstones::WORDS];
        let mut stones = Tombstones::new(&mut mem);
        let ids: Vec<u32> = (0..20).map(|n: u32| n.wrapping_mul(0x9e37_79b9)).collect();
        for &id in &ids {
            stones.insert(Tombstone { hash: 5, id, stop_ns: 1, at_s: 1 });
        }
        assert!(ids.iter().all(|&id| stones.find(5, id).is_some()));
    }

    #[test]
    fn a_tuple_that_dies_again_and_again_pushes_no_other_out() {
        let mut mem = vec![0; Tombstones::WORDS];
        let mut stones = Tombstones::new(&mut mem);
        stones.insert(Tombstone { hash: 1, id: 8, stop_ns: 5, at_s: 1 });
        for stop_ns in 0..10 {
            stones.insert(Tombstone { hash: 2, id: 7, stop_ns, at_s: 1 });
        }
        assert_eq!(stones.find(1, 8).unwrap().stop_ns, 5);
        assert_eq!(stones.find(2, 7).unwrap().stop_ns, 9);
    }
}

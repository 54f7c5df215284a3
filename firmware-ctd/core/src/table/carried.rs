//! What a flow carries on from before: counts that the kernel has no more, its true start, and when
//! both were last known.
//!
//! A flow that was made again after a reboot has all of it; one whose counters somebody zeroed has
//! counts. It lies in a cell of the common store, which is linked to the flow by one store of a
//! word when it is whole. Counts that are there already only grow, in place and word by word, so
//! that a process killed meanwhile leaves less than the sum and never more.

use super::layout::{CARRIED, CELLS_IPV4, carry as word};
use super::{FlowTable, Full, Slot, header};
use crate::wire::Counters;
use crate::words::{get_u64, halves, settle};

/// What a flow carries on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// Counts that are to be added to what the kernel counts, original and reply.
    pub base: Option<[Counters; 2]>,
    /// Start over all boots, wall clock in milliseconds.
    pub start_ms: Option<u64>,
    /// When it was saved, wall clock in milliseconds.
    pub as_of_ms: Option<u64>,
}

const BASE: u32 = 1;
const START: u32 = 1 << 1;
const AS_OF: u32 = 1 << 2;

impl Carried {
    /// Whether there is anything to store.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn store(&self, words: &mut [u32]) {
        let [orig, reply] = self.base.unwrap_or_default();
        let counts = [orig.packets, orig.bytes, reply.packets, reply.bytes];
        let times = [self.start_ms.unwrap_or(0), self.as_of_ms.unwrap_or(0)];
        let flag = |is: bool, bit: u32| if is { bit } else { 0 };
        for (to, value) in
            words[..word::PRESENT].chunks_exact_mut(2).zip(counts.iter().chain(&times))
        {
            let [low, high] = halves(*value);
            // The low half first: what has only that is less.
            to[0] = low;
            settle();
            to[1] = high;
            settle();
        }
        words[word::PRESENT] = flag(self.base.is_some(), BASE)
            | flag(self.start_ms.is_some(), START)
            | flag(self.as_of_ms.is_some(), AS_OF);
    }

    pub(super) fn load(words: &[u32]) -> Self {
        let has = |bit: u32| words[word::PRESENT] & bit != 0;
        let base = |at: usize| Counters {
            packets: get_u64(words, word::BASE + at),
            bytes: get_u64(words, word::BASE + at + 2),
        };
        Self {
            base: has(BASE).then(|| [base(0), base(4)]),
            start_ms: has(START).then(|| get_u64(words, word::START)),
            as_of_ms: has(AS_OF).then(|| get_u64(words, word::AS_OF)),
        }
    }
}

impl FlowTable<'_> {
    /// Stores what a flow carries on; nothing takes no room.
    ///
    /// # Errors
    ///
    /// [`Full`] if the flow carried nothing yet and there is no cell; nothing is changed.
    pub fn set_carried(&mut self, slot: Slot, carried: &Carried) -> Result<(), Full> {
        let link = self.body_extension(slot);
        let before = self.mem[link];
        if carried.is_empty() {
            self.drop_carried(slot);
        } else if before & CARRIED != 0 {
            let at = self.layout.cell(before & !CARRIED);
            carried.store(&mut self.mem[at..=at + word::PRESENT]);
        } else {
            if self.cells == self.mem[header::CELLS_USED] {
                return Err(Full);
            }
            let cell = self.take_cell();
            let at = self.layout.cell(cell);
            carried.store(&mut self.mem[at..=at + word::PRESENT]);
            self.mem[at + word::EXTENSION] = before;
            settle();
            self.mem[link] = CARRIED | cell;
        }
        Ok(())
    }

    /// The flow carries nothing any more.
    pub(super) fn drop_carried(&mut self, slot: Slot) {
        let link = self.body_extension(slot);
        let reference = self.mem[link];
        if reference & CARRIED != 0 {
            let cell = reference & !CARRIED;
            self.mem[link] = self.mem[self.layout.cell(cell) + word::EXTENSION];
            settle();
            self.return_cell(cell);
        }
    }
}

const _: () = assert!(super::MAX_CAPACITY as u64 * (CELLS_IPV4 as u64) < CARRIED as u64);

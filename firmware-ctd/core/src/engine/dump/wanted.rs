//! Dumps for a save: what is saved of a flow must be of now.

use super::{BACKOFF_MIN, Cycle, Phase, QUIET};
use crate::engine::Engine;
use crate::table::{Slot, flag};
use crate::time::Instant;

/// Tells a wish for a dump from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DumpWish {
    /// The first dump that began after it.
    seq: u32,
    generation: u16,
    /// Failed dumps before it.
    failed: u64,
}

/// How it stands with a dump that somebody waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WishedDump {
    /// It has not begun, or is under way.
    Pending {
        /// Dumps that have failed meanwhile; each is made again after a wait.
        failed: u64,
    },
    /// It is complete: what it showed is in the table.
    Done,
}

impl Cycle {
    /// Somebody waits for a dump: the sweep after the last one is not made.
    pub(super) fn give_up_sweep(&mut self, now: Instant) {
        self.phase = Phase::Idle;
        self.complete = true;
        self.judge_from = now + QUIET;
    }
}

impl Engine<'_> {
    /// Wants a dump that begins from now on, as soon as the one under way (if any) is over, both at
    /// full speed. A sweep that is due is not made, since it may wait for room in the queue for as
    /// long as a collector is away; the sweep after the new dump does its work.
    pub fn want_dump(&mut self, now: Instant) -> DumpWish {
        let cycle = &mut self.cycle;
        cycle.save = true;
        cycle.not_before = cycle.not_before.min(now);
        cycle.backoff = BACKOFF_MIN;
        if let Phase::Dumping { read_at, .. } = &mut cycle.phase {
            *read_at = now.min(*read_at);
        }
        DumpWish {
            // As a dump that begins counts on.
            seq: cycle.seq.wrapping_add(1).max(1),
            generation: cycle.generation.wrapping_add(1),
            failed: self.stats.dumps_failed,
        }
    }

    /// How it stands with a dump that was wanted.
    #[must_use]
    pub fn wished_dump(&self, wish: &DumpWish) -> WishedDump {
        let ahead = self.cycle.done_seq.wrapping_sub(wish.seq);
        if self.cycle.done_seq != 0 && ahead <= u32::MAX / 2 {
            return WishedDump::Done;
        }
        let failed = self.stats.dumps_failed.saturating_sub(wish.failed);
        WishedDump::Pending { failed }
    }

    /// Whether a flow has been shown, by a dump or an event, since a dump was wanted that is done.
    #[must_use]
    pub fn has_shown(&self, wish: &DumpWish, slot: Slot) -> bool {
        let flow = self.table.flow(slot);
        let ahead = flow.generation().wrapping_sub(wish.generation);
        ahead <= u16::MAX / 2 && !flow.has(flag::MISSED)
    }
}

//! What a save is given of the flows, and which it has been given.
//!
//! A flow that was given to the save under way is marked in the table, so that none is given twice,
//! whatever a dump shows twice, and however the worth of a flow changes meanwhile. A flow that
//! begins later has no mark.

use super::Engine;
use super::apply::{counters_of, start_of_flow};
use crate::checkpoint::SavedFlow;
use crate::table::{Slot, flag};
use crate::time::{Now, millis};

impl Engine<'_> {
    /// What a checkpoint keeps of a flow. Whether it is worth keeping (a flow that is
    /// [`flag::MISSED`], [`flag::DOUBTFUL`] or [`flag::REPLACED`] may be dead) is the caller's
    /// decision.
    #[must_use]
    pub fn saved_flow(&self, now: Now, slot: Slot) -> SavedFlow {
        let flow = self.table.flow(slot);
        let carried = flow.carried();
        SavedFlow {
            orig: flow.orig(),
            reply: flow.reply(),
            zone: flow.zone(),
            zone_orig_only: flow.has(flag::ZONE_ORIG_ONLY),
            status: flow.status(),
            mark: flow.mark(),
            timeout_s: flow.expires_s().map(|at_s| at_s.saturating_sub(now.boot.as_secs_u32())),
            l4_state: flow.l4_state(),
            counters: counters_of(&flow, &carried),
            inexact: flow.has(flag::INEXACT),
            start_ms: start_of_flow(&flow, &carried).map(millis),
            rare: flow.extension(),
        }
    }

    /// Marks a flow as given to the save that is under way, or takes the mark off.
    pub fn mark_saved(&mut self, slot: Slot, saved: bool) {
        let (set, clear) = if saved { (flag::SAVED, 0) } else { (0, flag::SAVED) };
        self.table.flow_mut(slot).change_flags(set, clear);
    }

    /// Takes all such marks off: a save broke off before it could.
    pub fn unmark_saved(&mut self) {
        self.table.change_all(|mut flow| flow.change_flags(0, flag::SAVED));
    }

    /// The flow that the last message showed, if it was an entry of a dump: what it tells is in the
    /// table.
    #[must_use]
    pub const fn shown(&self) -> Option<Slot> {
        self.shown
    }
}

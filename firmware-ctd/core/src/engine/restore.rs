//! Flows that were saved before a reboot, taken into the table again.
//!
//! A recalled flow is a *claim* until a dump shows it. What it has counted before, its true start
//! and the time of the checkpoint are carried in the table ([`Carried`]); the kernel's own counters
//! and start begin anew, and go on being what a flow is recognised by.
//!
//! When no message means a claim it ended between the save and the first dump, unheard: it is
//! missed by two dumps like any other flow and then reported, with [`Cause::Restart`], the counters
//! that were saved, and the time of the checkpoint. So is what the kernel refused to make again.
//! Should another flow have begun with the tuple of one that ended meanwhile, then its start is
//! after the recall: it gets nothing of what the claim carries. Without `nf_conntrack_timestamp`
//! nothing tells the two apart, and the claim is taken for confirmed.
//!
//! [`Cause::Restart`]: crate::record::Cause::Restart

use super::Engine;
use super::events::start_of;
use crate::checkpoint::SavedFlow;
use crate::table::{Carried, Full, Slot, flag};
use crate::time::Now;
use crate::wire::Conntrack;

impl Engine<'_> {
    /// Takes a saved flow into the table: before the first dump, and soon after the kernel has made
    /// it again. `saved_ms` is when it was saved (wall clock in milliseconds). With `made` false,
    /// the kernel has it not: it is reported in the end, and never taken for a flow that lives.
    ///
    /// To recall a flow once more, after a crash, is harmless: what the kernel has been heard to
    /// hold meanwhile stays as it is, and a claim that was made stays made. When the table has room for the flow but not for what
    /// it carries, it goes without: inexact, and counted (`carried_full`).
    ///
    /// # Errors
    ///
    /// [`Full`] if the table has no room for the flow; counted (`table_full`).
    pub fn recall(
        &mut self,
        now: Now,
        saved: &SavedFlow,
        saved_ms: u64,
        made: bool,
    ) -> Result<(), Full> {
        self.clock.look(now);
        let key = self.table.key(&saved.orig, saved.zone);
        // A claim from the start, should the process be killed before the end.
        let claim = flag::RESTORED | flag::UNHEARD;
        let slot = match self.table.find(&key) {
            Some(slot) if !self.table.flow(slot).has(claim) => return Ok(()),
            Some(slot) => slot,
            None => self.begin(None, &key, claim).ok_or(Full)?,
        };
        self.table.begin_change(slot);
        if made {
            self.table.flow_mut(slot).set_start(now.wall.as_nanos(), flag::START_EVENT);
        }
        let carried =
            Carried { base: saved.counters, start_ms: saved.start_ms, as_of_ms: Some(saved_ms) };
        self.carry(slot, &carried);
        self.set_rare(slot, &saved.rare);
        let generation = self.cycle.generation();
        let mut flow = self.table.flow_mut(slot);
        flow.set_generation(generation);
        flow.set_reply(&saved.reply);
        flow.set_status(saved.status);
        flow.set_mark(saved.mark);
        flow.set_as_of_s(now.boot.as_secs_u32());
        if let Some(timeout_s) = saved.timeout_s {
            flow.set_expires_s(now.boot.as_secs_u32().saturating_add(timeout_s));
        }
        if let Some(state) = saved.l4_state {
            flow.set_l4_state(state);
        }
        let inexact = if saved.inexact { flag::INEXACT } else { 0 };
        let zone = if saved.zone_orig_only { flag::ZONE_ORIG_ONLY } else { 0 };
        flow.change_flags(inexact | zone, 0);
        self.table.end_change();
        Ok(())
    }

    /// A dump shows the flow. If that was a claim, its start is of this boot now, or not known.
    pub(super) fn confirm_restored(&mut self, slot: Slot, ct: &Conntrack<'_>) {
        if self.table.flow(slot).has(flag::RESTORED) {
            let mut flow = self.table.flow_mut(slot);
            if start_of(ct).is_none() {
                flow.set_start(0, 0);
            }
            flow.change_flags(0, flag::RESTORED);
        }
    }
}

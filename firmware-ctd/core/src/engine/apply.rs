//! What a message says goes into the table; what the table holds becomes a record.

use super::Engine;
use super::events::{runs_backwards, start_of, sum, wall_of, zone_of};
use crate::checkpoint::account;
use crate::record::{Cause, Kind, Record};
use crate::table::{Carried, Extension, FlowRef, L4State, Slot, flag, padded};
use crate::time::{NANOS_PER_MILLI, Now};
use crate::wire::{Conntrack, Counters, Labels, ProtoInfo, Sctp, SeqAdj, SynProxy, Tcp};

impl Engine<'_> {
    /// Notes all that the message tells of a flow, and that it lives.
    pub(super) fn apply(&mut self, slot: Slot, ct: &Conntrack<'_>) {
        self.table.begin_change(slot);
        self.apply_parts(slot, ct);
        self.table.end_change();
    }

    fn apply_parts(&mut self, slot: Slot, ct: &Conntrack<'_>) {
        self.apply_counters(slot, ct);
        if self.table.flow(slot).has(flag::MISSED) {
            self.cycle.found_missed();
        }
        let (generation, second) = (self.cycle.generation(), self.clock.second());
        let mut flow = self.table.flow_mut(slot);
        flow.set_generation(generation);
        flow.change_flags(0, flag::MISSED | flag::UNHEARD);
        if let Some(reply) = &ct.reply {
            flow.set_reply(reply);
        }
        if let Some(id) = ct.id {
            flow.set_id(id);
        }
        if let Some(status) = ct.status {
            flow.set_status(status);
        }
        if let Some(mark) = ct.mark {
            flow.set_mark(mark);
        }
        if let Some(timeout_s) = ct.timeout_s {
            flow.set_expires_s(second.saturating_add(timeout_s));
        }
        if let Some(start_ns) = start_of(ct) {
            flow.set_start(start_ns, flag::START_EXACT);
        }
        if let Some(state) = l4_state_of(ct) {
            flow.set_l4_state(state);
        }
        if ct.zone.is_none() && ct.zone_orig.is_some() {
            flow.change_flags(flag::ZONE_ORIG_ONLY, 0);
        }
        if has_rare(ct) || self.table.flow(slot).has_extension() {
            self.change_extension(slot, |extension| apply_rare(extension, ct));
        }
    }

    /// Takes over counters. When they run backwards, somebody zeroed them: what was counted before
    /// is kept as a base, and the sums are a lower bound from then on.
    fn apply_counters(&mut self, slot: Slot, ct: &Conntrack<'_>) {
        let (flow, second) = (self.table.flow(slot), self.clock.second());
        let (Some(orig), Some(reply)) = (&ct.counters_orig, &ct.counters_reply) else {
            if !flow.has(flag::COUNTERS) {
                // Where nothing was counted yet, it is when the flow was last known to live.
                self.table.flow_mut(slot).set_as_of_s(second);
            }
            return;
        };
        let (told, old) = ([*orig, *reply], flow.counters());
        if flow.has(flag::COUNTERS) && runs_backwards(old, told) {
            if !flow.has(flag::INEXACT) {
                self.stats.inexact_flows += 1;
            }
            self.table.flow_mut(slot).change_flags(flag::INEXACT, 0);
            let carried = self.table.flow(slot).carried();
            let base = Some(sum(carried.base.unwrap_or_default(), old));
            self.carry(slot, &Carried { base, ..carried });
        }
        let mut flow = self.table.flow_mut(slot);
        flow.set_counters(told);
        flow.set_as_of_s(second);
    }

    /// Notes what a flow carries on from before; without, its sums are a lower bound.
    pub(super) fn carry(&mut self, slot: Slot, carried: &Carried) {
        if self.table.set_carried(slot, carried).is_err() {
            if !self.table.flow(slot).has(flag::CARRIED_LOST) {
                self.ledger.carried_full += 1;
            }
            self.table.flow_mut(slot).change_flags(flag::CARRIED_LOST | flag::INEXACT, 0);
        }
    }

    fn change_extension(&mut self, slot: Slot, change: impl FnOnce(&mut Extension)) {
        let old = self.table.flow(slot).extension();
        let mut new = old;
        change(&mut new);
        if new != old {
            self.set_rare(slot, &new);
        }
    }

    pub(super) fn set_rare(&mut self, slot: Slot, extension: &Extension) {
        if self.table.set_extension(slot, extension).is_err() {
            if !self.table.flow(slot).has(flag::EXTENSION_LOST) {
                self.ledger.extensions_full += 1;
            }
            self.table.flow_mut(slot).change_flags(flag::EXTENSION_LOST, 0);
        }
    }

    /// A flow of the table, for whoever asks.
    #[must_use]
    pub fn flow_record(&self, now: Now, slot: Slot) -> Record {
        self.record_of(now, slot, Kind::Flow, Cause::Event)
    }

    /// What the table knows of a flow, as a record.
    pub(super) fn record_of(&self, now: Now, slot: Slot, kind: Kind, cause: Cause) -> Record {
        let flow = self.table.flow(slot);
        let exact = self.exact_start(slot);
        let key = self.table.key_of(slot);
        let (extension, carried) = (flow.extension(), flow.carried());
        let ended = kind == Kind::Destroy;
        Record {
            kind,
            cause,
            key: self.keys.key(&key, exact),
            flow: if ended { 0 } else { self.keys.flow(&key, flow.id()) },
            account: carried.start_ms.map(|start_ms| account(&flow.orig(), flow.zone(), start_ms)),
            start_ns: start_of_flow(&flow, &carried),
            end_ns: ended.then_some(now.wall.as_nanos()),
            as_of_ns: ended.then(|| as_of(now, &flow, &carried)),
            orig: flow.orig(),
            reply: flow.reply(),
            counters: counters_of(&flow, &carried),
            inexact: flow.has(flag::INEXACT),
            zone: flow.zone(),
            mark: flow.mark(),
            id: flow.id(),
            status: flow.status(),
            timeout_s: (kind == Kind::Flow)
                .then(|| flow.expires_s())
                .flatten()
                .map(|at_s| at_s.saturating_sub(now.boot.as_secs_u32())),
            l4_state: flow.l4_state(),
            helper: extension.helper,
            labels: extension.labels,
        }
    }
}

/// All that was counted, as far as it is known.
pub(super) fn counters_of(flow: &FlowRef<'_>, carried: &Carried) -> Option<[Counters; 2]> {
    if flow.has(flag::COUNTERS) {
        return Some(sum(flow.counters(), carried.base.unwrap_or_default()));
    }
    carried.base
}

/// The start over all boots. The time when a flow was restored is no start.
pub(super) fn start_of_flow(flow: &FlowRef<'_>, carried: &Carried) -> Option<u64> {
    let here = Some(flow.start_ns()).filter(|&start| start != 0 && !flow.has(flag::RESTORED));
    carried.start_ms.map(|ms| ms.saturating_mul(NANOS_PER_MILLI)).or(here)
}

/// When the counters were last told, or, where none ever were, when the flow was last known to
/// live: before the reboot, if this boot's kernel has told nothing yet.
fn as_of(now: Now, flow: &FlowRef<'_>, carried: &Carried) -> u64 {
    let counted_here = flow.has(flag::COUNTERS);
    let heard_of = !flow.has(flag::RESTORED | flag::UNHEARD);
    match carried.as_of_ms {
        Some(ms) if !counted_here && (carried.base.is_some() || !heard_of) => {
            ms.saturating_mul(NANOS_PER_MILLI)
        }
        _ => wall_of(now, flow.as_of_s()),
    }
}

/// The state of TCP or SCTP that a message tells.
pub(super) fn l4_state_of(ct: &Conntrack<'_>) -> Option<L4State> {
    match ct.protoinfo {
        ProtoInfo::Tcp(tcp) => tcp.state.map(|state| L4State {
            state: state.0,
            wscales: wscales(&tcp),
            flags_orig: tcp.flags_orig.unwrap_or_default().flags,
            flags_reply: tcp.flags_reply.unwrap_or_default().flags,
        }),
        ProtoInfo::Sctp(sctp) => sctp.state.map(|state| L4State { state, ..L4State::default() }),
        ProtoInfo::Dccp(_) | ProtoInfo::None => None,
    }
}

/// Both window scales in a byte: at most 14 each (RFC 7323, section 2.3).
fn wscales(tcp: &Tcp) -> u8 {
    let nibble = |scale: Option<u8>| scale.unwrap_or(0).min(15);
    nibble(tcp.wscale_orig) | nibble(tcp.wscale_reply) << 4
}

/// Whether a message has any of what is kept in extensions.
///
/// Flows that were made through ctnetlink have room for labels, adjustments and a SYN proxy, all
/// zero: that is as good as none.
fn has_rare(ct: &Conntrack<'_>) -> bool {
    ct.labels.is_some_and(|labels| labels != Labels::default())
        || ct.helper.is_some()
        || ct.master.is_some()
        || ct.seqadj_orig.is_some_and(|adjusted| adjusted != SeqAdj::default())
        || ct.seqadj_reply.is_some_and(|adjusted| adjusted != SeqAdj::default())
        || ct.synproxy.is_some_and(|synproxy| synproxy != SynProxy::default())
        || ct.zone_reply.is_some()
        || vtags(ct).is_some()
}

fn apply_rare(extension: &mut Extension, ct: &Conntrack<'_>) {
    take_over(&mut extension.labels, ct.labels);
    take_over(&mut extension.seqadj_orig, ct.seqadj_orig);
    take_over(&mut extension.seqadj_reply, ct.seqadj_reply);
    take_over(&mut extension.synproxy, ct.synproxy);
    extension.helper = ct.helper.map(|helper| padded(helper.name)).or(extension.helper);
    extension.master = ct.master.or(extension.master);
    extension.vtags = vtags(ct).or(extension.vtags);
    if zone_of(ct) == 0 || ct.zone.is_none() {
        extension.zone_reply = ct.zone_reply.or(extension.zone_reply);
    }
}

/// Takes over what was told; all zero is none.
fn take_over<T: Copy + Default + PartialEq>(old: &mut Option<T>, told: Option<T>) {
    if let Some(new) = told {
        *old = Some(new).filter(|new| *new != T::default());
    }
}

fn vtags(ct: &Conntrack<'_>) -> Option<[u32; 2]> {
    match ct.protoinfo {
        ProtoInfo::Sctp(Sctp { vtag_orig, vtag_reply, .. }) => {
            vtag_orig.zip(vtag_reply).map(|(orig, reply)| [orig, reply])
        }
        _ => None,
    }
}

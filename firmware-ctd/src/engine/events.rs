//! NEW, UPDATE and DESTROY.
//!
//! Which flow of the table a message means is decided by what the kernel tells: a DESTROY (and a
//! dump) carries the exact start, when timestamps are on; NEW and UPDATE carry the time of the
//! event on newer kernels (6.14 on); `CTA_ID` tells most flows apart, but not one from its
//! immediate successor with the same tuple. Where nothing tells, the oldest flow is meant: the
//! kernel destroys in order.

use super::Engine;
use super::recent::Tombstone;
use crate::record::{Cause, Kind, Record, RecordKey};
use crate::table::{FlowRef, Key, Slot, flag};
use crate::time::{NANOS_PER_SEC, Now};
use crate::wire::{Conntrack, Counters, Event, Tuple};

/// After this long a tombstone means nothing any more.
const TOMBSTONE_S: u32 = 60;

/// A NEW's time may seem to be before the start by so much, when the clock is being adjusted.
const CLOCK_SLACK_NS: u64 = 10_000_000;

/// How a message relates to a flow in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Relation {
    /// It means this flow.
    Same,
    /// It means an earlier flow with this tuple.
    Earlier,
    /// It means a later flow with this tuple.
    Later,
}

/// Whether a NEW or UPDATE of a flow that the table does not hold is of a dead one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Late {
    No,
    Perhaps,
    Yes,
}

impl Engine<'_> {
    /// A NEW or UPDATE event.
    pub(super) fn on_state(&mut self, now: Now, event: Event, ct: &Conntrack<'_>) {
        let fresh = event == Event::New;
        let count = if fresh { &mut self.stats.events_new } else { &mut self.stats.events_update };
        *count += 1;
        let Some(key) = self.key_of(ct) else { return };
        let Some(slot) = self.slot_of_state(now, fresh, &key, ct) else { return };
        self.apply(now, slot, ct);
        if fresh {
            self.note_event_time(slot, ct);
        }
        if self.settings.observed {
            let kind = if fresh { Kind::New } else { Kind::Update };
            let record = self.record_of(now, slot, kind, Cause::Event);
            self.give_out(record);
        }
    }

    /// The flow that a NEW or UPDATE means, made if need be; nothing if the message is late or
    /// there is no room.
    fn slot_of_state(
        &mut self,
        now: Now,
        fresh: bool,
        key: &Key,
        ct: &Conntrack<'_>,
    ) -> Option<Slot> {
        if let Some(slot) = self.table.find(key) {
            return match relation_of_state(&self.table.flow(slot), ct) {
                Relation::Same => Some(slot),
                Relation::Later => self.begin_successor(slot, key, 0),
                Relation::Earlier => {
                    self.stats.late_events += 1;
                    None
                }
            };
        }
        let late = self.late(now, key, ct);
        if late == Late::Yes {
            self.stats.late_events += 1;
            return None;
        }
        if !fresh {
            self.stats.updates_without_new += 1;
        }
        self.begin(key, if late == Late::Perhaps { flag::DOUBTFUL } else { 0 })
    }

    /// Remembers when a NEW came: the start is at or before it, and a DESTROY whose stop is before
    /// it is of an earlier flow. The latest of several counts, since the kernel repeats.
    fn note_event_time(&mut self, slot: Slot, ct: &Conntrack<'_>) {
        let known = self.table.flow(slot).has(flag::START_EXACT);
        if let (Some(event_ns), false) = (ct.event_ns, known) {
            self.table.flow_mut(slot).set_start(event_ns, flag::START_EVENT);
        }
    }

    fn late(&self, now: Now, key: &Key, ct: &Conntrack<'_>) -> Late {
        let Some(stone) = self.tombstones.find(key.hash(), ct.id.unwrap_or(0)) else {
            return Late::No;
        };
        if now.boot.as_secs_u32().saturating_sub(stone.at_s) > TOMBSTONE_S {
            return Late::No;
        }
        match ct.event_ns {
            Some(event_ns) if event_ns <= stone.stop_ns => Late::Yes,
            Some(_) if stone.stop_ns != 0 => Late::No,
            _ => Late::Perhaps,
        }
    }

    /// Puts a flow in, without anything but its key.
    pub(super) fn begin(&mut self, key: &Key, flags: u32) -> Option<Slot> {
        let Ok(slot) = self.table.insert(key) else {
            self.ledger.table_full += 1;
            return None;
        };
        self.table.flow_mut(slot).change_flags(flags, 0);
        Some(slot)
    }

    /// Puts a flow in before an earlier one, whose DESTROY is still to come.
    pub(super) fn begin_successor(&mut self, earlier: Slot, key: &Key, flags: u32) -> Option<Slot> {
        self.stats.tuples_reused += 1;
        self.table.flow_mut(earlier).change_flags(flag::REPLACED, 0);
        self.begin(key, flags)
    }

    /// A DESTROY event.
    pub(super) fn on_destroy(&mut self, now: Now, ct: &Conntrack<'_>) {
        self.stats.events_destroy += 1;
        let Some(key) = self.key_of(ct) else { return };
        let slot = self.slot_of_destroy(&key, ct);
        let start_ns = ct.start_ns.or_else(|| slot.and_then(|slot| self.exact_start(slot)));
        let record_key = self.keys.key(&key, start_ns);
        if self.is_repeat(record_key) {
            self.stats.repeated_destroys += 1;
        } else {
            let record = self.record_of_destroy(now, slot, ct, (record_key, start_ns));
            self.report_destroy(record);
        }
        if slot.is_none() {
            self.stats.destroys_without_new += 1;
        }
        self.bury(now, slot, &key, ct);
    }

    /// Gives out the record of a destroyed flow and remembers its key.
    pub(super) fn report_destroy(&mut self, record: Record) {
        match record.key {
            RecordKey::Strong(key) => self.recent.insert(key),
            RecordKey::Weak(_) => self.stats.weak_keys += 1,
        }
        self.give_out(record);
    }

    /// Whether a destroy with this key was given out already.
    pub(super) fn is_repeat(&self, key: RecordKey) -> bool {
        match key {
            RecordKey::Strong(key) => self.recent.contains(key),
            RecordKey::Weak(_) => false,
        }
    }

    fn bury(&mut self, now: Now, slot: Option<Slot>, key: &Key, ct: &Conntrack<'_>) {
        if let Some(slot) = slot {
            self.table.remove(slot);
        }
        self.tombstones.insert(Tombstone {
            hash: key.hash(),
            id: ct.id.unwrap_or(0),
            stop_ns: ct.stop_ns.unwrap_or(0),
            at_s: now.boot.as_secs_u32(),
        });
    }

    /// The flow that a DESTROY means: the one with its start, else the oldest that it may mean.
    fn slot_of_destroy(&self, key: &Key, ct: &Conntrack<'_>) -> Option<Slot> {
        let mut found = None;
        let mut next = self.table.find(key);
        while let Some(slot) = next {
            if destroys(&self.table.flow(slot), ct) {
                found = Some(slot);
            }
            next = self.table.next_older(slot, key);
        }
        found
    }

    pub(super) fn exact_start(&self, slot: Slot) -> Option<u64> {
        let flow = self.table.flow(slot);
        flow.has(flag::START_EXACT).then(|| flow.start_ns())
    }

    /// What a DESTROY says, with what only the table knew.
    fn record_of_destroy(
        &self,
        now: Now,
        slot: Option<Slot>,
        ct: &Conntrack<'_>,
        (key, start_ns): (RecordKey, Option<u64>),
    ) -> Record {
        let orig = ct.orig.unwrap_or(NO_TUPLE);
        let mut record = Record {
            kind: Kind::Destroy,
            cause: Cause::Event,
            key,
            flow: 0,
            start_ns,
            end_ns: Some(ct.stop_ns.unwrap_or(now.wall.as_nanos())),
            as_of_ns: None,
            orig,
            reply: ct.reply.unwrap_or(orig),
            counters: ct.counters_orig.zip(ct.counters_reply).map(|(a, b)| [a, b]),
            inexact: false,
            zone: zone_of(ct),
            mark: ct.mark.unwrap_or(0),
            id: ct.id.unwrap_or(0),
            status: ct.status.unwrap_or_default(),
            timeout_s: None,
            l4_state: None,
            helper: None,
            labels: None,
        };
        if let Some(slot) = slot {
            add_what_the_table_knew(&mut record, &self.table.flow(slot));
        }
        if let Some(state) = super::apply::l4_state_of(ct) {
            record.l4_state = Some(state);
        }
        record
    }

    /// The key of a message's flow. A message without tuples is counted as malformed.
    pub(super) fn key_of(&mut self, ct: &Conntrack<'_>) -> Option<Key> {
        let Some(orig) = ct.orig.filter(|_| ct.reply.is_some()) else {
            self.count_malformed(crate::wire::Error::Missing);
            return None;
        };
        Some(self.table.key(&orig, zone_of(ct)))
    }
}

/// Stands where a tuple must stand but none was sent; never given out ([`Engine::key_of`]).
const NO_TUPLE: Tuple = crate::probe::tuple(0);

/// The zone of a flow's original direction.
pub(super) fn zone_of(ct: &Conntrack<'_>) -> u16 {
    ct.zone.or(ct.zone_orig).unwrap_or(0)
}

/// Which flow a NEW or UPDATE means.
fn relation_of_state(flow: &FlowRef<'_>, ct: &Conntrack<'_>) -> Relation {
    let before = ct
        .event_ns
        .is_some_and(|event_ns| flow.has(flag::START_EXACT) && event_ns < flow.start_ns());
    if before {
        Relation::Earlier
    } else if ct.id.is_none_or(|id| id == flow.id()) {
        Relation::Same
    } else {
        Relation::Later
    }
}

/// Whether a DESTROY may mean this flow.
fn destroys(flow: &FlowRef<'_>, ct: &Conntrack<'_>) -> bool {
    match ct.start_ns {
        Some(start) if flow.has(flag::START_EXACT) => return start == flow.start_ns(),
        Some(start) if flow.has(flag::START_EVENT) => {
            let stop = ct.stop_ns.filter(|&stop| stop >= start).unwrap_or(u64::MAX);
            let event = flow.start_ns();
            if event.saturating_add(CLOCK_SLACK_NS) < start || stop < event {
                return false;
            }
        }
        _ => {}
    }
    ct.id.is_none_or(|id| id == flow.id())
}

/// Adds the attributes that a DESTROY does not carry, and the base of its counters.
fn add_what_the_table_knew(record: &mut Record, flow: &FlowRef<'_>) {
    record.l4_state = flow.l4_state();
    record.inexact = flow.has(flag::INEXACT);
    if record.start_ns.is_none() && flow.has(flag::START_EVENT) {
        record.start_ns = Some(flow.start_ns());
    }
    let extension = flow.extension();
    record.helper = extension.helper;
    record.labels = extension.labels;
    let Some(told) = record.counters else { return };
    let mut counters = sum(told, extension.base.unwrap_or_default());
    if flow.has(flag::COUNTERS) && runs_backwards(flow.counters(), told) {
        counters = sum(counters, flow.counters());
        record.inexact = true;
    }
    record.counters = Some(counters);
}

/// Whether `new` is less than `old` anywhere.
pub(super) fn runs_backwards(old: [Counters; 2], new: [Counters; 2]) -> bool {
    old.iter().zip(new).any(|(old, new)| new.packets < old.packets || new.bytes < old.bytes)
}

/// Both directions added up; saturates.
pub(super) fn sum([a, b]: [Counters; 2], [c, d]: [Counters; 2]) -> [Counters; 2] {
    let add = |x: Counters, y: Counters| Counters {
        packets: x.packets.saturating_add(y.packets),
        bytes: x.bytes.saturating_add(y.bytes),
    };
    [add(a, c), add(b, d)]
}

/// The wall clock time of a moment given in seconds since boot.
pub(super) fn wall_of(now: Now, at_s: u32) -> u64 {
    let ago_s = now.boot.as_secs_u32().saturating_sub(at_s);
    now.wall.as_nanos().saturating_sub(u64::from(ago_s) * NANOS_PER_SEC)
}

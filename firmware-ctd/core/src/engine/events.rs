//! NEW, UPDATE and DESTROY.
//!
//! Which flow of the table a message means is decided by what the kernel tells: a DESTROY (and a
//! dump) carries the exact start, when timestamps are on; NEW and UPDATE carry the time of the
//! event on newer kernels (6.14 on); `CTA_ID` tells most flows apart, but not one from its
//! immediate successor with the same tuple. Where nothing tells, the oldest flow is meant: the
//! kernel destroys in order.

use super::Engine;
use super::recent::Tombstone;
use crate::checkpoint::account;
use crate::record::{Cause, Kind, Record, RecordKey};
use crate::table::{FlowRef, Key, Slot, flag};
use crate::time::{NANOS_PER_MILLI, NANOS_PER_SEC, Now};
use crate::wire::{Conntrack, Counters, Event, Tuple};

/// After this long a tombstone means nothing any more. Another processor's event is late by
/// milliseconds; more is for a daemon that was stopped and catches up.
const TOMBSTONE_S: u32 = 10;

/// A NEW's time may be before the start by so much: the clock is adjusted; and of a TCP flow it is
/// the time when the first packet came in, while the flow starts when that packet has passed, which
/// is microseconds later (measured: 1 to 17) or, with a queue to a program on its way, seconds.
const CLOCK_SLACK_NS: u64 = 5_000_000_000;

/// An event of a dying flow may be this much later than its end.
const OVERLAP_NS: u64 = 10_000_000;

/// Whether a message means a flow of the table with the same tuple.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Match {
    /// It means this one: their starts are equal.
    Exact,
    /// It may mean this one: the ids are equal, and no time speaks against it.
    Perhaps,
    /// It may mean this one, a restored flow whose id is not known yet, if no other fits better.
    Unnamed,
    /// It means another one.
    No,
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
        self.apply(slot, ct);
        if fresh {
            self.note_event_time(slot, ct);
        }
        if self.settings.observed {
            let kind = if fresh { Kind::New } else { Kind::Update };
            let record = self.record_of(now, slot, kind, Cause::Event);
            self.give_out(&record);
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
        let newest = self.table.find(key);
        let same = newest.and_then(|newest| self.with_id(newest, key, ct.id));
        if same.is_some() && ct.event_ns.is_none() {
            return same;
        }
        // Of a flow with the same id that is dead, also where another one with it is known.
        let late = self.late(now, key, ct);
        // Of a predecessor, or out of order: what is known is newer.
        let early = same.or(newest).is_some_and(|slot| self.is_before(slot, ct));
        if late == Late::Yes || early {
            self.stats.late_events += 1;
            return None;
        }
        if same.is_some() {
            return same;
        }
        let claim = newest.and_then(|newest| self.newest_that(newest, key, is_claim));
        if !fresh {
            // Of a restored flow, or of another one with its tuple: the first dump tells both.
            if claim.is_some_and(|slot| !self.table.flow(slot).has(flag::MISSED)) {
                return None;
            }
            self.stats.updates_without_new += 1;
        }
        // A restored flow's own NEW comes this late when another listener could not take it.
        let doubtful = late == Late::Perhaps || claim.is_some();
        self.begin(newest, key, if doubtful { flag::DOUBTFUL } else { 0 })
    }

    /// The newest flow with this key and `CTA_ID`. What was saved before a reboot has none yet.
    fn with_id(&self, newest: Slot, key: &Key, id: Option<u32>) -> Option<Slot> {
        let named = |flow: &FlowRef<'_>| id.is_none_or(|id| id == flow.id());
        self.newest_that(newest, key, |flow| named(flow) && !flow.has(flag::RESTORED))
    }

    /// The newest flow with this key, from this one on, of which something is true.
    fn newest_that(
        &self,
        newest: Slot,
        key: &Key,
        is_so: impl Fn(&FlowRef<'_>) -> bool,
    ) -> Option<Slot> {
        let mut next = Some(newest);
        while let Some(slot) = next {
            if is_so(&self.table.flow(slot)) {
                return Some(slot);
            }
            next = self.table.next_older(slot, key);
        }
        None
    }

    /// Remembers when a NEW came: the start is at or before it, and a DESTROY whose stop is before
    /// it is of an earlier flow. The latest of several counts, since the kernel repeats.
    fn note_event_time(&mut self, slot: Slot, ct: &Conntrack<'_>) {
        let flow = self.table.flow(slot);
        let known = flow.has(flag::START_EXACT)
            || flow.has(flag::START_EVENT) && ct.event_ns < Some(flow.start_ns());
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
            Some(event_ns) if self.is_order(event_ns, stone.stop_ns) => Late::Yes,
            // Another processor may have been busy with a packet while the flow died.
            Some(event_ns)
                if stone.stop_ns != 0
                    && self.is_order(stone.stop_ns.saturating_add(OVERLAP_NS), event_ns) =>
            {
                Late::No
            }
            _ => Late::Perhaps,
        }
    }

    /// Puts a flow in, without anything but its key; before `earlier`, an earlier one with this key
    /// whose DESTROY is still to come.
    pub(super) fn begin(&mut self, earlier: Option<Slot>, key: &Key, flags: u32) -> Option<Slot> {
        let Ok(slot) = self.table.insert(key) else {
            self.ledger.table_full += 1;
            return None;
        };
        self.table.flow_mut(slot).change_flags(flags, 0);
        if let Some(earlier) = earlier {
            self.stats.tuples_reused += 1;
            self.table.flow_mut(earlier).change_flags(flag::REPLACED, 0);
        }
        Some(slot)
    }

    /// A DESTROY event.
    pub(super) fn on_destroy(&mut self, now: Now, ct: &Conntrack<'_>) {
        self.stats.events_destroy += 1;
        let Some(key) = self.key_of(ct) else { return };
        let record_key = self.keys.key(&key, start_of(ct));
        // Before a crash this very message was handled far enough.
        let reported = self.serial <= self.queue.last_serial();
        if !reported && self.is_repeat(record_key) {
            // What stands in the table is not this flow, but perhaps its successor.
            self.stats.repeated_destroys += 1;
            return self.cycle.destroy_was_repeated(now.boot);
        }
        let slot = self.slot_of_destroy(&key, ct);
        if slot.is_none() {
            self.stats.destroys_without_new += 1;
            if self.tombstones.find(key.hash(), ct.id.unwrap_or(0)).is_some() {
                // Perhaps a repeat that nothing tells for one.
                self.cycle.destroy_was_repeated(now.boot);
            }
        }
        if !reported {
            let record = self.record_of_destroy(now, slot, ct, record_key);
            self.report_destroy(now, &record);
        }
        self.bury(now, slot, &key, ct);
    }

    /// Owes the record of a destroyed flow to the sinks, and then remembers its key: in this order
    /// a crash between the two loses nothing.
    pub(super) fn report_destroy(&mut self, now: Now, record: &Record) {
        self.owe(now, record);
        self.ended.note(record);
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
            self.forget(slot, key);
        }
        self.tombstones.insert(Tombstone {
            hash: key.hash(),
            id: ct.id.unwrap_or(0),
            stop_ns: ct.stop_ns.unwrap_or(0),
            at_s: now.boot.as_secs_u32(),
        });
    }

    /// Takes a flow out of the table.
    pub(super) fn forget(&mut self, slot: Slot, key: &Key) {
        if self.table.flow(slot).has(flag::MISSED) {
            self.cycle.found_missed();
        }
        self.table.remove_keyed(slot, key);
    }

    /// Whether `first` is before `second`, or the same, also if the clock was set back meanwhile.
    fn is_order(&self, first_ns: u64, second_ns: u64) -> bool {
        first_ns.saturating_add(self.clock.doubt_ns()) <= second_ns
    }

    /// Whether an event happened before this flow began, or before it was told that it had.
    fn is_before(&self, slot: Slot, ct: &Conntrack<'_>) -> bool {
        let flow = self.table.flow(slot);
        let timed = flow.flags() & (flag::START_EXACT | flag::START_EVENT) != 0;
        ct.event_ns.is_some_and(|event_ns| {
            timed && event_ns != flow.start_ns() && self.is_order(event_ns, flow.start_ns())
        })
    }

    /// The flow that a DESTROY means: the one with its start, else the oldest that it may mean.
    fn slot_of_destroy(&self, key: &Key, ct: &Conntrack<'_>) -> Option<Slot> {
        self.find_match(key, |flow| {
            let stopped_before = match (start_of(ct), ct.stop_ns) {
                // A stop before the start is of another clock.
                (Some(start), Some(stop)) if start <= stop && told_by_event(flow) => {
                    let late = stop.saturating_add(OVERLAP_NS);
                    late != flow.start_ns() && self.is_order(late, flow.start_ns())
                }
                _ => false,
            };
            if stopped_before { Match::No } else { self.shows(flow, ct) }
        })
    }

    /// Whether a message that tells the start, where there is one, means this flow. A flow has a
    /// start for its whole life or never.
    pub(super) fn shows(&self, flow: &FlowRef<'_>, ct: &Conntrack<'_>) -> Match {
        let start = start_of(ct);
        if flow.has(flag::START_EXACT) {
            return if start == Some(flow.start_ns()) { Match::Exact } else { Match::No };
        }
        if flow.has(flag::RESTORED) {
            return self.shows_restored(flow, ct);
        }
        let began_after = start.is_some_and(|start| {
            let told = flow.start_ns().saturating_add(CLOCK_SLACK_NS);
            flow.has(flag::START_EVENT) && self.is_order(told, start)
        });
        let same_id = ct.id.is_none_or(|id| id == flow.id());
        if same_id && !began_after { Match::Perhaps } else { Match::No }
    }

    /// The same for a flow that was saved before a reboot and that no dump has shown yet. It was
    /// made again before the time that stands for its start, so whatever began later is another
    /// flow: the restored one has ended meanwhile, and its tuple is used anew.
    fn shows_restored(&self, flow: &FlowRef<'_>, ct: &Conntrack<'_>) -> Match {
        let made_at = flow.start_ns();
        match start_of(ct) {
            _ if !is_claim(flow) => Match::No,
            Some(start) if self.is_order(made_at, start) => Match::No,
            Some(start) if self.is_order(start, made_at) => Match::Exact,
            _ => Match::Unnamed,
        }
    }

    /// The flow that matches exactly, else the oldest that may be meant.
    pub(super) fn find_match(
        &self,
        key: &Key,
        matches: impl Fn(&FlowRef<'_>) -> Match,
    ) -> Option<Slot> {
        let (mut found, mut unnamed) = (None, None);
        let mut next = self.table.find(key);
        while let Some(slot) = next {
            match matches(&self.table.flow(slot)) {
                Match::Exact => return Some(slot),
                Match::Perhaps => found = Some(slot),
                Match::Unnamed => unnamed = Some(slot),
                Match::No => {}
            }
            next = self.table.next_older(slot, key);
        }
        found.or(unnamed)
    }

    pub(super) fn exact_start(&self, slot: Slot) -> Option<u64> {
        let flow = self.table.flow(slot);
        flow.has(flag::START_EXACT).then(|| flow.start_ns())
    }

    /// What a DESTROY says, with what only the table knew.
    fn record_of_destroy(
        &mut self,
        now: Now,
        slot: Option<Slot>,
        ct: &Conntrack<'_>,
        key: RecordKey,
    ) -> Record {
        let orig = ct.orig.as_ref().unwrap_or(&NO_TUPLE);
        let mut record = Record {
            kind: Kind::Destroy,
            cause: Cause::Event,
            key,
            flow: 0,
            account: None,
            start_ns: start_of(ct),
            end_ns: Some(ct.stop_ns.unwrap_or(now.wall.as_nanos())),
            as_of_ns: None,
            orig: *orig,
            reply: *ct.reply.as_ref().unwrap_or(orig),
            counters: match (&ct.counters_orig, &ct.counters_reply) {
                (Some(orig), Some(reply)) => Some([*orig, *reply]),
                _ => None,
            },
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
            let flow = self.table.flow(slot);
            add_what_the_table_knew(&mut record, &flow);
            if record.inexact && !flow.has(flag::INEXACT) {
                self.stats.inexact_flows += 1;
            }
        }
        if let Some(state) = super::apply::l4_state_of(ct) {
            record.l4_state = Some(state);
        }
        record
    }

    /// The key of a message's flow. A message without tuples is counted as malformed.
    pub(super) fn key_of(&mut self, ct: &Conntrack<'_>) -> Option<Key> {
        let (Some(orig), Some(_)) = (&ct.orig, &ct.reply) else {
            self.count_malformed(crate::wire::Error::Missing);
            return None;
        };
        Some(self.table.key(orig, zone_of(ct)))
    }
}

/// Whether the flow was made again after a reboot, and no dump has shown it.
fn is_claim(flow: &FlowRef<'_>) -> bool {
    flow.has(flag::RESTORED | flag::START_EVENT)
}

/// Whether the start is the time of a NEW event.
fn told_by_event(flow: &FlowRef<'_>) -> bool {
    flow.has(flag::START_EVENT) && !flow.has(flag::RESTORED)
}

/// Stands where a tuple must stand but none was sent; never given out ([`Engine::key_of`]).
const NO_TUPLE: Tuple = crate::probe::tuple(0);

/// The zone of a flow's original direction.
pub(super) fn zone_of(ct: &Conntrack<'_>) -> u16 {
    ct.zone.or(ct.zone_orig).unwrap_or(0)
}

/// The start of a flow. Some ways to make a flow do not set it: 0 is no time.
pub(super) fn start_of(ct: &Conntrack<'_>) -> Option<u64> {
    ct.start_ns.filter(|&start_ns| start_ns != 0)
}

/// Adds the attributes that a DESTROY does not carry, and the base of its counters.
fn add_what_the_table_knew(record: &mut Record, flow: &FlowRef<'_>) {
    record.l4_state = flow.l4_state();
    record.inexact = flow.has(flag::INEXACT);
    if record.start_ns.is_none() && told_by_event(flow) {
        record.start_ns = Some(flow.start_ns());
    }
    let extension = flow.extension();
    record.helper = extension.helper;
    record.labels = extension.labels;
    let carried = flow.carried();
    if let Some(start_ms) = carried.start_ms {
        record.account = Some(account(&record.orig, record.zone, start_ms));
        record.start_ns = Some(start_ms.saturating_mul(NANOS_PER_MILLI));
    }
    let Some(told) = record.counters else {
        // Counted before the reboot alone.
        record.counters = carried.base;
        record.inexact |= carried.base.is_some();
        return;
    };
    let mut counters = sum(told, carried.base.unwrap_or_default());
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

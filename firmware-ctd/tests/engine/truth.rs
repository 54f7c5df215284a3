//! What was reported against what happened.

use std::collections::{BTreeMap, BTreeSet};

use firmware_ctd::engine::{Engine, Source};
use firmware_ctd::record::{Cause, Record, RecordKey};
use firmware_ctd::retry::Loss;
use firmware_ctd::table::flag;
use firmware_ctd::time::Instant;
use firmware_ctd::wire::{Conntrack, Counters, Message, Messages};

use crate::kernel::{Flow, Kernel, NEW_AFTER_START_NS};

/// How long nothing may have been late before something missed is called gone.
const QUIET_US: u64 = 2_000_000;

/// What the engine was told of a flow, and what it said.
#[derive(Debug, Default)]
struct Seen {
    /// The table held it, and had no doubt about it.
    held: bool,
    /// Dumps that were complete when the engine was last told that it lives.
    dumps: u32,
    /// What a dump last told, and when, in microseconds since boot.
    told: Option<([Counters; 2], u64)>,
    /// Ever told more than the kernel told later: somebody zeroed the counters, visibly.
    backwards: bool,
    records: Vec<Record>,
}

#[derive(Debug, Default)]
pub(crate) struct Truth {
    seen: BTreeMap<u32, Seen>,
    keys: BTreeSet<u64>,
    last_late: Option<Instant>,
    drops: u32,
    /// Flows of one id and tuple may have been taken for one: the kernel does not tell them apart.
    pub(crate) mergeable: bool,
}

fn serial_of(mark: u32) -> u32 {
    mark & 0xff_ffff
}

impl Truth {
    pub(crate) fn destroys_were_late(&mut self, now: Instant) {
        self.last_late = Some(now);
    }

    pub(crate) fn drops(&mut self, now: Instant, total: u32) {
        if total != self.drops {
            self.last_late = Some(now);
        }
        self.drops = total;
    }

    /// A message is about to be handed to the engine.
    pub(crate) fn shown(&mut self, kernel: &Kernel, source: Source, bytes: &[u8]) {
        for raw in Messages::new(bytes).flatten() {
            let Ok(Message::Conntrack { ct, .. }) = Message::parse(&raw) else { continue };
            let serial = serial_of(ct.mark.unwrap_or(0));
            let seen = self.seen.entry(serial).or_default();
            // An UPDATE does not show a flow that was saved: the first dump has to.
            let saved = kernel.flows.get(serial as usize - 1).is_some_and(|f| f.saved.is_some());
            if source == Source::Request || source == Source::State && !saved {
                seen.dumps = kernel.dumps_done;
            }
            if let Some(counters) = counters_of(&ct) {
                seen.backwards |= seen.told.is_some_and(|(old, _)| less(&counters, &old));
                if source == Source::Request {
                    seen.told = Some((counters, kernel.boot_us));
                }
            }
        }
    }

    /// Looks at the table after a round.
    pub(crate) fn look(&mut self, kernel: &Kernel, engine: &Engine<'_>) {
        let table = engine.table();
        let mut count = 0;
        for bucket in 0..table.buckets() {
            let mut next = table.first(bucket);
            while let Some(slot) = next {
                let flow = table.flow(slot);
                let serial = serial_of(flow.mark());
                assert!(serial as usize <= kernel.flows.len());
                if !flow.has(flag::DOUBTFUL) {
                    self.seen.entry(serial).or_default().held = true;
                }
                count += 1;
                next = table.next(slot);
            }
        }
        assert_eq!(table.len(), count);
    }

    /// The engine says that a flow was destroyed.
    pub(crate) fn reported(&mut self, kernel: &Kernel, record: &Record) {
        let flow = find(kernel, record);
        assert!(flow.died_us.is_some(), "reported as destroyed, but lives: {flow:?} {record:?}");
        if let RecordKey::Strong(key) = record.key {
            assert!(self.keys.insert(key), "reported twice: {flow:?} {record:?}");
            assert_eq!(record.start_ns, flow.true_start_ns());
        }
        let repeated = record.key.is_weak()
            && self.seen.get(&flow.serial).is_some_and(|seen| !seen.records.is_empty());
        if !repeated {
            let account = flow.saved.and_then(|(saved, _)| saved.account());
            assert_eq!(record.account, account, "{flow:?} {record:?}");
        }
        if record.cause != Cause::Event {
            assert!(record.cause == Cause::Resync || flow.saved.is_some());
            self.check_patience(kernel, flow, record);
            self.check_as_of(kernel, flow, record);
        }
        self.seen.entry(flow.serial).or_default().records.push(*record);
    }

    /// Nothing is called gone before two dumps have missed it and no destroy was late for a while.
    fn check_patience(&self, kernel: &Kernel, flow: &Flow, record: &Record) {
        let dumps = self.seen.get(&flow.serial).map_or(0, |seen| seen.dumps);
        assert!(kernel.dumps_done >= dumps + 2, "after less than two dumps: {flow:?} {record:?}");
        let now = kernel.boot_us;
        let dead_for = now - flow.died_us.unwrap();
        // One that a dump skipped while it lived may have been missed before it died.
        let skipped = flow.skipped_in != 0;
        assert!(dead_for >= QUIET_US || skipped, "too early: {flow:?} {record:?}");
        let late = self.last_late.map_or(0, Instant::as_micros);
        assert!(late == 0 || now - late >= QUIET_US, "destroys were late: {flow:?} {record:?}");
    }

    /// The time of the last known counters is kept in whole seconds since boot, and told by the
    /// clock of the moment of the report.
    fn check_as_of(&self, kernel: &Kernel, flow: &Flow, record: &Record) {
        let told = self.seen.get(&flow.serial).and_then(|seen| seen.told);
        let unclear = self.mergeable || flow.delivered > 0;
        if let (None, Some((_, saved_ms)), Cause::Restart) = (told, flow.saved, record.cause) {
            // Nothing was heard of it in this boot.
            assert_eq!(record.as_of_ns, Some(saved_ms * 1_000_000), "{flow:?} {record:?}");
        }
        let (Some((_, at_us)), false) = (told, unclear) else { return };
        let expected = kernel.wall_ns() - (kernel.boot_us - at_us) * 1_000;
        let apart = record.as_of_ns.unwrap().abs_diff(expected);
        assert!(apart <= 1_000_000_000, "{apart} ns: {flow:?} {record:?}");
    }

    /// At the end, when everything is calm.
    pub(crate) fn check_records(&self, kernel: &Kernel, engine: &Engine<'_>) {
        assert!(kernel.is_quiet());
        assert_eq!(engine.queue().lost(Loss::Policy).records, 0);
        let none = Seen::default();
        for flow in kernel.flows.iter().filter(|flow| flow.died_us.is_some()) {
            let seen = self.seen.get(&flow.serial).unwrap_or(&none);
            self.check_flow(kernel, flow, seen);
        }
        let resyncs = self.seen.values().flat_map(|seen| &seen.records);
        let vanished = resyncs.filter(|r| r.cause != Cause::Event).count() as u64;
        assert_eq!(engine.ledger().vanished_unseen, vanished);
    }

    fn check_flow(&self, kernel: &Kernel, flow: &Flow, seen: &Seen) {
        let told = seen.records.iter().filter(|r| r.cause == Cause::Event).count();
        let vanished = seen.records.len() - told;
        if flow.delivered > 0 {
            let expected = if flow.start_ns.is_some() { 1 } else { flow.delivered as usize };
            assert_eq!(told, expected, "{flow:?} {seen:?}");
            // An event that was late over a step of the clock may seem to be of a later flow.
            assert!(vanished == 0 || kernel.stepped_back, "{flow:?} {seen:?}");
        } else {
            assert_eq!(told, 0, "{flow:?} {seen:?}");
            assert!(vanished <= 1, "{flow:?} {seen:?}");
            let must = seen.held && flow.silent && !self.mergeable;
            assert!(vanished == 1 || !must, "{flow:?} {seen:?}");
        }
        let mut first = true;
        for record in &seen.records {
            self.check_record(flow, seen, record);
            // Without a start a repeat cannot be told; the table knows nothing of it any more.
            if record.cause == Cause::Event && core::mem::take(&mut first) {
                self.check_exactness(flow, seen, record);
            }
        }
    }

    fn check_record(&self, flow: &Flow, seen: &Seen, record: &Record) {
        assert_eq!((record.orig, record.zone), (flow.orig, flow.zone));
        let unnamed = flow.saved.is_some() && record.cause == Cause::Restart;
        assert!(record.id == flow.id || unnamed && record.id == 0, "{flow:?} {record:?}");
        assert_eq!(record.reply, flow.reply);
        if record.cause == Cause::Event {
            assert_eq!(record.mark, flow.mark);
            assert_eq!(record.status.0, flow.status);
            assert_eq!(record.l4_state.map(|s| s.state), flow.tcp_state);
            if flow.stop_ns.is_some() {
                assert_eq!(record.end_ns, flow.stop_ns);
            }
            assert_eq!(record.as_of_ns, None);
            self.check_counters(flow, seen, record);
        } else if !self.mergeable && flow.delivered == 0 {
            self.check_last_known(flow, seen, record);
        }
    }

    fn check_counters(&self, flow: &Flow, seen: &Seen, record: &Record) {
        let counted = flow.counters.or(flow.base());
        assert_eq!(record.counters.is_some(), counted.is_some());
        let (Some(sums), Some(last)) = (record.counters, flow.counters) else { return };
        assert!(!less(&sums, &last), "below what the kernel told: {flow:?} {record:?}");
        if !self.mergeable {
            assert!(!less(&flow.transferred, &sums), "too much: {flow:?} {record:?} {seen:?}");
        }
    }

    fn check_exactness(&self, flow: &Flow, seen: &Seen, record: &Record) {
        if self.mergeable || flow.counters.is_none() {
            return;
        }
        let before = flow.saved.is_some_and(|(saved, _)| saved.inexact);
        assert_eq!(record.inexact, seen.backwards || before, "{flow:?} {seen:?}");
        if !flow.zeroed {
            assert_eq!(record.counters, Some(flow.transferred), "{flow:?} {seen:?}");
        }
    }

    /// The record of a flow whose end nobody told.
    fn check_last_known(&self, flow: &Flow, seen: &Seen, record: &Record) {
        let Some((told, _)) = seen.told else {
            assert_eq!(record.counters, flow.base(), "{flow:?} {record:?}");
            return;
        };
        if !flow.zeroed {
            let all = sum(told, flow.base().unwrap_or_default());
            assert_eq!(record.counters, Some(all), "{flow:?} {record:?}");
        }
    }
}

fn counters_of(ct: &Conntrack<'_>) -> Option<[Counters; 2]> {
    ct.counters_orig.zip(ct.counters_reply).map(|(orig, reply)| [orig, reply])
}

fn sum(a: [Counters; 2], b: [Counters; 2]) -> [Counters; 2] {
    core::array::from_fn(|at| Counters {
        packets: a[at].packets + b[at].packets,
        bytes: a[at].bytes + b[at].bytes,
    })
}

/// Whether `a` is less than `b` anywhere.
fn less(a: &[Counters; 2], b: &[Counters; 2]) -> bool {
    a.iter().zip(b).any(|(a, b)| a.packets < b.packets || a.bytes < b.bytes)
}

/// The flow that a record is about: by its start where that is known, else by the time of its NEW,
/// else by its mark (which an event of a successor with the same id may have changed).
fn find<'k>(kernel: &'k Kernel, record: &Record) -> &'k Flow {
    if !record.key.is_weak() {
        let name = (record.orig, record.zone, record.start_ns);
        let mut found = kernel.flows.iter().filter(|f| (f.orig, f.zone, f.true_start_ns()) == name);
        let flow = found.next().unwrap_or_else(|| panic!("no such flow: {record:?}"));
        assert!(found.next().is_none());
        return flow;
    }
    if record.account.is_some() {
        return kernel.flow(serial_of(record.mark));
    }
    let told = record.start_ns.map(|event_ns| event_ns - NEW_AFTER_START_NS);
    let mut named = kernel.flows.iter().filter(|f| (f.orig, f.zone) == (record.orig, record.zone));
    match named.find(|flow| told.is_some() && flow.start_ns == told) {
        Some(flow) => flow,
        None => kernel.flow(serial_of(record.mark)),
    }
}

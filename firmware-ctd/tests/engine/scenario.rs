//! One test for each case that has a name: first of a flow's life, then by subject.

mod counters;
mod dumps;
mod missed;
mod order;

use firmware_ctd::engine::{Engine, Output, Settings, Source};
use firmware_ctd::probe;
use firmware_ctd::record::Kind as RecordKind;
use firmware_ctd::table::Slot;
use firmware_ctd::time::{Duration, Instant};
use firmware_ctd::wire::{Conntrack, Event, Message, Messages, Writer};

use crate::edge::{REFRESH_S, Router, sizes, take_record};
use crate::kernel::{Kind, Recipe, name};

/// OpenWrt's kernels so far: no time in NEW and UPDATE.
fn older() -> Kind {
    Kind { event_ns: false, ..Kind::default() }
}

/// `nf_conntrack_timestamp` off.
fn without_timestamps() -> Kind {
    Kind { timestamps: false, ..Kind::default() }
}

fn every_kind() -> [Kind; 4] {
    let bare = Kind { acct: false, ..without_timestamps() };
    [Kind::default(), older(), without_timestamps(), bare]
}

/// A router whose daemon has seen the table.
fn with_router(kind: Kind, test: impl FnOnce(&mut Router<'_>)) {
    with_capacity(kind, 256, test);
}

fn with_capacity(kind: Kind, capacity: u32, test: impl FnOnce(&mut Router<'_>)) {
    let mut memory = vec![0; sizes(capacity).words()];
    let mut router = Router::new(&mut memory, kind, capacity);
    router.pass_s(1);
    test(&mut router);
}

/// A recipe for a flow of this name, in fresh memory.
fn fresh(name: u32) -> Recipe {
    Recipe { name, same_memory: false, tells: true }
}

/// In the memory of its predecessor: with the same id.
fn again(name: u32) -> Recipe {
    Recipe { same_memory: true, ..fresh(name) }
}

/// One that never sends an event: made while nobody listened.
fn mute(name: u32) -> Recipe {
    Recipe { tells: false, ..fresh(name) }
}

fn slot_of(router: &Router<'_>, number: u32) -> Option<Slot> {
    let (tuple, zone) = name(number);
    let table = router.engine.table();
    table.find(&table.key(&tuple, zone))
}

#[test]
fn a_flow_from_its_new_to_its_destroy() {
    for kind in every_kind() {
        with_router(kind, |r| {
            let serials: Vec<u32> =
                (0..40).map(|n| r.kernel.create(fresh(n), 0).unwrap()).collect();
            r.round();
            assert_eq!(r.engine.table().len(), 40);
            for (n, &serial) in (1..).zip(&serials) {
                r.kernel.traffic(serial, n, 1000 * n, 0);
            }
            r.pass_s(2 * REFRESH_S);
            for &serial in &serials[..20] {
                r.kernel.traffic(serial, 3, 99, 0);
                r.kernel.destroy(serial);
            }
            r.round();
            assert_eq!(r.records.len(), 8, "one batch");
            r.pass_s(1);
            assert_eq!(r.records.len(), 20);
            r.check();
        });
    }
}

#[test]
fn start_up_learns_what_lives_by_a_dump() {
    for kind in every_kind() {
        let mut memory = vec![0; sizes(256).words()];
        let mut router = Router::new(&mut memory, kind, 256);
        for n in 0..30 {
            let serial = router.kernel.create(mute(n), 0).unwrap();
            router.kernel.traffic(serial, 7, 70, 0);
        }
        assert_eq!(router.engine.poll_timeout(), Some(Instant::BOOT));
        router.pass(100_000);
        assert!(router.engine.has_seen_the_table());
        assert_eq!(router.engine.table().len(), 30);
        router.check();
    }
}

#[test]
fn the_same_inputs_give_the_same_outputs() {
    let run = || {
        let mut outputs = Vec::new();
        with_router(older(), |r| {
            for n in 0..60 {
                let serial = r.kernel.create(fresh(n % 20), u64::from(n % 3) * 10_000);
                r.pass(7_000);
                if let Some(serial) = serial.filter(|s| s % 2 == 0) {
                    r.kernel.destroy(serial);
                }
            }
            r.settle();
            outputs.clone_from(&r.outputs);
        });
        outputs
    };
    assert_eq!(run(), run());
}

fn give(
    engine: &mut Engine<'_>,
    now: firmware_ctd::time::Now,
    source: Source,
    event: Event,
    ct: &Conntrack<'_>,
) {
    let mut buffer = [0; 1024];
    let mut writer = Writer::new(&mut buffer);
    Message::Conntrack { event, ct: *ct }.emit(&mut writer, 0).unwrap();
    for message in Messages::new(writer.as_bytes()) {
        engine.handle_message(now, source, message);
    }
}

fn outputs(engine: &mut Engine<'_>) -> Vec<Output> {
    core::iter::from_fn(|| engine.poll_output()).collect()
}

#[test]
fn a_full_table_still_accounts_every_destroy() {
    for kind in every_kind() {
        with_capacity(kind, 16, |r| {
            let serials: Vec<u32> =
                (0..60).map(|n| r.kernel.create(fresh(n), 0).unwrap()).collect();
            r.round();
            assert!(r.engine.table().len() <= 16);
            assert!(r.engine.ledger().table_full >= 44);
            r.pass_s(2 * REFRESH_S);
            for (n, &serial) in (1..).zip(&serials) {
                r.kernel.traffic(serial, n, 10 * n, 0);
                r.kernel.destroy(serial);
            }
            r.settle();
            assert_eq!(r.records.len(), 60);
            r.truth.check_records(&r.kernel, &r.engine);
            assert!(r.engine.table().is_empty());
            assert_eq!(r.engine.stats().stale_dump_entries, 0, "full is not stale");
        });
    }
}

#[test]
fn probes_are_never_reported() {
    with_router(Kind::default(), |r| {
        let now = r.kernel.now();
        for n in 0..50 {
            for event in [Event::New, Event::Update, Event::Destroy] {
                let source = if event == Event::Destroy { Source::Destroy } else { Source::State };
                give(&mut r.engine, now, source, event, &probe::flow(n));
            }
        }
        assert_eq!(outputs(&mut r.engine), []);
        assert!(r.engine.queue().is_empty());
        assert!(r.engine.table().is_empty());
        // Real flows in their zone, or between their addresses, are.
        let zone = Conntrack { zone: Some(1), ..probe::flow(1) };
        give(&mut r.engine, now, Source::Destroy, Event::Destroy, &zone);
        assert!(take_record(&mut r.engine).is_some());
    });
}

#[test]
fn observers_are_told_of_news_and_updates() {
    with_router(Kind::default(), |r| {
        let settings = Settings { observed: true, ..r.engine.settings() };
        r.engine.set_settings(settings);
        let serial = r.kernel.create(fresh(1), 0).unwrap();
        r.kernel.traffic(serial, 1, 1, 0);
        r.round();
        let kinds: Vec<RecordKind> = r
            .outputs
            .iter()
            .filter_map(|output| match output {
                Output::Record(record) => Some(record.kind),
                Output::StartDump { .. } => None,
            })
            .collect();
        assert_eq!(kinds, [RecordKind::New, RecordKind::Update]);
        r.check();
    });
}

#[test]
fn generations_wrap() {
    with_router(Kind::default(), |r| {
        let serial = r.kernel.create(mute(1), 0).unwrap();
        r.pass_s(1);
        // 65,536 dumps, as an operator might ask for them; most are refused.
        let mut now = r.kernel.now();
        for at in 0..65_530 {
            now.boot = now.boot + Duration::from_secs(70);
            r.engine.resync(now.boot);
            now.boot = now.boot + Duration::from_secs(70);
            r.engine.handle_timeout(now);
            match outputs(&mut r.engine)[..] {
                [Output::StartDump { .. }] => r.engine.dump_failed(now.boot),
                ref other => panic!("dump {at}: {other:?}"),
            }
        }
        r.kernel.boot_us = now.boot.as_micros();
        for _ in 0..20 {
            r.pass_s(REFRESH_S);
            assert_eq!(r.records.len(), 0);
        }
        r.kernel.destroy(serial);
        r.check();
        assert_eq!(r.records.len(), 1);
    });
}

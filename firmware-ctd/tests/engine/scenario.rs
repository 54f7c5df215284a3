//! One test for each case that has a name.

use firmware_ctd::engine::{Engine, EventPath, Output, Settings, Source};
use firmware_ctd::probe;
use firmware_ctd::record::{Cause, Kind as RecordKind};
use firmware_ctd::table::{Slot, flag};
use firmware_ctd::time::{Duration, Instant};
use firmware_ctd::wire::{Conntrack, Counters, Event, Message, Messages, Writer};

use crate::edge::{REFRESH_S, Router, sizes, take_record};
use crate::kernel::{Kind, Recipe, Trouble, name};

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

#[test]
fn destroy_without_new_is_reported_from_what_it_carries() {
    for kind in every_kind() {
        with_router(Kind { state_room: 0, ..kind }, |r| {
            let serial = r.kernel.create(fresh(4), 0).unwrap();
            r.kernel.traffic(serial, 5, 500, 0);
            r.kernel.destroy(serial);
            r.round();
            assert_eq!(r.records.len(), 1);
            assert_eq!(r.engine.stats().destroys_without_new, 1);
            r.check();
        });
    }
}

#[test]
fn update_without_new_makes_the_flow_known() {
    for kind in every_kind() {
        with_router(kind, |r| {
            let serial = r.kernel.create(fresh(4), 0).unwrap();
            r.kernel.state_queue.clear();
            r.kernel.traffic(serial, 5, 500, 0);
            r.round();
            assert!(slot_of(r, 4).is_some());
            assert_eq!(r.engine.stats().updates_without_new, 1);
            r.check();
        });
    }
}

#[test]
fn a_late_new_of_a_dead_flow_leaves_no_ghost() {
    for kind in every_kind() {
        with_router(kind, |r| {
            let serial = r.kernel.create(fresh(4), 50_000).unwrap();
            r.kernel.destroy(serial);
            r.round();
            assert_eq!(r.records.len(), 1);
            r.pass(100_000);
            if kind.timestamps && kind.event_ns {
                assert_eq!(slot_of(r, 4), None, "the times tell that it is late");
                assert_eq!(r.engine.stats().late_events, 1);
            }
            r.check();
            assert_eq!(r.records.len(), 1);
        });
    }
}

#[test]
fn a_late_update_of_a_dead_flow_leaves_no_ghost() {
    for kind in every_kind() {
        with_router(kind, |r| {
            let serial = r.kernel.create(fresh(4), 0).unwrap();
            r.round();
            r.kernel.change_mark(serial, 30_000);
            let mark = r.kernel.flow(serial).mark;
            r.kernel.destroy(serial);
            r.pass(100_000);
            r.check();
            assert_eq!(r.records.len(), 1);
            assert_eq!(r.records[0].mark, mark);
        });
    }
}

/// The NEW of a dead flow comes when its successor, with the same id, already stands in the table.
#[test]
fn a_late_new_of_the_same_id_is_not_taken_for_the_successors() {
    with_router(Kind::default(), |r| {
        let first = r.kernel.create(again(4), 30_000).unwrap();
        r.kernel.destroy(first);
        r.pass(15_000);
        let second = r.kernel.create(again(4), 0).unwrap();
        r.pass(100_000);
        let flow = r.engine.table().flow(slot_of(r, 4).unwrap());
        assert_eq!(flow.mark(), second);
        assert_eq!(r.engine.stats().late_events, 1);
        r.check();
        assert_eq!(r.records.len(), 1);
    });
}

/// As before, but the DESTROY of the dead flow has not been read yet.
#[test]
fn a_late_new_is_not_taken_for_the_successors_before_the_destroy_either() {
    with_router(Kind::default(), |r| {
        let first = r.kernel.create(again(4), 30_000).unwrap();
        r.kernel.destroy(first);
        r.holds = true;
        r.pass(15_000);
        let second = r.kernel.create(again(4), 0).unwrap();
        r.pass(100_000);
        let flow = r.engine.table().flow(slot_of(r, 4).unwrap());
        assert_eq!(flow.mark(), second);
        r.check();
        assert_eq!(r.records.len(), 1);
    });
}

/// The predecessor's end was lost; the successor with its id lives so shortly that its DESTROY comes
/// before its NEW, which must not make the predecessor look like it.
#[test]
fn a_late_new_does_not_give_its_name_to_a_predecessor_that_vanished() {
    with_router(Kind { reliable: false, ..Kind::default() }, |r| {
        let first = r.kernel.create(again(4), 0).unwrap();
        r.pass_s(10);
        r.kernel.kind.destroy_room = 0;
        r.kernel.destroy(first);
        r.kernel.kind.destroy_room = 1_000;
        r.pass(20_000);
        let second = r.kernel.create(again(4), 30_000).unwrap();
        r.kernel.destroy(second);
        r.pass(100_000);
        r.check();
        let marks: Vec<u32> = r.records.iter().map(|record| record.mark).collect();
        assert_eq!(marks, [second, first]);
    });
}

/// A packet on one processor and the end of the flow on another: the UPDATE's time is a little
/// after the end.
#[test]
fn an_update_made_while_the_flow_died_leaves_no_ghost() {
    for kind in every_kind() {
        with_router(kind, |r| {
            let serial = r.kernel.create(fresh(4), 0).unwrap();
            r.round();
            r.kernel.destroy(serial);
            r.round();
            r.kernel.change_mark(serial, 0);
            let update_ns = r.kernel.wall_ns();
            assert!(r.kernel.flow(serial).stop_ns.is_none_or(|stop_ns| stop_ns < update_ns));
            r.round();
            r.settle();
            assert!(r.engine.table().is_empty());
            assert_eq!(r.records.len(), 1);
        });
    }
}

/// The UPDATE of the first flow comes when the second, with another id, already stands in the
/// table: it must not be taken for a third.
#[test]
fn a_late_update_beside_the_successor_makes_no_third_flow() {
    for kind in every_kind() {
        with_router(kind, |r| {
            let first = r.kernel.create(fresh(4), 0).unwrap();
            r.round();
            r.kernel.change_mark(first, 30_000);
            r.kernel.destroy(first);
            let second = r.kernel.create(fresh(4), 0).unwrap();
            r.pass(100_000);
            // The second one goes on, and ends before any dump could clear up.
            r.kernel.traffic(second, 3, 300, 0);
            r.round();
            r.kernel.destroy(second);
            r.pass(100_000);
            r.check();
            assert_eq!(r.records.len(), 2);
        });
    }
}

/// The successor's NEW is read before the predecessor's DESTROY: two flows of one tuple stand in
/// the table for a while, and each DESTROY finds its own.
#[test]
fn a_reused_tuple_has_two_flows_for_a_while() {
    for kind in every_kind() {
        for in_dump in [false, true] {
            with_router(kind, |r| {
                let first = r.kernel.create(fresh(6), 0).unwrap();
                r.kernel.traffic(first, 10, 1000, 0);
                r.pass_s(if in_dump { REFRESH_S + 5 } else { 1 });
                r.holds = true;
                r.kernel.destroy(first);
                let second = r.kernel.create(fresh(6), 0).unwrap();
                r.round();
                assert_eq!(r.engine.table().len(), 2);
                assert_eq!(r.engine.stats().tuples_reused, 1);
                r.kernel.traffic(second, 1, 1, 0);
                r.kernel.destroy(second);
                r.holds = false;
                r.pass(100_000);
                assert!(r.engine.table().is_empty());
                r.check();
                assert_eq!(r.records.len(), 2);
            });
        }
    }
}

#[test]
fn an_id_that_repeats_at_once_confuses_no_accounts() {
    for kind in every_kind() {
        for in_dump in [false, true] {
            with_router(kind, |r| {
                let first = r.kernel.create(again(6), 0).unwrap();
                r.kernel.traffic(first, 10, 1000, 0);
                r.pass_s(if in_dump { REFRESH_S + 5 } else { 1 });
                r.kernel.destroy(first);
                let second = r.kernel.create(again(6), 0).unwrap();
                assert_eq!(r.kernel.flow(first).id, r.kernel.flow(second).id);
                r.round();
                r.kernel.traffic(second, 1, 1, 0);
                r.round();
                r.kernel.destroy(second);
                let third = r.kernel.create(again(6), 0).unwrap();
                r.kernel.traffic(third, 2, 2, 0);
                r.check();
                assert_eq!(r.records.len(), 2);
            });
        }
    }
}

/// Another listener does not read, so the kernel repeats the DESTROY to everybody, and the
/// successor of the flow has the same id.
#[test]
fn a_repeated_destroy_is_dropped_and_does_not_touch_the_successor() {
    for kind in [Kind::default(), older()] {
        with_router(kind, |r| {
            let first = r.kernel.create(again(5), 0).unwrap();
            r.round();
            r.kernel.destroy(first);
            let repeat = r.kernel.destroy_queue[0].clone();
            r.round();
            assert_eq!(r.records.len(), 1);
            let second = r.kernel.create(again(5), 0).unwrap();
            r.round();
            for _ in 0..50 {
                r.kernel.destroy_queue.push_back(repeat.clone());
                r.round();
            }
            assert_eq!(r.records.len(), 1);
            assert_eq!(r.engine.stats().repeated_destroys, 50);
            assert_eq!(r.engine.stats().destroys_without_new, 0);
            let slot = slot_of(r, 5).expect("the successor lives");
            assert_eq!(r.engine.table().flow(slot).mark(), second);
            r.check();
        });
    }
}

#[test]
fn destroys_repeated_because_of_another_listener_are_reported_once() {
    with_router(Kind::default(), |r| {
        r.kernel.other_listener_full = true;
        for n in 0..20 {
            let serial = r.kernel.create(fresh(n), 0).unwrap();
            r.pass(1_000);
            r.kernel.destroy(serial);
        }
        r.pass_s(3);
        assert_eq!(r.records.len(), 20);
        assert!(r.engine.stats().repeated_destroys > 150);
        r.check();
    });
}

#[test]
fn weak_keys_are_never_taken_for_repeats() {
    with_router(without_timestamps(), |r| {
        for _ in 0..3 {
            let serial = r.kernel.create(again(6), 0).unwrap();
            r.round();
            r.kernel.destroy(serial);
            r.round();
        }
        assert_eq!(r.records.len(), 3);
        assert!(r.records.iter().all(|record| record.key.is_weak()));
        assert_eq!(r.engine.stats().weak_keys, 3);
        r.check();
    });
}

/// Some kernel code makes flows without setting their start: 0 is no time.
#[test]
fn a_start_of_zero_is_no_start() {
    with_router(Kind::default(), |r| {
        let mut records = Vec::new();
        for _ in 0..2 {
            let serial = r.kernel.create(fresh(6), 0).unwrap();
            r.round();
            r.kernel.destroy(serial);
            r.kernel.destroy_queue.clear();
            r.kernel.flow_mut(serial).delivered = 0;
            r.kernel.flow_mut(serial).start_ns = None;
            let flow = r.kernel.flow(serial).clone();
            let ct = Conntrack {
                orig: Some(flow.orig),
                reply: Some(flow.reply),
                id: Some(flow.id),
                mark: Some(flow.mark),
                start_ns: Some(0),
                ..Conntrack::default()
            };
            give(&mut r.engine, r.kernel.now(), Source::Destroy, Event::Destroy, &ct);
            records.extend(take_record(&mut r.engine));
        }
        assert_eq!(records.len(), 2, "the second is no repeat of the first");
        for record in records {
            assert!(record.key.is_weak());
            assert_ne!(record.start_ns, Some(0));
        }
    });
}

/// A TCP flow's NEW has the time when its first packet came in; the flow starts when that packet
/// has passed, which may take seconds if it was queued to a program.
#[test]
fn a_packet_that_waited_on_its_way_begins_one_flow() {
    with_router(Kind::default(), |r| {
        let serial = r.kernel.create(fresh(6), 0).unwrap();
        r.round();
        let start_ns = &mut r.kernel.flow_mut(serial).start_ns;
        *start_ns = start_ns.map(|start_ns| start_ns + 3_000_000_000);
        r.pass_s(2 * REFRESH_S);
        assert_eq!((r.engine.table().len(), r.engine.stats().tuples_reused), (1, 0));
        r.kernel.destroy(serial);
        r.settle();
        assert_eq!((r.records.len(), r.engine.table().len()), (1, 0));
        r.check();
    });
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
fn counters_that_run_backwards_make_a_lower_bound() {
    for (zeroed_before_dump, kind) in [(true, Kind::default()), (false, older())] {
        with_router(kind, |r| {
            let serial = r.kernel.create(fresh(6), 0).unwrap();
            r.kernel.traffic(serial, 100, 1000, 0);
            r.pass_s(REFRESH_S + 5);
            r.kernel.traffic(serial, 4, 40, 0);
            r.kernel.zero_counters();
            r.kernel.traffic(serial, 7, 70, 0);
            if zeroed_before_dump {
                r.pass_s(REFRESH_S + 5);
                assert_eq!(r.engine.stats().inexact_flows, 1);
                let flow = r.engine.table().flow(slot_of(r, 6).unwrap());
                assert!(flow.has(flag::INEXACT));
            }
            r.kernel.traffic(serial, 1, 10, 0);
            r.kernel.destroy(serial);
            r.pass(1_000);
            let record = r.records[0];
            assert!(record.inexact);
            // Told before: 100; told since: 7 + 1; the 4 in between nobody saw.
            let [orig, reply] = record.counters.unwrap();
            assert_eq!(orig, Counters { packets: 108, bytes: 1080 });
            assert_eq!(reply, Counters { packets: 108, bytes: 2160 });
            assert_eq!(r.engine.stats().inexact_flows, 1);
            r.check();
        });
    }
}

#[test]
fn accounts_survive_many_zeroings_while_there_is_room() {
    // 100 flows, 13 of them of IPv6: 213 cells. With counts to carry on each takes one more.
    for (capacity, exactly) in [(157, 100), (132, 51)] {
        with_capacity(Kind::default(), capacity, |r| {
            let serials: Vec<u32> =
                (0..100).map(|n| r.kernel.create(fresh(n), 0).unwrap()).collect();
            for round in 0..5 {
                for &serial in &serials {
                    r.kernel.traffic(serial, 100 - 10 * round, 100, 0);
                }
                r.pass_s(REFRESH_S + 5);
                r.kernel.zero_counters();
            }
            r.pass_s(REFRESH_S + 5);
            assert_eq!(
                r.engine.ledger().carried_full,
                100 - exactly,
                "{:?}",
                r.engine.table().usage()
            );
            for &serial in &serials {
                r.kernel.destroy(serial);
                r.pass(1_000);
            }
            assert!(r.records.iter().all(|record| record.inexact));
            let sums = r.records.iter().map(|record| record.counters.unwrap()[0].packets);
            assert_eq!(sums.filter(|&packets| packets == 400).count() as u64, exactly);
        });
    }
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
fn a_flow_that_never_tells_its_end_is_missed_and_then_reported_once() {
    for kind in every_kind() {
        with_router(kind, |r| {
            let serial = r.kernel.create(mute(6), 0).unwrap();
            r.kernel.traffic(serial, 9, 90, 0);
            r.pass_s(REFRESH_S + 5);
            r.kernel.traffic(serial, 9, 90, 0);
            r.kernel.destroy(serial);
            r.check();
            assert_eq!(r.records.len(), 1);
            let record = r.records[0];
            assert_eq!(record.cause, Cause::Resync);
            assert_eq!(record.key.is_weak(), !kind.timestamps);
            if kind.acct {
                assert_eq!(record.counters.unwrap()[0], Counters { packets: 9, bytes: 90 });
            }
            assert_eq!(r.engine.ledger().vanished_unseen, 1);
        });
    }
}

/// The record says when the daemon last knew that the flow lived, also when nothing was counted.
#[test]
fn as_of_without_counters_is_when_the_flow_was_last_seen() {
    let kind = Kind { acct: false, reliable: false, ..Kind::default() };
    with_router(kind, |r| {
        let serial = r.kernel.create(fresh(6), 0).unwrap();
        r.pass_s(20);
        let seen_ns = r.kernel.wall_ns();
        r.kernel.change_mark(serial, 0);
        r.round();
        r.kernel.kind.destroy_room = 0;
        r.kernel.destroy(serial);
        r.settle();
        let as_of = r.records[0].as_of_ns.unwrap();
        assert!(as_of.abs_diff(seen_ns) <= 1_000_000_000, "{as_of} {seen_ns}");
    });
}

#[test]
fn a_destroy_that_comes_before_the_second_dump_has_the_exact_counters() {
    with_router(Kind { destroy_room: 4, ..Kind::default() }, |r| {
        let serials: Vec<u32> = (0..40).map(|n| r.kernel.create(fresh(n), 0).unwrap()).collect();
        r.pass_s(REFRESH_S - 2);
        for &serial in &serials {
            r.kernel.traffic(serial, 3, 33, 0);
        }
        // The sinks are full over several dumps.
        r.holds = true;
        for &serial in &serials {
            r.kernel.destroy(serial);
        }
        r.pass_s(3 * REFRESH_S);
        assert_eq!(r.records.len(), 0, "nothing is called gone while destroys wait");
        r.holds = false;
        r.pass_s(10);
        assert_eq!(r.records.len(), 40);
        assert!(r.records.iter().all(|record| record.cause == Cause::Event));
        r.check();
    });
}

/// Our buffer was full for a moment, and then another listener holds up the kernel's repeats.
#[test]
fn a_destroy_that_waits_behind_another_listeners_is_waited_for() {
    for kind in [Kind::default(), without_timestamps()] {
        a_destroy_waits_behind_another_listeners(kind);
    }
}

fn a_destroy_waits_behind_another_listeners(kind: Kind) {
    with_router(Kind { destroy_room: 1, ..kind }, |r| {
        let serials: Vec<u32> = (0..3).map(|n| r.kernel.create(fresh(n), 0).unwrap()).collect();
        r.pass_s(REFRESH_S - 2);
        r.kernel.other_listener_full = true;
        for &serial in &serials {
            r.kernel.traffic(serial, 3, 33, 0);
            r.kernel.destroy(serial);
        }
        r.pass_s(3 * REFRESH_S);
        assert!(r.records.iter().all(|record| record.cause == Cause::Event));
        let reported = |r: &Router<'_>, serial| r.records.iter().any(|rec| rec.mark == serial);
        assert!(!reported(r, serials[1]) && !reported(r, serials[2]), "they are on their way");
        r.check();
        assert!(serials.iter().all(|&serial| reported(r, serial)));
        assert!(r.records.iter().all(|record| record.cause == Cause::Event));
    });
}

#[test]
fn a_best_effort_kernel_loses_destroys_and_the_resync_reports_them() {
    with_router(Kind { reliable: false, destroy_room: 4, ..Kind::default() }, |r| {
        let serials: Vec<u32> = (0..40).map(|n| r.kernel.create(fresh(n), 0).unwrap()).collect();
        for &serial in &serials {
            r.kernel.traffic(serial, 3, 33, 0);
        }
        r.pass_s(REFRESH_S + 5);
        let before = r.engine.stats().resyncs;
        for &serial in &serials {
            r.kernel.destroy(serial);
        }
        r.pass_s(8);
        assert_eq!(r.engine.stats().resyncs, before + 1);
        assert_eq!(r.records.len(), 40, "within seconds, not with the next refresh");
        assert_eq!(r.engine.ledger().vanished_unseen, 36);
        r.check();
    });
}

#[test]
fn lost_news_are_found_by_a_resync() {
    for kind in every_kind() {
        with_router(Kind { state_room: 3, ..kind }, |r| {
            for n in 0..40 {
                r.kernel.create(fresh(n), 0).unwrap();
            }
            r.pass_s(2);
            assert_eq!(r.engine.stats().resyncs, 1);
            assert_eq!(r.engine.table().len(), 40);
            r.check();
        });
    }
}

/// Overruns all the time, for half an hour: resyncs become rare.
#[test]
fn constant_overruns_make_few_dumps() {
    for kind in [Kind::default(), Kind { reliable: false, ..Kind::default() }] {
        with_router(Kind { state_room: 0, destroy_room: 1, ..kind }, |r| {
            let before = r.dumps_at.len();
            for at in 0..1_800 {
                for n in 0..3 {
                    let serial = r.kernel.create(fresh(3 * at + n), 0).unwrap();
                    r.kernel.destroy(serial);
                }
                r.pass_s(1);
            }
            let dumps = r.dumps_at.len() - before;
            // Up to a minute each: 200 ms doubled nine times, and then 27 more; about as many
            // confirmations.
            assert!((30..80).contains(&dumps), "{dumps} dumps in half an hour");
            assert!(r.dumps_at.windows(2).all(|pair| pair[1] - pair[0] >= 200_000));
            r.check();
        });
    }
}

#[test]
fn refreshes_come_at_their_pace_and_no_other_dumps() {
    for kind in every_kind() {
        with_router(kind, |r| {
            let serials: Vec<u32> =
                (0..100).map(|n| r.kernel.create(fresh(n), 0).unwrap()).collect();
            r.pass_s(1);
            let before = r.dumps_at.len();
            // Flows come and go all the time, but every event arrives.
            for (at, &serial) in serials.iter().cycle().take(600).enumerate() {
                let at = u32::try_from(at).unwrap();
                if at < 100 {
                    r.kernel.destroy(serial);
                }
                let serial = r.kernel.create(fresh(1000 + at), 0).unwrap();
                r.pass_s(1);
                r.kernel.destroy(serial);
            }
            r.pass(10_000);
            let dumps = r.dumps_at.len() - before;
            assert!((8..=10).contains(&dumps), "{dumps} dumps in ten minutes");
            assert_eq!(r.records.len(), 700);
            r.check();
        });
    }
}

/// Without events every dump finds something new that is gone. That must not make dumps follow
/// one another without an end.
#[test]
fn polling_reports_what_vanished_at_the_pace_of_the_refreshes() {
    for kind in every_kind() {
        with_capacity(Kind { events: false, ..kind }, 1_024, |r| {
            let before = r.dumps_at.len();
            let mut serials = Vec::new();
            for at in 0..600 {
                let serial = r.kernel.create(fresh(at), 0).unwrap();
                r.kernel.traffic(serial, 2, 20, 0);
                serials.push(serial);
                if at >= 200 {
                    r.kernel.destroy(serials[at as usize - 200]);
                }
                r.pass_s(1);
            }
            let dumps = r.dumps_at.len() - before;
            // A confirmation between two refreshes.
            assert!((15..=21).contains(&dumps), "{dumps} dumps in ten minutes");
            r.check();
            assert_eq!(r.records.len(), 400);
            assert!(r.records.iter().all(|record| record.cause == Cause::Resync));
        });
    }
}

#[test]
fn polling_sees_that_a_tuple_was_reused() {
    with_router(Kind { events: false, ..Kind::default() }, |r| {
        let first = r.kernel.create(again(6), 0).unwrap();
        r.kernel.traffic(first, 2, 20, 0);
        r.pass_s(REFRESH_S + 5);
        r.kernel.destroy(first);
        let second = r.kernel.create(again(6), 0).unwrap();
        r.kernel.traffic(second, 1, 10, 0);
        r.check();
        assert_eq!(r.records.len(), 1);
        assert!(!r.records[0].inexact);
    });
}

#[test]
fn dumps_that_fail_are_made_again_after_longer_and_longer_waits() {
    let troubles = [
        Trouble::Refused,
        Trouble::FailsAtEnd,
        Trouble::Interrupted,
        Trouble::Silent,
        Trouble::Garbled,
    ];
    for trouble in troubles {
        with_router(Kind::default(), |r| {
            let serial = r.kernel.create(mute(6), 0).unwrap();
            r.kernel.create(fresh(7), 0).unwrap();
            r.pass_s(REFRESH_S + 5);
            let (dumps, failed) = (r.dumps_at.len(), r.engine.stats().dumps_failed);
            assert_eq!(failed, 0);
            for _ in 0..10 * REFRESH_S {
                r.kernel.trouble = trouble;
                r.pass_s(1);
            }
            let made = r.dumps_at.len() - dumps;
            assert!((5..40).contains(&made), "{trouble:?}: {made} dumps in ten minutes");
            assert!(r.engine.stats().dumps_failed > 5, "{trouble:?}");
            assert_eq!(r.records.len(), 0, "{trouble:?}");
            r.kernel.destroy(serial);
            r.check();
            assert_eq!(r.records.len(), 1, "{trouble:?}");
        });
    }
}

/// What a dump left out because it could not be read is not gone.
#[test]
fn an_entry_that_cannot_be_read_is_not_called_gone() {
    with_router(Kind::default(), |r| {
        for n in 0..10 {
            r.kernel.create(fresh(n), 0).unwrap();
        }
        for _ in 0..20 {
            // The first entry of every dump, always the same.
            r.kernel.trouble = Trouble::Garbled;
            r.pass_s(20);
        }
        assert_eq!(r.records.len(), 0);
        assert!(r.engine.ledger().malformed >= 5);
        r.check();
    });
}

/// The daemon was stopped in the middle of a dump: what was not read is no silence.
#[test]
fn a_daemon_that_was_stopped_goes_on_with_its_dump() {
    with_router(Kind::default(), |r| {
        for n in 0..60 {
            r.kernel.create(fresh(n), 0).unwrap();
        }
        r.pass_s(1);
        while r.kernel.dumps_begun < 2 {
            r.pass(10_000);
        }
        r.kernel.advance(30_000_000);
        r.pass_s(2);
        assert_eq!(r.engine.stats().dumps_failed, 0);
        r.check();
    });
}

#[test]
fn a_message_cut_off_by_the_buffer_is_counted_and_asked_for_again() {
    with_router(Kind::default(), |r| {
        let dumps = r.dumps_at.len();
        r.kernel.create(fresh(5), 0).unwrap();
        r.kernel.state_queue.clear();
        r.engine.handle_truncated(r.kernel.now().boot);
        r.pass_s(3);
        assert_eq!(r.dumps_at.len(), dumps + 1);
        assert_eq!(r.engine.ledger().truncated, 1);
        r.check();
    });
}

#[test]
fn the_operator_gets_a_resync() {
    with_router(Kind::default(), |r| {
        let dumps = r.dumps_at.len();
        r.engine.resync(r.kernel.now().boot);
        r.pass_s(3);
        assert_eq!(r.dumps_at.len(), dumps + 1);
    });
}

/// A socket that is opened anew counts from 0 again.
#[test]
fn a_drop_count_that_began_anew_is_no_overrun() {
    with_router(Kind::default(), |r| {
        let now = r.kernel.now().boot;
        r.engine.handle_drops(now, Source::State, 70);
        assert_eq!(r.engine.stats().state_overruns, 70);
        r.pass_s(3);
        let resyncs = r.engine.stats().resyncs;
        r.engine.handle_drops(now, Source::State, 0);
        r.engine.handle_drops(now, Source::State, 5);
        assert_eq!(r.engine.stats().state_overruns, 75);
        r.pass_s(3);
        assert_eq!(r.engine.stats().resyncs, resyncs + 1);
    });
}

/// A part of a dump is made ready before it is read: meanwhile flows die and others come.
#[test]
fn a_stale_part_of_a_dump_brings_nothing_back() {
    for kind in every_kind() {
        for reuse in [None, Some(false), Some(true)] {
            with_router(Kind { part: 100, ..kind }, |r| {
                let serials: Vec<u32> =
                    (0..20).map(|n| r.kernel.create(again(n), 0).unwrap()).collect();
                r.pass_s(1);
                let dumps = r.kernel.dumps_begun;
                r.engine.resync(r.kernel.now().boot);
                // The request has been made, its first part lies ready.
                while r.kernel.dumps_begun == dumps {
                    r.kernel.advance(1_000);
                    let now = r.kernel.now();
                    r.engine.handle_timeout(now);
                    if let Some(Output::StartDump { seq, .. }) = r.engine.poll_output() {
                        r.kernel.request_dump(seq);
                    }
                }
                for (n, &serial) in (0..).zip(&serials) {
                    r.kernel.destroy(serial);
                    if let Some(same_memory) = reuse {
                        r.kernel.create(Recipe { same_memory, ..fresh(n) }, 0).unwrap();
                    }
                }
                r.pass(500_000);
                let left = if reuse.is_some() { 20 } else { 0 };
                if kind.timestamps && reuse != Some(true) {
                    assert_eq!(r.engine.table().len(), left, "{reuse:?} {kind:?}");
                }
                r.check();
                assert_eq!(r.records.len(), 20, "{reuse:?} {kind:?}");
            });
        }
    }
}

#[test]
fn clocks_that_are_stepped_confuse_no_accounts() {
    for kind in [Kind::default(), older()] {
        for step_s in [3_600_i64, -3_600, 40 * 365 * 86_400, -40 * 365 * 86_400] {
            with_router(kind, |r| {
                let first = r.kernel.create(fresh(1), 0).unwrap();
                let second = r.kernel.create(fresh(2), 0).unwrap();
                let third = r.kernel.create(mute(4), 0).unwrap();
                r.pass_s(REFRESH_S + 5);
                let fourth = r.kernel.create(fresh(5), 0).unwrap();
                r.pass_s(1);
                r.kernel.step_clock(step_s * 1_000_000_000);
                r.kernel.traffic(first, 1, 1, 0);
                r.kernel.change_mark(first, 0);
                r.kernel.destroy(second);
                let reused = r.kernel.create(again(2), 0).unwrap();
                r.kernel.destroy(third);
                r.pass_s(1);
                let slot = slot_of(r, 1).unwrap();
                let mark = r.engine.table().flow(slot).mark();
                assert_eq!(mark, r.kernel.flow(first).mark, "news are heard over a step");
                r.kernel.destroy(fourth);
                r.pass_s(1);
                r.kernel.destroy(reused);
                r.check();
                assert_eq!(r.records.len(), 4);
            });
        }
    }
}

/// A NEW that was not taken is sent with the next event of the flow, after the clock was set back.
#[test]
fn a_new_that_comes_after_the_clock_was_set_back_is_of_its_flow() {
    for step_s in [1, 5, 3_600] {
        with_router(Kind { state_room: 1, ..Kind::default() }, |r| {
            r.kernel.create(fresh(1), 0).unwrap();
            let serial = r.kernel.create(fresh(2), 0).unwrap();
            r.pass(300_000);
            r.kernel.step_clock(-step_s * 1_000_000_000);
            r.kernel.change_mark(serial, 0);
            r.pass_s(30);
            r.kernel.destroy(serial);
            r.pass(1_000);
            r.check();
            assert_eq!(r.records.len(), 1);
        });
    }
}

/// The dump that might judge began when all was quiet, but then a destroy was late.
#[test]
fn a_destroy_that_is_late_during_the_dump_puts_off_the_judgement() {
    with_router(Kind { reliable: false, part: 1, ..Kind::default() }, |r| {
        let serials: Vec<u32> = (0..30).map(|n| r.kernel.create(fresh(n), 0).unwrap()).collect();
        let gone = r.kernel.create(mute(50), 0).unwrap();
        r.pass_s(REFRESH_S + 5);
        r.kernel.destroy(gone);
        let missed = r.engine.stats().flows_missed;
        while r.engine.stats().flows_missed == missed {
            r.pass(10_000);
        }
        let dumps = r.kernel.dumps_begun;
        while r.kernel.dumps_begun == dumps {
            r.kernel.advance(1_000);
            r.round();
        }
        r.kernel.kind.destroy_room = 0;
        r.kernel.destroy(serials[0]);
        r.kernel.kind.destroy_room = 1_000;
        r.pass_s(1);
        assert_eq!(r.records.len(), 0, "not yet");
        r.check();
        assert_eq!(r.records.len(), 2);
    });
}

/// Missed by a dump, but then its DESTROY came: there is nothing to confirm.
#[test]
fn a_missed_flow_whose_destroy_comes_needs_no_second_dump() {
    with_router(Kind { part: 100, ..Kind::default() }, |r| {
        let serial = r.kernel.create(fresh(1), 0).unwrap();
        r.pass_s(REFRESH_S - 2);
        r.holds = true;
        r.kernel.destroy(serial);
        let (missed, dumps) = (r.engine.stats().flows_missed, r.dumps_at.len());
        while r.engine.stats().flows_missed == missed {
            r.pass(10_000);
        }
        r.holds = false;
        r.pass_s(REFRESH_S / 2);
        assert_eq!(r.records.len(), 1);
        assert_eq!(r.dumps_at.len(), dumps + 1, "the refresh that missed it, and no confirmation");
        r.check();
    });
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
fn a_shorter_refresh_counts_from_the_last_dump() {
    with_router(Kind::default(), |r| {
        let before = r.dumps_at.len();
        let hour = Settings { refresh: Duration::from_secs(3_600), ..r.engine.settings() };
        r.engine.set_settings(hour);
        r.pass_s(600);
        assert_eq!(r.dumps_at.len(), before);
        let minute = Settings {
            refresh: Duration::from_secs(60),
            events: EventPath::BestEffort,
            observed: false,
        };
        r.engine.set_settings(minute);
        r.pass_s(1);
        assert_eq!(r.dumps_at.len(), before + 1, "600 s are more than 60");
    });
}

/// The sweep of a big table goes in steps, each of which leaves the loop to others.
#[test]
fn a_sweep_goes_in_steps_and_reports_thousands() {
    with_capacity(Kind { part: 100, ..Kind::default() }, 16_384, |r| {
        let serials: Vec<u32> = (0..3_000).map(|n| r.kernel.create(mute(n), 0).unwrap()).collect();
        r.pass_s(REFRESH_S + 5);
        assert_eq!(r.engine.table().len(), 3_000);
        for &serial in &serials {
            r.kernel.destroy(serial);
        }
        r.pass_s(3 * REFRESH_S);
        assert_eq!(r.records.len(), 3_000);
        assert!(r.engine.table().is_empty());
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

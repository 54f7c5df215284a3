//! Messages that come late, early, or more than once; tuples and ids that come again.

use firmware_ctd::engine::Source;
use firmware_ctd::wire::{Conntrack, Event};

use super::{again, every_kind, fresh, give, older, slot_of, with_router, without_timestamps};
use crate::edge::{REFRESH_S, take_record};
use crate::kernel::Kind;

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

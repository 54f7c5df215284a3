//! Flows whose end nobody told.

use firmware_ctd::record::Cause;
use firmware_ctd::wire::Counters;

use super::{again, every_kind, fresh, mute, with_capacity, with_router, without_timestamps};
use crate::edge::{REFRESH_S, Router};
use crate::kernel::Kind;

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

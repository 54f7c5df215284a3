//! Counters that run backwards, and clocks that are set.

use firmware_ctd::table::flag;
use firmware_ctd::wire::Counters;

use super::{again, fresh, mute, older, slot_of, with_capacity, with_router};
use crate::edge::REFRESH_S;
use crate::kernel::Kind;

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

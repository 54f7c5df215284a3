//! Flows that live through a reboot keep their accounts.

use firmware_ctd::checkpoint::SavedFlow;
use firmware_ctd::engine::{Engine, Output, Purpose, WishedDump};
use firmware_ctd::record::Cause;
use firmware_ctd::table::{Full, flag};
use firmware_ctd::wire::Counters;

use crate::edge::{REFRESH_S, Router, SINKS, sizes};
use crate::kernel::{Fate, Kind, Recipe, Trouble};

fn fresh(name: u32) -> Recipe {
    Recipe { name, same_memory: false, tells: true }
}

/// A router that has run for a while, and memory for three boots more.
fn with_router(kind: Kind, test: impl FnOnce(&mut Router<'_>, [&'static mut [u32]; 3])) {
    let memory = || Box::leak(vec![0; sizes(256).words()].into_boxed_slice());
    let mut router = Router::new(memory(), kind, 256);
    router.pass_s(1);
    test(&mut router, [memory(), memory(), memory()]);
}

fn totals(packets: u64, bytes: u64) -> Option<[Counters; 2]> {
    Some([Counters { packets, bytes }, Counters { packets, bytes: 2 * bytes }])
}

#[test]
fn an_account_spans_three_reboots() {
    with_router(Kind::default(), |r, memories| {
        // IPv4 and IPv6, with and without rare attributes.
        let begun_ns = r.kernel.wall_ns();
        let mut serials: Vec<u32> =
            [0, 2, 7, 8].map(|n| r.kernel.create(fresh(n), 0).unwrap()).to_vec();
        let mut accounts = Vec::new();
        for memory in memories {
            for &serial in &serials {
                r.kernel.traffic(serial, 10, 100, 0);
            }
            r.pass_s(1);
            let mut saved = r.save();
            saved.sort_by_key(|(flow, _)| flow.mark & 0xff);
            accounts.push(saved.iter().map(|(flow, _)| flow.account()).collect::<Vec<_>>());
            r.reboot(memory, &saved, |_| Fate::Made);
            serials = (1..=4).collect();
            // Before the first dump, and then as an ordinary flow.
            assert_eq!(r.engine.table().len(), 4);
            r.pass_s(1);
            assert!(r.records.is_empty());
        }
        assert!(accounts.iter().all(|all| *all == accounts[0] && all.iter().all(Option::is_some)));
        for &serial in &serials {
            r.kernel.traffic(serial, 1, 7, 0);
            r.kernel.destroy(serial);
        }
        r.pass_s(1);
        assert_eq!(r.records.len(), 4);
        for (record, account) in r.records.iter().zip(&accounts[0]) {
            assert_eq!(record.cause, Cause::Event);
            assert_eq!(record.counters, totals(31, 307));
            assert_eq!(record.account, *account);
            assert!(!record.key.is_weak(), "of this boot's start");
            let start_ns = record.start_ns.unwrap();
            assert!(start_ns.abs_diff(begun_ns) < 2_000_000, "{start_ns} {begun_ns}");
            assert!(!record.inexact);
        }
        r.check();
    });
}

#[test]
fn the_list_shows_sums_and_account_from_the_beginning_on() {
    with_router(Kind::default(), |r, [memory, ..]| {
        let serial = r.kernel.create(fresh(1), 0).unwrap();
        r.kernel.traffic(serial, 10, 100, 0);
        r.pass_s(1);
        let saved = r.save();
        r.reboot(memory, &saved, |_| Fate::Made);
        let account = saved[0].0.account();
        for sum in [10, 15] {
            let table = r.engine.table();
            let slot = table.find(&table.key(&saved[0].0.orig, 0)).unwrap();
            let shown = r.engine.flow_record(r.kernel.now(), slot);
            assert_eq!((shown.account, shown.counters), (account, totals(sum, 10 * sum)));
            assert_eq!(shown.start_ns, saved[0].0.start_ms.map(|ms| ms * 1_000_000));
            r.kernel.traffic(1, 5, 50, 0);
            r.pass_s(1);
        }
        r.check();
    });
}

#[test]
fn what_ended_unheard_is_reported_as_it_was_saved() {
    for kind in [Kind::default(), Kind { timestamps: false, ..Kind::default() }] {
        with_router(kind, |r, [memory, ..]| {
            for n in 0..3 {
                let serial = r.kernel.create(fresh(n), 0).unwrap();
                r.kernel.traffic(serial, 10, 100, 0);
            }
            r.pass_s(1);
            let saved = r.save();
            let fates = [Fate::Made, Fate::Ended, Fate::Refused];
            r.reboot(memory, &saved, |n| fates[n]);
            r.pass(100_000);
            assert!(r.records.is_empty(), "one dump is not enough");
            r.pass_s(5);
            assert_eq!(r.records.len(), 2);
            for record in &r.records {
                let (flow, saved_ms) =
                    saved.iter().find(|(flow, _)| flow.orig == record.orig).unwrap();
                assert_eq!(record.cause, Cause::Restart);
                assert_eq!(record.counters, flow.counters);
                assert_eq!(record.as_of_ns, Some(saved_ms * 1_000_000));
                assert_eq!(record.account, flow.account());
                assert_eq!(record.status, flow.status);
            }
            assert_eq!(r.engine.ledger().vanished_unseen, 2);
            assert_eq!(r.engine.table().len(), 1);
            r.check();
        });
    }
}

/// The restored flow ended before the first dump, and its tuple is used anew.
#[test]
fn a_successor_gets_nothing_of_a_restored_flow() {
    let older = Kind { event_ns: false, ..Kind::default() };
    // Whether its NEW was heard.
    for (kind, state_room) in [(Kind::default(), 9), (Kind::default(), 0), (older, 9), (older, 0)] {
        // Where it is: seen in the first dump; ended before that.
        for ends in [false, true] {
            with_router(kind, |r, [memory, ..]| {
                let serial = r.kernel.create(fresh(4), 0).unwrap();
                r.kernel.traffic(serial, 10, 100, 0);
                r.pass_s(1);
                let saved = r.save();
                r.kernel.kind.state_room = state_room;
                r.reboot(memory, &saved, |_| Fate::Ended);
                let serial = r.kernel.create(fresh(4), 0).unwrap();
                r.kernel.traffic(serial, 3, 30, 0);
                if ends {
                    r.kernel.destroy(serial);
                }
                r.pass_s(6);
                if !ends {
                    r.kernel.destroy(serial);
                    r.pass_s(1);
                }
                assert_eq!(r.records.len(), 2);
                let of = |cause| r.records.iter().find(|record| record.cause == cause).unwrap();
                let (old, new) = (of(Cause::Restart), of(Cause::Event));
                assert_eq!((new.account, new.counters), (None, totals(3, 30)));
                assert_eq!((old.account, old.counters), (saved[0].0.account(), totals(10, 100)));
                r.check();
            });
        }
    }
}

/// The DESTROY of the restored flow is heard after its successor's NEW.
#[test]
fn a_destroy_beside_a_successor_is_the_restored_flows() {
    for kind in [Kind::default(), Kind { event_ns: false, ..Kind::default() }] {
        with_router(kind, |r, [memory, ..]| {
            let serial = r.kernel.create(fresh(4), 0).unwrap();
            r.kernel.traffic(serial, 10, 100, 0);
            r.pass_s(1);
            let saved = r.save();
            r.reboot(memory, &saved, |_| Fate::Made);
            r.kernel.traffic(1, 2, 20, 0);
            r.kernel.destroy(1);
            let serial = r.kernel.create(fresh(4), 0).unwrap();
            // The state socket is read first.
            r.round();
            r.pass_s(1);
            assert_eq!(r.records.len(), 1);
            assert_eq!(r.records[0].account, saved[0].0.account());
            assert_eq!(r.records[0].counters, totals(12, 120));
            r.kernel.destroy(serial);
            r.check();
            assert_eq!(r.records[1].account, None);
        });
    }
}

#[test]
fn counters_zeroed_after_a_reboot_make_the_base_grow() {
    with_router(Kind::default(), |r, [memory, ..]| {
        let serial = r.kernel.create(fresh(4), 0).unwrap();
        r.kernel.traffic(serial, 10, 100, 0);
        r.pass_s(1);
        let saved = r.save();
        r.reboot(memory, &saved, |_| Fate::Made);
        r.kernel.traffic(1, 5, 50, 0);
        r.pass_s(1);
        r.kernel.zero_counters();
        r.pass_s(REFRESH_S + 5);
        r.kernel.traffic(1, 2, 20, 0);
        r.kernel.destroy(1);
        r.pass_s(1);
        assert_eq!(r.records[0].counters, totals(17, 170));
        assert!(r.records[0].inexact);
        assert_eq!(r.records[0].account, saved[0].0.account());
    });
}

/// The worker is killed after any number of recalls, or between them and the first dump, and the
/// next one recalls all once more.
#[test]
fn a_crash_between_recalls_changes_nothing() {
    for recalled in 0..=4 {
        with_router(Kind::default(), |r, [memory, ..]| {
            for n in 0..4 {
                let serial = r.kernel.create(fresh(n), 0).unwrap();
                r.kernel.traffic(serial, 10, 100, 0);
            }
            r.pass_s(1);
            let saved = r.save();
            let settings = r.engine.settings();
            r.reboot(memory, &saved, |_| Fate::Made);
            let mut memory = vec![0; sizes(256).words()];
            let new = |memory| Engine::new(memory, &sizes(256), settings, [7; 16], [1, 2], &SINKS);
            let mut engine = new(&mut memory).unwrap();
            let now = r.kernel.now();
            for (flow, saved_ms) in &saved[..recalled] {
                engine.recall(now, flow, *saved_ms, true).unwrap();
            }
            let opened = Engine::open(&mut memory, &sizes(256), settings, [7; 16], &SINKS, true);
            let mut engine = opened.unwrap();
            for (n, (flow, saved_ms)) in saved.iter().enumerate() {
                // What was made by then is there now: the kernel refuses it, and it is no less made.
                engine.recall(now, flow, *saved_ms, n >= recalled).unwrap();
            }
            assert_eq!(engine.table().len(), 4);
            for (flow, _) in &saved {
                let slot = engine.table().find(&engine.table().key(&flow.orig, flow.zone)).unwrap();
                let again = engine.saved_flow(now, slot);
                assert_eq!(again, *flow);
                let claim = flag::RESTORED | flag::UNHEARD | flag::START_EVENT;
                assert!(engine.table().flow(slot).has(claim));
            }
        });
    }
}

#[test]
fn without_room_for_what_it_carries_a_flow_is_inexact_and_counted() {
    with_router(Kind::default(), |r, _| {
        let mut saved = Vec::new();
        for n in 0..40 {
            r.kernel.create(fresh(4 * n), 0).unwrap();
        }
        r.pass_s(1);
        saved.extend(r.save().into_iter().filter(|(flow, _)| !flow.orig.src.is_ipv6()));
        let mut memory = vec![0; sizes(16).words()];
        let settings = r.engine.settings();
        let mut engine =
            Engine::new(&mut memory, &sizes(16), settings, [7; 16], [1, 2], &SINKS).unwrap();
        let now = r.kernel.now();
        // 32 cells: ten flows of three, and one of two that has not its part.
        let recall = |engine: &mut Engine<'_>, n: usize| {
            let (flow, saved_ms): (SavedFlow, u64) = saved[n];
            engine.recall(now, &flow, saved_ms, true)
        };
        for n in 0..11 {
            recall(&mut engine, n).unwrap();
        }
        assert_eq!(engine.ledger().carried_full, 1);
        assert_eq!(recall(&mut engine, 11), Err(Full));
        assert_eq!(engine.ledger().table_full, 1);
        let inexact = |n: usize| {
            let table = engine.table();
            let (flow, _) = &saved[n];
            table.flow(table.find(&table.key(&flow.orig, flow.zone)).unwrap()).has(flag::INEXACT)
        };
        assert!(inexact(10) && !(0..10).any(inexact));
    });
}

#[test]
fn a_dump_for_a_save_begins_at_once_and_after_the_wish() {
    with_router(Kind { part: 1, ..Kind::default() }, |r, _| {
        for n in 0..40 {
            r.kernel.create(fresh(n), 0).unwrap();
        }
        r.pass_s(1);
        // A refresh is under way, at its pace.
        while r.engine.wants_dump_part(r.kernel.now().boot) || r.kernel.dumps_begun < 3 {
            r.pass(1_000);
        }
        let begun = r.kernel.dumps_begun;
        let wish = r.engine.want_dump(r.kernel.now().boot);
        let from_us = r.kernel.boot_us;
        assert_eq!(r.engine.wished_dump(&wish), WishedDump::Pending { failed: 0 });
        while r.engine.wished_dump(&wish) != WishedDump::Done {
            r.pass(100);
            assert!(r.kernel.boot_us < from_us + 1_000_000);
        }
        assert_eq!(r.kernel.dumps_begun, begun + 1, "not the one under way");
        r.check();
    });
}

#[test]
fn a_dump_for_a_save_that_fails_is_made_again_and_seen_to_fail() {
    for trouble in [Trouble::Refused, Trouble::FailsAtEnd, Trouble::Interrupted, Trouble::Garbled] {
        with_router(Kind::default(), |r, _| {
            r.kernel.create(fresh(4), 0).unwrap();
            r.pass_s(30);
            r.kernel.trouble = trouble;
            let wish = r.engine.want_dump(r.kernel.now().boot);
            r.pass(500_000);
            let now = r.engine.wished_dump(&wish);
            assert_eq!(now, WishedDump::Pending { failed: 1 }, "{trouble:?}");
            r.pass_s(2);
            assert_eq!(r.engine.wished_dump(&wish), WishedDump::Done, "{trouble:?}");
            r.check();
        });
    }
}

/// Where records cannot go out, what vanished cannot be reported: that must not hold up a save.
#[test]
fn a_full_queue_does_not_hold_up_a_save() {
    with_router(Kind::default(), |r, _| {
        let mute = |n| Recipe { tells: false, ..fresh(n) };
        let gone: Vec<u32> = (0..4).map(|n| r.kernel.create(mute(n), 0).unwrap()).collect();
        let lives = r.kernel.create(fresh(9), 0).unwrap();
        r.pass_s(REFRESH_S + 5);
        assert_eq!(r.engine.table().len(), 5);
        // Two dumps miss them, and nothing can be reported.
        gone.iter().for_each(|&serial| r.kernel.destroy(serial));
        r.hold_records = true;
        r.fill_queue();
        r.pass_s(2 * REFRESH_S + 20);
        assert_eq!(r.engine.table().len(), 5, "they wait for room");
        r.kernel.traffic(lives, 8, 80, 0);
        let saved = r.save();
        let marks: Vec<u32> = saved.iter().map(|(flow, _)| flow.mark).collect();
        assert_eq!(marks, [lives]);
        assert_eq!(saved[0].0.counters, totals(8, 80));
    });
}

#[test]
fn purposes_are_told() {
    with_router(Kind::default(), |r, _| {
        r.pass_s(1);
        let now = r.kernel.now();
        let wish = r.engine.want_dump(now.boot);
        r.engine.handle_timeout(now);
        let output = r.engine.poll_output();
        let Some(Output::StartDump { seq, purpose }) = output else {
            panic!("{output:?}");
        };
        assert_eq!(purpose, Purpose::Save);
        r.kernel.request_dump(seq);
        r.pass_s(1);
        assert_eq!(r.engine.wished_dump(&wish), WishedDump::Done);
    });
}

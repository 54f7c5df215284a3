//! When dumps are made, and what a dump may not conclude.

use firmware_ctd::engine::{EventPath, Output, Settings, Source};
use firmware_ctd::time::Duration;

use super::{again, every_kind, fresh, mute, with_capacity, with_router};
use crate::edge::REFRESH_S;
use crate::kernel::{Kind, Recipe, Trouble};

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

//! An engine goes on with what another one owed and remembered.

use firmware_ctd::engine::{Engine, Sizes, Source};
use firmware_ctd::retry::SinkId;
use firmware_ctd::wire::Messages;

use crate::edge::{Router, SINKS, sizes, take_record};
use crate::kernel::{Kind, Recipe};

fn export(engine: &Engine<'_>, router: &Router<'_>) -> Vec<u32> {
    let mut words = Vec::new();
    engine.export(router.kernel.now().boot, &mut |piece| words.extend_from_slice(piece));
    words
}

fn engine<'m>(
    memory: &'m mut Vec<u32>,
    sizes: &Sizes,
    router: &Router<'_>,
    sinks: &[SinkId],
) -> Engine<'m> {
    *memory = vec![0; sizes.words()];
    Engine::new(memory, sizes, router.engine.settings(), [9; 16], [5, 6], sinks).unwrap()
}

/// A router that was told of 30 destroys and whose sink took none; the destroys' messages.
fn with_debts(test: impl FnOnce(&mut Router<'_>, &[Vec<u8>])) {
    let mut memory = vec![0; sizes(128).words()];
    let mut router = Router::new(&mut memory, Kind::default(), 128);
    router.pass_s(1);
    for name in 0..30 {
        let recipe = Recipe { name, same_memory: false, tells: true };
        let serial = router.kernel.create(recipe, 0).unwrap();
        router.kernel.traffic(serial, 2, 20, 0);
        router.kernel.destroy(serial);
    }
    let messages: Vec<Vec<u8>> = router.kernel.destroy_queue.drain(..).collect();
    let now = router.kernel.now();
    for bytes in messages.iter().flat_map(|bytes| Messages::new(bytes)) {
        router.engine.handle_message(now, Source::Destroy, bytes);
    }
    test(&mut router, &messages);
}

#[test]
fn debts_keys_and_counters_go_on_in_an_engine_of_other_sizes() {
    with_debts(|router, messages| {
        let words = export(&router.engine, router);
        for (queue, remember) in [(64, 4096), (16, 64), (1000, 10_000)] {
            let mut memory = Vec::new();
            let sizes = Sizes { capacity: 64, extensions: 3, remember, queue };
            let mut next = engine(&mut memory, &sizes, router, &SINKS);
            let now = router.kernel.now();
            next.import(&words, now.boot).unwrap();
            assert_eq!(next.ledger(), router.engine.ledger());
            assert_eq!(next.stats(), router.engine.stats());
            assert_eq!(next.stats().events_destroy, 30);
            // The same destroys, once more: none is reported again.
            for bytes in messages.iter().flat_map(|bytes| Messages::new(bytes)) {
                next.handle_message(now, Source::Destroy, bytes);
            }
            assert_eq!(next.stats().repeated_destroys, 30);
            let records: Vec<_> = core::iter::from_fn(|| take_record(&mut next)).collect();
            let wanted: Vec<_> = router.engine.queue().records().collect();
            assert_eq!(records, wanted[30 - records.len()..], "the newest");
            assert_eq!(records.len(), 30.min(queue as usize));
        }
    });
}

#[test]
fn what_was_taken_in_is_there_after_a_crash() {
    with_debts(|router, _| {
        let words = export(&router.engine, router);
        let mut memory = Vec::new();
        let sizes = sizes(64);
        let mut next = engine(&mut memory, &sizes, router, &SINKS);
        next.import(&words, router.kernel.now().boot).unwrap();
        let settings = router.engine.settings();
        let next = Engine::open(&mut memory, &sizes, settings, [9; 16], &SINKS, false).unwrap();
        assert_eq!(export(&next, router), words);
    });
}

#[test]
fn a_destroy_after_it_is_reported() {
    with_debts(|router, _| {
        let words = export(&router.engine, router);
        let mut memory = Vec::new();
        let mut next = engine(&mut memory, &sizes(64), router, &SINKS);
        next.import(&words, router.kernel.now().boot).unwrap();
        let serial =
            router.kernel.create(Recipe { name: 50, same_memory: false, tells: true }, 0).unwrap();
        router.kernel.destroy(serial);
        let bytes = router.kernel.destroy_queue.pop_front().unwrap();
        for message in Messages::new(&bytes) {
            next.handle_message(router.kernel.now(), Source::Destroy, message);
        }
        assert_eq!(next.queue().len(), 31);
    });
}

#[test]
fn words_that_are_no_whole_export_change_nothing() {
    with_debts(|router, _| {
        let words = export(&router.engine, router);
        let mut memory = Vec::new();
        let mut next = engine(&mut memory, &sizes(64), router, &SINKS);
        let (before, now) = (export(&next, router), router.kernel.now().boot);
        let longer = [&words[..], &[0]].concat();
        for wrong in (0..words.len()).map(|len| &words[..len]).chain([&longer[..]]) {
            assert!(next.import(wrong, now).is_err(), "{} words", wrong.len());
        }
        // Any word wrong in any of a few ways: taken in or refused, never worse.
        for at in 0..words.len() {
            for value in [0, 1, 0x7fff_ffff, u32::MAX] {
                let mut wrong = words.clone();
                wrong[at] = value;
                let mut memory = Vec::new();
                let small = Sizes { capacity: 16, extensions: 0, remember: 16, queue: 16 };
                let mut other = engine(&mut memory, &small, router, &SINKS);
                if other.import(&wrong, now).is_err() {
                    assert!(other.queue().is_empty());
                }
            }
        }
        assert_eq!(export(&next, router), before);
        next.import(&words, now).unwrap();
    });
}

#[test]
fn counters_of_another_version_are_taken_by_their_names() {
    with_debts(|router, _| {
        let mut words = export(&router.engine, router);
        // The last one becomes one that nobody knows.
        let last = words.len() - 3;
        words[last] ^= 1;
        words[last + 1] = 7;
        let mut memory = Vec::new();
        let mut next = engine(&mut memory, &sizes(64), router, &SINKS);
        next.import(&words, router.kernel.now().boot).unwrap();
        assert_eq!(next.stats(), router.engine.stats());
        assert_eq!(next.ledger(), router.engine.ledger());
    });
}

#[test]
fn over_a_reboot_debts_go_on_and_keys_do_not() {
    with_debts(|router, _| {
        let mut words = Vec::new();
        let now = router.kernel.now();
        router.engine.export_over_reboot(now.boot, &mut |piece| words.extend_from_slice(piece));
        let whole = export(&router.engine, router);
        assert_eq!(whole.len() - words.len(), 2 * 30, "two words for each key");
        let mut memory = Vec::new();
        let mut next = engine(&mut memory, &sizes(128), router, &SINKS);
        next.import(&words, now.boot).unwrap();
        assert_eq!(next.queue().owed(0), 30);
        assert_eq!(next.stats().events_destroy, router.engine.stats().events_destroy);
    });
}

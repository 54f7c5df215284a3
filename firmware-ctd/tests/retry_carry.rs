//! What a queue owes, carried into another one: of another size, with other sinks. And words that
//! are no such thing are refused.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use firmware_ctd::record::{Cause, Kind, Record, RecordKey};
use firmware_ctd::retry::{Loss, Lost, RetryQueue, SinkId};
use firmware_ctd::time::Instant;
use firmware_ctd::wire::{Counters, L4, Protocol, Status, Tuple};
use proptest::prelude::*;

fn record(number: u32) -> Record {
    let address = |n: u32| std::net::IpAddr::from(std::net::Ipv4Addr::from_bits(n));
    let l4 = L4::Ports { src: 7, dst: 8 };
    let tuple = Tuple { src: address(number), dst: address(!number), proto: Protocol::UDP, l4 };
    let counted = Counters { packets: u64::from(number % 7), bytes: u64::from(number % 1_000) };
    Record {
        kind: Kind::Destroy,
        cause: Cause::Restart,
        key: RecordKey::Strong(u64::from(number)),
        flow: 0,
        account: Some(u64::from(number) << 32),
        start_ns: Some(5),
        end_ns: None,
        as_of_ns: None,
        orig: tuple,
        reply: tuple,
        counters: Some([counted, Counters { packets: 1, bytes: 40 }]),
        inexact: false,
        zone: 0,
        mark: number,
        id: number,
        status: Status(0),
        timeout_s: None,
        l4_state: None,
        helper: None,
        labels: None,
    }
}

/// What records with these numbers count.
fn lost(numbers: &[u32]) -> Lost {
    numbers.iter().fold(Lost::default(), |sum, n| Lost {
        records: sum.records + 1,
        packets: sum.packets + u64::from(n % 7) + 1,
        bytes: sum.bytes + u64::from(n % 1_000) + 40,
    })
}

/// A sink as it should stand.
#[derive(Clone, Debug)]
struct Model {
    id: u64,
    owed: Vec<u32>,
    delivered: u64,
    policy: Lost,
    best_effort: Lost,
}

fn at(s: u64) -> Instant {
    Instant::from_micros(s * 1_000_000)
}

fn sinks(ids: &[(u64, bool)]) -> Vec<SinkId> {
    ids.iter().map(|&(id, reliable)| SinkId { id, reliable }).collect()
}

/// A queue to which so many records came, one a second; each sink has taken some of its own.
fn used<'m>(
    memory: &'m mut Vec<u32>,
    capacity: u32,
    ids: &[(u64, bool)],
    pushed: u32,
    taken: &[u32],
) -> (RetryQueue<'m>, Vec<Model>) {
    memory.resize(RetryQueue::words(capacity), 0xffff_ffff);
    let mut queue = RetryQueue::format(memory, capacity, &sinks(ids)).unwrap();
    let mut models: Vec<Model> = ids
        .iter()
        .map(|&(id, _)| Model {
            id,
            owed: Vec::new(),
            delivered: 0,
            policy: Lost::default(),
            best_effort: Lost::default(),
        })
        .collect();
    for number in 1..=pushed {
        let now = at(u64::from(number));
        while queue.push(&record(number), u64::from(number), now).is_err() {
            queue.drop_oldest(Loss::Policy);
        }
        for (place, (model, &(_, reliable))) in models.iter_mut().zip(ids).enumerate() {
            model.owed.push(number);
            let gone = model.owed.len() - queue.count_of(place).owed as usize;
            let dropped: Vec<u32> = model.owed.drain(..gone).collect();
            let cause = if reliable { &mut model.policy } else { &mut model.best_effort };
            *cause = cause.and(lost(&dropped));
        }
        // Those that take much take it as it comes.
        for (place, model) in models.iter_mut().enumerate() {
            let mut outbox = queue.outbox(place);
            let take = (taken[place] % 4).min(outbox.unsent());
            outbox.mark_sent(outbox.unsent());
            outbox.acknowledge_noting(take, [number, 0, 0, 0, 0, taken[place]]);
            outbox.send_again();
            model.owed.drain(..take as usize);
            model.delivered += u64::from(take);
        }
    }
    (queue, models)
}

fn exported(queue: &RetryQueue<'_>, now: Instant) -> Vec<u32> {
    let mut words = Vec::new();
    queue.export(now, &mut |piece| words.extend_from_slice(piece));
    words
}

/// The numbers of the records that a sink is owed, oldest first; each must be whole.
fn outbox(queue: &mut RetryQueue<'_>, place: usize) -> Vec<u32> {
    let outbox = queue.outbox(place);
    let records = (0..outbox.unsent()).map(|n| outbox.get(n).unwrap());
    records.inspect(|r| assert_eq!(*r, record(r.mark))).map(|r| r.mark).collect()
}

fn check(queue: &mut RetryQueue<'_>, ids: &[(u64, bool)], models: &[Model], before: Lost) {
    let capacity = queue.capacity() as usize;
    for (place, &(id, reliable)) in ids.iter().enumerate() {
        let count = queue.count_of(place);
        let Some(model) = models.iter().find(|model| model.id == id) else {
            assert_eq!((count.owed, count.delivered), (0, 0), "a new sink is owed nothing");
            continue;
        };
        let cut = model.owed.len().saturating_sub(capacity);
        let (dropped, kept) = model.owed.split_at(cut);
        assert_eq!(outbox(queue, place), kept);
        assert_eq!(count.delivered, model.delivered);
        let dropped = lost(dropped);
        let (policy, best_effort) = if reliable {
            (model.policy.and(dropped), model.best_effort)
        } else {
            (model.policy, model.best_effort.and(dropped))
        };
        assert_eq!(count.lost[Loss::Policy as usize], policy);
        assert_eq!(count.lost[Loss::BestEffort as usize], best_effort);
    }
    let gone = models.iter().filter(|model| ids.iter().all(|&(id, _)| id != model.id));
    let removed = gone.fold(before, |sum, model| sum.and(lost(&model.owed)));
    assert_eq!(queue.removed(), removed);
    assert_eq!(queue.last_serial(), 0, "records of no message of this memory");
}

fn some_sinks() -> impl Strategy<Value = Vec<(u64, bool)>> {
    prop::collection::btree_map(1_u64..8, any::<bool>(), 0..5)
        .prop_map(|ids| ids.into_iter().collect::<Vec<_>>())
        .prop_shuffle()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn each_sink_goes_on_with_its_own(
        old in some_sinks(),
        new in some_sinks(),
        capacities in (16_u32..60, 16_u32..60),
        pushed in 0_u32..150,
        taken in any::<[u32; 8]>(),
    ) {
        let (mut memory, mut other) = (Vec::new(), Vec::new());
        let (queue, models) = used(&mut memory, capacities.0, &old, pushed, &taken);
        let words = exported(&queue, at(1_000));
        other.resize(RetryQueue::words(capacities.1), 0xffff_ffff);
        let mut next = RetryQueue::format(&mut other, capacities.1, &sinks(&new)).unwrap();
        next.import(&words, at(50)).unwrap();
        check(&mut next, &new, &models, Lost::default());
        // It stands in memory as it does in this process, and goes on.
        let mut next = RetryQueue::open(&mut other, capacities.1, &sinks(&new)).unwrap();
        check(&mut next, &new, &models, Lost::default());
        let again = exported(&next, at(50));
        let owed: Vec<Vec<u32>> = (0..new.len()).map(|place| outbox(&mut next, place)).collect();
        while next.push(&record(999), 1, at(51)).is_err() {
            next.drop_oldest(Loss::Policy);
        }
        for (place, before) in owed.iter().enumerate() {
            let mut wanted = before.clone();
            wanted.push(999);
            let cut = wanted.len().saturating_sub(capacities.1 as usize);
            prop_assert_eq!(outbox(&mut next, place), &wanted[cut..]);
        }
        // Carried once more, into a queue that is large enough, nothing is lost any more.
        let mut third = vec![0; RetryQueue::words(64)];
        let mut last = RetryQueue::format(&mut third, 64, &sinks(&new)).unwrap();
        last.import(&again, at(9)).unwrap();
        for (place, wanted) in owed.iter().enumerate() {
            prop_assert_eq!(&outbox(&mut last, place), wanted);
        }
        prop_assert_eq!(last.removed(), next.removed());
    }

    #[test]
    fn damaged_words_are_refused_or_harmless(
        ids in some_sinks(),
        pushed in 0_u32..40,
        taken in any::<[u32; 8]>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u32>()), 1..6),
    ) {
        let (mut memory, mut other) = (Vec::new(), vec![0; RetryQueue::words(16)]);
        let (queue, _) = used(&mut memory, 32, &ids, pushed, &taken);
        let mut words = exported(&queue, at(1_000));
        for (at, word) in &damage {
            // The head and the sinks more often than the records.
            let near = if word % 2 == 0 { words.len() } else { words.len().min(100) };
            words[at.index(near)] = *word;
        }
        let mut next = RetryQueue::format(&mut other, 16, &sinks(&ids)).unwrap();
        if next.import(&words, at(50)).is_ok() {
            // Whatever it says, all of it works.
            for place in 0..ids.len() {
                let mut outbox = next.outbox(place);
                let owed = outbox.unsent();
                prop_assert!((0..owed).all(|n| outbox.get(n).is_some()));
                outbox.mark_sent(owed);
                outbox.acknowledge(owed);
            }
            prop_assert!(next.is_empty());
        } else {
            prop_assert!(next.is_empty() && next.removed() == Lost::default());
        }
        for number in 0..40 {
            while next.push(&record(number), u64::from(number), at(51)).is_err() {
                next.drop_oldest(Loss::Policy);
            }
        }
    }
}

#[test]
fn words_that_end_anywhere_else_are_refused() {
    let (mut memory, mut other) = (Vec::new(), vec![0; RetryQueue::words(16)]);
    let ids = [(1, true), (2, false)];
    let (queue, models) = used(&mut memory, 16, &ids, 10, &[1, 0]);
    let mut words = exported(&queue, at(1_000));
    let mut next = RetryQueue::format(&mut other, 16, &sinks(&ids)).unwrap();
    for len in 0..words.len() {
        assert!(next.import(&words[..len], at(0)).is_err(), "{len} of {}", words.len());
    }
    words.push(0);
    assert!(next.import(&words, at(0)).is_err(), "a word too many");
    words.pop();
    check(&mut next, &ids, &[], Lost::default());
    next.import(&words, at(0)).unwrap();
    check(&mut next, &ids, &models, Lost::default());
    assert!(next.import(&words, at(0)).is_err(), "something is owed already");
    check(&mut next, &ids, &models, Lost::default());
}

#[test]
fn sinks_keep_their_notes_and_records_their_age() {
    let (mut memory, mut other) = (Vec::new(), vec![0; RetryQueue::words(16)]);
    let ids = [(1, true)];
    let (queue, _) = used(&mut memory, 16, &ids, 10, &[0]);
    let words = exported(&queue, at(61));
    let mut next = RetryQueue::format(&mut other, 16, &sinks(&ids)).unwrap();
    next.import(&words, at(1_000)).unwrap();
    assert_eq!(next.outbox(0).note(), [10, 0, 0, 0, 0, 0]);
    assert_eq!(next.count_of(0).oldest_s, Some(940), "it was put in 60 s before");
    let mut next = RetryQueue::format(&mut other, 16, &sinks(&ids)).unwrap();
    next.import(&words, at(20)).unwrap();
    assert_eq!(next.count_of(0).oldest_s, Some(0), "before this boot");
}

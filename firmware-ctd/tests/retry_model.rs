//! The retry queue against a naive model: a list of what each sink is owed. Millions of
//! operations, with crashes (the queue is opened again from its memory) and changed sinks between
//! them.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod chance;

use chance::Chance;
use std::collections::VecDeque;

use firmware_ctd::record::{Cause, Kind, Record, RecordKey};
use firmware_ctd::retry::{Full, Loss, RetryQueue, SinkId};
use firmware_ctd::time::{Duration, Instant};
use firmware_ctd::wire::{Counters, L4, Protocol, Status, Tuple};

const OPERATIONS: u32 = 3_000_000;

/// A record that its number tells all of.
fn record(number: u64) -> Record {
    let address = |last: u32| std::net::IpAddr::from(std::net::Ipv4Addr::from_bits(last));
    let low = u32::try_from(number & 0xffff_ffff).unwrap();
    let tuple = Tuple {
        src: address(low),
        dst: address(!low),
        proto: Protocol::UDP,
        l4: L4::Ports { src: 7, dst: 8 },
    };
    Record {
        kind: Kind::Destroy,
        cause: Cause::Event,
        key: RecordKey::Strong(number),
        flow: 0,
        account: None,
        start_ns: Some(number),
        end_ns: None,
        as_of_ns: None,
        orig: tuple,
        reply: tuple,
        counters: Some([
            Counters { packets: number % 7, bytes: number % 1_000 },
            Counters { packets: 1, bytes: 40 },
        ]),
        inexact: false,
        zone: 0,
        mark: low,
        id: low,
        status: Status(0),
        timeout_s: None,
        l4_state: None,
        helper: None,
        labels: None,
    }
}

/// What one sink should be owed and have.
#[derive(Clone, Debug, Default)]
struct Model {
    id: u64,
    reliable: bool,
    owed: VecDeque<u64>,
    sent: usize,
    delivered: u64,
    /// Records, packets and bytes by cause.
    lost: [[u64; 3]; 3],
    /// Dropped while in flight: their acknowledgement means nothing more.
    gone: u32,
}

impl Model {
    fn new(id: u64) -> Self {
        Self { id, reliable: id % 3 != 0, ..Self::default() }
    }

    fn lose_oldest(&mut self, cause: Loss) {
        let number = self.owed.pop_front().unwrap();
        let lost = &mut self.lost[cause as usize];
        lost[0] += 1;
        lost[1] += number % 7 + 1;
        lost[2] += number % 1_000 + 40;
        if self.sent > 0 {
            self.sent -= 1;
            self.gone += 1;
        }
    }

    fn acknowledge(&mut self, count: u32) {
        let gone = count.min(self.gone);
        self.gone -= gone;
        let taken = ((count - gone) as usize).min(self.sent);
        self.owed.drain(..taken);
        self.sent -= taken;
        self.delivered += taken as u64;
    }
}

fn ids(models: &[Model]) -> Vec<SinkId> {
    models.iter().map(|m| SinkId { id: m.id, reliable: m.reliable }).collect()
}

fn drop_oldest(models: &mut [Model], cause: Loss) {
    let longest = models.iter().map(|m| m.owed.len()).max().unwrap_or(0);
    for model in models.iter_mut().filter(|m| longest > 0 && m.owed.len() == longest) {
        model.lose_oldest(if model.reliable { cause } else { Loss::BestEffort });
    }
}

fn check(queue: &RetryQueue<'_>, models: &[Model], serial: u64) {
    let longest = models.iter().map(|m| m.owed.len()).max().unwrap_or(0);
    assert_eq!(queue.len() as usize, longest);
    assert_eq!(queue.last_serial(), serial);
    for (at, model) in models.iter().enumerate() {
        let count = queue.count_of(at);
        assert_eq!(count.owed as usize, model.owed.len());
        assert_eq!(count.in_flight as usize, model.sent);
        assert_eq!(count.delivered, model.delivered);
        let lost = count.lost.map(|l| [l.records, l.packets, l.bytes]);
        assert_eq!(lost, model.lost);
    }
}

fn push(queue: &mut RetryQueue<'_>, models: &mut [Model], number: u64, capacity: usize) -> bool {
    let full = |reliable| models.iter().any(|m| m.reliable == reliable && m.owed.len() == capacity);
    let expected = if full(true) { Err(Full) } else { Ok(()) };
    let now = Instant::from_micros(number * 1_000_000);
    assert_eq!(queue.push(&record(number), number, now), expected);
    if expected.is_err() {
        return false;
    }
    if full(false) {
        drop_oldest(models, Loss::BestEffort);
    }
    for model in models.iter_mut() {
        model.owed.push_back(number);
    }
    true
}

fn deliver(queue: &mut RetryQueue<'_>, model: &mut Model, at: usize, chance: &mut Chance) {
    let mut outbox = queue.outbox(at);
    for _ in 0..chance.below(8) {
        let expected = model.owed.get(model.sent).copied();
        assert_eq!(outbox.next(), expected.map(record));
        if expected.is_some() {
            outbox.mark_sent(1);
            model.sent += 1;
        }
    }
    let count = chance.below(9);
    outbox.acknowledge(count);
    model.acknowledge(count);
}

#[test]
fn millions_of_operations_are_as_a_list_for_each_sink_says() {
    let mut chance = Chance(7);
    let mut done = 0;
    while done < OPERATIONS {
        let capacity = 16 + chance.below(40);
        done += run(&mut chance, capacity);
    }
}

/// One queue with all its lives; how many operations it went through.
fn run(chance: &mut Chance, capacity: u32) -> u32 {
    let mut memory = vec![0xffff_ffff; RetryQueue::words(capacity)];
    let mut models: Vec<Model> = (1..=u64::from(chance.below(4))).map(Model::new).collect();
    let _ = RetryQueue::format(&mut memory, capacity, &ids(&models)).unwrap();
    let (mut serial, mut done) = (0, 0);
    for _ in 0..40 {
        let mut queue = RetryQueue::open(&mut memory, capacity, &ids(&models)).unwrap();
        check(&queue, &models, serial);
        for _ in 0..chance.below(4_000) {
            done += 1;
            operate(&mut queue, &mut models, &mut serial, chance);
        }
        check(&queue, &models, serial);
        // A crash: what was in flight is not known any more.
        for model in &mut models {
            (model.sent, model.gone) = (0, 0);
        }
        change_sinks(&mut models, chance);
    }
    done
}

fn operate(
    queue: &mut RetryQueue<'_>,
    models: &mut [Model],
    serial: &mut u64,
    chance: &mut Chance,
) {
    let capacity = queue.capacity() as usize;
    match chance.below(16) {
        0..=6 => *serial += u64::from(push(queue, models, *serial + 1, capacity)),
        7..=12 if !models.is_empty() => {
            let at = chance.below(u32::try_from(models.len()).unwrap()) as usize;
            deliver(queue, &mut models[at], at, chance);
        }
        13 if !models.is_empty() => {
            let at = chance.below(u32::try_from(models.len()).unwrap()) as usize;
            queue.outbox(at).send_again();
            (models[at].sent, models[at].gone) = (0, 0);
        }
        14 if chance.below(8) == 0 => {
            queue.drop_oldest(Loss::Policy);
            drop_oldest(models, Loss::Policy);
        }
        15 if chance.below(8) == 0 => check(queue, models, *serial),
        _ => {}
    }
}

/// Another order, a sink less, a sink more.
fn change_sinks(models: &mut Vec<Model>, chance: &mut Chance) {
    match chance.below(8) {
        0 if models.len() > 1 => models.reverse(),
        1 => drop(models.pop()),
        2 if models.len() < 16 => {
            let id = u64::from(chance.next()) + 100;
            models.push(Model::new(id));
        }
        _ => {}
    }
}

#[test]
fn what_was_owed_to_a_sink_that_is_gone_is_counted() {
    let mut memory = vec![0; RetryQueue::words(16)];
    let sinks = [1, 2].map(|id| SinkId { id, reliable: true });
    let mut queue = RetryQueue::format(&mut memory, 16, &sinks).unwrap();
    for number in 1..=3 {
        queue.push(&record(number), number, Instant::BOOT).unwrap();
    }
    queue.outbox(1).mark_sent(1);
    queue.outbox(1).acknowledge(1);
    let queue = RetryQueue::open(&mut memory, 16, &sinks[..1]).unwrap();
    assert_eq!(queue.count_of(0).owed, 3);
    let removed = queue.removed();
    assert_eq!([removed.records, removed.packets, removed.bytes], [2, 2 + 3 + 2, 2 + 3 + 80]);
}

#[test]
fn other_memory_is_refused() {
    let mut memory = vec![0; RetryQueue::words(16)];
    assert!(RetryQueue::open(&mut memory, 16, &[]).is_err(), "never formatted");
    let _ = RetryQueue::format(&mut memory, 16, &[]).unwrap();
    assert!(RetryQueue::open(&mut memory[1..], 16, &[]).is_err(), "another size");
    for word in 0..4 {
        let good = memory[word];
        memory[word] = 0xffff_fff0;
        assert!(RetryQueue::open(&mut memory, 16, &[]).is_err(), "word {word}");
        memory[word] = good;
    }
    assert!(RetryQueue::open(&mut memory, 16, &[]).is_ok());
}

#[test]
fn a_refusal_waits_a_random_share_of_the_grace() {
    let mut memory = vec![0; RetryQueue::words(16)];
    let mut queue =
        RetryQueue::format(&mut memory, 16, &[SinkId { id: 1, reliable: true }]).unwrap();
    let now = Instant::from_micros(5_000_000);
    let grace = Duration::from_secs(15);
    queue.push(&record(1), 1, now).unwrap();
    assert_eq!(queue.poll_timeout(), None, "the first attempt is made at once");
    assert!(queue.outbox(0).is_due(now));
    queue.outbox(0).refused(now, grace, 1 << 31);
    let due = now + Duration::from_micros(7_500_000);
    assert_eq!(queue.poll_timeout(), Some(due));
    assert!(!queue.outbox(0).is_due(due - Duration::from_micros(1)));
    assert!(queue.outbox(0).is_due(due));
    queue.outbox(0).refused(due, grace, u32::MAX);
    assert!(queue.outbox(0).is_due(due + grace), "never longer than the grace");
    assert_eq!((queue.count_of(0).attempts, queue.count_of(0).retried), (2, 1));
    queue.outbox(0).wake();
    assert_eq!(queue.poll_timeout(), None);
    queue.outbox(0).mark_sent(1);
    assert_eq!(queue.count_of(0).attempts, 0);
}

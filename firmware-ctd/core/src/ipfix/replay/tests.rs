//! The window against a naive model, with a kernel and a collector that are simulated.

use std::collections::{BTreeSet, VecDeque};

use proptest::prelude::*;

use super::*;
use crate::time::NANOS_PER_SEC;

const LAYOUT: u32 = 5;

impl Replay<'_> {
    /// Bytes of the messages that are held.
    fn bytes_held(&self) -> u32 {
        let (mut at, mut bytes) = (self.head[head::BEGIN], 0);
        while at != self.head[head::END] {
            let frame = self.frame(at);
            bytes += frame.len();
            at = self.after(at, frame.words());
        }
        bytes
    }

    /// Bytes that are held and were not handed over in this connection.
    fn bytes_to_send(&self) -> u32 {
        self.bytes_held() - self.connection.sent
    }
}

fn seconds(s: u32) -> WallTime {
    WallTime::from_nanos(u64::from(s) * NANOS_PER_SEC)
}

/// A message of `len` bytes that holds `id`, with time and sequence number of no use.
fn message(len: u16, id: u32) -> Vec<u8> {
    let mut bytes = vec![0, 10];
    bytes.extend(len.to_be_bytes());
    bytes.extend([0xee; 8]);
    bytes.extend(id.to_be_bytes());
    bytes.extend((16..len).map(|at| at.to_be_bytes()[1] ^ id.to_be_bytes()[3]));
    bytes
}

fn stamped(message: &[u8], time: u32, sequence: u32) -> Vec<u8> {
    let mut bytes = message.to_vec();
    bytes[4..8].copy_from_slice(&time.to_be_bytes());
    bytes[8..12].copy_from_slice(&sequence.to_be_bytes());
    bytes
}

fn open(mem: &mut [u32]) -> Replay<'_> {
    Replay::open(mem, LAYOUT).unwrap().0
}

/// Sends everything that is to be sent.
fn send_all(replay: &mut Replay<'_>, time: u32) -> Vec<u8> {
    let (mut all, mut out) = (Vec::new(), [0; 256]);
    loop {
        let bytes = replay.next_to_send(seconds(time), &mut out);
        if bytes.is_empty() {
            return all;
        }
        all.extend(bytes);
        let len = bytes.len();
        replay.sent(len);
    }
}

#[test]
fn a_message_is_freed_one_window_below_what_is_acknowledged() {
    let mut mem = [0; 100];
    let mut replay = open(&mut mem);
    replay.push(&message(20, 1), 3).unwrap();
    replay.push(&message(30, 2), 4).unwrap();
    send_all(&mut replay, 1);
    assert_eq!(replay.acknowledged(0, 31), 0);
    assert_eq!(replay.acknowledged(1, 30), 0);
    assert_eq!(replay.acknowledged(0, 30), 3);
    assert_eq!((replay.records_held(), replay.bytes_held()), (4, 30));
    assert_eq!(replay.acknowledged(0, 1), 0);
    assert_eq!(replay.acknowledged(u32::MAX, u32::MAX), 0);
    assert_eq!(replay.acknowledged(0, 0), 4);
    assert_eq!((replay.records_held(), replay.bytes_held()), (0, 0));
}

#[test]
fn a_new_connection_begins_with_the_oldest_and_with_sequence_number_0() {
    let mut mem = [0; 100];
    let mut replay = open(&mut mem);
    let messages = [message(20, 1), message(21, 2), message(22, 3)];
    for (message, records) in messages.iter().zip([3, 4, 5]) {
        replay.push(message, records).unwrap();
    }
    let first: Vec<u8> = messages
        .iter()
        .zip([0, 3, 7])
        .flat_map(|(it, sequence)| stamped(it, 1, sequence))
        .collect();
    assert_eq!(send_all(&mut replay, 1), first);
    assert_eq!((replay.acknowledged(0, 40), replay.records_again()), (3, 0));
    replay.connection_lost();
    let second = [stamped(&messages[1], 2, 0), stamped(&messages[2], 2, 4)].concat();
    assert_eq!(replay.bytes_to_send(), 43);
    assert_eq!(send_all(&mut replay, 2), second);
    assert_eq!(replay.records_again(), 9);
}

#[test]
fn a_message_that_was_begun_keeps_its_time() {
    let (mut mem, mut out) = ([0; 100], [0; 100]);
    let mut replay = open(&mut mem);
    replay.push(&message(20, 1), 1).unwrap();
    assert_eq!(replay.next_to_send(seconds(1), &mut out), stamped(&message(20, 1), 1, 0));
    let begun = stamped(&message(20, 1), 2, 0);
    for at in 0..20 {
        let time = if at == 0 { 2 } else { 9 };
        assert_eq!(replay.next_to_send(seconds(time), &mut out), &begun[at..]);
        replay.sent(1);
    }
    assert!(replay.next_to_send(seconds(9), &mut out).is_empty());
}

#[test]
fn a_full_window_refuses_and_stays_as_it_is() {
    let mut mem = vec![0; words(48)];
    let mut replay = open(&mut mem);
    replay.push(&message(20, 1), 1).unwrap();
    replay.push(&message(20, 2), 1).unwrap();
    assert_eq!(replay.push(&message(16, 3), 1), Err(Full));
    send_all(&mut replay, 1);
    assert_eq!(replay.push(&message(16, 3), 1), Err(Full));
    assert_eq!(replay.acknowledged(0, 20), 1);
    replay.push(&message(16, 3), 1).unwrap();
    assert_eq!(replay.records_held(), 2);
}

#[test]
fn what_is_no_message_is_refused() {
    let mut mem = [0; 100];
    let mut replay = open(&mut mem);
    let mut other_version = message(20, 1);
    other_version[1] = 9;
    let not_whole = &message(20, 1)[..19];
    for bytes in [&[][..], &[0, 10, 0, 4], &other_version, not_whole] {
        assert_eq!(replay.push(bytes, 1), Err(Full));
    }
}

#[test]
fn memory_tells_what_was_in_it() {
    assert_eq!(Replay::open(&mut [0; 9], LAYOUT).err(), Some(TooSmall));
    let mut mem = [0; 64];
    assert_eq!(Replay::open(&mut mem, LAYOUT).unwrap().1, Found::Blank);
    open(&mut mem).push(&message(20, 1), 7).unwrap();
    let (replay, found) = Replay::open(&mut mem, LAYOUT).unwrap();
    assert_eq!((found, replay.records_held()), (Found::Adopted, 7));
    let mut copy = mem;
    let (replay, found) = Replay::open(&mut copy, LAYOUT + 1).unwrap();
    assert_eq!((found, replay.records_held()), (Found::OtherLayout { records: 7 }, 0));
    assert_eq!(Replay::open(&mut copy, LAYOUT + 1).unwrap().1, Found::Adopted);
    let mut shorter = mem[..63].to_vec();
    assert_eq!(Replay::open(&mut shorter, LAYOUT).unwrap().1, Found::Unsound);
    for (word, value) in [(0, 1), (2, 0), (3, 118), (4, 5), (4, 118), (5, 0), (6, 0)] {
        let mut copy = mem;
        copy[word] = value;
        let (replay, found) = Replay::open(&mut copy, LAYOUT).unwrap();
        assert_eq!((found, replay.bytes_held()), (Found::Unsound, 0), "word {word}");
        assert_eq!(Replay::open(&mut copy, LAYOUT).unwrap().1, Found::Adopted);
    }
}

/// A kill leaves the first few stores of a push done: those before the last change nothing.
#[test]
fn a_torn_push_is_no_push() {
    for begin in 0..40_u16 {
        let mut before = vec![0; head::WORDS + 20];
        let mut replay = open(&mut before);
        for turn in 0..begin {
            replay.push(&message(16 + turn % 5, turn.into()), 1).unwrap();
            send_all(&mut replay, 1);
            replay.acknowledged(0, 0);
        }
        replay.push(&message(17, 1000), 2).unwrap();
        let mut after = before.clone();
        open(&mut after).push(&message(23, 2000), 3).unwrap();
        let mut stores: Vec<usize> =
            (head::WORDS..before.len()).filter(|&word| before[word] != after[word]).collect();
        stores.rotate_left(usize::from(begin) % 3);
        let mut torn = before.clone();
        for word in stores {
            torn[word] = after[word];
            let mut copy = torn.clone();
            let (mut replay, found) = Replay::open(&mut copy, LAYOUT).unwrap();
            assert_eq!((found, replay.records_held()), (Found::Adopted, 2));
            assert_eq!(send_all(&mut replay, 1), stamped(&message(17, 1000), 1, 0));
        }
        torn[head::END] = after[head::END];
        assert_eq!(open(&mut torn).records_held(), 5);
    }
}

/// A kill while a window is begun leaves one that is begun again.
#[test]
fn a_torn_beginning_begins_again() {
    let mut old = [0xdead_beef; 64];
    for stores in 0..6 {
        let values = [(0, 0), (1, LAYOUT), (2, 59), (3, 0), (4, 0), (0, MAGIC)];
        values[..stores].iter().for_each(|&(word, value)| old[word] = value);
        let (replay, found) = Replay::open(&mut old, LAYOUT).unwrap();
        assert!(found == Found::Unsound || found == Found::Blank, "{stores} stores: {found:?}");
        assert_eq!(replay.bytes_held(), 0);
        old = [0xdead_beef; 64];
    }
}

/// Whatever is in the memory: no panic, and a window that works.
#[test]
fn any_memory_can_be_opened() {
    let words = prop::collection::vec(any::<u32>(), 64..=64);
    let small = prop::collection::vec(0_u32..120, 2..=2);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(2000));
    let test = |(mut mem, ends): (Vec<u32>, Vec<u32>)| {
        (mem[0], mem[1], mem[2], mem[3], mem[4]) = (MAGIC, LAYOUT, 59, ends[0], ends[1]);
        let (mut replay, _) = Replay::open(&mut mem, LAYOUT).unwrap();
        send_all(&mut replay, 1);
        replay.acknowledged(0, 0);
        prop_assert_eq!(replay.bytes_held(), 0);
        prop_assert!(replay.push(&message(200, 1), 1).is_ok());
        Ok(())
    };
    runner.run(&(words, small), test).unwrap();
}

#[derive(Clone, Debug)]
enum Op {
    /// A message of this length and number of records.
    Push(u16, u16),
    /// A buffer of this length is offered to the kernel, which has that much room at most.
    Send(usize, usize),
    /// That much reaches the collector's kernel, as far as its window lets it.
    Arrive(usize),
    /// The collector reads that much.
    Read(usize),
    /// The kernel is asked.
    Ask,
    /// The connection breaks.
    Lose,
    /// The process is killed and another takes over.
    Kill,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (20_u16..90, 0_u16..12).prop_map(|(len, records)| Op::Push(len, records)),
        12 => (4_usize..120, 0_usize..120).prop_map(|(out, room)| Op::Send(out, room)),
        8 => (0_usize..150).prop_map(Op::Arrive),
        8 => (0_usize..150).prop_map(Op::Read),
        8 => Just(Op::Ask),
        1 => Just(Op::Lose),
        1 => Just(Op::Kill),
    ]
}

/// A message in the model.
#[derive(Clone, Debug)]
struct Kept {
    id: u32,
    len: usize,
    records: u16,
    /// It was wholly sent in an earlier connection.
    before: bool,
}

/// The window as plainly as can be: all bytes in a queue, the connection's offsets from its start.
#[derive(Debug, Default)]
struct Model {
    bytes: VecDeque<u8>,
    kept: VecDeque<Kept>,
    /// Offset in the connection of the oldest byte, and of the next one to be sent.
    oldest: usize,
    sent: usize,
    /// Records before the oldest message in this connection.
    sequence: u32,
    time: u32,
    again: u64,
}

impl Model {
    fn words(&self) -> usize {
        self.kept.iter().map(|it| 1 + it.len.div_ceil(4)).sum()
    }

    fn push(&mut self, bytes: &[u8], kept: Kept, capacity: usize) -> bool {
        let fits = self.words() + 1 + kept.len.div_ceil(4) <= capacity;
        if fits {
            self.bytes.extend(bytes);
            self.kept.push_back(kept);
        }
        fits
    }

    /// The message at hand, its offset, and its sequence number.
    fn at_hand(&self) -> Option<(usize, usize, u32)> {
        let (mut begin, mut sequence) = (self.oldest, self.sequence);
        for (i, it) in self.kept.iter().enumerate() {
            if self.sent < begin + it.len {
                return Some((i, begin, sequence));
            }
            begin += it.len;
            sequence += u32::from(it.records);
        }
        None
    }

    fn next(&mut self, time: u32) -> Vec<u8> {
        let Some((i, begin, sequence)) = self.at_hand() else {
            return Vec::new();
        };
        if self.sent == begin {
            self.time = time;
        }
        let at = begin - self.oldest;
        let whole: Vec<u8> = self.bytes.range(at..at + self.kept[i].len).copied().collect();
        stamped(&whole, self.time, sequence)[self.sent - begin..].to_vec()
    }

    fn sent(&mut self, bytes: usize) {
        if let Some((i, begin, _)) = self.at_hand() {
            self.sent += bytes;
            let it = &self.kept[i];
            if it.before && self.sent == begin + it.len {
                self.again += u64::from(it.records);
            }
        }
    }

    fn acknowledged(&mut self, unacknowledged: usize, window: usize) -> Vec<Kept> {
        let mut freed = Vec::new();
        while let Some(it) = self.kept.front() {
            if self.oldest + it.len + window > self.sent.saturating_sub(unacknowledged) {
                break;
            }
            self.oldest += it.len;
            self.sequence += u32::from(it.records);
            self.bytes.drain(..it.len);
            freed.extend(self.kept.pop_front());
        }
        freed
    }

    fn lose(&mut self) {
        let mut end = self.oldest;
        for it in &mut self.kept {
            end += it.len;
            it.before |= end <= self.sent;
        }
        (self.oldest, self.sent, self.sequence) = (0, 0, 0);
    }

    fn kill(&mut self) {
        self.lose();
        self.kept.iter_mut().for_each(|it| it.before = true);
        self.again = 0;
    }

    fn records(&self) -> u32 {
        self.kept.iter().map(|it| u32::from(it.records)).sum()
    }
}

/// Everything between the window and the collector's memory.
#[derive(Debug, Default)]
struct World {
    window: usize,
    /// In the sender's kernel, in the collector's kernel, in the collector's buffer.
    sending: VecDeque<u8>,
    arrived: VecDeque<u8>,
    reading: Vec<u8>,
    /// Every message that was ever read.
    ids: BTreeSet<u32>,
    /// Those of this connection, in their order, and their sequence numbers.
    session: Vec<u32>,
    sequences: Vec<u32>,
}

impl World {
    fn arrive(&mut self, bytes: usize) {
        let room = self.window - self.arrived.len();
        let bytes = bytes.min(room).min(self.sending.len());
        self.arrived.extend(self.sending.drain(..bytes));
    }

    fn read(&mut self, bytes: usize) {
        let bytes = bytes.min(self.arrived.len());
        self.reading.extend(self.arrived.drain(..bytes));
        while let Some(len) =
            self.reading.get(2..4).map(|it| usize::from(it[0]) << 8 | usize::from(it[1]))
        {
            if self.reading.len() < len {
                break;
            }
            let message: Vec<u8> = self.reading.drain(..len).collect();
            let word = |at: usize| u32::from_be_bytes(message[at..at + 4].try_into().unwrap());
            self.ids.insert(word(12));
            self.session.push(word(12));
            self.sequences.push(word(8));
        }
    }

    fn lose(&mut self) {
        self.sending.clear();
        self.arrived.clear();
        self.reading.clear();
        self.session.clear();
        self.sequences.clear();
    }

    /// In each session, messages come in the order of pushing without a gap, and the sequence
    /// number of each is the sum of the records before it.
    fn check(&self, records: &[u16]) -> Result<(), TestCaseError> {
        let mut sequence = 0;
        let first = self.session.first().copied().unwrap_or(0);
        for ((&id, &seen), due) in self.session.iter().zip(&self.sequences).zip(first..) {
            prop_assert_eq!(id, due);
            prop_assert_eq!(seen, sequence);
            sequence += u32::from(records[usize::try_from(id).unwrap()]);
        }
        Ok(())
    }
}

fn run(ops: &[Op], capacity: usize, window: usize) -> Result<(), TestCaseError> {
    let mut mem = vec![0; head::WORDS + capacity];
    let mut model = Model::default();
    let mut world = World { window, ..World::default() };
    let mut pushed: Vec<u16> = Vec::new();
    let mut ops = ops.iter().zip(1_u32..).peekable();
    while ops.peek().is_some() {
        let mut replay = open(&mut mem);
        for (op, time) in ops.by_ref() {
            match *op {
                Op::Push(len, records) => {
                    let id = u32::try_from(pushed.len()).unwrap();
                    let bytes = message(len, id);
                    let kept = Kept { id, len: len.into(), records, before: false };
                    let done = replay.push(&bytes, records).is_ok();
                    prop_assert_eq!(done, model.push(&bytes, kept, capacity));
                    if done {
                        pushed.push(records);
                    }
                }
                Op::Send(out, room) => {
                    let mut out = vec![0; out];
                    let bytes = replay.next_to_send(seconds(time), &mut out).to_vec();
                    let all = model.next(time);
                    prop_assert!(all.starts_with(&bytes));
                    prop_assert_eq!(bytes.is_empty(), all.is_empty());
                    let taken = bytes.len().min(room);
                    replay.sent(taken);
                    model.sent(taken);
                    world.sending.extend(&bytes[..taken]);
                }
                Op::Arrive(bytes) => world.arrive(bytes),
                Op::Read(bytes) => world.read(bytes),
                Op::Ask => {
                    let unacknowledged = world.sending.len();
                    let freed = model.acknowledged(unacknowledged, window);
                    let [unacknowledged, window] =
                        [unacknowledged, window].map(|it| u32::try_from(it).unwrap());
                    let records = freed.iter().map(|it| u32::from(it.records)).sum::<u32>();
                    prop_assert_eq!(replay.acknowledged(unacknowledged, window), records);
                    // What all of this is for.
                    for it in freed {
                        prop_assert!(world.ids.contains(&it.id), "freed unread: {:?}", it);
                    }
                }
                Op::Lose => {
                    world.check(&pushed)?;
                    replay.connection_lost();
                    model.lose();
                    world.lose();
                }
                Op::Kill => {
                    world.check(&pushed)?;
                    model.kill();
                    world.lose();
                    break;
                }
            }
            prop_assert_eq!(replay.bytes_held() as usize, model.bytes.len());
            prop_assert_eq!(replay.records_held(), model.records());
            prop_assert_eq!(replay.records_again(), model.again);
            let unsent = model.bytes.len() - (model.sent - model.oldest);
            prop_assert_eq!(replay.bytes_to_send() as usize, unsent);
        }
    }
    world.check(&pushed)?;
    last_connection(&mut open(&mut mem), &mut world, &pushed)
}

/// To a collector that reads everything.
fn last_connection(
    replay: &mut Replay<'_>,
    world: &mut World,
    pushed: &[u16],
) -> Result<(), TestCaseError> {
    world.lose();
    world.window = usize::MAX;
    world.sending.extend(send_all(replay, 1));
    world.arrive(usize::MAX);
    world.read(usize::MAX);
    world.check(pushed)?;
    prop_assert_eq!(world.ids.len(), pushed.len());
    Ok(())
}

/// 1,500 lists of 200 operations on average.
#[test]
fn nothing_is_freed_unread_and_nothing_is_lost() {
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(1500));
    let lists = (prop::collection::vec(op(), 0..400), 23_usize..120, 0_usize..200);
    runner.run(&lists, |(ops, capacity, window)| run(&ops, capacity, window)).unwrap();
}

#[test]
fn a_window_of_another_size_takes_the_newest_in() {
    const LENGTHS: [u16; 5] = [100, 33, 60, 17, 90];
    let mut before = vec![0; words(400)];
    let mut old = open(&mut before);
    // Once round, so that the messages do not begin where the memory does.
    for id in 0..3 {
        old.push(&message(80, id), 1).unwrap();
    }
    send_all(&mut old, 1);
    assert_eq!(old.acknowledged(0, 0), 3);
    let all: Vec<_> = (10..).zip(LENGTHS).map(|(id, len)| message(len, id)).collect();
    for message in &all {
        old.push(message, 7).unwrap();
    }
    for (bytes, fit) in [(4096, 5), (400, 5), (250, 4), (180, 2), (100, 1), (60, 0)] {
        let mut after = vec![0; words(bytes)];
        let mut new = open(&mut after);
        assert_eq!(new.take_in(&old), (5 - fit) * 7, "{bytes}");
        assert_eq!(new.records_held(), fit * 7);
        let newest = &all[5 - fit as usize..];
        let sent = send_all(&mut new, 1);
        let expected: Vec<u8> =
            (0..).zip(newest).flat_map(|(at, message)| stamped(message, 1, at * 7)).collect();
        assert_eq!(sent, expected, "{bytes}");
        assert_eq!(new.records_again(), u64::from(fit * 7), "they may have been read already");
        let capacity = u32::try_from(bytes.div_ceil(4)).unwrap();
        let (again, found) = Replay::open(&mut after, LAYOUT).unwrap();
        assert_eq!(
            (found, again.records_held(), again.capacity),
            (Found::Adopted, fit * 7, capacity)
        );
        assert_eq!(extent(&after), Some((words(bytes), LAYOUT)));
    }
    assert_eq!((extent(&[]), extent(&[0; 40])), (None, None));
}

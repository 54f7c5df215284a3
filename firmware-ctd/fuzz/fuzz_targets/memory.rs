//! Any words as the memory that another process left: of a table, a queue, an IPFIX window. What
//! is taken over from it is bounded and can be worked with; nothing panics.
#![no_main]

use arbitrary::{Arbitrary, Unstructured};
use firmware_ctd::ipfix::replay::{self, Replay};
use firmware_ctd::record::Record;
use firmware_ctd::retry::{Loss, RetryQueue, SinkId};
use firmware_ctd::table::FlowTable;
use firmware_ctd::time::{Duration, Instant, WallTime};
use libfuzzer_sys::fuzz_target;

const CAPACITY: u32 = 16;
const EXTENSIONS: u32 = 4;
const LAYOUT: u32 = 5;
/// No sound memory of these sizes can make more steps than this.
const MOST: usize = 4 * CAPACITY as usize;

/// A word that is changed.
#[derive(Arbitrary, Debug)]
struct Change {
    at: u16,
    to: u32,
}

#[derive(Arbitrary, Debug)]
enum Memory {
    Table,
    Queue { sinks: u8 },
    Window,
}

fuzz_target!(|data: &[u8]| {
    let mut data = Unstructured::new(data);
    let Ok(memory) = Memory::arbitrary(&mut data) else { return };
    match memory {
        Memory::Table => table(&mut data),
        Memory::Queue { sinks } => queue(&mut data, sinks % 4),
        Memory::Window => window(&mut data),
    }
});

/// Writes over words that were sound, or over all of them.
fn spoil(memory: &mut [u32], data: &mut Unstructured<'_>) {
    let len = memory.len();
    // The headers and what they point to are what matters most: small numbers often.
    while let Ok(Change { at, to }) = data.arbitrary() {
        let to = if to & 3 == 0 { to } else { to >> 24 };
        memory[usize::from(at) % len] = to;
        if data.is_empty() {
            break;
        }
    }
}

fn table(data: &mut Unstructured<'_>) {
    let mut memory = vec![0; FlowTable::words(CAPACITY, EXTENSIONS)];
    FlowTable::format(&mut memory, CAPACITY, EXTENSIONS, [1, 2]).expect("its size");
    spoil(&mut memory, data);
    let Ok(mut table) = FlowTable::open(&mut memory, CAPACITY, EXTENSIONS, 0) else { return };
    let mut slots = Vec::new();
    for bucket in 0..table.buckets() {
        let mut next = table.first(bucket);
        while let Some(slot) = next {
            slots.push(slot);
            assert!(slots.len() <= MOST, "a chain without end");
            next = table.next(slot);
        }
    }
    assert_eq!(slots.len(), table.len() as usize);
    let mut keys = Vec::new();
    for &slot in &slots {
        let flow = table.flow(slot);
        let _ =
            (flow.reply(), flow.counters(), flow.extension(), flow.expires_s(), flow.l4_state());
        keys.push(table.key(&flow.orig(), flow.zone()));
    }
    for slot in slots {
        table.remove(slot);
    }
    assert!(table.is_empty());
    for key in keys.iter().take(CAPACITY as usize / 2) {
        table.insert(key).expect("all is free again");
    }
}

fn queue(data: &mut Unstructured<'_>, sinks: u8) {
    let ids: Vec<_> =
        (1..=u64::from(sinks)).map(|id| SinkId { id, reliable: id % 2 == 0 }).collect();
    let mut memory = vec![0; RetryQueue::words(CAPACITY)];
    RetryQueue::format(&mut memory, CAPACITY, &ids).expect("its size");
    spoil(&mut memory, data);
    let Ok(mut queue) = RetryQueue::open(&mut memory, CAPACITY, &ids) else { return };
    assert!(queue.len() <= CAPACITY);
    let records: Vec<Record> = queue.records().collect();
    assert_eq!(records.len(), queue.len() as usize);
    let now = Instant::from_micros(1);
    for at in 0..ids.len() {
        assert!(queue.count_of(at).owed <= queue.len());
        let mut outbox = queue.outbox(at);
        let _ = outbox.next();
        outbox.mark_sent(2);
        outbox.acknowledge(1);
        outbox.refused(now, Duration::from_secs(1), 7);
        outbox.send_again();
    }
    let serial = queue.last_serial();
    for record in records.iter().take(4) {
        if queue.push(record, serial.wrapping_add(1), now).is_err() {
            queue.drop_oldest(Loss::Policy);
        }
    }
    let mut words = Vec::new();
    queue.export(now, &mut |part| words.extend_from_slice(part));
    for _ in 0..=CAPACITY {
        queue.drop_oldest(Loss::Policy);
    }
    assert!(queue.is_empty());
    let _ = queue.import(&words, now);
    let _ = queue.removed();
}

fn window(data: &mut Unstructured<'_>) {
    let mut memory = vec![0; replay::words(256)];
    let message = {
        let mut message = [0; 20];
        message[1] = 10;
        message[3] = 20;
        message
    };
    {
        let (mut window, _) = Replay::open(&mut memory, LAYOUT).expect("its size");
        for _ in 0..6 {
            window.push(&message, 1).expect("there is room");
        }
    }
    spoil(&mut memory, data);
    let extent = replay::extent(&memory);
    assert!(extent.is_none_or(|(words, _)| words <= memory.len()));
    let mut other = vec![0; replay::words(100)];
    let (mut window, _) = Replay::open(&mut memory, LAYOUT).expect("its size");
    let (mut smaller, _) = Replay::open(&mut other, LAYOUT).expect("its size");
    let held = window.records_held();
    assert!(smaller.take_in(&window) <= held);
    for window in [&mut window, &mut smaller] {
        let mut out = [0; 64];
        for _ in 0..MOST {
            let sent = window.next_to_send(WallTime::from_nanos(1), &mut out).len();
            window.sent(sent);
        }
        assert!(window.next_to_send(WallTime::from_nanos(1), &mut out).is_empty());
        window.acknowledged(0, 0);
        assert_eq!(window.records_held(), 0);
        window.push(&message, 1).expect("all is free again");
        window.connection_lost();
    }
}

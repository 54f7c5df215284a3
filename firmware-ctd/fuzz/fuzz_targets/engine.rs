//! Any operations on the engine: events, entries of dumps, bytes, overruns, failures, clocks.
//! Whatever comes, it stays within its memory and keeps its books.
#![no_main]

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use arbitrary::Arbitrary;
use firmware_ctd::engine::{Engine, EventPath, Output, Settings, Sizes, Source};
use firmware_ctd::record::{Cause, Record, RecordKey, json, text::Text};
use firmware_ctd::retry::{Loss, SinkId};
use firmware_ctd::time::{Duration, Instant, Now, WallTime};
use firmware_ctd::wire::{
    Conntrack, Counters, Done, Event, Helper, L4, Labels, Message, Messages, Protocol, Response,
    Status, Tuple, Writer,
};
use libfuzzer_sys::fuzz_target;

const SINK: SinkId = SinkId { id: 1, reliable: true };

const SIZES: Sizes = Sizes { capacity: 20, extensions: 3, remember: 64, queue: 16 };
/// So many keys are remembered for certain: the ways of one set.
const REMEMBERED: usize = 16;

#[derive(Arbitrary, Debug)]
struct Case {
    events: u8,
    seed: [u32; 2],
    ops: Vec<Op>,
}

#[derive(Arbitrary, Debug)]
enum Op {
    Event { event: u8, flow: Flow },
    Entry { flow: Flow },
    Done { errno: u8, flags: u8, seq: u8 },
    Refused { errno: u8 },
    Bytes { source: u8, bytes: Vec<u8> },
    Drops { destroy: bool, total: u8 },
    Truncated,
    PartRead,
    PartMissing,
    Failed,
    Waiting,
    Resync,
    Timeout,
    Pass { ms: u16 },
    Clock { s: i32 },
    Settings { events: u8, refresh_s: u8, observed: bool },
}

/// A flow out of a small alphabet, so that flows meet.
#[derive(Arbitrary, Debug)]
struct Flow {
    name: u8,
    id: u8,
    start: Option<u8>,
    stop: Option<u8>,
    event: Option<u8>,
    counters: Option<[u8; 4]>,
    status: Option<u32>,
    timeout_s: Option<u32>,
    rare: u8,
}

impl Flow {
    fn conntrack(&self) -> Conntrack<'static> {
        let [a, b, c, d] = self.counters.unwrap_or_default().map(u64::from);
        let both = self.counters.is_some();
        let orig = self.orig();
        let at = |time: u8| EPOCH_NS + u64::from(time) * 3_000_000;
        Conntrack {
            orig: (self.rare != 0xff).then_some(orig),
            reply: Some(orig.inverse()),
            zone: (self.name & 0x40 != 0).then_some(7),
            zone_reply: (self.rare & 8 != 0).then_some(9),
            id: Some(u32::from(self.id % 3)),
            start_ns: self.start.map(|t| if t == 255 { 0 } else { at(t) }),
            stop_ns: self.stop.map(at),
            event_ns: self.event.map(at),
            counters_orig: both.then_some(Counters { packets: a, bytes: b << 56 }),
            counters_reply: both.then_some(Counters { packets: c, bytes: d }),
            status: self.status.map(Status),
            timeout_s: self.timeout_s,
            helper: (self.rare & 1 != 0)
                .then_some(Helper { name: b"a-helper-with-a-long-name", info: None }),
            labels: (self.rare & 2 != 0).then_some(Labels([self.rare; 16])),
            master: (self.rare & 4 != 0).then_some(orig),
            ..Conntrack::default()
        }
    }

    fn orig(&self) -> Tuple {
        let last = u16::from(self.name & 7);
        let address = |last: u16| {
            if self.name & 0x20 != 0 {
                IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last))
            } else {
                IpAddr::V4(Ipv4Addr::new(10, 0, 0, (last & 0xff) as u8))
            }
        };
        let (proto, l4) = match self.name >> 3 & 3 {
            0 => (Protocol::UDP, L4::Ports { src: 1, dst: 2 }),
            1 => (Protocol::ICMP, L4::Icmp { id: 1, kind: 8, code: 0 }),
            2 => (Protocol(99), L4::None),
            _ => (Protocol::TCP, L4::Ports { src: 1, dst: 2 }),
        };
        Tuple { src: address(last), dst: address(200), proto, l4 }
    }
}

const EPOCH_NS: u64 = 1_795_289_206_000_000_000;

struct Run<'m> {
    engine: Engine<'m>,
    now: Now,
    seq: u32,
    /// Whole dumps that were told.
    dumps: u32,
    keys: Vec<u64>,
    destroys: u64,
}

fuzz_target!(|case: Case| {
    let mut memory = vec![0; SIZES.words()];
    let settings =
        Settings { events: path(case.events), refresh: Duration::from_secs(60), observed: false };
    let engine =
        Engine::new(&mut memory, &SIZES, settings, [1; 16], case.seed, &[SINK]).expect("sizes fit");
    let now = Now { boot: Instant::from_micros(5_000_000), wall: WallTime::from_nanos(EPOCH_NS) };
    let mut run = Run { engine, now, seq: 0, dumps: 0, keys: Vec::new(), destroys: 0 };
    for op in &case.ops {
        run.apply(op);
        run.poll();
        run.check();
    }
    run.calm_down();
});

fn path(number: u8) -> EventPath {
    [EventPath::None, EventPath::BestEffort, EventPath::Reliable][usize::from(number % 3)]
}

impl Run<'_> {
    fn apply(&mut self, op: &Op) {
        let boot = self.now.boot;
        match op {
            Op::Event { event, flow } => {
                let event = [Event::New, Event::Update, Event::Destroy][usize::from(event % 3)];
                let ct = flow.conntrack();
                self.give(Source::State, &Message::Conntrack { event, ct }, 0, 0);
            }
            Op::Entry { flow } => {
                let ct = Conntrack { stop_ns: None, event_ns: None, ..flow.conntrack() };
                let message = Message::Conntrack { event: Event::Update, ct };
                self.give(Source::Request, &message, self.seq, 2);
            }
            Op::Done { errno, flags, seq } => {
                let done = Message::Done(Done { errno: i32::from(errno % 4), ext_msg: None });
                let seq = if seq % 8 == 0 { 77 } else { self.seq };
                self.dumps += 1;
                self.give(Source::Request, &done, seq, u16::from(flags % 4) << 4);
            }
            Op::Refused { errno } => {
                let refusal = Response { errno: i32::from(errno % 4), ..Response::default() };
                self.give(Source::Request, &Message::Response(refusal), self.seq, 0);
            }
            Op::Bytes { source, bytes } => {
                let all = [Source::State, Source::Destroy, Source::Request];
                self.feed(all[usize::from(source % 3)], bytes);
            }
            Op::Drops { destroy, total } => {
                let source = if *destroy { Source::Destroy } else { Source::State };
                self.engine.handle_drops(boot, source, u32::from(*total));
            }
            Op::Truncated => self.engine.handle_truncated(boot),
            Op::PartRead => self.engine.dump_part_read(boot),
            Op::PartMissing => self.engine.dump_part_missing(boot),
            Op::Failed => self.engine.dump_failed(boot),
            Op::Waiting => self.engine.destroys_are_waiting(boot),
            Op::Resync => self.engine.resync(boot),
            Op::Timeout => self.engine.handle_timeout(self.now),
            Op::Pass { ms } => self.pass(u64::from(*ms)),
            Op::Clock { s } => {
                let by = i64::from(*s) * 1_000_000_000;
                self.now.wall =
                    WallTime::from_nanos(self.now.wall.as_nanos().saturating_add_signed(by));
            }
            Op::Settings { events, refresh_s, observed } => {
                let refresh = Duration::from_secs(u64::from(*refresh_s));
                let settings = Settings { events: path(*events), refresh, observed: *observed };
                self.engine.set_settings(settings);
            }
        }
    }

    fn pass(&mut self, ms: u64) {
        self.now.boot = self.now.boot + Duration::from_millis(ms);
        self.now.wall =
            WallTime::from_nanos(self.now.wall.as_nanos().saturating_add(ms * 1_000_000));
    }

    /// A message with more flags in its header.
    fn give(&mut self, source: Source, message: &Message<'_>, seq: u32, more: u16) {
        let mut buffer = [0; 1024];
        let mut writer = Writer::new(&mut buffer);
        message.emit(&mut writer, seq).expect("fits");
        let mut bytes = writer.as_bytes().to_vec();
        let flags = u16::from_ne_bytes([bytes[6], bytes[7]]) | more;
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        self.feed(source, &bytes);
    }

    fn feed(&mut self, source: Source, bytes: &[u8]) {
        for message in Messages::new(bytes) {
            if source == Source::Request {
                self.dumps += 1;
            }
            self.engine.handle_message(self.now, source, message);
            let given = self.poll();
            assert!(given <= 1, "{given} outputs of one message");
        }
    }

    fn poll(&mut self) -> u32 {
        let mut given = 0;
        while let Some(output) = self.engine.poll_output() {
            given += 1;
            assert!(given <= 40, "no end of outputs");
            match output {
                Output::StartDump { seq, .. } => self.seq = seq,
                Output::Record(record) => check_line(&record),
            }
        }
        while let Some(record) = self.take_record() {
            check_line(&record);
            self.note_destroy(record.key, record.cause);
        }
        given
    }

    /// The next record that the sink is owed; it has it then.
    fn take_record(&mut self) -> Option<Record> {
        let mut outbox = self.engine.queue_mut().outbox(0);
        let record = outbox.next()?;
        outbox.mark_sent(1);
        outbox.acknowledge(1);
        Some(record)
    }

    fn note_destroy(&mut self, key: RecordKey, cause: Cause) {
        self.destroys += 1;
        assert!(cause == Cause::Event || self.dumps >= 2, "called gone after {} dumps", self.dumps);
        if let RecordKey::Strong(key) = key {
            let from = self.keys.len().saturating_sub(REMEMBERED);
            assert!(!self.keys[from..].contains(&key), "reported twice");
            self.keys.push(key);
        }
    }

    /// Flows in the table, each found by its own key, are what the table says.
    fn check(&self) {
        let table = self.engine.table();
        let (mut count, mut extensions, mut cells) = (0, 0, 0);
        let mut names = BTreeSet::new();
        for bucket in 0..table.buckets() {
            let mut next = table.first(bucket);
            while let Some(slot) = next {
                let flow = table.flow(slot);
                let key = table.key_of(slot);
                assert!(table.find(&key).is_some());
                names.insert((flow.orig(), flow.zone()));
                count += 1;
                extensions += u32::from(flow.has_extension());
                cells += if flow.orig().src.is_ipv6() { 3 } else { 2 };
                next = table.next(slot);
            }
        }
        let usage = table.usage();
        assert_eq!(count, table.len());
        assert_eq!(count, usage.ipv4 + usage.ipv6);
        assert!(cells <= 2 * SIZES.capacity);
        assert_eq!(extensions, usage.extensions_used);
        let ledger = self.engine.ledger();
        assert_eq!(self.engine.queue().lost(Loss::Policy).records, 0);
        assert!(ledger.vanished_unseen <= self.destroys);
    }

    /// With nothing more to come, the engine does not spin.
    fn calm_down(&mut self) {
        for _ in 0..40 {
            let mut turns = 0;
            while self.engine.poll_timeout().is_some_and(|at| at <= self.now.boot) {
                turns += 1;
                assert!(turns < 100, "handle_timeout is wanted again and again");
                self.engine.handle_timeout(self.now);
                self.poll();
                if self.engine.wants_dump_part(self.now.boot) {
                    self.engine.dump_part_missing(self.now.boot);
                }
            }
            self.check();
            self.pass(4_000);
        }
    }
}

fn check_line(record: &Record) {
    let mut buffer = [0; json::MAX_LINE];
    let mut text = Text::new(&mut buffer);
    json::line(&mut text, record);
    assert!(!text.is_cut());
}

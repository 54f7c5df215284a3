//! What one event costs the engine: a NEW and a DESTROY of an IPv4 UDP flow, from the received
//! bytes to the JSON line, at several numbers of live flows.
//!
//! ```text
//! cargo run --release -p firmware-ctd --example engine_cost [LIVE...]
//! ```
//!
//! The messages have the attributes that Linux 6.18 sends, timestamps and counters included, and
//! are made outside of the time that is taken. Flows end in random order. Batches are of 1,000, as
//! receive batches are, so that the bytes are still in the cache.
#![expect(clippy::expect_used, reason = "a benchmark that cannot run has nothing to tell")]

use std::hint::black_box;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};

use firmware_ctd::engine::{Engine, EventPath, Settings, Sizes, Source};
use firmware_ctd::record::{json, text::Text};
use firmware_ctd::retry::SinkId;
use firmware_ctd::time::{Duration, Instant, Now, WallTime};
use firmware_ctd::wire::{
    Conntrack, Counters, Event, Family, L4, Message, Messages, Protocol, Status, Tuple, Writer,
};

const BATCH: u32 = 1_000;
/// Batches of each kind, unless `ROUNDS` in the environment says otherwise.
const ROUNDS: usize = 300;
const T0: u64 = 1_795_289_206_000_000_000;

fn main() {
    let mut live: Vec<u32> = std::env::args().skip(1).filter_map(|arg| arg.parse().ok()).collect();
    if live.is_empty() {
        live = vec![1_000, 16_384, 1_000_000];
    }
    for flows in live {
        let cost = measure(flows);
        let _ = writeln!(
            std::io::stdout(),
            "{flows:>8} live: NEW {:.0} ns, DESTROY {:.0} ns, of this JSON {:.0} ns",
            cost.new,
            cost.destroy,
            cost.json
        );
    }
}

struct Cost {
    new: f64,
    destroy: f64,
    json: f64,
}

/// Nanoseconds an event: what nine of ten batches take at least, since others use the machine too.
fn measure(live: u32) -> Cost {
    let sizes = Sizes { capacity: live + 2 * BATCH, extensions: 1024, remember: 4096, queue: 1024 };
    let mut memory = vec![0; sizes.words()];
    let settings =
        Settings { events: EventPath::Reliable, refresh: Duration::from_secs(60), observed: false };
    let mut engine =
        Engine::new(&mut memory, &sizes, settings, [7; 16], [0x1234_5678, 0x9abc_def0], &[SINK])
            .expect("sizes fit");
    let mut alive: Vec<u32> = (0..live).collect();
    for chunk in alive.chunks(BATCH as usize) {
        feed(&mut engine, Source::State, &bytes(chunk, Event::New), &mut Vec::new());
    }
    let mut next = live;
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut times = [const { Vec::new() }; 3];
    let mut records = Vec::with_capacity(BATCH as usize);
    let rounds = std::env::var("ROUNDS").ok().and_then(|text| text.parse().ok());
    for _ in 0..rounds.unwrap_or(ROUNDS) {
        let begun: Vec<u32> = (next..next + BATCH).collect();
        next += BATCH;
        let new = bytes(&begun, Event::New);
        alive.extend(begun);
        let ended: Vec<u32> =
            (0..BATCH).map(|_| alive.swap_remove(pick(&mut random, alive.len()))).collect();
        let destroy = bytes(&ended, Event::Destroy);
        times[0].push(timed(|| feed(&mut engine, Source::State, &new, &mut records)));
        let engine_ns = timed(|| feed(&mut engine, Source::Destroy, &destroy, &mut records));
        assert_eq!(records.len(), BATCH as usize);
        let json_ns = timed(|| written(&records));
        records.clear();
        times[1].push(engine_ns + json_ns);
        times[2].push(json_ns);
    }
    let [new, destroy, json] = times.map(undisturbed);
    Cost { new, destroy, json }
}

fn pick(random: &mut u64, below: usize) -> usize {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    usize::try_from(*random % below as u64).unwrap_or(0)
}

fn undisturbed(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 10] / f64::from(BATCH)
}

#[expect(clippy::disallowed_methods, reason = "a benchmark takes the time")]
fn timed<T>(work: impl FnOnce() -> T) -> f64 {
    let before = std::time::Instant::now();
    black_box(work());
    before.elapsed().as_nanos() as f64
}

const SINK: SinkId = SinkId { id: 1, reliable: true };

fn feed(
    engine: &mut Engine<'_>,
    source: Source,
    bytes: &[u8],
    records: &mut Vec<firmware_ctd::record::Record>,
) {
    let now = Now { boot: Instant::from_micros(1_000_000), wall: WallTime::from_nanos(T0) };
    for message in Messages::new(bytes) {
        engine.handle_message(now, source, message);
        let mut outbox = engine.queue_mut().outbox(0);
        while let Some(record) = outbox.next() {
            records.push(record);
            outbox.mark_sent(1);
            outbox.acknowledge(1);
        }
    }
}

fn written(records: &[firmware_ctd::record::Record]) -> usize {
    let mut buffer = [0; json::MAX_LINE];
    let mut len = 0;
    for record in records {
        let mut text = Text::new(&mut buffer);
        json::line(&mut text, record);
        len += black_box(text.as_bytes()).len();
    }
    len
}

fn bytes(flows: &[u32], event: Event) -> Vec<u8> {
    let mut buffer = vec![0; flows.len() * 512];
    let mut writer = Writer::new(&mut buffer);
    for &flow in flows {
        let ct = conntrack(flow, event);
        Message::Conntrack { event, ct }.emit(&mut writer, 0).expect("fits");
    }
    writer.as_bytes().to_vec()
}

fn conntrack(n: u32, event: Event) -> Conntrack<'static> {
    let [_, a, b, c] = n.to_be_bytes();
    let port = u16::from_be_bytes([b, c]) | 1024;
    let client = IpAddr::V4(Ipv4Addr::new(10, a, b, c));
    let server = IpAddr::V4(Ipv4Addr::new(198, 51, 100, c));
    let router = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 5));
    let tuple = |src, dst, l4| Tuple { src, dst, proto: Protocol::UDP, l4 };
    let start = T0 + u64::from(n) * 1_000;
    let ct = Conntrack {
        family: Family::Ipv4,
        orig: Some(tuple(client, server, L4::Ports { src: port, dst: 53 })),
        reply: Some(tuple(server, router, L4::Ports { src: 53, dst: port })),
        id: Some(n.wrapping_mul(0x9e37_79b9)),
        status: Some(Status(Status::CONFIRMED | Status::SRC_NAT | Status::SEEN_REPLY)),
        ..Conntrack::default()
    };
    if event == Event::Destroy {
        let counters =
            |k| Some(Counters { packets: u64::from(n % 7 + k), bytes: u64::from(n) * 3 });
        return Conntrack {
            counters_orig: counters(1),
            counters_reply: counters(2),
            start_ns: Some(start),
            stop_ns: Some(start + 30_000_000_000),
            event_ns: Some(start + 30_000_001_000),
            ..ct
        };
    }
    Conntrack { timeout_s: Some(30), event_ns: Some(start + 2_000), ..ct }
}

//! How long the codec takes for the messages that a busy router sends most.
//!
//! ```text
//! cargo run --release --example parse_timing [ROUNDS]
//! ```
//!
//! Prints nanoseconds per message, the least of 4,000 (or so many) short rounds, for datagrams of the captures: read
//! whole, from datagram to value; and for writing the same value.

use std::hint::black_box;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use firmware_ctd::wire::{Message, Messages, Writer};

const EVENTS: &str = include_str!("../tests/captures/linux-6.18-le/events.hex");
const REPEATS: u32 = 200;

fn main() -> io::Result<()> {
    let mut out = io::stdout();
    let rounds = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(4000);
    for (what, name, place) in [
        ("NEW tcp ipv4", "ipv4 tcp", 0),
        ("NEW udp ipv6", "ipv6 udp", 0),
        ("UPDATE udp with labels", "real udp, label", 1),
        ("DESTROY tcp ipv4", "flush", 0),
        ("DESTROY tcp ipv6", "flush", 1),
    ] {
        let datagram = datagram(name, place);
        let message = read(&datagram);
        let mut buffer = [0; 4096];
        let parse = least(rounds, || {
            black_box(read(black_box(&datagram)));
        });
        let emit = least(rounds, || {
            let mut w = Writer::new(&mut buffer);
            black_box(message.emit(&mut w, 0).is_ok());
        });
        writeln!(
            out,
            "{what:24} {:4} bytes  parse {parse:5.1} ns  emit {emit:5.1} ns",
            datagram.len()
        )?;
    }
    Ok(())
}

/// The one message of a datagram.
fn read(datagram: &[u8]) -> Message<'_> {
    match Messages::new(datagram).next() {
        Some(Ok(raw)) => Message::parse(&raw).unwrap_or(Message::Noop),
        _ => Message::Noop,
    }
}

/// A captured datagram: of a flush the shortest of TCP in the given family (no extensions), else
/// the one at `place` of `name`.
fn datagram(name: &str, place: usize) -> Vec<u8> {
    let mut lines = EVENTS.lines();
    let mut found = Vec::new();
    while let (Some(title), Some(hex)) = (lines.next(), lines.next()) {
        if title.strip_prefix("# ") == Some(name) {
            found.push(bytes(hex));
        }
    }
    if name == "flush" {
        found.retain(|datagram| is_tcp(datagram, place == 1));
        return found.into_iter().min_by_key(Vec::len).unwrap_or_default();
    }
    found.into_iter().nth(place).unwrap_or_default()
}

fn is_tcp(datagram: &[u8], v6: bool) -> bool {
    match read(datagram) {
        Message::Conntrack { ct, .. } => {
            ct.orig.is_some_and(|tuple| tuple.proto.0 == 6 && tuple.src.is_ipv6() == v6)
        }
        _ => false,
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2);
    digits.filter_map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

/// Nanoseconds of one call, in the best round.
#[expect(clippy::disallowed_methods, reason = "a measurement is about the clock")]
fn least(rounds: u32, mut call: impl FnMut()) -> f64 {
    let mut best = Duration::MAX;
    for _ in 0..rounds {
        let start = Instant::now();
        for _ in 0..REPEATS {
            call();
        }
        best = best.min(start.elapsed());
    }
    best.as_secs_f64() * 1e9 / f64::from(REPEATS)
}

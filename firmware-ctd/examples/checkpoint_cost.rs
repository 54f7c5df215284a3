//! What a flow costs in a checkpoint: bytes, and time to write and to read.
//!
//! ```sh
//! cargo run --release -p firmware-ctd --example checkpoint_cost [FLOWS]
//! ```
//!
//! TCP flows of 250 clients with 2,000 servers, random starts over three days, random ports, random
//! timeouts up to five days, counters of 10 to 10^6 packets with 40 to 1,500 bytes each, in both
//! directions; all of it independent, so that nothing can be guessed that a router's flows would
//! not let be guessed too.

#![expect(clippy::print_stdout, clippy::expect_used, reason = "an example prints and may panic")]
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the numbers are made here and small"
)]

use std::hint::black_box;
use std::io::Cursor;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::ControlFlow;

use firmware_ctd::checkpoint::{Encoder, EncoderMemory, Facts, Limit, Reader, SavedFlow};
use firmware_ctd::daemon::clock;
use firmware_ctd::table::{Extension, L4State};
use firmware_ctd::wire::{Counters, L4, Protocol, Status, Tuple};

const DAYS_MS: u64 = 3 * 86_400_000;

/// A small generator of noise (xorshift*).
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: u64) -> u64 {
        ((self.next() >> 32) * bound) >> 32
    }

    fn port(&mut self) -> u16 {
        u16::try_from(self.below(64_512) + 1_024).unwrap_or(u16::MAX)
    }

    /// 10 to a million.
    fn packets(&mut self, uniform: bool) -> u64 {
        if uniform {
            return 10 + self.below(999_991);
        }
        let exponent = self.below(1 << 20) as f64 / f64::from(1 << 20) * 5.0;
        (10.0 * 10_f64.powf(exponent)) as u64
    }

    fn counters(&mut self, uniform: bool) -> Counters {
        let packets = self.packets(uniform);
        let bytes = 40 * packets + self.below(1_460 * packets);
        Counters { packets, bytes }
    }
}

#[derive(Clone, Copy)]
struct Load {
    ipv6: bool,
    uniform: bool,
    nat_ports: bool,
}

fn flow(noise: &mut Noise, load: Load) -> SavedFlow {
    let (client, server) = (noise.below(250), noise.below(2_000));
    let v4 = |first: u64, n: u64| IpAddr::V4(Ipv4Addr::from_bits((first + n) as u32));
    let v6 = |first: u128, n: u64| {
        let low = u128::from(n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        IpAddr::V6(Ipv6Addr::from_bits(first + low))
    };
    // Servers lie all over the world: their addresses have nothing in common.
    let scattered = (server + 1).wrapping_mul(0x9e37_79b1) & 0x7fff_ffff;
    let (src, dst) = if load.ipv6 {
        let network = u128::from((server + 1).wrapping_mul(0x9e37_79b1)) << 70;
        (v6(0x2001_0db8_0000_0001 << 64, client), v6(0x2a00 << 112 | network, server))
    } else {
        (v4(0xc0a8_0100, client), v4(0x1000_0000, scattered))
    };
    let (sport, dport) = (noise.port(), noise.port());
    let l4 = L4::Ports { src: sport, dst: dport };
    let orig = Tuple { src, dst, proto: Protocol::TCP, l4 };
    let mut reply = orig.inverse();
    if !load.ipv6 {
        reply.dst = v4(0xcb00_7101, 0);
        if load.nat_ports {
            reply.l4 = L4::Ports { src: dport, dst: noise.port() };
        }
    }
    let wscales = [0x77, 0x78, 0x97, 0x67][noise.below(4) as usize];
    SavedFlow {
        orig,
        reply,
        zone: 0,
        zone_orig_only: false,
        status: Status(if load.ipv6 { 0xe } else { 0x19e }),
        mark: 0,
        timeout_s: Some(noise.below(432_000) as u32),
        l4_state: Some(L4State { state: 3, wscales, flags_orig: 0x23, flags_reply: 0x23 }),
        counters: Some([noise.counters(load.uniform), noise.counters(load.uniform)]),
        inexact: false,
        start_ms: Some(1_795_000_000_000 + noise.below(DAYS_MS)),
        rare: Extension::default(),
    }
}

fn encode(memory: &mut EncoderMemory, flows: &[SavedFlow], out: Vec<u8>) -> Vec<u8> {
    let mut encoder =
        Encoder::new(memory, out, &Facts::default(), Limit::default()).expect("a vector takes all");
    for flow in flows {
        encoder.flow(flow).expect("a vector takes all");
    }
    encoder.finish().expect("a vector takes all").0
}

/// The shortest of several runs, in nanoseconds for each of `count`.
fn shortest(count: usize, mut run: impl FnMut()) -> u64 {
    let one = |_| {
        let before = clock::now().boot.as_micros();
        run();
        clock::now().boot.as_micros() - before
    };
    (0..15).map(one).min().unwrap_or(0) * 1_000 / count as u64
}

fn main() {
    let count = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(16_384);
    println!("{count} flows; {} bytes of SavedFlow", size_of::<SavedFlow>());
    let mut memory = EncoderMemory::new();
    for (name, ipv6, uniform, nat_ports) in [
        ("IPv4, log-uniform counters, ports kept", false, false, false),
        ("IPv4, log-uniform counters, ports changed", false, false, true),
        ("IPv4, uniform counters, ports kept", false, true, false),
        ("IPv4, uniform counters, ports changed", false, true, true),
        ("IPv6, log-uniform counters", true, false, false),
        ("IPv6, uniform counters", true, true, false),
    ] {
        let mut noise = Noise(0x1234_5678_9abc_def1);
        let load = Load { ipv6, uniform, nat_ports };
        let flows: Vec<_> = (0..count).map(|_| flow(&mut noise, load)).collect();
        let mut image = Vec::with_capacity(64 * count + 4096);
        let writes = shortest(count, || {
            image.clear();
            image = encode(&mut memory, &flows, core::mem::take(&mut image));
        });
        let mut reader = Reader::open(Cursor::new(&image)).expect("a good image");
        let verifies = shortest(count, || {
            black_box(Reader::open(Cursor::new(&image)).expect("a good image"));
        });
        let reads = shortest(count, || {
            let mut each = |flow: &SavedFlow| {
                black_box(flow);
                ControlFlow::Continue(())
            };
            reader.flows(&mut each).expect("a good image");
        });
        let bytes = image.len() as f64 / count as f64;
        println!("{name:42} {bytes:5.2} B; ns: write {writes}, verify {verifies}, read {reads}");
    }
}

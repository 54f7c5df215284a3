//! What a flow costs in a checkpoint: bytes, and time to write and to read.
//!
//! ```sh
//! cargo run --release -p firmware-ctd --example checkpoint_cost [FLOWS]
//! ```
//!
//! The flows are those of `tests/checkpoint/traffic.rs`.

#![expect(clippy::print_stdout, clippy::expect_used, reason = "an example prints and may panic")]

#[path = "../tests/checkpoint/traffic.rs"]
mod traffic;

use std::hint::black_box;
use std::io::Cursor;
use std::ops::ControlFlow;

use firmware_ctd::checkpoint::{Encoder, EncoderMemory, Facts, Limit, Reader, SavedFlow};
use firmware_ctd::daemon::clock;

use traffic::{Load, Noise, flow};

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

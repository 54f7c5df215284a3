//! Writing an image allocates nothing, and reading one of any size takes little.

#[path = "checkpoint/traffic.rs"]
mod traffic;

use std::io::Cursor;
use std::ops::ControlFlow;

use firmware_ctd::checkpoint::{Encoder, EncoderMemory, Facts, Limit, Reader, Section};
use firmware_ctd::daemon::sys::{CountingAllocator, allocations, bytes_held};
use traffic::{Load, Noise, flow};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Flows of an image of 5 MB.
const FLOWS: usize = 220_000;

// Without the test harness, whose own threads allocate.
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut image = Vec::with_capacity(8 << 20);
    let mut memory = EncoderMemory::new();
    let words = vec![1; 10_000];
    for _ in 0..2 {
        image.clear();
        let before = allocations();
        let mut noise = Noise(1);
        let mut encoder =
            Encoder::new(&mut memory, &mut image, &Facts::default(), Limit::default())?;
        for n in 0..FLOWS {
            let load = Load { ipv6: n % 4 == 0, uniform: true, nat_ports: true };
            encoder.flow(&flow(&mut noise, load))?;
        }
        encoder.words(Section::words(0), 1, &words)?;
        encoder.finish()?;
        assert_eq!(allocations() - before, 0, "writing allocates nothing");
    }
    assert!(image.len() > 5_000_000, "{}", image.len());

    let before = bytes_held();
    let mut reader = Reader::open(Cursor::new(&image))?;
    let held = bytes_held() - before;
    assert!(held > 32_768, "the allocator counts");
    assert!(held < 200_000, "{held}");
    let (before, mut count) = (allocations(), 0);
    reader.flows(&mut |_| {
        count += 1;
        ControlFlow::Continue(())
    })?;
    reader.words(Section::words(0), &mut |_, _| ControlFlow::Continue(()))?;
    assert_eq!(count, FLOWS);
    assert_eq!(allocations() - before, 0, "reading again allocates nothing");
    Ok(())
}

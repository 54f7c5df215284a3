//! Tiny receive buffers: how long until every destroy has been taken.
//!
//! The kernel keeps what does not fit and repeats it in slots of 10 ms, so the time is up to how
//! fast a listener empties its buffer while a slot runs. The bare loop does not nap here.

use super::{ACCOUNTED, Column, MADE, column, compared, made, real};
use crate::load::Flows;
use crate::measure;
use crate::peers::Peer;
use crate::peers::bench::{Bench, Round, Sample, place};
use std::io;

/// Seconds that any listener may take.
const PATIENCE_S: u64 = 120;
/// Flows that are created and destroyed, and as many more that are flushed.
const COUNT: u32 = 20_000;

pub(super) const COLUMNS: &[Column] = &[
    compared("s_2k", "s at 2 KiB", 1.0, 2),
    compared("s_8k", "s at 8 KiB", 1.0, 2),
    compared("s_64k", "s at 64 KiB", 1.0, 2),
    column(ACCOUNTED, "accounted", 1.0, 0),
];

pub(super) fn run(bench: &Bench, peer: Peer, _: &mut Round) -> io::Result<Sample> {
    let mut sample = Sample::default();
    for (figure, buffer) in [("s_2k", 2 << 10), ("s_8k", 8 << 10), ("s_64k", 64 << 10)] {
        let (seconds, made, accounted) = one(bench, peer, buffer)?;
        sample.insert(figure, seconds);
        *sample.entry(MADE).or_default() += made;
        *sample.entry(ACCOUNTED).or_default() += accounted;
    }
    Ok(sample)
}

/// Seconds from the first flow until the kernel keeps nothing any more; flows made, and accounted.
fn one(bench: &Bench, peer: Peer, buffer: u32) -> io::Result<(f64, f64, f64)> {
    let count = bench.size(COUNT, 1_000);
    let (netns, mut loader) = place()?;
    let running = bench.start_with(peer, &netns, Some(4 * COUNT), Some(buffer))?;
    let start = measure::now();
    super::complete(&loader.churn(&Flows::default(), 0..count, 1_000)?)?;
    super::complete(&loader.create(&Flows::default(), count..2 * count, 1_000)?)?;
    loader.flush()?;
    measure::wait_for("the kernel to keep nothing", PATIENCE_S, || {
        Ok((loader.entries()? == 0).then_some(()))
    })?;
    let seconds = start.elapsed().as_secs_f64();
    super::at_rest(&running, &mut loader, 0)?;
    let made = made(2 * count);
    let total = real(made.len() as u64);
    Ok((seconds, total, real(running.stop()?.account.of_made(made))))
}

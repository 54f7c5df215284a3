//! One IPFIX collector by TCP: the daemon against ulogd2's own IPFIX plugin.
//!
//! The collector is a thread of this program that reads and counts, so that it slows nobody. The
//! two send different things: the daemon IPv4 and IPv6 with NAT and both directions' 64-bit
//! counters, acknowledged before they are forgotten; ulogd2 IPv4 with 32-bit sums, fire and forget.

use super::{ACCOUNTED, CPU_EVENT, CPU_FLOW, Column, MADE, column, compared, complete, real, us};
use crate::lab::{Context, Netns};
use crate::measure;
use crate::peers::Peer;
use crate::peers::bench::{Bench, Round, Sample, measured, place};
use std::collections::HashSet;
use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

pub(super) const COLUMNS: &[Column] = &[
    compared(CPU_EVENT, "CPU us/event", 1.0, 2),
    compared(CPU_FLOW, "CPU us/flow", 1.0, 2),
    column(ACCOUNTED, "accounted", 1.0, 0),
];

const PORT: u16 = 4739;
/// Bytes of a record of the daemon's (IPv4) and of ulogd2's.
const RECORD_BYTES: [usize; 2] = [85, 33];
/// What ulogd2 keeps until its message is full is lost at its end: at most so many records.
const UNSENT: u32 = 41;

pub(super) fn run(bench: &Bench, peer: Peer, _: &mut Round) -> io::Result<Sample> {
    let count = bench.size(100_000, 5_000);
    let (netns, mut loader) = place()?;
    crate::lab::loopback_up(&netns).map_err(io::Error::other)?;
    let collector = Collector::start(&netns, peer)?;
    let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, PORT);
    let running = bench.start_for_collector(peer, &netns, address)?;
    let (tally, cost) = measured(&running, &mut loader, 0, |loader| {
        super::paced(bench, &running, loader, 0..count)
    })?;
    complete(&tally)?;
    let least = if peer == Peer::Ulogd { count.saturating_sub(UNSENT) } else { count };
    measure::wait_for("the collector to have every record", 60, || {
        Ok((collector.records() >= u64::from(least)).then_some(()))
    })?;
    running.stop()?;
    let accounted = collector.stop()?;
    let events = if peer.sees_all_events() { 2 * count } else { count };
    Ok(Sample::from([
        (CPU_EVENT, us(cost.cpu_ns) / real(events.into())),
        (CPU_FLOW, us(cost.cpu_ns) / real(count.into())),
        (MADE, real(count.into())),
        (ACCOUNTED, real(accounted)),
    ]))
}

/// A thread that takes connections and counts the flows of their messages.
struct Collector {
    records: Arc<AtomicU64>,
    end: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<u64>>,
}

impl Collector {
    fn start(netns: &Netns, peer: Peer) -> io::Result<Self> {
        let address: SocketAddr = (Ipv4Addr::LOCALHOST, PORT).into();
        let bound = netns.run(|| TcpListener::bind(address).context("listening"));
        let listener = bound.map_err(io::Error::other)?;
        listener.set_nonblocking(true)?;
        let (records, end) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (counted, told) = (Arc::clone(&records), Arc::clone(&end));
        let thread = std::thread::spawn(move || collect(&listener, peer, &counted, &told));
        Ok(Self { records, end, thread })
    }

    fn records(&self) -> u64 {
        self.records.load(Ordering::Relaxed)
    }

    /// How many flows it was told of: by their key, or, where there is none, by number.
    fn stop(self) -> io::Result<u64> {
        self.end.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_else(|_| Err(io::Error::other("the collector panicked")))
    }
}

fn collect(
    listener: &TcpListener,
    peer: Peer,
    records: &AtomicU64,
    end: &AtomicBool,
) -> io::Result<u64> {
    let mut keys = HashSet::new();
    while !end.load(Ordering::Relaxed) {
        let Ok((mut stream, _)) = listener.accept() else {
            measure::pause(1);
            continue;
        };
        stream.set_nonblocking(false)?;
        let mut header = [0; 16];
        while stream.read_exact(&mut header).is_ok() {
            let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
            let mut sets = vec![0; length.saturating_sub(header.len())];
            stream.read_exact(&mut sets)?;
            let size = RECORD_BYTES[usize::from(peer == Peer::Ulogd)];
            for record in records_of(&sets, size) {
                records.fetch_add(1, Ordering::Relaxed);
                keys.extend(record.first_chunk::<8>().filter(|_| peer != Peer::Ulogd).copied());
            }
        }
    }
    let told = records.load(Ordering::Relaxed);
    Ok(if peer == Peer::Ulogd { told } else { keys.len() as u64 })
}

/// The records of `size` bytes in all sets of IPv4 flows.
fn records_of(mut sets: &[u8], size: usize) -> Vec<&[u8]> {
    let mut found = Vec::new();
    while let Some(&[a, b, c, d]) = sets.first_chunk::<4>() {
        let (id, length) = (u16::from_be_bytes([a, b]), usize::from(u16::from_be_bytes([c, d])));
        let Some(set) = sets.get(4..length) else { break };
        // 2 and 3 are templates; 258 has the daemon's own counters.
        if id == 256 || id > 258 {
            found.extend(set.chunks_exact(size));
        }
        sets = &sets[length..];
    }
    found
}

#[cfg(test)]
mod tests {
    use super::records_of;

    #[test]
    fn records_are_those_of_sets_of_flows() {
        let mut sets = vec![0, 2, 0, 8, 9, 9, 9, 9];
        sets.extend([1, 0, 0, 10, 1, 2, 3, 4, 5, 6]);
        sets.extend([1, 2, 0, 6, 7, 7]);
        assert_eq!(records_of(&sets, 3), [[1, 2, 3], [4, 5, 6]]);
        assert!(records_of(&[1, 0, 0, 2, 0], 3).is_empty(), "a set shorter than its head");
    }
}

//! A table is given back to the kernel: by ready-made requests (the floor), by `firmware-ctd`'s
//! restore, and by conntrack(8) from a list that it saved itself.
//!
//! No listener of events is joined. The saved flows are made by arithmetic as they are asked for,
//! so that what grows is the restore's own.

use super::{Column, column, compared, real};
use crate::daemon::tool;
use crate::lab::{Context, Netns};
use crate::load::{Flows, Transport, sys};
use crate::measure;
use crate::peers::Peer;
use crate::peers::bench::{Bench, Round, Sample, place};
use firmware_ctd::checkpoint::{SavedExpect, SavedFlow};
use firmware_ctd::daemon::restore::{Plan, restore};
use firmware_ctd::restore::{Capacity, FlowSource, Timeouts, Without, request};
use firmware_ctd::table::{Extension, L4State};
use firmware_ctd::wire::request::{CreateFlags, create};
use firmware_ctd::wire::{Full, Protocol, Status, Writer};
use std::convert::Infallible;
use std::fs::{self, File};
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Stdio;

const COUNT: u32 = 196_608;
/// Bytes of the floor's requests in one send(2), as many as the restore sends.
const BATCH_BYTES: usize = 64 << 10;
/// Seconds that conntrack(8) may take.
const PATIENCE_S: u64 = 120;
const AS_SAVED: Timeouts = Timeouts { age_s: 0, cap_s: u32::MAX };

const SECONDS: &str = "restore_s";
/// Figure: user and system time, which others on the machine disturb less than the clock.
const CPU: &str = "cpu_s";
const GROWTH: &str = "growth_bytes";
const RESIDENT: &str = "peak_bytes";
const RESTORED: &str = "restored";

pub(super) const COLUMNS: &[Column] = &[
    compared(SECONDS, "s", 1.0, 3),
    compared(CPU, "CPU s", 1.0, 3),
    column(GROWTH, "growth KiB", 1024.0, 0),
    column(RESIDENT, "peak MiB", super::MIB, 1),
];

pub(super) fn run(bench: &Bench, peer: Peer, _: &mut Round) -> io::Result<Sample> {
    let count = bench.size(COUNT, 4_096);
    let (netns, mut loader) = place()?;
    crate::lab::track(&netns).map_err(io::Error::other)?;
    let mut sample = match peer {
        Peer::Floor => ready_made(&netns, count)?,
        Peer::Ctd => ours(&netns, count)?,
        Peer::Conntrackd | Peer::Ulogd => conntrack(&netns, count)?,
    };
    let entries = loader.entries()?;
    sample.insert(RESTORED, real(entries.into()));
    // A namespace that is full would be emptied while the next one is measured.
    loader.flush()?;
    if peer != Peer::Conntrackd && entries != count {
        return Err(io::Error::other(format!("{entries} flows of {count} were restored")));
    }
    Ok(sample)
}

/// Saved flows by arithmetic: TCP and UDP, every second one translated.
#[derive(Clone, Copy, Debug)]
struct Source {
    count: u32,
}

impl Source {
    fn flow(n: u32) -> SavedFlow {
        let snat = Some(Ipv4Addr::new(198, 51, 100, 200)).filter(|_| n % 2 == 1);
        let flows = Flows { transport: Transport::Mixed, snat, ..Flows::default() };
        let orig = flows.orig(n);
        let translated = if snat.is_some() { Status::SRC_NAT } else { 0 };
        let status = Status::CONFIRMED | Status::SEEN_REPLY | Status::ASSURED | translated;
        let state = L4State { state: 3, wscales: 0x77, flags_orig: 0x23, flags_reply: 0x23 };
        SavedFlow {
            orig,
            reply: flows.reply(n),
            zone: 0,
            zone_orig_only: false,
            status: Status(status),
            mark: n % 3,
            timeout_s: Some(3_600),
            l4_state: (orig.proto == Protocol::TCP).then_some(state),
            counters: None,
            inexact: false,
            start_ms: Some(1_700_000_000_000),
            rare: Extension::default(),
        }
    }
}

impl FlowSource for Source {
    type Error = Infallible;

    fn flows(&mut self, each: &mut dyn FnMut(&SavedFlow) -> bool) -> Result<(), Infallible> {
        let _ = (0..self.count).all(|n| each(&Self::flow(n)));
        Ok(())
    }

    fn expectations(&mut self, _: &mut dyn FnMut(&SavedExpect) -> bool) -> Result<(), Infallible> {
        Ok(())
    }
}

/// The same requests, written before the clock starts; nothing is answered.
fn ready_made(netns: &Netns, count: u32) -> io::Result<Sample> {
    let batches = requests(count).map_err(|full| io::Error::other(full.to_string()))?;
    let socket = netns
        .run(|| {
            let open = || -> io::Result<_> {
                let socket = sys::netfilter_socket()?;
                sys::bind(&socket, 0)?;
                sys::force_send_buffer(&socket, 2 * BATCH_BYTES)?;
                Ok(socket)
            };
            open().context("opening a netlink socket")
        })
        .map_err(io::Error::other)?;
    let (start, before) = (measure::now(), cpu_ns()?);
    for batch in &batches {
        sys::send(&socket, batch)?;
    }
    let seconds = start.elapsed().as_secs_f64();
    Ok(Sample::from([(SECONDS, seconds), (CPU, super::us(cpu_ns()? - before) / 1e6)]))
}

/// CPU time of this process.
fn cpu_ns() -> io::Result<u64> {
    measure::cpu_ns(&[i32::try_from(std::process::id()).unwrap_or_default()])
}

fn requests(count: u32) -> Result<Vec<Vec<u8>>, Full> {
    let flags = CreateFlags { ack: false, exclusive: true };
    let mut buffer = vec![0; BATCH_BYTES];
    let mut batches = Vec::new();
    let mut n = 0;
    while n < count {
        let mut writer = Writer::new(&mut buffer);
        while n < count {
            let flow = Source::flow(n);
            let ct = request(&flow, &AS_SAVED, Without::default()).ok_or(Full)?;
            if create(&mut writer, n, flags, &ct).is_err() {
                break;
            }
            n += 1;
        }
        batches.push(writer.as_bytes().to_vec());
    }
    Ok(batches)
}

fn ours(netns: &Netns, count: u32) -> io::Result<Sample> {
    let own = [i32::try_from(std::process::id()).unwrap_or_default()];
    let plan = Plan { capacity: Capacity { flows: count, expectations: 0 }, timeouts: AS_SAVED };
    let mut samples = 0_u32;
    let (seconds, cpu, growth) = netns
        .run(|| {
            let before = measure::memory(&own).context("reading /proc")?.own;
            let mut most = before;
            let mut look = |_: &_| {
                samples += 1;
                if samples.is_multiple_of(100) {
                    most = most.max(measure::memory(&own).map_or(0, |memory| memory.own));
                }
            };
            let (start, cpu) = (measure::now(), cpu_ns().context("reading the clock")?);
            let restored = restore(&mut Source { count }, &plan, &mut look, &mut |_| {});
            let seconds = start.elapsed().as_secs_f64();
            let cpu = cpu_ns().context("reading the clock")? - cpu;
            restored
                .map_err(|error| io::Error::other(format!("{error:?}")))
                .context("restoring")?;
            Ok((seconds, cpu, most.saturating_sub(before)))
        })
        .map_err(io::Error::other)?;
    let figures = [(SECONDS, seconds), (CPU, super::us(cpu) / 1e6), (GROWTH, real(growth))];
    Ok(Sample::from(figures))
}

/// The table is filled by our own restore, saved and emptied first.
fn conntrack(netns: &Netns, count: u32) -> io::Result<Sample> {
    ours(netns, count)?;
    let directory = tempfile::tempdir()?;
    let (list, said) = (directory.path().join("list"), directory.path().join("said"));
    let program = Path::new("conntrack");
    let saved = tool::command(netns, program, &["-L", "-o", "save"])
        .stdout(File::create(&list)?)
        .stderr(Stdio::null())
        .status()?;
    if !saved.success() {
        return Err(io::Error::other("conntrack -L -o save failed"));
    }
    crate::peers::bench::loader(netns)?.flush()?;
    let list = list.display().to_string();
    let start = measure::now();
    let child = tool::command(netns, program, &["-R", &list])
        .stdout(Stdio::null())
        .stderr(File::create(&said)?)
        .spawn()?;
    let pid = i32::try_from(child.id()).unwrap_or_default();
    let usage = measure::wait_for("conntrack -R to end", PATIENCE_S, || sys::reap(pid))?;
    let seconds = start.elapsed().as_secs_f64();
    if usage.code != Some(0) {
        let said = fs::read_to_string(&said)?;
        return Err(io::Error::other(format!("conntrack -R: {}", said.trim_end())));
    }
    let cpu = super::us(usage.cpu_ns) / 1e6;
    let figures = [(SECONDS, seconds), (CPU, cpu), (RESIDENT, real(usage.peak_bytes))];
    Ok(Sample::from(figures))
}

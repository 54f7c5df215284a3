//! A table is saved into memory: by a bare dump that is thrown away (the floor), by a running
//! `firmware-ctd` that is asked for a checkpoint, and by conntrack(8) as a list.
//!
//! The flows are translated TCP connections with random ports, starts, timeouts and counters. The
//! kernel takes neither counters nor starts from anybody: the daemon has them from an image of
//! another boot, from which it also makes the flows. Files are on `/dev/shm` where there is one, so
//! no flush to a medium is in the figures.

use super::{Column, column, compared, real, us};
use crate::daemon::saved::Saved;
use crate::daemon::tool;
use crate::lab::plan::Random;
use crate::lab::{Context, Netns};
use crate::load::sys;
use crate::measure;
use crate::peers::bench::{Bench, Round, Sample, at_rest, loader, place};
use crate::peers::{Peer, ctd};
use firmware_ctd::checkpoint::{EncodeError, Encoder, EncoderMemory, Facts, Limit, SavedFlow};
use firmware_ctd::daemon::restore::{Plan, restore};
use firmware_ctd::restore::{Capacity, Timeouts};
use firmware_ctd::table::{Extension, L4State};
use firmware_ctd::wire::request;
use firmware_ctd::wire::{
    Counters, Family, L4, Message, Messages, Protocol, Status, Tuple, Writer,
};
use std::fs::{self, File};
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Stdio;

const COUNT: u32 = 196_608;
/// Seconds that conntrack(8) and a save may take.
const PATIENCE_S: u64 = 120;
/// Room for a part of the dump: more than the kernel ever makes.
const PART_BYTES: usize = 64 << 10;

const SECONDS: &str = "save_s";
/// Figure: user and system time of all processes that have a part in it.
const CPU: &str = "cpu_s";
const BYTES: &str = "bytes_per_flow";
/// Figure: what the daemon says that the save took.
const TOOK: &str = "took_s";

pub(super) const COLUMNS: &[Column] = &[
    compared(SECONDS, "s", 1.0, 3),
    compared(CPU, "CPU s", 1.0, 3),
    compared(BYTES, "bytes/flow", 1.0, 1),
    column(TOOK, "said s", 1.0, 3),
];

pub(super) fn run(bench: &Bench, peer: Peer, _: &mut Round) -> io::Result<Sample> {
    let count = bench.size(COUNT, 4_096);
    let (netns, mut loader) = place()?;
    crate::lab::track(&netns).map_err(io::Error::other)?;
    let sample = match peer {
        Peer::Floor => dumped(&netns, count)?,
        Peer::Ctd => ours(bench, &netns, count)?,
        Peer::Conntrackd | Peer::Ulogd => listed(bench, &netns, count)?,
    };
    let entries = loader.entries()?;
    // A namespace that is full would be emptied while the next one is measured.
    loader.flush()?;
    if entries != count {
        return Err(io::Error::other(format!("{entries} flows of {count} were there")));
    }
    Ok(sample)
}

/// 250 clients behind one address, 2,000 servers all over the world.
fn flow(random: &mut Random) -> SavedFlow {
    let server = (random.even(&(1..=2_000))).wrapping_mul(0x9e37_79b1) & 0x7fff_ffff;
    let [client, dst] = [0xc0a8_0100 + random.even(&(0..=249)), 0x1000_0000 + server];
    let [sport, dport, public] = [(); 3].map(|()| port(random));
    let orig = Tuple {
        src: Ipv4Addr::from_bits(client).into(),
        dst: Ipv4Addr::from_bits(dst).into(),
        proto: Protocol::TCP,
        l4: L4::Ports { src: sport, dst: dport },
    };
    // A router keeps the port where it can; here for three flows of four.
    let public = if random.chance(25) { public } else { sport };
    let reply = Tuple {
        dst: Ipv4Addr::new(203, 0, 113, 1).into(),
        l4: L4::Ports { src: dport, dst: public },
        ..orig.inverse()
    };
    let status = Status::CONFIRMED | Status::SEEN_REPLY | Status::ASSURED | Status::SRC_NAT;
    SavedFlow {
        orig,
        reply,
        zone: 0,
        zone_orig_only: false,
        status: Status(status | Status::SRC_NAT_DONE | Status::DST_NAT_DONE),
        mark: 0,
        timeout_s: Some(random.even(&(3_600..=432_000))),
        l4_state: Some(L4State { state: 3, wscales: 0x77, flags_orig: 0x23, flags_reply: 0x23 }),
        counters: Some([counters(random), counters(random)]),
        inexact: false,
        start_ms: Some(1_795_000_000_000 + random.below(3 * 86_400_000)),
        rare: Extension::default(),
    }
}

fn port(random: &mut Random) -> u16 {
    u16::try_from(random.even(&(1_024..=65_535))).unwrap_or(u16::MAX)
}

/// 10 to a million packets, every power of two alike.
fn counters(random: &mut Random) -> Counters {
    let packets = u64::from(random.size(&(10..=1_000_000)));
    Counters { packets, bytes: 40 * packets + random.below(1_460 * packets) }
}

fn flows(count: u32) -> impl Iterator<Item = SavedFlow> {
    let mut random = Random::new(20);
    (0..count).map(move |_| flow(&mut random))
}

/// The flows, made in the kernel.
fn make(netns: &Netns, count: u32) -> io::Result<()> {
    let mut saved = Saved { flows: flows(count).collect(), expectations: Vec::new() };
    let timeouts = Timeouts { age_s: 0, cap_s: u32::MAX };
    let plan = Plan { capacity: Capacity { flows: count, expectations: 0 }, timeouts };
    netns
        .run(|| {
            restore(&mut saved, &plan, &mut |_| {}, &mut |_| {})
                .map_err(|error| io::Error::other(format!("{error:?}")))
                .context("making the flows")
        })
        .map_err(io::Error::other)?;
    Ok(())
}

/// CPU time of this process.
fn own_cpu_ns() -> io::Result<u64> {
    measure::cpu_ns(&[i32::try_from(std::process::id()).unwrap_or_default()])
}

/// A dump that is received and thrown away. Of two the second: the first one warms the caches.
fn dumped(netns: &Netns, count: u32) -> io::Result<Sample> {
    make(netns, count)?;
    dump(netns)?;
    let (start, before) = (measure::now(), own_cpu_ns()?);
    dump(netns)?;
    let seconds = start.elapsed().as_secs_f64();
    Ok(Sample::from([(SECONDS, seconds), (CPU, us(own_cpu_ns()? - before) / 1e6)]))
}

fn dump(netns: &Netns) -> io::Result<()> {
    let open = || -> io::Result<_> {
        let socket = sys::netfilter_socket()?;
        sys::bind(&socket, 0)?;
        Ok(socket)
    };
    let socket =
        netns.run(|| open().context("opening a netlink socket")).map_err(io::Error::other)?;
    let mut part = vec![0; PART_BYTES];
    let mut writer = Writer::new(&mut part);
    request::dump(&mut writer, 1, Family::Unspec)
        .map_err(|full| io::Error::other(full.to_string()))?;
    sys::send(&socket, writer.as_bytes())?;
    loop {
        let length = sys::receive(&socket, &mut part)?;
        if let Some(errno) = end_of_dump(&part[..length]) {
            return if errno == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(errno)) };
        }
    }
}

/// How a dump ended, if it did: told by its last message, the one that is read.
fn end_of_dump(part: &[u8]) -> Option<i32> {
    let last = Messages::new(part).flatten().last()?;
    match Message::parse(&last) {
        Ok(Message::Done(done)) => Some(done.errno),
        Ok(Message::Response(response)) => Some(response.errno),
        _ => None,
    }
}

fn ours(bench: &Bench, netns: &Netns, count: u32) -> io::Result<Sample> {
    // Half as much room again: what was counted before this boot is held beside the flows.
    let capacity = Some(count / 2 * 3 + 1_024);
    let running =
        bench.start_prepared(Peer::Ctd, netns, capacity, |directory| prepare(directory, count))?;
    at_rest(&running, &mut loader(netns)?, u32::MAX)?;
    let processes = running.processes();
    let before = cpu_with_ended_ns(&processes)?;
    let start = measure::now();
    let wait = PATIENCE_S.to_string();
    let programs = &bench.options.programs;
    ctd::ask(programs, running.directory(), &["checkpoint", "save", "--wait", &wait])?;
    let seconds = start.elapsed().as_secs_f64();
    let cpu = cpu_with_ended_ns(&processes)? - before;

    let status = ctd::status(programs, running.directory())?;
    let number = |name: &str| status["checkpoint"][name].as_u64().unwrap_or_default();
    if number("flows") != u64::from(count) || number("generation") != 2 {
        let told = &status["checkpoint"];
        return Err(io::Error::other(format!("not all of {count} flows were saved: {told}")));
    }
    // The first of the two was there before: the save went to the other.
    let image = images(running.directory()).join("b.ckpt").display().to_string();
    ctd::run(programs, &["checkpoint", "verify", &image])?;
    running.stop()?;
    Ok(Sample::from([
        (SECONDS, seconds),
        (CPU, us(cpu) / 1e6),
        (BYTES, real(number("bytes")) / f64::from(count)),
        (TOOK, real(number("took_ms")) / 1e3),
    ]))
}

/// The process that saves has ended by then, and its time is its parent's.
fn cpu_with_ended_ns(processes: &[i32]) -> io::Result<u64> {
    let ended: io::Result<u64> = processes.iter().map(|pid| measure::ended_cpu_ns(*pid)).sum();
    Ok(measure::cpu_ns(processes)? + ended?)
}

fn images(directory: &Path) -> std::path::PathBuf {
    directory.join("images")
}

/// Puts an image of another boot where the daemon looks for one; the configuration that says so.
fn prepare(directory: &Path, count: u32) -> io::Result<String> {
    let images = images(directory);
    fs::create_dir(&images)?;
    fs::write(images.join("a.ckpt"), image(count).map_err(io::Error::other)?)?;
    // With nothing by an interval: all that is saved is asked for.
    Ok(format!(
        "[checkpoint]\ndirectory = {images:?}\nmax_bytes = \"32MiB\"\ntimeout_cap_s = 432000\n\
         interval_s = 0\nlive_interval_s = 0\n"
    ))
}

fn image(count: u32) -> Result<Vec<u8>, EncodeError> {
    let facts = Facts { generation: 1, boot_id: [1; 16], orderly: true, ..Facts::default() };
    let mut memory = EncoderMemory::new();
    let mut encoder = Encoder::new(&mut memory, Vec::new(), &facts, Limit::default())?;
    flows(count).try_for_each(|flow| encoder.flow(&flow))?;
    Ok(encoder.finish()?.0)
}

fn listed(bench: &Bench, netns: &Netns, count: u32) -> io::Result<Sample> {
    make(netns, count)?;
    dump(netns)?;
    let directory = bench.scratch()?;
    let (list, said) = (directory.path().join("list"), directory.path().join("said"));
    let start = measure::now();
    let child = tool::command(netns, Path::new("conntrack"), &["-L", "-o", "save"])
        .stdout(File::create(&list)?)
        .stderr(File::create(&said)?)
        .stdin(Stdio::null())
        .spawn()?;
    let pid = i32::try_from(child.id()).unwrap_or_default();
    let usage = measure::wait_for("conntrack -L to end", PATIENCE_S, || sys::reap(pid))?;
    let seconds = start.elapsed().as_secs_f64();
    if usage.code != Some(0) {
        let said = fs::read_to_string(&said)?;
        return Err(io::Error::other(format!("conntrack -L: {}", said.trim_end())));
    }
    let bytes = real(fs::metadata(&list)?.len()) / f64::from(count);
    Ok(Sample::from([(SECONDS, seconds), (CPU, us(usage.cpu_ns) / 1e6), (BYTES, bytes)]))
}

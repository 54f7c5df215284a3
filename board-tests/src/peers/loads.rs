//! The loads, a function each. A new row of the benchmark is one more function and one more entry
//! in [`ALL`]; what it returns is printed by the columns that it names.

mod drain;
mod ipfix;
mod restore;
mod save;

use super::bench::{Bench, Cost, Round, Sample, at_rest, loader, measured, place};
use super::{Peer, Running};
use crate::lab::{self, Lab, Plan};
use crate::load::{Families, Flows, Loader, Tally};
use crate::measure;
use firmware_ctd::wire::{L4, Protocol, Tuple};
use std::io;
use std::ops::Range;

/// Figure: destroys made.
pub const MADE: &str = "made";
/// Figure: flows accounted of those made.
pub const ACCOUNTED: &str = "accounted";
/// Figure: records beyond one for each flow.
const REPEATS: &str = "repeats";
/// Figure: events that there were to be told of.
pub const EVENTS: &str = "events";
/// Figure: events received, from listeners that tell.
pub const RECEIVED: &str = "events_received";
/// Figure: CPU time for each event that the listener is told of, in microseconds.
pub const CPU_EVENT: &str = "cpu_us_per_event";
const CPU_FLOW: &str = "cpu_us_per_flow";
const PEAK: &str = "peak_bytes";
const OWN: &str = "own_bytes";

/// How a figure is shown.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Name of the figure in a [`Sample`].
    pub figure: &'static str,
    /// What stands above it.
    pub title: &'static str,
    /// What it is divided by before it is shown.
    pub unit: f64,
    /// Digits after the point.
    pub decimals: usize,
    /// Whether the listeners are compared by it, by pairs.
    pub compared: bool,
}

/// A load.
#[derive(Debug)]
pub struct Load {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it does, in a line.
    pub title: &'static str,
    /// Who is put under it.
    pub peers: &'static [Peer],
    /// What is shown.
    pub columns: &'static [Column],
    /// Puts one listener under it, once.
    pub run: fn(&Bench, Peer, &mut Round) -> io::Result<Sample>,
    /// Whether it runs when nothing is said.
    pub by_default: bool,
}

impl Load {
    /// The listeners that are put under it, of those wanted.
    pub fn of(&self, wanted: &[Peer]) -> impl Iterator<Item = Peer> {
        self.peers.iter().copied().filter(|peer| wanted.contains(peer))
    }
}

const fn column(figure: &'static str, title: &'static str, unit: f64, decimals: usize) -> Column {
    Column { figure, title, unit, decimals, compared: false }
}

const fn compared(figure: &'static str, title: &'static str, unit: f64, decimals: usize) -> Column {
    Column { figure, title, unit, decimals, compared: true }
}

const MIB: f64 = 1_048_576.0;

/// Every load.
pub static ALL: &[Load] = &[
    Load {
        name: "churn",
        title: "200,000 flows created and destroyed through ctnetlink, 1,000 at a time",
        peers: &Peer::ALL,
        columns: &[
            compared(CPU_EVENT, "CPU us/event", 1.0, 2),
            compared(CPU_FLOW, "CPU us/flow", 1.0, 2),
            column(PEAK, "peak MiB", MIB, 1),
            column(ACCOUNTED, "accounted", 1.0, 0),
        ],
        run: churn,
        by_default: true,
    },
    Load {
        name: "packets",
        title: "10,000 TCP and UDP flows of random size through a NAT router, then a flush",
        peers: &Peer::ALL,
        columns: &[
            compared(CPU_EVENT, "CPU us/event", 1.0, 2),
            compared(CPU_FLOW, "CPU us/flow", 1.0, 2),
            column(PEAK, "peak MiB", MIB, 1),
            column(ACCOUNTED, "accounted", 1.0, 0),
        ],
        run: packets,
        by_default: true,
    },
    Load {
        name: "live",
        title: "65,536 live flows: growth of own memory (RssAnon + RssShmem) and all of it",
        peers: &Peer::ALL,
        columns: &[
            compared("growth_per_flow", "growth B/flow", 1.0, 1),
            column("own_per_flow", "all B/flow", 1.0, 1),
            column(OWN, "own MiB", MIB, 2),
        ],
        run: live,
        by_default: true,
    },
    Load {
        name: "full",
        title: "firmware-ctd's default capacity full (20,000 flows, half IPv6): all own memory",
        peers: &[Peer::Ctd, Peer::Conntrackd, Peer::Ulogd],
        columns: &[
            column("total_bytes", "own + files MiB", MIB, 2),
            column("shared_once_bytes", "pages once MiB", MIB, 2),
            column("files_bytes", "files KiB", 1024.0, 0),
            column("processes", "processes", 1.0, 0),
        ],
        run: full,
        by_default: true,
    },
    Load {
        name: "scale",
        title: "100,000 created and destroyed beside 1,000 and beside 1,000,000 live flows",
        peers: &[Peer::Floor, Peer::Ctd],
        columns: &[
            column("few", "us/event at 1,000", 1.0, 2),
            column("many", "us/event at 1M", 1.0, 2),
            column("ratio", "ratio", 1.0, 2),
        ],
        run: scale,
        by_default: false,
    },
    Load {
        name: "drain",
        title: "tiny receive buffers: 20,000 created and destroyed, and a flush of 20,000 more",
        peers: &[Peer::Floor, Peer::Ctd],
        columns: drain::COLUMNS,
        run: drain::run,
        by_default: false,
    },
    Load {
        name: "ipfix",
        title: "100,000 flows created and destroyed, told to one IPFIX collector by TCP",
        peers: &[Peer::Ctd, Peer::Ulogd],
        columns: ipfix::COLUMNS,
        run: ipfix::run,
        by_default: false,
    },
    Load {
        name: "restore",
        // The floor is ready-made requests; conntrack(8) restores what it has saved itself.
        title: "196,608 saved flows, half translated, restored (conntrackd: conntrack(8) -R)",
        peers: &[Peer::Floor, Peer::Ctd, Peer::Conntrackd],
        columns: restore::COLUMNS,
        run: restore::run,
        by_default: false,
    },
    Load {
        name: "save",
        // The floor is a dump that is thrown away; conntrack(8) writes its list.
        title: "196,608 translated TCP flows saved in memory (conntrackd: conntrack(8) -L -o save)",
        peers: &[Peer::Floor, Peer::Ctd, Peer::Conntrackd],
        columns: save::COLUMNS,
        run: save::run,
        by_default: false,
    },
];

/// The names of the loads that run when nothing is said.
#[must_use]
pub fn default_names() -> Vec<String> {
    ALL.iter().filter(|load| load.by_default).map(|load| load.name.to_owned()).collect()
}

/// The names of all loads.
#[must_use]
pub fn names() -> Vec<&'static str> {
    ALL.iter().map(|load| load.name).collect()
}

/// Flows that stay while others come and go: other addresses than theirs.
const FIRST_LIVE: u32 = 100_000_000;

fn churn(bench: &Bench, peer: Peer, _: &mut Round) -> io::Result<Sample> {
    let count = bench.size(200_000, 5_000);
    let (netns, mut loader) = place()?;
    let running = bench.start(peer, &netns, None)?;
    let (tally, cost) =
        measured(&running, &mut loader, 0, |loader| paced(bench, &running, loader, 0..count))?;
    complete(&tally)?;
    let events = if peer.sees_all_events() { 2 * count } else { count };
    finish(bench, running, &cost, Some(events.into()), made(count))
}

/// Events are counted by the floor of the same round: how many updates packets cause is up to
/// their order.
fn packets(bench: &Bench, peer: Peer, round: &mut Round) -> io::Result<Sample> {
    let count = bench.size(10_000, 300);
    let mut lab = Lab::new(&lab::Options::default()).map_err(io::Error::other)?;
    lab.router.account().map_err(io::Error::other)?;
    let mut loader = loader(lab.router.netns())?;
    let running = bench.start(peer, lab.router.netns(), None)?;
    let plan =
        Plan { udp_flows: count / 2, tcp_flows: count / 2, icmp_flows: 0, ..Plan::seeded(1) };
    let (ledger, cost) = measured(&running, &mut loader, 0, |loader| {
        let ledger = lab.hosts.run(&plan, |_| {}).map_err(io::Error::other)?;
        loader.flush()?;
        Ok(ledger)
    })?;
    let tuples: Vec<Tuple> = ledger.flows.iter().map(|flow| wire_tuple(&flow.orig)).collect();
    let events = if peer.sees_all_events() { round.floor_events } else { Some(count.into()) };
    let mut sample = finish(bench, running, &cost, events, tuples.into_iter())?;
    // Retransmissions may add some: nobody missed what he was not told in another run.
    sample.remove(EVENTS);
    if peer == Peer::Floor {
        let events = sample.get(RECEIVED).copied().unwrap_or_default();
        sample.insert(CPU_EVENT, us(cost.cpu_ns) / events);
        round.floor_events = Some(whole(events));
    }
    Ok(sample)
}

fn wire_tuple(tuple: &lab::Tuple) -> Tuple {
    let number = if tuple.proto == lab::Proto::Tcp { Protocol::TCP } else { Protocol::UDP };
    let l4 = L4::Ports { src: tuple.src.port(), dst: tuple.dst.port() };
    Tuple { src: tuple.src.ip(), dst: tuple.dst.ip(), proto: number, l4 }
}

fn live(bench: &Bench, peer: Peer, _: &mut Round) -> io::Result<Sample> {
    let count = bench.size(65_536, 4_096);
    let (netns, mut loader) = place()?;
    let running = bench.start(peer, &netns, Some(count))?;
    warm_up(&running, &mut loader)?;
    let before = measure::memory(&running.processes())?;
    gently(&running, &mut loader, &Flows::default(), 0..count)?;
    at_rest(&running, &mut loader, count)?;
    let after = measure::memory(&running.processes())?;
    let growth = after.own.saturating_sub(before.own);
    Ok(Sample::from([
        ("growth_per_flow", real(growth) / f64::from(count)),
        ("own_per_flow", real(after.own) / f64::from(count)),
        (OWN, real(after.own)),
    ]))
}

fn full(bench: &Bench, peer: Peer, _: &mut Round) -> io::Result<Sample> {
    let count = 20_000;
    let flows = Flows { families: Families::Half, ..Flows::default() };
    let (netns, mut loader) = place()?;
    let running = bench.start_with(peer, &netns, None, None)?;
    gently(&running, &mut loader, &flows, 0..count)?;
    at_rest(&running, &mut loader, count)?;
    if peer == Peer::Ctd {
        expect_full_table(bench, &running)?;
    }
    let processes = running.processes();
    let memory = measure::memory(&processes)?;
    let files = measure::files(running.directory(), &processes)?;
    Ok(Sample::from([
        ("total_bytes", real(memory.own + files)),
        ("shared_once_bytes", real(memory.own_shared_once)),
        ("files_bytes", real(files)),
        ("processes", real(processes.len() as u64)),
    ]))
}

/// An error unless the daemon says that its table is full, but for a rest that no IPv6 flow fits.
fn expect_full_table(bench: &Bench, running: &Running) -> io::Result<()> {
    let status = super::ctd::status(&bench.options.programs, running.directory())?;
    match status["table_permille"].as_u64() {
        Some(999..=1000) => Ok(()),
        other => Err(io::Error::other(format!("the table is not full: permille {other:?}"))),
    }
}

/// `nf_conntrack_max` that the load `scale` needs; [`Bench::run`] sees to it before the first round.
pub const SCALE_MAXIMUM: u32 = 1_150_000;

fn scale(bench: &Bench, peer: Peer, _: &mut Round) -> io::Result<Sample> {
    let (few, many) = (1_000, bench.size(1_000_000, 10_000));
    let count = bench.size(100_000, 5_000);
    let beside_few = beside(bench, peer, few, count)?;
    let beside_many = beside(bench, peer, many, count)?;
    Ok(Sample::from([
        ("few", beside_few),
        ("many", beside_many),
        ("ratio", beside_many / beside_few),
    ]))
}

/// CPU microseconds an event of `count` flows that come and go beside `live` ones.
fn beside(bench: &Bench, peer: Peer, live: u32, count: u32) -> io::Result<f64> {
    let flows = Flows::default();
    let (netns, mut loader) = place()?;
    complete(&loader.create(&flows, FIRST_LIVE..FIRST_LIVE + live, 1000)?)?;
    let running = bench.start(peer, &netns, Some(live + 16_384))?;
    let (tally, cost) =
        measured(&running, &mut loader, live, |loader| paced(bench, &running, loader, 0..count))?;
    complete(&tally)?;
    let account = running.stop()?.account;
    let missing = u64::from(count) - account.of_made(made(count));
    if missing > 0 {
        let text = format!("{} did not account {missing} flows of {count}", peer.name());
        return Err(io::Error::other(text));
    }
    Ok(us(cost.cpu_ns) / f64::from(2 * count))
}

/// One flow that comes and goes 5,000 times: touches the buffers, which are not memory per flow,
/// and only one place of a table.
fn warm_up(running: &Running, loader: &mut Loader) -> io::Result<()> {
    let flow = Flows { distinct: 1, ..Flows::default() };
    complete(&loader.churn(&flow, 0..5_000, 1)?)?;
    at_rest(running, loader, 0).map(|_| ())
}

/// Creates and deletes flows, 1,000 at a time, and waits while a quarter of the listener's receive
/// buffer is full: what a slow listener misses would make it cheaper.
fn paced(
    bench: &Bench,
    running: &Running,
    loader: &mut Loader,
    range: Range<u32>,
) -> io::Result<Tally> {
    let mut tally = Tally::default();
    let most = u64::from(bench.options.buffer) / 2;
    for first in range.clone().step_by(1000) {
        let part = first..range.end.min(first + 1000);
        tally.add(loader.churn(&Flows::default(), part, 1000)?);
        measure::wait_for("a listener to read its events", 60, || {
            let sockets = measure::netlink_sockets(&running.processes());
            Ok(sockets.iter().all(|socket| socket.waiting <= most).then_some(()))
        })?;
    }
    Ok(tally)
}

/// Creates flows no faster than the listener takes their events, so that it has seen them all.
fn gently(
    running: &Running,
    loader: &mut Loader,
    flows: &Flows,
    range: Range<u32>,
) -> io::Result<()> {
    for first in range.clone().step_by(256) {
        complete(&loader.create(flows, first..range.end.min(first + 256), 256)?)?;
        measure::wait_for("a listener to read its events", 60, || {
            let sockets = measure::netlink_sockets(&running.processes());
            Ok(sockets.iter().all(|socket| socket.waiting == 0).then_some(()))
        })?;
    }
    Ok(())
}

/// The kernel did all that was asked.
fn complete(tally: &Tally) -> io::Result<()> {
    match tally.errors().into_iter().next() {
        None => Ok(()),
        Some((errno, times)) => {
            let error = io::Error::from_raw_os_error(errno);
            Err(io::Error::new(error.kind(), format!("the kernel refused {times} flows: {error}")))
        }
    }
}

/// The flows of a churn.
fn made(count: u32) -> impl ExactSizeIterator<Item = Tuple> {
    let all: Vec<u32> = (0..count).collect();
    all.into_iter().map(|n| Flows::default().orig(n))
}

/// Ends the listener and gathers what there is to say: of `events` where their number is known.
fn finish(
    bench: &Bench,
    running: Running,
    cost: &Cost,
    events: Option<u64>,
    made: impl ExactSizeIterator<Item = Tuple>,
) -> io::Result<Sample> {
    let memory = measure::memory(&running.processes())?;
    let told = match running.peer() {
        Peer::Ctd => super::ctd::events_received(&bench.options.programs, running.directory())?,
        Peer::Floor | Peer::Conntrackd | Peer::Ulogd => None,
    };
    let stopped = running.stop()?;
    let account = stopped.account;
    let count = real(made.len() as u64);
    let mut sample = Sample::from([
        (CPU_FLOW, us(cost.cpu_ns) / count),
        (PEAK, real(memory.peak)),
        (OWN, real(memory.own)),
        (MADE, count),
        (ACCOUNTED, real(account.of_made(made))),
        (REPEATS, real(account.destroys.saturating_sub(account.distinct()))),
        ("wall_s", cost.wall_s),
        ("life_cpu_s", us(stopped.usage.cpu_ns) / 1e6),
    ]);
    sample.extend(events.map(|events| (CPU_EVENT, us(cost.cpu_ns) / real(events))));
    sample.extend(events.map(|events| (EVENTS, real(events))));
    sample.extend(account.events.or(told).map(|events| (RECEIVED, real(events))));
    Ok(sample)
}

fn us(ns: u64) -> f64 {
    real(ns) / 1000.0
}

#[expect(clippy::cast_precision_loss, reason = "counts and bytes far below 2^52")]
fn real(value: u64) -> f64 {
    value as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a count that was made a float by `real`"
)]
fn whole(value: f64) -> u64 {
    value as u64
}

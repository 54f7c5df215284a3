//! Rounds of paired measurements.
//!
//! In a round every load is given to every listener in turn, each in a fresh network namespace
//! with a fresh process, so that what disturbs the machine disturbs all of them alike. Ratios are
//! taken within a round; the table shows the least, the median and the greatest over the rounds.

use super::loads::{self, Load};
use super::{Guard, Peer, RaisedMaximum, Running, Setup, table};
use crate::lab::{Context, Netns};
use crate::load::Loader;
use crate::measure;
use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What to measure.
#[derive(Clone, Debug)]
pub struct Options {
    /// Rounds.
    pub rounds: u32,
    /// Names of the loads.
    pub loads: Vec<String>,
    /// The listeners.
    pub peers: Vec<Peer>,
    /// Small loads: a test of the benchmark, not of the listeners.
    pub quick: bool,
    /// Receive buffer of every listener in bytes, which the kernel doubles.
    pub buffer: u32,
    /// Where this project's programs are.
    pub programs: PathBuf,
}

/// Figures of one listener under one load in one round, by name.
pub type Sample = BTreeMap<&'static str, f64>;

/// Everything measured.
#[derive(Debug, Default)]
pub struct Results {
    /// Samples by load and listener, in order of the rounds.
    pub samples: BTreeMap<(&'static str, Peer), Vec<Sample>>,
}

/// A benchmark that runs.
#[derive(Debug)]
pub struct Bench {
    /// What to measure.
    pub options: Options,
    directory: PathBuf,
    _guard: Guard,
    step: (u32, u32),
}

/// What the listeners of one load in one round share.
#[derive(Clone, Copy, Debug, Default)]
pub struct Round {
    /// Events that the floor received in this round.
    pub floor_events: Option<u64>,
}

/// A listener's cost over a piece of work.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// Time on a CPU, in nanoseconds.
    pub cpu_ns: u64,
    /// Time until everything was received and dealt with, in seconds.
    pub wall_s: f64,
}

impl Bench {
    /// Makes the directory for the listeners' files, on `/dev/shm` (a tmpfs) where there is one.
    ///
    /// # Errors
    /// When there is no place for it.
    pub fn new(options: Options) -> io::Result<Self> {
        let shm = Path::new("/dev/shm");
        let parent = if shm.is_dir() { shm.to_owned() } else { std::env::temp_dir() };
        let directory = tempfile::Builder::new().prefix("bench-peers-").tempdir_in(parent)?.keep();
        let guard = Guard::remove(&directory)?;
        Ok(Self { options, directory, _guard: guard, step: (0, 0) })
    }

    /// Runs all rounds.
    ///
    /// # Errors
    /// When a listener cannot be started or does not come to rest, or a namespace cannot be made.
    pub fn run(&mut self) -> io::Result<Results> {
        let chosen: Vec<&'static Load> = loads::ALL
            .iter()
            .filter(|load| self.options.loads.iter().any(|name| name == load.name))
            .collect();
        let raise = !self.options.quick && chosen.iter().any(|load| load.name == "scale");
        let _raised = if raise { RaisedMaximum::to(loads::SCALE_MAXIMUM)? } else { None };
        let peers = self.options.peers.clone();
        let turns: usize = chosen.iter().map(|it| it.of(&peers).count()).sum();
        self.step = (0, self.options.rounds * u32::try_from(turns).unwrap_or(u32::MAX));
        let mut results = Results::default();
        for round in 1..=self.options.rounds {
            for load in &chosen {
                self.round(round, load, &peers, &mut results)?;
            }
        }
        self.clear_progress();
        Ok(results)
    }

    fn round(
        &mut self,
        round: u32,
        load: &'static Load,
        peers: &[Peer],
        results: &mut Results,
    ) -> io::Result<()> {
        let mut shared = Round::default();
        for peer in load.of(peers) {
            self.progress(&format!("round {round}, {}: {}", load.name, peer.name()));
            let sample = (load.run)(self, peer, &mut shared)?;
            results.samples.entry((load.name, peer)).or_default().push(sample);
        }
        Ok(())
    }

    /// Starts `peer` in `netns` with an empty directory.
    ///
    /// # Errors
    /// When it does not become ready.
    pub fn start(&self, peer: Peer, netns: &Netns, capacity: Option<u32>) -> io::Result<Running> {
        self.start_with(peer, netns, capacity, Some(self.options.buffer))
    }

    /// The same with another receive buffer; `None` for `firmware-ctd`'s default.
    ///
    /// # Errors
    /// When it does not become ready.
    pub fn start_with(
        &self,
        peer: Peer,
        netns: &Netns,
        capacity: Option<u32>,
        buffer: Option<u32>,
    ) -> io::Result<Running> {
        let directory = self.empty_directory(peer)?;
        let (programs, more) = (&self.options.programs, String::new());
        let setup = Setup { netns, directory, programs, buffer, capacity, collector: None, more };
        super::start(peer, &setup)
    }

    /// Starts `peer` with files that `prepare` puts into its directory, and with what that adds to
    /// `firmware-ctd`'s configuration.
    ///
    /// # Errors
    /// Those of `prepare`; when it does not become ready.
    pub fn start_prepared(
        &self,
        peer: Peer,
        netns: &Netns,
        capacity: Option<u32>,
        prepare: impl FnOnce(&Path) -> io::Result<String>,
    ) -> io::Result<Running> {
        let directory = self.empty_directory(peer)?;
        let more = prepare(&directory)?;
        let (programs, buffer) = (&self.options.programs, Some(self.options.buffer));
        let setup = Setup { netns, directory, programs, buffer, capacity, collector: None, more };
        super::start(peer, &setup)
    }

    /// Starts `peer` with an IPFIX collector, by TCP, to send to.
    ///
    /// # Errors
    /// When it does not become ready.
    pub fn start_for_collector(
        &self,
        peer: Peer,
        netns: &Netns,
        collector: SocketAddrV4,
    ) -> io::Result<Running> {
        let directory = self.empty_directory(peer)?;
        let (programs, buffer) = (&self.options.programs, Some(self.options.buffer));
        let (capacity, collector, more) = (None, Some(collector), String::new());
        let setup = Setup { netns, directory, programs, buffer, capacity, collector, more };
        super::start(peer, &setup)
    }

    /// A directory for files of a load, beside those of the listeners, which goes with the value.
    ///
    /// # Errors
    /// When there is no place for it.
    pub fn scratch(&self) -> io::Result<tempfile::TempDir> {
        tempfile::tempdir_in(&self.directory)
    }

    fn empty_directory(&self, peer: Peer) -> io::Result<PathBuf> {
        let directory = self.directory.join(peer.name());
        if directory.exists() {
            std::fs::remove_dir_all(&directory)?;
        }
        std::fs::create_dir(&directory)?;
        Ok(directory)
    }

    /// `small` for a quick run, else `full`.
    #[must_use]
    pub const fn size(&self, full: u32, small: u32) -> u32 {
        if self.options.quick { small } else { full }
    }

    fn progress(&mut self, what: &str) {
        self.step.0 += 1;
        let (at, of) = self.step;
        let mut out = io::stderr();
        // Nothing depends on the progress line.
        let _ = match out.is_terminal() {
            true => write!(out, "\r\x1b[K[{at}/{of}] {what}").and_then(|()| out.flush()),
            false => writeln!(out, "[{at}/{of}] {what}"),
        };
    }

    fn clear_progress(&self) {
        let mut out = io::stderr();
        if out.is_terminal() {
            let _ = write!(out, "\r\x1b[K");
        }
    }
}

/// A namespace as a router has it: events, counters and timestamps on; and a loader in it.
///
/// # Errors
/// Where the machine forbids it.
pub fn place() -> io::Result<(Netns, Loader)> {
    let netns = Netns::new().map_err(io::Error::other)?;
    for key in ["nf_conntrack_events", "nf_conntrack_acct", "nf_conntrack_timestamp"] {
        netns.set_sysctl(&format!("net.netfilter.{key}"), "1").map_err(io::Error::other)?;
    }
    let loader = loader(&netns)?;
    Ok((netns, loader))
}

/// A loader in `netns`.
///
/// # Errors
/// When the socket cannot be opened.
pub fn loader(netns: &Netns) -> io::Result<Loader> {
    netns.run(|| Loader::open().context("opening a netlink socket")).map_err(io::Error::other)
}

/// Does `work` and measures what it costs `running` until nothing is left to do.
///
/// # Errors
/// Those of `work`; `TimedOut` when the listener does not come to rest.
pub fn measured<T>(
    running: &Running,
    loader: &mut Loader,
    live: u32,
    work: impl FnOnce(&mut Loader) -> io::Result<T>,
) -> io::Result<(T, Cost)> {
    let before = at_rest(running, loader, u32::MAX)?;
    let start = measure::now();
    let done = work(loader)?;
    let after = at_rest(running, loader, live)?;
    let wall_s = start.elapsed().saturating_sub(QUIET).as_secs_f64();
    Ok((done, Cost { cpu_ns: after.saturating_sub(before), wall_s }))
}

/// How long a listener must use no CPU to be at rest.
const QUIET: Duration = Duration::from_millis(200);
/// CPU time within [`QUIET`] that still counts as none: housekeeping.
const IDLE_NS: u64 = 1_000_000;
/// Seconds that a listener may take to come to rest.
const REST_S: u64 = 120;

/// Waits until the kernel has at most `live` entries (the dying ones count), nothing waits in the
/// listener's sockets, and it uses no CPU for 200 ms; its CPU time at the start of these 200 ms.
///
/// # Errors
/// `TimedOut` after two minutes; when the listener ended.
pub fn at_rest(running: &Running, loader: &mut Loader, live: u32) -> io::Result<u64> {
    let mut since = (measure::now(), u64::MAX);
    measure::wait_for("a listener to come to rest", REST_S, || {
        let processes = running.processes();
        let cpu_ns = measure::cpu_ns(&processes)?;
        let waiting: u64 = measure::netlink_sockets(&processes).iter().map(|it| it.waiting).sum();
        let busy = cpu_ns.saturating_sub(since.1) > IDLE_NS || since.1 == u64::MAX;
        if busy || waiting > 0 || loader.entries()? > live {
            since = (measure::now(), cpu_ns);
        }
        Ok((since.0.elapsed() >= QUIET).then_some(since.1))
    })
}

impl Results {
    /// Whether `firmware-ctd` accounted every flow that was destroyed, in every round.
    #[must_use]
    pub fn nothing_lost(&self) -> bool {
        let own = self.samples.iter().filter(|((_, peer), _)| *peer == Peer::Ctd);
        own.flat_map(|(_, samples)| samples)
            .all(|sample| sample.get(loads::ACCOUNTED) == sample.get(loads::MADE))
    }

    /// The table.
    ///
    /// # Errors
    /// What `out` gives.
    pub fn print(&self, options: &Options, out: &mut dyn Write) -> io::Result<()> {
        table::print(self, options, out)
    }

    /// Everything as JSON: every sample of every round.
    #[must_use]
    pub fn to_json(&self, options: &Options) -> serde_json::Value {
        let samples: Vec<_> = self
            .samples
            .iter()
            .map(|((load, peer), rounds)| {
                serde_json::json!({ "load": load, "listener": peer.name(), "rounds": rounds })
            })
            .collect();
        serde_json::json!({
            "processor": measure::processor(),
            "kernel": measure::kernel(),
            "receive_buffer": options.buffer,
            "quick": options.quick,
            "samples": samples,
        })
    }
}

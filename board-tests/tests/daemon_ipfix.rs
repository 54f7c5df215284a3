//! The daemon's IPFIX sink against the collectors that people run, field by field against what
//! its file sink says of the same flows; and collectors that are slow, stopped, killed.
//!
//! One test at a time, since several programs share two cores.

mod harness;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Mutex, PoisonError};

use board_tests::collectors::{Collected, Collector, Kind, Setup};
use board_tests::daemon::{Scene, Settings, Tested, complete};
use board_tests::lab::loopback_up;
use board_tests::load::Flows;
use board_tests::measure;
use board_tests::peers::bench;
use harness::Outcome;
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

const PORT: u16 = 4739;

fn main() -> std::process::ExitCode {
    harness::run(vec![
        alone("tcp_tells_a_collector_every_field", || every_field(Kind::PythonTcp)),
        alone("udp_tells_a_collector_every_field", || every_field(Kind::PythonUdp)),
        alone("nfcapd_is_told_of_every_flow", || every_field(Kind::Nfcapd)),
        alone("nfacctd_is_told_of_every_flow", || every_field(Kind::Nfacctd)),
        alone("a_collector_that_is_stopped_and_killed_misses_nothing", stopped_and_killed),
        alone("a_worker_that_is_killed_sends_again", killed_worker),
        alone("another_window_size_after_a_crash_loses_nothing", another_window),
        alone("options_tell_what_was_exported", options),
    ])
}

/// A test that waits for its turn.
fn alone(name: &str, test: impl FnOnce() -> Outcome + Send + 'static) -> Trial {
    static TURN: Mutex<()> = Mutex::new(());
    Trial::test(name, move || {
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        test()
    })
}

const TCP: &str = "[[sink]]\ntype = \"ipfix\"\ncollector = \"127.0.0.1:4739\"\n";
const UDP: &str =
    "[[sink]]\ntype = \"ipfix\"\ncollector = \"127.0.0.1:4739\"\ntransport = \"udp\"\n";

/// A daemon and a collector in one namespace.
struct Place {
    scene: Scene,
    collector: Collector,
    _directory: TempDir,
}

impl Place {
    fn new(kind: Kind, buffer: Option<u32>, more: &'static str) -> io::Result<Self> {
        let (netns, loader) = bench::place()?;
        loopback_up(&netns).map_err(io::Error::other)?;
        let directory = tempfile::Builder::new().prefix("collector-").tempdir()?;
        let setup = Setup { directory: directory.path().to_owned(), port: PORT, buffer };
        let collector = Collector::start(kind, &netns, setup)?;
        let settings = Settings { capacity: 65_536, more, ..Settings::default() };
        let tested = Tested::start(&netns, &settings)?;
        Ok(Self { scene: Scene { netns, loader, tested }, collector, _directory: directory })
    }

    /// Waits until the collector has so many different keys.
    fn keys(&self, count: usize, seconds: u64) -> io::Result<Vec<Collected>> {
        self.collector.wait(seconds, |all| distinct(all) >= count)
    }
}

fn distinct(all: &[Collected]) -> usize {
    all.iter().filter_map(|it| it.key).collect::<std::collections::HashSet<_>>().len()
}

const NATTED: Flows = Flows { snat: Some(Ipv4Addr::new(203, 0, 113, 5)), ..Flows::MIXED };

/// What the file sink says of a flow, as a collector that keeps everything would.
fn expected(line: &Value) -> Collected {
    let (orig, reply) = (&line["orig"], &line["reply"]);
    let address = |value: &Value| value.as_str().and_then(|it| it.parse::<IpAddr>().ok());
    let port = |value: &Value| value.as_u64().and_then(|it| u16::try_from(it).ok());
    // Written with three digits after the point.
    let ms = |value: &Value| {
        let seconds = format!("{:.3}", value.as_f64().unwrap_or_default());
        seconds.replace('.', "").parse().unwrap_or(0)
    };
    let translated = line["status"].as_array().is_some_and(|it| it.iter().any(|s| s == "snat"));
    let tcp = line["proto"] == "tcp";
    Collected {
        key: line["key"].as_str().and_then(|key| u64::from_str_radix(key, 16).ok()),
        start_ms: ms(&line["start"]),
        end_ms: ms(&line["end"]),
        src: address(&orig["src"]).unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        dst: address(&orig["dst"]).unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        sport: port(&orig["sport"]),
        dport: port(&orig["dport"]),
        proto: if tcp { 6 } else { 17 },
        icmp: Some(0),
        bytes: orig["bytes"].as_u64().unwrap_or(u64::MAX),
        packets: orig["packets"].as_u64().unwrap_or(u64::MAX),
        reverse_bytes: reply["bytes"].as_u64(),
        reverse_packets: reply["packets"].as_u64(),
        nat_src: address(&reply["dst"]),
        nat_dst: address(&reply["src"]),
        nat_sport: port(&reply["dport"]),
        nat_dport: port(&reply["sport"]),
        nat_event: Some(if translated { 5 } else { 0 }),
        end_reason: Some(1),
        domain: Some(1),
    }
}

/// Leaves out of `whole` what `kept` does not have.
fn as_kept(whole: &Collected, kept: &Collected) -> Collected {
    Collected {
        key: whole.key.filter(|_| kept.key.is_some()),
        icmp: whole.icmp.filter(|_| kept.icmp.is_some()),
        nat_src: whole.nat_src.filter(|_| kept.nat_src.is_some()),
        nat_dst: whole.nat_dst.filter(|_| kept.nat_dst.is_some()),
        end_reason: whole.end_reason.filter(|_| kept.end_reason.is_some()),
        domain: whole.domain.filter(|_| kept.domain.is_some()),
        ..whole.clone()
    }
}

/// What tells flows apart where no key is kept: they have different tuples here.
fn tuple(it: &Collected) -> (IpAddr, Option<u16>, u8) {
    (it.src, it.sport, it.proto)
}

fn every_field(kind: Kind) -> Outcome {
    const COUNT: u32 = 2_000;
    let more = if kind.is_tcp() { TCP } else { UDP };
    let mut place = Place::new(kind, None, more)?;
    for part in 0..COUNT / 100 {
        let flows = part * 100..(part + 1) * 100;
        complete(&place.scene.loader.churn(&NATTED, flows, 100)?)?;
        measure::pause(10);
    }
    place.scene.rest(0)?;
    let all = place.collector.wait(30, |all| all.len() >= COUNT as usize)?;
    assert_eq!(all.len(), COUNT as usize, "each once");
    let lines = place.scene.tested.account()?.lines;
    let told: HashMap<_, _> = all.iter().map(|it| (tuple(it), it)).collect();
    assert_eq!((lines.len(), told.len()), (COUNT as usize, COUNT as usize));
    for line in &lines {
        let wanted = expected(line);
        let found = told.get(&tuple(&wanted)).ok_or_else(|| format!("not told of {line}"))?;
        assert_eq!(**found, as_kept(&wanted, found));
    }
    if matches!(kind, Kind::PythonTcp | Kind::PythonUdp | Kind::Nfacctd) {
        assert_eq!(distinct(&all), COUNT as usize, "flowId is the key");
    }
    Ok(())
}

/// A collector that stops reading for 30 s in a flood of 50,000, then dies, and comes back.
fn stopped_and_killed() -> Outcome {
    const COUNT: u32 = 50_000;
    const MORE: &str = "[retry]\ncapacity = 8192\ndying_budget_percent = 30\n\
        [[sink]]\ntype = \"ipfix\"\ncollector = \"127.0.0.1:4739\"\nreplay_bytes = \"512KiB\"\n";
    let mut place = Place::new(Kind::PythonTcp, Some(64 << 10), MORE)?;
    let flows = |from: u32, to: u32| from..to;
    complete(&place.scene.loader.churn(&NATTED, flows(0, 5_000), 1_000)?)?;
    place.keys(5_000, 30)?;
    let pids = measure::tree(place.scene.tested.pid());
    let before = measure::memory(&pids)?;
    place.collector.signal(Signal::SIGSTOP)?;
    let begin = measure::now();
    for part in 5..COUNT / 1_000 {
        complete(&place.scene.loader.churn(
            &NATTED,
            flows(part * 1_000, (part + 1) * 1_000),
            1_000,
        )?)?;
    }
    let held = |status: &board_tests::daemon::Status| status.number("pressure") == 1;
    place.scene.tested.wait("destroys to be held", 20, held)?;
    while begin.elapsed().as_secs() < 30 {
        measure::pause(500);
        // Others are served meanwhile.
        place.scene.tested.status()?;
    }
    let after = measure::memory(&pids)?;
    place.collector.kill()?;
    place.collector.start_anew(&place.scene.netns)?;
    let all = place.keys(COUNT as usize, 120)?;
    assert_eq!(distinct(&all), COUNT as usize);
    let status = place.scene.rest(0)?;
    assert_eq!((status.number("lost_records"), status.number("budget_passed")), (0, 0));
    let grown = after.own.saturating_sub(before.own);
    assert!(grown < 1 << 20, "memory unchanged but for pages touched first: {grown}");
    assert_eq!(status.number("allocations_since_ready"), 0);
    Ok(())
}

/// A worker that is killed has its sent records sent again by the next: none is missing.
fn killed_worker() -> Outcome {
    const COUNT: u32 = 20_000;
    let mut place = Place::new(Kind::PythonTcp, None, TCP)?;
    for part in 0..COUNT / 500 {
        complete(&place.scene.loader.churn(&NATTED, part * 500..(part + 1) * 500, 500)?)?;
        if part % 8 == 3 {
            let worker = place.scene.tested.worker()?;
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(worker), Signal::SIGKILL)?;
        }
        measure::pause(50);
    }
    let all = place.keys(COUNT as usize, 60)?;
    assert_eq!(distinct(&all), COUNT as usize);
    let status = place.scene.rest(0)?;
    assert!(status.number("worker_restarts") >= 4, "{status:?}");
    Ok(())
}

/// Sent, acknowledged by the collector's kernel and not read by the collector; then all of them
/// die, and the next daemon has another window.
fn another_window() -> Outcome {
    const MORE: &str = "[[sink]]\ntype = \"ipfix\"\ncollector = \"127.0.0.1:4739\"\n\
        replay_bytes = \"400KiB\"\n";
    let mut place = Place::new(Kind::PythonTcp, Some(64 << 10), TCP)?;
    place.scene.churn(&NATTED, 1_000, 500)?;
    place.keys(1_000, 30)?;
    place.collector.signal(Signal::SIGSTOP)?;
    complete(&place.scene.loader.churn(&NATTED, 1_000..1_400, 100)?)?;
    let sent = |status: &board_tests::daemon::Status| status.sinks()[1]["delivered"] == 1_400;
    let status = place.scene.tested.wait("the records to be in the window", 20, sent)?;
    assert!(status.sinks()[1]["unconfirmed"].as_u64() >= Some(400));
    let Place { scene: Scene { netns, loader, mut tested }, mut collector, _directory } = place;
    tested.signal(Signal::SIGKILL)?;
    let directory = tested.directory();
    drop(tested);
    collector.kill()?;
    let settings = Settings { capacity: 65_536, more: MORE, ..Settings::default() };
    let tested = Tested::start_at(&netns, &settings, directory)?;
    collector.start_anew(&netns)?;
    let place = Place { scene: Scene { netns, loader, tested }, collector, _directory };
    let all = place.keys(1_400, 60)?;
    assert_eq!(distinct(&all), 1_400);
    Ok(())
}

/// The exporter's own counters come by options records.
fn options() -> Outcome {
    const MORE: &str = "[[sink]]\ntype = \"ipfix\"\ncollector = \"127.0.0.1:4739\"\n\
        template_refresh_s = 1\n";
    let mut place = Place::new(Kind::PythonTcp, None, MORE)?;
    place.scene.churn(&NATTED, 300, 100)?;
    place.keys(300, 20)?;
    let told = measure::wait_for("the counters", 20, || {
        let last = place.collector.options()?.pop();
        let count = |it: &Value| it["exportedFlowRecordTotalCount"].as_u64();
        Ok(last.filter(|last| count(last) == Some(300)))
    })?;
    assert_eq!(told["notSentFlowTotalCount"], 0);
    Ok(())
}

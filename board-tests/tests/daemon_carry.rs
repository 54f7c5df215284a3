//! A daemon that starts under other sizes or sinks than the last one: what that one owed goes on,
//! and what does not fit is counted.

mod harness;

use std::collections::HashSet;
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use board_tests::daemon::{Scene, Settings, Status, Tested, complete};
use board_tests::load::Flows;
use board_tests::measure;
use board_tests::peers::bench;
use harness::Outcome;
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use serde_json::Value;

fn main() -> std::process::ExitCode {
    harness::run(vec![
        Trial::test("a_larger_queue_and_table_after_sigterm", || larger(Signal::SIGTERM)),
        Trial::test("a_larger_queue_and_table_after_sigkill", || larger(Signal::SIGKILL)),
        Trial::test("a_smaller_queue_counts_what_does_not_fit", smaller),
        Trial::test("what_a_removed_sink_was_owed_is_counted", removed),
        Trial::test("flows_that_ended_unheard_are_reported_from_the_old_table", unheard),
    ])
}

const COUNT: u32 = 300;

/// A daemon, and a directory for the sink's socket, and the lines that configure it.
struct Place {
    scene: Scene,
    directory: tempfile::TempDir,
}

/// The text of a configuration lives as long as its test program.
fn settings(capacity: u32, queue: u32, sinks: &str) -> Settings {
    let more = format!("[retry]\ncapacity = {queue}\n{sinks}");
    Settings { capacity, more: Box::leak(more.into_boxed_str()), ..Settings::default() }
}

fn unix(directory: &Path) -> String {
    format!("[[sink]]\ntype = \"unix\"\npath = {:?}\n", directory.join("records"))
}

impl Place {
    /// A daemon that owes [`COUNT`] records to a program that is not there.
    fn new() -> std::io::Result<Self> {
        let directory = tempfile::Builder::new().prefix("records-").tempdir()?;
        let settings = settings(16_384, 1_024, &unix(directory.path()));
        let mut scene = Scene::new(&settings)?;
        scene.churn(&Flows::MIXED, COUNT, 100)?;
        scene.rest(0)?;
        let owed = |status: &Status| status.sinks()[1]["owed"] == COUNT;
        scene.tested.wait("the records to be owed", 20, owed)?;
        Ok(Self { scene, directory })
    }

    /// Ends the daemon, and starts one with other settings.
    fn again(mut self, signal: Signal, settings: &Settings) -> std::io::Result<Self> {
        let Scene { netns, loader, mut tested } = self.scene;
        tested.signal(signal)?;
        if signal == Signal::SIGTERM {
            let ended = tested.daemon.process().wait(Duration::from_secs(10));
            ended.map_err(std::io::Error::other)?;
        }
        let directory = tested.directory();
        drop(tested);
        let tested = Tested::start_at(&netns, settings, Arc::clone(&directory))?;
        self.scene = Scene { netns, loader, tested };
        Ok(self)
    }

    /// Takes so many records from the sink; their keys.
    fn take(&self, count: u32) -> Result<HashSet<String>, Box<dyn std::error::Error>> {
        let socket = self.directory.path().join("records");
        let stream =
            measure::wait_for("the sink to listen", 20, || Ok(UnixStream::connect(&socket).ok()))?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        let lines = BufReader::new(stream).lines().take(count as usize);
        lines
            .map(|line| {
                let record: Value = serde_json::from_str(&line?)?;
                Ok(record["key"].as_str().ok_or("no key")?.to_owned())
            })
            .collect()
    }

    fn keys(&self) -> std::io::Result<HashSet<String>> {
        let lines = self.scene.tested.account()?.lines;
        Ok(lines.iter().filter_map(|line| line["key"].as_str().map(str::to_owned)).collect())
    }
}

fn larger(signal: Signal) -> Outcome {
    let place = Place::new()?;
    let keys = place.keys()?;
    assert_eq!(keys.len(), COUNT as usize);
    let sinks = unix(place.directory.path());
    let mut place = place.again(signal, &settings(8_192, 4_096, &sinks))?;
    let status = place.scene.tested.status()?;
    assert_eq!(status.sinks()[1]["owed"], COUNT, "{status:?}");
    assert_eq!((status.number("queue_capacity"), status.number("table_capacity")), (4_096, 8_192));
    assert_eq!(status.sink("delivered"), u64::from(COUNT), "counters go on");
    assert_eq!(status.stat("events_destroy"), u64::from(COUNT));
    assert_eq!((status.number("lost_records"), status.number("takeovers")), (0, 1));
    assert!(place.scene.tested.log().contains("300 owed records went over"));
    assert_eq!(place.take(COUNT)?, keys);
    // And it works in the new memory.
    place.scene.churn(&Flows { zone: 3, ..Flows::MIXED }, COUNT, 100)?;
    place.scene.rest(0)?;
    let account = place.scene.tested.account()?;
    assert_eq!((account.lines.len(), account.keys()), (2 * COUNT as usize, 2 * COUNT as usize));
    Ok(())
}

fn smaller() -> Outcome {
    const QUEUE: u32 = 64;
    let place = Place::new()?;
    let keys = place.keys()?;
    let sinks = unix(place.directory.path());
    let place = place.again(Signal::SIGKILL, &settings(16_384, QUEUE, &sinks))?;
    let status = place.scene.tested.status()?;
    let sink = &status.sinks()[1];
    assert_eq!(
        (&sink["owed"], &sink["lost"]["queue_policy"]["records"]),
        (&QUEUE.into(), &(COUNT - QUEUE).into())
    );
    assert_eq!(status.0["losses"]["queue_policy"]["flows"], COUNT - QUEUE);
    let left = place.take(QUEUE)?;
    assert!(left.len() == QUEUE as usize && left.is_subset(&keys));
    Ok(())
}

/// Of flows that lived under the old daemon some end while there is none: they are reported with
/// what was known of them, and the others go on.
fn unheard() -> Outcome {
    const LIVE: u32 = 200;
    const GONE: u32 = 60;
    let (netns, mut loader) = bench::place()?;
    let before = Settings { capacity: 4_096, refresh_s: 1, ..Settings::default() };
    let mut tested = Tested::start(&netns, &before)?;
    complete(&loader.create(&Flows::MIXED, 0..LIVE, LIVE)?)?;
    tested.wait("the flows", 20, |status| status.flows() == u64::from(LIVE))?;
    // Starts are known once a dump has shown the flows.
    let dumps = tested.status()?.stat("dumps");
    tested.wait("a dump", 20, |status| status.stat("dumps") >= dumps + 2)?;
    let mut flows = tested.flows()?;
    tested.signal(Signal::SIGKILL)?;
    let directory = tested.directory();
    drop(tested);
    complete(&loader.delete(&Flows::MIXED, 0..GONE, GONE)?)?;
    let after = Settings { capacity: 8_192, ..before };
    let tested = Tested::start_at(&netns, &after, directory)?;
    let left = u64::from(LIVE - GONE);
    tested.wait("what is gone to be noticed", 60, |status| status.flows() == left)?;
    let mut scene = Scene { netns, loader, tested };
    scene.rest(LIVE - GONE)?;
    let lines = scene.tested.account()?.lines;
    assert_eq!(lines.len(), GONE as usize);
    flows.retain(|flow| lines.iter().any(|line| line["key"] == flow["key"]));
    assert_eq!(flows.len(), GONE as usize, "under the keys that they had");
    for line in &lines {
        assert_eq!(line["cause"], "restart", "{line}");
        let flow = flows.iter().find(|flow| flow["key"] == line["key"]).ok_or("no flow")?;
        for part in ["orig", "reply", "zone", "id", "status", "start"] {
            assert_eq!(flow[part], line[part], "{part}");
        }
    }
    Ok(())
}

fn removed() -> Outcome {
    let place = Place::new()?;
    let place = place.again(Signal::SIGKILL, &settings(8_192, 1_024, ""))?;
    let status = place.scene.tested.status()?;
    assert_eq!(status.sinks().len(), 1);
    assert_eq!(status.0["losses"]["sink_removed"]["flows"], COUNT, "{status:?}");
    Ok(())
}

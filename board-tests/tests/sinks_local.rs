//! Sinks of this machine: a program that acknowledges, the log daemon; and what happens when
//! they are slow, lie, or are away.

mod harness;

use std::collections::HashSet;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use board_tests::daemon::{Scene, Settings, Status, Tested, client, complete, mounts};
use board_tests::lab::{self, Context};
use board_tests::load::Flows;
use board_tests::measure;
use board_tests::peers::bench;
use harness::Outcome;
use libtest_mimic::Trial;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

fn main() -> std::process::ExitCode {
    harness::run(vec![
        Trial::test("a_program_acknowledges_every_record", acknowledged),
        Trial::test("what_was_not_acknowledged_goes_to_the_next", next_client),
        Trial::test("a_program_may_come_back_at_once", come_back),
        Trial::test("the_last_words_of_a_program_that_left_count", last_words),
        Trial::test("hostile_acknowledgements_end_the_connection", hostile),
        Trial::test("without_a_program_destroys_wait_in_the_kernel", held),
        Trial::test("the_oldest_are_dropped_when_so_configured", dropped),
        Trial::test("an_acknowledgement_of_what_was_dropped_delivers_nothing", dropped_in_flight),
        Trial::test("a_full_disk_and_a_small_queue_lose_nothing", full_disk),
        Trial::test("a_killed_worker_sends_again", killed_worker),
        Trial::test("workers_killed_in_a_flood_send_again", killed_in_a_flood),
        Trial::test("a_socket_that_was_removed_is_made_anew", removed_socket),
        Trial::test("the_log_daemon_gets_every_record", syslog),
    ])
}

/// A daemon with a sink at a socket of its own, and that socket's path.
struct Place {
    scene: Scene,
    socket: PathBuf,
    _directory: TempDir,
}

impl Place {
    fn new(more: &str) -> io::Result<Self> {
        let directory = tempfile::Builder::new().prefix("records-").tempdir()?;
        let socket = directory.path().join("records");
        let text = format!("{more}[[sink]]\ntype = \"unix\"\npath = {socket:?}\n");
        // The text of a configuration lives as long as its test program.
        let settings = Settings { more: Box::leak(text.into_boxed_str()), ..Settings::default() };
        let scene = Scene::new(&settings)?;
        Ok(Self { scene, socket, _directory: directory })
    }

    /// Waits until the unix sink, which is the second one, is as wanted.
    fn wait(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> io::Result<Status> {
        self.scene.tested.wait(what, 30, |status| wanted(&status.sinks()[1]))
    }
}

/// A program that is connected.
struct Program {
    lines: BufReader<UnixStream>,
    taken: u64,
    keys: HashSet<String>,
    total: Total,
}

/// Packets and bytes of both directions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Total {
    packets: u64,
    bytes: u64,
}

impl Total {
    fn add(&mut self, packets: u64, bytes: u64) {
        self.packets += packets;
        self.bytes += bytes;
    }

    fn add_record(&mut self, record: &Value) {
        for side in ["orig", "reply"] {
            let number = |name: &str| record[side][name].as_u64().unwrap_or(0);
            self.add(number("packets"), number("bytes"));
        }
    }
}

impl Program {
    fn connect(socket: &Path) -> io::Result<Self> {
        let stream =
            measure::wait_for("the sink to listen", 20, || Ok(UnixStream::connect(socket).ok()))?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        Ok(Self {
            lines: BufReader::new(stream),
            taken: 0,
            keys: HashSet::new(),
            total: Total::default(),
        })
    }

    /// Reads so many lines.
    fn take(&mut self, count: u64) -> io::Result<()> {
        let mut line = String::new();
        for _ in 0..count {
            line.clear();
            self.lines.read_line(&mut line)?;
            let record: Value = serde_json::from_str(&line)?;
            let key = record["key"].as_str().ok_or_else(|| io::Error::other("no key"))?;
            self.keys.insert(key.to_owned());
            self.total.add_record(&record);
            self.taken += 1;
        }
        Ok(())
    }

    fn say(&self, text: &str) -> io::Result<()> {
        self.lines.get_ref().write_all(text.as_bytes())
    }

    fn acknowledge(&self) -> io::Result<()> {
        self.say(&format!("ack {}\n", self.taken))
    }

    /// Ends the connection; what it has read. Closing alone would not do it while a program that
    /// another test is just starting still has a copy of the descriptor.
    fn leave(self) -> io::Result<HashSet<String>> {
        self.lines.get_ref().shutdown(Shutdown::Both)?;
        Ok(self.keys)
    }

    /// All that comes until the daemon closes.
    fn rest(mut self) -> io::Result<String> {
        let mut rest = Vec::new();
        match self.lines.read_to_end(&mut rest) {
            // What it closed on without reading it all.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
            other => drop(other?),
        }
        Ok(String::from_utf8_lossy(&rest).into_owned())
    }
}

fn acknowledged() -> Outcome {
    const COUNT: u64 = 5_000;
    let mut place = Place::new("")?;
    let mut program = Program::connect(&place.socket)?;
    place.scene.churn(&Flows::MIXED, u32::try_from(COUNT)?, 500)?;
    for _ in 0..COUNT / 100 {
        program.take(100)?;
        program.acknowledge()?;
    }
    assert_eq!(program.keys.len() as u64, COUNT);
    let status = place.wait("every acknowledgement", |sink| sink["delivered"] == COUNT)?;
    let sink = &status.sinks()[1];
    assert_eq!(
        (&sink["owed"], &sink["in_flight"], &sink["retried"]),
        (&0.into(), &0.into(), &0.into())
    );
    assert_eq!(status.number("allocations_since_ready"), 0);
    Ok(())
}

fn next_client() -> Outcome {
    const COUNT: u64 = 800;
    let mut place = Place::new("")?;
    let mut first = Program::connect(&place.socket)?;
    place.scene.churn(&Flows::MIXED, u32::try_from(COUNT)?, 100)?;
    first.take(300)?;
    first.say("ack 200\n")?;
    place.wait("200 to be acknowledged", |sink| sink["delivered"] == 200)?;
    // One at a time.
    let second = Program::connect(&place.socket)?;
    assert!(second.rest()?.starts_with("error 69 "));
    let known = first.leave()?;
    let mut third = Program::connect(&place.socket)?;
    third.take(COUNT - 200)?;
    third.acknowledge()?;
    let status = place.wait("the rest", |sink| sink["delivered"] == COUNT)?;
    assert_eq!(status.sinks()[1]["owed"], 0);
    assert_eq!(third.keys.len() as u64, COUNT - 200);
    assert_eq!(known.union(&third.keys).count() as u64, COUNT, "every key at least once");
    assert!(status.sinks()[1]["retried"].as_u64() >= Some(100), "{status:?}");
    Ok(())
}

/// Who connects after the one before has closed is never told that somebody is there, also when
/// the daemon is just then refusing another.
fn come_back() -> Outcome {
    let mut place = Place::new("")?;
    place.scene.churn(&Flows::MIXED, 10, 10)?;
    let mut program = Program::connect(&place.socket)?;
    for round in 0..5_000 {
        program.take(1)?;
        let refused = Program::connect(&place.socket)?.rest()?;
        assert!(refused.starts_with("error 69 "), "{refused:?}");
        program.leave()?;
        program = Program::connect(&place.socket)?;
        let mut first = String::new();
        program.lines.read_line(&mut first)?;
        assert!(first.starts_with('{'), "after {round} rounds: {first:?}");
    }
    Ok(())
}

/// It acknowledges line by line and leaves while there is more to send: all of it counts, also
/// when the daemon first meets the broken connection by writing.
fn last_words() -> Outcome {
    const COUNT: u64 = 3_000;
    const TAKEN: u64 = 500;
    let mut place = Place::new("[retry]\ncapacity = 4096\n")?;
    let mut program = Program::connect(&place.socket)?;
    place.scene.churn(&Flows::MIXED, u32::try_from(COUNT)?, 500)?;
    program.take(TAKEN)?;
    place.wait("more than the connection holds", |sink| {
        sink["owed"] == COUNT && sink["in_flight"].as_u64() < Some(COUNT)
    })?;
    place.scene.tested.signal(Signal::SIGSTOP)?;
    let words: String = (1..=TAKEN).map(|number| format!("ack {number}\n")).collect();
    program.say(&words)?;
    let mut keys = program.leave()?;
    place.scene.tested.signal(Signal::SIGCONT)?;
    let mut next = Program::connect(&place.socket)?;
    next.take(COUNT - TAKEN)?;
    next.acknowledge()?;
    let status = place.wait("the rest", |sink| sink["delivered"] == COUNT)?;
    assert_eq!(status.sinks()[1]["owed"], 0);
    let repeated = next.keys.intersection(&keys).count();
    assert_eq!(repeated, 0, "what was acknowledged comes again");
    keys.extend(next.keys);
    assert_eq!(keys.len() as u64, COUNT);
    Ok(())
}

fn hostile() -> Outcome {
    let mut place = Place::new("")?;
    place.scene.churn(&Flows::MIXED, 100, 100)?;
    for wrong in ["ack x\n", "ack 101\n", "ack 50\nack 49\n", "\n", "acknowledged 1\n"] {
        let mut program = Program::connect(&place.socket)?;
        program.take(20)?;
        program.say(wrong)?;
        assert!(program.rest()?.ends_with("error 65 expected: ack NUMBER OF LINES\n"), "{wrong:?}");
    }
    let mut program = Program::connect(&place.socket)?;
    program.say(&"x".repeat(100))?;
    assert!(program.rest()?.ends_with("error 65 expected: ack NUMBER OF LINES\n"));
    // 50 were acknowledged before one went backwards; nothing else was.
    program = Program::connect(&place.socket)?;
    program.take(50)?;
    program.acknowledge()?;
    let status = place.wait("the rest", |sink| sink["delivered"] == 100)?;
    assert_eq!(status.sinks()[1]["owed"], 0);
    Ok(())
}

fn held() -> Outcome {
    const COUNT: u64 = 4_000;
    const LIVE: u32 = 300;
    let mut place = Place::new("[retry]\ncapacity = 256\n")?;
    place.scene.churn(&Flows::MIXED, u32::try_from(COUNT)?, 500)?;
    let holds = |status: &Status| {
        status.number("pressure") == 1
            && status.number("kernel_flows") > 0
            && status.number("kernel_backlog") > 0
    };
    place.scene.tested.wait("destroys to be held, and counted", 30, holds)?;
    // All else goes on: new flows, their list, the status.
    let live = Flows { zone: 7, ..Flows::MIXED };
    complete(&place.scene.loader.create(&live, 0..LIVE, 100)?)?;
    place.scene.tested.wait("new flows", 20, |status| status.flows() >= u64::from(LIVE))?;
    let flows = client::ask(&place.scene.tested.daemon.socket(), "flows json all zone=7")?;
    assert_eq!(flows.lines().count(), LIVE as usize);
    let text = client::ask(&place.scene.tested.daemon.socket(), "status text")?;
    assert!(
        text.contains("HOLDING")
            && text.lines().all(|line| line.len() <= 80 || line.contains("/tmp")),
        "{text}"
    );
    assert!(place.scene.loader.entries()? > 2_000, "the kernel keeps them");
    let mut program = Program::connect(&place.socket)?;
    for _ in 0..COUNT / 50 {
        program.take(50)?;
        program.acknowledge()?;
    }
    assert_eq!(program.keys.len() as u64, COUNT);
    let status = place.wait("every acknowledgement", |sink| sink["delivered"] == COUNT)?;
    assert_eq!((status.number("lost_records"), status.number("budget_passed")), (0, 0));
    let status = place.scene.rest(LIVE)?;
    assert_eq!((status.number("pressure"), status.number("held") > 0), (0, true));
    assert_eq!((status.number("kernel_backlog"), place.scene.loader.entries()?), (0, LIVE));
    let account = place.scene.tested.account()?;
    assert_eq!((account.lines.len() as u64, account.keys() as u64), (COUNT, COUNT));
    Ok(())
}

const DROP: &str = "[retry]\ncapacity = 256\nwhen_full = \"drop-oldest\"\n";

/// Sends real datagrams, so that flows have something to count: what was sent.
fn send_datagrams(place: &Place, flows: u16) -> io::Result<Total> {
    const PORT: u16 = 9;
    const HEADERS: u64 = 20 + 8;
    let netns = &place.scene.netns;
    lab::loopback_up(netns).and_then(|()| lab::track(netns)).map_err(io::Error::other)?;
    let sent = netns.run(|| {
        let doing = "sending datagrams";
        // It never reads: what it has no room for was counted before.
        let _taker = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT)).context(doing)?;
        let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).context(doing)?;
        let mut total = Total::default();
        for flow in 0..flows {
            let [high, low] = flow.to_be_bytes();
            let payload = vec![0; usize::from(low)];
            for _ in 0..=flow % 3 {
                let to = (Ipv4Addr::new(127, 1, high, low), PORT);
                let bytes = sender.send_to(&payload, to).context(doing)?;
                total.add(1, HEADERS + bytes as u64);
            }
        }
        Ok(total)
    });
    sent.map_err(io::Error::other)
}

/// Nothing is lost for the file, and for the other sink all is told apart, to the byte.
fn dropped() -> Outcome {
    const COUNT: u64 = 3_000;
    let mut place = Place::new(DROP)?;
    let sent = send_datagrams(&place, u16::try_from(COUNT)?)?;
    place.scene.loader.flush()?;
    let all = |status: &Status| status.sink("delivered") == COUNT;
    let status = place.scene.tested.wait("the file to have all", 30, all)?;
    let sink = &status.sinks()[1];
    let number = |name: &str| sink[name].as_u64().unwrap_or(u64::MAX);
    let lost = |name: &str| sink["lost"]["queue_policy"][name].as_u64().unwrap_or(u64::MAX);
    assert_eq!((number("delivered"), number("owed")), (0, 256));
    assert_eq!(lost("records"), COUNT - 256);
    let named = ["lost_records", "lost_packets", "lost_bytes"].map(|name| status.number(name));
    assert_eq!(named, ["records", "packets", "bytes"].map(lost));
    assert_eq!((status.number("held"), status.number("pressure")), (0, 0));
    assert_eq!(status.sinks()[0]["lost"]["queue_policy"]["records"], 0);
    let account = place.scene.tested.account()?;
    assert_eq!((account.lines.len() as u64, account.keys() as u64), (COUNT, COUNT));
    let mut told = Total::default();
    account.lines.iter().for_each(|line| told.add_record(line));
    assert_eq!(told, sent, "in the file");
    let mut program = Program::connect(&place.socket)?;
    program.take(256)?;
    program.acknowledge()?;
    place.wait("the rest", |sink| sink["delivered"] == 256 && sink["owed"] == 0)?;
    let mut sum = program.total;
    sum.add(lost("packets"), lost("bytes"));
    assert_eq!(sum, sent, "delivered or lost");
    Ok(())
}

/// A program that reads late gets lines of records that were given up meanwhile: those stay lost,
/// whatever it acknowledges.
fn dropped_in_flight() -> Outcome {
    const COUNT: u64 = 3_000;
    let mut place = Place::new(DROP)?;
    let mut program = Program::connect(&place.socket)?;
    place.scene.churn(&Flows::MIXED, u32::try_from(COUNT)?, 500)?;
    let all = |status: &Status| status.sink("delivered") == COUNT;
    place.scene.tested.wait("the file to have all", 30, all)?;
    let standing = |sink: &Value| {
        let number = |it: &Value| it.as_u64().unwrap_or(u64::MAX);
        let lost = number(&sink["lost"]["queue_policy"]["records"]);
        (number(&sink["delivered"]), number(&sink["owed"]), lost)
    };
    let before = standing(&place.scene.tested.status()?.sinks()[1]);
    assert_eq!(before, (0, 256, COUNT - 256));
    // In the order of the queue; those from here on are owed.
    let owed = place.scene.tested.account()?.lines.split_off(usize::try_from(COUNT - 256)?);
    let mut after = before;
    while after.1 > 0 {
        program.take(1)?;
        program.acknowledge()?;
        if program.taken % 50 == 0 || program.taken >= 256 {
            after = standing(&place.scene.tested.status()?.sinks()[1]);
            assert_eq!(after.0 + after.1 + after.2, COUNT, "{after:?}");
            let delivered = owed.iter().take(usize::try_from(after.0)?);
            let keys = delivered.filter_map(|it| it["key"].as_str());
            assert_eq!(keys.filter(|key| program.keys.contains(*key)).count() as u64, after.0);
        }
    }
    assert_eq!(after, (256, 0, COUNT - 256));
    assert!(program.taken > 256, "some were given up on their way: {}", program.taken);
    assert_eq!(program.keys.len() as u64, program.taken, "none twice");
    Ok(())
}

/// Twice, since the second time the file ends within a page that has room for part of a line.
fn full_disk() -> Outcome {
    const DISK: u64 = 4 << 20;
    const COUNT: u32 = 1_500;
    const MORE: &str = "[retry]\ncapacity = 64\nmax_delay_s = 1\n";
    mounts::privately(|| {
        let directory = tempfile::tempdir()?;
        let disk = directory.path().join("disk");
        fs::create_dir(&disk)?;
        mounts::tmpfs(&disk, DISK)?;
        let filler = disk.join("filler");
        fs::write(&filler, vec![0; usize::try_from(DISK).unwrap_or(0) - (64 << 10)])?;
        let (netns, loader) = bench::place()?;
        let sink = PathBuf::from("disk/flows.jsonl");
        let settings = Settings { sink, more: MORE, ..Settings::default() };
        let tested = Tested::start_at(&netns, &settings, directory.into())?;
        let mut scene = Scene { netns, loader, tested };
        for round in 1..=2_u32 {
            let flows = (round - 1) * COUNT..round * COUNT;
            complete(&scene.loader.churn(&Flows::MIXED, flows, 500)?)?;
            let full = |status: &Status| {
                status.sink("errno") == Errno::ENOSPC as u64 && status.number("pressure") == 1
            };
            let status = scene.tested.wait("the disk to be full, destroys to be held", 20, full)?;
            assert_eq!(status.number("queue_len"), 64);
            let (failures, delivered) = (status.sink("failures"), status.sink("delivered"));
            let more = |status: &Status| status.sink("failures") > failures + 2;
            scene.tested.wait("more attempts", 20, more)?;
            let account = scene.tested.account()?;
            assert_eq!(account.lines.len() as u64, delivered, "whole lines, and those counted");
            fs::remove_file(&filler)?;
            let all = u64::from(round * COUNT);
            scene.tested.wait("all to be written", 20, |it| it.sink("delivered") == all)?;
            let mut rest = fs::File::create(&filler)?;
            while rest.write_all(&[0; 4096]).is_ok() {}
        }
        let status = scene.rest(0)?;
        assert_eq!((status.number("lost_records"), status.number("budget_passed")), (0, 0));
        let account = scene.tested.account()?;
        let all = 2 * COUNT as usize;
        assert_eq!((account.lines.len(), account.keys()), (all, all));
        assert_eq!(account.causes().keys().collect::<Vec<_>>(), [&"event"]);
        Ok(())
    })?;
    Ok(())
}

fn killed_worker() -> Outcome {
    const COUNT: u64 = 2_000;
    let mut place = Place::new("")?;
    let mut keys = HashSet::new();
    for part in 0..4 {
        let mut program = Program::connect(&place.socket)?;
        let flows = part * 500..(part + 1) * 500;
        complete(&place.scene.loader.churn(&Flows::MIXED, flows, 500)?)?;
        program.take(400)?;
        program.say("ack 300\n")?;
        let acknowledged = u64::from(part + 1) * 300;
        place.wait("300 more", |sink| sink["delivered"] == acknowledged)?;
        kill(Pid::from_raw(place.scene.tested.worker()?), Signal::SIGKILL)?;
        let restarts = u64::from(part + 1);
        measure::wait_for("another worker", 20, || {
            let status = place.scene.tested.status().ok();
            Ok(status.filter(|it| it.number("worker_restarts") == restarts))
        })?;
        keys.extend(program.keys);
    }
    let mut program =
        measure::wait_for("a new worker", 20, || Ok(Program::connect(&place.socket).ok()))?;
    program.take(COUNT - 1_200)?;
    program.acknowledge()?;
    keys.extend(program.keys.clone());
    let status = place.wait("the rest", |sink| sink["delivered"] == COUNT)?;
    assert_eq!((keys.len() as u64, status.number("worker_restarts")), (COUNT, 4));
    Ok(())
}

/// The worker is killed while flows end and a program reads; it connects again each time.
fn killed_in_a_flood() -> Outcome {
    const COUNT: u32 = 6_000;
    const KILLS: u64 = 5;
    let mut place = Place::new("[retry]\ncapacity = 512\n")?;
    let Place { scene: Scene { loader, tested, .. }, socket, .. } = &mut place;
    let (keys, kills) = std::thread::scope(|scope| {
        let flood = scope.spawn(move || {
            for part in 0..COUNT / 100 {
                complete(&loader.churn(&Flows::MIXED, part * 100..(part + 1) * 100, 100)?)?;
            }
            io::Result::Ok(())
        });
        let (mut keys, mut kills) = (HashSet::new(), 0);
        while keys.len() < COUNT as usize {
            let mut program = Program::connect(socket)?;
            // The end of the connection is the end of this program's turn, whatever was read.
            while program.take(1).is_ok() && keys.len() + program.keys.len() < 2 * COUNT as usize {
                if program.taken == 700 && kills < KILLS {
                    kill(Pid::from_raw(tested.worker()?), Signal::SIGKILL)?;
                    kills += 1;
                }
                if program.taken % 20 == 0 && program.acknowledge().is_err() {
                    break;
                }
                if keys.union(&program.keys).count() == COUNT as usize {
                    program.acknowledge()?;
                    break;
                }
            }
            keys.extend(program.leave()?);
        }
        let flooded = flood.join().unwrap_or_else(|_| Err(io::Error::other("panic")));
        flooded.and(io::Result::Ok((keys, kills)))
    })?;
    assert_eq!((keys.len(), kills), (COUNT as usize, KILLS));
    let status = place.wait("the rest", |sink| sink["delivered"] == COUNT)?;
    assert_eq!((status.number("worker_restarts"), status.number("lost_records")), (KILLS, 0));
    assert_eq!(place.scene.rest(0)?.sinks()[1]["owed"], 0);
    let account = place.scene.tested.account()?;
    let all = COUNT as usize;
    assert_eq!((account.lines.len(), account.keys()), (all, all), "the file has each once");
    Ok(())
}

/// Its path is taken away, while a program is connected: that one goes on, and the next finds it.
fn removed_socket() -> Outcome {
    let mut place = Place::new("")?;
    let nobody = place.wait("the sink", |sink| sink["connected"] == false)?;
    assert_eq!(nobody.sinks()[0].get("connected"), None, "a file has no connections");
    let mut program = Program::connect(&place.socket)?;
    place.wait("the program to be seen", |sink| sink["connected"] == true)?;
    fs::remove_file(&place.socket)?;
    place.scene.churn(&Flows::MIXED, 10, 10)?;
    program.take(10)?;
    program.acknowledge()?;
    place.wait("the acknowledgement", |sink| sink["delivered"] == 10)?;
    measure::wait_for("the socket to be made anew", 20, || {
        Ok(place.socket.exists().then_some(()))
    })?;
    program.leave()?;
    place.wait("the program to be missed", |sink| sink["connected"] == false)?;
    place.scene.churn(&Flows { zone: 9, ..Flows::MIXED }, 10, 10)?;
    let mut program = Program::connect(&place.socket)?;
    program.take(10)?;
    program.acknowledge()?;
    place.wait("the rest", |sink| sink["delivered"] == 20)?;
    let log = place.scene.tested.log();
    assert_eq!(log.matches("the socket was removed").count(), 1, "{log}");
    Ok(())
}

/// Missing at first, then full since nobody reads, then read: every record is there.
fn syslog() -> Outcome {
    const COUNT: u32 = 1_000;
    mounts::privately(|| {
        let directory = tempfile::tempdir()?;
        let dev = directory.path().join("dev");
        fs::create_dir(&dev)?;
        mounts::dev(&dev)?;
        let more = "[retry]\nmax_delay_s = 1\n[[sink]]\ntype = \"syslog\"\n";
        let mut scene = Scene::new(&Settings { more, ..Settings::default() })?;
        scene.churn(&Flows::MIXED, COUNT, 500)?;
        let failing = |status: &Status| status.sinks()[1]["failures"].as_u64() > Some(0);
        scene.tested.wait("the log daemon to be missed", 20, failing)?;
        let socket = UnixDatagram::bind(dev.join("log"))?;
        socket.set_read_timeout(Some(Duration::from_secs(20)))?;
        let some = |status: &Status| status.sinks()[1]["delivered"].as_u64() > Some(0);
        let status = scene.tested.wait("the first records", 20, some)?;
        assert!(status.sinks()[1]["owed"].as_u64() > Some(0), "its socket is full: {status:?}");
        // A full socket after a refusal: it is waited for, and nothing turns meanwhile.
        let pids = measure::tree(scene.tested.pid());
        let (before, begin) = (measure::cpu_ns(&pids)?, measure::now());
        measure::pause(1_500);
        let (used, took) = (measure::cpu_ns(&pids)? - before, begin.elapsed().as_nanos());
        assert!(u128::from(used) < took / 10, "{used} ns on a CPU in {took} ns");
        let mut keys = HashSet::new();
        let mut buffer = [0; 4096];
        while keys.len() < COUNT as usize {
            let length = socket.recv(&mut buffer)?;
            let line = String::from_utf8_lossy(&buffer[..length]).into_owned();
            let json = line.strip_prefix("<30>firmware-ctd: ");
            let record: Value = serde_json::from_str(json.ok_or(io::ErrorKind::InvalidData)?)?;
            assert!(!line.ends_with('\n'), "{line:?}");
            assert!(keys.insert(record["key"].to_string()), "twice: {line}");
        }
        let all = |status: &Status| status.sinks()[1]["delivered"] == COUNT;
        scene.tested.wait("the last record", 20, all)?;
        let log = scene.tested.log();
        let said = |text: &str| log.matches(&format!("sink /dev/log: {text}")).count();
        assert_eq!((said("No such file"), said("sending again")), (1, 1), "{log}");
        Ok(())
    })?;
    Ok(())
}

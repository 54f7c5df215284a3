//! Emulated boards: real packets of hosts outside cross a real router kernel of another
//! architecture, with the shipped package on it.
//!
//! The same tests for each board. `BOARDS` in the environment names the boards, with commas
//! between; without it the tests run on those of the default tier.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use board_tests::board::{Board, Firmware, MODELS, Model, Off, Options};
use board_tests::lab::records::Record;
use board_tests::lab::stream::{Standing, Stream, Way};
use board_tests::lab::{Hosts, Path, Plan};
use libtest_mimic::{Arguments, Failed, Trial};

/// How a test ends.
type Outcome = Result<(), Failed>;

/// A test, for each board.
type Test = fn(&'static Model) -> Outcome;

const TESTS: [(&str, Test); 3] = [
    ("flows_are_accounted_as_the_hosts_made_them", accounts),
    ("transfers_live_through_a_reboot", reboot),
    ("without_the_image_the_downloads_die", forgotten),
];

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Two cores, and a second board beside the first makes neither faster.
    arguments.test_threads.get_or_insert(1);
    let wanted = std::env::var("BOARDS").ok();
    let takes = |model: &Model| match &wanted {
        Some(names) => names.split(',').any(|name| name == model.name || name == "all"),
        None => model.default_tier,
    };
    let mut trials = Vec::new();
    for model in MODELS.iter().filter(|model| takes(model)) {
        for (name, test) in TESTS {
            trials.push(Trial::test(format!("{}::{name}", model.name), move || test(model)));
        }
    }
    if trials.is_empty() {
        let text = format!("no board is called {}", wanted.unwrap_or_default());
        trials.push(Trial::test("boards", move || Err(text.into())));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn firmware(model: &Model, profile: &str) -> io::Result<Firmware> {
    Firmware::build(model, profile, &mut |text| eprintln!("{text}"))
}

/// A board with that profile's package that has booted, and its hosts.
fn booted(
    model: &'static Model,
    profile: &str,
    options: &Options,
) -> Result<(Board, Hosts), Failed> {
    let firmware = firmware(model, profile)?;
    let (off, mut hosts) = Off::new(model, &firmware, options)?;
    let mut board = off.power_on()?;
    board.booted(&mut hosts, 0)?;
    Ok((board, hosts))
}

/// The records in the daemon's file.
fn records(board: &Board, path: &str) -> io::Result<Vec<Record>> {
    let text = String::from_utf8_lossy(&board.get(path)?).into_owned();
    text.lines().map(|line| Record::parse(line).map_err(io::Error::other)).collect()
}

const SINK: &str = "/tmp/firmware-ctd/flows.jsonl";

fn accounts(model: &'static Model) -> Outcome {
    let (mut board, mut hosts) = booted(model, "small-64mb", &Options::default())?;
    let ledger = hosts.run(&Plan::of(300, 11), |_| {})?;
    let inner = ledger.inner_differences();
    assert!(inner.is_empty(), "{inner:?}");
    let seen = board.status_until("the flows to be seen", |status| status.flows() >= 300)?;
    assert_eq!(seen.flows(), board.flows()?.len() as u64);

    // A person at the console sees the same flows.
    let limit = Duration::from_secs(20);
    let shown = board.console.type_line("status", "router# ", limit)?;
    assert!(shown.contains(&format!("{}", seen.flows())), "{shown}");

    board.ask("flush")?;
    board.status_until("every record to be written", |status| {
        status.flows() == 0 && status.sink("owed") == 0 && status.stat("events_destroy") >= 300
    })?;
    let records = records(&board, SINK)?;
    let wrong = ledger.check(&records);
    assert!(wrong.is_empty(), "{wrong:?}");
    Ok(())
}

/// `count` transfers, up and down, IPv4 and IPv6 in turn.
fn wanted(count: u16, bytes: u64) -> Vec<(Path, Way, u64)> {
    (0..count)
        .map(|n| {
            let [lan, wan] = [n % 10, n / 10 % 4].map(|host| u8::try_from(host).unwrap_or(0));
            let path = Path { ipv6: n % 2 == 1, lan, wan, sport: 20_000 + n, dport: 8_000 + n };
            (path, if n % 4 < 2 { Way::Down } else { Way::Up }, bytes)
        })
        .collect()
}

fn check_finished(hosts: &mut Hosts, streams: &mut [Stream]) {
    for (standing, stream) in hosts.standings(streams).into_iter().zip(streams) {
        let (path, way, received) = (*stream.path(), stream.way, stream.received());
        assert_eq!(standing, Standing::Finished, "{path:?} {way:?} after {received} bytes");
        assert_eq!(stream.received_hash(), stream.content_hash(), "{path:?}");
    }
}

/// Begins transfers and reboots in their middle; the board as it is up again.
fn through_a_reboot(
    model: &'static Model,
    wanted: &[(Path, Way, u64)],
    forget: bool,
) -> Result<(Board, Hosts, Vec<Stream>), Failed> {
    let (mut board, mut hosts) = booted(model, "small-64mb", &Options::default())?;
    let mut streams = hosts.streams(wanted)?;
    assert!(hosts.drive_streams(&mut streams, 40), "the transfers begin");
    let before = board.wait_for(&mut hosts, "boot", 0, Duration::ZERO)?;
    let mark = board.heard();
    board.reboot(&mut hosts, forget)?;
    board.booted(&mut hosts, mark)?;
    let after = board.wait_for(&mut hosts, "boot", mark, Duration::ZERO)?;
    assert_ne!(before, after, "it is another boot");
    Ok((board, hosts, streams))
}

/// A number of what was made again.
fn restored(board: &Board, name: &str) -> io::Result<u64> {
    let status = board.status()?;
    let number = status.0["restore"][name].as_u64();
    number.ok_or_else(|| io::Error::other(format!("no {name} in {}", status.0["restore"])))
}

fn reboot(model: &'static Model) -> Outcome {
    let (board, mut hosts, mut streams) = through_a_reboot(model, &wanted(40, 60_000), false)?;
    assert_eq!(restored(&board, "restored")?, 40);
    assert!(hosts.drive_streams(&mut streams, 100), "the transfers go on");
    check_finished(&mut hosts, &mut streams);
    assert_eq!(board.status()?.flows(), 40, "no flow was made anew");
    Ok(())
}

fn forgotten(model: &'static Model) -> Outcome {
    let downloads: Vec<_> = wanted(40, 60_000)
        .into_iter()
        .filter(|(path, way, _)| !path.ipv6 && *way == Way::Down)
        .collect();
    let (board, mut hosts, mut streams) = through_a_reboot(model, &downloads, true)?;
    assert_eq!(restored(&board, "restored")?, 0);
    hosts.drive_streams(&mut streams, 100);
    let standings = hosts.standings(&mut streams);
    assert!(standings.iter().all(|standing| *standing == Standing::Dead), "{standings:?}");
    Ok(())
}

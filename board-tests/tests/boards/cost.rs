//! What an event costs the board, in instructions of the daemon and of the kernel.
//!
//! A plugin counts in the emulator (`board-tests/counter`): nothing on the board is changed for it.
//! The board is at rest before and after, so all that programs did in between is the daemon's, but
//! for what the first process does with one short command. What the kernel does for the daemon's
//! sake is what it does more than with the same packets when nobody listens.

use std::io;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use board_tests::board::{Board, Model, Off, Options};
use board_tests::daemon::Status;
use board_tests::lab::{Hosts, Plan, clock};
use board_tests::measure;

use crate::{Outcome, firmware};

/// Instructions of the daemon for one event.
const LIMIT: u64 = 5_000;
/// The core of such boards.
const HERTZ: u64 = 580_000_000;
/// Events a second that are to take at most a twentieth of it, the kernel's share included.
const RATE: u64 = 2_000;
const FLOWS: u32 = 2_000;
/// So often, since the kernel's share is the small difference of what varies.
const ROUNDS: u64 = 3;

/// Both counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    programs: u64,
    kernel: u64,
}

impl Counts {
    fn since(self, before: Self) -> Self {
        Self { programs: self.programs - before.programs, kernel: self.kernel - before.kernel }
    }

    fn and(self, other: Self) -> Self {
        Self { programs: self.programs + other.programs, kernel: self.kernel + other.kernel }
    }
}

/// The counter's file.
#[derive(Debug)]
struct Counter(tempfile::NamedTempFile);

impl Counter {
    fn new() -> io::Result<Self> {
        let file = tempfile::NamedTempFile::new()?;
        file.as_file().set_len(16)?;
        Ok(Self(file))
    }

    fn read(&self) -> io::Result<Counts> {
        let bytes = std::fs::read(self.0.path())?;
        let number = |at: usize| bytes.get(at..at + 8)?.try_into().ok().map(u64::from_ne_bytes);
        let both = number(0).zip(number(8)).ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(Counts { programs: both.0, kernel: both.1 })
    }

    /// Waits until programs do next to nothing for a while; the counts then. The hosts go on.
    fn rest(&self, hosts: &mut Hosts) -> io::Result<Counts> {
        let mut before = self.read()?;
        measure::wait_for("the board to come to rest", 60, || {
            let (began, time) = (clock::now(), Duration::from_millis(700));
            hosts.drive_until(time, |_| began.elapsed() >= time);
            let now = self.read()?;
            let idle = now.programs - before.programs < 100_000;
            before = now;
            Ok(idle.then_some(now))
        })
    }
}

/// The plugin, built for this machine.
fn plugin() -> io::Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.current_dir(env!("CARGO_MANIFEST_DIR")).args(["build", "--locked", "--release"]);
    let target = board_tests::board::cache()?.join("counter");
    let done = build.args(["-p", "board-counter", "--target-dir"]).arg(&target).output()?;
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}");
    Ok(target.join("release/libboard_counter.so"))
}

fn events(status: &Status) -> u64 {
    ["events_new", "events_update", "events_destroy"].iter().map(|name| status.stat(name)).sum()
}

/// What the hosts' flows cost the board: while they begin and change, and while they end.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    life: Counts,
    end: Counts,
}

impl Cost {
    fn add(&mut self, other: Self) {
        self.life = self.life.and(other.life);
        self.end = self.end.and(other.end);
    }
}

/// Makes the same flows each time, and ends them all at once.
fn traffic(
    board: &Board,
    hosts: &mut Hosts,
    counter: &Counter,
    between: &mut dyn FnMut() -> io::Result<()>,
) -> Result<Cost, libtest_mimic::Failed> {
    let plan = Plan { ipv6_percent: 33, ..Plan::of(FLOWS, 9) };
    let before = counter.rest(hosts)?;
    hosts.run(&plan, |_| {})?;
    let lived = counter.rest(hosts)?;
    between()?;
    let middle = counter.rest(hosts)?;
    board.ask("flush")?;
    let ended = counter.rest(hosts)?;
    Ok(Cost { life: lived.since(before), end: ended.since(middle) })
}

/// Tells what an event costs; instructions of the daemon for each, and of the kernel for its sake:
/// what there is more of than without it. The board's first process is counted both times.
fn tell(when: &str, listening: Counts, alone: Counts, events: u64) -> (u64, u64) {
    let own = listening.programs.saturating_sub(alone.programs) / events.max(1);
    let kernel = listening.kernel.saturating_sub(alone.kernel) / events.max(1);
    eprintln!(
        "measured: {when}: {events} events, {own} instructions of the daemon for each, and {kernel} \
         of the kernel more than without it ({} for forwarding)",
        alone.kernel / events.max(1)
    );
    (own, kernel)
}

pub(crate) fn instructions(model: &'static Model) -> Outcome {
    let counter = Counter::new()?;
    let word = format!("{},counts={}", plugin()?.display(), counter.0.path().display());
    let emulator = vec!["-plugin".to_owned(), word];
    let options = Options { emulator, ..Options::default() };
    let (off, mut hosts) = Off::new(model, &firmware(model, "small-64mb")?, &options)?;
    let mut board = off.power_on()?;
    board.booted(&mut hosts, 0)?;
    // One refresh in two minutes, which would be of some rounds and not of others.
    board.configure(&mut hosts, "[table]\nrefresh_s = 86400\n")?;

    // Nobody listens: all this is forwarding.
    board.ask("stop")?;
    let mut alone = Cost::default();
    for _ in 0..ROUNDS {
        alone.add(traffic(&board, &mut hosts, &counter, &mut || Ok(()))?);
    }
    let mark = board.heard();
    board.ask("start")?;
    board.wait_for_log(&mut hosts, "ready: ", mark)?;
    let (mut cost, mut lived, mut ended) = (Cost::default(), 0, 0);
    for _ in 0..ROUNDS {
        let first = events(&board.status()?);
        let mut middle = 0;
        cost.add(traffic(&board, &mut hosts, &counter, &mut || {
            middle = events(&board.status()?);
            Ok(())
        })?);
        (lived, ended) = (lived + middle - first, ended + events(&board.status()?) - middle);
    }
    tell("while flows begin and change", cost.life, alone.life, lived);
    tell("while they end, with a record each", cost.end, alone.end, ended);

    let all = lived + ended;
    assert!(all >= ROUNDS * u64::from(2 * FLOWS), "{all} events of {ROUNDS} x {FLOWS} flows");
    let (own, kernel) = tell("in all", cost.life.and(cost.end), alone.life.and(alone.end), all);
    let second = RATE * (own + kernel);
    eprintln!(
        "measured: {RATE} events/s x ({own} + {kernel}) instructions = {} million a second, {}.{} % of \
         {} million",
        second / 1_000_000,
        second * 100 / HERTZ,
        second * 1_000 / HERTZ % 10,
        HERTZ / 1_000_000,
    );
    assert!(own <= LIMIT, "{own} instructions for an event, {LIMIT} are allowed");
    start(&mut board, &mut hosts, &counter)
}

/// From its start to its word that it is ready, with 4,000 flows to be made again.
fn start(board: &mut Board, hosts: &mut Hosts, counter: &Counter) -> Outcome {
    const WANTED: u64 = 4_000;
    for key in ["udp_timeout", "udp_timeout_stream"] {
        board.ask(&format!("sysctl net/netfilter/nf_conntrack_{key} 3600"))?;
    }
    board.configure(hosts, "[checkpoint]\nkeep = [\"all\"]\n")?;
    let plan = Plan {
        tcp_flows: 0,
        udp_flows: u32::try_from(WANTED)?,
        icmp_flows: 0,
        datagram_bytes: 16..=64,
        exchanges: 1..=1,
        ..Plan::seeded(4)
    };
    hosts.run(&plan, |_| {})?;
    let mark = board.heard();
    board.reboot(hosts, false)?;
    board.wait_for(hosts, "starting", mark, Duration::from_secs(60))?;
    let (begin, before) = (clock::now(), counter.read()?);
    board.wait_for_log(hosts, "ready: ", mark)?;
    let (took, after) = (begin.elapsed(), counter.read()?);
    let made = crate::restored(board, "restored")?;
    assert_eq!(made, WANTED);
    eprintln!(
        "measured: from start to ready with {made} flows: {} ms here, {} million instructions of programs, {} \
         million of the kernel",
        took.as_millis(),
        (after.programs - before.programs) / 1_000_000,
        (after.kernel - before.kernel) / 1_000_000,
    );
    Ok(())
}

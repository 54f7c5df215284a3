//! Workers and daemons that are killed or stuck in the middle of everything: no destroyed flow is
//! lost or counted twice, and the router goes on.

mod harness;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use board_tests::daemon::{Scene, Settings, Status, Tested, complete};
use board_tests::load::Flows;
use board_tests::measure;
use board_tests::peers::bench;
use harness::Outcome;
use libtest_mimic::Trial;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn main() -> std::process::ExitCode {
    harness::run(vec![
        Trial::test("a_thousand_kills_of_the_worker_lose_nothing", a_thousand_kills),
        Trial::test("killed_with_its_supervisor_again_and_again", both_killed),
        Trial::test("a_worker_that_is_stopped_never_fills_the_kernels_table", stopped_worker),
        Trial::test("a_worker_that_stalls_opens_the_valve_and_closes_it", stalled_worker),
        Trial::test("workers_that_crash_again_and_again_open_the_valve", crash_loop),
    ])
}

/// Numbers by chance, the same in each run.
fn chance(state: &mut u32, below: u32) -> u32 {
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    *state % below
}

/// Kills the worker at random moments, in bursts, until told to stop; how often.
fn kill_workers(daemon: i32, stop: &AtomicBool, least: u32) -> io::Result<u32> {
    let (mut kills, mut last, mut state) = (0, 0, 0x2545_f491);
    while !stop.load(Ordering::Relaxed) || kills < least {
        let worker = measure::tree(daemon).get(1).copied();
        if let Some(worker) = worker.filter(|&worker| worker != last) {
            kill(Pid::from_raw(worker), Signal::SIGKILL)?;
            (kills, last) = (kills + 1, worker);
        }
        let pause = if kills % 50 == 0 { 200 } else { 1 + chance(&mut state, 50) };
        measure::pause(u64::from(pause));
    }
    Ok(kills)
}

fn a_thousand_kills() -> Outcome {
    const COUNT: u32 = 300_000;
    const KILLS: u32 = 1_000;
    let mut scene = Scene::new(&Settings { capacity: 65_536, ..Settings::default() })?;
    let (daemon, stop) = (scene.tested.pid(), AtomicBool::new(false));
    let kills = std::thread::scope(|scope| {
        let killer = scope.spawn(|| kill_workers(daemon, &stop, KILLS));
        let made = paced_churn(&mut scene.loader, COUNT, Duration::from_secs(30));
        stop.store(true, Ordering::Relaxed);
        let kills = killer.join().unwrap_or_else(|_| Err(io::Error::other("panic")));
        made.and(kills)
    })?;
    assert!(kills >= KILLS, "{kills}");
    let status = scene.rest(0)?;
    let account = scene.tested.account()?;
    let count = COUNT as usize;
    assert_eq!((account.lines.len(), account.keys()), (count, count), "{:?}", account.causes());
    assert_eq!(account.tuples().len(), count);
    assert!(status.number("worker_restarts") >= u64::from(KILLS));
    assert_eq!((status.number("lost_records"), status.number("valve_times")), (0, 0));
    assert_eq!(status.sink("delivered"), u64::from(COUNT), "delivered + owed + lost = made");
    Ok(())
}

/// Creates and deletes flows, spread over about this time.
fn paced_churn(
    loader: &mut board_tests::load::Loader,
    count: u32,
    time: Duration,
) -> io::Result<()> {
    const PART: u32 = 1_000;
    let begin = measure::now();
    for part in 0..count / PART {
        complete(&loader.churn(&Flows::MIXED, part * PART..(part + 1) * PART, PART)?)?;
        let due = time * part / (count / PART);
        if let Some(early) = due.checked_sub(begin.elapsed()) {
            measure::pause(u64::try_from(early.as_millis()).unwrap_or(0));
        }
    }
    Ok(())
}

/// Both processes killed at once and started again, under load: all that was heard is in the
/// file once, and what ended unheard is reported with its last known counters.
fn both_killed() -> Outcome {
    const LIVE: u32 = 500;
    const ROUNDS: u32 = 100;
    let (netns, mut loader) = bench::place()?;
    let settings = Settings { capacity: 65_536, refresh_s: 1, ..Settings::default() };
    let mut tested = Tested::start(&netns, &settings)?;
    let directory = tested.directory();
    let live = Flows { zone: 5, ..Flows::MIXED };
    complete(&loader.create(&live, 0..LIVE, LIVE)?)?;
    tested.wait("the table to be whole", 30, |status| status.flows() == u64::from(LIVE))?;
    let (mut made, mut gone) = (0, 0);
    for round in 0..ROUNDS {
        // Heard, or perhaps not: the daemon dies in the middle.
        let churn = complete(&loader.churn(&Flows::MIXED, made..made + 200, 100)?);
        made += 200;
        tested.signal(Signal::SIGKILL)?;
        churn?;
        // Ends that nobody hears.
        complete(&loader.delete(&live, gone..gone + 3, 3)?)?;
        gone += 3;
        drop(tested);
        tested = Tested::start_at(&netns, &settings, Arc::clone(&directory))?;
        assert!(round > 0 || tested.status()?.number("takeovers") == 1);
    }
    let left = u64::from(LIVE - gone);
    tested.wait("what is gone to be noticed", 60, |status| status.flows() == left)?;
    let mut scene = Scene { netns, loader, tested };
    let status = scene.rest(LIVE - gone)?;
    let account = scene.tested.account()?;
    assert_eq!(account.keys(), account.lines.len(), "none twice");
    // Some of the ends were still heard by a worker whose supervisor had just been killed.
    let of_live = account.lines.iter().filter(|line| line["zone"] == 5).count();
    assert_eq!(of_live, gone as usize, "each that ended, heard or not");
    let unheard: Vec<_> = account.lines.iter().filter(|line| line["cause"] == "restart").collect();
    assert!(unheard.len() > gone as usize / 2, "{:?}", account.causes());
    assert!(unheard.iter().all(|line| line["as_of"].is_number()));
    // A flow that was born and gone between two daemons is in no account, and none else.
    let churned = account.lines.iter().filter(|line| line["zone"] == 0).count();
    assert!(churned <= made as usize, "{churned} of {made}");
    assert!(churned >= made as usize / 4, "{churned} of {made}");
    assert_eq!(status.number("takeovers"), u64::from(ROUNDS));
    Ok(())
}

/// Sends a signal to the worker alone.
fn signal_worker(scene: &mut Scene, signal: Signal) -> io::Result<()> {
    Ok(kill(Pid::from_raw(scene.tested.worker()?), signal)?)
}

/// 300,000 destroys while the worker is stopped: every new connection is accepted.
fn stopped_worker() -> Outcome {
    const COUNT: u32 = 300_000;
    let mut scene = Scene::new(&Settings { capacity: 65_536, ..Settings::default() })?;
    scene.churn(&Flows::MIXED, 1_000, 1_000)?;
    scene.rest(0)?;
    signal_worker(&mut scene, Signal::SIGSTOP)?;
    // Each part is refused as a whole if any connection is.
    complete(&scene.loader.churn(&Flows::MIXED, 1_000..1_000 + COUNT, 1_000)?)?;
    signal_worker(&mut scene, Signal::SIGCONT)?;
    let status = scene.rest(0)?;
    let account = scene.tested.account()?;
    let lines = account.lines.len() as u64;
    assert_eq!(account.keys() as u64, lines, "none twice");
    let missing = u64::from(COUNT) + 1_000 - lines;
    assert!(missing > 0, "the valve was opened");
    told(&status, missing);
    Ok(())
}

/// The ledger has the span and a lower bound of what is missing.
fn told(status: &Status, missing: u64) {
    assert_eq!((status.number("valve_times"), status.number("valve_open")), (1, 0));
    assert!(status.number("valve_from_s") <= status.number("valve_to_s"));
    assert!(status.number("valve_to_s") <= status.number("boot_s"));
    let lost = status.number("valve_lost");
    assert!(lost > 0 && lost <= missing, "{lost} of {missing}");
    let valve = &status.0["losses"]["valve"];
    assert_eq!((&valve["bound"], valve["flows"].as_u64()), (&"at_least".into(), Some(lost)));
    let [from, to] = ["from", "to"].map(|edge| valve[edge].as_u64().unwrap_or(0));
    assert_eq!(to - from, status.number("valve_to_s") - status.number("valve_from_s"));
    assert!(from > 1_600_000_000, "since 1970: {valve}");
}

/// Ten workers that crash as soon as they are there: the kernel lets go, the eleventh waits for a
/// moment, and the ledger has what was lost meanwhile.
fn crash_loop() -> Outcome {
    const CRASHES: u32 = 10;
    const COUNT: u32 = 5_000;
    let settings = Settings { receive_buffer: 8192, ..Settings::default() };
    let mut scene = Scene::new(&settings)?;
    scene.churn(&Flows::MIXED, 100, 100)?;
    scene.rest(0)?;
    let (daemon, mut last) = (scene.tested.pid(), 0);
    let another = |last: i32| {
        measure::wait_for("another worker", 20, || {
            let worker = measure::tree(daemon).get(1).copied();
            Ok(worker.filter(|&worker| worker != last))
        })
    };
    for _ in 0..CRASHES {
        last = another(last)?;
        // Not SIGSEGV, which Rust catches, and takes for none of its own when it is sent.
        kill(Pid::from_raw(last), Signal::SIGABRT)?;
    }
    let opened =
        scene.tested.daemon.wait_for_log("crashes again and again", Duration::from_secs(5));
    assert!(opened, "{}", scene.tested.log());
    let begin = measure::now();
    complete(&scene.loader.churn(&Flows::MIXED, 100..100 + COUNT, 1_000)?)?;
    another(last)?;
    assert!(begin.elapsed() > Duration::from_millis(500), "it paused: {:?}", begin.elapsed());
    let status = scene.rest(0)?;
    assert_eq!(status.number("worker_restarts"), u64::from(CRASHES));
    let account = scene.tested.account()?;
    let lines = account.lines.len();
    assert_eq!(account.keys(), lines, "none twice");
    told(&status, u64::from(COUNT) + 100 - lines as u64);
    // And it goes on as if nothing had been.
    complete(&scene.loader.churn(&Flows { zone: 4, ..Flows::MIXED }, 0..1_000, 100)?)?;
    scene.rest(0)?;
    assert_eq!(scene.tested.account()?.lines.len(), lines + 1_000);
    Ok(())
}

/// A worker that does not read for `stall_s`: then the kernel lets go, far below the budget.
fn stalled_worker() -> Outcome {
    const COUNT: u32 = 5_000;
    let settings =
        Settings { receive_buffer: 8192, more: "[retry]\nstall_s = 2\n", ..Settings::default() };
    let mut scene = Scene::new(&settings)?;
    signal_worker(&mut scene, Signal::SIGSTOP)?;
    scene.churn(&Flows::MIXED, COUNT, 1_000)?;
    let entries = scene.loader.entries()?;
    assert!(entries > COUNT / 2, "the kernel keeps them: {entries}");
    measure::wait_for("the kernel to let go", 20, || {
        Ok((scene.loader.entries()? == 0).then_some(()))
    })?;
    signal_worker(&mut scene, Signal::SIGCONT)?;
    let status = scene.rest(0)?;
    let account = scene.tested.account()?;
    told(&status, u64::from(COUNT) - account.lines.len() as u64);
    // Reliable again: the next ones are all reported.
    let before = account.lines.len();
    complete(&scene.loader.churn(&Flows::MIXED, COUNT..2 * COUNT, 1_000)?)?;
    scene.rest(0)?;
    let events = scene.tested.account()?.lines.len() - before;
    assert!(events >= COUNT as usize, "{events}");
    Ok(())
}

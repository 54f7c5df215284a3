//! Every flow that ends is accounted once, with the packets and bytes that the hosts really sent.

mod harness;

use board_tests::daemon::{Scene, Settings, Status, Tested, tool};
use board_tests::lab::{Difference, Lab, Options, Path, Plan, records};
use board_tests::load::Flows;
use harness::Outcome;
use libtest_mimic::Trial;
use nix::sys::signal::Signal;

fn main() -> std::process::ExitCode {
    harness::run(vec![
        Trial::test("ctnetlink_destroys_are_lines_and_keys", ctnetlink_destroys),
        Trial::test("a_tuple_that_comes_again_is_another_flow", reused_tuples),
        Trial::test("real_flows_are_counted_as_the_hosts_count_them", real_flows),
        Trial::test("real_flows_through_a_small_buffer_and_a_stop", small_buffer_and_stop),
        Trial::test("counters_that_others_zero_are_a_lower_bound", zeroed_counters),
    ])
}

/// 200,000 creates and destroys in batches of 1,000: lines = distinct keys = flows made.
fn ctnetlink_destroys() -> Outcome {
    const COUNT: u32 = 200_000;
    let mut scene = Scene::new(&Settings::default())?;
    let flows = Flows::MIXED;
    scene.churn(&flows, COUNT, 1000)?;
    let status = scene.rest(0)?;
    let account = scene.tested.account()?;
    let count = COUNT as usize;
    assert_eq!(
        (account.lines.len(), account.keys(), account.tuples().len()),
        (count, count, count)
    );
    assert_eq!((account.weak(), account.causes()["event"]), (0, count));
    assert_eq!(status.losses(), []);
    assert_eq!((status.flows(), status.stat("events_destroy")), (0, COUNT.into()));
    assert_eq!(status.number("allocations_since_ready"), 0);
    Ok(())
}

/// Ten tuples, 20,000 flows: the start tells them apart.
fn reused_tuples() -> Outcome {
    const COUNT: u32 = 20_000;
    let mut scene = Scene::new(&Settings::default())?;
    let flows = Flows { distinct: 10, ..Flows::default() };
    scene.churn(&flows, COUNT, 10)?;
    let status = scene.rest(0)?;
    let account = scene.tested.account()?;
    assert_eq!((account.lines.len(), account.keys()), (COUNT as usize, COUNT as usize));
    assert_eq!(account.tuples().len(), 10);
    assert_eq!((account.weak(), account.causes()["event"]), (0, COUNT as usize));
    assert_eq!((status.losses(), status.flows()), (Vec::new(), 0));
    Ok(())
}

/// 20,000 flows of real packets through the NAT: equal flow by flow, and so in sum.
fn real_flows() -> Outcome {
    const COUNT: u32 = 20_000;
    let mut lab = Lab::new(&Options::default())?;
    // A dump every second: what it shows must be recognised as what the events told.
    let settings = Settings { capacity: 65_536, refresh_s: 1, ..Settings::default() };
    let tested = Tested::start(lab.router.netns(), &settings)?;
    let plan = Plan { response_bytes: 0..=20_000, ..Plan::of(COUNT, 9) };
    let ledger = lab.hosts.run(&plan, |_| {})?;
    lab.router.flush()?;
    let status = tested.wait("all flows to be written", 60, |status| {
        status.sink("delivered") >= COUNT.into() && status.sink("owed") == 0
    })?;
    let written = records::read_file(&tested.sink())?;
    assert_eq!(
        (written.len(), records::distinct(&written).len()),
        (COUNT as usize, COUNT as usize)
    );
    equal(&ledger.check(written.iter()))?;
    let (lan, wan) = ledger.sum();
    let sum = |side: fn(&records::Record) -> Option<board_tests::lab::Count>| {
        let counts = written.iter().filter_map(side);
        counts.fold((0, 0), |sum, count| (sum.0 + count.packets, sum.1 + count.bytes))
    };
    assert_eq!(sum(|record| record.told.orig_count), (lan.packets, lan.bytes));
    assert_eq!(sum(|record| record.told.reply_count), (wan.packets, wan.bytes));
    assert!(written.iter().all(|record| !record.weak_key && !record.inexact));
    assert!(written.iter().all(|record| record.cause.as_deref() == Some("event")));
    assert_eq!((status.losses(), status.number("allocations_since_ready")), (Vec::new(), 0));
    let (end, _) = tested.daemon.stop()?;
    assert_eq!(end.code(), Some(0));
    Ok(())
}

/// A buffer of 8 KiB that overruns all the time, and a stop in the middle: the same exactness.
fn small_buffer_and_stop() -> Outcome {
    const COUNT: u32 = 2_000;
    let mut lab = Lab::new(&Options::default())?;
    let settings = Settings { receive_buffer: 8192, refresh_s: 1, ..Settings::default() };
    let mut tested = Tested::start(lab.router.netns(), &settings)?;
    let plan = Plan { response_bytes: 0..=5_000, ..Plan::of(COUNT, 10) };
    let mut signals =
        [(COUNT / 4, Signal::SIGSTOP), (COUNT / 2, Signal::SIGCONT)].into_iter().peekable();
    let ledger = lab.hosts.run(&plan, |progress| {
        if let Some((_, signal)) = signals.next_if(|(ended, _)| progress.ended >= *ended) {
            // A daemon that has ended is told by the accounts below.
            let _ = tested.signal(signal);
        }
    })?;
    assert!(signals.next().is_none(), "it was stopped and continued");
    lab.router.flush()?;
    let status = tested.wait("all flows to be written", 60, |status| {
        status.sink("delivered") >= COUNT.into() && status.sink("owed") == 0
    })?;
    equal(&ledger.check(records::read_file(&tested.sink())?.iter()))?;
    assert!(status.stat("state_overruns") > 0 && status.stat("destroy_overruns") > 0);
    assert_eq!((status.losses(), status.number("allocations_since_ready")), (Vec::new(), 0));
    Ok(())
}

/// Another program zeroes the kernel's counters, as nlbwmon does: what was counted before is kept,
/// the record says that it is a lower bound, and the status says why.
fn zeroed_counters() -> Outcome {
    let mut lab = Lab::new(&Options::default())?;
    let settings = Settings { refresh_s: 1, ..Settings::default() };
    let tested = Tested::start(lab.router.netns(), &settings)?;
    let path = Path { ipv6: false, lan: 1, wan: 2, sport: 4000, dport: 53 };
    let flow = lab.hosts.open_udp(path)?;
    for _ in 0..5 {
        lab.hosts.udp_send(&flow, 100)?;
    }
    let dumps = |status: &Status| status.stat("dumps");
    let seen = dumps(&tested.status()?) + 2;
    tested.wait("a dump to tell five packets", 20, |status| dumps(status) >= seen)?;
    tool::conntrack(lab.router.netns(), &["-L", "-z"])?;
    for _ in 0..3 {
        lab.hosts.udp_send(&flow, 100)?;
    }
    lab.router.flush()?;
    let status = tested.wait("the record", 20, |status| status.sink("delivered") == 1)?;
    let written = records::read_file(&tested.sink())?;
    assert_eq!((written.len(), written[0].inexact), (1, true));
    let count = written[0].told.orig_count.ok_or("no counters")?;
    assert_eq!((count.packets, count.bytes), (8, 8 * 128));
    assert_eq!((status.stat("inexact_flows"), status.losses()), (1, Vec::new()));
    let text = tested.daemon.client(&["status"]).output()?.stdout;
    assert!(String::from_utf8_lossy(&text).contains("zeroes the kernel's counters"));
    Ok(())
}

fn equal(differences: &[Difference]) -> Outcome {
    let few: Vec<String> = differences.iter().take(5).map(ToString::to_string).collect();
    match differences.len() {
        0 => Ok(()),
        n => Err(format!("{n} differences, among them:\n{}", few.join("\n")).into()),
    }
}

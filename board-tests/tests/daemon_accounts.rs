//! Every flow that ends is accounted once, with the packets and bytes that the hosts really sent.

mod harness;

use board_tests::daemon::{Scene, Settings, Tested};
use board_tests::lab::{Difference, Lab, Options, Plan, records};
use board_tests::load::{Families, Flows, Transport};
use harness::Outcome;
use libtest_mimic::Trial;

fn main() -> std::process::ExitCode {
    harness::run(vec![
        Trial::test("ctnetlink_destroys_are_lines_and_keys", ctnetlink_destroys),
        Trial::test("a_tuple_that_comes_again_is_another_flow", reused_tuples),
        Trial::test("real_flows_are_counted_as_the_hosts_count_them", real_flows),
    ])
}

/// 200,000 creates and destroys in batches of 1,000: lines = distinct keys = flows made.
fn ctnetlink_destroys() -> Outcome {
    const COUNT: u32 = 200_000;
    let mut scene = Scene::new(&Settings::default())?;
    let flows = Flows { families: Families::Half, transport: Transport::Mixed, ..Flows::default() };
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

fn equal(differences: &[Difference]) -> Outcome {
    let few: Vec<String> = differences.iter().take(5).map(ToString::to_string).collect();
    match differences.len() {
        0 => Ok(()),
        n => Err(format!("{n} differences, among them:\n{}", few.join("\n")).into()),
    }
}

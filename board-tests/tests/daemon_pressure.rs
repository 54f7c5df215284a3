//! Sinks that are away for good, on a kernel with a small table: new connections are always
//! accepted, and the ledger equals what is missing.
//!
//! The kernel's maximum is the machine's, so this program is alone while it runs, as root in the
//! first network namespace; elsewhere it says so and fails.

mod harness;

use board_tests::daemon::{Scene, Settings, complete};
use board_tests::load::Flows;
use board_tests::peers::RaisedMaximum;
use harness::Outcome;
use libtest_mimic::Trial;

fn main() -> std::process::ExitCode {
    harness::run(vec![Trial::test(
        "a_collector_that_never_comes_fills_no_table",
        a_collector_that_never_comes,
    )])
}

fn a_collector_that_never_comes() -> Outcome {
    const MAXIMUM: u32 = 4_096;
    const COUNT: u32 = 60_000;
    // Nobody listens there.
    const MORE: &str = "[retry]\ncapacity = 256\n\
        [[sink]]\ntype = \"ipfix\"\ncollector = \"127.0.0.1:4739\"\nreplay_bytes = \"16KiB\"\n\
        [[sink]]\ntype = \"unix\"\npath = \"/tmp/ctd-nobody-reads.sock\"\n";
    let _maximum = RaisedMaximum::set(MAXIMUM)?;
    let mut scene = Scene::new(&Settings { more: MORE, ..Settings::default() })?;
    // A few at a time, as fast as the kernel goes: `complete` fails if any is refused.
    for part in 0..COUNT / 200 {
        complete(&scene.loader.churn(&Flows::MIXED, part * 200..(part + 1) * 200, 200)?)?;
    }
    let made = u64::from(COUNT);
    let heard = |status: &board_tests::daemon::Status| status.stat("events_destroy") >= made;
    let status = scene.tested.wait("all destroys to be read or held", 30, |status| {
        heard(status) || status.number("pressure") == 1
    })?;
    assert!(status.number("budget_passed") > 0, "{status:?}");
    // What the kernel still keeps within the budget belongs to the sum.
    let kept = u64::from(scene.loader.entries()?);
    assert!(kept <= u64::from(MAXIMUM) / 10 + 512, "{kept}");
    let status = scene.tested.status()?;
    let account = scene.tested.account()?;
    let told = account.lines.len() as u64;
    assert_eq!(account.keys() as u64, told);
    for sink in status.sinks() {
        let number = |name: &str| sink[name].as_u64().unwrap_or(u64::MAX);
        let lost: u64 = ["best_effort", "queue_policy", "dying_budget"]
            .iter()
            .map(|cause| sink["lost"][cause]["records"].as_u64().unwrap_or(u64::MAX))
            .sum();
        let sum = number("delivered") + number("owed") + lost;
        assert_eq!(sum + kept, made, "delivered + owed + lost + kept by the kernel: {sink}");
        if sink["type"] == "file" {
            assert_eq!((number("delivered"), lost), (told, 0), "a sink that works misses nothing");
        } else {
            assert_eq!(sink["lost"]["queue_policy"]["records"], 0);
            assert!(lost > 0, "{sink}");
        }
    }
    Ok(())
}

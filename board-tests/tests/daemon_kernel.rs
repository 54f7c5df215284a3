//! What the kernel, its settings and other listeners may do to the daemon, and the accounts stay
//! right.

mod harness;

use std::collections::HashSet;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use board_tests::daemon::{self, Scene, Settings, Status, Tested, complete, sink, tool};
use board_tests::lab::{Context, Netns};
use board_tests::load::{Flows, sys};
use board_tests::measure;
use board_tests::peers::bench;
use harness::Outcome;
use libtest_mimic::Trial;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn main() -> std::process::ExitCode {
    harness::run(vec![
        Trial::test("stopped_in_the_middle_of_a_flood", stopped_in_a_flood),
        Trial::test("tiny_receive_buffers_lose_no_destroy", tiny_buffers),
        Trial::test("repeats_for_another_reliable_reader_are_recognised", another_reliable_reader),
        Trial::test("a_stopped_best_effort_reader_changes_nothing", a_stopped_reader),
        Trial::test("flushes_in_the_middle_of_everything", flushes),
        Trial::test("a_full_table_accounts_every_destroy", full_table),
        Trial::test("without_counters_records_have_none", without_counters),
        Trial::test("without_timestamps_keys_are_weak", without_timestamps),
        Trial::test("without_events_what_vanished_is_found_by_dumps", without_events),
        Trial::test("settings_that_were_changed_are_restored", settings_are_restored),
        Trial::test("settings_are_left_alone_when_so_configured", settings_are_left_alone),
        Trial::test("flows_older_than_the_daemon_are_reported_once", older_flows),
        Trial::test("nobody_may_do_all_this_too", nobody_may_do_all_this_too),
    ])
}

/// Each of `count` destroyed flows once, all by their own events.
fn all_by_event(scene: &Scene, count: u32) -> Outcome {
    let account = scene.tested.account()?;
    let count = count as usize;
    assert_eq!((account.lines.len(), account.keys()), (count, count), "{:?}", account.causes());
    assert_eq!((account.causes().get("event"), account.weak()), (Some(&count), 0));
    Ok(())
}

/// The daemon's table is the kernel's: same flows, same ids.
fn same_table(scene: &Scene) -> Outcome {
    let kernel = tool::list(&scene.netns)?;
    let ids: HashSet<u64> = kernel.iter().map(|line| line.id().into()).collect();
    let flows = scene.tested.flows()?;
    let told: HashSet<u64> = flows.iter().filter_map(|flow| flow["id"].as_u64()).collect();
    let tuples: HashSet<String> = flows.iter().map(sink::tuple).collect();
    assert_eq!((flows.len(), tuples.len()), (kernel.len(), kernel.len()));
    assert_eq!(ids, told);
    Ok(())
}

/// Stopped for three seconds while flows come and go; then everything is as if it had not been.
fn stopped_in_a_flood() -> Outcome {
    const BEFORE: u32 = 10_000;
    let mut scene = Scene::new(&Settings { capacity: 131_072, ..Settings::default() })?;
    let live = Flows { zone: 9, ..Flows::MIXED };
    complete(&scene.loader.create(&live, 0..500, 500)?)?;
    scene.churn(&Flows::MIXED, BEFORE, 1000)?;
    scene.tested.signal(Signal::SIGSTOP)?;
    let mut made = BEFORE;
    let begin = measure::now();
    while begin.elapsed() < Duration::from_secs(3) {
        if made < 60_000 {
            complete(&scene.loader.churn(&Flows::MIXED, made..made + 2_000, 1000)?)?;
            made += 2_000;
        } else {
            measure::pause(20);
        }
    }
    complete(&scene.loader.create(&live, 500..1000, 500)?)?;
    complete(&scene.loader.delete(&live, 0..100, 100)?)?;
    scene.tested.signal(Signal::SIGCONT)?;
    complete(&scene.loader.churn(&Flows::MIXED, made..made + 10_000, 1000)?)?;
    made += 10_000;
    scene.rest(900)?;
    let status = scene.tested.wait("the table to be whole", 30, |status| status.flows() == 900)?;
    all_by_event(&scene, made + 100)?;
    same_table(&scene)?;
    assert!(status.stat("destroy_overruns") > 0, "the buffer ran over");
    assert_eq!((status.losses(), status.number("allocations_since_ready")), (Vec::new(), 0));
    Ok(())
}

fn tiny_buffers() -> Outcome {
    for receive_buffer in [2048, 8192] {
        const COUNT: u32 = 2_000;
        let settings = Settings { receive_buffer, more: "", ..Settings::default() };
        let mut scene = Scene::new(&settings)?;
        scene.churn(&Flows::MIXED, COUNT, 500)?;
        let status = scene.rest(0)?;
        all_by_event(&scene, COUNT)?;
        assert!(status.stat("destroy_overruns") > 0, "a buffer of {receive_buffer} is too large");
        assert_eq!(status.losses(), []);
        // What was lost on the state socket is made good by a dump.
        complete(&scene.loader.create(&Flows::MIXED, 0..1000, 1000)?)?;
        scene.tested.wait("the table to be whole", 30, |status| status.flows() == 1000)?;
        same_table(&scene)?;
    }
    Ok(())
}

/// A socket that hears all events, reliably, with the smallest buffer, and is never read.
fn stalled_reader(netns: &Netns) -> Result<std::os::fd::OwnedFd, libtest_mimic::Failed> {
    let socket = netns.run(|| {
        let open = || -> io::Result<_> {
            let socket = sys::netfilter_socket()?;
            sys::bind(&socket, 0)?;
            sys::force_receive_buffer(&socket, 2048)?;
            sys::make_reliable(&socket)?;
            for group in [sys::GROUP_NEW, sys::GROUP_UPDATE, sys::GROUP_DESTROY] {
                sys::join(&socket, group)?;
            }
            Ok(socket)
        };
        open().context("opening a reader that stalls")
    })?;
    Ok(socket)
}

/// Fewer than the daemon remembers by default, so that each repeat is recognised.
fn another_reliable_reader() -> Outcome {
    const COUNT: u32 = 4_000;
    let mut scene = Scene::new(&Settings::default())?;
    let reader = stalled_reader(&scene.netns)?;
    scene.churn(&Flows::MIXED, COUNT, 1000)?;
    let enough = |status: &Status| status.stat("repeated_destroys") > 100;
    let status = scene.tested.wait("the kernel to repeat destroys", 30, enough)?;
    assert!(status.number("other_listener_port") > 0, "the status names the cause: {status:?}");
    let text = daemon::client::ask(&scene.tested.daemon.socket(), "status text")?;
    assert!(text.contains("another program does not read its events"), "{text}");
    drop(reader);
    scene.rest(0)?;
    all_by_event(&scene, COUNT)
}

fn a_stopped_reader() -> Outcome {
    const COUNT: u32 = 20_000;
    let mut scene = Scene::new(&Settings::default())?;
    let mut command = tool::command(&scene.netns, "conntrack".as_ref(), &["-E"]);
    let mut reader = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let pid = Pid::from_raw(i32::try_from(reader.id())?);
    measure::wait_for("conntrack -E to listen", 20, || {
        let sockets = measure::netlink_sockets(&[pid.as_raw()]);
        Ok(sockets.iter().any(|socket| socket.groups != 0).then_some(()))
    })?;
    kill(pid, Signal::SIGSTOP)?;
    let churned = scene.churn(&Flows::MIXED, COUNT, 1000);
    let rest = scene.rest(0);
    reader.kill()?;
    reader.wait()?;
    churned?;
    assert_eq!(rest?.losses(), []);
    all_by_event(&scene, COUNT)
}

/// `conntrack -F` again and again while flows are made, deleted and told.
fn flushes() -> Outcome {
    let mut scene = Scene::new(&Settings::default())?;
    let mut loader = bench::loader(&scene.netns)?;
    let live = Flows { zone: 4, ..Flows::MIXED };
    let netns = &scene.netns;
    let created = std::thread::scope(|scope| {
        let flood = scope.spawn(move || -> io::Result<u64> {
            let mut created = 0;
            for n in 0..40 {
                let part = n * 1000..(n + 1) * 1000;
                created += loader.create(&live, part.clone(), 500)?.created;
                created += loader.churn(&Flows::MIXED, part, 500)?.created;
            }
            Ok(created)
        });
        let mut flushed = Ok(String::new());
        while !flood.is_finished() && flushed.is_ok() {
            flushed = tool::conntrack(netns, &["-F"]);
        }
        let created = flood.join().unwrap_or_else(|_| Err(io::Error::other("panic")));
        flushed.and(created)
    })?;
    tool::conntrack(&scene.netns, &["-F"])?;
    let status = scene.rest(0)?;
    assert_eq!((created, status.losses(), status.flows()), (80_000, Vec::new(), 0));
    all_by_event(&scene, 80_000)
}

/// Room for 16 of 5,000 flows: the rest is counted, and accounted from its destroys alone.
fn full_table() -> Outcome {
    const COUNT: u32 = 5_000;
    let mut scene = Scene::new(&Settings { capacity: 16, ..Settings::default() })?;
    complete(&scene.loader.create(&Flows::default(), 0..COUNT, 1000)?)?;
    scene.rest(COUNT)?;
    // Without privileges the receive buffer is small: what did not fit is learnt by the resync.
    let refused = u64::from(COUNT) - 16;
    let every = |status: &Status| status.ledger("table_full") >= refused;
    let status = scene.tested.wait("every other flow to be refused", 60, every)?;
    assert_eq!((status.flows(), status.number("table_capacity")), (16, 16));
    assert_eq!(
        (status.number("table_permille"), status.number("kernel_flows")),
        (1000, COUNT.into())
    );
    assert_eq!(scene.tested.flows()?.len(), 16);
    complete(&scene.loader.delete(&Flows::default(), 0..COUNT, 1000)?)?;
    let status = scene.rest(0)?;
    assert_eq!((status.flows(), status.number("allocations_since_ready")), (0, 0));
    assert_eq!(status.number("table_peak_permille"), 1000);
    all_by_event(&scene, COUNT)?;
    // There is room again.
    complete(&scene.loader.create(&Flows::default(), 0..10, 10)?)?;
    assert_eq!(scene.rest(10)?.flows(), 10);
    Ok(())
}

/// A scene whose daemon leaves this setting of the kernel off.
fn scene_without(setting: &str) -> io::Result<Scene> {
    let (netns, loader) = bench::place()?;
    let key = format!("net.netfilter.nf_conntrack_{setting}");
    netns.set_sysctl(&key, "0").map_err(io::Error::other)?;
    let settings = Settings { manage_sysctls: false, refresh_s: 1, ..Settings::default() };
    let tested = Tested::start(&netns, &settings)?;
    Ok(Scene { netns, loader, tested })
}

fn without_counters() -> Outcome {
    let mut scene = scene_without("acct")?;
    scene.churn(&Flows::MIXED, 1000, 1000)?;
    assert_eq!(scene.rest(0)?.losses(), []);
    all_by_event(&scene, 1000)?;
    let account = scene.tested.account()?;
    let counted = |line: &serde_json::Value, side| line[side].get("packets").is_some();
    assert!(account.lines.iter().all(|line| !counted(line, "orig") && !counted(line, "reply")));
    assert!(scene.tested.log().contains("nf_conntrack_acct is 0"), "{}", scene.tested.log());
    Ok(())
}

/// Without a start nothing tells a repeat from another flow: each is reported and marked.
fn without_timestamps() -> Outcome {
    let mut scene = scene_without("timestamp")?;
    let flows = Flows { distinct: 100, ..Flows::MIXED };
    scene.churn(&flows, 1000, 100)?;
    let status = scene.rest(0)?;
    let account = scene.tested.account()?;
    assert_eq!((account.lines.len(), account.weak(), account.tuples().len()), (1000, 1000, 100));
    assert!(account.lines.iter().all(|line| line.get("start").is_none()));
    assert_eq!((status.losses(), status.stat("weak_keys")), (Vec::new(), 1000));
    assert!(scene.tested.log().contains("nf_conntrack_timestamp is 0"), "{}", scene.tested.log());
    Ok(())
}

fn without_events() -> Outcome {
    let mut scene = scene_without("events")?;
    let status = scene.tested.status()?;
    assert_eq!(status.0["events"], "none", "the self-test found out");
    complete(&scene.loader.create(&Flows::MIXED, 0..1000, 1000)?)?;
    scene.tested.wait("dumps to show the flows", 20, |status| status.flows() == 1000)?;
    same_table(&scene)?;
    complete(&scene.loader.delete(&Flows::MIXED, 0..500, 500)?)?;
    let gone = |status: &Status| status.sink("delivered") >= 500;
    let status = scene.tested.wait("dumps to miss the flows", 30, gone)?;
    assert_eq!((status.flows(), status.stat("events_destroy")), (500, 0));
    assert_eq!(status.losses(), [("vanished_unseen".to_owned(), 500)]);
    let account = scene.tested.account()?;
    assert_eq!((account.lines.len(), account.keys(), account.weak()), (500, 500, 0));
    assert_eq!(account.causes().get("resync"), Some(&500));
    assert!(account.lines.iter().all(|line| line["as_of"].is_number()), "as of when is told");
    assert!(scene.tested.log().contains("no events come"), "{}", scene.tested.log());
    Ok(())
}

const MANAGED: [&str; 3] = ["events", "acct", "timestamp"];

fn switch_off(netns: &Netns) -> Outcome {
    for name in MANAGED {
        netns.set_sysctl(&format!("net.netfilter.nf_conntrack_{name}"), "0")?;
    }
    Ok(())
}

fn settings_are_restored() -> Outcome {
    let (netns, loader) = bench::place()?;
    switch_off(&netns)?;
    let tested = Tested::start(&netns, &Settings::default())?;
    let mut scene = Scene { netns, loader, tested };
    for round in 1..=2_u64 {
        for name in MANAGED {
            let key = format!("net.netfilter.nf_conntrack_{name}");
            assert_eq!(scene.netns.sysctl(&key)?, "1", "{key} in round {round}");
        }
        scene.churn(&Flows::MIXED, 100, 100)?;
        scene.rest(0)?;
        all_by_event(&scene, 100 * u32::try_from(round)?)?;
        if round == 1 {
            switch_off(&scene.netns)?;
            let restored = |status: &Status| status.stat("settings_restored") == 3;
            scene.tested.wait("the settings to be restored", 20, restored)?;
        }
    }
    let log = scene.tested.log();
    for name in MANAGED {
        let line = format!("nf_conntrack_{name} was 0, set to 1");
        assert_eq!(log.matches(&line).count(), 2, "at start and later: {log}");
    }
    Ok(())
}

/// With `manage_sysctls = false` they are told of, and stay as they are.
fn settings_are_left_alone() -> Outcome {
    let (netns, _loader) = bench::place()?;
    switch_off(&netns)?;
    let settings = Settings { manage_sysctls: false, ..Settings::default() };
    let tested = Tested::start(&netns, &settings)?;
    let status = tested.status()?;
    for name in MANAGED {
        assert_eq!(netns.sysctl(&format!("net.netfilter.nf_conntrack_{name}"))?, "0");
        assert_eq!(status.number(&format!("kernel_{name}")), 0);
        let line = format!("<4>firmware-ctd: nf_conntrack_{name} is 0");
        assert!(tested.log().contains(&line), "{}", tested.log());
    }
    assert_eq!(status.stat("settings_restored"), 0);
    Ok(())
}

/// Flows that were made while `nf_conntrack_events` was 0 never tell their end. (With 2, the
/// default, and nobody listening it is the same; but the kernel asks whether anybody listens in
/// any namespace, and other tests do.)
fn older_flows() -> Outcome {
    let (netns, mut loader) = bench::place()?;
    netns.set_sysctl("net.netfilter.nf_conntrack_events", "0")?;
    complete(&loader.create(&Flows::MIXED, 0..300, 300)?)?;
    let settings = Settings { refresh_s: 1, ..Settings::default() };
    let tested = Tested::start(&netns, &settings)?;
    let mut scene = Scene { netns, loader, tested };
    scene.tested.wait("the first dump", 20, |status| status.flows() == 300)?;
    same_table(&scene)?;
    complete(&scene.loader.delete(&Flows::MIXED, 0..200, 200)?)?;
    scene.churn(&Flows { zone: 3, ..Flows::MIXED }, 100, 100)?;
    scene.tested.wait("what vanished to be told", 30, |status| status.flows() == 100)?;
    // Two more dumps must not tell it again.
    let dumps = scene.tested.status()?.stat("dumps");
    let status =
        scene.tested.wait("two more dumps", 20, |status| status.stat("dumps") > dumps + 2)?;
    let account = scene.tested.account()?;
    assert_eq!((account.lines.len(), account.keys(), account.weak()), (300, 300, 0));
    assert_eq!((account.causes()["resync"], account.causes()["event"]), (200, 100));
    assert_eq!(status.losses(), [("vanished_unseen".to_owned(), 200)]);
    Ok(())
}

/// Root runs all the other tests once more as `nobody`; for anybody else they just did.
fn nobody_may_do_all_this_too() -> Outcome {
    const NOBODY: u32 = 65_534;
    let map = std::fs::read_to_string("/proc/self/uid_map")?;
    if map.split_whitespace().nth(1) != Some("0") || !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let directory = tempfile::tempdir()?;
    std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755))?;
    let (copy, daemon) = (directory.path().join("tests"), directory.path().join("firmware-ctd"));
    std::fs::copy(std::env::current_exe()?, &copy)?;
    std::fs::copy(daemon::binary()?, &daemon)?;
    let mut command = Command::new(copy);
    command.uid(NOBODY).gid(NOBODY).current_dir("/").env("FIRMWARE_CTD", daemon);
    let output = command.args(["--skip", "nobody_may"]).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    if output.status.success() && text.contains("12 passed") {
        return Ok(());
    }
    Err(format!("as nobody: {}\n{text}", String::from_utf8_lossy(&output.stderr)).into())
}

//! The commands that ask a running daemon: what people and programs get to see.

mod harness;

use std::collections::{HashMap, HashSet};
use std::process::Output;

use board_tests::daemon::{Scene, Settings, Tested, binary, complete, tool};
use board_tests::lab::Netns;
use board_tests::load::Flows;
use board_tests::peers::bench;
use harness::Outcome;
use libtest_mimic::{Failed, Trial};
use serde_json::Value;

fn main() -> std::process::ExitCode {
    harness::run(vec![
        Trial::test("status_fits_a_terminal", status_fits_a_terminal),
        Trial::test("status_is_the_same_in_every_form", status_in_every_form),
        Trial::test("flows_are_bounded_filtered_and_whole", flows_are_bounded),
        Trial::test("the_socket_is_for_its_group", socket_is_for_its_group),
        Trial::test("selftest_tells_what_the_kernel_can_do", selftest),
    ])
}

/// Standard output of a command that must go well.
fn said(tested: &Tested, arguments: &[&str]) -> Result<String, Failed> {
    let output = tested.daemon.client(arguments).output()?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), stderr.as_ref()), (Some(0), ""), "{arguments:?}");
    Ok(String::from_utf8(output.stdout)?)
}

/// After a flood with overruns and a full table, so that many counters are told.
fn status_fits_a_terminal() -> Outcome {
    let settings = Settings {
        receive_buffer: 8192,
        capacity: 16,
        manage_sysctls: false,
        ..Settings::default()
    };
    let mut scene = Scene::new(&settings)?;
    scene.churn(&Flows::MIXED, 1000, 500)?;
    scene.rest(0)?;
    complete(&scene.loader.create(&Flows::MIXED, 0..100, 100)?)?;
    scene.tested.wait("the table to be full", 30, |status| status.ledger("table_full") > 0)?;
    scene.netns.set_sysctl("net.netfilter.nf_conntrack_timestamp", "0")?;
    let text = said(&scene.tested, &["status"])?;
    let path = scene.tested.sink().display().to_string();
    for line in text.lines().filter(|line| !line.contains(&path)) {
        assert!(line.chars().count() <= 80, "{line}");
    }
    for word in ["events   reliable", "1000 delivered", "destroy_overruns", "table_full", "WARNING"]
    {
        assert!(text.contains(word), "{word} in\n{text}");
    }
    Ok(())
}

/// Prometheus' lines: name, labels and value.
fn metrics(text: &str) -> Result<HashMap<String, f64>, Failed> {
    let mut metrics = HashMap::new();
    let mut typed = HashSet::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').ok_or("no type")?;
            assert!(["counter", "gauge"].contains(&kind), "{line}");
            assert!(typed.insert(name.to_owned()), "typed twice: {line}");
        } else if !line.starts_with("# HELP ") {
            let (name, value) = line.rsplit_once(' ').ok_or_else(|| format!("no value: {line}"))?;
            let bare = name.split('{').next().unwrap_or(name);
            assert!(bare.starts_with("firmware_ctd_") && typed.contains(bare), "no type: {line}");
            assert!(metrics.insert(name.to_owned(), value.parse()?).is_none(), "twice: {line}");
        }
    }
    Ok(metrics)
}

fn status_in_every_form() -> Outcome {
    let mut scene = Scene::new(&Settings::default())?;
    scene.churn(&Flows::MIXED, 100, 100)?;
    complete(&scene.loader.create(&Flows::MIXED, 0..40, 40)?)?;
    scene.rest(40)?;
    let json: Value = serde_json::from_str(&said(&scene.tested, &["status", "--json"])?)?;
    let metrics = metrics(&said(&scene.tested, &["status", "--prometheus"])?)?;
    let told = |name: &str| metrics.get(&format!("firmware_ctd_{name}")).copied();
    assert_eq!((told("flows_ipv4"), told("flows_ipv6")), (Some(20.0), Some(20.0)));
    assert_eq!(told("events_destroy_total"), Some(100.0));
    assert_eq!(told("events_reliable"), Some(1.0));
    let sink = format!("sink_delivered_total{{sink=\"{}\"}}", scene.tested.sink().display());
    assert_eq!(told(&sink), Some(100.0));
    for (part, prefix) in [("stats", ""), ("ledger", "ledger_")] {
        for (name, value) in json[part].as_object().ok_or("no object")? {
            assert_eq!(told(&format!("{prefix}{name}_total")), value.as_f64(), "{part}.{name}");
        }
    }
    let losses = json["losses"].as_object().ok_or("no losses")?;
    let bounds = [
        ("best_effort", "exact"),
        ("queue_policy", "exact"),
        ("dying_budget", "exact"),
        ("sink_removed", "exact"),
        ("valve", "at_least"),
        ("unheard", "at_least"),
        ("power_cut", "at_least"),
        ("vanished_unseen", "at_least"),
        ("malformed", "at_most"),
        ("truncated", "at_most"),
        ("table_full", "at_most"),
    ];
    assert_eq!(losses.len(), bounds.len(), "{losses:?}");
    for (cause, bound) in bounds {
        assert_eq!((&losses[cause]["bound"], &losses[cause]["flows"]), (&bound.into(), &0.into()));
        let labels = format!("loss_flows_total{{cause=\"{cause}\",bound=\"{bound}\"}}");
        assert_eq!(told(&labels), Some(0.0), "{cause}");
    }
    Ok(())
}

fn flows_are_bounded() -> Outcome {
    const LIVE: u32 = 3_000;
    let mut scene = Scene::new(&Settings::default())?;
    complete(&scene.loader.create(&Flows::MIXED, 0..LIVE, 500)?)?;
    complete(&scene.loader.create(&Flows { zone: 9, mark: 7, ..Flows::MIXED }, 0..8, 8)?)?;
    scene.rest(LIVE + 8)?;
    scene.tested.wait("all flows", 30, |status| status.flows() == u64::from(LIVE) + 8)?;
    let text = said(&scene.tested, &["flows"])?;
    assert_eq!(text.lines().count(), 1001);
    assert!(text.ends_with("(the first 1000 of 3008 flows; --all shows all)\n"), "{text}");
    assert_eq!(said(&scene.tested, &["flows", "--json"])?.lines().count(), 1000);
    let all = said(&scene.tested, &["flows", "--json", "--all"])?;
    let flows: HashSet<&str> = all.lines().collect();
    assert_eq!((all.lines().count(), flows.len()), (3008, 3008));
    for line in all.lines() {
        assert_eq!(serde_json::from_str::<Value>(line)?["type"], "flow");
    }
    let count = |filter: &[&str]| -> Result<usize, Failed> {
        let arguments = [&["flows", "--all"], filter].concat();
        Ok(said(&scene.tested, &arguments)?.lines().count())
    };
    assert_eq!(count(&["zone=9"])?, 8);
    assert_eq!(count(&["zone=9", "proto=tcp", "family=6"])?, 2);
    assert_eq!(count(&["mark=7", "state=established"])?, 4);
    assert_eq!(count(&["dport=53"])?, 1504);
    assert_eq!(count(&["src=10.0.0.0/8"])?, 1504);
    assert_eq!(count(&["zone=77"])?, 0);
    let output = scene.tested.daemon.client(&["flows", "proto=carrier-pigeon"]).output()?;
    assert_eq!(output.status.code(), Some(64));
    Ok(())
}

fn socket_is_for_its_group() -> Outcome {
    use std::os::unix::fs::PermissionsExt;
    let scene = Scene::new(&Settings::default())?;
    let mode = std::fs::metadata(scene.tested.daemon.socket())?.permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    Ok(())
}

fn run_selftest(netns: &Netns, arguments: &[&str]) -> Result<Output, Failed> {
    let arguments = [&["selftest"], arguments].concat();
    Ok(tool::command(netns, &binary()?, &arguments).output()?)
}

fn selftest() -> Outcome {
    let (netns, _) = bench::place()?;
    let output = run_selftest(&netns, &["--json"])?;
    let told: Value = serde_json::from_slice(&output.stdout)?;
    assert_eq!(output.status.code(), Some(0), "{told}");
    assert_eq!((&told["events"], &told["counters"]), (&"reliable".into(), &true.into()));
    let max = std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_max")?;
    assert_eq!(told["max"].as_u64(), max.trim().parse().ok());
    // The kernel still repeats the ends of that one's probes: they are not taken for events.
    netns.set_sysctl("net.netfilter.nf_conntrack_events", "0")?;
    let output = run_selftest(&netns, &["--json"])?;
    let told: Value = serde_json::from_slice(&output.stdout)?;
    assert_eq!((output.status.code(), &told["events"]), (Some(69), &"none".into()));
    // In a namespace where nothing was made or told before.
    let netns = Netns::new()?;
    netns.set_sysctl("net.netfilter.nf_conntrack_events", "0")?;
    let output = run_selftest(&netns, &[])?;
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(69), "{text}");
    assert!(text.contains("events        none") && text.contains("nf_conntrack_events is 0"));
    assert!(text.contains("counters      no") && text.contains("timestamps    no"), "{text}");
    Ok(())
}

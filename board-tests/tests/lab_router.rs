//! The lab itself: the router translates, and the kernel counts what the hosts sent.
//!
//! Harness of its own, since the user namespace must be entered before any thread runs.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path as FilePath;
use std::process::{Command, Stdio};
use std::time::Duration;

use board_tests::lab::ctnetlink::{Heard, Kind};
use board_tests::lab::{
    Difference, Lab, Ledger, Options, Path, Phy, Plan, Proto, Side, Told, Tuple, enter,
};
use libtest_mimic::{Arguments, Conclusion, Failed, Trial};

type Outcome = Result<(), Failed>;

fn main() -> std::process::ExitCode {
    let arguments = Arguments::from_args();
    match enter() {
        Ok(()) => libtest_mimic::run(&arguments, tests()).exit_code(),
        Err(error) => Conclusion::from_error(&arguments, &error.to_string()),
    }
}

/// Every test fails, with the reason, where the machine forbids the lab.
trait FromError {
    fn from_error(arguments: &Arguments, message: &str) -> std::process::ExitCode;
}

impl FromError for Conclusion {
    fn from_error(arguments: &Arguments, message: &str) -> std::process::ExitCode {
        let refused = message.to_owned();
        let trial = Trial::test("namespaces_are_allowed", move || Err(refused.into()));
        libtest_mimic::run(arguments, vec![trial]).exit_code()
    }
}

fn tests() -> Vec<Trial> {
    vec![
        Trial::test("masquerade_translates_ipv4_only", masquerade_translates_ipv4_only),
        Trial::test("masquerade_resolves_clashing_ports", masquerade_resolves_clashing_ports),
        Trial::test("echoes_are_tracked", echoes_are_tracked),
        Trial::test("connection_is_counted_to_the_last_ack", connection_is_counted),
        Trial::test("reset_and_silence_leave_flows_behind", reset_and_silence),
        Trial::test("table_equals_hosts_over_veth", || table_equals_hosts(Phy::Veth)),
        Trial::test("table_equals_hosts_over_tap", table_equals_hosts_over_tap),
        Trial::test("destroys_equal_hosts", destroys_equal_hosts),
        Trial::test("check_finds_every_kind_of_difference", check_finds_differences),
        Trial::test("labs_do_not_see_each_other", labs_do_not_see_each_other),
        Trial::test("program_runs_in_the_router_and_ends_with_its_guard", program_is_guarded),
        Trial::test("timeouts_are_adjustable", timeouts_are_adjustable),
        Trial::test("nobody_may_do_all_this_too", nobody_may_do_all_this_too),
    ]
}

const fn path(ipv6: bool) -> Path {
    Path { ipv6, lan: 1, wan: 2, sport: 4000, dport: 53 }
}

fn lab() -> Result<Lab, Failed> {
    let lab = Lab::new(&Options::default())?;
    lab.router.account()?;
    Ok(lab)
}

/// The one flow of the router's table.
fn only_flow(lab: &mut Lab) -> Result<Told, Failed> {
    match lab.router.dump()?.as_slice() {
        [entry] => Ok(entry.into()),
        entries => Err(format!("one flow was made, the table has {}", entries.len()).into()),
    }
}

fn masquerade_translates_ipv4_only() -> Outcome {
    for (ipv6, outside) in [(false, "198.51.100.1:4000"), (true, "[2001:db8:1::3]:4000")] {
        let mut lab = lab()?;
        let flow = lab.hosts.open_udp(path(ipv6))?;
        lab.hosts.udp_send(&flow, 100)?;
        lab.hosts.udp_reply(&flow, 500)?;
        let told = only_flow(&mut lab)?;
        assert_eq!(told.orig, path(ipv6).tuple(Proto::Udp));
        assert_eq!(told.reply.dst, outside.parse::<SocketAddr>()?);
        // 100 and 500 bytes of payload, 8 of UDP, 20 or 40 of IP.
        let header = if ipv6 { 48 } else { 28 };
        let (orig, reply) = (told.orig_count.ok_or("no counts")?, told.reply_count.ok_or("none")?);
        assert_eq!((orig.packets, orig.bytes), (1, 100 + header));
        assert_eq!((reply.packets, reply.bytes), (1, 500 + header));
        let seen = lab.hosts.at_lan(&path(ipv6), Proto::Udp);
        assert_eq!((seen.sent, seen.received), (orig, reply));
    }
    Ok(())
}

fn masquerade_resolves_clashing_ports() -> Outcome {
    let mut lab = lab()?;
    let paths = [1, 2].map(|lan| Path { lan, ..path(false) });
    for path in paths {
        let flow = lab.hosts.open_udp(path)?;
        lab.hosts.udp_send(&flow, 64)?;
        lab.hosts.udp_reply(&flow, 65)?;
        lab.hosts.close_udp(flow);
        let seen = lab.hosts.at_lan(&path, Proto::Udp);
        assert_eq!((seen.sent.packets, seen.received.packets), (1, 1));
    }
    let replies: Vec<Tuple> = lab.router.dump()?.iter().map(|entry| entry.reply).collect();
    assert_eq!(replies.len(), 2);
    assert_ne!(replies[0].dst.port(), replies[1].dst.port());
    Ok(())
}

fn echoes_are_tracked() -> Outcome {
    for ipv6 in [false, true] {
        let mut lab = lab()?;
        lab.hosts.ping(&path(ipv6), 56)?;
        lab.hosts.ping(&path(ipv6), 56)?;
        let told = only_flow(&mut lab)?;
        assert_eq!(told.orig, path(ipv6).tuple(path(ipv6).echo()));
        let bytes = 2 * (56 + 8 + if ipv6 { 40 } else { 20 });
        for count in [told.orig_count, told.reply_count] {
            let count = count.ok_or("no counts")?;
            assert_eq!((count.packets, count.bytes), (2, bytes));
        }
    }
    Ok(())
}

fn connection_is_counted() -> Outcome {
    for ipv6 in [false, true] {
        let mut lab = lab()?;
        let flow = lab.hosts.open_tcp(path(ipv6))?;
        lab.hosts.transfer(&flow, 10_000, 100_000)?;
        lab.hosts.close_tcp(flow)?;
        lab.hosts.settle()?;
        let told = only_flow(&mut lab)?;
        let seen = lab.hosts.at_lan(&path(ipv6), Proto::Tcp);
        assert_eq!(told.orig_count, Some(seen.sent));
        assert_eq!(told.reply_count, Some(seen.received));
        assert!(seen.sent.bytes > 10_000 && seen.received.bytes > 100_000);
        let [entry] = lab.router.dump()?[..] else { return Err("one flow".into()) };
        assert_eq!(entry.tcp_state, Some(7), "both FINs were seen: TIME_WAIT");
    }
    Ok(())
}

fn reset_and_silence() -> Outcome {
    let mut lab = lab()?;
    let reset = lab.hosts.open_tcp(path(false))?;
    lab.hosts.abort_tcp(reset)?;
    let silent = lab.hosts.open_tcp(Path { sport: 4001, ..path(false) })?;
    lab.hosts.transfer(&silent, 20, 20)?;
    lab.hosts.drop_tcp(silent);
    let mut states: Vec<_> =
        lab.router.dump()?.iter().map(|e| (e.orig.src.port(), e.tcp_state)).collect();
    states.sort_unstable();
    assert_eq!(states, [(4000, Some(8)), (4001, Some(3))], "CLOSE and ESTABLISHED");
    Ok(())
}

/// 2,000 flows: the kernel's table is the hosts' ledger, flow by flow.
fn table_equals_hosts(phy: Phy) -> Outcome {
    let mut lab = Lab::new(&Options { phy, ..Options::default() })?;
    lab.router.account()?;
    let plan = Plan::of(2000, 1);
    let ledger = lab.hosts.run(&plan, |_| {})?;
    assert_mix(&ledger, &plan);
    let table = lab.router.dump()?;
    assert_equal(&ledger, table.iter().map(Told::from))?;
    assert_eq!(lab.router.count()?, 2000);
    assert_eq!(lab.router.invalid()?, 0);
    for side in [Side::Lan, Side::Wan] {
        let stats = lab.router.link_stats(side)?;
        assert_eq!((stats.receive_dropped, stats.send_dropped), (0, 0));
    }
    Ok(())
}

fn table_equals_hosts_over_tap() -> Outcome {
    let tun = FilePath::new("/dev/net/tun");
    let may_open = std::fs::File::options().read(true).write(true).open(tun);
    match (may_open, table_equals_hosts(Phy::Tap)) {
        (Ok(_), outcome) => outcome,
        // Where the device is closed to this user the lab must say so, and name it.
        (Err(_), Err(failed)) if failed.message().is_some_and(|m| m.contains("/dev/net/tun")) => {
            Ok(())
        }
        (Err(error), _) => Err(format!("no clear refusal without /dev/net/tun: {error}").into()),
    }
}

/// The plan was really carried out: every kind of flow, both families, real sizes.
fn assert_mix(ledger: &Ledger, plan: &Plan) {
    let count = |wanted: fn(&Tuple) -> bool| {
        ledger.flows.iter().filter(|flow| wanted(&flow.orig)).fold(0_u32, |sum, _| sum + 1)
    };
    assert_eq!(count(|t| t.proto == Proto::Tcp), plan.tcp_flows);
    assert_eq!(count(|t| t.proto == Proto::Udp), plan.udp_flows);
    assert_eq!(count(|t| t.proto.is_icmp()), plan.icmp_flows);
    assert!(count(|t| t.src.is_ipv6()) > plan.flows() / 5);
    assert!(count(|t| t.proto == Proto::Icmpv6) > 0);
    let moved = ledger.flows.iter().filter(|f| f.orig.src.port() != f.reply.dst.port()).count();
    assert!(moved > 0, "some clashing port was translated");
    let (up, down) = ledger.sum();
    assert!(up.packets > 4 * u64::from(plan.flows()) && down.bytes > 1000 * down.packets / 10);
}

fn assert_equal(ledger: &Ledger, told: impl Iterator<Item = Told>) -> Outcome {
    let differences = ledger.check(told);
    let few: Vec<String> = differences.iter().take(5).map(ToString::to_string).collect();
    match differences.len() {
        0 => Ok(()),
        n => Err(format!("{n} differences, among them:\n{}", few.join("\n")).into()),
    }
}

/// The destroy events of a flush tell the same, with start and stop.
fn destroys_equal_hosts() -> Outcome {
    let mut lab = lab()?;
    let mut listener = lab.router.listen(&[Kind::Destroy])?;
    let ledger = lab.hosts.run(&Plan::of(1000, 2), |_| {})?;
    lab.router.flush()?;
    let all = |heard: &Heard| heard.entries.len() >= 1000;
    let heard = listener.listen(Duration::from_secs(5), all)?;
    assert_equal(&ledger, heard.entries.iter().map(|(_, entry)| entry.into()))?;
    assert_eq!((heard.other, lab.router.count()?), (0, 0));
    assert!(heard.entries.iter().all(|(kind, e)| *kind == Kind::Destroy && e.start_ns < e.stop_ns));
    Ok(())
}

fn check_finds_differences() -> Outcome {
    let mut lab = lab()?;
    let ledger = lab.hosts.run(&Plan::of(20, 3), |_| {})?;
    let mut told: Vec<Told> = lab.router.dump()?.iter().map(Told::from).collect();
    assert_eq!(ledger.check(told.iter().copied()), []);
    let [missing, miscounted, moved, twice, strange] = [0, 1, 2, 3, 4].map(|n| told[n].orig);
    told[1].reply_count.as_mut().ok_or("no counts")?.bytes += 1;
    told[2].reply.dst.set_port(1);
    told[4].orig.src.set_port(1);
    told.push(told[3]);
    told.remove(0);
    let differences = ledger.check(told);
    let has =
        |wanted: &dyn Fn(&Difference) -> bool| differences.iter().filter(|d| wanted(d)).count();
    assert_eq!(differences.len(), 6);
    assert_eq!(has(&|d| *d == Difference::Missing(missing)), 1);
    assert_eq!(has(&|d| *d == Difference::Missing(strange)), 1);
    assert_eq!(has(&|d| *d == Difference::Repeated(twice)), 1);
    assert_eq!(has(&|d| matches!(d, Difference::Unknown(t) if t.src.port() == 1)), 1);
    assert_eq!(has(&|d| matches!(d, Difference::Reply { orig, .. } if *orig == moved)), 1);
    let counts = |d: &Difference| matches!(d, Difference::Counts { orig, reply: true, .. } if *orig == miscounted);
    assert_eq!(has(&counts), 1);
    Ok(())
}

fn labs_do_not_see_each_other() -> Outcome {
    let (mut one, mut two) = (lab()?, lab()?);
    let flow = one.hosts.open_udp(path(false))?;
    one.hosts.udp_send(&flow, 20)?;
    assert_eq!((one.router.count()?, two.router.count()?), (1, 0));
    assert_eq!(two.router.dump()?, []);
    Ok(())
}

fn program_is_guarded() -> Outcome {
    let lab = lab()?;
    let here = std::fs::read_link("/proc/self/ns/net")?;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("--help").stdout(Stdio::null());
    assert!(lab.router.spawn(&mut command)?.wait(Duration::from_secs(10))?.is_some());
    let mut sleeper = Command::new("sleep");
    let guard = lab.router.spawn(sleeper.arg("600"))?;
    let process = format!("/proc/{}", guard.pid());
    assert_ne!(std::fs::read_link(format!("{process}/ns/net"))?, here);
    drop(guard);
    assert!(!FilePath::new(&process).exists(), "killed and waited for");
    Ok(())
}

fn timeouts_are_adjustable() -> Outcome {
    let mut lab = lab()?;
    lab.router.short_timeouts(1)?;
    let mut listener = lab.router.listen(&[Kind::Destroy])?;
    let plan = Plan { concurrency: 50, ..Plan::of(50, 4) };
    let ledger = lab.hosts.run(&plan, |_| {})?;
    let mut ended = Vec::new();
    for _ in 0..100 {
        // A dump makes the kernel remove what has timed out.
        lab.router.dump()?;
        let heard =
            listener.listen(Duration::from_millis(100), |heard| heard.entries.len() >= 50)?;
        ended.extend(heard.entries.iter().map(|(_, entry)| Told::from(entry)));
        if ended.len() >= 50 {
            break;
        }
    }
    assert_equal(&ledger, ended.into_iter())
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
    let copy = directory.path().join("lab");
    std::fs::copy(std::env::current_exe()?, &copy)?;
    let mut command = Command::new(copy);
    command.uid(NOBODY).gid(NOBODY).current_dir("/").args(["--skip", "nobody_may"]);
    let output = command.output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    if output.status.success() && text.contains("12 passed") {
        return Ok(());
    }
    Err(format!("as nobody: {}\n{text}", String::from_utf8_lossy(&output.stderr)).into())
}

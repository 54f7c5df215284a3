//! Flows of every kind are saved from a real kernel's table, the table is flushed, and the kernel
//! is given them back: it must have them as they were, field by field, and translate their
//! packets.

mod harness;
mod kinds;

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use board_tests::daemon::requests::Requests;
use board_tests::daemon::saved::{self, Saved};
use board_tests::daemon::tool;
use board_tests::lab::{Context, Lab, LabError, Netns, Options, Path, loopback_up};
use board_tests::load::Flows;
use board_tests::measure;
use board_tests::peers::bench;
use firmware_ctd::checkpoint::SavedFlow;
use firmware_ctd::daemon::restore::{self, Outcome as Restored, Plan};
use firmware_ctd::daemon::sys::unacknowledged;
use firmware_ctd::restore::{Capacity, Refusal, Timeouts};
use firmware_ctd::wire::{Conntrack, Helper, L4, ProtoInfo, Protocol, Status, Tuple};
use harness::Outcome;
use kinds::{
    Nat, RULES, SLACK_S, all_kinds, others, plain, ports, same_shown, shown, translated, tuple,
};
use libtest_mimic::{Failed, Trial};

fn main() -> std::process::ExitCode {
    harness::run(vec![
        Trial::test("flows_of_every_kind_come_back_as_they_were", every_kind),
        Trial::test("live_flows_win", live_flows_win),
        Trial::test("what_a_full_table_refuses_is_known", full_table),
        Trial::test("a_helper_that_is_missing_is_left_out", missing_helper),
        Trial::test("children_come_after_masters_or_alone", masters_and_children),
        Trial::test("timeouts_are_aged_and_capped", aged_and_capped),
        Trial::test("flows_offloaded_at_the_checkpoint_get_state_and_timeout", offloaded),
        Trial::test("packets_of_restored_flows_are_translated", packets_are_translated),
        Trial::test("an_expectation_of_ftp_comes_back_and_is_met", ftp),
    ])
}

// --- restoring -----------------------------------------------------------------------------------

/// Nothing is subtracted, and nothing is cut off.
const AS_SAVED: Timeouts = Timeouts { age_s: 0, cap_s: u32::MAX };

/// Restores; how it went, and the places of the flows that were refused.
fn restore(
    netns: &Netns,
    saved: &Saved,
    timeouts: Timeouts,
) -> Result<(Restored, Vec<u32>), LabError> {
    let count = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
    let capacity =
        Capacity { flows: count(saved.flows.len()), expectations: count(saved.expectations.len()) };
    let mut refused = Vec::new();
    let restored = netns.run(|| {
        let plan = Plan { capacity, timeouts };
        restore::restore(&mut saved.clone(), &plan, &mut |_| {}, &mut |index| refused.push(index))
            .map_err(|failure| io::Error::other(format!("{failure:?}")))
            .context("restoring")
    })?;
    Ok((restored, refused))
}

fn flush(netns: &Netns) -> io::Result<()> {
    bench::loader(netns)?.flush()
}

/// A saved flow as it should be found after a restore: what belongs to the kernel's own flow is
/// left out.
fn lasting(flow: &SavedFlow) -> SavedFlow {
    let mut status = flow.status.0;
    if status & (Status::SRC_NAT | Status::DST_NAT) == 0 {
        // A flow that is not translated has no binding any more; nothing asks for it.
        status &= !(Status::SRC_NAT_DONE | Status::DST_NAT_DONE);
    }
    SavedFlow {
        status: Status(status),
        timeout_s: None,
        counters: None,
        start_ms: None,
        l4_state: flow.l4_state.map(|mut l4| {
            if flow.orig.proto == Protocol::TCP {
                // Of the saved flags those that do not speak of sequence numbers; and liberal.
                for flags in [&mut l4.flags_orig, &mut l4.flags_reply] {
                    *flags = *flags & 0x07 | 0x08;
                }
            }
            l4
        }),
        ..*flow
    }
}

fn same_flows(before: &Saved, after: &Saved) {
    let list = |saved: &Saved| {
        let mut flows: Vec<_> = saved.flows.iter().map(lasting).collect();
        flows.sort_by_key(|flow| (flow.orig, flow.zone, flow.rare.zone_reply));
        flows
    };
    let (before, after) = (list(before), list(after));
    assert_eq!(before.len(), after.len());
    for (was, is) in before.iter().zip(&after) {
        assert_eq!(was, is);
    }
}

fn every_kind() -> Outcome {
    let (netns, _) = bench::place()?;
    let count = all_kinds(&netns)?;
    let (before, saved) = (shown(&netns)?, saved::dump(&netns)?);
    let number = before.values().map(Vec::len).sum::<usize>();
    assert_eq!((number, saved.flows.len()), (count, count));
    flush(&netns)?;
    assert_eq!(saved::dump(&netns)?.flows, []);
    let (restored, refused) = restore(&netns, &saved, AS_SAVED)?;
    assert_eq!((restored.flows.created as usize, refused), (count, vec![]), "{restored:?}");
    assert_eq!(restored.flows.refusals(), 0);
    same_shown(&before, &shown(&netns)?);
    same_flows(&saved, &saved::dump(&netns)?);
    Ok(())
}

// --- what is refused -----------------------------------------------------------------------------

fn udp(src: u16) -> Conntrack<'static> {
    plain(tuple(false, Protocol::UDP, ports(src, 53)))
}

/// A saved flow without a kernel: as a dump would tell `ct`.
#[expect(clippy::expect_used, reason = "the flows of these tests are whole")]
fn saved_flow(ct: &Conntrack<'_>) -> SavedFlow {
    saved::flow(ct).expect("a whole flow")
}

fn made_of(flows: impl IntoIterator<Item = SavedFlow>) -> Saved {
    Saved { flows: flows.into_iter().collect(), expectations: Vec::new() }
}

/// A new namespace and a saved table of all kinds, which is still in it.
fn live_flows_win() -> Outcome {
    let (netns, _) = bench::place()?;
    let count = all_kinds(&netns)?;
    let saved = saved::dump(&netns)?;
    let all: Vec<u32> = (0..u32::try_from(count)?).collect();
    let (restored, refused) = restore(&netns, &saved, AS_SAVED)?;
    assert_eq!((restored.flows.created, refused), (0, all));
    assert_eq!(restored.flows.refused_as(Refusal::Exists) as usize, count, "{restored:?}");

    // A live flow has another mark and timeout: it keeps them. Another flow has the public port.
    let (netns, _) = bench::place()?;
    let requests = Requests::open(&netns)?;
    let nat = |src| translated(&udp(src), Nat::Source, Some([40_000, 53]));
    requests.create(&Conntrack { mark: Some(1), timeout_s: Some(500), ..udp(1) })?;
    requests.create(&nat(2))?;
    let live = shown(&netns)?;
    let [mut theirs] = made_of([saved_flow(&nat(3))]).flows[..] else { unreachable!() };
    theirs.reply = Tuple { dst: others(false)[0], l4: ports(53, 40_000), ..theirs.reply };
    let old = saved_flow(&Conntrack { mark: Some(7), ..udp(1) });
    // A translated destination makes it one with a plain flow. Left to itself the kernel would
    // choose another source port.
    let mut toward_plain = saved_flow(&udp(1));
    toward_plain.orig.dst = others(false)[1];
    let saved = made_of([saved_flow(&udp(9)), old, theirs, toward_plain]);
    let (restored, refused) = restore(&netns, &saved, AS_SAVED)?;
    assert_eq!((restored.flows.created, refused), (1, vec![1, 2, 3]));
    assert_eq!(restored.flows.refused_as(Refusal::Exists), 3, "{restored:?}");
    let mut after = shown(&netns)?;
    after.retain(|flow, _| !flow.contains("<sport>9</sport>"));
    same_shown(&live, &after);
    Ok(())
}

fn full_table() -> Outcome {
    const MANY: u32 = 3_000;
    let (netns, mut loader) = bench::place()?;
    let maximum: u32 = netns.sysctl("net.netfilter.nf_conntrack_max")?.parse()?;
    let before = maximum - MANY / 2;
    let tally = loader.create(&Flows::default(), 0..before, 1000)?;
    assert!(tally.complete(), "{:?}", tally.errors());
    let saved = made_of((0..MANY).map(|n| {
        let [_, _, high, low] = n.to_be_bytes();
        saved_flow(&udp(1 + u16::from_be_bytes([high, low])))
    }));
    let (restored, refused) = restore(&netns, &saved, AS_SAVED)?;
    let full = restored.flows.refused_as(Refusal::Full);
    assert_eq!(restored.flows.created + full, MANY, "{restored:?}");
    // The kernel refuses when there are more than the maximum already.
    assert!((MANY / 2 - 1..=MANY / 2 + 1).contains(&full), "{full} refused");
    let last: Vec<u32> = (MANY - full..MANY).collect();
    assert_eq!(refused, last, "the table was full from one flow on");
    assert_eq!(loader.entries()?, before + restored.flows.created);
    loader.flush()?;
    Ok(())
}

fn missing_helper() -> Outcome {
    let (netns, _) = bench::place()?;
    let stream = |src| plain(tuple(false, Protocol::TCP, ports(src, 21)));
    let helped = |src, name| {
        let helper = Some(Helper { name, info: None });
        saved_flow(&Conntrack { helper, mark: Some(5), ..stream(src) })
    };
    let saved = made_of([helped(1, b"ftp"), helped(2, b"nonesuch"), saved_flow(&stream(3))]);
    let (restored, refused) = restore(&netns, &saved, AS_SAVED)?;
    assert_eq!((restored.flows.created, refused), (3, vec![]));
    assert_eq!((restored.flows.without_helper, restored.flows.refusals()), (1, 0));
    let mut found = saved::dump(&netns)?.flows;
    found.sort_by_key(|flow| flow.orig);
    let helpers: Vec<bool> = found.iter().map(|flow| flow.rare.helper.is_some()).collect();
    assert_eq!((helpers, found[1].mark), (vec![true, false, false], 5));
    Ok(())
}

/// A chain of five, the youngest first, and an orphan; one child's helper is missing as well.
fn masters_and_children() -> Outcome {
    let (netns, _) = bench::place()?;
    let child =
        |src: u16, master: u16| saved_flow(&Conntrack { master: udp(master).orig, ..udp(src) });
    let mut odd = child(20, 10);
    odd.rare.helper = Some(*b"nonesuch\0\0\0\0\0\0\0\0");
    let chain = [child(13, 12), child(12, 11), child(11, 10), saved_flow(&udp(10))];
    let saved = made_of(chain.into_iter().chain([child(30, 31), odd]));
    let (restored, refused) = restore(&netns, &saved, AS_SAVED)?;
    assert_eq!((restored.flows.created, refused), (6, vec![]), "{restored:?}");
    assert_eq!((restored.flows.without_master, restored.flows.without_helper), (1, 1));
    let found = saved::dump(&netns)?.flows;
    for (src, master) in [(13, 12), (12, 11), (11, 10), (20, 10)] {
        let of = found.iter().find(|flow| Some(flow.orig) == udp(src).orig).ok_or("lost")?;
        assert_eq!(of.rare.master, udp(master).orig);
        assert!(of.status.has(Status::EXPECTED));
    }
    let orphan = found.iter().find(|flow| Some(flow.orig) == udp(30).orig).ok_or("lost")?;
    assert_eq!(orphan.rare.master, None);
    Ok(())
}

fn aged_and_capped() -> Outcome {
    let (netns, _) = bench::place()?;
    let with = |src, timeout_s| saved_flow(&Conntrack { timeout_s: Some(timeout_s), ..udp(src) });
    let saved = made_of([with(1, 432_000), with(2, 1_500), with(3, 1_000), with(4, 0)]);
    let (restored, refused) = restore(&netns, &saved, Timeouts { age_s: 1_000, cap_s: 7_200 })?;
    assert_eq!((restored.flows.created, restored.flows.timed_out), (2, 2));
    assert_eq!(refused, [2, 3]);
    let mut found = saved::dump(&netns)?.flows;
    found.sort_by_key(|flow| flow.orig);
    for (flow, expected_s) in found.iter().zip([7_200, 500]) {
        let is = flow.timeout_s.unwrap_or(0);
        assert!(is <= expected_s && expected_s - is <= SLACK_S, "{expected_s} s is {is} s");
    }
    Ok(())
}

/// The kernel tells neither timeout nor state of an offloaded flow.
fn offloaded() -> Outcome {
    let (netns, _) = bench::place()?;
    let stream = plain(tuple(false, Protocol::TCP, ports(1, 80)));
    let told = |ct: Conntrack<'static>| {
        let status = Status::CONFIRMED | Status::SEEN_REPLY | Status::ASSURED | Status::OFFLOAD;
        let ct = Conntrack { protoinfo: ProtoInfo::None, timeout_s: None, ..ct };
        saved_flow(&Conntrack { status: Some(Status(status)), ..ct })
    };
    let (restored, _) = restore(&netns, &made_of([told(stream), told(udp(2))]), AS_SAVED)?;
    assert_eq!((restored.flows.created, restored.flows.refusals()), (2, 0));
    let mut lines = tool::list(&netns)?;
    lines.sort_by_key(|line| line.proto);
    let of = |n: usize| (lines[n].state.as_deref(), lines[n].timeout_s.unwrap_or(0));
    let (state, timeout_s) = of(0);
    assert_eq!(state, Some("ESTABLISHED"));
    assert!((431_900..=432_000).contains(&timeout_s), "{timeout_s}");
    assert!((100..=120).contains(&of(1).1), "{:?}", of(1));
    assert!(lines.iter().all(|line| line.flags == ["ASSURED"]), "{lines:?}");
    Ok(())
}

// --- real packets --------------------------------------------------------------------------------

/// Hosts behind a masquerade. After the restore the far side speaks first: only an entry that
/// really translates takes its packets to the host behind it.
fn packets_are_translated() -> Outcome {
    let mut lab = Lab::new(&Options::default())?;
    lab.router.account()?;
    let path = |n: u8, ipv6| Path {
        ipv6,
        lan: n % 4,
        wan: n % 3,
        sport: 4000 + u16::from(n % 2),
        dport: 5000 + u16::from(n),
    };
    let (mut streams, mut datagrams) = (Vec::new(), Vec::new());
    for n in 0..12 {
        let ipv6 = n % 4 == 3;
        let flow = lab.hosts.open_tcp(path(n, ipv6))?;
        lab.hosts.transfer(&flow, 40_000, 90_000)?;
        streams.push(flow);
        let flow = lab.hosts.open_udp(path(100 + n, ipv6))?;
        lab.hosts.udp_send(&flow, 100)?;
        lab.hosts.udp_reply(&flow, 200)?;
        datagrams.push(flow);
    }
    let saved = saved::dump(lab.router.netns())?;
    assert_eq!(saved.flows.len(), 24);
    let scaled = |flow: &&SavedFlow| flow.l4_state.is_some_and(|l4| l4.wscales != 0);
    let before = shown(lab.router.netns())?;
    flush(lab.router.netns())?;
    let (restored, refused) = restore(lab.router.netns(), &saved, AS_SAVED)?;
    assert_eq!((restored.flows.created, refused), (24, vec![]));
    same_shown(&before, &shown(lab.router.netns())?);
    let again = saved::dump(lab.router.netns())?;
    same_flows(&saved, &again);
    let scales = saved.flows.iter().filter(scaled).count();
    assert_eq!(again.flows.iter().filter(scaled).count(), scales);
    for flow in &datagrams {
        lab.hosts.udp_reply(flow, 300)?;
        lab.hosts.udp_send(flow, 400)?;
    }
    for flow in &streams {
        lab.hosts.transfer(flow, 0, 200_000)?;
        lab.hosts.transfer(flow, 200_000, 10)?;
    }
    assert_eq!(lab.router.dump()?.len(), 24, "no other flow was made");
    // One is closed and one reset: the kernel follows both.
    lab.hosts.close_tcp(streams.remove(0))?;
    lab.hosts.abort_tcp(streams.remove(0))?;
    let states: Vec<Option<String>> =
        tool::list(lab.router.netns())?.into_iter().map(|line| line.state).collect();
    for state in ["TIME_WAIT", "CLOSE"] {
        let count = states.iter().filter(|is| is.as_deref() == Some(state)).count();
        assert_eq!(count, 1, "{state}: {states:?}");
    }
    assert_eq!(lab.router.invalid()?, 0);
    Ok(())
}

/// A line that one side of a connection writes and the other reads.
fn line(from: &mut TcpStream, to: &mut TcpStream, text: &str) -> io::Result<()> {
    from.write_all(text.as_bytes())?;
    let mut read = vec![0; text.len()];
    to.read_exact(&mut read)
}

fn connect(to: SocketAddr) -> io::Result<[TcpStream; 2]> {
    let listener = TcpListener::bind(to)?;
    let client = TcpStream::connect(to)?;
    let (server, _) = listener.accept()?;
    for stream in [&client, &server] {
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    }
    Ok([client, server])
}

fn control() -> io::Result<[TcpStream; 2]> {
    let [mut client, mut server] = connect((Ipv4Addr::LOCALHOST, 21).into())?;
    line(&mut server, &mut client, "220 ready\r\n")?;
    line(&mut client, &mut server, "PASV\r\n")?;
    line(&mut server, &mut client, "227 Entering Passive Mode (127,0,0,1,100,5)\r\n")?;
    // A late acknowledgement would make a flow of its own.
    measure::wait_for("all to be acknowledged", 10, || {
        Ok((unacknowledged(client.as_fd())? + unacknowledged(server.as_fd())? == 0).then_some(()))
    })?;
    Ok([client, server])
}

/// The port that the server announces.
const DATA: u16 = 100 << 8 | 5;

/// A server has announced a data port; after the restore the client connects to it.
fn ftp() -> Outcome {
    let (netns, _) = bench::place()?;
    loopback_up(&netns)?;
    tool::output(&netns, "nft".as_ref(), &[RULES])?;
    let _control = netns.run(|| control().context("speaking FTP"))?;
    let saved = saved::dump(&netns)?;
    let [was] = saved.expectations[..] else {
        return Err(format!("expected: {:?}", saved.expectations).into());
    };
    flush(&netns)?;
    let gone = saved::dump(&netns)?;
    assert_eq!((gone.flows.len(), gone.expectations.len()), (0, 0));
    let (restored, refused) = restore(&netns, &saved, Timeouts { age_s: 0, cap_s: 77 })?;
    assert_eq!((restored.flows.created, refused), (1, vec![]));
    assert_eq!((restored.expectations.created, restored.expectations.refusals()), (1, 0));
    let after = saved::dump(&netns)?;
    let [is] = after.expectations[..] else {
        return Err(format!("expected: {:?}", after.expectations).into());
    };
    assert!((77 - SLACK_S..=77).contains(&is.timeout_s), "the timeout is {}", is.timeout_s);
    let timeout_s = was.timeout_s;
    assert_eq!(firmware_ctd::checkpoint::SavedExpect { timeout_s, ..is }, was);

    // Twice: the one that lives keeps what it has.
    let (restored, _) = restore(&netns, &saved, Timeouts { age_s: 0, cap_s: 9 })?;
    assert_eq!(restored.expectations.refused_as(Refusal::Exists), 1, "{restored:?}");
    assert!(saved::dump(&netns)?.expectations[0].timeout_s > 9);

    let _data = netns.run(|| connect((Ipv4Addr::LOCALHOST, DATA).into()).context("connecting"))?;
    let met = saved::dump(&netns)?;
    assert_eq!(met.expectations, []);
    let data = met.flows.iter().find(|flow| matches!(flow.orig.l4, L4::Ports { dst: DATA, .. }));
    let data = data.ok_or("the data connection is not tracked")?;
    assert_eq!((data.rare.master, data.rare.helper), (Some(was.master), None));
    without_a_master(&netns, &saved)
}

/// Expectations whose master is gone, or has no helper.
fn without_a_master(netns: &Netns, saved: &Saved) -> Outcome {
    flush(netns)?;
    let orphans = Saved { flows: Vec::new(), ..saved.clone() };
    let (restored, _) = restore(netns, &orphans, AS_SAVED)?;
    assert_eq!(restored.expectations.refused_as(Refusal::NoMaster), 1, "{restored:?}");
    let mut unhelped = saved.clone();
    unhelped.flows.iter_mut().for_each(|flow| flow.rare.helper = None);
    let (restored, _) = restore(netns, &unhelped, AS_SAVED)?;
    assert_eq!(restored.expectations.refused_as(Refusal::NoHelper), 1, "{restored:?}");
    Ok::<(), Failed>(())
}

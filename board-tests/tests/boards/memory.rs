//! What a board with 32 MB must hold: a full table, a flood of ends, and no more memory than
//! promised.

use std::io;
use std::time::Duration;

use board_tests::board::{Board, Model, Options};
use board_tests::lab::{Hosts, Ledger, Plan};

use crate::{Outcome, booted, records};

/// Flows of OpenWrt's nf_conntrack_max with that memory, all that the profile is made for.
const FLOWS: u32 = 4_096;
/// What the kernel may hold here: beyond 95 % of it, its garbage collector ends flows that no
/// answer has assured, whenever it comes by.
const MAX: u32 = 4_500;
/// KiB that both processes may have as their own or their share.
const PSS_KIB: u64 = 2_560;
const SINK: &str = "/tmp/flood.jsonl";
/// The smallest receive buffer that there is, and a file that does not rotate.
const FLOOD: &str = "[events]\nreceive_buffer = \"2KiB\"\n\
                     [[sink]]\ntype = \"file\"\npath = \"/tmp/flood.jsonl\"\nmax_bytes = \"4MiB\"\n";

/// Fills the kernel's table with datagrams, half of them IPv6.
fn fill(board: &Board, hosts: &mut Hosts, flows: u32) -> Result<Ledger, libtest_mimic::Failed> {
    board.ask(&format!("sysctl net/netfilter/nf_conntrack_max {MAX}"))?;
    for key in ["udp_timeout", "udp_timeout_stream"] {
        board.ask(&format!("sysctl net/netfilter/nf_conntrack_{key} 3600"))?;
    }
    let plan = Plan {
        tcp_flows: 0,
        udp_flows: flows,
        icmp_flows: 0,
        datagram_bytes: 16..=64,
        exchanges: 1..=1,
        ipv6_percent: 50,
        ..Plan::seeded(3)
    };
    Ok(hosts.run(&plan, |_| {})?)
}

/// Ends every flow at once, and compares the records with what the hosts made.
fn end(board: &Board, ledger: &Ledger) -> Outcome {
    let flows = ledger.flows.len() as u64;
    board.ask("flush")?;
    let status = board.status_until("every record to be written", |status| {
        status.flows() == 0 && status.sink("owed") == 0 && status.stat("events_destroy") >= flows
    })?;
    assert_eq!(status.losses(), []);
    let wrong = ledger.check(&records(board, SINK)?);
    assert!(wrong.is_empty(), "{} of {flows}: {wrong:?}", wrong.len());
    Ok(())
}

pub(crate) fn flood(model: &'static Model) -> Outcome {
    let (mut board, mut hosts) = booted(model, "small-64mb", &Options::default())?;
    board.configure(&mut hosts, FLOOD)?;
    let ledger = fill(&board, &mut hosts, 1_500)?;
    end(&board, &ledger)
}

pub(crate) fn small(model: &'static Model) -> Outcome {
    let options = Options { memory_mib: 32, ..Options::default() };
    let (mut board, mut hosts) = booted(model, "small-32mb", &options)?;
    board.configure(&mut hosts, FLOOD)?;
    let ledger = fill(&board, &mut hosts, FLOWS)?;
    let full = board.status_until("a full table", |status| status.flows() >= FLOWS.into())?;
    assert_eq!(full.number("allocations_since_ready"), 0);
    let before = memory(&board)?;
    end(&board, &ledger)?;
    let after = memory(&board)?;
    for (when, found) in [("with a full table", before), ("after a flood", after)] {
        let Memory { processes, rss, pss } = found;
        eprintln!("measured: {when}: {processes} processes, RSS {rss} KiB, PSS {pss} KiB");
        assert_eq!(processes, 2);
        assert!(pss <= PSS_KIB, "{pss} KiB {when}, {PSS_KIB} are promised");
    }
    let kernel = board.ask("kernel")?;
    assert!(kernel.len() > 10, "the kernel has said something: {kernel:?}");
    let killed: Vec<_> = kernel.iter().filter(|line| line.contains("ut of memory")).collect();
    assert!(killed.is_empty(), "{killed:?}");
    let free = board.ask("cat /proc/meminfo")?;
    eprintln!("{}", free.get(..3).unwrap_or_default().join("; "));
    assert!(hosts.take_drops() == 0 && hosts.lost().is_none(), "{:?}", hosts.lost());
    let waited = Duration::ZERO;
    assert!(board.wait_for(&mut hosts, "ended", board.heard(), waited).is_err(), "it still runs");
    Ok(())
}

/// What the daemon's processes take, in KiB.
#[derive(Clone, Copy, Debug)]
struct Memory {
    processes: usize,
    rss: u64,
    pss: u64,
}

fn memory(board: &Board) -> io::Result<Memory> {
    let lines = board.ask("processes")?;
    let sum = |name: &str| -> (usize, u64) {
        let words = lines.iter().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let of = words.filter(|words| words.get(1) == Some(&name));
        let numbers = of.filter_map(|words| words.get(2)?.parse::<u64>().ok());
        numbers.fold((0, 0), |(count, sum), number| (count + 1, sum + number))
    };
    let ((processes, pss), (_, rss)) = (sum("Pss:"), sum("Rss:"));
    Ok(Memory { processes, rss, pss })
}

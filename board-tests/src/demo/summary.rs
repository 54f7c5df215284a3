//! The reckoning: the hosts' books against the daemon's file, every flow and the sum.

use std::io::{self, Write};
use std::process::ExitStatus;
use std::time::Duration;

use super::show::{bytes, grouped};
use crate::lab::records::{self, Record};
use crate::lab::{Count, Difference, Ledger};

/// Differences that are printed one by one.
const PRINTED: usize = 10;

/// What the hosts made, what the daemon told, and where they differ.
#[derive(Debug)]
pub(super) struct Summary {
    flows: usize,
    translated: usize,
    records: usize,
    distinct: usize,
    hosts: (Count, Count),
    told: (Count, Count),
    differences: Vec<Difference>,
    faults: Vec<String>,
}

impl Summary {
    pub(super) fn new(
        ledger: &Ledger,
        records: &[Record],
        status: ExitStatus,
        log: Vec<String>,
    ) -> Self {
        let distinct = records::distinct(records);
        let mut told = (Count::default(), Count::default());
        for record in &distinct {
            told.0 += record.told.orig_count.unwrap_or_default();
            told.1 += record.told.reply_count.unwrap_or_default();
        }
        Self {
            flows: ledger.flows.len(),
            translated: ledger.flows.iter().filter(|f| f.orig.inverse() != f.reply).count(),
            records: records.len(),
            distinct: distinct.len(),
            hosts: ledger.sum(),
            told,
            differences: ledger.check(distinct),
            faults: faults(records, status, log),
        }
    }

    pub(super) fn is_equal(&self) -> bool {
        self.differences.is_empty() && self.faults.is_empty() && self.hosts == self.told
    }

    pub(super) fn print(&self, out: &mut impl Write, took: Duration) -> io::Result<()> {
        let equal = |same: bool| if same { "equal" } else { "DIFFERENT" };
        writeln!(
            out,
            "{:<14}{:>24}{:>28}\n{:<14}{:>24}{:>28}  {}",
            "",
            "the hosts made",
            "firmware-ctd accounted",
            "flows",
            grouped(self.flows as u64),
            grouped(self.distinct as u64),
            equal(self.flows == self.distinct),
        )?;
        for (name, hosts, told) in
            [("LAN to WAN", self.hosts.0, self.told.0), ("WAN to LAN", self.hosts.1, self.told.1)]
        {
            for (what, hosts, told) in
                [("packets", hosts.packets, told.packets), ("bytes", hosts.bytes, told.bytes)]
            {
                writeln!(
                    out,
                    "{name} {what:<8}{:>19}{:>28}  {}",
                    grouped(hosts),
                    grouped(told),
                    equal(hosts == told)
                )?;
            }
        }
        self.print_verdict(out, took)
    }

    fn print_verdict(&self, out: &mut impl Write, took: Duration) -> io::Result<()> {
        writeln!(
            out,
            "\n{} of the flows went out under the router's own address; {} records,\n{} \
             repeated; {} moved; {:.1} s.",
            grouped(self.translated as u64),
            grouped(self.records as u64),
            grouped((self.records - self.distinct) as u64),
            bytes(self.hosts.0.bytes + self.hosts.1.bytes),
            took.as_secs_f64(),
        )?;
        for difference in self.differences.iter().take(PRINTED) {
            writeln!(out, "  {difference}")?;
        }
        if self.differences.len() > PRINTED {
            writeln!(out, "  ... and {} more", self.differences.len() - PRINTED)?;
        }
        for fault in &self.faults {
            writeln!(out, "  {fault}")?;
        }
        if self.is_equal() {
            return writeln!(
                out,
                "EQUAL: every flow, in addresses, ports, packets and bytes of both directions."
            );
        }
        let count = self.differences.len() + self.faults.len();
        writeln!(out, "DIFFERENT: {} differences.", grouped(count as u64))
    }
}

/// What is wrong with the records or the daemon itself, whatever the hosts did.
fn faults(records: &[Record], status: ExitStatus, log: Vec<String>) -> Vec<String> {
    let mut faults = Vec::new();
    if !status.success() {
        faults.push(format!("the daemon ended with {status} instead of 0"));
        faults.extend(log.into_iter().rev().take(5).map(|line| format!("its log: {line}")));
    }
    let kinds = records.iter().filter(|record| record.kind != "destroy").count();
    let weak = records.iter().filter(|record| record.weak_key || record.key.is_none()).count();
    let inexact = records.iter().filter(|record| record.inexact).count();
    let timeless = records.iter().filter(|r| r.duration().is_none_or(|s| s < 0.0)).count();
    for (count, what) in [
        (kinds, "are not of type destroy"),
        (weak, "have no key of their own"),
        (inexact, "are marked inexact"),
        (timeless, "have no duration"),
    ] {
        if count > 0 {
            faults.push(format!("{count} records {what}"));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::{Duration, ExitStatus, Ledger, Record, Summary};
    use crate::lab::account::Both;
    use crate::lab::ledger::Flow;
    use crate::lab::{Count, Path, Proto, Told};

    fn flow(sport: u16) -> Flow {
        let orig = Path { ipv6: true, lan: 0, wan: 0, sport, dport: 80 }.tuple(Proto::Tcp);
        let (up, down) = (Count { packets: 5, bytes: 300 }, Count { packets: 4, bytes: 4_000 });
        let (lan, wan) = (Both { sent: up, received: down }, Both { sent: down, received: up });
        let (start, end) = (Duration::from_secs(1), Duration::from_secs(2));
        Flow { orig, reply: orig.inverse(), lan, wan, start, end }
    }

    fn record(flow: &Flow, key: &str) -> Record {
        Record {
            kind: "destroy".to_owned(),
            key: Some(key.to_owned()),
            cause: Some("event".to_owned()),
            weak_key: false,
            inexact: false,
            start: Some(1.0),
            end: Some(2.0),
            told: Told {
                orig: flow.orig,
                reply: flow.reply,
                orig_count: Some(flow.lan.sent),
                reply_count: Some(flow.wan.sent),
            },
        }
    }

    /// A ledger of two flows, what a right daemon tells of it, and the verdict on `spoil`ing that.
    fn verdict(spoil: impl FnOnce(&mut Ledger, &mut Vec<Record>)) -> (bool, String) {
        let flows = vec![flow(1), flow(2)];
        let mut records = vec![record(&flows[0], "a"), record(&flows[1], "b")];
        let mut ledger = Ledger { flows, strays: Vec::new() };
        spoil(&mut ledger, &mut records);
        let summary = Summary::new(&ledger, &records, ExitStatus::from_raw(0), Vec::new());
        let mut out = Vec::new();
        summary.print(&mut out, Duration::from_secs(9)).unwrap();
        (summary.is_equal(), String::from_utf8(out).unwrap())
    }

    #[test]
    fn equal_accounts_are_equal() {
        let (equal, text) = verdict(|_, _| {});
        assert!(equal && text.contains("\nEQUAL") && !text.contains("DIFFERENT"), "{text}");
    }

    #[test]
    fn a_repeat_with_its_key_is_harmless() {
        let (equal, text) = verdict(|_, records| records.push(records[0].clone()));
        assert!(equal && text.contains("1 repeated"), "{text}");
    }

    #[test]
    fn every_difference_fails_and_is_named() {
        type Spoil = fn(&mut Ledger, &mut Vec<Record>);
        let spoils: [(Spoil, &str); 9] = [
            (|_, records| records.truncate(1), "not told"),
            (|ledger, _| ledger.flows.truncate(1), "no host made it"),
            (|_, records| records[1].told.reply.dst.set_port(9), "reply is"),
            (|_, records| records[1].told.orig_count = None, "told nothing"),
            (|ledger, _| ledger.flows[0].lan.received.bytes -= 1, "received 4 packets 3999 B"),
            (
                |_, records| records.push(Record { key: None, ..records[0].clone() }),
                "more than once",
            ),
            (|_, records| records[0].weak_key = true, "no key of their own"),
            (|_, records| records[0].inexact = true, "inexact"),
            (|_, records| records[0].end = None, "no duration"),
        ];
        for (spoil, named) in spoils {
            let (equal, text) = verdict(spoil);
            assert!(
                !equal && text.contains(named) && text.contains("DIFFERENT"),
                "{named}: {text}"
            );
        }
    }

    /// One byte too many here and one too few there: equal sums do not hide it.
    #[test]
    fn flows_are_compared_not_only_sums() {
        let (equal, text) = verdict(|_, records| {
            for (record, by) in records.iter_mut().zip([1, u64::MAX]) {
                let count = record.told.orig_count.as_mut().unwrap();
                count.bytes = count.bytes.wrapping_add(by);
            }
        });
        assert!(!equal && text.contains("told 5 packets 301 B"), "{text}");
    }

    #[test]
    fn a_daemon_that_ends_badly_fails() {
        let ledger = Ledger::default();
        let summary = Summary::new(&ledger, &[], ExitStatus::from_raw(9), vec!["why".to_owned()]);
        assert!(!summary.is_equal());
    }
}

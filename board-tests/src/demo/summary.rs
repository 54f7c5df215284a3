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

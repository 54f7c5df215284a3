//! `board-tests/collectors/ipfix_lines.py` on Debian's python3-ipfix: a reader that owes this
//! project nothing.
//!
//! It keeps every field of every record, those of options templates too. Only Debian's own Python
//! has the package, so that one is asked first. Limit: a torn last line is not read; the script
//! removes it when it starts anew.

use super::collected::{Row, json_lines};
use super::{Collected, Setup};
use serde_json::Value;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const LINES: &str = "records.jsonl";

pub(super) fn command(setup: &Setup, udp: bool) -> io::Result<Command> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("collectors/ipfix_lines.py");
    let mut command = Command::new(python()?);
    command.arg(script).arg("--port").arg(setup.port.to_string());
    command.arg("--output").arg(setup.path(LINES));
    if let Some(buffer) = setup.buffer {
        command.arg("--receive-buffer").arg(buffer.to_string());
    }
    if udp {
        command.arg("--udp");
    }
    Ok(command)
}

/// A Python that has the package.
fn python() -> io::Result<PathBuf> {
    let mut candidates = ["/usr/bin/python3", "python3"].map(PathBuf::from).into_iter();
    let has = |python: &PathBuf| {
        let mut command = Command::new(python);
        command.args(["-c", "import ipfix.message"]).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    candidates.find(has).ok_or_else(|| {
        io::Error::new(io::ErrorKind::NotFound, "no Python has Debian's package python3-ipfix")
    })
}

/// Whether a record is of a flow.
fn is_flow(value: &Value) -> bool {
    value.get("sourceIPv4Address").or_else(|| value.get("sourceIPv6Address")).is_some()
}

pub(super) fn collected(setup: &Setup) -> io::Result<Vec<Collected>> {
    let values = json_lines(&setup.path(LINES))?;
    values.iter().filter(|value| is_flow(value)).map(|value| record(Row(value))).collect()
}

pub(super) fn options(setup: &Setup) -> io::Result<Vec<Value>> {
    let mut values = json_lines(&setup.path(LINES))?;
    values.retain(|value| !is_flow(value));
    Ok(values)
}

fn record(row: Row<'_>) -> io::Result<Collected> {
    let src = row.one_address(["sourceIPv4Address", "sourceIPv6Address"])?;
    let version = if src.is_ipv4() { "IPv4" } else { "IPv6" };
    let translated = |end: &str| row.address(&format!("postNAT{end}{version}Address"));
    Ok(Collected {
        key: row.number("flowId")?,
        start_ms: time(row, "flowStart")?,
        end_ms: time(row, "flowEnd")?,
        src,
        dst: row.one_address(["destinationIPv4Address", "destinationIPv6Address"])?,
        sport: row.number("sourceTransportPort")?,
        dport: row.number("destinationTransportPort")?,
        proto: row.needed("protocolIdentifier")?,
        icmp: row.number(&format!("icmpTypeCode{version}"))?,
        bytes: count(row, "octet")?,
        packets: count(row, "packet")?,
        reverse_bytes: row.number("reverseOctetDeltaCount")?,
        reverse_packets: row.number("reversePacketDeltaCount")?,
        nat_src: translated("Source")?,
        nat_dst: translated("Destination")?,
        nat_sport: row.number("postNAPTSourceTransportPort")?,
        nat_dport: row.number("postNAPTDestinationTransportPort")?,
        nat_event: row.number("natEvent")?,
        end_reason: row.number("flowEndReason")?,
        domain: row.number("domain")?,
    })
}

/// What a flow had in all: the same with either name for a record of its end.
fn count(row: Row<'_>, name: &str) -> io::Result<u64> {
    match row.number(&format!("{name}DeltaCount"))? {
        Some(count) => Ok(count),
        None => row.needed(&format!("{name}TotalCount")),
    }
}

/// Milliseconds, or the seconds of an exporter that sends no better.
fn time(row: Row<'_>, name: &str) -> io::Result<u64> {
    match row.number(&format!("{name}Milliseconds"))? {
        Some(ms) => Ok(ms),
        None => Ok(row.needed::<u64>(&format!("{name}Seconds"))? * 1000),
    }
}

//! nfacctd of pmacct: one JSON object a line, or rows of an SQL table.
//!
//! The configurations are `config/fleet/nfacctd.conf` and `nfacctd-sql.conf` with `primitives.lst`
//! and `flows.sql`. What is written each 10 seconds there is written each second here. With the
//! primitives, nfacctd 1.7.7 keeps every field. Limit: the SQL plugin tried is that of SQLite,
//! read with sqlite3(1); it loses rows when one writing takes longer than until the next.

use super::collected::{Row, json_lines};
use super::{Collected, Kind, Setup, fleet, output};
use serde_json::Value;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::process::Command;

const CONFIGURATION: &str = "nfacctd.conf";
const LINES: &str = "flows.json";
const TABLE: &str = "flows.db";

/// Writes its configuration, and makes its table.
pub(super) fn prepare(kind: Kind, setup: &Setup) -> io::Result<()> {
    let mut changes = vec![
        ("nfacctd_port", setup.port.to_string()),
        ("nfacctd_templates_file", setup.path("templates.json")),
        ("aggregate_primitives", fleet("primitives.lst").display().to_string()),
    ];
    let sql = kind == Kind::NfacctdSql;
    let name = if sql { "nfacctd-sql.conf" } else { "nfacctd.conf" };
    changes.extend(match sql {
        true => [("sql_db", setup.path(TABLE)), ("sql_refresh_time", "1".to_owned())],
        false => [("print_output_file", setup.path(LINES)), ("print_refresh_time", "1".to_owned())],
    });
    changes.extend(setup.buffer.map(|it| ("nfacctd_pipe_size", it.to_string())));
    let text = changed(&fs::read_to_string(fleet(name))?, &changes)?;
    fs::write(setup.path(CONFIGURATION), text)?;
    if sql {
        let table = format!(".read {}", fleet("flows.sql").display());
        output(Command::new("sqlite3").arg(setup.path(TABLE)).arg(table))?;
    }
    Ok(())
}

/// `key: value` lines with other values; a key that is not there is an error.
fn changed(text: &str, changes: &[(&str, String)]) -> io::Result<String> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for (key, value) in changes {
        let of = |line: &&mut String| line.split_once(':').is_some_and(|(it, _)| it == *key);
        let line = lines.iter_mut().find(of);
        let line = line.ok_or_else(|| io::Error::other(format!("no {key} in config/fleet")))?;
        *line = format!("{key}: {value}");
    }
    Ok(lines.join("\n") + "\n")
}

pub(super) fn command(setup: &Setup) -> Command {
    let mut command = Command::new(super::program("nfacctd"));
    command.arg("-f").arg(setup.path(CONFIGURATION));
    command
}

pub(super) fn lines(setup: &Setup) -> io::Result<Vec<Collected>> {
    json_lines(&setup.path(LINES))?.iter().map(|value| record(Row(value))).collect()
}

pub(super) fn table(setup: &Setup) -> io::Result<Vec<Collected>> {
    let text = output(Command::new("sqlite3").args(["-readonly", "-json"]).args([
        "-cmd",
        ".timeout 10000",
        &setup.path(TABLE),
        "SELECT * FROM flows",
    ]))?;
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let values: Vec<Value> = serde_json::from_str(&text)?;
    values.iter().map(|value| record(Row(value))).collect()
}

fn record(row: Row<'_>) -> io::Result<Collected> {
    let src = row.one_address(["ip_src", "ip_src"])?;
    let icmp = if src.is_ipv4() { "icmp_type_code4" } else { "icmp_type_code6" };
    let translated = |v4, v6| translated(row, src.is_ipv4(), v4, v6);
    Ok(Collected {
        key: row.number_of("flow_key", 16)?,
        start_ms: time(row, "timestamp_start", "timestamp_start_residual")?,
        end_ms: time(row, "timestamp_end", "timestamp_end_residual")?,
        src,
        dst: row.one_address(["ip_dst", "ip_dst"])?,
        sport: row.number("port_src")?,
        dport: row.number("port_dst")?,
        proto: row.needed("ip_proto")?,
        icmp: row.number(icmp)?,
        bytes: row.needed("octets")?,
        packets: row.needed("pkts")?,
        reverse_bytes: row.number("reverse_octets")?,
        reverse_packets: row.number("reverse_pkts")?,
        nat_src: translated("post_nat_ip_src", "nat6_src")?,
        nat_dst: translated("post_nat_ip_dst", "nat6_dst")?,
        nat_sport: row.number("post_nat_port_src")?,
        nat_dport: row.number("post_nat_port_dst")?,
        nat_event: row.number("nat_event")?,
        end_reason: row.number("end_reason")?,
        domain: row.number("export_proto_sysid")?,
    })
}

/// nfacctd knows translated addresses of IPv4; those of IPv6 are primitives of ours.
fn translated(row: Row<'_>, is_ipv4: bool, v4: &str, v6: &str) -> io::Result<Option<IpAddr>> {
    row.address(if is_ipv4 { v4 } else { v6 })
}

/// `seconds.microseconds`, or both in columns of their own, as milliseconds.
fn time(row: Row<'_>, name: &str, residual: &str) -> io::Result<u64> {
    if let Some(us) = row.number::<u64>(residual)? {
        return Ok(row.needed::<u64>(name)? * 1000 + us / 1000);
    }
    let parts = row.text(name).and_then(|text| text.split_once('.'));
    let parsed = parts.and_then(|(s, us)| Some((s.parse::<u64>().ok()?, us.parse::<u64>().ok()?)));
    let (seconds, us) = parsed.ok_or_else(|| row.wrong(name))?;
    Ok(seconds * 1000 + us / 1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_key_that_is_not_there_is_told() {
        let text = changed("! port\nport: 1\nporter: 2\n", &[("port", "7".to_owned())]).unwrap();
        assert_eq!(text, "! port\nport: 7\nporter: 2\n");
        assert!(changed("porter: 2\n", &[("port", "7".to_owned())]).is_err());
    }

    #[test]
    fn times_of_lines_and_of_rows() {
        let line = json!({"start": "1795582378.247000"});
        let row = json!({"start": 1795582378u64, "rest": 247000});
        for value in [line, row] {
            assert_eq!(time(Row(&value), "start", "rest").unwrap(), 1_795_582_378_247);
        }
    }
}

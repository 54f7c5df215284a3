//! `firmware-ctd` with its file sink.

use super::account::{each_line, tuple};
use super::{Account, Peer, Setup};
use firmware_ctd::wire::{Protocol, Tuple};
use serde_json::Value;
use std::collections::HashSet;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

const SINK: &str = "flows.jsonl";
const SOCKET: &str = "ctd.sock";

/// Defaults, but for what the set-up names and a sink that does not rotate.
pub(super) fn configure(command: &mut Command, setup: &Setup<'_>) -> io::Result<()> {
    let sink = match setup.collector {
        None => {
            format!("type = \"file\"\npath = \"{}\"\nmax_bytes = \"1GiB\"", setup.path(SINK))
        }
        Some(address) => format!("type = \"ipfix\"\ncollector = \"{address}\""),
    };
    let socket = setup.path(SOCKET);
    let mut text = format!("[control]\nsocket = \"{socket}\"\n[[sink]]\n{sink}\n");
    if let Some(buffer) = setup.buffer {
        let _ = write!(text, "[events]\nreceive_buffer = {buffer}\n");
    }
    if let Some(capacity) = setup.capacity {
        let _ = write!(text, "[table]\ncapacity = {capacity}\n");
    }
    text.push_str(&setup.more);
    let file = setup.file("ctd.toml");
    fs::write(&file, text)?;
    command.arg("run").arg("-c").arg(file);
    Ok(())
}

/// What the daemon whose files are in `directory` says of itself.
pub(super) fn status(programs: &Path, directory: &Path) -> io::Result<Value> {
    Ok(serde_json::from_slice(&ask(programs, directory, &["status", "--json"])?)?)
}

/// Asks the daemon whose files are in `directory` with one of its commands; what that writes.
pub(super) fn ask(programs: &Path, directory: &Path, command: &[&str]) -> io::Result<Vec<u8>> {
    let socket = directory.join(SOCKET).display().to_string();
    run(programs, &[command, &["-s", &socket]].concat())
}

/// Runs one of the daemon's commands to its end; what it writes.
pub(super) fn run(programs: &Path, command: &[&str]) -> io::Result<Vec<u8>> {
    let program = Peer::Ctd.program(programs).ok_or(io::ErrorKind::NotFound)?;
    let output = Command::new(program).args(command).output()?;
    if !output.status.success() {
        return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    Ok(output.stdout)
}

/// Events that the daemon whose files are in `directory` received so far.
pub(super) fn events_received(programs: &Path, directory: &Path) -> io::Result<Option<u64>> {
    let status = status(programs, directory)?;
    let count = |name| status["stats"][name].as_u64();
    let counts = [count("events_new"), count("events_update"), count("events_destroy")];
    Ok(counts.into_iter().sum())
}

/// The sink and, if it was rotated, what came before.
pub(super) fn account(directory: &Path) -> io::Result<Account> {
    let mut destroys = 0;
    let mut tuples = HashSet::new();
    let mut keys = HashSet::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(SINK) {
            each_line(&entry.path(), |line| {
                if let Some((key, tuple)) = parse(line) {
                    destroys += 1;
                    keys.insert(key);
                    tuples.insert(tuple);
                }
            })?;
        }
    }
    Ok(Account { events: None, destroys, tuples: Some(tuples), keys: Some(keys.len() as u64) })
}

/// Key and original tuple of a destroyed flow.
fn parse(line: &str) -> Option<(String, Tuple)> {
    let record: Value = serde_json::from_str(line).ok()?;
    if record["type"] != "destroy" {
        return None;
    }
    let orig = &record["orig"];
    let port = |name| orig[name].as_u64().map_or(String::new(), |it: u64| it.to_string());
    let (src, dst) = (orig["src"].as_str()?, orig["dst"].as_str()?);
    let tuple = tuple(src, dst, protocol(&record["proto"])?, (&port("sport"), &port("dport")))?;
    let key = record.get("key").or_else(|| record.get("weak_key"))?;
    Some((key.to_string(), tuple))
}

fn protocol(value: &Value) -> Option<Protocol> {
    match value.as_str() {
        Some("tcp") => Some(Protocol::TCP),
        Some("udp") => Some(Protocol::UDP),
        Some("icmp") => Some(Protocol::ICMP),
        Some("icmpv6") => Some(Protocol::ICMPV6),
        _ => value.as_u64().and_then(|it| u8::try_from(it).ok()).map(Protocol),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use firmware_ctd::wire::L4;

    #[test]
    fn a_record_is_read_and_others_are_not_counted() {
        let line = r#"{"type":"destroy","key":"9f0c000000000001","cause":"event","family":"ipv4",
            "proto":"udp","orig":{"src":"192.0.2.2","dst":"198.51.100.2","sport":35626,
            "dport":1000,"packets":1,"bytes":29},"zone":0}"#;
        let (key, tuple) = parse(line).unwrap();
        assert_eq!(key, "\"9f0c000000000001\"");
        assert_eq!(tuple.l4, L4::Ports { src: 35626, dst: 1000 });
        assert!(parse(&line.replace("destroy", "new")).is_none());
        assert!(parse(&line[..40]).is_none(), "a torn line is no record");
    }
}

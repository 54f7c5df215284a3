//! The daemon's records, read back as any program would: one JSON object a line.
//!
//! Reads what the lab compares (kind, key, tuples, counters, times) of the protocols that its
//! hosts speak and refuses everything else with a reason; that the rest of a record is right is
//! for other tests to say.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::error::{Context, LabError};
use super::ledger::Told;
use super::tuple::{Count, Proto, Tuple};

/// One record of a flow.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// `new`, `update`, `destroy`.
    pub kind: String,
    /// The key, 16 hexadecimal digits; only destroys always have one.
    pub key: Option<String>,
    /// `event`, `resync` or `restart`; only destroys have one.
    pub cause: Option<String>,
    /// The key may be shared by several flows.
    pub weak_key: bool,
    /// The counters are a lower bound.
    pub inexact: bool,
    /// Seconds since 1970.
    pub start: Option<f64>,
    /// Seconds since 1970.
    pub end: Option<f64>,
    /// Tuples and counters.
    pub told: Told,
}

impl From<&Record> for Told {
    fn from(record: &Record) -> Self {
        record.told
    }
}

impl Record {
    /// Reads one line.
    ///
    /// # Errors
    /// What is missing or wrong, with the line.
    pub fn parse(line: &str) -> Result<Self, String> {
        let value: Value =
            serde_json::from_str(line).map_err(|error| format!("{error}, in: {line}"))?;
        read(&value).ok_or_else(|| format!("not a record of a flow of the lab: {line}"))
    }

    /// How long the flow lived, seconds.
    #[must_use]
    pub fn duration(&self) -> Option<f64> {
        Some(self.end? - self.start?)
    }
}

fn read(value: &Value) -> Option<Record> {
    let text = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    let flag = |name: &str| value.get(name).and_then(Value::as_bool).unwrap_or(false);
    let proto = Proto::from_name(value.get("proto")?.as_str()?)?;
    let (orig, reply) = (value.get("orig")?, value.get("reply")?);
    Some(Record {
        kind: text("type")?,
        key: text("key"),
        cause: text("cause"),
        weak_key: flag("weak_key"),
        inexact: flag("inexact"),
        start: value.get("start").and_then(Value::as_f64),
        end: value.get("end").and_then(Value::as_f64),
        told: Told {
            orig: tuple(proto, orig)?,
            reply: tuple(proto, reply)?,
            orig_count: count(orig),
            reply_count: count(reply),
        },
    })
}

fn tuple(proto: Proto, direction: &Value) -> Option<Tuple> {
    let address = |name: &str| direction.get(name)?.as_str()?.parse::<IpAddr>().ok();
    let port = |name: &str| u16::try_from(direction.get(name)?.as_u64()?).ok();
    let (sport, dport) = if proto.is_icmp() { ("icmp_id", "icmp_id") } else { ("sport", "dport") };
    Some(Tuple::new(proto, (address("src")?, port(sport)?), (address("dst")?, port(dport)?)))
}

fn count(direction: &Value) -> Option<Count> {
    let number = |name: &str| direction.get(name)?.as_u64();
    Some(Count { packets: number("packets")?, bytes: number("bytes")? })
}

/// Every record of a file, in order.
///
/// # Errors
/// When the file cannot be read or a whole line is no record. A last line without its newline is
/// still being written and is left out.
pub fn read_file(path: &Path) -> Result<Vec<Record>, LabError> {
    let mut tail = Tail::new(path.to_owned());
    let records = tail.read()?;
    tail.file.is_some().then_some(records).ok_or(io::ErrorKind::NotFound).context(&tail.doing())
}

/// A file of records that grows, read from its beginning on.
#[derive(Debug)]
pub struct Tail {
    path: PathBuf,
    file: Option<BufReader<File>>,
    line: String,
}

impl Tail {
    /// The file may not be there yet.
    #[must_use]
    pub const fn new(path: PathBuf) -> Self {
        Self { path, file: None, line: String::new() }
    }

    fn doing(&self) -> String {
        format!("reading {}", self.path.display())
    }

    /// The records that came since the last call.
    ///
    /// # Errors
    /// When the file cannot be read or a line is no record.
    pub fn read(&mut self) -> Result<Vec<Record>, LabError> {
        let doing = self.doing();
        if self.file.is_none() {
            self.file = File::open(&self.path).ok().map(BufReader::new);
        }
        let mut records = Vec::new();
        let Some(file) = &mut self.file else { return Ok(records) };
        while file.read_line(&mut self.line).context(&doing)? > 0 && self.line.ends_with('\n') {
            records.push(Record::parse(&self.line).map_err(io::Error::other).context(&doing)?);
            self.line.clear();
        }
        Ok(records)
    }
}

/// The records without repeats: at least once is what a sink promises, and the key makes a repeat
/// harmless. Records with a weak key or none are all kept.
#[must_use]
pub fn distinct(records: &[Record]) -> Vec<&Record> {
    let mut seen = HashSet::new();
    records
        .iter()
        .filter(|record| match &record.key {
            Some(key) if !record.weak_key => seen.insert(key.as_str()),
            _ => true,
        })
        .collect()
}

//! What the daemon's file says: every line, by key.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// The records of a file sink, older ones first.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// Every line.
    pub lines: Vec<Value>,
}

impl Account {
    /// Reads the file and the one that it was rotated to.
    ///
    /// # Errors
    /// When a line is no JSON object of a destroyed flow, or the file does not end with a line.
    pub fn read(path: &Path) -> io::Result<Self> {
        let mut lines = Vec::new();
        for path in [rotated(path), path.to_owned()] {
            let text = match fs::read_to_string(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other?,
            };
            if !text.is_empty() && !text.ends_with('\n') {
                return Err(io::Error::other(format!("{}: torn last line", path.display())));
            }
            for line in text.lines() {
                lines.push(record(line)?);
            }
        }
        Ok(Self { lines })
    }

    /// How many different keys there are.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.lines.iter().filter_map(|line| line["key"].as_str()).collect::<HashSet<_>>().len()
    }

    /// How many lines have a weak key.
    #[must_use]
    pub fn weak(&self) -> usize {
        self.lines.iter().filter(|line| line["weak_key"] == true).count()
    }

    /// Lines by cause.
    #[must_use]
    pub fn causes(&self) -> BTreeMap<&str, usize> {
        let mut causes = BTreeMap::new();
        for line in &self.lines {
            *causes.entry(line["cause"].as_str().unwrap_or("none")).or_default() += 1;
        }
        causes
    }

    /// Different original tuples with their zones.
    #[must_use]
    pub fn tuples(&self) -> HashSet<String> {
        self.lines.iter().map(tuple).collect()
    }
}

/// What identifies a flow among those that live: protocol, zone and original tuple as text.
#[must_use]
pub fn tuple(record: &Value) -> String {
    let orig = &record["orig"];
    let number = |names: [&str; 3]| {
        let found = names.iter().find_map(|name| orig[*name].as_u64());
        found.map_or(String::new(), |number| number.to_string())
    };
    format!(
        "{} {} {}:{} > {}:{} {}",
        record["proto"].as_str().unwrap_or("?"),
        record["zone"],
        orig["src"].as_str().unwrap_or("?"),
        number(["sport", "srckey", "icmp_id"]),
        orig["dst"].as_str().unwrap_or("?"),
        number(["dport", "dstkey", "icmp_type"]),
        number(["icmp_code", "", ""]),
    )
}

/// Where a file is rotated to.
#[must_use]
pub fn rotated(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    name.into()
}

fn record(line: &str) -> io::Result<Value> {
    let value: Value = serde_json::from_str(line)
        .map_err(|error| io::Error::other(format!("{error} in {line:?}")))?;
    if value["type"] != "destroy" {
        return Err(io::Error::other(format!("no destroyed flow: {line}")));
    }
    Ok(value)
}

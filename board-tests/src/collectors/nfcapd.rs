//! nfcapd of nfdump: binary files, read back with nfdump.
//!
//! The options are those of `config/fleet/nfdump-routers.conf`, with files of 2 seconds, the
//! shortest that nfcapd has. nfdump 1.7.1 keeps counters of both directions, NAT event, and
//! translated ports; translated addresses of IPv4 only; no flowId; it writes an ICMP type instead
//! of ports. Limit: the file that is still written, `nfcapd.current.PID`, is not read; a killed
//! nfcapd leaves it behind.

use super::collected::Row;
use super::{Collected, Setup, fleet, output};
use serde_json::Value;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::Command;

const FILES: &str = "nfcapd";

/// Makes the directory of its files.
pub(super) fn prepare(setup: &Setup) -> io::Result<()> {
    fs::create_dir_all(setup.path(FILES))
}

pub(super) fn command(setup: &Setup) -> io::Result<Command> {
    let text = fs::read_to_string(fleet("nfdump-routers.conf"))?;
    let mut words = options(&text)?;
    let buffer = setup.buffer.map(|it| it.to_string());
    replace(&mut words, "-w", &setup.path(FILES))?;
    replace(&mut words, "-t", "2")?;
    replace(&mut words, "-p", &setup.port.to_string())?;
    if let Some(buffer) = buffer {
        replace(&mut words, "-B", &buffer)?;
    }
    let mut command = Command::new("nfcapd");
    command.args(words);
    Ok(command)
}

/// The words between the quotes of `options='...'`.
fn options(text: &str) -> io::Result<Vec<String>> {
    let line = text.lines().find_map(|line| line.strip_prefix("options='")?.strip_suffix('\''));
    let line = line.ok_or_else(|| io::Error::other("no options='...' in nfdump-routers.conf"))?;
    Ok(line.split_whitespace().map(str::to_owned).collect())
}

/// Gives `option` another value.
fn replace(words: &mut [String], option: &str, value: &str) -> io::Result<()> {
    let at = words.iter().position(|word| word == option);
    let place = at.and_then(|at| words.get_mut(at + 1));
    let place = place.ok_or_else(|| io::Error::other(format!("nfdump-routers.conf: {option}")))?;
    value.clone_into(place);
    Ok(())
}

/// Every finished file, in order of time.
fn files(setup: &Setup) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(setup.path(FILES))? {
        let entry = entry?;
        let name = entry.file_name();
        let time = name.to_str().and_then(|it| it.strip_prefix("nfcapd."));
        if time.is_some_and(|it| it.bytes().all(|byte| byte.is_ascii_digit())) {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

pub(super) fn collected(setup: &Setup) -> io::Result<Vec<Collected>> {
    let mut all = Vec::new();
    for file in files(setup)? {
        let mut command = Command::new("nfdump");
        command.arg("-r").arg(file).args(["-o", "json"]).env("TZ", "UTC");
        all.extend(records(&output(&mut command)?)?);
    }
    Ok(all)
}

/// The records of `nfdump -o json`, which of an empty file is no JSON.
fn records(text: &str) -> io::Result<Vec<Collected>> {
    if text.contains("No matching flows") {
        return Ok(Vec::new());
    }
    let values: Vec<Value> = serde_json::from_str(text)?;
    values.iter().map(|value| record(Row(value))).collect()
}

fn record(row: Row<'_>) -> io::Result<Collected> {
    let icmp = match (row.number::<u16>("icmp_type")?, row.number::<u16>("icmp_code")?) {
        (Some(kind), Some(code)) => Some(kind << 8 | code),
        _ => None,
    };
    Ok(Collected {
        key: None,
        start_ms: time(row, "first")?,
        end_ms: time(row, "last")?,
        src: row.one_address(["src4_addr", "src6_addr"])?,
        dst: row.one_address(["dst4_addr", "dst6_addr"])?,
        sport: row.number("src_port")?,
        dport: row.number("dst_port")?,
        proto: row.needed("proto")?,
        icmp,
        bytes: row.needed("in_bytes")?,
        packets: row.needed("in_packets")?,
        reverse_bytes: row.number("out_bytes")?,
        reverse_packets: row.number("out_packets")?,
        nat_src: row.address("src4_xlt_ip")?,
        nat_dst: row.address("dst4_xlt_ip")?,
        nat_sport: row.number("src_xlt_port")?,
        nat_dport: row.number("dst_xlt_port")?,
        nat_event: row.number("nat_event_id")?,
        end_reason: None,
        domain: None,
    })
}

/// `2026-11-25T04:52:57.610`, in UTC, as milliseconds since 1970.
fn time(row: Row<'_>, name: &str) -> io::Result<u64> {
    row.text(name).and_then(milliseconds).ok_or_else(|| row.wrong(name))
}

fn milliseconds(text: &str) -> Option<u64> {
    let mut parts = text.split(['-', 'T', ':', '.']).map(|part| part.parse::<u64>().ok());
    let mut next = || parts.next().flatten();
    let (year, month, day) = (next()?, next()?, next()?);
    let (hour, minute, second, ms) = (next()?, next()?, next()?, next()?);
    let seconds = ((days(year, month, day)? * 24 + hour) * 60 + minute) * 60 + second;
    Some(seconds * 1000 + ms)
}

/// Days from 1970-01-01 to a date of the Gregorian calendar.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    const BEFORE: [u64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    let leaps = |year: u64| year / 4 - year / 100 + year / 400;
    let before = *BEFORE.get(usize::try_from(month.checked_sub(1)?).ok()?)?;
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let years = (year.checked_sub(1970)?) * 365 + leaps(year - 1) - leaps(1969);
    Some(years + before + u64::from(leap && month > 2) + day.checked_sub(1)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        // The examples of date(1): date -u -d ... +%s.
        assert_eq!(milliseconds("1970-01-01T00:00:00.001"), Some(1));
        assert_eq!(milliseconds("2000-03-01T00:00:00.000"), Some(951_868_800_000));
        assert_eq!(milliseconds("2024-02-29T12:00:00.500"), Some(1_709_208_000_500));
        assert_eq!(milliseconds("2024-02-29"), None);
    }

    #[test]
    fn the_documented_options_are_read() {
        let text = fs::read_to_string(fleet("nfdump-routers.conf")).unwrap();
        let mut words = options(&text).unwrap();
        for option in ["-w", "-t", "-p", "-B"] {
            replace(&mut words, option, "x").unwrap();
        }
        assert!(replace(&mut words, "-q", "x").is_err());
    }

    #[test]
    fn an_empty_file_has_no_records() {
        assert!(records("[\nNo matching flows\n]\n").unwrap().is_empty());
    }
}

//! conntrack(8) of Debian as the kernel's own view: run in a namespace, its lines read.
//!
//! Reads the form of `-o id,extended`: `ipv4 2 tcp 6 299 ESTABLISHED src=… [UNREPLIED] src=…
//! mark=0 zone=7 use=1 id=…`, and with `-E` the event before it. The first occurrence of a key is
//! of the original direction, the second of the reply. Nothing of the daemon's codec is used.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::Command;

use crate::lab::Netns;
use crate::load::sys;

/// One line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// `NEW`, `UPDATE` or `DESTROY` of `-E`; empty for a list.
    pub event: String,
    /// Number of the protocol.
    pub proto: u8,
    /// Whether it is of IPv6.
    pub ipv6: bool,
    /// Seconds until the flow times out; not in a DESTROY.
    pub timeout_s: Option<u32>,
    /// State of TCP or SCTP.
    pub state: Option<String>,
    /// `UNREPLIED`, `ASSURED`, `OFFLOAD` and so on.
    pub flags: Vec<String>,
    /// Original direction: `src`, `dst`, `sport`, `packets`, `zone-orig` …
    pub orig: BTreeMap<String, String>,
    /// Reply direction.
    pub reply: BTreeMap<String, String>,
    /// What belongs to neither: `mark`, `zone`, `use`, `id`, `helper`, `delta-time`.
    pub other: BTreeMap<String, String>,
}

/// Keys that occur once for each direction.
const OF_A_DIRECTION: [&str; 13] = [
    "src",
    "dst",
    "sport",
    "dport",
    "type",
    "code",
    "srckey",
    "dstkey",
    "packets",
    "bytes",
    "zone-orig",
    "zone-reply",
    "id",
];

impl Line {
    /// Reads one line; `None` if it is none of a flow.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace().peekable();
        let mut read = Self::default();
        if let Some(event) = words.peek().filter(|word| word.starts_with('[')) {
            read.event = event.trim_matches(|c| c == '[' || c == ']').to_owned();
            words.next();
        }
        read.ipv6 = words.next()? == "ipv6";
        words.next()?; // the family's number
        words.next()?; // the protocol's name
        read.proto = words.next()?.parse().ok()?;
        read.timeout_s = words.peek().and_then(|word| word.parse().ok());
        for word in words {
            read.take(word);
        }
        read.other.contains_key("id").then_some(read)
    }

    fn take(&mut self, word: &str) {
        if let Some((key, value)) = word.split_once('=') {
            self.place(key).insert(key.to_owned(), value.to_owned());
        } else if let Some(flag) = word.strip_prefix('[') {
            self.flags.push(flag.trim_end_matches(']').to_owned());
        } else if word.parse::<u32>().is_err() {
            self.state = Some(word.to_owned());
        }
    }

    /// An `id` is one of ICMP within the directions, and the entry's own at the end.
    fn place(&mut self, key: &str) -> &mut BTreeMap<String, String> {
        let in_direction = OF_A_DIRECTION.contains(&key);
        let of_icmp = |it: &BTreeMap<_, _>| it.contains_key("type") && !it.contains_key("id");
        if !in_direction || self.other.contains_key("mark") || self.other.contains_key("use") {
            return &mut self.other;
        }
        let begun = self.reply.contains_key("src");
        if key == "id" && !of_icmp(if begun { &self.reply } else { &self.orig }) {
            return &mut self.other;
        }
        let second = begun || (key == "src" && self.orig.contains_key("src"));
        if second { &mut self.reply } else { &mut self.orig }
    }

    /// The kernel's id of the entry.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.other.get("id").and_then(|id| id.parse().ok()).unwrap_or_default()
    }

    /// A number of a direction, hexadecimal or not.
    #[must_use]
    pub fn number(direction: &BTreeMap<String, String>, key: &str) -> Option<u64> {
        let text = direction.get(key)?;
        match text.strip_prefix("0x") {
            Some(hex) => u64::from_str_radix(hex, 16).ok(),
            None => text.parse().ok(),
        }
    }
}

/// `program` with arguments, to be run in `netns`.
#[must_use]
pub fn command(netns: &Netns, program: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    sys::prepare(&mut command, Some(netns.as_raw_fd()));
    command
}

/// Runs a program to its end; what it wrote to standard output.
///
/// # Errors
/// When it cannot be started (the message names the Debian package) or fails.
pub fn output(netns: &Netns, program: &Path, arguments: &[&str]) -> io::Result<String> {
    let output = command(netns, program, arguments).output().map_err(|error| {
        let name = program.display();
        io::Error::new(error.kind(), format!("{name}: {error}; apt-get install {name}"))
    })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("{} {arguments:?}: {said}", program.display())))
}

/// Runs conntrack(8); its standard output.
///
/// # Errors
/// When it is not installed, or refuses.
pub fn conntrack(netns: &Netns, arguments: &[&str]) -> io::Result<String> {
    output(netns, Path::new("conntrack"), arguments)
}

/// The kernel's table.
///
/// # Errors
/// When conntrack(8) is not installed or a line is not understood.
pub fn list(netns: &Netns) -> io::Result<Vec<Line>> {
    let text = conntrack(netns, &["-L", "-o", "id,extended"])?;
    text.lines().map(understood).collect()
}

/// A line that must be one.
///
/// # Errors
/// When it is not.
pub fn understood(line: &str) -> io::Result<Line> {
    Line::parse(line).ok_or_else(|| io::Error::other(format!("conntrack(8) wrote {line:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_icmp_has_three_ids() {
        let line = "ipv4     2 icmp     1 299 src=10.0.0.1 dst=10.0.0.2 type=8 code=0 id=77 \
            packets=0 bytes=0 [UNREPLIED] src=10.0.0.2 dst=10.0.0.1 type=0 code=0 id=78 packets=1 \
            bytes=2 mark=0 delta-time=0 use=1 id=1815678279";
        let read = Line::parse(line).unwrap();
        assert_eq!(
            (read.id(), read.orig["id"].as_str(), read.reply["id"].as_str()),
            (1815678279, "77", "78")
        );
        assert_eq!(
            (read.flags.as_slice(), read.timeout_s),
            (&["UNREPLIED".to_owned()][..], Some(299))
        );
        assert_eq!(read.reply["bytes"], "2");
    }

    #[test]
    fn an_event_of_icmp_may_have_nothing_between_its_ids() {
        let line = "    [NEW] ipv6     10 icmpv6   58 30 src=::1 dst=::2 type=128 code=0 id=5 \
            [UNREPLIED] src=::2 dst=::1 type=129 code=0 id=6 id=7";
        let read = Line::parse(line).unwrap();
        assert_eq!((read.orig["id"].as_str(), read.reply["id"].as_str(), read.id()), ("5", "6", 7));
    }

    #[test]
    fn an_event_of_a_dead_flow_has_no_timeout() {
        let line = "[DESTROY] ipv6     10 gre      47 src=fd00::1 dst=fd00::2 srckey=0x111 \
            dstkey=0x222 [UNREPLIED] src=fd00::2 dst=fd00::1 srckey=0x222 dstkey=0x111 id=7";
        let read = Line::parse(line).unwrap();
        assert_eq!(
            (read.event.as_str(), read.timeout_s, read.proto, read.ipv6),
            ("DESTROY", None, 47, true)
        );
        assert_eq!(Line::number(&read.orig, "srckey"), Some(0x111));
        assert_eq!(read.id(), 7);
    }

    #[test]
    fn zones_are_of_a_direction_or_of_both() {
        let line = "ipv4 2 tcp 6 299 SYN_SENT src=1.1.1.1 dst=2.2.2.2 sport=1 dport=2 zone-orig=4 \
            src=2.2.2.2 dst=1.1.1.1 sport=2 dport=1 [ASSURED] mark=5 zone=7 use=1 id=9";
        let read = Line::parse(line).unwrap();
        assert_eq!((read.orig["zone-orig"].as_str(), read.other["zone"].as_str()), ("4", "7"));
        assert_eq!(read.state.as_deref(), Some("SYN_SENT"));
    }
}

//! Every section and key of the configuration, once.
//!
//! Reading, checking, the defaults, the reference in the README and what a reload can apply all
//! come from [`SCHEMA`]. Defaults are text, read as an untyped front-end's values are.

use std::fmt;
use std::path::PathBuf;

use log::LevelFilter;

use super::value::{Checked, Kind};
use super::{Config, DEFAULT_SOCKET, FileSink, Groups, LogTarget, Sink, WhenFull};
use crate::retry;
use crate::table::{MAX_CAPACITY, MIN_CAPACITY};

/// One section.
#[derive(Debug)]
pub struct Section {
    /// `table` of `[table]`.
    pub name: &'static str,
    /// The value of `type`, for a section that may stand several times (`[[sink]]`).
    pub variant: Option<&'static str>,
    /// One line of explanation.
    pub help: &'static str,
    /// Its keys.
    pub keys: &'static [Key],
}

/// One key.
#[derive(Debug)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// What it may hold.
    pub kind: Kind,
    /// Its default as an untyped value.
    pub default: &'static str,
    /// Whether a reload (SIGHUP) applies a change; otherwise a restart does.
    pub live: bool,
    /// One line of explanation.
    pub help: &'static str,
    slot: fn(&mut Config, usize) -> Option<Slot<'_>>,
}

/// Where the value of a key lies in a [`Config`].
#[derive(Debug, PartialEq)]
pub(super) enum Slot<'a> {
    Flag(&'a mut bool),
    U32(&'a mut u32),
    U64(&'a mut u64),
    Path(&'a mut PathBuf),
    Target(&'a mut LogTarget),
    Level(&'a mut LevelFilter),
    Groups(&'a mut Groups),
    WhenFull(&'a mut WhenFull),
}

const EVENT_GROUPS: &[&str] = &["new", "update", "destroy"];
const LEVELS: &[&str] = &["error", "warn", "info", "debug"];
const POLICIES: &[&str] = &["hold", "drop-oldest"];
const TARGETS: &[&str] = &["stderr", "syslog"];

/// Longest path of a Unix socket, in bytes: `sun_path` less its final zero.
const SOCKET_PATH: usize = 107;
/// Longest path of a file, in bytes, with room for what rotation appends.
const FILE_PATH: usize = 1000;

/// All sections that this version knows.
pub static SCHEMA: &[Section] = &[
    Section { name: "kernel", variant: None, help: "The kernel's own settings.", keys: KERNEL },
    Section { name: "events", variant: None, help: "How events are received.", keys: EVENTS },
    Section { name: "table", variant: None, help: "The flow table.", keys: TABLE },
    Section { name: "retry", variant: None, help: "Records that are owed to sinks.", keys: RETRY },
    Section {
        name: "sink",
        variant: Some("file"),
        help: "JSON lines into a file, one for each destroyed flow. At most 16 sinks; of several \
               configuration files, the last that has a sink gives them all.",
        keys: FILE_SINK,
    },
    Section { name: "control", variant: None, help: "The control socket.", keys: CONTROL },
    Section { name: "log", variant: None, help: "The log.", keys: LOG },
];

/// Sections that belong to the design and not to this version.
pub static LATER_SECTIONS: &[&str] = &["checkpoint", "sync", "console"];
/// Types of `[[sink]]` that belong to the design and not to this version.
pub static LATER_SINKS: &[&str] = &["unix", "syslog", "ipfix"];

const KERNEL: &[Key] = &[Key {
    name: "manage_sysctls",
    kind: Kind::Flag,
    default: "true",
    live: true,
    help: "Switch on nf_conntrack_events, nf_conntrack_acct and nf_conntrack_timestamp.",
    slot: |c, _| Some(Slot::Flag(&mut c.kernel.manage_sysctls)),
}];

const EVENTS: &[Key] = &[
    Key {
        name: "reliable",
        kind: Kind::Flag,
        default: "true",
        live: true,
        help: "The kernel keeps and repeats a destroy that did not fit into the receive buffer.",
        slot: |c, _| Some(Slot::Flag(&mut c.events.reliable)),
    },
    Key {
        name: "receive_buffer",
        kind: Kind::Size(2048, 256 << 20),
        default: "512KiB",
        live: false,
        help: "Receive buffer of each event socket; most of an event's share is kernel overhead.",
        slot: |c, _| Some(Slot::U32(&mut c.events.receive_buffer_bytes)),
    },
    Key {
        name: "coalesce_ms",
        kind: Kind::Number(0, 100),
        default: "5",
        live: true,
        help: "Nap between two reads while events keep coming: fewer wake-ups; 0 = none.",
        slot: |c, _| Some(Slot::U32(&mut c.events.coalesce_ms)),
    },
    Key {
        name: "groups",
        kind: Kind::Choices(EVENT_GROUPS),
        default: "new update destroy",
        live: false,
        help: "What is listened to; without new and update only dumps fill the table.",
        slot: |c, _| Some(Slot::Groups(&mut c.events.groups)),
    },
    Key {
        name: "remember",
        kind: Kind::Number(256, 1 << 20),
        default: "16384",
        live: false,
        help: "Keys of recent destroys remembered, so that repeats are not counted twice.",
        slot: |c, _| Some(Slot::U32(&mut c.events.remember)),
    },
];

const TABLE: &[Key] = &[
    Key {
        name: "capacity",
        kind: Kind::Number(MIN_CAPACITY, MAX_CAPACITY),
        default: "16384",
        live: false,
        help: "Flows that the table holds, counted in IPv4 flows.",
        slot: |c, _| Some(Slot::U32(&mut c.table.capacity)),
    },
    Key {
        name: "extensions",
        kind: Kind::Number(0, MAX_CAPACITY),
        default: "0",
        live: false,
        help: "Flows that may have labels, a helper, a master or sequence adjustments; \
               0 = a sixteenth of the capacity, at least 16.",
        slot: |c, _| Some(Slot::U32(&mut c.table.extensions)),
    },
    Key {
        name: "refresh_s",
        kind: Kind::Number(1, 86_400),
        default: "60",
        live: true,
        help: "Seconds between two dumps that refresh counters and timeouts.",
        slot: |c, _| Some(Slot::U32(&mut c.table.refresh_s)),
    },
];

const RETRY: &[Key] = &[
    Key {
        name: "capacity",
        kind: Kind::Number(*retry::CAPACITIES.start(), *retry::CAPACITIES.end()),
        default: "1024",
        live: false,
        help: "Records of destroyed flows held for sinks; each is held once for all of them.",
        slot: |c, _| Some(Slot::U32(&mut c.retry.capacity)),
    },
    Key {
        name: "max_delay_s",
        kind: Kind::Number(1, 3_600),
        default: "15",
        live: true,
        help: "A sink that refused is tried again after a random share of so many seconds.",
        slot: |c, _| Some(Slot::U32(&mut c.retry.max_delay_s)),
    },
    Key {
        name: "when_full",
        kind: Kind::Choice(POLICIES),
        default: "hold",
        live: true,
        help: "When a reliable sink keeps the queue full: leave destroys in the kernel, within \
               the budget, or drop the oldest records and count them.",
        slot: |c, _| Some(Slot::WhenFull(&mut c.retry.when_full)),
    },
    Key {
        name: "dying_budget_percent",
        kind: Kind::Number(1, 90),
        default: "10",
        live: true,
        help: "Part of nf_conntrack_max that undelivered destroys may take in the kernel; beyond \
               it, records are dropped and counted, so that new connections are never refused.",
        slot: |c, _| Some(Slot::U32(&mut c.retry.dying_budget_percent)),
    },
    Key {
        name: "stall_s",
        kind: Kind::Number(1, 3_600),
        default: "10",
        live: true,
        help: "Seconds after which a worker that does nothing is taken for stuck: the kernel then \
               keeps destroys no longer for it.",
        slot: |c, _| Some(Slot::U32(&mut c.retry.stall_s)),
    },
];

const FILE_SINK: &[Key] = &[
    Key {
        name: "type",
        kind: Kind::Choice(&["file"]),
        default: "file",
        live: false,
        help: "The type of the sink; must be given.",
        slot: |_, _| None,
    },
    Key {
        name: "path",
        kind: Kind::Path(FILE_PATH),
        default: "/tmp/firmware-ctd/flows.jsonl",
        live: false,
        help: "The file; no two sinks may share one.",
        slot: |c, i| file_sink(c, i).map(|s| Slot::Path(&mut s.path)),
    },
    Key {
        name: "max_bytes",
        kind: Kind::Size(4096, 1 << 40),
        default: "1MiB",
        live: true,
        help: "Size at which the file is rotated; at most twice that is on disk.",
        slot: |c, i| file_sink(c, i).map(|s| Slot::U64(&mut s.max_bytes)),
    },
    Key {
        name: "reliable",
        kind: Kind::Flag,
        default: "true",
        live: true,
        help: "Hold records until they are written; otherwise drop and count them.",
        slot: |c, i| file_sink(c, i).map(|s| Slot::Flag(&mut s.reliable)),
    },
];

const CONTROL: &[Key] = &[
    Key {
        name: "socket",
        kind: Kind::Path(SOCKET_PATH),
        default: DEFAULT_SOCKET,
        live: false,
        help: "The Unix socket for status, flows and events.",
        slot: |c, _| Some(Slot::Path(&mut c.control.socket)),
    },
    Key {
        name: "clients",
        kind: Kind::Number(1, 64),
        default: "8",
        live: false,
        help: "Clients served at a time; one more is refused with a message.",
        slot: |c, _| Some(Slot::U32(&mut c.control.clients)),
    },
];

const LOG: &[Key] = &[
    Key {
        name: "target",
        kind: Kind::Choice(TARGETS),
        default: "stderr",
        live: true,
        help: "Where lines go; syslog is /dev/log, and stderr while there is none.",
        slot: |c, _| Some(Slot::Target(&mut c.log.target)),
    },
    Key {
        name: "level",
        kind: Kind::Choice(LEVELS),
        default: "info",
        live: true,
        help: "The least important lines that are still written.",
        slot: |c, _| Some(Slot::Level(&mut c.log.level)),
    },
];

fn file_sink(config: &mut Config, index: usize) -> Option<&mut FileSink> {
    config.sinks.get_mut(index).map(|Sink::File(sink)| sink)
}

impl Key {
    /// Puts `value` where this key's value lies; `instance` counts sections of one name.
    pub(super) fn store(&self, config: &mut Config, instance: usize, value: Checked<'_>) {
        if let Some(slot) = (self.slot)(config, instance) {
            slot.store(value);
        }
    }

    /// The default as TOML writes it.
    #[must_use]
    pub fn toml_default(&self) -> impl fmt::Display {
        TomlDefault(self)
    }

    fn differs(&self, a: &mut Config, b: &mut Config, instance: usize) -> bool {
        (self.slot)(a, instance) != (self.slot)(b, instance)
    }
}

impl Slot<'_> {
    /// The kind of the key and its slot belong together; a test sets every key of the schema.
    fn store(self, value: Checked<'_>) {
        match (self, value) {
            (Self::Flag(slot), Checked::Flag(flag)) => *slot = flag,
            (Self::U32(slot), Checked::Number(n)) => *slot = u32::try_from(n).unwrap_or(u32::MAX),
            (Self::U64(slot), Checked::Number(n)) => *slot = n,
            (Self::Path(slot), Checked::Path(text)) => *slot = PathBuf::from(text),
            (Self::Target(slot), Checked::Choice(which)) => *slot = target(which),
            (Self::Level(slot), Checked::Choice(which)) => *slot = level(which),
            (Self::Groups(slot), Checked::Choices(bits)) => *slot = groups(bits),
            (Self::WhenFull(slot), Checked::Choice(which)) => *slot = when_full(which),
            _ => {}
        }
    }
}

const fn when_full(which: usize) -> WhenFull {
    if which == 0 { WhenFull::Hold } else { WhenFull::DropOldest }
}

const fn target(which: usize) -> LogTarget {
    if which == 0 { LogTarget::Stderr } else { LogTarget::Syslog }
}

const fn level(which: usize) -> LevelFilter {
    match which {
        0 => LevelFilter::Error,
        1 => LevelFilter::Warn,
        2 => LevelFilter::Info,
        _ => LevelFilter::Debug,
    }
}

const fn groups(bits: u32) -> Groups {
    Groups { new: bits & 1 != 0, update: bits & 2 != 0, destroy: bits & 4 != 0 }
}

/// The full name of a key, shown as `table.capacity`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyName {
    /// The section.
    pub section: &'static str,
    /// The key.
    pub key: &'static str,
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.section, self.key)
    }
}

/// Every key that differs and that a reload cannot apply.
pub(super) fn fixed_changes(old: &Config, new: &Config) -> Vec<KeyName> {
    let (mut old, mut new) = (old.clone(), new.clone());
    let most = old.sinks.len().max(new.sinks.len());
    let mut changed = Vec::new();
    for section in SCHEMA {
        let instances = if section.variant.is_some() { most } else { 1 };
        for key in section.keys.iter().filter(|key| !key.live) {
            if (0..instances).any(|i| key.differs(&mut old, &mut new, i)) {
                changed.push(KeyName { section: section.name, key: key.name });
            }
        }
    }
    changed
}

/// Writes the reference of all keys as Markdown.
///
/// # Errors
/// Those of `out`.
pub fn reference(out: &mut dyn fmt::Write) -> fmt::Result {
    for (i, section) in SCHEMA.iter().enumerate() {
        let gap = if i == 0 { "" } else { "\n" };
        match section.variant {
            None => write!(out, "{gap}**`[{}]`**", section.name)?,
            Some(v) => write!(out, "{gap}**`[[{}]]`** with `type = \"{v}\"`", section.name)?,
        }
        writeln!(out, " – {}\n", section.help)?;
        out.write_str(
            "| key | allowed | default | applied by | meaning |\n|---|---|---|---|---|\n",
        )?;
        for key in section.keys {
            write!(out, "| `{}` | {} | `{}` ", key.name, key.kind, key.toml_default())?;
            let by = if key.live { "reload" } else { "restart" };
            writeln!(out, "| {by} | {} |", key.help)?;
        }
    }
    Ok(())
}

/// The default of a key as TOML writes it.
struct TomlDefault<'a>(&'a Key);

impl fmt::Display for TomlDefault<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.default;
        match self.0.kind {
            Kind::Flag | Kind::Number(..) => f.write_str(text),
            Kind::Size(..) | Kind::Path(_) | Kind::Choice(_) => write!(f, "\"{text}\""),
            Kind::Choices(_) => {
                for (i, word) in text.split(' ').enumerate() {
                    write!(f, "{}\"{word}\"", if i == 0 { "[" } else { ", " })?;
                }
                f.write_str("]")
            }
        }
    }
}

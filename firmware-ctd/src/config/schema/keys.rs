//! The sections and keys themselves; those of sinks are in a file of their own.

/// An explanation, in programs that have them.
macro_rules! help {
    ($text:literal) => {
        if cfg!(feature = "reference") { $text } else { "" }
    };
}

mod sinks;

use super::{Key, Section, Slot};
use crate::config::DEFAULT_SOCKET;
use crate::config::value::Kind;
use crate::retry;
use crate::table::{MAX_CAPACITY, MIN_CAPACITY};
use sinks::{FILE_SINK, IPFIX_SINK, SYSLOG_SINK, UNIX_SINK};

const EVENT_GROUPS: &[&str] = &["new", "update", "destroy"];
const LEVELS: &[&str] = &["error", "warn", "info", "debug"];
/// Values of `type` of a sink.
pub(in crate::config) const SINK_TYPES: &[&str] = &["file", "unix", "syslog", "ipfix"];
const POLICIES: &[&str] = &["hold", "drop-oldest"];
const TARGETS: &[&str] = &["stderr", "syslog"];

/// Longest path of a Unix socket, in bytes: `sun_path` less its final zero.
const SOCKET_PATH: usize = 107;
/// Longest path of a file, in bytes, with room for what rotation appends.
const FILE_PATH: usize = 1000;

/// All sections that this version knows.
pub static SCHEMA: &[Section] = &[
    Section {
        name: "kernel",
        variant: None,
        help: help!("The kernel's own settings."),
        keys: KERNEL,
    },
    Section {
        name: "events",
        variant: None,
        help: help!("How events are received."),
        keys: EVENTS,
    },
    Section { name: "table", variant: None, help: help!("The flow table."), keys: TABLE },
    Section {
        name: "retry",
        variant: None,
        help: help!("Records that are owed to sinks."),
        keys: RETRY,
    },
    Section {
        name: "sink",
        variant: Some("file"),
        help: help!(
            "JSON lines into a file, one for each destroyed flow. At most 16 sinks; of several \
             configuration files, the last that has a sink gives them all."
        ),
        keys: FILE_SINK,
    },
    Section {
        name: "sink",
        variant: Some("unix"),
        help: help!(
            "JSON lines to one local program that connects to a Unix stream socket and answers \
             \"ack N\" for the first N lines of its connection."
        ),
        keys: UNIX_SINK,
    },
    Section {
        name: "sink",
        variant: Some("syslog"),
        help: help!(
            "JSON lines to /dev/log, best effort: nobody says what arrived, but what is not \
             taken at once is sent later."
        ),
        keys: SYSLOG_SINK,
    },
    Section {
        name: "sink",
        variant: Some("ipfix"),
        help: help!(
            "Flows to an IPFIX collector. By TCP, what the collector may not have read is sent \
             again after a broken connection; UDP is best effort."
        ),
        keys: IPFIX_SINK,
    },
    Section {
        name: "checkpoint",
        variant: None,
        help: help!("Flows carried over a reboot. Off unless a directory is named."),
        keys: CHECKPOINT,
    },
    Section { name: "control", variant: None, help: help!("The control socket."), keys: CONTROL },
    Section { name: "log", variant: None, help: help!("The log."), keys: LOG },
];

/// Sections that belong to the design and not to this version.
pub static LATER_SECTIONS: &[&str] = &["sync", "console"];

const CHECKPOINT: &[Key] = &[
    Key {
        name: "directory",
        kind: Kind::Directory(FILE_PATH),
        default: "",
        live: false,
        help: help!("Where the two images lie, on storage that outlives a reboot."),
        slot: |c, _| Some(Slot::Path(&mut c.checkpoint.directory)),
    },
    Key {
        name: "interval_s",
        kind: Kind::Number(0, 30 * 86_400),
        default: "3600",
        live: true,
        help: help!(
            "Between two saves there, if anything changed; 0 = only at the end and when asked."
        ),
        slot: |c, _| Some(Slot::U32(&mut c.checkpoint.interval_s)),
    },
    Key {
        name: "live_interval_s",
        kind: Kind::Number(0, 86_400),
        default: "300",
        live: true,
        help: help!("Between two saves into memory, beside the control socket; 0 = none."),
        slot: |c, _| Some(Slot::U32(&mut c.checkpoint.live_interval_s)),
    },
    Key {
        name: "flash_bytes_per_day",
        kind: Kind::Size(64 << 10, 1 << 40),
        default: "4MiB",
        live: true,
        help: help!(
            "What saves by the interval may write in a day, counted in erase blocks; saves at \
             the end and when asked are counted too, and are always made."
        ),
        slot: |c, _| Some(Slot::U64(&mut c.checkpoint.flash_bytes_per_day)),
    },
    Key {
        name: "erase_block",
        kind: Kind::Size(512, 16 << 20),
        default: "64KiB",
        live: true,
        help: help!("Size of an erase block of that storage."),
        slot: |c, _| Some(Slot::U32(&mut c.checkpoint.erase_block_bytes)),
    },
    Key {
        name: "max_bytes",
        kind: Kind::Size(16 << 10, 256 << 20),
        default: "1MiB",
        live: true,
        help: help!("Largest image; flows of later rules of keep are left out first."),
        slot: |c, _| Some(Slot::U32(&mut c.checkpoint.max_bytes)),
    },
    Key {
        name: "keep",
        kind: Kind::Rules,
        default: "tcp-established,assured",
        live: true,
        help: help!(
            "Which flows are saved: those that meet one of the rules, the most valuable first."
        ),
        slot: |c, _| Some(Slot::Keep(&mut c.checkpoint.keep)),
    },
    Key {
        name: "restore",
        kind: Kind::Flag,
        default: "true",
        live: false,
        help: help!("Make the saved flows again in the kernel at the first start after a reboot."),
        slot: |c, _| Some(Slot::Flag(&mut c.checkpoint.restore)),
    },
    Key {
        name: "timeout_cap_s",
        kind: Kind::Number(10, 432_000),
        default: "900",
        live: false,
        help: help!(
            "Longest timeout of a restored flow until it has a packet: nobody knows how long \
             the reboot took."
        ),
        slot: |c, _| Some(Slot::U32(&mut c.checkpoint.timeout_cap_s)),
    },
    Key {
        name: "address_grace_s",
        kind: Kind::Number(0, 86_400),
        default: "30",
        live: true,
        help: help!(
            "Restored flows are deleted whose translated address is not this router's so long \
             after a default route is there."
        ),
        slot: |c, _| Some(Slot::U32(&mut c.checkpoint.address_grace_s)),
    },
];

const KERNEL: &[Key] = &[Key {
    name: "manage_sysctls",
    kind: Kind::Flag,
    default: "true",
    live: true,
    help: help!("Switch on nf_conntrack_events, nf_conntrack_acct and nf_conntrack_timestamp."),
    slot: |c, _| Some(Slot::Flag(&mut c.kernel.manage_sysctls)),
}];

const EVENTS: &[Key] = &[
    Key {
        name: "reliable",
        kind: Kind::Flag,
        default: "true",
        live: true,
        help: help!(
            "The kernel keeps and repeats a destroy that did not fit into the receive buffer."
        ),
        slot: |c, _| Some(Slot::Flag(&mut c.events.reliable)),
    },
    Key {
        name: "receive_buffer",
        kind: Kind::Size(2048, 256 << 20),
        default: "512KiB",
        live: false,
        help: help!(
            "Receive buffer of each event socket; most of an event's share is kernel overhead."
        ),
        slot: |c, _| Some(Slot::U32(&mut c.events.receive_buffer_bytes)),
    },
    Key {
        name: "coalesce_ms",
        kind: Kind::Number(0, 100),
        default: "5",
        live: true,
        help: help!("Nap between two reads while events keep coming: fewer wake-ups; 0 = none."),
        slot: |c, _| Some(Slot::U32(&mut c.events.coalesce_ms)),
    },
    Key {
        name: "groups",
        kind: Kind::Choices(EVENT_GROUPS),
        default: "new update destroy",
        live: false,
        help: help!("What is listened to; without new and update only dumps fill the table."),
        slot: |c, _| Some(Slot::Groups(&mut c.events.groups)),
    },
    Key {
        name: "remember",
        kind: Kind::Number(256, 1 << 20),
        default: "16384",
        live: false,
        help: help!("Keys of recent destroys remembered, so that repeats are not counted twice."),
        slot: |c, _| Some(Slot::U32(&mut c.events.remember)),
    },
];

const TABLE: &[Key] = &[
    Key {
        name: "capacity",
        kind: Kind::Number(MIN_CAPACITY, MAX_CAPACITY),
        default: "16384",
        live: false,
        help: help!("Flows that the table holds, counted in IPv4 flows."),
        slot: |c, _| Some(Slot::U32(&mut c.table.capacity)),
    },
    Key {
        name: "extensions",
        kind: Kind::Number(0, MAX_CAPACITY),
        default: "0",
        live: false,
        help: help!(
            "Flows that may have labels, a helper, a master or sequence adjustments; \
             0 = a sixteenth of the capacity, at least 16."
        ),
        slot: |c, _| Some(Slot::U32(&mut c.table.extensions)),
    },
    Key {
        name: "refresh_s",
        kind: Kind::Number(1, 86_400),
        default: "60",
        live: true,
        help: help!("Seconds between two dumps that refresh counters and timeouts."),
        slot: |c, _| Some(Slot::U32(&mut c.table.refresh_s)),
    },
];

const RETRY: &[Key] = &[
    Key {
        name: "capacity",
        kind: Kind::Number(*retry::CAPACITIES.start(), *retry::CAPACITIES.end()),
        default: "1024",
        live: false,
        help: help!(
            "Records of destroyed flows held for sinks; each is held once for all of them."
        ),
        slot: |c, _| Some(Slot::U32(&mut c.retry.capacity)),
    },
    Key {
        name: "max_delay_s",
        kind: Kind::Number(1, 3_600),
        default: "15",
        live: true,
        help: help!("A sink that refused is tried again after a random share of so many seconds."),
        slot: |c, _| Some(Slot::U32(&mut c.retry.max_delay_s)),
    },
    Key {
        name: "when_full",
        kind: Kind::Choice(POLICIES),
        default: "hold",
        live: true,
        help: help!(
            "When a reliable sink keeps the queue full: leave destroys in the kernel, within \
             the budget, or drop the oldest records and count them."
        ),
        slot: |c, _| Some(Slot::WhenFull(&mut c.retry.when_full)),
    },
    Key {
        name: "dying_budget_percent",
        kind: Kind::Number(1, 90),
        default: "10",
        live: true,
        help: help!(
            "Part of nf_conntrack_max that undelivered destroys may take in the kernel; beyond \
             it, records are dropped and counted, so that new connections are never refused."
        ),
        slot: |c, _| Some(Slot::U32(&mut c.retry.dying_budget_percent)),
    },
    Key {
        name: "stall_s",
        kind: Kind::Number(1, 3_600),
        default: "10",
        live: true,
        help: help!(
            "Seconds after which a worker that does nothing is taken for stuck: the kernel then \
             keeps destroys no longer for it."
        ),
        slot: |c, _| Some(Slot::U32(&mut c.retry.stall_s)),
    },
];

const CONTROL: &[Key] = &[
    Key {
        name: "socket",
        kind: Kind::Path(SOCKET_PATH),
        default: DEFAULT_SOCKET,
        live: false,
        help: help!("The Unix socket for status, flows and events."),
        slot: |c, _| Some(Slot::Path(&mut c.control.socket)),
    },
    Key {
        name: "clients",
        kind: Kind::Number(1, 64),
        default: "8",
        live: false,
        help: help!("Clients served at a time; one more is refused with a message."),
        slot: |c, _| Some(Slot::U32(&mut c.control.clients)),
    },
];

const LOG: &[Key] = &[
    Key {
        name: "target",
        kind: Kind::Choice(TARGETS),
        default: "stderr",
        live: true,
        help: help!("Where lines go; syslog is /dev/log, and stderr while there is none."),
        slot: |c, _| Some(Slot::Target(&mut c.log.target)),
    },
    Key {
        name: "level",
        kind: Kind::Choice(LEVELS),
        default: "info",
        live: true,
        help: help!("The least important lines that are still written."),
        slot: |c, _| Some(Slot::Level(&mut c.log.level)),
    },
];

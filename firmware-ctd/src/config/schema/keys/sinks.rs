//! The keys of sinks, by type.

use super::{FILE_PATH, SOCKET_PATH};
use crate::config::schema::{Find, Key, Slot};
use crate::config::value::Kind;
use crate::config::{Config, FileSink, IpfixSink, Sink, SyslogSink, UnixSink};

const TRANSPORTS: &[&str] = &["tcp", "udp"];

const RELIABLE: &str = help!(
    "Hold records until they are delivered, in the kernel if need be; otherwise the oldest give \
     way when the queue is full."
);

/// The key that tells the type of a sink, of which there is one name.
const fn sink_type(name: &'static [&'static str; 1]) -> Key {
    Key {
        name: "type",
        kind: Kind::Choice(name),
        default: name[0],
        live: false,
        help: help!("The type of the sink; must be given."),
        slot: |_, _| None,
    }
}

const fn reliable(default: &'static str, help: &'static str, slot: Find) -> Key {
    Key { name: "reliable", kind: Kind::Flag, default, live: true, help, slot }
}

pub(super) const FILE_SINK: &[Key] = &[
    sink_type(&["file"]),
    Key {
        name: "path",
        kind: Kind::Path(FILE_PATH),
        default: "/tmp/firmware-ctd/flows.jsonl",
        live: false,
        help: help!("The file; no two sinks may share one."),
        slot: |c, i| file_sink(c, i).map(|s| Slot::Path(&mut s.path)),
    },
    Key {
        name: "max_bytes",
        kind: Kind::Size(4096, 1 << 40),
        default: "1MiB",
        live: true,
        help: help!("Size at which the file is rotated; at most twice that is on disk."),
        slot: |c, i| file_sink(c, i).map(|s| Slot::U64(&mut s.max_bytes)),
    },
    reliable("true", RELIABLE, |c, i| file_sink(c, i).map(|s| Slot::Flag(&mut s.reliable))),
];

pub(super) const UNIX_SINK: &[Key] = &[
    sink_type(&["unix"]),
    Key {
        name: "path",
        kind: Kind::Path(SOCKET_PATH),
        default: "/var/run/firmware-ctd.records",
        live: false,
        help: help!("The socket."),
        slot: |c, i| unix_sink(c, i).map(|s| Slot::Path(&mut s.path)),
    },
    reliable("true", RELIABLE, |c, i| unix_sink(c, i).map(|s| Slot::Flag(&mut s.reliable))),
];

pub(super) const SYSLOG_SINK: &[Key] = &[
    sink_type(&["syslog"]),
    reliable("false", help!("Only false: nobody says what arrived."), |c, i| {
        syslog_sink(c, i).map(|s| Slot::Flag(&mut s.reliable))
    }),
];

pub(super) const IPFIX_SINK: &[Key] = &[
    sink_type(&["ipfix"]),
    Key {
        name: "collector",
        kind: Kind::Endpoint,
        default: "127.0.0.1:4739",
        live: false,
        help: help!("The collector; no two sinks may share one by the same transport."),
        slot: |c, i| ipfix_sink(c, i).map(|s| Slot::Endpoint(&mut s.collector)),
    },
    Key {
        name: "transport",
        kind: Kind::Choice(TRANSPORTS),
        default: "tcp",
        live: false,
        help: help!("How it is reached."),
        slot: |c, i| ipfix_sink(c, i).map(|s| Slot::Transport(&mut s.transport)),
    },
    reliable(
        "true",
        help!("As with a file; with UDP only false, which is then the default."),
        |c, i| ipfix_sink(c, i).map(|s| Slot::Flag(&mut s.reliable)),
    ),
    Key {
        name: "replay_bytes",
        kind: Kind::Size(16 << 10, 16 << 20),
        default: "256KiB",
        live: false,
        help: help!(
            "With TCP, sent messages kept until the collector must have read them: at least the \
             largest window that it offers."
        ),
        slot: |c, i| ipfix_sink(c, i).map(|s| Slot::U32(&mut s.replay_bytes)),
    },
    Key {
        name: "template_refresh_s",
        kind: Kind::Number(1, 86_400),
        default: "600",
        live: true,
        help: help!(
            "Seconds between two sendings of templates (UDP) and of the exporter's counters."
        ),
        slot: |c, i| ipfix_sink(c, i).map(|s| Slot::U32(&mut s.template_refresh_s)),
    },
    Key {
        name: "domain",
        kind: Kind::Number(0, u32::MAX),
        default: "1",
        live: false,
        help: help!("The observation domain: tells routers behind one address apart."),
        slot: |c, i| ipfix_sink(c, i).map(|s| Slot::U32(&mut s.domain)),
    },
    Key {
        name: "enterprise",
        kind: Kind::Number(0, u32::MAX),
        default: "0",
        live: false,
        help: help!(
            "Private enterprise number under which zone (element 1) and mark (element 2) are \
             exported; 0 = they are not."
        ),
        slot: |c, i| ipfix_sink(c, i).map(|s| Slot::U32(&mut s.enterprise)),
    },
];

fn file_sink(config: &mut Config, index: usize) -> Option<&mut FileSink> {
    if let Sink::File(sink) = config.sinks.get_mut(index)? { Some(sink) } else { None }
}

fn unix_sink(config: &mut Config, index: usize) -> Option<&mut UnixSink> {
    if let Sink::Unix(sink) = config.sinks.get_mut(index)? { Some(sink) } else { None }
}

fn syslog_sink(config: &mut Config, index: usize) -> Option<&mut SyslogSink> {
    if let Sink::Syslog(sink) = config.sinks.get_mut(index)? { Some(sink) } else { None }
}

fn ipfix_sink(config: &mut Config, index: usize) -> Option<&mut IpfixSink> {
    if let Sink::Ipfix(sink) = config.sinks.get_mut(index)? { Some(sink) } else { None }
}

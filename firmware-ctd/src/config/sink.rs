//! Where records go: `[[sink]]` by its type.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// `[[sink]]`
#[derive(Clone, Debug, PartialEq)]
pub enum Sink {
    /// JSON lines into a file.
    File(FileSink),
    /// JSON lines to a local program that acknowledges them.
    Unix(UnixSink),
    /// JSON lines to `/dev/log`.
    Syslog(SyslogSink),
    /// To an IPFIX collector.
    Ipfix(IpfixSink),
}

/// `[[sink]]` with `type = "file"`
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FileSink {
    /// The file, absolute.
    pub path: PathBuf,
    /// Size at which the file is rotated; at most twice that is on disk.
    pub max_bytes: u64,
    /// Records are held until they are written.
    pub reliable: bool,
}

/// `[[sink]]` with `type = "unix"`
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UnixSink {
    /// The socket, absolute, at most 107 bytes.
    pub path: PathBuf,
    /// Records are held until they are acknowledged.
    pub reliable: bool,
}

/// `[[sink]]` with `type = "syslog"`
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SyslogSink {
    /// Never: nobody says what arrived.
    pub reliable: bool,
}

/// `[[sink]]` with `type = "ipfix"`
#[derive(Clone, Debug, PartialEq)]
pub struct IpfixSink {
    /// The collector.
    pub collector: SocketAddr,
    /// How it is reached.
    pub transport: Transport,
    /// Records are held until the collector must have read them. Never with UDP.
    pub reliable: bool,
    /// Bytes of messages kept that may not have been read, with TCP.
    pub replay_bytes: u32,
    /// Seconds between two sendings of templates (UDP) and counters.
    pub template_refresh_s: u32,
    /// The observation domain.
    pub domain: u32,
    /// Under which zone and mark are exported; 0 for not at all.
    pub enterprise: u32,
}

/// How a collector is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    /// A connection: what may not have been read is sent again.
    #[default]
    Tcp,
    /// Datagrams: best effort.
    Udp,
}

impl Default for IpfixSink {
    fn default() -> Self {
        Self {
            collector: SocketAddr::from((Ipv4Addr::LOCALHOST, 4739)),
            transport: Transport::Tcp,
            reliable: false,
            replay_bytes: 0,
            template_refresh_s: 0,
            domain: 0,
            enterprise: 0,
        }
    }
}

impl Sink {
    /// A sink of this type, as the configuration names it, with nothing set.
    pub(super) fn of_kind(kind: &str) -> Self {
        match kind {
            "unix" => Self::Unix(UnixSink::default()),
            "syslog" => Self::Syslog(SyslogSink::default()),
            "ipfix" => Self::Ipfix(IpfixSink::default()),
            _ => Self::File(FileSink::default()),
        }
    }

    /// The word for its type.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::File(_) => "file",
            Self::Unix(_) => "unix",
            Self::Syslog(_) => "syslog",
            Self::Ipfix(_) => "ipfix",
        }
    }

    /// Whether records are held until they are delivered.
    #[must_use]
    pub const fn reliable(&self) -> bool {
        match self {
            Self::File(sink) => sink.reliable,
            Self::Unix(sink) => sink.reliable,
            Self::Syslog(sink) => sink.reliable,
            Self::Ipfix(sink) => sink.reliable,
        }
    }

    /// Why it cannot be reliable, if it cannot.
    pub(super) const fn best_effort_by_nature(&self) -> Option<&'static str> {
        match self {
            Self::Syslog(_) => Some(
                "is refused for syslog: nobody says what arrived there; use type \"unix\" or \
                 \"file\"",
            ),
            Self::Ipfix(IpfixSink { transport: Transport::Udp, .. }) => {
                Some("is refused for udp: nobody says what arrived there; use transport = \"tcp\"")
            }
            _ => None,
        }
    }

    /// Makes it best effort.
    pub(super) fn make_best_effort(&mut self) {
        match self {
            Self::File(sink) => sink.reliable = false,
            Self::Unix(sink) => sink.reliable = false,
            Self::Syslog(sink) => sink.reliable = false,
            Self::Ipfix(sink) => sink.reliable = false,
        }
    }

    /// The path that it writes to or listens at.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::File(sink) => Some(&sink.path),
            Self::Unix(sink) => Some(&sink.path),
            Self::Syslog(_) | Self::Ipfix(_) => None,
        }
    }

    /// Where it sends to: no two sinks share that.
    #[must_use]
    pub fn target(&self) -> String {
        match self {
            Self::File(FileSink { path, .. }) | Self::Unix(UnixSink { path, .. }) => {
                path.to_string_lossy().into_owned()
            }
            Self::Syslog(_) => "/dev/log".to_owned(),
            Self::Ipfix(sink) => match sink.transport {
                Transport::Tcp => format!("tcp {}", sink.collector),
                Transport::Udp => format!("udp {}", sink.collector),
            },
        }
    }
}

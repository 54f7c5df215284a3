//! Flows to an IPFIX collector, by UDP or TCP. The messages are `crate::ipfix`'s.
//!
//! **UDP** is best effort: what send(2) takes is delivered as far as anybody can tell. Templates
//! are sent first, again every `template_refresh_s`, and before anything else after a failure: who
//! was away may have forgotten them. The sequence number goes on over restarts of the worker and of
//! the daemon, so that a collector counts what the network lost and nothing else. That send(2)
//! takes a datagram proves nothing; a collector's machine that refuses it says so a moment later. So
//! a failure is overcome when nothing was refused for [`SETTLED`].
//!
//! **TCP**: see `tcp`.

mod tcp;

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;

use nix::sys::epoll::{EpollEvent, EpollFlags};

pub use tcp::TcpSink;

use super::{Refused, Sink, SinkState, Trouble, Turn};
use crate::config;
use crate::daemon::log::{InWords, RateLimit};
use crate::ipfix::{Exporter, ExporterCounters, Message, UDP_MESSAGE};
use crate::limited;
use crate::retry::{Lost, Outbox};
use crate::time::{Duration, Instant, WallTime};

/// Who exports to this collector.
fn exporter(config: &config::IpfixSink) -> Exporter {
    Exporter {
        domain: config.domain,
        process: 1,
        enterprise: Some(config.enterprise).filter(|&n| Exporter::is_usable_enterprise(n)),
    }
}

fn refresh(config: &config::IpfixSink) -> Duration {
    Duration::from_secs(u64::from(config.template_refresh_s))
}

/// What the collector is told of what it did not get.
fn counters(sent: Sent, outbox: &Outbox<'_, '_>) -> ExporterCounters {
    let count = outbox.count();
    let lost = count.lost.into_iter().fold(Lost::default(), Lost::and);
    ExporterCounters {
        messages: sent.messages,
        flow_records: count.delivered,
        octets: sent.bytes,
        lost_flows: lost.records,
        lost_packets: lost.packets,
        lost_octets: lost.bytes,
    }
}

/// What went out since the worker began.
#[derive(Clone, Copy, Debug, Default)]
struct Sent {
    messages: u64,
    bytes: u64,
}

/// A message of as many owed records as fit, and how many those are. None if nothing is owed.
fn message<'b>(
    buffer: &'b mut [u8],
    exporter: Exporter,
    outbox: &Outbox<'_, '_>,
) -> Option<(Message<'b>, u32)> {
    let mut message = Message::new(buffer, exporter).ok()?;
    let mut records = 0;
    while let Some(record) = outbox.get(records) {
        if message.push(&record).is_err() {
            break;
        }
        records += 1;
    }
    (records > 0).then_some((message, records))
}

/// The sink by UDP. See the module's own documentation.
#[derive(Debug)]
pub struct UdpSink {
    collector: SocketAddr,
    target: String,
    exporter: Exporter,
    refresh: Duration,
    socket: Option<UdpSocket>,
    templates_at: Instant,
    sent: Sent,
    trouble: Trouble,
    /// When a datagram was first taken after a failure.
    taken_at: Option<Instant>,
    /// The socket had no room: the epoll tells when it has.
    blocked: bool,
}

/// After so long without refusal a collector is there again.
const SETTLED: Duration = Duration::from_secs(2);

impl UdpSink {
    /// A sink to the configured collector.
    #[must_use]
    pub fn new(config: &config::IpfixSink, target: String) -> Self {
        Self {
            collector: config.collector,
            target,
            exporter: exporter(config),
            refresh: refresh(config),
            socket: None,
            templates_at: Instant::BOOT,
            sent: Sent::default(),
            trouble: Trouble::default(),
            taken_at: None,
            blocked: false,
        }
    }

    fn send_owed(&mut self, turn: &Turn<'_>, outbox: &mut Outbox<'_, '_>) -> io::Result<()> {
        if turn.now.boot >= self.templates_at {
            self.send_templates(turn, outbox)?;
            self.templates_at = turn.now.boot + self.refresh;
        }
        let mut buffer = [0; UDP_MESSAGE];
        while let Some((message, records)) = message(&mut buffer, self.exporter, outbox) {
            let sequence = outbox.note()[0];
            let (bytes, count) = message.finish(turn.now.wall, sequence);
            self.send(turn, bytes)?;
            outbox.mark_sent(records);
            outbox.acknowledge_noting(records, note(sequence, count));
        }
        Ok(())
    }

    /// Sends templates, and then the exporter's counters.
    fn send_templates(&mut self, turn: &Turn<'_>, outbox: &mut Outbox<'_, '_>) -> io::Result<()> {
        let mut buffer = [0; UDP_MESSAGE];
        let Ok(mut message) = Message::new(&mut buffer, self.exporter) else { return Ok(()) };
        // They fit (tested).
        let _ = message.templates();
        let _ = message.counters(&counters(self.sent, outbox));
        let _ = message.losses(&turn.losses.of_sink(&outbox.count()));
        let sequence = outbox.note()[0];
        let (bytes, count) = message.finish(turn.now.wall, sequence);
        self.send(turn, bytes)?;
        outbox.acknowledge_noting(0, note(sequence, count));
        Ok(())
    }

    fn send(&mut self, turn: &Turn<'_>, bytes: &[u8]) -> io::Result<()> {
        let socket = match &self.socket {
            Some(socket) => socket,
            None => self.socket.insert(open(self.collector, turn)?),
        };
        socket.send(bytes)?;
        self.taken_at = self.taken_at.or_else(|| self.trouble.lasts().then_some(turn.now.boot));
        self.sent.messages += 1;
        self.sent.bytes += bytes.len() as u64;
        Ok(())
    }
}

impl UdpSink {
    fn failed(&mut self, error: &io::Error) {
        static LIMIT: RateLimit = RateLimit::new(3, 60);
        if self.trouble.met(error) {
            let (target, error, level) = (&self.target, InWords(error), log::Level::Warn);
            limited!(LIMIT, level, "sink {target}: {error}; keeping records back");
        }
        self.taken_at = None;
        (self.templates_at, self.blocked) = (Instant::BOOT, false);
        // Nobody listened to an earlier datagram; the next one may be heard.
        if error.kind() != ErrorKind::ConnectionRefused {
            self.socket = None;
        }
    }

    /// Whether what was taken after a failure has been refused meanwhile, or not.
    fn settle(&mut self, now: Instant) -> io::Result<()> {
        static LIMIT: RateLimit = RateLimit::new(3, 60);
        if self.taken_at.is_none_or(|at| now.since(at) < SETTLED) {
            return Ok(());
        }
        if let Some(error) = self.socket.as_ref().and_then(|it| it.take_error().transpose()) {
            return Err(error.unwrap_or_else(|error| error));
        }
        self.taken_at = None;
        if self.trouble.overcome() {
            limited!(LIMIT, log::Level::Info, "sink {}: sending again", self.target);
        }
        Ok(())
    }
}

/// The sequence number after so many more data records.
fn note(sequence: u32, count: u16) -> crate::retry::Note {
    [sequence.wrapping_add(u32::from(count)), 0, 0, 0, 0, 0]
}

fn open(collector: SocketAddr, turn: &Turn<'_>) -> io::Result<UdpSocket> {
    let any: SocketAddr = match collector {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    socket.set_nonblocking(true)?;
    socket.connect(collector)?;
    let room = EpollEvent::new(EpollFlags::EPOLLOUT | EpollFlags::EPOLLET, turn.token);
    turn.epoll.add(socket.as_fd(), room)?;
    Ok(socket)
}

impl Sink for UdpSink {
    fn deliver(&mut self, turn: &Turn<'_>, outbox: &mut Outbox<'_, '_>) -> Result<(), Refused> {
        match self.settle(turn.now.boot).and_then(|()| self.send_owed(turn, outbox)) {
            Ok(()) => {
                self.blocked = false;
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.blocked = true;
                Ok(())
            }
            Err(error) => {
                self.failed(&error);
                Err(Refused)
            }
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        if self.trouble.lasts() {
            self.taken_at.map(|at| at + SETTLED)
        } else {
            Some(self.templates_at).filter(|_| !self.blocked)
        }
    }

    fn reconfigure(&mut self, config: &config::Sink) {
        if let config::Sink::Ipfix(config) = config {
            self.refresh = refresh(config);
        }
    }

    fn state(&self) -> SinkState<'_> {
        let trouble = self.trouble;
        SinkState { kind: "ipfix", target: &self.target, trouble, unconfirmed: 0, connected: None }
    }
}

/// The export time of a message that has not begun to be sent.
fn not_yet() -> WallTime {
    WallTime::from_nanos(0)
}

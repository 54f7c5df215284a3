//! IPFIX by TCP: what the collector may not have read is sent again after the end of a connection.
//!
//! TCP acknowledges what the collector's kernel has, not what the collector has read. So messages
//! stay in a replay window of `replay_bytes` (`crate::ipfix::replay`), in memory that outlives the
//! worker; records leave the retry queue for it as messages are made. The oldest are freed when
//! there is need, and only those that the collector must have read: its kernel has acknowledged
//! more behind them than its window holds, and than it may have in hand. A collector that offers
//! a larger window than fits can lose what it had not read when it dies: then the log warns.
//!
//! A connection is made without waiting, and again after a back-off of 1 to 10 s; templates go
//! first on each. What the collector sends is read and ignored: it has nothing to say.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::epoll::{EpollEvent, EpollFlags};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockProtocol, SockType, SockaddrStorage, connect, getsockopt,
    setsockopt, socket, sockopt,
};

use super::{Sent, counters, exporter, message, not_yet, refresh};
use crate::config;
use crate::daemon::log::{InWords, RateLimit};
use crate::daemon::sink::{Refused, Sink, SinkState, Trouble, Turn};
use crate::daemon::sys;
use crate::ipfix::replay::{Found, Replay};
use crate::ipfix::{Exporter, Message};
use crate::limited;
use crate::retry::Outbox;
use crate::time::{Duration, Instant};

/// The longest message: the longer, the fewer times the collector is woken.
const MESSAGE_BYTES_MOST: u16 = 16 << 10;
/// What a collector may have read and not stored: that dies with it too.
const IN_HAND: u32 = 32 << 10;
const BACKOFF_MIN: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// A connection that is not made after so long is given up.
const CONNECT: Duration = Duration::from_secs(10);
/// Between two looks at what is acknowledged, while the window is full.
const LOOK: Duration = Duration::from_millis(20);
/// A collector that acknowledges nothing for so long is gone, in milliseconds.
const USER_TIMEOUT_MS: u32 = 60_000;

/// The sink. See the module's own documentation.
#[derive(Debug)]
pub struct TcpSink {
    collector: SocketAddr,
    target: String,
    exporter: Exporter,
    refresh: Duration,
    replay: Option<Replay<'static>>,
    replay_bytes: u32,
    connection: Connection,
    backoff: Duration,
    /// The rest of the templates of a connection: they go before everything else.
    head: Box<[u8]>,
    head_at: core::ops::Range<usize>,
    scratch: Box<[u8]>,
    /// The largest window that the collector has offered.
    window: u32,
    counters_at: Instant,
    /// When to look whether the full window has become emptier.
    look_at: Option<Instant>,
    sent: Sent,
    trouble: Trouble,
}

#[derive(Debug)]
enum Connection {
    /// The next attempt is made then.
    None(Instant),
    /// It is being made, since then.
    Pending(TcpStream, Instant),
    Made(TcpStream),
}

impl TcpSink {
    /// Words of memory that outlive the worker.
    #[must_use]
    pub fn words(config: &config::IpfixSink) -> usize {
        crate::ipfix::replay::words(config.replay_bytes as usize)
    }

    /// The layout of what is kept in it: a window of the same layout belongs to the same sink.
    #[must_use]
    pub fn layout(config: &config::IpfixSink, id: u64) -> u32 {
        let [low, _] = crate::words::halves(id);
        exporter(config).layout() ^ low
    }

    /// A sink to the configured collector. `memory` is what [`Self::words`] asks for; what a
    /// predecessor had sent and may not have been read is there.
    #[must_use]
    pub fn new(
        config: &config::IpfixSink,
        target: String,
        id: u64,
        memory: &'static mut [u32],
    ) -> Self {
        let exporter = exporter(config);
        let opened = Replay::open(memory, Self::layout(config, id)).ok();
        if let Some((_, Found::OtherLayout { records })) = &opened {
            log::warn!("sink {target}: {records} sent records may never have been read");
        }
        Self {
            collector: config.collector,
            target,
            exporter,
            refresh: refresh(config),
            replay: opened.map(|(replay, _)| replay),
            replay_bytes: config.replay_bytes,
            connection: Connection::None(Instant::BOOT),
            backoff: BACKOFF_MIN,
            head: vec![0; 1024].into(),
            head_at: 0..0,
            scratch: vec![0; usize::from(message_bytes(config.replay_bytes))].into(),
            window: 0,
            counters_at: Instant::BOOT,
            look_at: None,
            sent: Sent::default(),
            trouble: Trouble::default(),
        }
    }

    // --- connections -------------------------------------------------------------------------

    fn connect(&mut self, turn: &Turn<'_>) {
        match &self.connection {
            Connection::None(at) if turn.now.boot >= *at => match begin(self.collector, turn) {
                Ok(stream) => self.connection = Connection::Pending(stream, turn.now.boot),
                Err(error) => self.lost(turn.now.boot, &error),
            },
            Connection::Pending(stream, since) => {
                if turn.now.boot.since(*since) >= CONNECT {
                    self.lost(turn.now.boot, &ErrorKind::TimedOut.into());
                } else if turn.ready {
                    self.settle(turn.now.boot, outcome(stream));
                }
            }
            _ => {}
        }
    }

    /// The connection is made, or is not.
    fn settle(&mut self, now: Instant, outcome: io::Result<bool>) {
        static LIMIT: RateLimit = RateLimit::new(3, 60);
        match outcome {
            Ok(false) => {}
            Err(error) => self.lost(now, &error),
            Ok(true) => {
                let old = core::mem::replace(&mut self.connection, Connection::None(now));
                if let Connection::Pending(stream, _) = old {
                    self.connection = Connection::Made(stream);
                    self.write_head();
                    self.trouble.overcome();
                    limited!(LIMIT, log::Level::Info, "sink {}: connected", self.target);
                }
            }
        }
    }

    /// Templates go first, by a message of their own.
    fn write_head(&mut self) {
        self.head_at = 0..0;
        if let Ok(mut message) = Message::new(&mut self.head, self.exporter) {
            // They fit (tested).
            let _ = message.templates();
            let now = crate::daemon::clock::now().wall;
            self.head_at = 0..message.finish(now, 0).0.len();
        }
    }

    fn lost(&mut self, now: Instant, error: &io::Error) {
        static LIMIT: RateLimit = RateLimit::new(3, 60);
        if self.trouble.met(error) {
            let (target, error, level) = (&self.target, InWords(error), log::Level::Warn);
            limited!(LIMIT, level, "sink {target}: {error}; connecting again");
        }
        if let Some(replay) = &mut self.replay {
            replay.connection_lost();
        }
        self.window = 0;
        self.connection = Connection::None(now + self.backoff);
        self.backoff = Duration::from_micros(self.backoff.as_micros() * 2).min(BACKOFF_MAX);
    }

    // --- messages ----------------------------------------------------------------------------

    /// Makes messages of what is owed, as far as the window has room.
    fn fill(&mut self, turn: &Turn<'_>, outbox: &mut Outbox<'_, '_>) {
        let Some(replay) = &mut self.replay else { return };
        if turn.now.boot >= self.counters_at {
            let counters = counters(self.sent, outbox);
            let message = Message::new(&mut self.scratch, self.exporter);
            if let Ok(mut message) = message {
                let _ = message.counters(&counters);
                let _ = message.losses(&turn.losses.of_sink(&outbox.count()));
                let (bytes, count) = message.finish(not_yet(), 0);
                // Without room it is told later.
                let _ = replay.push(bytes, count);
            }
            self.counters_at = turn.now.boot + self.refresh;
        }
        loop {
            if !replay.has_room(message_bytes(self.replay_bytes)) && outbox.unsent() > 0 {
                let made = matches!(self.connection, Connection::Made(_));
                self.look_at = made.then(|| turn.now.boot + LOOK);
                return;
            }
            let message = message(&mut self.scratch, self.exporter, outbox);
            let Some((message, records)) = message else { break };
            let (bytes, count) = message.finish(not_yet(), 0);
            if replay.push(bytes, count).is_err() {
                break;
            }
            self.sent.messages += 1;
            self.sent.bytes += bytes.len() as u64;
            outbox.mark_sent(records);
            outbox.acknowledge(records);
        }
        self.look_at = None;
    }

    /// Sends what the window holds, as far as the connection takes it.
    fn send(&mut self, turn: &Turn<'_>) -> io::Result<()> {
        let (Connection::Made(stream), Some(replay)) = (&mut self.connection, &mut self.replay)
        else {
            return Ok(());
        };
        while !self.head_at.is_empty() {
            let count = write(stream, &self.head[self.head_at.clone()])?;
            self.head_at.start += count;
        }
        loop {
            let part = replay.next_to_send(turn.now.wall, &mut self.scratch);
            if part.is_empty() {
                return Ok(());
            }
            let count = write(stream, part)?;
            replay.sent(count);
            self.backoff = BACKOFF_MIN;
        }
    }

    /// What can be kept of what the collector may not have read: messages must fit beside that, or
    /// nothing would ever be freed.
    fn most_unread(&self) -> u32 {
        self.replay_bytes.saturating_sub(u32::from(message_bytes(self.replay_bytes)) * 5 / 2)
    }

    /// Notes how large a window the collector offers.
    fn look(&mut self) {
        static LIMIT: RateLimit = RateLimit::new(1, 600);
        let Connection::Made(stream) = &self.connection else { return };
        let offered = offered_window(stream.as_fd()).unwrap_or(self.replay_bytes);
        self.window = self.window.max(offered);
        if self.window > self.most_unread() {
            let (target, window) = (&self.target, self.window);
            limited!(
                LIMIT,
                log::Level::Warn,
                "sink {target}: the collector's window of {window} bytes is larger than \
                 replay_bytes holds: what it has not read may be lost when it dies"
            );
        }
    }

    /// Frees what the collector must have read, since there is no room; whether that made some.
    ///
    /// Not before there is need: the more is kept, the more can be sent again.
    fn make_room(&mut self) -> io::Result<bool> {
        let most = self.most_unread();
        let (Connection::Made(stream), Some(replay)) = (&mut self.connection, &mut self.replay)
        else {
            return Ok(false);
        };
        // A receive buffer that grows while data lies in it holds more than any window offered.
        let unread = self.window.saturating_mul(2).saturating_add(IN_HAND);
        let unacknowledged = sys::unacknowledged(stream.as_fd())?;
        Ok(replay.acknowledged(unacknowledged, unread.min(most)) > 0)
    }

    /// Whether the collector is still there.
    fn listen(&mut self) -> io::Result<()> {
        let Connection::Made(stream) = &mut self.connection else { return Ok(()) };
        let mut ignored = [0; 256];
        loop {
            match stream.read(&mut ignored) {
                Ok(0) => return Err(ErrorKind::ConnectionAborted.into()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn turn(&mut self, turn: &Turn<'_>, outbox: &mut Outbox<'_, '_>) -> io::Result<()> {
        if turn.ready {
            self.listen()?;
        }
        self.look();
        loop {
            self.fill(turn, outbox);
            self.send(turn)?;
            if self.look_at.is_none() || !self.make_room()? {
                return Ok(());
            }
        }
    }
}

/// The longest message: not so long that the window is full of a few.
fn message_bytes(replay_bytes: u32) -> u16 {
    u16::try_from(replay_bytes / 16).unwrap_or(u16::MAX).min(MESSAGE_BYTES_MOST)
}

/// Begins a connection without waiting for it.
fn begin(collector: SocketAddr, turn: &Turn<'_>) -> io::Result<TcpStream> {
    let family = if collector.is_ipv6() { AddressFamily::Inet6 } else { AddressFamily::Inet };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket: OwnedFd = socket(family, SockType::Stream, flags, SockProtocol::Tcp)?;
    setsockopt(&socket, sockopt::KeepAlive, &true)?;
    // Messages are as full as they can be: to wait for more, as TCP does, is to wait for nothing.
    setsockopt(&socket, sockopt::TcpNoDelay, &true)?;
    setsockopt(&socket, sockopt::TcpUserTimeout, &USER_TIMEOUT_MS)?;
    match connect(std::os::fd::AsRawFd::as_raw_fd(&socket), &SockaddrStorage::from(collector)) {
        Ok(()) | Err(Errno::EINPROGRESS) => {}
        Err(error) => return Err(error.into()),
    }
    let flags =
        EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET;
    turn.epoll.add(socket.as_fd(), EpollEvent::new(flags, turn.token))?;
    Ok(TcpStream::from(socket))
}

/// Whether a connection is made by now.
fn outcome(stream: &TcpStream) -> io::Result<bool> {
    match getsockopt(stream, sockopt::SocketError)? {
        0 => Ok(stream.peer_addr().is_ok()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

fn write(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
    loop {
        match stream.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

impl Sink for TcpSink {
    fn deliver(&mut self, turn: &Turn<'_>, outbox: &mut Outbox<'_, '_>) -> Result<(), Refused> {
        self.connect(turn);
        match self.turn(turn, outbox) {
            Err(error) if error.kind() != ErrorKind::WouldBlock => {
                self.lost(turn.now.boot, &error);
            }
            _ => {}
        }
        Ok(())
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let connect = match &self.connection {
            Connection::None(at) => Some(*at),
            Connection::Pending(_, since) => Some(*since + CONNECT),
            Connection::Made(_) => Some(self.counters_at),
        };
        [connect, self.look_at].into_iter().flatten().min()
    }

    fn reconfigure(&mut self, config: &config::Sink) {
        if let config::Sink::Ipfix(config) = config {
            self.refresh = refresh(config);
        }
    }

    fn state(&self) -> SinkState<'_> {
        let connected = Some(matches!(self.connection, Connection::Made(_)));
        let unconfirmed = self.replay.as_ref().map_or(0, Replay::records_held);
        SinkState {
            kind: "ipfix",
            target: &self.target,
            trouble: self.trouble,
            unconfirmed,
            connected,
        }
    }
}

/// The window that the peer of a TCP connection offers now; nothing where the kernel does not tell
/// (before 5.4). `tcpi_snd_wnd` of `struct tcp_info`, `include/uapi/linux/tcp.h`.
fn offered_window(socket: BorrowedFd<'_>) -> Option<u32> {
    const SND_WND: usize = 57;
    let mut info = [0; 64];
    let info = sys::socket_option(socket, libc::IPPROTO_TCP, libc::TCP_INFO, &mut info).ok()?;
    info.get(SND_WND).copied()
}

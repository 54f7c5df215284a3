//! JSON lines to one local program that acknowledges them: the reliable counterpart of `events`.
//!
//! The daemon listens at a stream socket (mode 0660). A program connects, reads lines, and answers
//! `ack N` and a line break once it has taken the first N lines of its connection for good. What a
//! connection was sent and did not acknowledge goes to the next one. There is one client at a time;
//! another is refused with a line that says so. Whoever says anything else is closed.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::sys::epoll::{EpollEvent, EpollFlags};

use super::{Refused, Sink, SinkState, Trouble, Turn};
use crate::config;
use crate::daemon::control::listen;
use crate::daemon::log::{InWords, RateLimit};
use crate::limited;
use crate::record::json;
use crate::record::text::Text;
use crate::retry::Outbox;
use crate::time::{Duration, Instant};

/// Room for lines on their way.
const BUFFER_BYTES: usize = 32 << 10;
/// The longest answer.
const ANSWER_BYTES: usize = 64;
/// Most reads in one turn.
const READS: usize = 16;
/// So many times that for the last words of a client: more than a socket holds by default.
const LAST_READS: usize = 256;
/// Most programs that are let in or refused in one turn: the epoll tells of the others in the next.
const ACCEPTS: usize = 16;
/// Between two attempts to make the socket, and between two looks whether it is still there.
const RETRY: Duration = Duration::from_secs(5);

/// The sink. See the module's own documentation.
#[derive(Debug)]
pub struct UnixSink {
    path: PathBuf,
    target: String,
    listener: Option<Listener>,
    /// When to try to listen, or to look whether the socket is still at its path.
    listen_at: Instant,
    client: Option<Client>,
    buffer: Box<[u8]>,
    trouble: Trouble,
}

/// The socket, and which file it is.
#[derive(Debug)]
struct Listener {
    socket: UnixListener,
    file: (u64, u64),
}

/// Who is connected.
#[derive(Debug)]
struct Client {
    stream: UnixStream,
    /// The part of the buffer that is still to be written.
    waiting: core::ops::Range<usize>,
    /// It had no room: the epoll tells when it has.
    blocked: bool,
    waits_for_room: bool,
    /// The last line was written in part.
    within_line: bool,
    /// Lines written whole, and those acknowledged.
    written: u64,
    acknowledged: u64,
    answer: [u8; ANSWER_BYTES],
    answered: usize,
}

/// Why a client is closed.
enum End {
    Gone,
    Wrong(&'static str),
}

impl From<io::Error> for End {
    fn from(_: io::Error) -> Self {
        Self::Gone
    }
}

impl UnixSink {
    /// A sink that will listen at the configured path.
    #[must_use]
    pub fn new(config: &config::UnixSink) -> Self {
        Self {
            target: config.path.to_string_lossy().into_owned(),
            path: config.path.clone(),
            listener: None,
            listen_at: Instant::BOOT,
            client: None,
            buffer: vec![0; BUFFER_BYTES].into(),
            trouble: Trouble::default(),
        }
    }

    fn listen(&mut self, turn: &Turn<'_>) {
        static LIMIT: RateLimit = RateLimit::new(3, 60);
        if turn.now.boot < self.listen_at {
            return;
        }
        self.listen_at = turn.now.boot + RETRY;
        if let Some(listener) = &self.listener {
            if identity(&self.path) == Some(listener.file) {
                return;
            }
            let (target, level) = (&self.target, log::Level::Warn);
            limited!(LIMIT, level, "sink {target}: the socket was removed; making it anew");
            self.listener = None;
        }
        let opened = listen(&self.path).and_then(|socket| {
            turn.epoll.add(socket.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, turn.token))?;
            let file = identity(&self.path).ok_or(ErrorKind::NotFound)?;
            Ok(Listener { socket, file })
        });
        match opened {
            Ok(listener) => {
                self.listener = Some(listener);
                if self.trouble.overcome() {
                    limited!(LIMIT, log::Level::Info, "sink {}: listening", self.target);
                }
            }
            Err(error) => {
                if self.trouble.met(&error) {
                    let (target, error) = (&self.target, InWords(&error));
                    limited!(LIMIT, log::Level::Warn, "sink {target}: {error}; trying again");
                }
            }
        }
    }

    fn accept(&mut self, turn: &Turn<'_>, outbox: &mut Outbox<'_, '_>) {
        for _ in 0..ACCEPTS {
            let Some(listener) = &self.listener else { return };
            let Ok((mut stream, _)) = listener.socket.accept() else { return };
            let _ = stream.set_nonblocking(true);
            // Who was there may have left since, and be the same program.
            if let Some(Err(end)) = self.client.as_mut().map(|client| client.read(outbox)) {
                self.close(&end, outbox);
            }
            if self.client.is_some() {
                // Nobody is hurt if the message does not arrive.
                let _ = stream.write(b"error 69 another program is connected\n");
                continue;
            }
            let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP;
            if turn.epoll.add(stream.as_fd(), EpollEvent::new(flags, turn.token)).is_ok() {
                outbox.send_again();
                self.client = Some(Client::new(stream));
            }
        }
    }

    fn close(&mut self, end: &End, outbox: &mut Outbox<'_, '_>) {
        static LIMIT: RateLimit = RateLimit::new(3, 60);
        let Some(mut client) = self.client.take() else { return };
        if let End::Wrong(what) = end {
            self.trouble.failures += 1;
            // Not into the middle of a line.
            if !client.within_line {
                let _ = client.stream.write_all(b"error 65 expected: ack NUMBER OF LINES\n");
            }
            limited!(LIMIT, log::Level::Warn, "sink {}: closed a client: {what}", self.target);
        }
        outbox.send_again();
    }
}

impl Client {
    const fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            waiting: 0..0,
            blocked: false,
            waits_for_room: false,
            within_line: false,
            written: 0,
            acknowledged: 0,
            answer: [0; ANSWER_BYTES],
            answered: 0,
        }
    }

    fn turn(
        &mut self,
        turn: &Turn<'_>,
        buffer: &mut [u8],
        outbox: &mut Outbox<'_, '_>,
    ) -> Result<(), End> {
        if turn.ready {
            self.read(outbox)?;
            self.blocked = false;
        }
        while !self.blocked {
            if self.waiting.is_empty() {
                self.waiting = fill(buffer, outbox);
            }
            if self.waiting.is_empty() {
                break;
            }
            self.write(turn, buffer, outbox)?;
        }
        Ok(())
    }

    fn write(
        &mut self,
        turn: &Turn<'_>,
        buffer: &[u8],
        outbox: &mut Outbox<'_, '_>,
    ) -> Result<(), End> {
        match self.stream.write(&buffer[self.waiting.clone()]) {
            Ok(0) => return Err(End::Gone),
            Ok(count) => {
                let written = &buffer[self.waiting.start..self.waiting.start + count];
                self.within_line = written.last() != Some(&b'\n');
                self.written += written.iter().filter(|&&byte| byte == b'\n').count() as u64;
                self.waiting.start += count;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.blocked = true,
            Err(_) => return self.last_words(outbox),
        }
        self.wait_for_room(turn).map_err(|_| End::Gone)
    }

    /// The epoll tells when there is room, if there is none.
    fn wait_for_room(&mut self, turn: &Turn<'_>) -> io::Result<()> {
        if self.blocked != self.waits_for_room {
            self.waits_for_room = self.blocked;
            let room = if self.blocked { EpollFlags::EPOLLOUT } else { EpollFlags::empty() };
            let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP | room;
            turn.epoll.modify(self.stream.as_fd(), &mut EpollEvent::new(flags, turn.token))?;
        }
        Ok(())
    }

    /// A part of what the client says: the epoll tells of the rest in the next turn.
    fn read(&mut self, outbox: &mut Outbox<'_, '_>) -> Result<(), End> {
        for _ in 0..READS {
            let room = &mut self.answer[self.answered..];
            if room.is_empty() {
                return Err(End::Wrong("a line too long"));
            }
            match self.stream.read(room) {
                Ok(0) => return Err(End::Gone),
                Ok(count) => self.answered += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return Err(End::Gone),
            }
            self.take_answers(outbox)?;
        }
        Ok(())
    }

    /// It takes no more. What it said before that counts, and it can say nothing from now on.
    fn last_words(&mut self, outbox: &mut Outbox<'_, '_>) -> Result<(), End> {
        let _ = self.stream.shutdown(Shutdown::Both);
        for _ in 0..LAST_READS {
            self.read(outbox)?;
        }
        Err(End::Gone)
    }

    fn take_answers(&mut self, outbox: &mut Outbox<'_, '_>) -> Result<(), End> {
        while let Some(end) = self.answer[..self.answered].iter().position(|&b| b == b'\n') {
            let number = parse_ack(&self.answer[..end]).ok_or(End::Wrong("no ack"))?;
            if number < self.acknowledged || number > self.written {
                return Err(End::Wrong("an ack of what was not sent"));
            }
            let records = u32::try_from(number - self.acknowledged).unwrap_or(u32::MAX);
            outbox.acknowledge(records);
            self.acknowledged = number;
            self.answer.copy_within(end + 1..self.answered, 0);
            self.answered -= end + 1;
        }
        Ok(())
    }
}

/// Which file lies at a path, by device and inode.
fn identity(path: &Path) -> Option<(u64, u64)> {
    std::fs::symlink_metadata(path).ok().map(|meta| (meta.dev(), meta.ino()))
}

/// The number of `ack N`.
fn parse_ack(line: &[u8]) -> Option<u64> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let digits = core::str::from_utf8(line.strip_prefix(b"ack ")?).ok()?;
    if digits.bytes().all(|byte| byte.is_ascii_digit()) { digits.parse().ok() } else { None }
}

/// Puts lines into the buffer, which are in flight then: where they lie.
fn fill(buffer: &mut [u8], outbox: &mut Outbox<'_, '_>) -> core::ops::Range<usize> {
    let mut text = Text::new(buffer);
    while let Some(record) = outbox.next() {
        let before = text.len();
        json::line(&mut text, &record);
        if text.is_cut() {
            text.truncate(before);
            break;
        }
        outbox.mark_sent(1);
    }
    0..text.len()
}

impl Sink for UnixSink {
    fn deliver(&mut self, turn: &Turn<'_>, outbox: &mut Outbox<'_, '_>) -> Result<(), Refused> {
        self.listen(turn);
        if turn.ready {
            if let Some(client) = &mut self.client {
                if let Err(end) = client.turn(turn, &mut self.buffer, outbox) {
                    self.close(&end, outbox);
                }
            }
            self.accept(turn, outbox);
        }
        let again = Turn { ready: false, ..*turn };
        if let Some(client) = &mut self.client {
            if let Err(end) = client.turn(&again, &mut self.buffer, outbox) {
                self.close(&end, outbox);
            }
        }
        Ok(())
    }

    fn poll_timeout(&self) -> Option<Instant> {
        Some(self.listen_at)
    }

    fn reconfigure(&mut self, _: &config::Sink) {}

    fn state(&self) -> SinkState<'_> {
        let trouble = self.trouble;
        let connected = Some(self.client.is_some());
        SinkState { kind: "unix", target: &self.target, trouble, unconfirmed: 0, connected }
    }
}

impl Drop for UnixSink {
    fn drop(&mut self) {
        if self.listener.as_ref().is_some_and(|it| identity(&self.path) == Some(it.file)) {
            // If somebody takes it away just now, all the better.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::parse_ack;

    #[test]
    fn acks_are_words_with_a_number() {
        assert_eq!(parse_ack(b"ack 0"), Some(0));
        assert_eq!(parse_ack(b"ack 12\r"), Some(12));
        assert_eq!(parse_ack(b"ack 18446744073709551615"), Some(u64::MAX));
        for wrong in [
            &b""[..],
            b"ack",
            b"ack ",
            b"ack -1",
            b"ack +1",
            b"ACK 1",
            b"ack 1 ",
            b"ack 1x",
            b"\xff",
        ] {
            assert_eq!(parse_ack(wrong), None);
        }
        assert_eq!(parse_ack(b"ack 18446744073709551616"), None);
    }
}

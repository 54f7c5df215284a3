//! Records as datagrams to `/dev/log`: `<30>firmware-ctd: {json}`, as logd and syslogd take them.
//!
//! Best effort by nature: nobody says what arrived. But what was not taken (the log daemon is away,
//! or its socket full) stays in the queue and is sent later.

use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;

use nix::sys::epoll::{EpollEvent, EpollFlags};

use super::{Refused, Sink, SinkState, Trouble, Turn};
use crate::config;
use crate::daemon::log::{InWords, RateLimit};
use crate::limited;
use crate::record::json;
use crate::record::text::Text;
use crate::retry::Outbox;

const PATH: &str = "/dev/log";
/// Facility daemon, level info.
const HEAD: &str = "<30>firmware-ctd: ";

/// The sink. See the module's own documentation.
#[derive(Debug, Default)]
pub struct SyslogSink {
    socket: Option<UnixDatagram>,
    trouble: Trouble,
}

impl SyslogSink {
    /// A sink to the log daemon, whether there is one or not.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sends one datagram; false if the log daemon has no room for it now.
    fn send(&mut self, turn: &Turn<'_>, line: &[u8]) -> io::Result<bool> {
        let socket = match &self.socket {
            Some(socket) => socket,
            None => self.socket.insert(connect(turn)?),
        };
        match socket.send(line) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// A connected socket, which the epoll tells of when there is room again.
fn connect(turn: &Turn<'_>) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.connect(PATH)?;
    let room = EpollEvent::new(EpollFlags::EPOLLOUT | EpollFlags::EPOLLET, turn.token);
    turn.epoll.add(socket.as_fd(), room)?;
    Ok(socket)
}

impl Sink for SyslogSink {
    fn deliver(&mut self, turn: &Turn<'_>, outbox: &mut Outbox<'_, '_>) -> Result<(), Refused> {
        static LIMIT: RateLimit = RateLimit::new(3, 60);
        let mut buffer = [0; json::MAX_LINE + HEAD.len()];
        while let Some(record) = outbox.next() {
            let mut text = Text::new(&mut buffer);
            text.str(HEAD);
            json::line(&mut text, &record);
            // The log daemon adds the line break.
            let line = text.as_bytes().strip_suffix(b"\n").unwrap_or(text.as_bytes());
            match self.send(turn, line) {
                Ok(true) => {
                    if self.trouble.overcome() {
                        limited!(LIMIT, log::Level::Info, "sink {PATH}: sending again");
                    }
                    outbox.mark_sent(1);
                    outbox.acknowledge(1);
                }
                Ok(false) => return Ok(()),
                Err(error) => {
                    if self.trouble.met(&error) {
                        let (error, level) = (InWords(&error), log::Level::Warn);
                        limited!(LIMIT, level, "sink {PATH}: {error}; keeping records back");
                    }
                    self.socket = None;
                    return Err(Refused);
                }
            }
        }
        Ok(())
    }

    fn reconfigure(&mut self, _: &config::Sink) {}

    fn state(&self) -> SinkState<'_> {
        SinkState {
            kind: "syslog",
            target: PATH,
            trouble: self.trouble,
            unconfirmed: 0,
            connected: None,
        }
    }
}

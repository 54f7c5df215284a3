//! The control socket: local clients ask one question each.
//!
//! A client sends one line and reads until the end of the stream:
//!
//! ```text
//! status text|json|prometheus
//! flows text|json [all] [FILTER WORD]...
//! events text|json
//! save SECONDS
//! ```
//!
//! The first line of the answer is `ok`, or `error CODE TEXT` with an exit code of sysexits. The
//! number of clients is fixed, and so is the memory of each. Answers are made in parts, as fast as
//! the client reads and never more than a few parts a turn of the event loop. Who does not ask, or
//! does not read, is closed after [`PATIENCE`]; an `events` client that is behind misses lines,
//! which are counted and told.

mod client;
mod save;

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};

use super::status::Facts;
use crate::config;
use crate::record::Record;
use crate::time::{Duration, Instant};
use client::Client;

/// How long a client may neither ask nor read.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Most clients that are let in or refused in one turn: the epoll tells of the others in the next.
const ACCEPTS: usize = 16;

/// Tokens of clients in the epoll begin here.
pub const FIRST_CLIENT: u64 = 16;

/// The socket and its clients.
#[derive(Debug)]
pub struct Control {
    listener: UnixListener,
    path: PathBuf,
    clients: Box<[Option<Client>]>,
    /// Rooms for the buffers of clients: they stay when a client goes.
    rooms: Box<[client::Room]>,
    refused: u64,
    /// The time as it was last told.
    now: Instant,
}

impl Control {
    /// Makes the socket, mode 0660; one that a dead daemon left is replaced.
    ///
    /// # Errors
    ///
    /// `AddrInUse` if a living daemon answers there, or something else than a socket lies there.
    pub fn open(config: &config::Control) -> io::Result<Self> {
        let path = config.socket.clone();
        let listener = listen(&path)?;
        let count = usize::try_from(config.clients).unwrap_or(1);
        Ok(Self {
            listener,
            path,
            clients: (0..count).map(|_| None).collect(),
            rooms: (0..count).map(|_| client::Room::new()).collect(),
            refused: 0,
            now: Instant::BOOT,
        })
    }

    /// The listening socket, for the epoll.
    #[must_use]
    pub const fn listener(&self) -> &UnixListener {
        &self.listener
    }

    /// How many clients there are.
    #[must_use]
    pub fn clients(&self) -> u32 {
        u32::try_from(self.clients.iter().flatten().count()).unwrap_or(u32::MAX)
    }

    /// How many clients were refused.
    #[must_use]
    pub const fn refused(&self) -> u64 {
        self.refused
    }

    /// Whether somebody watches events.
    #[must_use]
    pub fn is_watched(&self) -> bool {
        self.clients.iter().flatten().any(Client::watches)
    }

    /// Takes in who waits at the listening socket, a few in one turn.
    pub fn accept(&mut self, epoll: &Epoll, now: Instant) {
        for _ in 0..ACCEPTS {
            let Ok((stream, _)) = self.listener.accept() else { return };
            match self.clients.iter().position(Option::is_none) {
                Some(place) => self.admit(epoll, now, stream, place),
                None => self.refuse(stream),
            }
        }
    }

    fn admit(&mut self, epoll: &Epoll, now: Instant, stream: UnixStream, place: usize) {
        let token = FIRST_CLIENT + place as u64;
        let event = EpollEvent::new(EpollFlags::EPOLLIN, token);
        if stream.set_nonblocking(true).is_ok() && epoll.add(stream.as_fd(), event).is_ok() {
            self.rooms[place].clear();
            self.clients[place] = Some(Client::new(stream, now));
        }
    }

    fn refuse(&mut self, mut stream: UnixStream) {
        self.refused += 1;
        // Nobody is hurt if the message does not arrive.
        let _ = stream.set_nonblocking(true);
        let _ = stream.write(b"error 69 too many clients; try again when one has gone\n");
    }

    /// Something happened at the client with this token.
    pub fn handle(&mut self, epoll: &Epoll, token: u64, events: EpollFlags, facts: &Facts<'_, '_>) {
        let Some(place) = token.checked_sub(FIRST_CLIENT).and_then(|p| usize::try_from(p).ok())
        else {
            return;
        };
        let (Some(Some(client)), Some(room)) =
            (self.clients.get_mut(place), self.rooms.get_mut(place))
        else {
            return;
        };
        let wanted = client.turn(room, events, facts);
        self.after_turn(epoll, place, wanted);
    }

    /// Waits for what the client wants next, or closes it.
    fn after_turn(&mut self, epoll: &Epoll, place: usize, wanted: Option<EpollFlags>) {
        let Some(client) = &mut self.clients[place] else { return };
        let Some(flags) = wanted else {
            // Closing the descriptor takes it out of the epoll.
            self.clients[place] = None;
            return;
        };
        if client.waits_for(flags) {
            let mut event = EpollEvent::new(flags, FIRST_CLIENT + place as u64);
            if epoll.modify(client.stream(), &mut event).is_err() {
                self.clients[place] = None;
            }
        }
    }

    /// Shows a record to those who watch; returns how many lines were missed.
    pub fn show(&mut self, record: &Record) -> u64 {
        let now = self.now;
        let watchers = self.clients.iter_mut().zip(&mut self.rooms);
        let missed = watchers.filter_map(|(client, room)| {
            client.as_mut().filter(|c| c.watches()).map(|c| u64::from(!c.show(room, record, now)))
        });
        missed.sum()
    }

    /// Sends what was shown, and closes who was silent for too long.
    pub fn flush(&mut self, epoll: &Epoll, facts: &Facts<'_, '_>) {
        self.now = facts.now.boot;
        for place in 0..self.clients.len() {
            let Some(client) = &mut self.clients[place] else { continue };
            if client.is_overdue(facts.now.boot) {
                self.clients[place] = None;
            } else if client.waits() {
                let wanted = client.turn(&mut self.rooms[place], EpollFlags::empty(), facts);
                self.after_turn(epoll, place, wanted);
            }
        }
    }

    /// When [`Self::flush`] is wanted because of somebody's silence.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let clients = self.clients.iter().flatten();
        clients.flat_map(|client| [client.deadline(), client.wait_until()]).flatten().min()
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // It is ours; if somebody took it away already, all the better.
        let _ = fs::remove_file(&self.path);
    }
}

/// Makes a listening socket, mode 0660, with its directory; one that a dead daemon left is
/// replaced.
pub(super) fn listen(path: &Path) -> io::Result<UnixListener> {
    remove_stale(path)?;
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    let listener = UnixListener::bind(path)?;
    listener.set_nonblocking(true)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
    Ok(listener)
}

/// Removes the socket of a daemon that lives no more.
fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.file_type().is_socket() => match UnixStream::connect(path) {
            Ok(_) => Err(ErrorKind::AddrInUse.into()),
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path),
            Err(error) => Err(error),
        },
        Ok(_) => Err(ErrorKind::AddrInUse.into()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

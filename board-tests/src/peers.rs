//! The listeners that are compared: the floor, `firmware-ctd`, conntrackd and ulogd2.
//!
//! Each runs in the foreground in a given network namespace, with its configuration, locks,
//! sockets and logs in a directory of its own. It is ready when its netlink socket has joined the
//! destroy group (the floor and `firmware-ctd` say `ready` themselves), and is ended by SIGTERM to
//! its own process id. What it accounted is read from what it wrote.
//!
//! Every listener is set up to account every destroyed flow: reliable delivery on, tables large
//! enough, and the same receive buffer. conntrackd logs a destroy only when it saw the flow begin,
//! so with a small buffer it would be cheaper by what it misses.
//!
//! Nothing here decides what is measured; [`mod@bench`] does. Known limits: Debian's conntrackd 1.4.7
//! and ulogd2 2.0.8 were tried; both ask for the real-time scheduler by default and get it as
//! root, which is left as their users have it.

mod account;
pub mod bench;
mod conntrackd;
mod ctd;
mod floor;
mod guard;
pub mod loads;
mod table;
mod ulogd;
pub mod ulogd_ipfix;

pub use account::Account;
pub use guard::{Guard, RaisedMaximum};

use crate::lab::Netns;
use crate::load::sys::{self, Usage};
use crate::measure;
use std::fs::{self, File};
use std::io;
use std::net::SocketAddrV4;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Seconds that a listener may take to start and to end.
const PATIENCE_S: u64 = 60;

/// A listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Peer {
    /// The bare receive loop.
    Floor,
    /// `firmware-ctd`.
    Ctd,
    /// conntrackd in its statistics mode.
    Conntrackd,
    /// ulogd2, destroys only.
    Ulogd,
}

impl Peer {
    /// All of them, in the order of a round.
    pub const ALL: [Self; 4] = [Self::Floor, Self::Ctd, Self::Conntrackd, Self::Ulogd];

    /// The name in tables and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Ctd => "firmware-ctd",
            Self::Conntrackd => "conntrackd",
            Self::Ulogd => "ulogd2",
        }
    }

    /// The listener of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|peer| peer.name() == name)
    }

    /// Debian's package, for those that are not of this project.
    #[must_use]
    pub const fn package(self) -> Option<&'static str> {
        match self {
            Self::Floor | Self::Ctd => None,
            Self::Conntrackd => Some("conntrackd"),
            Self::Ulogd => Some("ulogd2"),
        }
    }

    /// Whether it is told of new and changed flows as well; ulogd2 is told of destroys only.
    #[must_use]
    pub const fn sees_all_events(self) -> bool {
        !matches!(self, Self::Ulogd)
    }

    /// Where the program is, among `own` (built programs) or on the machine.
    #[must_use]
    pub fn program(self, own: &Path) -> Option<PathBuf> {
        let places = ["/usr/sbin", "/usr/local/sbin", "/sbin", "/usr/bin", "/usr/local/bin"];
        let candidates = match self {
            Self::Floor => vec![own.join("floor")],
            Self::Ctd => vec![own.join("firmware-ctd")],
            Self::Conntrackd => places.map(|it| Path::new(it).join("conntrackd")).to_vec(),
            Self::Ulogd => places.map(|it| Path::new(it).join("ulogd")).to_vec(),
        };
        candidates.into_iter().find(|path| path.is_file())
    }
}

/// How a listener is set up.
#[derive(Clone, Debug)]
pub struct Setup<'a> {
    /// Where it runs.
    pub netns: &'a Netns,
    /// An empty directory for its files, best on a tmpfs as on a router.
    pub directory: PathBuf,
    /// Where this project's programs are.
    pub programs: &'a Path,
    /// Receive buffer in bytes, which the kernel doubles; `None` for `firmware-ctd`'s default.
    pub buffer: Option<u32>,
    /// Flows that `firmware-ctd`'s table holds; `None` for its default.
    pub capacity: Option<u32>,
    /// The IPFIX collector, by TCP, that records go to instead of a file; for `firmware-ctd` and
    /// ulogd2 only.
    pub collector: Option<SocketAddrV4>,
    /// What stands in `firmware-ctd`'s configuration besides, whole sections.
    pub more: String,
}

/// Receive buffer where the set-up names none.
const DEFAULT_BUFFER: u32 = 4 << 20;

impl Setup<'_> {
    fn buffer(&self) -> u32 {
        self.buffer.unwrap_or(DEFAULT_BUFFER)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn path(&self, name: &str) -> String {
        self.file(name).display().to_string()
    }
}

/// A listener that runs. Killed when dropped.
#[derive(Debug)]
pub struct Running {
    peer: Peer,
    child: Child,
    directory: PathBuf,
    ended: bool,
}

/// What is left of a listener that was stopped.
#[derive(Clone, Debug)]
pub struct Stopped {
    /// What it accounted.
    pub account: Account,
    /// What the kernel charged it over its whole life.
    pub usage: Usage,
}

/// Starts `peer` and waits until it is ready.
///
/// # Errors
/// When the program is missing, refuses its configuration, or is not ready within a minute; what
/// it said is in the message.
pub fn start(peer: Peer, setup: &Setup<'_>) -> io::Result<Running> {
    let program = peer.program(setup.programs).ok_or_else(|| {
        io::Error::new(io::ErrorKind::NotFound, format!("{} is not installed", peer.name()))
    })?;
    let mut command = Command::new(program);
    match peer {
        Peer::Floor => floor::configure(&mut command, setup),
        Peer::Ctd => ctd::configure(&mut command, setup)?,
        Peer::Conntrackd => conntrackd::configure(&mut command, setup)?,
        Peer::Ulogd => match setup.collector {
            None => ulogd::configure(&mut command, setup)?,
            Some(address) => {
                let transport = ulogd_ipfix::Transport::Tcp;
                ulogd_ipfix::configure(&mut command, setup, address, transport)?;
            }
        },
    }
    let said = File::create(setup.file(SAID))?;
    command.stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said);
    sys::prepare(&mut command, Some(setup.netns.as_raw_fd()));
    let child = command.spawn()?;
    let mut running = Running { peer, child, directory: setup.directory.clone(), ended: false };
    measure::wait_for(&format!("{} to be ready", peer.name()), PATIENCE_S, || running.ready())
        .map_err(|error| running.explain(&error))?;
    Ok(running)
}

/// File of the listener's standard output and error.
const SAID: &str = "said.txt";

impl Running {
    /// Which listener it is.
    #[must_use]
    pub const fn peer(&self) -> Peer {
        self.peer
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap_or(i32::MAX)
    }

    /// Where its files are.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Its processes: itself and its descendants.
    #[must_use]
    pub fn processes(&self) -> Vec<i32> {
        measure::tree(self.pid())
    }

    /// Ends it with SIGTERM and counts what it accounted.
    ///
    /// # Errors
    /// When it does not end within a minute, or its files cannot be read.
    pub fn stop(mut self) -> io::Result<Stopped> {
        let name = format!("{} to end", self.peer.name());
        let pid = nix::unistd::Pid::from_raw(self.pid());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM)?;
        let usage = measure::wait_for(&name, PATIENCE_S, || sys::reap(self.pid()))
            .map_err(|error| self.explain(&error))?;
        self.ended = true;
        let account = match self.peer {
            Peer::Floor => floor::account(&fs::read_to_string(self.directory.join(SAID))?),
            Peer::Ctd => ctd::account(&self.directory)?,
            Peer::Conntrackd => conntrackd::account(&self.directory)?,
            Peer::Ulogd => ulogd::account(&self.directory)?,
        };
        Ok(Stopped { account, usage })
    }

    fn ready(&mut self) -> io::Result<Option<()>> {
        if let Some(usage) = sys::reap(self.pid())? {
            self.ended = true;
            return Err(io::Error::other(format!("it ended, exit code {:?}", usage.code)));
        }
        let ready = match self.peer {
            Peer::Floor | Peer::Ctd => {
                fs::read_to_string(self.directory.join(SAID))?.contains("ready")
            }
            Peer::Conntrackd | Peer::Ulogd => joined(self.pid()),
        };
        Ok(ready.then_some(()))
    }

    /// `error` with the last lines that the listener said.
    fn explain(&self, error: &io::Error) -> io::Error {
        let said = fs::read_to_string(self.directory.join(SAID)).unwrap_or_default();
        let lines: Vec<&str> = said.lines().rev().take(10).collect();
        let lines: Vec<&str> = lines.into_iter().rev().collect();
        let message = format!("{}: {error}; it said:\n{}", self.peer.name(), lines.join("\n"));
        io::Error::new(error.kind(), message)
    }
}

/// Whether the process has a netfilter socket that joined the destroy group.
fn joined(pid: i32) -> bool {
    let destroy = 1 << (sys::GROUP_DESTROY - 1);
    measure::netlink_sockets(&[pid]).iter().any(|it| it.protocol == 12 && it.groups & destroy != 0)
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.ended {
            // Both fail only when it has ended already, which is what is wanted.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

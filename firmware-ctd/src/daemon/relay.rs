//! A process that reads a dump for the worker: where there is more than one processor.
//!
//! The kernel makes a part of a dump within the call that reads the one before it, which is most of
//! the time that a dump takes. Here another process makes these calls and passes the parts on,
//! unread, through a socket; the worker receives them from there as it would from the kernel.
//! Only a dump that somebody waits for is worth a process.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::sched::{CpuSet, sched_getaffinity};
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, send, socketpair};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use super::dying::DUMP_BYTES;
use super::netlink::RequestSocket;
use super::sys::{self, Batch, Fork};
use crate::wire::{Family, request};

/// The process, and the socket on which it passes the dump on. With it the process ends.
#[derive(Debug)]
pub(super) struct Relay {
    pid: Pid,
    socket: OwnedFd,
    /// Something waits.
    ready: bool,
}

impl Relay {
    /// The token in the epoll.
    pub(super) const TOKEN: u64 = 8;

    /// Whether there is a processor for it.
    #[must_use]
    pub(super) fn is_worth_it() -> bool {
        let usable = sched_getaffinity(Pid::from_raw(0));
        let is_usable = |set: &CpuSet, cpu: &usize| set.is_set(*cpu).unwrap_or(false);
        usable.is_ok_and(|set| (0..CpuSet::count()).filter(|cpu| is_usable(&set, cpu)).count() > 1)
    }

    /// Asks for a dump with this sequence number.
    ///
    /// # Errors
    ///
    /// What socketpair(2), fork(2) or epoll(7) say.
    pub(super) fn start(seq: u32, epoll: &Epoll) -> io::Result<Self> {
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        match sys::fork()? {
            Fork::Child => pass_on(seq, &theirs),
            Fork::Parent(pid) => {
                let relay = Self { pid, socket: ours, ready: false };
                epoll.add(&relay.socket, EpollEvent::new(EpollFlags::EPOLLIN, Self::TOKEN))?;
                Ok(relay)
            }
        }
    }

    /// Something waits.
    pub(super) const fn wake(&mut self) {
        self.ready = true;
    }

    /// Whether something waits; not any more.
    pub(super) const fn take_ready(&mut self) -> bool {
        core::mem::replace(&mut self.ready, false)
    }

    /// Receives what waits. An empty datagram says that the process is gone.
    ///
    /// # Errors
    ///
    /// What recvmmsg(2) says.
    pub(super) fn receive(&self, batch: &mut Batch) -> io::Result<usize> {
        batch.receive(self.socket.as_fd())
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // Both fail only if it is gone.
        let _ = kill(self.pid, Signal::SIGKILL);
        let _ = waitpid(self.pid, None);
    }
}

/// Reads the dump and passes it on; what goes wrong shows in the dump's having no end.
fn pass_on(seq: u32, to: &OwnedFd) -> ! {
    sys::close_all_but(to.as_fd());
    let _ = read(seq, to);
    sys::exit_at_once(0)
}

fn read(seq: u32, to: &OwnedFd) -> io::Result<()> {
    let requests = RequestSocket::open()?;
    requests.ask(|writer| request::dump(writer, seq, Family::Unspec))?;
    let mut batch = Batch::new(1, DUMP_BYTES)?;
    // While a dump goes on, its next part is there as soon as one is read.
    while requests.receive(&mut batch)? > 0 {
        for part in batch.datagrams().filter(|part| part.port == 0) {
            send(to.as_raw_fd(), part.bytes, MsgFlags::MSG_NOSIGNAL)?;
        }
    }
    Ok(())
}

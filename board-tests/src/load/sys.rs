//! System calls that no safe crate offers: the one place of this crate's benches with `unsafe`.
//!
//! Sockets of `NETLINK_NETFILTER`, batched receiving, and what a child process needs before its
//! `exec`. Nothing here decides anything.
#![expect(unsafe_code, reason = "thin wrappers of system calls, one each")]

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, socket,
};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Group of new flows.
pub const GROUP_NEW: u32 = 1;
/// Group of changed flows.
pub const GROUP_UPDATE: u32 = 2;
/// Group of destroyed flows.
pub const GROUP_DESTROY: u32 = 3;

/// A socket of `NETLINK_NETFILTER` in the calling thread's network namespace.
///
/// # Errors
/// What `socket` gives.
pub fn netfilter_socket() -> io::Result<OwnedFd> {
    let (family, kind) = (AddressFamily::Netlink, SockType::Raw);
    Ok(socket(family, kind, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkNetFilter)?)
}

/// Binds to a port chosen by the kernel; `groups` is the old mask (bit 0 is group 1).
///
/// # Errors
/// What `bind` gives.
pub fn bind(socket: &OwnedFd, groups: u32) -> io::Result<()> {
    Ok(nix::sys::socket::bind(socket.as_raw_fd(), &NetlinkAddr::new(0, groups))?)
}

/// Sends all of `bytes` as one datagram to the kernel.
///
/// # Errors
/// What `send` gives; `EMSGSIZE` beyond the send buffer.
pub fn send(socket: &OwnedFd, bytes: &[u8]) -> io::Result<()> {
    nix::sys::socket::send(socket.as_raw_fd(), bytes, MsgFlags::empty())?;
    Ok(())
}

/// Receives one datagram; its length.
///
/// # Errors
/// What `recv` gives.
pub fn receive(socket: &OwnedFd, into: &mut [u8]) -> io::Result<usize> {
    Ok(nix::sys::socket::recv(socket.as_raw_fd(), into, MsgFlags::empty())?)
}

/// Joins one multicast group. Bind first: an unbound socket is told nothing.
///
/// # Errors
/// What `setsockopt` gives.
pub fn join(socket: &OwnedFd, group: u32) -> io::Result<()> {
    let group = libc::c_int::try_from(group).unwrap_or(-1);
    set(socket, libc::SOL_NETLINK, libc::NETLINK_ADD_MEMBERSHIP, group)
}

/// Delivery failures are told to the sender, and the reader never sees `ENOBUFS`.
///
/// # Errors
/// What `setsockopt` gives.
pub fn make_reliable(socket: &OwnedFd) -> io::Result<()> {
    set(socket, libc::SOL_NETLINK, libc::NETLINK_BROADCAST_ERROR, 1)?;
    set(socket, libc::SOL_NETLINK, libc::NETLINK_NO_ENOBUFS, 1)
}

/// Refusals do not repeat the request.
///
/// # Errors
/// What `setsockopt` gives.
pub fn cap_acks(socket: &OwnedFd) -> io::Result<()> {
    set(socket, libc::SOL_NETLINK, libc::NETLINK_CAP_ACK, 1)
}

/// Receive buffer of `bytes` (the kernel doubles it): `SO_RCVBUFFORCE`, where refused `SO_RCVBUF`.
///
/// # Errors
/// What the second `setsockopt` gives.
pub fn force_receive_buffer(socket: &OwnedFd, bytes: usize) -> io::Result<()> {
    let bytes = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
    set(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, bytes)
        .or_else(|_| set(socket, libc::SOL_SOCKET, libc::SO_RCVBUF, bytes))
}

/// Send buffer of `bytes` (the kernel doubles it): `SO_SNDBUFFORCE`, where refused `SO_SNDBUF`.
///
/// # Errors
/// What the second `setsockopt` gives.
pub fn force_send_buffer(socket: &OwnedFd, bytes: usize) -> io::Result<()> {
    let bytes = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
    set(socket, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, bytes)
        .or_else(|_| set(socket, libc::SOL_SOCKET, libc::SO_SNDBUF, bytes))
}

/// Ends a `recv` that waits longer than this with `EAGAIN`.
///
/// # Errors
/// What `setsockopt` gives.
pub fn receive_timeout(socket: &OwnedFd, seconds: i64) -> io::Result<()> {
    let value = nix::sys::time::TimeVal::new(seconds, 0);
    Ok(nix::sys::socket::setsockopt(socket, nix::sys::socket::sockopt::ReceiveTimeout, &value)?)
}

fn set(socket: &OwnedFd, level: i32, name: i32, value: libc::c_int) -> io::Result<()> {
    let size = libc::socklen_t::try_from(size_of_val(&value)).unwrap_or_default();
    // SAFETY: the pointer and the size describe `value`, which lives through the call.
    let done = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), size)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Buffers of one `recvmmsg`, made once.
pub struct Batch {
    buffers: Vec<u8>,
    headers: Vec<libc::mmsghdr>,
    vectors: Vec<libc::iovec>,
    each: usize,
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Batch({} x {} bytes)", self.headers.len(), self.each)
    }
}

impl Batch {
    /// `count` buffers of `each` bytes.
    #[must_use]
    pub fn new(count: usize, each: usize) -> Self {
        let mut buffers = vec![0u8; count * each];
        let vectors: Vec<_> = buffers
            .chunks_exact_mut(each)
            .map(|it| libc::iovec { iov_base: it.as_mut_ptr().cast(), iov_len: each })
            .collect();
        // SAFETY: an mmsghdr of zeros is one without name, vectors and control data.
        let empty: libc::mmsghdr = unsafe { std::mem::zeroed() };
        Self { buffers, headers: vec![empty; count], vectors, each }
    }

    /// Receives without waiting; how many datagrams came, 0 when there is none.
    ///
    /// # Errors
    /// What `recvmmsg` gives, but `EAGAIN` and `EINTR`.
    pub fn receive(&mut self, socket: &OwnedFd) -> io::Result<usize> {
        for (header, vector) in self.headers.iter_mut().zip(&mut self.vectors) {
            header.msg_hdr.msg_iov = &raw mut *vector;
            header.msg_hdr.msg_iovlen = 1;
        }
        let count = libc::c_uint::try_from(self.headers.len()).unwrap_or_default();
        // SAFETY: `count` headers, each with one vector into `buffers`; all are owned by `self`
        // and none moves during the call.
        let got = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                count,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        match usize::try_from(got) {
            Ok(got) => Ok(got),
            Err(_) => match io::Error::last_os_error() {
                error if error.raw_os_error() == Some(libc::EAGAIN) => Ok(0),
                error if error.kind() == io::ErrorKind::Interrupted => Ok(0),
                error => Err(error),
            },
        }
    }

    /// Datagram `at` of the last [`Batch::receive`].
    #[must_use]
    pub fn datagram(&self, at: usize) -> &[u8] {
        let length = self.headers.get(at).map_or(0, |it| it.msg_len as usize).min(self.each);
        self.buffers.get(at * self.each..at * self.each + length).unwrap_or_default()
    }
}

/// What the kernel charged a process that has ended.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// User and system time in nanoseconds, over the whole life, its reaped children included.
    pub cpu_ns: u64,
    /// The most that was resident, in bytes.
    pub peak_bytes: u64,
    /// Exit code; `None` when a signal ended it.
    pub code: Option<i32>,
}

/// Looks whether a child has ended and takes its resource usage; `None` while it runs.
///
/// # Errors
/// What `wait4` gives: `ECHILD` when it is not a child or was waited for already.
pub fn reap(pid: i32) -> io::Result<Option<Usage>> {
    let mut status = 0;
    // SAFETY: a rusage of zeros is a valid one.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to locals that live through the call.
    let got = unsafe { libc::wait4(pid, &raw mut status, libc::WNOHANG, &raw mut usage) };
    if got < 0 {
        return Err(io::Error::last_os_error());
    }
    if got == 0 {
        return Ok(None);
    }
    let code = libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status));
    let cpu_ns = nanoseconds(usage.ru_utime) + nanoseconds(usage.ru_stime);
    let peak_bytes = u64::try_from(usage.ru_maxrss).unwrap_or_default() * 1024;
    Ok(Some(Usage { cpu_ns, peak_bytes, code }))
}

fn nanoseconds(time: libc::timeval) -> u64 {
    let part = |it: i64| u64::try_from(it).unwrap_or_default();
    part(time.tv_sec) * 1_000_000_000 + part(time.tv_usec) * 1000
}

/// Makes `command` start in the network namespace `netns` (as it is when `None`), and end with
/// SIGTERM when the thread that starts it ends.
pub fn prepare(command: &mut Command, netns: Option<RawFd>) {
    let set_up = move || {
        if let Some(netns) = netns {
            // SAFETY: setns takes two integers.
            if unsafe { libc::setns(netns, libc::CLONE_NEWNET) } != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        // SAFETY: prctl with PR_SET_PDEATHSIG takes integers.
        match unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    // SAFETY: between fork and exec only two system calls are made; nothing allocates or locks.
    unsafe { command.pre_exec(set_up) };
}

/// Waits until one of `files` can be read, at most `timeout_ms` (-1 for ever); whether one can.
///
/// # Errors
/// What `poll` gives; an interruption by a signal is no error and gives `false`.
pub fn readable(files: &[BorrowedFd<'_>], timeout_ms: i32) -> io::Result<bool> {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let mut waiting: Vec<_> = files.iter().map(|it| PollFd::new(*it, PollFlags::POLLIN)).collect();
    let timeout = PollTimeout::try_from(timeout_ms).unwrap_or(PollTimeout::NONE);
    match poll(&mut waiting, timeout) {
        Ok(ready) => Ok(ready > 0),
        Err(nix::errno::Errno::EINTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

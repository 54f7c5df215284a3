//! The netlink sockets: two for events, one for requests and dumps.
//!
//! DESTROY has a socket of its own, so that destroys that are not taken (the kernel keeps and
//! repeats them) do not keep NEW and UPDATE from the table. Both event sockets ask for reliable
//! delivery: `NETLINK_BROADCAST_ERROR` makes the kernel keep what did not fit, and
//! `NETLINK_NO_ENOBUFS` keeps the socket usable after it ran over and makes the kernel keep a
//! DESTROY that it had no memory for. With the latter an overrun is never an error on the socket:
//! it shows in the drops of `SO_MEMINFO`, which count attempts.
//!
//! Source: `net/netlink/af_netlink.c`, `net/netfilter/nf_conntrack_netlink.c`.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_sys::constants::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};
use nix::sys::socket::{getsockopt, setsockopt, sockopt};

use super::sys::{self, Batch};
use crate::wire::{Full, Messages, RawMessage, Writer};

/// Groups of `enum nfnetlink_groups`.
pub mod group {
    /// `NFNLGRP_CONNTRACK_NEW`
    pub const NEW: u32 = 1;
    /// `NFNLGRP_CONNTRACK_UPDATE`
    pub const UPDATE: u32 = 2;
    /// `NFNLGRP_CONNTRACK_DESTROY`
    pub const DESTROY: u32 = 3;
}

/// How full a socket's receive queue is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketMemory {
    /// Bytes in the receive queue, as the kernel counts them.
    pub receive_queued: u32,
    /// Limit of the receive queue.
    pub receive_buffer: u32,
    /// Deliveries that found no room.
    pub drops: u32,
}

/// A socket that hears conntrack events.
#[derive(Debug)]
pub struct EventSocket {
    socket: Socket,
}

impl EventSocket {
    /// Opens a socket and joins the groups.
    ///
    /// The receive buffer is set beyond `rmem_max` where that is allowed; what was had shows in
    /// [`Self::memory`].
    ///
    /// # Errors
    ///
    /// What the system calls say: `EPERM` without `CAP_NET_ADMIN`, `EPROTONOSUPPORT` without
    /// nfnetlink.
    pub fn open(groups: &[u32], receive_buffer: u32, reliable: bool) -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.set_non_blocking(true)?;
        set_receive_buffer(&socket, receive_buffer)?;
        socket.set_broadcast_error(reliable)?;
        socket.set_no_enobufs(true)?;
        socket.bind_auto()?;
        for &group in groups {
            socket.add_membership(group)?;
        }
        Ok(Self { socket })
    }

    /// Asks the kernel to keep what does not fit, or not to any more: then it lets go of what it
    /// has kept so far.
    ///
    /// # Errors
    ///
    /// What setsockopt(2) says.
    pub fn set_reliable(&self, reliable: bool) -> io::Result<()> {
        self.socket.set_broadcast_error(reliable)
    }

    /// Receives what waits.
    ///
    /// # Errors
    ///
    /// What recvmmsg(2) says.
    pub fn receive(&self, batch: &mut Batch) -> io::Result<usize> {
        batch.receive(self.as_fd())
    }

    /// Receives what waits, at most so many datagrams.
    ///
    /// # Errors
    ///
    /// What recvmmsg(2) says.
    pub fn receive_up_to(&self, most: usize, batch: &mut Batch) -> io::Result<usize> {
        batch.receive_up_to(most, self.as_fd())
    }

    /// How full the receive buffer is, and how often it was too full.
    ///
    /// # Errors
    ///
    /// What getsockopt(2) says.
    pub fn memory(&self) -> io::Result<SocketMemory> {
        // `SK_MEMINFO_*` of `include/uapi/linux/sock_diag.h`.
        let mut values = [0; 9];
        let (level, name) = (libc::SOL_SOCKET, libc::SO_MEMINFO);
        match sys::socket_option(self.as_fd(), level, name, &mut values)? {
            &[receive_queued, receive_buffer, _, _, _, _, _, _, drops, ..] => {
                Ok(SocketMemory { receive_queued, receive_buffer, drops })
            }
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

impl AsFd for EventSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The socket for requests, and for the answers to them.
#[derive(Debug)]
pub struct RequestSocket {
    socket: Socket,
}

impl RequestSocket {
    /// Opens a socket. Answers wait in the kernel until they are read; it never blocks.
    ///
    /// # Errors
    ///
    /// What the system calls say.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.set_non_blocking(true)?;
        socket.bind_auto()?;
        // Refused by kernels before 4.12; errors are then told without words.
        let _ = socket.set_ext_ack(true);
        let _ = socket.set_cap_ack(true);
        Ok(Self { socket })
    }

    /// As [`Self::open`], with room for `send` bytes of requests in one message, and `receive`
    /// bytes of answers; both beyond the system's limits where that is allowed.
    ///
    /// # Errors
    ///
    /// What the system calls say.
    pub fn open_with(send: u32, receive: u32) -> io::Result<Self> {
        let requests = Self::open()?;
        set_receive_buffer(&requests.socket, receive)?;
        let send = usize::try_from(send).unwrap_or(usize::MAX);
        if setsockopt(&requests.socket, sockopt::SndBufForce, &send).is_err() {
            setsockopt(&requests.socket, sockopt::SndBuf, &send)?;
        }
        Ok(requests)
    }

    /// Bytes that waiting answers may take in the kernel, its own bookkeeping included.
    ///
    /// # Errors
    ///
    /// What getsockopt(2) says.
    pub fn receive_buffer(&self) -> io::Result<usize> {
        Ok(getsockopt(&self.socket, sockopt::RcvBuf)?)
    }

    /// Receives one datagram: how long it is and who sent it, 0 for the kernel.
    ///
    /// # Errors
    ///
    /// What recvfrom(2) says: `WouldBlock` when none waits.
    pub fn receive_one(&self, mut into: &mut [u8]) -> io::Result<(usize, u32)> {
        let (len, from) = self.socket.recv_from(&mut into, 0)?;
        Ok((len, from.port_number()))
    }

    /// Sends one short request.
    ///
    /// # Errors
    ///
    /// What send(2) says; `InvalidInput` for one that is not short.
    pub fn ask(&self, request: impl FnOnce(&mut Writer<'_>) -> Result<(), Full>) -> io::Result<()> {
        let mut buffer = [0; 64];
        let mut writer = Writer::new(&mut buffer);
        request(&mut writer).map_err(|_| io::ErrorKind::InvalidInput)?;
        self.send(&writer)
    }

    /// Sends requests, all in one message.
    ///
    /// # Errors
    ///
    /// What send(2) says.
    pub fn send(&self, requests: &Writer<'_>) -> io::Result<()> {
        self.socket.send_to(requests.as_bytes(), &SocketAddr::new(0, 0), 0).map(drop)
    }

    /// Receives answers.
    ///
    /// # Errors
    ///
    /// What recvmmsg(2) says.
    pub fn receive(&self, batch: &mut Batch) -> io::Result<usize> {
        batch.receive(self.as_fd())
    }
}

impl AsFd for RequestSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The messages of the next part of a list that the kernel was asked for on `socket`: it answers at
/// once, part by part as they are read. What others send there is left out.
///
/// # Errors
///
/// What recvmmsg(2) says; `WouldBlock` if there is no part.
pub fn next_part<'b>(
    socket: BorrowedFd<'_>,
    batch: &'b mut Batch,
) -> io::Result<impl Iterator<Item = RawMessage<'b>>> {
    if batch.receive(socket)? == 0 {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    let datagrams = batch.datagrams().filter(|it| it.port == 0);
    Ok(datagrams.flat_map(|it| Messages::new(it.bytes).flatten()))
}

/// Sets the receive buffer, beyond the system's limit if that is allowed. The kernel doubles the
/// number to make room for its own bookkeeping.
fn set_receive_buffer(socket: &Socket, bytes: u32) -> io::Result<()> {
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    if setsockopt(socket, sockopt::RcvBufForce, &bytes).is_err() {
        setsockopt(socket, sockopt::RcvBuf, &bytes)?;
    }
    Ok(())
}

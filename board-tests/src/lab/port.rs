//! The plug of a segment of hosts: where their Ethernet frames leave and come in.
//!
//! Three kinds: a packet socket on the far end of a veth pair (everywhere), the user side of a
//! TAP interface of the router (where `/dev/net/tun` may be opened), or a cable to an emulated
//! board. None merges or splits packets: the frames that the router counts are those that the hosts made. Veth without XDP
//! has no receive offload, and frames written here carry full checksums.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{read, write};

use super::cable::Cable;
use super::sys::PacketSocket;

/// The largest frame: 1,500 bytes and the Ethernet header.
pub(super) const FRAME_MAX: usize = 1514;

/// Bytes of an Ethernet header.
pub(super) const HEADER: usize = 14;

/// A segment's way in and out.
#[derive(Debug)]
pub(super) enum Port {
    Packet(PacketSocket),
    Tap(OwnedFd),
    Cable(Cable),
}

impl Port {
    /// Takes one received frame; its length, `None` when there is none.
    pub(super) fn receive(&mut self, into: &mut [u8]) -> Option<usize> {
        match self {
            Self::Packet(socket) => socket.receive(into),
            Self::Tap(fd) => read(&*fd, into).ok(),
            Self::Cable(cable) => cable.receive(into),
        }
    }

    /// Sends one frame, waiting for room if there is none.
    pub(super) fn send(&self, frame: &[u8]) -> io::Result<()> {
        loop {
            let result = match self {
                Self::Packet(socket) => socket.send(frame),
                Self::Tap(fd) => write(fd, frame).map(drop).map_err(Into::into),
                Self::Cable(cable) => cable.send(frame),
            };
            match result {
                Err(error) if is_full(&error) => self.wait_for_room()?,
                other => return other,
            }
        }
    }

    /// Frames that were lost on the way in because nobody took them, since the last call.
    pub(super) fn take_drops(&self) -> u64 {
        match self {
            Self::Packet(socket) => socket.take_drops().map_or(0, u64::from),
            Self::Tap(_) | Self::Cable(_) => 0,
        }
    }

    fn wait_for_room(&self) -> io::Result<()> {
        let mut fds = [PollFd::new(self.as_fd(), PollFlags::POLLOUT)];
        poll(&mut fds, PollTimeout::from(100_u8))?;
        Ok(())
    }
}

fn is_full(error: &io::Error) -> bool {
    [Errno::ENOBUFS, Errno::EAGAIN].iter().any(|e| error.raw_os_error() == Some(*e as i32))
}

impl AsFd for Port {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Packet(socket) => socket.as_fd(),
            Self::Tap(fd) => fd.as_fd(),
            Self::Cable(cable) => cable.as_fd(),
        }
    }
}

impl AsRawFd for Port {
    fn as_raw_fd(&self) -> i32 {
        self.as_fd().as_raw_fd()
    }
}

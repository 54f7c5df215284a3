//! A cable to the network card of an emulated router: one Ethernet frame a datagram, over two Unix
//! sockets (QEMU's `-netdev dgram`).
//!
//! A router that is off, or that boots, takes no frames: then they are lost, as on a wire. One that
//! is only busy is waited for, so that nothing is lost between hosts and a router that works.

use std::cell::Cell;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::error::{Context, LabError};

/// How long a router that takes no frame may just be busy, in milliseconds.
const BUSY_MS: u16 = 2_000;

/// The hosts' end of a cable.
#[derive(Debug)]
pub(super) struct Cable {
    from_board: UnixDatagram,
    to_board: UnixDatagram,
    board: PathBuf,
    plugged: Cell<bool>,
    /// The router did not take a frame for [`BUSY_MS`], and none since.
    stalled: Cell<bool>,
}

impl Cable {
    /// A cable whose ends are the sockets `host` (made here) and `board` (made by the emulator).
    pub(super) fn new(host: &Path, board: &Path) -> Result<Self, LabError> {
        let doing = format!("making the socket {}", host.display());
        let from_board = UnixDatagram::bind(host).context(&doing)?;
        let to_board = UnixDatagram::unbound().context(&doing)?;
        from_board.set_nonblocking(true).context(&doing)?;
        to_board.set_nonblocking(true).context(&doing)?;
        let (plugged, stalled) = (Cell::new(false), Cell::new(false));
        Ok(Self { from_board, to_board, board: board.to_owned(), plugged, stalled })
    }

    /// Takes one received frame; its length, `None` when there is none.
    pub(super) fn receive(&self, into: &mut [u8]) -> Option<usize> {
        self.from_board.recv(into).ok()
    }

    /// Sends one frame, or loses it.
    pub(super) fn send(&self, frame: &[u8]) -> io::Result<()> {
        if !self.plugged.get() && self.to_board.connect(&self.board).is_err() {
            return Ok(());
        }
        match self.to_board.send(frame) {
            Ok(_) => {
                self.plugged.set(true);
                self.stalled.set(false);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if !self.stalled.get() && self.has_room()? {
                    return self.send(frame);
                }
                self.stalled.set(true);
            }
            // The emulator was started anew, or there is none.
            Err(_) if self.plugged.replace(false) => return self.send(frame),
            Err(_) => {}
        }
        Ok(())
    }

    /// Waits for room; false when there was none.
    fn has_room(&self) -> io::Result<bool> {
        let mut fds = [PollFd::new(self.to_board.as_fd(), PollFlags::POLLOUT)];
        Ok(poll(&mut fds, PollTimeout::from(BUSY_MS))? > 0)
    }
}

impl AsFd for Cable {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.from_board.as_fd()
    }
}

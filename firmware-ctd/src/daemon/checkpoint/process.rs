//! The process that saves, as the worker sees it.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::saver::Outcome;

/// The process.
#[derive(Debug)]
pub struct Saver {
    pid: Pid,
    pub(super) socket: UnixStream,
    answer: [u8; Outcome::WORDS * 4],
    answered: usize,
}

impl Saver {
    /// The process with this id, at the other end of this socket.
    #[must_use]
    pub const fn new(pid: Pid, socket: UnixStream) -> Self {
        Self { pid, socket, answer: [0; Outcome::WORDS * 4], answered: 0 }
    }

    /// The answer, if it is there.
    ///
    /// # Errors
    ///
    /// The process is gone without one.
    pub fn read(&mut self) -> io::Result<Option<Outcome>> {
        loop {
            match self.socket.read(&mut self.answer[self.answered..]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.answered += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            if self.answered == self.answer.len() {
                let mut words = [0; Outcome::WORDS];
                crate::words::of_raw(&self.answer, &mut words);
                return Ok(Some(Outcome::of_words(&words)));
            }
        }
    }

    /// Ends the process, if it has not ended by itself; whether it is gone. One that has not
    /// answered may wait for its storage, and goes only when that does: it is not waited for.
    #[must_use]
    pub fn bury(&self) -> bool {
        let wait = (self.answered < self.answer.len()).then_some(WaitPidFlag::WNOHANG);
        // It has answered or is of no use: both fail only if it is gone.
        let _ = kill(self.pid, Signal::SIGKILL);
        !matches!(waitpid(self.pid, wait), Ok(WaitStatus::StillAlive))
    }
}

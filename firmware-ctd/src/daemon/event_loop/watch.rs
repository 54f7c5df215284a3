//! Being told by the kernel that events have come.
//!
//! It tells whoever waits for a socket at every message, awake or not, which takes a thirtieth of
//! what a message costs. In a row of naps nobody waits for the event sockets: they are looked at
//! after each nap, and watched again before the loop waits for them.

use std::io;

use nix::sys::epoll::{EpollEvent, EpollFlags};

use super::{EventLoop, token};
use crate::pressure::State;

/// Whether the kernel tells of events.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Watching {
    watched: bool,
    /// The last wait was a nap.
    napped: bool,
}

impl EventLoop<'_> {
    /// Before a wait, which is a nap or not: sees to it that the event sockets end it if they are
    /// to, and that they cost little in a row of naps.
    pub(super) fn watch_events(&mut self, nap: bool) -> io::Result<()> {
        let in_a_row = nap && self.watching.napped;
        self.watching.napped = nap;
        if self.watching.watched && in_a_row {
            self.outer.delete(&self.edge.state)?;
            self.outer.delete(&self.edge.destroy)?;
            self.watching.watched = false;
        } else if !self.watching.watched && !nap {
            self.outer.add(&self.edge.state, EpollEvent::new(EpollFlags::EPOLLIN, token::STATE))?;
            self.outer.add(&self.edge.destroy, self.destroys_of_interest())?;
            self.watching.watched = true;
        }
        Ok(())
    }

    /// After the pressure has changed: destroys that are left in the kernel end no wait.
    pub(super) fn watch_destroys_anew(&self) -> io::Result<()> {
        if self.watching.watched {
            self.outer.modify(&self.edge.destroy, &mut self.destroys_of_interest())?;
        }
        Ok(())
    }

    fn destroys_of_interest(&self) -> EpollEvent {
        let held = matches!(self.pressure.state(), State::Held(_));
        let flags = if held { EpollFlags::empty() } else { EpollFlags::EPOLLIN };
        EpollEvent::new(flags, token::DESTROY)
    }
}

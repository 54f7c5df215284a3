//! Dumps of the kernel's table: asked for when the engine wants one, read a part at a time.
//!
//! When one is due, and what its parts mean, is the engine's. A dump that cannot be asked for, or
//! that breaks off, is told to the engine, which tries again later.

use std::io;

use super::super::log::RateLimit;
use super::super::netlink::RequestSocket;
use super::{EventLoop, take};
use crate::engine::{Purpose, Source};
use crate::limited;
use crate::time::{Instant, Now};
use crate::wire::{Family, Writer, request};

impl EventLoop<'_> {
    pub(super) fn start_dump(&mut self, now: Instant, seq: u32, purpose: Purpose) {
        static LIMIT: RateLimit = RateLimit::new(2, 60);
        let mut buffer = [0; 64];
        let mut writer = Writer::new(&mut buffer);
        let fits = request::dump(&mut writer, seq, Family::Unspec).is_ok();
        log::debug!("dump {seq}: {purpose:?}");
        let sent = self.edge.requests.send(&writer);
        if !fits || sent.is_err() {
            limited!(LIMIT, log::Level::Warn, "cannot ask for a dump: {sent:?}; trying again");
            self.dump_failed(now);
        }
    }

    /// Reads a part of the dump under way, if it is time.
    pub(super) fn read_dump_part(&mut self, now: Now) -> io::Result<()> {
        if !self.engine.wants_dump_part(now.boot) {
            return Ok(());
        }
        let failed = self.engine.stats().dumps_failed;
        if self.edge.requests.receive(&mut self.batches.dump)? == 0 {
            self.engine.dump_part_missing(now.boot);
        } else {
            take(&mut self.engine, &mut self.edge, now, Source::Request, &self.batches.dump);
            self.engine.dump_part_read(now.boot);
        }
        if self.engine.stats().dumps_failed != failed {
            self.reopen_requests();
        }
        self.poll_engine(now);
        Ok(())
    }

    fn dump_failed(&mut self, now: Instant) {
        self.engine.dump_failed(now);
        self.reopen_requests();
    }

    /// A dump that broke off may still be under way in the kernel, which makes only one for each
    /// socket.
    fn reopen_requests(&mut self) {
        static LIMIT: RateLimit = RateLimit::new(2, 60);
        match RequestSocket::open() {
            Ok(socket) => self.edge.requests = socket,
            Err(error) => {
                limited!(LIMIT, log::Level::Warn, "cannot open a request socket: {error}");
            }
        }
    }
}

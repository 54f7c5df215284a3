//! Dumps of the kernel's table: asked for when the engine wants one, read a part at a time; by a
//! process of their own where somebody waits for them and there is a processor for it ([`Relay`]).
//!
//! When one is due, and what its parts mean, is the engine's. A dump that cannot be asked for, or
//! that breaks off, is told to the engine, which tries again later. Whatever others send to the
//! request socket, even until it is full, ends a dump at most, never the daemon.

use super::super::log::{InWords, RateLimit};
use super::super::netlink::RequestSocket;
use super::super::relay::Relay;
use super::{EventLoop, take};
use crate::engine::{Purpose, Source};
use crate::limited;
use crate::time::{Instant, Now};
use crate::wire::{Family, request};

/// More messages than wait in a full socket.
const MOST_WAITING: usize = 1024;

impl EventLoop<'_> {
    pub(super) fn start_dump(&mut self, now: Now, seq: u32, purpose: Purpose) {
        static LIMIT: RateLimit = RateLimit::new(2, 60);
        log::debug!("dump {seq}: {}", purpose.name());
        if purpose == Purpose::Save && self.start_relay(seq) {
            return;
        }
        self.refuse_what_waits(now);
        let asked = self.edge.requests.ask(|writer| request::dump(writer, seq, Family::Unspec));
        if let Err(error) = asked {
            let (error, level) = (InWords(&error), log::Level::Warn);
            limited!(LIMIT, level, "cannot ask for a dump: {error}; trying again");
            self.dump_failed(now.boot);
        }
    }

    /// Whether a dump is read by another process.
    fn start_relay(&mut self, seq: u32) -> bool {
        static LIMIT: RateLimit = RateLimit::new(2, 60);
        // One that an earlier dump left.
        self.relay = None;
        if !self.relays {
            return false;
        }
        match Relay::start(seq, &self.inner) {
            Ok(relay) => self.relay = Some(relay),
            Err(error) => {
                let (error, level) = (InWords(&error), log::Level::Warn);
                limited!(LIMIT, level, "no process to read a dump: {error}; reading it here");
            }
        }
        self.relay.is_some()
    }

    /// Between dumps the kernel has nothing to say: what waits was sent by others, and would take
    /// the room of the answers.
    fn refuse_what_waits(&mut self, now: Now) {
        for _ in 0..MOST_WAITING {
            match self.edge.requests.receive(&mut self.batches.dump) {
                Ok(0) => return,
                Ok(_) => self.take_part(now),
                Err(_) => return self.reopen_requests(),
            }
        }
    }

    /// Reads a part of the dump under way, if it is time.
    pub(super) fn read_dump_part(&mut self, now: Now) {
        static LIMIT: RateLimit = RateLimit::new(2, 60);
        let ready = self.relay.as_mut().is_some_and(Relay::take_ready);
        let wanted = ready && self.engine.is_dumping() || self.engine.wants_dump_part(now.boot);
        if !wanted {
            return;
        }
        let failed = self.engine.stats().dumps_failed;
        let (batch, relayed) = (&mut self.batches.dump, self.relay.is_some());
        let received = match &self.relay {
            Some(relay) => relay.receive(batch),
            None => self.edge.requests.receive(batch),
        };
        match received {
            Ok(0) => self.engine.dump_part_missing(now.boot),
            Ok(_) => {
                self.take_part(now);
                self.engine.dump_part_read(now.boot);
                if relayed {
                    self.look_for_end(now.boot);
                }
            }
            Err(error) => {
                let (error, level) = (InWords(&error), log::Level::Warn);
                limited!(LIMIT, level, "a dump broke off: {error}; trying again");
                self.engine.dump_failed(now.boot);
            }
        }
        if self.engine.stats().dumps_failed != failed && !relayed {
            self.reopen_requests();
        }
        if !self.engine.is_dumping() {
            self.relay = None;
        }
        self.poll_engine(now);
    }

    /// A process that is gone before the dump is over broke off, and is not tried again.
    fn look_for_end(&mut self, now: Instant) {
        static LIMIT: RateLimit = RateLimit::new(2, 60);
        let is_gone = self.batches.dump.datagrams().any(|part| part.bytes.is_empty());
        if is_gone && self.engine.is_dumping() {
            let level = log::Level::Warn;
            limited!(LIMIT, level, "the process that reads a dump broke off; reading it here");
            self.relays = false;
            self.engine.dump_failed(now);
        }
    }

    fn take_part(&mut self, now: Now) {
        take(&mut self.engine, &mut self.edge, now, Source::Request, &self.batches.dump);
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
                let (error, level) = (InWords(&error), log::Level::Warn);
                limited!(LIMIT, level, "cannot open a request socket: {error}");
            }
        }
    }
}

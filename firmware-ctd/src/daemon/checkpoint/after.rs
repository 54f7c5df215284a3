//! Restored flows, once more is known than when they were made: how long the reboot took, and
//! which addresses the router has now.
//!
//! **Clock**: a flow is made with what was left of its timeout, but no more than a cap, since
//! nobody knows how long the router was off. When the wall clock is set later, that is known; a
//! process of its own then goes through the image once more, and gives flows that had no packet yet
//! what is really left of theirs, or deletes them.
//!
//! **Addresses**: what masquerade does when an address goes, it does not do for restored flows. So
//! when addresses or routes have changed and there is a default route, restored flows are deleted
//! that were translated by an address which the router had when they were saved and has no more:
//! after a grace time, since an interface that comes back may be late.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use super::load::Loaded;
use crate::checkpoint::age::downtime_s;
use crate::daemon::addresses::{self, Addresses, Changes};
use crate::daemon::log::{InWords, RateLimit};
use crate::daemon::netlink::RequestSocket;
use crate::daemon::shared::{Word, Words};
use crate::daemon::sys::{self, Batch, Fork};
use crate::engine::Engine;
use crate::limited;
use crate::table::FlowRef;
use crate::time::{Duration, Instant, Now};
use crate::wire::{Status, Writer, request};

mod correct;

/// Room for a list of addresses or routes.
const LIST_BYTES: usize = 32 << 10;
/// Room for requests to delete.
const REQUEST_BYTES: usize = 4 << 10;
/// Between two looks at whether the clock has been set.
const LOOK: Duration = Duration::from_secs(5);

/// What is still to be done about restored flows.
#[derive(Debug)]
pub struct After {
    loaded: Loaded,
    /// Addresses of the router when the flows were saved.
    had: Addresses,
    changes: Changes,
    /// There are changes to take in.
    changed: bool,
    batch: Batch,
    grace: Duration,
    check_at: Option<Instant>,
    /// When to look whether the clock has been set; none once that is settled.
    look_at: Option<Instant>,
    corrector: Option<(Pid, UnixStream)>,
}

impl After {
    /// Token of the address changes in the epoll, and of the process that corrects timeouts.
    pub const TOKENS: [u64; 2] = [6, 7];

    /// Watches for flows of this image.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn new(loaded: Loaded, grace_s: u32, now: Instant) -> io::Result<Self> {
        let grace = Duration::from_secs(u64::from(grace_s));
        Ok(Self {
            had: super::router::addresses(loaded.router()),
            loaded,
            changes: Changes::open()?,
            changed: false,
            batch: Batch::new(1, LIST_BYTES)?,
            grace,
            check_at: Some(now + grace),
            look_at: Some(now),
            corrector: None,
        })
    }

    /// Waits for changes in this epoll.
    ///
    /// # Errors
    ///
    /// What epoll(7) says.
    pub fn watch(&self, epoll: &Epoll) -> io::Result<()> {
        let event = EpollEvent::new(EpollFlags::EPOLLIN, Self::TOKENS[0]);
        Ok(epoll.add(self.changes.as_fd(), event)?)
    }

    /// Something happened at a descriptor of these tokens.
    pub fn wake(&mut self, token: u64) {
        self.changed |= token == Self::TOKENS[0];
    }

    /// Takes over another grace time.
    pub fn set_grace(&mut self, grace_s: u32) {
        self.grace = Duration::from_secs(u64::from(grace_s));
    }

    /// When [`Self::turn`] is wanted.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.check_at, self.look_at].into_iter().flatten().min()
    }

    /// Looks at the clock, which has just been `set` or not, and at the addresses.
    pub fn turn(&mut self, engine: &Engine<'_>, words: Words, set: bool, now: Now, epoll: &Epoll) {
        if set {
            self.look_at = self.look_at.map(|_| now.boot);
        }
        if core::mem::take(&mut self.changed) && self.changes.take(&mut self.batch) {
            self.check_at = Some(now.boot + self.grace);
        }
        if self.check_at.is_some_and(|at| at <= now.boot) {
            self.check_at = None;
            if let Err(error) = self.check_addresses(engine, words) {
                self.check_at = Some(now.boot + LOOK);
                static LIMIT: RateLimit = RateLimit::new(2, 600);
                let (error, level) = (InWords(&error), log::Level::Warn);
                limited!(LIMIT, level, "cannot look at the router's addresses: {error}");
            }
        }
        if self.look_at.is_some_and(|at| at <= now.boot) {
            self.look_at = Some(now.boot + LOOK);
            self.look_at_clock(words, now, epoll);
        }
        self.hear_corrector(words);
    }

    // --- addresses -----------------------------------------------------------------------------

    fn check_addresses(&mut self, engine: &Engine<'_>, words: Words) -> io::Result<()> {
        let routes = addresses::default_routes(&mut self.batch)?;
        if routes == [false; 2] {
            // Nothing is up: the change that brings it starts this again.
            return Ok(());
        }
        let has = addresses::addresses(&mut self.batch)?;
        words.add(Word::AddressChecks, 1);
        let had = &self.had;
        let gone = |flow: &FlowRef<'_>| {
            let way_out = routes[usize::from(flow.orig().src.is_ipv6())];
            way_out && translated(flow).into_iter().flatten().any(|it| had.has(it) && !has.has(it))
        };
        let deleted = delete(engine, |flow| flow.carried().as_of_ms.is_some() && gone(flow))?;
        if deleted > 0 {
            words.add(Word::DeletedAddress, deleted);
            static LIMIT: RateLimit = RateLimit::new(3, 600);
            limited!(
                LIMIT,
                log::Level::Info,
                "deleted {deleted} restored flows: their address is not this router's any more"
            );
        }
        Ok(())
    }

    // --- the clock -----------------------------------------------------------------------------

    fn look_at_clock(&mut self, words: Words, now: Now, epoll: &Epoll) {
        if words.get(Word::ClockSettled) != 0 {
            self.look_at = None;
            return;
        }
        if self.corrector.is_some() || !super::knows_the_time(words) {
            return;
        }
        self.look_at = None;
        words.set(Word::ClockSettled, 1);
        let Some(down_s) = downtime_s(&self.loaded.facts, self.loaded.at.boot, now) else {
            log::info!("the clock is set, but does not tell how long the reboot took");
            return;
        };
        match self.begin_correcting(down_s, epoll) {
            Ok(()) => log::info!("the reboot took {down_s} s: correcting timeouts"),
            Err(error) => log::error!("timeouts are not corrected: {}", InWords(&error)),
        }
    }

    fn begin_correcting(&mut self, down_s: u32, epoll: &Epoll) -> io::Result<()> {
        let (ours, theirs) = UnixStream::pair()?;
        match sys::fork()? {
            Fork::Child => correct::run(&self.loaded, down_s, theirs),
            Fork::Parent(pid) => {
                ours.set_nonblocking(true)?;
                epoll.add(ours.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, Self::TOKENS[1]))?;
                self.corrector = Some((pid, ours));
            }
        }
        Ok(())
    }

    fn hear_corrector(&mut self, words: Words) {
        let Some((pid, socket)) = &mut self.corrector else { return };
        let mut bytes = [0; 8];
        match socket.read(&mut bytes) {
            Ok(8) => {
                let [a, b, c, d, e, f, g, h] = bytes;
                words.add(Word::ClockCorrected, u32::from_ne_bytes([a, b, c, d]));
                words.add(Word::ClockDropped, u32::from_ne_bytes([e, f, g, h]));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            _ => log::error!("timeouts were not all corrected"),
        }
        // It ends by itself.
        let _ = waitpid(*pid, None);
        self.corrector = None;
    }
}

/// The router's own addresses that a flow is translated by.
fn translated(flow: &FlowRef<'_>) -> [Option<core::net::IpAddr>; 2] {
    let status = flow.status();
    [
        status.has(Status::SRC_NAT).then(|| flow.reply().dst),
        status.has(Status::DST_NAT).then(|| flow.orig().dst),
    ]
}

/// Deletes flows of the table from the kernel; how many were asked for.
fn delete(engine: &Engine<'_>, wanted: impl Fn(&FlowRef<'_>) -> bool) -> io::Result<u32> {
    let socket = RequestSocket::open()?;
    let table = engine.table();
    let mut buffer = [0; REQUEST_BYTES];
    let mut writer = Writer::new(&mut buffer);
    let mut count = 0;
    for bucket in 0..table.buckets() {
        let mut next = table.first(bucket);
        while let Some(slot) = next {
            let flow = table.flow(slot);
            next = table.next(slot);
            if !wanted(&flow) {
                continue;
            }
            let zone = Some(flow.zone()).filter(|&zone| zone != 0);
            let (orig, id) = (flow.orig(), Some(flow.id()).filter(|&id| id != 0));
            if request::delete(&mut writer, 0, false, &orig, zone, id).is_err() {
                socket.send(&writer)?;
                writer.clear();
                // It fits into an empty buffer.
                let _ = request::delete(&mut writer, 0, false, &orig, zone, id);
            }
            count += 1;
        }
    }
    if !writer.is_empty() {
        socket.send(&writer)?;
    }
    Ok(count)
}

/// Tells the worker two numbers.
fn tell(mut socket: UnixStream, corrected: u32, dropped: u32) {
    let [a, b, c, d] = corrected.to_ne_bytes();
    let [e, f, g, h] = dropped.to_ne_bytes();
    // If the worker is gone, nobody wants to know.
    let _ = socket.write_all(&[a, b, c, d, e, f, g, h]);
}

//! All hosts of the lab, driven by whoever holds them: no thread of their own.
//!
//! [`Hosts::turn`] takes what arrived, lets the stacks answer, and returns at once;
//! [`Hosts::wait`] sleeps until a frame or a timer is due. The hosts' clock stands still while
//! there is work and runs only while they wait: a busy machine never makes a host retransmit
//! something that was merely not looked at yet. Real loss is still repaired, since the hosts then
//! fall idle and their clock runs. Limits: one thread; 250 hosts a side.

use std::os::fd::AsFd;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use smoltcp::time::Instant;

use super::account::Stamp;
use super::clock;
use super::host::Host;
use super::port::{FRAME_MAX, HEADER, Port};
use super::topology::Side;
use super::tuple::Count;

/// Frames that one side takes before the other has its turn.
const BATCH: usize = 64;

/// The hosts of one side and their plug.
#[derive(Debug)]
pub(super) struct Segment {
    port: Port,
    pub(super) hosts: Vec<Host>,
}

impl Segment {
    pub(super) fn new(side: Side, count: u8, mut port: Port, seed: u64) -> Self {
        let hosts = (0..count)
            .map(|n| {
                let seed = seed.wrapping_add(n.into()).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                Host::new(side.place(n), &mut port, seed, Instant::ZERO)
            })
            .collect();
        Self { port, hosts }
    }

    fn turn(&mut self, now: Instant) -> bool {
        let mut busy = false;
        let mut frame = [0; FRAME_MAX];
        for _ in 0..BATCH {
            let Some(length) = self.port.receive(&mut frame) else { break };
            busy = true;
            self.deliver(&frame[..length], now);
        }
        for host in &mut self.hosts {
            busy |= host.egress(&mut self.port, now);
        }
        busy
    }

    /// Hands an IP packet to the host it is for. The router's own chatter (multicast) is not for
    /// any: the hosts know all they need.
    fn deliver(&mut self, frame: &[u8], now: Instant) {
        let is_ip = matches!(frame.get(12..HEADER), Some([0x08, 0x00] | [0x86, 0xdd]));
        let number = frame.get(5).map_or(usize::MAX, |n| usize::from(*n));
        let Some(host) = self.hosts.get_mut(number) else { return };
        if is_ip && frame.starts_with(&host.place().mac) {
            host.ingress(&mut self.port, &frame[HEADER..], now);
        }
    }

    /// The earliest timer of the hosts; those whose timer is due get their turn next.
    fn poll_at(&mut self, now: Instant) -> Option<Instant> {
        let due = |host: &mut Host| {
            let at = host.poll_at(now)?;
            if at <= now {
                host.wake();
            }
            Some(at)
        };
        self.hosts.iter_mut().filter_map(due).min()
    }

    fn total(&self) -> (Count, Count) {
        let mut sum = (Count::default(), Count::default());
        for total in self.hosts.iter().map(|host| host.account().total()) {
            sum.0 += total.sent;
            sum.1 += total.received;
        }
        sum
    }
}

/// Both sides of the router.
#[derive(Debug)]
pub struct Hosts {
    pub(super) lan: Segment,
    pub(super) wan: Segment,
    now: Instant,
    stamps: u64,
}

impl Hosts {
    pub(super) const fn new(lan: Segment, wan: Segment) -> Self {
        Self { lan, wan, now: Instant::ZERO, stamps: 0 }
    }

    /// The host `index` of a side.
    ///
    /// # Panics
    /// When the lab was made with fewer hosts.
    #[must_use]
    pub fn host(&self, side: Side, index: usize) -> &Host {
        &self.segment(side).hosts[index]
    }

    /// The host `index` of a side, to take finished flows out of its account.
    ///
    /// # Panics
    /// When the lab was made with fewer hosts.
    pub fn host_mut(&mut self, side: Side, index: usize) -> &mut Host {
        &mut self.segment_mut(side).hosts[index]
    }

    /// Gives a side another plug: its router was made anew.
    pub(super) fn replug(&mut self, side: Side, port: Port) {
        self.segment_mut(side).port = port;
    }

    /// How many hosts a side has.
    #[must_use]
    pub fn count(&self, side: Side) -> usize {
        self.segment(side).hosts.len()
    }

    const fn segment(&self, side: Side) -> &Segment {
        match side {
            Side::Lan => &self.lan,
            Side::Wan => &self.wan,
        }
    }

    const fn segment_mut(&mut self, side: Side) -> &mut Segment {
        match side {
            Side::Lan => &mut self.lan,
            Side::Wan => &mut self.wan,
        }
    }

    /// A stamp that no flow of these hosts had before.
    pub(super) const fn next_stamp(&mut self) -> Stamp {
        self.stamps += 1;
        Stamp(self.stamps)
    }

    /// Takes what arrived and sends what is due; false when there was nothing to do.
    pub fn turn(&mut self) -> bool {
        let lan = self.lan.turn(self.now);
        let wan = self.wan.turn(self.now);
        lan || wan
    }

    /// Waits until a frame arrives or a timer is due, at most `limit`. The hosts' clock runs.
    pub fn wait(&mut self, limit: Duration) {
        let timers = [self.lan.poll_at(self.now), self.wan.poll_at(self.now)];
        let until = timers
            .into_iter()
            .flatten()
            .min()
            .map(|at| if at <= self.now { Duration::ZERO } else { (at - self.now).into() });
        let timeout = until.map_or(limit, |until| until.min(limit));
        let before = clock::now();
        if !timeout.is_zero() {
            self.sleep(timeout);
        }
        self.now += smoltcp::time::Duration::from_micros(
            u64::try_from(before.elapsed().as_micros()).unwrap_or(u64::MAX),
        );
        self.lan.poll_at(self.now);
        self.wan.poll_at(self.now);
    }

    /// Rounds up to a millisecond, so that a timer just ahead is not polled for in vain.
    fn sleep(&self, timeout: Duration) {
        let timeout = timeout.div_ceil_millis();
        let mut fds =
            [&self.lan.port, &self.wan.port].map(|p| PollFd::new(p.as_fd(), PollFlags::POLLIN));
        // An interrupted wait is a short wait.
        let _ = poll(&mut fds, timeout);
    }

    /// Drives the hosts until `done` says so, or until nothing happened for `patience`; the
    /// last word of `done`.
    pub fn drive_until(
        &mut self,
        patience: Duration,
        mut done: impl FnMut(&mut Self) -> bool,
    ) -> bool {
        let mut quiet_since = clock::now();
        loop {
            let busy = self.turn();
            if done(self) {
                return true;
            }
            if busy {
                quiet_since = clock::now();
            } else if quiet_since.elapsed() >= patience {
                return false;
            } else {
                self.wait(patience - quiet_since.elapsed().min(patience));
            }
        }
    }

    /// Drives the hosts until everything that one side sent arrived at the other.
    ///
    /// # Errors
    /// [`Lost`] when something did not arrive although nothing happened for two seconds.
    pub fn settle(&mut self) -> Result<(), Lost> {
        if self.drive_until(Duration::from_secs(2), |hosts| hosts.lost().is_none()) {
            return Ok(());
        }
        self.lost().map_or(Ok(()), Err)
    }

    /// What was sent and did not arrive (yet).
    #[must_use]
    pub fn lost(&self) -> Option<Lost> {
        let (lan, wan) = (self.lan.total(), self.wan.total());
        let lost = Lost {
            outward: lan.0.packets.saturating_sub(wan.1.packets),
            inward: wan.0.packets.saturating_sub(lan.1.packets),
        };
        (lost != Lost::default()).then_some(lost)
    }

    /// Frames that arrived at the hosts' plugs and found no room, since the last call.
    pub fn take_drops(&self) -> u64 {
        self.lan.port.take_drops() + self.wan.port.take_drops()
    }
}

/// Packets that were sent and did not arrive on the other side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// From the LAN to the WAN.
    pub outward: u64,
    /// From the WAN to the LAN.
    pub inward: u64,
}

impl std::fmt::Display for Lost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} packets from LAN to WAN and {} back were lost", self.outward, self.inward)
    }
}

impl std::error::Error for Lost {}

trait Millis {
    fn div_ceil_millis(self) -> PollTimeout;
}

impl Millis for Duration {
    fn div_ceil_millis(self) -> PollTimeout {
        u16::try_from(self.as_nanos().div_ceil(1_000_000)).map_or(PollTimeout::MAX, Into::into)
    }
}

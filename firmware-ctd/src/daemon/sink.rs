//! Where records of destroyed flows go.
//!
//! A sink has an [`Outbox`]: its view of the retry queue. Whenever there is something to do it takes
//! what it can without waiting, marks it as sent, and acknowledges what has arrived for good. What
//! it could not take stays in the queue; [`Refused`] says that it is to be tried again after a
//! random share of `retry.max_delay_s`. No sink ever blocks or tears a record.
//!
//! A sink that waits for a descriptor adds it to the epoll under its token; it is then called in
//! the turn in which something happened there.

mod file;
mod ipfix;
mod syslog;
mod unix;

pub use file::FileSink;
pub use ipfix::{TcpSink, UdpSink};
pub use syslog::SyslogSink;
pub use unix::UnixSink;

use std::io;

use nix::sys::epoll::Epoll;

use crate::config::{self, Config, Transport};
use crate::hash::KeyHash;
use crate::ipfix::replay::{self, Replay};
use crate::losses::Losses;
use crate::retry::{MOST_SINKS, Outbox, RetryQueue, SinkCount, SinkId};
use crate::time::{Duration, Instant, Now};

/// The sink could not take its next record now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused;

/// One call of a sink.
#[derive(Clone, Copy, Debug)]
pub struct Turn<'t> {
    /// The time.
    pub now: Now,
    /// Where descriptors are waited for.
    pub epoll: &'t Epoll,
    /// The sink's token in it.
    pub token: u64,
    /// Something happened at a descriptor of the sink's.
    pub ready: bool,
    /// The loss ledger, for sinks that tell of it.
    pub losses: &'t Losses,
}

/// A place that takes records.
///
/// Not `Debug`: that of every field of every sink would be in the program, for nobody.
pub trait Sink {
    /// Delivers what is owed, as far as that goes without waiting, and takes in what came back.
    ///
    /// Called when there is something new, when the time to try again has come, when something
    /// happened at a descriptor, and when [`Self::poll_timeout`] has come.
    ///
    /// # Errors
    ///
    /// [`Refused`] if the next record cannot be taken for a reason that only time mends.
    fn deliver(&mut self, turn: &Turn<'_>, outbox: &mut Outbox<'_, '_>) -> Result<(), Refused>;

    /// When the sink wants a turn although nothing is owed to it.
    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// Takes over what may change while the daemon runs.
    fn reconfigure(&mut self, config: &config::Sink);

    /// How it stands.
    fn state(&self) -> SinkState<'_>;
}

/// How a sink stands, beside what the queue counts for it.
#[derive(Clone, Copy, Debug)]
pub struct SinkState<'s> {
    /// What kind of sink it is, in the configuration's word.
    pub kind: &'static str,
    /// Where it writes to.
    pub target: &'s str,
    /// What fails.
    pub trouble: Trouble,
    /// Records that count as delivered and are kept to be sent again, since they may not have been
    /// read.
    pub unconfirmed: u32,
    /// Whether somebody is connected to take records, for sinks that have connections.
    pub connected: Option<bool>,
}

/// Attempts of a sink that failed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Trouble {
    /// How many.
    pub failures: u64,
    /// Number of the last error (`errno`; -1 for one without), 0 if it has been overcome.
    pub errno: i32,
}

impl Trouble {
    /// An attempt failed; whether not for the same reason as the last one.
    fn met(&mut self, error: &io::Error) -> bool {
        self.failures += 1;
        let errno = error.raw_os_error().unwrap_or(-1);
        core::mem::replace(&mut self.errno, errno) != errno
    }

    /// An attempt went well; whether the last one had not.
    fn overcome(&mut self) -> bool {
        core::mem::take(&mut self.errno) != 0
    }

    /// Whether the last attempt failed.
    #[must_use]
    pub const fn lasts(&self) -> bool {
        self.errno != 0
    }
}

/// All sinks of the configuration.
pub struct Sinks {
    sinks: Vec<Box<dyn Sink>>,
    ready: [bool; MOST_SINKS],
    grace: Duration,
    /// Chance for the waits after a refusal.
    chance: u32,
}

impl std::fmt::Debug for Sinks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sinks({})", self.sinks.len())
    }
}

impl Sinks {
    /// The first token of a sink in the epoll.
    pub const FIRST_TOKEN: u64 = 1 << 16;

    /// Opens every sink. One that cannot be opened is tried again later. What a predecessor left
    /// half done is looked after first: `queue` is as it left it.
    #[must_use]
    pub fn open(
        config: &Config,
        queue: &mut RetryQueue<'_>,
        mut memory: &'static mut [u32],
        now: Instant,
        chance: u32,
    ) -> Self {
        let mut sinks: Vec<Box<dyn Sink>> = Vec::with_capacity(config.sinks.len());
        for (at, sink) in config.sinks.iter().enumerate() {
            sinks.push(match sink {
                config::Sink::File(file) => {
                    Box::new(FileSink::open(file, &mut queue.outbox(at), now))
                }
                config::Sink::Unix(unix) => Box::new(UnixSink::new(unix)),
                config::Sink::Syslog(_) => Box::new(SyslogSink::new()),
                config::Sink::Ipfix(ipfix) => match ipfix.transport {
                    Transport::Udp => Box::new(UdpSink::new(ipfix, sink.target())),
                    Transport::Tcp => {
                        let words = TcpSink::words(ipfix);
                        let (own, rest) = core::mem::take(&mut memory).split_at_mut(words);
                        memory = rest;
                        Box::new(TcpSink::new(ipfix, sink.target(), id(sink), own))
                    }
                },
            });
        }
        Self { sinks, ready: [false; MOST_SINKS], grace: grace(config), chance: chance | 1 }
    }

    /// Words of memory that outlive a worker.
    #[must_use]
    pub fn words(config: &Config) -> usize {
        tcp_sinks(config).map(|(_, ipfix)| TcpSink::words(ipfix)).sum()
    }

    /// A number for how that memory is cut: what another configuration left is found in its place
    /// under the same number only.
    #[must_use]
    pub fn layout(config: &Config) -> u32 {
        let mut hash = KeyHash::new32([0, 0]);
        for (sink, ipfix) in tcp_sinks(config) {
            let words = u32::try_from(TcpSink::words(ipfix)).unwrap_or(u32::MAX);
            hash.words(&[TcpSink::layout(ipfix, id(sink)), words]);
        }
        hash.finish32()
    }

    /// Fills that memory (all zero) with what another configuration left in its own. How many
    /// records were sent, may never have been read, and have no place any more.
    pub fn carry(config: &Config, mut before: &mut [u32], memory: &mut [u32]) -> u32 {
        let mut left_out = 0;
        while let Some((words, layout)) = replay::extent(before) {
            let (old, rest) = core::mem::take(&mut before).split_at_mut(words);
            before = rest;
            let Ok((old, _)) = Replay::open(old, layout) else { break };
            let mut free = &mut *memory;
            let mut place = None;
            for (sink, ipfix) in tcp_sinks(config) {
                let (own, rest) = free.split_at_mut(TcpSink::words(ipfix));
                free = rest;
                if TcpSink::layout(ipfix, id(sink)) == layout {
                    place = Some(own);
                    break;
                }
            }
            let new = place.and_then(|own| Replay::open(own, layout).ok());
            left_out += match new {
                Some((mut new, _)) => new.take_in(&old),
                None => old.records_held(),
            };
        }
        left_out
    }

    /// The sinks of a configuration as the queue knows them.
    #[must_use]
    pub fn ids(config: &Config) -> Vec<SinkId> {
        let sinks = config.sinks.iter();
        sinks.map(|sink| SinkId { id: id(sink), reliable: sink.reliable() }).collect()
    }

    /// Something happened at a descriptor with this token; whether it is a sink's.
    pub fn wake(&mut self, token: u64) -> bool {
        let place = token.checked_sub(Self::FIRST_TOKEN).and_then(|at| usize::try_from(at).ok());
        match place.filter(|&at| at < self.sinks.len()) {
            Some(at) => {
                self.ready[at] = true;
                true
            }
            None => false,
        }
    }

    /// Lets every sink do what it can.
    pub fn deliver(
        &mut self,
        queue: &mut RetryQueue<'_>,
        now: Now,
        epoll: &Epoll,
        losses: &Losses,
    ) {
        for (at, sink) in self.sinks.iter_mut().enumerate() {
            let ready = core::mem::take(&mut self.ready[at]);
            let mut outbox = queue.outbox(at);
            let owed = outbox.unsent() > 0 && outbox.is_due(now.boot);
            let due = sink.poll_timeout().is_some_and(|at| at <= now.boot);
            if !(ready || owed || due) {
                continue;
            }
            let turn = Turn { now, epoll, token: Self::FIRST_TOKEN + at as u64, ready, losses };
            match sink.deliver(&turn, &mut outbox) {
                // It waits for a descriptor, if for anything: not for a time that has passed.
                Ok(()) => outbox.wake(),
                Err(Refused) => {
                    outbox.refused(now.boot, self.grace, next_chance(&mut self.chance));
                }
            }
        }
    }

    /// When [`Self::deliver`] is wanted next although nothing new is owed.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.sinks.iter().filter_map(|sink| sink.poll_timeout()).min()
    }

    /// Takes over what a changed configuration may change while the daemon runs.
    pub fn reconfigure(&mut self, config: &Config, queue: &mut RetryQueue<'_>) {
        self.grace = grace(config);
        for (at, (sink, config)) in self.sinks.iter_mut().zip(&config.sinks).enumerate() {
            let state = sink.state();
            if state.kind == config.kind() && state.target == config.target() {
                sink.reconfigure(config);
                queue.set_reliable(at, config.reliable());
            }
        }
    }

    /// How the sinks stand.
    pub fn states<'s>(
        &'s self,
        queue: &'s RetryQueue<'_>,
    ) -> impl Iterator<Item = (SinkState<'s>, SinkCount)> {
        let sinks = self.sinks.iter().enumerate();
        sinks.map(|(at, sink)| (sink.state(), queue.count_of(at)))
    }
}

/// The sinks that have memory that outlives a worker.
fn tcp_sinks(config: &Config) -> impl Iterator<Item = (&config::Sink, &config::IpfixSink)> {
    config.sinks.iter().filter_map(|sink| match sink {
        config::Sink::Ipfix(ipfix) if ipfix.transport == Transport::Tcp => Some((sink, ipfix)),
        _ => None,
    })
}

fn grace(config: &Config) -> Duration {
    Duration::from_secs(u64::from(config.retry.max_delay_s))
}

/// Tells a sink from all others, also after a restart; never 0.
fn id(sink: &config::Sink) -> u64 {
    let mut hash = KeyHash::new64([0, 0]);
    for byte in sink.kind().bytes().chain([b' ']).chain(sink.target().bytes()) {
        hash.word(u32::from(byte));
    }
    hash.finish64().max(1)
}

/// Xorshift (Marsaglia, 2003): good enough to spread retries.
fn next_chance(state: &mut u32) -> u32 {
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    *state
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trouble_is_new_once_and_overcome_once() {
        let mut trouble = Trouble::default();
        assert!(!trouble.lasts() && !trouble.overcome());
        let full = io::Error::from_raw_os_error(nix::libc::ENOSPC);
        assert!(trouble.met(&full));
        assert!(!trouble.met(&full), "the same again");
        assert!(trouble.met(&io::ErrorKind::TimedOut.into()), "another");
        assert_eq!((trouble.failures, trouble.errno), (3, -1));
        assert!(trouble.lasts() && trouble.overcome());
        assert!(!trouble.overcome() && !trouble.lasts());
        assert!(trouble.met(&full), "after a recovery it is new again");
    }
}

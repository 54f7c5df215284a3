//! The self-test: what this kernel's conntrack events are worth.
//!
//! Flows of our own ([`probe`]) are created and deleted. If no event tells of them, the kernel has
//! none for us: events are switched off, or another module has taken the one place for a listener.
//! Then more are deleted before a socket too small for their DESTROYs: if the kernel lists them as
//! dying, it keeps what it could not deliver, and delivery is reliable.

use std::io;
use std::ops::RangeInclusive;
use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::netlink::{EventSocket, RequestSocket, group};
use super::sys::Batch;
use super::{clock, sysctl::Setting};
use crate::engine::EventPath;
use crate::probe;
use crate::time::{Duration, Instant};
use crate::wire::nlmsg::{Messages, RawMessage};
use crate::wire::{Event, Message, Writer, request};

/// How long events are waited for.
const PATIENCE: Duration = Duration::from_millis(500);
/// The probe whose events are listened to.
const LISTENED: u16 = 1;
/// Probes that no smallest receive buffer has room for at once. Others than the first one: the
/// kernel still repeats their ends for a second, perhaps to the next self-test.
const MANY: RangeInclusive<u16> = 2..=33;
const REQUEST_BYTES: usize = 16 << 10;

/// What the self-test found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What events are worth.
    pub events: EventPath,
    /// An event tells when it was made.
    pub event_times: bool,
    /// A DESTROY tells packets and bytes.
    pub counters: bool,
    /// A DESTROY tells start and end.
    pub timestamps: bool,
    /// Flows there may be, if known.
    pub max: Option<u32>,
}

/// What events told of the first probes.
#[derive(Clone, Copy, Debug, Default)]
struct Heard {
    new: bool,
    destroy: bool,
    event_times: bool,
    counters: bool,
    timestamps: bool,
}

/// Runs the self-test. It takes some milliseconds, half a second when no events come.
///
/// # Errors
///
/// `PermissionDenied` without `CAP_NET_ADMIN`; what else the system calls say; a refusal of the
/// probe flow by the kernel with its number.
pub fn run() -> io::Result<Finding> {
    let mut test = SelfTest {
        requests: RequestSocket::open()?,
        batch: Batch::new(16, 16 << 10)?,
        buffer: vec![0; REQUEST_BYTES],
    };
    let heard = test.events()?;
    let reliable = heard.destroy && test.keeps_what_does_not_fit()?;
    Ok(Finding {
        events: match (heard.destroy, reliable) {
            (false, _) => EventPath::None,
            (true, false) => EventPath::BestEffort,
            (true, true) => EventPath::Reliable,
        },
        event_times: heard.event_times,
        counters: heard.counters,
        timestamps: heard.timestamps,
        max: Setting::Max.read().ok(),
    })
}

struct SelfTest {
    requests: RequestSocket,
    batch: Batch,
    buffer: Vec<u8>,
}

impl SelfTest {
    fn events(&mut self) -> io::Result<Heard> {
        let events = EventSocket::open(&[group::NEW, group::DESTROY], 64 << 10, true)?;
        self.create_and_delete(LISTENED..=LISTENED)?;
        let mut heard = Heard::default();
        let end = clock::now().boot + PATIENCE;
        while !(heard.new && heard.destroy) && wait(events.as_fd(), end)? {
            events.receive(&mut self.batch)?;
            each_probe(&self.batch, |event, ct| {
                if ct.orig != Some(probe::tuple(LISTENED)) {
                    return;
                }
                heard.new |= event == Event::New;
                heard.event_times |= ct.event_ns.is_some();
                if event == Event::Destroy {
                    heard.destroy = true;
                    heard.counters |= ct.counters_orig.is_some();
                    heard.timestamps |= ct.start_ns.is_some();
                }
            });
        }
        Ok(heard)
    }

    /// Whether destroyed probes wait in the kernel when their listener has no room.
    fn keeps_what_does_not_fit(&mut self) -> io::Result<bool> {
        let small = EventSocket::open(&[group::DESTROY], 1, true)?;
        self.create_and_delete(MANY)?;
        if small.memory()?.drops == 0 {
            return Ok(false);
        }
        let mut writer = Writer::new(&mut self.buffer);
        let _ = request::get_dying(&mut writer, 1);
        self.requests.send(&writer)?;
        let (mut dying, mut done) = (false, false);
        let end = clock::now().boot + PATIENCE;
        while !done && wait(self.requests.as_fd(), end)? {
            self.requests.receive(&mut self.batch)?;
            each_probe(&self.batch, |_, _| dying = true);
            done = messages(&self.batch).any(|message| is_end(&message));
        }
        Ok(dying)
    }

    /// Creates and deletes these probes; waits until the kernel has done it.
    fn create_and_delete(&mut self, probes: RangeInclusive<u16>) -> io::Result<()> {
        let no_room = |_| io::Error::from(io::ErrorKind::OutOfMemory);
        let mut writer = Writer::new(&mut self.buffer);
        let flags = request::CreateFlags { ack: false, exclusive: false };
        for n in probes.clone() {
            request::create(&mut writer, 1, flags, &probe::flow(n)).map_err(no_room)?;
        }
        for n in probes.clone() {
            let (tuple, ack) = (probe::tuple(n), n == *probes.end());
            request::delete(&mut writer, 2, ack, &tuple, Some(probe::ZONE), None)
                .map_err(no_room)?;
        }
        self.requests.send(&writer)?;
        self.answer()
    }

    /// Reads until the acknowledgement; a refusal of a create is an error.
    fn answer(&mut self) -> io::Result<()> {
        let end = clock::now().boot + PATIENCE;
        let mut refusal = None;
        while wait(self.requests.as_fd(), end)? {
            self.requests.receive(&mut self.batch)?;
            for message in messages(&self.batch) {
                let Ok(Message::Response(response)) = Message::parse(&message) else { continue };
                match (message.header.seq, response.errno) {
                    (1, errno) if errno != 0 => refusal = refusal.or(Some(errno)),
                    (2, _) if refusal.is_some() => {}
                    (2, _) => return Ok(()),
                    _ => {}
                }
            }
            if let Some(errno) = refusal {
                return Err(io::Error::from_raw_os_error(errno));
            }
        }
        Err(io::ErrorKind::TimedOut.into())
    }
}

fn messages(batch: &Batch) -> impl Iterator<Item = RawMessage<'_>> {
    let kernel = batch.datagrams().filter(|datagram| datagram.port == 0);
    kernel.flat_map(|datagram| Messages::new(datagram.bytes).flatten())
}

fn each_probe(batch: &Batch, mut see: impl FnMut(Event, &crate::wire::Conntrack<'_>)) {
    for message in messages(batch) {
        if let Ok(Message::Conntrack { event, ct }) = Message::parse(&message) {
            if probe::is_probe(&ct) {
                see(event, &ct);
            }
        }
    }
}

fn is_end(message: &RawMessage<'_>) -> bool {
    matches!(Message::parse(message), Ok(Message::Done(_) | Message::Response(_)))
}

/// Waits until the socket has something, at most until `end`.
fn wait(socket: std::os::fd::BorrowedFd<'_>, end: Instant) -> io::Result<bool> {
    let left = end.since(clock::now().boot).as_millis_ceil();
    let timeout = PollTimeout::from(u16::try_from(left).unwrap_or(u16::MAX));
    Ok(poll(&mut [PollFd::new(socket, PollFlags::POLLIN)], timeout)? > 0)
}

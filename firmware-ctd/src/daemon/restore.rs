//! Saved flows back into the kernel: the sending and receiving for [`Restore`].
//!
//! The kernel carries requests out within the send(2), so all answers to a batch wait when it
//! returns and nothing is waited for. Batches are so small that their answers fit into the receive
//! buffer even if every request is refused.

use std::io;

use super::netlink::RequestSocket;
use crate::restore::{Capacity, FlowSource, Restore, Room, Tally, Timeouts};

/// Bytes of requests in one send(2).
const BATCH_BYTES: usize = 64 << 10;
/// Most requests in one send(2).
const BATCH_REQUESTS: usize = 512;
/// Bytes that one waiting answer takes of the receive buffer, at most: a socket buffer with an
/// error, the header of its request, and an extended acknowledgement.
const ANSWER_BYTES: usize = 1536;
/// Room for one answer: the request is not repeated in it.
const ANSWER: usize = 1024;

/// Why a restore ended early. What was made by then stays.
#[derive(Debug)]
pub enum Failure<E> {
    /// The source could not be read.
    Source(E),
    /// The socket failed, or the kernel did not answer; `PermissionDenied` without
    /// `CAP_NET_ADMIN`.
    Kernel(io::Error),
}

/// What is to be restored, and how.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Flows and expectations that the source has.
    pub capacity: Capacity,
    /// How long they live.
    pub timeouts: Timeouts,
}

/// How a restore went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// With the flows.
    pub flows: Tally,
    /// With the expectations.
    pub expectations: Tally,
}

/// Restores all flows and expectations of a source into the network namespace of this thread.
///
/// `progress` is told after each batch how it went with the flows so far. `refused` is told at the end of each flow that was not
/// made, by its place in the source. No socket of this program should have joined a group of
/// conntrack events by then, but `nf_conntrack_events` should be 1 already: a flow that is made while
/// it is 0 never has an event.
///
/// # Errors
///
/// When the source cannot be read or the kernel does not answer. A refusal is no error: it is
/// counted.
pub fn restore<S: FlowSource>(
    source: &mut S,
    plan: &Plan,
    progress: &mut dyn FnMut(&Tally),
    refused: &mut dyn FnMut(u32),
) -> Result<Outcome, Failure<S::Error>> {
    let mut buffer = vec![0; BATCH_BYTES];
    let mut exchange = Exchange::open(plan, &mut buffer, progress).map_err(Failure::Kernel)?;
    loop {
        let mut sent = Ok(());
        let read = source.flows(&mut |flow| {
            let room = exchange.restore.flow(flow);
            exchange.send_if_full(room, &mut sent)
        });
        exchange.end_pass(read, sent)?;
        if !exchange.restore.next_pass() {
            break;
        }
    }
    for begin in [Restore::expectations, Restore::expectation_timeouts] {
        begin(&mut exchange.restore);
        let mut sent = Ok(());
        let read = source.expectations(&mut |expect| {
            let room = exchange.restore.expectation(expect);
            exchange.send_if_full(room, &mut sent)
        });
        exchange.end_pass(read, sent)?;
    }
    Ok(exchange.outcome(plan.capacity.flows, refused))
}

/// A restore and the socket that it goes through.
struct Exchange<'b, 'p> {
    restore: Restore<'b>,
    socket: RequestSocket,
    progress: &'p mut dyn FnMut(&Tally),
}

impl<'b, 'p> Exchange<'b, 'p> {
    fn open(
        plan: &Plan,
        buffer: &'b mut [u8],
        progress: &'p mut dyn FnMut(&Tally),
    ) -> io::Result<Self> {
        let bytes = |size: usize| u32::try_from(size).unwrap_or(u32::MAX);
        let answers = bytes(BATCH_REQUESTS * ANSWER_BYTES / 2);
        let socket = RequestSocket::open_with(bytes(2 * BATCH_BYTES), answers)?;
        let requests = BATCH_REQUESTS.min(socket.receive_buffer()? / ANSWER_BYTES);
        let restore = Restore::new(plan.capacity, requests, buffer, plan.timeouts)
            .map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
        Ok(Self { restore, socket, progress })
    }

    /// Sends the batch if there is no room left; false when that failed.
    fn send_if_full(&mut self, room: Room, sent: &mut io::Result<()>) -> bool {
        if room == Room::None {
            *sent = self.send();
        }
        sent.is_ok()
    }

    /// Sends what is left of a pass, unless it failed.
    fn end_pass<E>(&mut self, read: Result<(), E>, sent: io::Result<()>) -> Result<(), Failure<E>> {
        sent.map_err(Failure::Kernel)?;
        read.map_err(Failure::Source)?;
        self.send().map_err(Failure::Kernel)
    }

    /// Sends the batch and takes its answers.
    fn send(&mut self) -> io::Result<()> {
        let Some(requests) = self.restore.batch() else { return Ok(()) };
        self.socket.send(requests)?;
        let mut answer = [0; ANSWER];
        loop {
            let (len, port) =
                self.socket.receive_one(&mut answer).map_err(|error| self.no_answer(error))?;
            let answer = answer.get(..len).unwrap_or_default();
            if port == 0 && self.restore.answer(answer) {
                (self.progress)(self.restore.flow_tally());
                return Ok(());
            }
        }
    }

    /// Why the barrier was not answered. Without the privilege the kernel answers the first request
    /// of a datagram alone (EPERM), and does none.
    fn no_answer(&self, error: io::Error) -> io::Error {
        match error.kind() {
            io::ErrorKind::WouldBlock if self.restore.was_denied() => {
                io::ErrorKind::PermissionDenied.into()
            }
            io::ErrorKind::WouldBlock => io::ErrorKind::TimedOut.into(),
            _ => error,
        }
    }

    fn outcome(&self, flows: u32, refused: &mut dyn FnMut(u32)) -> Outcome {
        for index in (0..flows).filter(|&index| self.restore.was_refused(index)) {
            refused(index);
        }
        Outcome {
            flows: *self.restore.flow_tally(),
            expectations: *self.restore.expectation_tally(),
        }
    }
}

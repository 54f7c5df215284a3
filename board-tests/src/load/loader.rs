//! Sends the requests and reads the answers.

use super::flows::Flows;
use super::{request, sys};
use firmware_ctd::wire::{self, Full, Message, Messages, Writer};
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;

/// Requests in one `sendmsg`, at most.
const BATCH_MAX: u32 = 65_536;
/// Bytes of one request, at most: an IPv6 TCP flow with mark and zone takes 200.
const REQUEST_MAX: usize = 256;
/// Room for the requests of a batch and for their refusals, in bytes.
const SOCKET_BUFFER: usize = 16 << 20;
/// Seconds that an answer may take: the kernel answers within the `sendmsg`.
const ANSWER_TIMEOUT_S: i64 = 10;

/// One request that the kernel refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Number of the flow.
    pub flow: u32,
    /// The kernel's `errno`.
    pub errno: i32,
}

/// What became of a load's requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Flows created.
    pub created: u64,
    /// Flows deleted.
    pub deleted: u64,
    /// Creates refused, in order.
    pub create_refused: Vec<Refusal>,
    /// Deletes refused, in order.
    pub delete_refused: Vec<Refusal>,
}

impl Tally {
    /// Adds another tally.
    pub fn add(&mut self, other: Self) {
        self.created += other.created;
        self.deleted += other.deleted;
        self.create_refused.extend(other.create_refused);
        self.delete_refused.extend(other.delete_refused);
    }

    /// Whether every request was carried out.
    #[must_use]
    pub fn complete(&self) -> bool {
        self.create_refused.is_empty() && self.delete_refused.is_empty()
    }

    /// How often each `errno` came, for a message.
    #[must_use]
    pub fn errors(&self) -> BTreeMap<i32, u64> {
        let mut errors = BTreeMap::new();
        for refusal in self.create_refused.iter().chain(&self.delete_refused) {
            *errors.entry(refusal.errno).or_default() += 1;
        }
        errors
    }
}

#[derive(Clone, Copy)]
enum Verb {
    Create,
    Delete,
}

/// A ctnetlink socket that makes and destroys flows.
#[derive(Debug)]
pub struct Loader {
    socket: OwnedFd,
    requests: Vec<u8>,
    answers: Vec<u8>,
    seq: u32,
}

impl Loader {
    /// Opens the socket in the calling thread's network namespace.
    ///
    /// # Errors
    /// What `socket`, `bind` or `setsockopt` give.
    pub fn open() -> io::Result<Self> {
        let socket = sys::netfilter_socket()?;
        sys::bind(&socket, 0)?;
        sys::force_send_buffer(&socket, SOCKET_BUFFER)?;
        sys::force_receive_buffer(&socket, SOCKET_BUFFER)?;
        sys::cap_acks(&socket)?;
        sys::receive_timeout(&socket, ANSWER_TIMEOUT_S)?;
        Ok(Self { socket, requests: Vec::new(), answers: vec![0; 65_536], seq: 1 })
    }

    /// Creates the flows of `range`, `batch` of them in a `sendmsg`.
    ///
    /// # Errors
    /// Only when the socket fails; refused requests are in the tally.
    pub fn create(&mut self, flows: &Flows, range: Range<u32>, batch: u32) -> io::Result<Tally> {
        self.batches(Verb::Create, flows, range, batch)
    }

    /// Deletes the flows of `range` by their tuples.
    ///
    /// # Errors
    /// Only when the socket fails; refused requests are in the tally.
    pub fn delete(&mut self, flows: &Flows, range: Range<u32>, batch: u32) -> io::Result<Tally> {
        self.batches(Verb::Delete, flows, range, batch)
    }

    /// Creates `batch` flows, deletes them, and again, to the end of `range`.
    ///
    /// # Errors
    /// Only when the socket fails; refused requests are in the tally.
    pub fn churn(&mut self, flows: &Flows, range: Range<u32>, batch: u32) -> io::Result<Tally> {
        let mut tally = Tally::default();
        for part in parts(range, batch) {
            tally.add(self.batches(Verb::Create, flows, part.clone(), batch)?);
            tally.add(self.batches(Verb::Delete, flows, part, batch)?);
        }
        Ok(tally)
    }

    /// Deletes every flow of the namespace: one request.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn flush(&mut self) -> io::Result<()> {
        let seq = self.next_seq(1);
        let length = self.write(|writer| wire::request::flush(writer, seq, None))?;
        match self.exchange(length, seq, 1)?.first() {
            None => Ok(()),
            Some(refusal) => Err(io::Error::from_raw_os_error(refusal.errno)),
        }
    }

    /// How many entries the kernel counts in the namespace, those that are dying included.
    ///
    /// # Errors
    /// When the socket fails or the kernel (before Linux 5.13 in part) does not tell.
    pub fn entries(&mut self) -> io::Result<u32> {
        let seq = self.next_seq(1);
        let length = self.write(|writer| wire::request::get_stats(writer, seq))?;
        sys::send(&self.socket, &self.requests[..length])?;
        let length = sys::receive(&self.socket, &mut self.answers)?;
        let found = Messages::new(&self.answers[..length]).flatten().find_map(|raw| {
            let Message::GlobalStats(stats) = Message::parse(&raw).ok()? else { return None };
            stats.entries
        });
        found.ok_or_else(|| io::Error::other("the kernel does not tell its number of entries"))
    }

    fn write(
        &mut self,
        one: impl FnOnce(&mut Writer<'_>) -> Result<(), Full>,
    ) -> io::Result<usize> {
        self.requests.resize(REQUEST_MAX, 0);
        let mut writer = Writer::new(&mut self.requests);
        one(&mut writer).map_err(|full| io::Error::other(full.to_string()))?;
        Ok(writer.len())
    }

    fn batches(
        &mut self,
        verb: Verb,
        flows: &Flows,
        range: Range<u32>,
        batch: u32,
    ) -> io::Result<Tally> {
        let mut tally = Tally::default();
        for part in parts(range, batch) {
            let (first, count) = (part.start, part.end - part.start);
            let refused = self.send(verb, flows, part)?;
            let done = u64::from(count) - refused.len() as u64;
            let refused = refused.into_iter().map(|it| Refusal { flow: first + it.flow, ..it });
            match verb {
                Verb::Create => {
                    tally.created += done;
                    tally.create_refused.extend(refused);
                }
                Verb::Delete => {
                    tally.deleted += done;
                    tally.delete_refused.extend(refused);
                }
            }
        }
        Ok(tally)
    }

    /// One `sendmsg`; the refusals carry the place in the batch as their flow.
    fn send(&mut self, verb: Verb, flows: &Flows, part: Range<u32>) -> io::Result<Vec<Refusal>> {
        let count = part.end - part.start;
        let first = self.next_seq(count);
        self.requests.resize(count as usize * REQUEST_MAX, 0);
        let mut writer = Writer::new(&mut self.requests);
        for (seq, n) in (first..).zip(part.clone()) {
            let ack = n + 1 == part.end;
            let written = match verb {
                Verb::Create => request::create(&mut writer, seq, ack, flows, n),
                Verb::Delete => request::delete(&mut writer, seq, ack, flows, n),
            };
            written.map_err(|full| io::Error::other(full.to_string()))?;
        }
        let length = writer.len();
        self.exchange(length, first, count)
    }

    /// Sends the first `length` bytes, `count` requests, and reads until the last is answered.
    fn exchange(&mut self, length: usize, first: u32, count: u32) -> io::Result<Vec<Refusal>> {
        sys::send(&self.socket, &self.requests[..length])?;
        let mut refused = Vec::new();
        loop {
            let length = sys::receive(&self.socket, &mut self.answers)?;
            for (seq, errno) in answers(&self.answers[..length]) {
                let place = seq.wrapping_sub(first);
                if place < count && errno != 0 {
                    refused.push(Refusal { flow: place, errno });
                }
                if place == count - 1 {
                    return Ok(refused);
                }
            }
        }
    }

    /// The first of `count` sequence numbers; they do not wrap within a batch.
    const fn next_seq(&mut self, count: u32) -> u32 {
        if self.seq > u32::MAX - count {
            self.seq = 1;
        }
        let first = self.seq;
        self.seq += count;
        first
    }
}

fn parts(range: Range<u32>, batch: u32) -> impl Iterator<Item = Range<u32>> {
    let batch = batch.clamp(1, BATCH_MAX);
    let end = range.end;
    range.step_by(batch as usize).map(move |at| at..end.min(at.saturating_add(batch)))
}

/// `NLMSG_ERROR` messages: sequence number and `errno`, 0 for an acknowledgement.
fn answers(datagram: &[u8]) -> impl Iterator<Item = (u32, i32)> {
    Messages::new(datagram).filter_map(|raw| match Message::parse(&raw.ok()?).ok()? {
        Message::Response(response) => Some((response.request.seq, response.errno)),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_the_range_once() {
        let all: Vec<u32> = parts(5..2_505, 1000).flatten().collect();
        assert_eq!(all, (5..2_505).collect::<Vec<_>>());
        assert_eq!(parts(0..2_500, 1000).count(), 3);
        assert_eq!(parts(0..3, 0).count(), 3, "a batch of nothing is a batch of one");
    }
}

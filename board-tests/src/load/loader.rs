//! Sends the requests and reads the answers.

use super::flows::Flows;
use super::request::Batch;
use super::sys;
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;

/// Requests in one `sendmsg`, at most.
const BATCH_MAX: u32 = 65_536;
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
    batch: Batch,
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
        Ok(Self { socket, batch: Batch::default(), answers: vec![0; 65_536], seq: 1 })
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
        self.batch.clear();
        let seq = self.next_seq(1);
        self.batch.flush(seq);
        match self.exchange(seq, 1)?.first() {
            None => Ok(()),
            Some(refusal) => Err(io::Error::from_raw_os_error(refusal.errno)),
        }
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
        self.batch.clear();
        for (seq, n) in (first..).zip(part) {
            match verb {
                Verb::Create => self.batch.create(seq, flows, n),
                Verb::Delete => self.batch.delete(seq, flows, n),
            }
        }
        self.exchange(first, count)
    }

    /// Sends the batch of `count` requests and reads until the last one is answered.
    fn exchange(&mut self, first: u32, count: u32) -> io::Result<Vec<Refusal>> {
        self.batch.acknowledge_last();
        sys::send(&self.socket, self.batch.bytes())?;
        let mut refused = Vec::new();
        loop {
            let length = sys::receive(&self.socket, &mut self.answers)?;
            for (seq, errno) in Answers(&self.answers[..length]) {
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
struct Answers<'a>(&'a [u8]);

impl Iterator for Answers<'_> {
    type Item = (u32, i32);

    fn next(&mut self) -> Option<Self::Item> {
        const NLMSG_ERROR: u16 = 2;
        loop {
            let (header, rest) = self.0.split_first_chunk::<16>()?;
            let length = word(header, 0) as usize;
            let error = rest.first_chunk::<4>().map(|it| i32::from_ne_bytes(*it));
            self.0 = self.0.get(length.next_multiple_of(4).max(16)..).unwrap_or_default();
            if u16::from_ne_bytes([header[4], header[5]]) == NLMSG_ERROR {
                return Some((word(header, 8), -error?));
            }
        }
    }
}

fn word(bytes: &[u8; 16], at: usize) -> u32 {
    u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
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

    #[test]
    fn answers_are_told_apart() {
        let mut bytes = Vec::new();
        for (seq, errno) in [(7u32, 0i32), (9, -17)] {
            bytes.extend(36u32.to_ne_bytes());
            bytes.extend([2u16, 0].map(u16::to_ne_bytes).concat());
            bytes.extend(seq.to_ne_bytes());
            bytes.extend(0u32.to_ne_bytes());
            bytes.extend(errno.to_ne_bytes());
            bytes.extend([0; 16]);
        }
        assert_eq!(Answers(&bytes).collect::<Vec<_>>(), [(7, 0), (9, 17)]);
        assert_eq!(Answers(&bytes[..18]).count(), 0);
    }
}

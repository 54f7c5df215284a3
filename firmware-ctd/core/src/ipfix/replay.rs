//! The replay window: messages that went into a TCP connection and may not have been read.
//!
//! TCP's acknowledgement comes from the collector's kernel, not from the collector. What the
//! kernel has acknowledged and the collector has not read lies in its receive buffer, and that is
//! never more than the largest window it has offered. So a message is certainly read once its end
//! is that many bytes below what is acknowledged, and not before; until then it is kept here. (A
//! collector whose buffer grows while data lies unread in it may hold more than any window it has
//! offered: Linux does so within limits. A caller that wants to be sure of such gives twice the
//! largest window; what it gives is all that is known here.) When a connection ends, everything here is sent again in the next one, from the oldest on. The
//! collector may thus see records twice, which their keys make harmless, but misses none.
//!
//! The last window's worth of an idle connection stays here ("owed") without end: it leaves with
//! more traffic, or is sent again after a later end of the connection. Age proves nothing. When
//! the window is full and nothing may be freed, [`Replay::push`] refuses, and the caller keeps the
//! records in its own queue.
//!
//! Every connection is a transport session of its own (RFC 7011, section 10.4) with sequence
//! numbers from 0, so messages are stamped with sequence number and export time while they are
//! handed out; what is kept stays as it was pushed. Templates are not kept: the caller sends a
//! message of them alone first in every connection. Its bytes move all offsets alike, so nobody
//! need count them. A message, once begun, is handed out to its end.
//!
//! **Memory**: one slice of words and no pointers, so that it can be shared memory that outlives
//! the process. A message's bytes are written first, then committed by one store; a kill between
//! any two stores leaves the window as before or as after. [`Replay::open`] takes over what an
//! earlier process left. What is known of the connection dies with the process, as the connection
//! does. Needs one owner at a time; keeps messages in the machine's own byte order of words.
//!
//! Limits: [`MAX_WORDS`] words, messages of [`MAX_MESSAGE`](super::MAX_MESSAGE) bytes; a message
//! takes 4 bytes more than it has, rounded up to words.

mod carry;
#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "an overflow fails the test")]
mod tests;

pub use carry::extent;

use core::fmt;
use core::sync::atomic::{Ordering, compiler_fence};

use super::{Full, HEADER, VERSION, export_seconds};
use crate::time::WallTime;

/// The most words of memory that are used for messages.
pub const MAX_WORDS: u32 = 1 << 30;

const MAGIC: u32 = 0x6663_7252;

/// Places in the head of the memory.
mod head {
    pub(super) const MAGIC: usize = 0;
    pub(super) const LAYOUT: usize = 1;
    pub(super) const CAPACITY: usize = 2;
    /// Position of the oldest message.
    pub(super) const BEGIN: usize = 3;
    /// Position after the newest message.
    pub(super) const END: usize = 4;
    pub(super) const WORDS: usize = 5;
}

/// The memory is too small for even a message's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooSmall;

impl fmt::Display for TooSmall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the memory does not hold a single message")
    }
}

impl core::error::Error for TooSmall {}

/// What [`Replay::open`] found in the memory. But for `Adopted` the window starts empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// A window of an earlier process, perhaps with messages, which are sent again.
    Adopted,
    /// Memory that was never used.
    Blank,
    /// Messages made under another layout, which this exporter's templates do not fit.
    OtherLayout {
        /// Data records that were dropped: the collector may never have read them.
        records: u32,
    },
    /// Something else, a window of another size, or a damaged one: what it held is not known.
    Unsound,
}

/// The window.
#[derive(Debug)]
pub struct Replay<'m> {
    head: &'m mut [u32; head::WORDS],
    ring: &'m mut [u32],
    capacity: u32,
    held: Totals,
    connection: Connection,
    /// Messages, from the connection's on, that were wholly sent in an earlier connection.
    repeats: u32,
    records_again: u64,
}

/// How far the current connection is.
#[derive(Clone, Copy, Debug, Default)]
struct Connection {
    /// Position of the message that is being sent, or the next one.
    at: u32,
    /// Bytes of that message that were sent.
    part: u32,
    /// Bytes sent of all messages that are held, that part included.
    sent: u32,
    /// Messages wholly sent among those that are held.
    messages: u32,
    /// Sequence number of the message at hand.
    sequence: u32,
    /// Its export time, once its first byte was handed out.
    time_s: u32,
}

/// Sums over messages.
#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    messages: u32,
    records: u32,
}

impl Totals {
    fn add(&mut self, frame: Frame) {
        self.messages = self.messages.saturating_add(1);
        self.records = self.records.saturating_add(frame.records());
    }

    fn remove(&mut self, frame: Frame) {
        self.messages = self.messages.saturating_sub(1);
        self.records = self.records.saturating_sub(frame.records());
    }
}

/// The word before a message: its length in the high half, its records in the low one.
#[derive(Clone, Copy, Debug)]
struct Frame(u32);

impl Frame {
    fn new(len: u16, records: u16) -> Self {
        Self(u32::from(len) << 16 | u32::from(records))
    }

    const fn len(self) -> u32 {
        self.0 >> 16
    }

    const fn records(self) -> u32 {
        self.0 & 0xffff
    }

    /// Words of the message and of this one.
    const fn words(self) -> u32 {
        self.len().div_ceil(4).saturating_add(1)
    }

    /// Whether these can be the first four bytes of the message.
    fn begins_with(self, first: [u8; 4]) -> bool {
        let [_, _, high, low] = self.len().to_be_bytes();
        let [version_high, version_low] = VERSION.to_be_bytes();
        first == [version_high, version_low, high, low]
            && usize::try_from(self.len()).is_ok_and(|len| len >= HEADER)
    }
}

/// Words of memory for a window of this many bytes.
#[must_use]
pub const fn words(replay_bytes: usize) -> usize {
    replay_bytes.div_ceil(4).saturating_add(head::WORDS)
}

impl<'m> Replay<'m> {
    /// Takes over the window in this memory, or begins an empty one. `layout` is that of the
    /// exporter: [`Exporter::layout`](super::Exporter::layout). There is no connection yet.
    ///
    /// # Errors
    /// The memory is too small for any message; it is left as it is.
    pub fn open(mem: &'m mut [u32], layout: u32) -> Result<(Self, Found), TooSmall> {
        let (head, ring) = mem.split_first_chunk_mut().ok_or(TooSmall)?;
        let capacity = u32::try_from(ring.len()).unwrap_or(MAX_WORDS).min(MAX_WORDS);
        if usize::try_from(capacity).unwrap_or(0).saturating_mul(4) <= HEADER {
            return Err(TooSmall);
        }
        let (held, connection) = (Totals::default(), Connection::default());
        let mut replay =
            Self { head, ring, capacity, held, connection, repeats: 0, records_again: 0 };
        let found = replay.take_over(layout);
        Ok((replay, found))
    }

    /// Whether a message of so many bytes fits.
    #[must_use]
    pub fn has_room(&self, bytes: u16) -> bool {
        Frame::new(bytes, 0).words() <= self.capacity.saturating_sub(self.used())
    }

    /// Keeps a finished message of `records` data records, to be sent.
    ///
    /// # Errors
    /// There is no room: the window is as it was. Bytes that are no IPFIX message, or not the
    /// whole of one, are refused alike.
    pub fn push(&mut self, message: &[u8], records: u16) -> Result<(), Full> {
        let len = u16::try_from(message.len()).map_err(|_| Full)?;
        let frame = Frame::new(len, records);
        let first = *message.first_chunk().ok_or(Full)?;
        if !frame.begins_with(first) || frame.words() > self.capacity.saturating_sub(self.used()) {
            return Err(Full);
        }
        let end = self.head[head::END];
        self.write(end, frame, message);
        compiler_fence(Ordering::Release);
        self.head[head::END] = self.after(end, frame.words());
        self.held.add(frame);
        Ok(())
    }

    /// What the connection is to be given next, written into `out`: the rest of the oldest message
    /// that was not handed over, or the part of it that fits. Empty when there is none. `out` must
    /// have 4 bytes at least, and had better take a whole message.
    ///
    /// A message's export time is that of the call before its first byte went out.
    #[must_use]
    pub fn next_to_send<'o>(&mut self, now: WallTime, out: &'o mut [u8]) -> &'o [u8] {
        let Some(frame) = self.unsent() else {
            return &[];
        };
        let part = self.connection.part;
        if part == 0 {
            self.connection.time_s = export_seconds(now);
        }
        let (first, skip) = (part / 4, part % 4);
        let left = frame.len().saturating_sub(part).saturating_add(skip);
        let len = out.len().min(size(left));
        let out = out.get_mut(..len).unwrap_or_default();
        self.read(first, out);
        out.get(size(skip)..).unwrap_or_default()
    }

    /// The connection took this many bytes of what [`Self::next_to_send`] gave.
    pub fn sent(&mut self, bytes: usize) {
        let Some(frame) = self.unsent() else {
            return;
        };
        let left = frame.len().saturating_sub(self.connection.part);
        let bytes = u32::try_from(bytes).map_or(left, |bytes| bytes.min(left));
        self.connection.part = self.connection.part.saturating_add(bytes);
        self.connection.sent = self.connection.sent.saturating_add(bytes);
        if bytes == left {
            self.pass(frame);
        }
    }

    /// Frees every message that the collector has certainly read, given how many bytes the
    /// kernel has not got acknowledged (`SIOCOUTQ`) and the largest window that the collector has
    /// offered in this connection; tells how many data records these had.
    pub fn acknowledged(&mut self, unacknowledged: u32, largest_window: u32) -> u32 {
        let below = unacknowledged.saturating_add(largest_window);
        let before = self.held.records;
        while self.connection.messages > 0 {
            let frame = self.frame(self.head[head::BEGIN]);
            if frame.len().saturating_add(below) > self.connection.sent {
                break;
            }
            self.free(frame);
        }
        before.saturating_sub(self.held.records)
    }

    /// The connection is gone: all that is held is to be sent in the next one.
    pub fn connection_lost(&mut self) {
        self.repeats = self.repeats.saturating_add(self.connection.messages);
        self.connection = Connection { at: self.head[head::BEGIN], ..Connection::default() };
    }

    /// Data records that are held: sent and perhaps not read, or not yet sent.
    #[must_use]
    pub const fn records_held(&self) -> u32 {
        self.held.records
    }

    /// Data records that were handed over once more: after the end of a connection that had
    /// already been given them, or after an earlier process, which may have done so.
    #[must_use]
    pub const fn records_again(&self) -> u64 {
        self.records_again
    }
}

/// Starting.
impl Replay<'_> {
    fn take_over(&mut self, layout: u32) -> Found {
        let found = self.look(layout);
        if found == Found::Adopted {
            self.repeats = self.held.messages;
        } else {
            self.clear(layout);
        }
        self.connection_lost();
        found
    }

    /// What is there; counts the messages.
    fn look(&mut self, layout: u32) -> Found {
        match self.head[head::MAGIC] {
            MAGIC => {}
            0 => return Found::Blank,
            _ => return Found::Unsound,
        }
        match self.walk() {
            None => Found::Unsound,
            Some(held) if self.head[head::LAYOUT] != layout => {
                Found::OtherLayout { records: held.records }
            }
            Some(held) => {
                self.held = held;
                Found::Adopted
            }
        }
    }

    /// Sums over all messages, if the window is sound.
    fn walk(&self) -> Option<Totals> {
        let [_, _, capacity, mut at, end] = *self.head;
        let turns = self.capacity.saturating_mul(2);
        if capacity != self.capacity || at >= turns || end >= turns || self.used() > capacity {
            return None;
        }
        let (mut held, mut left) = (Totals::default(), self.used());
        while left > 0 {
            let frame = self.frame(at);
            left = left.checked_sub(frame.words())?;
            if !frame.begins_with(self.word(self.after(at, 1)).to_ne_bytes()) {
                return None;
            }
            held.add(frame);
            at = self.after(at, frame.words());
        }
        Some(held)
    }

    /// Begins an empty window. It has no magic number until it is whole.
    fn clear(&mut self, layout: u32) {
        self.head[head::MAGIC] = 0;
        compiler_fence(Ordering::Release);
        self.head[head::LAYOUT] = layout;
        self.head[head::CAPACITY] = self.capacity;
        self.head[head::BEGIN] = 0;
        self.head[head::END] = 0;
        compiler_fence(Ordering::Release);
        self.head[head::MAGIC] = MAGIC;
    }
}

/// Messages.
impl Replay<'_> {
    /// The message at hand, if there is one that was not wholly sent.
    fn unsent(&self) -> Option<Frame> {
        let at = self.connection.at;
        (at != self.head[head::END]).then(|| self.frame(at))
    }

    /// The message at hand was wholly sent.
    fn pass(&mut self, frame: Frame) {
        let connection = self.connection;
        self.connection = Connection {
            at: self.after(connection.at, frame.words()),
            part: 0,
            messages: connection.messages.saturating_add(1),
            sequence: connection.sequence.wrapping_add(frame.records()),
            ..connection
        };
        if let Some(repeats) = self.repeats.checked_sub(1) {
            self.repeats = repeats;
            self.records_again = self.records_again.saturating_add(u64::from(frame.records()));
        }
    }

    /// Frees the oldest message.
    fn free(&mut self, frame: Frame) {
        self.head[head::BEGIN] = self.after(self.head[head::BEGIN], frame.words());
        // Before the next message is written over it.
        compiler_fence(Ordering::Release);
        self.held.remove(frame);
        self.connection.sent = self.connection.sent.saturating_sub(frame.len());
        self.connection.messages = self.connection.messages.saturating_sub(1);
    }

    fn write(&mut self, at: u32, frame: Frame, message: &[u8]) {
        self.set_word(at, frame.0);
        let first = self.place(self.after(at, 1));
        // To the end of the ring, and from its beginning.
        let split = self.ring.len().min(size(self.capacity)).saturating_sub(first);
        let (before, after) = message.split_at(message.len().min(split.saturating_mul(4)));
        for (at, bytes) in [(first, before), (0, after)] {
            let to = self.ring.get_mut(at..).unwrap_or_default();
            to.iter_mut().zip(bytes.chunks(4)).for_each(|(to, chunk)| *to = word_of(chunk));
        }
    }

    /// The message at hand from its word `first` on, stamped, as far as `out` goes.
    fn read(&self, first: u32, out: &mut [u8]) {
        let at = self.place(self.after(self.connection.at, first.saturating_add(1)));
        let split = self.ring.len().min(size(self.capacity)).saturating_sub(at);
        let (before, after) = out.split_at_mut(out.len().min(split.saturating_mul(4)));
        for (at, bytes) in [(at, before), (0, after)] {
            let from = self.ring.get(at..).unwrap_or_default();
            bytes.chunks_mut(4).zip(from).for_each(|(chunk, &from)| put_word(chunk, from));
        }
        let stamps = [(1, self.connection.time_s), (2, self.connection.sequence)];
        for (word, stamp) in stamps {
            let Some(place) = u32::checked_sub(word, first) else { continue };
            let from = size(place).saturating_mul(4);
            let chunk = out.get_mut(from..).unwrap_or_default().iter_mut();
            chunk.zip(stamp.to_be_bytes()).for_each(|(to, byte)| *to = byte);
        }
    }
}

/// The ring. Positions run from 0 to below twice its capacity, so that a full ring and an empty
/// one differ.
impl Replay<'_> {
    /// The position `words` after `at`; `words` is at most the capacity.
    const fn after(&self, at: u32, words: u32) -> u32 {
        let turns = self.capacity.saturating_mul(2);
        let next = at.saturating_add(words);
        if next >= turns { next.saturating_sub(turns) } else { next }
    }

    const fn used(&self) -> u32 {
        let (begin, end) = (self.head[head::BEGIN], self.head[head::END]);
        let turns = self.capacity.saturating_mul(2);
        if end >= begin {
            end.wrapping_sub(begin)
        } else {
            end.wrapping_add(turns).wrapping_sub(begin)
        }
    }

    fn frame(&self, at: u32) -> Frame {
        Frame(self.word(at))
    }

    const fn place(&self, at: u32) -> usize {
        size(if at >= self.capacity { at.saturating_sub(self.capacity) } else { at })
    }

    fn word(&self, at: u32) -> u32 {
        self.ring.get(self.place(at)).copied().unwrap_or(0)
    }

    fn set_word(&mut self, at: u32, value: u32) {
        if let Some(word) = self.ring.get_mut(self.place(at)) {
            *word = value;
        }
    }
}

/// Up to four bytes as they lie in memory.
fn word_of(chunk: &[u8]) -> u32 {
    if let Some(whole) = chunk.first_chunk() {
        return u32::from_ne_bytes(*whole);
    }
    let mut word = [0; 4];
    word.iter_mut().zip(chunk).for_each(|(to, &from)| *to = from);
    u32::from_ne_bytes(word)
}

/// The reverse of [`word_of`].
fn put_word(chunk: &mut [u8], word: u32) {
    match chunk.first_chunk_mut() {
        Some(whole) => *whole = word.to_ne_bytes(),
        None => chunk.iter_mut().zip(word.to_ne_bytes()).for_each(|(to, from)| *to = from),
    }
}

/// A number of bytes or words; all machines that Linux runs on have 32 bits or more.
const fn size(number: u32) -> usize {
    number as usize
}

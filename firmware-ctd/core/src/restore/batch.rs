//! Requests of one datagram, and which flow each is about.

use crate::wire::{Full, Writer, request};

/// Bytes that no single request is longer than.
pub(super) const REQUEST_MOST: usize = 1024;
/// The barrier that ends a batch: a bare header.
const BARRIER: usize = 16;

/// What one request of a batch is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Item {
    /// Number of the flow or expectation.
    pub(super) index: u32,
    /// It names a helper.
    pub(super) helper: bool,
    /// It names a master.
    pub(super) master: bool,
}

/// What an answer is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum About {
    /// A request of this batch.
    Request(Item),
    /// All of the batch.
    Barrier,
    /// Something else.
    Nothing,
}

/// Requests with consecutive numbers; only the barrier after the last asks for an answer.
#[derive(Debug)]
pub(super) struct Batch<'b> {
    writer: Writer<'b>,
    room: usize,
    first_seq: u32,
    items: Box<[Item]>,
    len: usize,
}

impl<'b> Batch<'b> {
    /// At most `most` requests at a time, in `buffer`.
    pub(super) fn new(buffer: &'b mut [u8], most: usize) -> Self {
        let room = buffer.len();
        let items = vec![Item::default(); most.max(1)].into_boxed_slice();
        Self { writer: Writer::new(buffer), room, first_seq: 1, items, len: 0 }
    }

    /// Appends what `write` writes, with the number that it is given.
    pub(super) fn put<F>(&mut self, item: Item, write: F) -> Result<(), Full>
    where
        F: FnOnce(&mut Writer<'b>, u32) -> Result<(), Full>,
    {
        let place = self.items.get_mut(self.len).ok_or(Full)?;
        write(&mut self.writer, seq(self.first_seq, self.len))?;
        *place = item;
        self.len += 1;
        Ok(())
    }

    /// Whether there may be no room for another request.
    pub(super) fn is_full(&self) -> bool {
        self.len == self.items.len() || self.writer.len() + REQUEST_MOST + BARRIER > self.room
    }

    /// How many requests there are.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// The requests, with the barrier.
    pub(super) fn close(&mut self) -> Result<&Writer<'b>, Full> {
        request::barrier(&mut self.writer, seq(self.first_seq, self.len))?;
        Ok(&self.writer)
    }

    /// What number `number` stands for.
    pub(super) fn about(&self, number: u32) -> About {
        let place = usize::try_from(number.wrapping_sub(self.first_seq)).unwrap_or(usize::MAX);
        match self.items.get(..self.len).and_then(|items| items.get(place)) {
            Some(&item) => About::Request(item),
            None if place == self.len => About::Barrier,
            None => About::Nothing,
        }
    }

    /// Has an empty batch begin with this number.
    #[cfg(test)]
    pub(super) fn start_at(&mut self, seq: u32) {
        self.writer.clear();
        self.first_seq = seq;
    }

    /// Begins the next batch.
    pub(super) fn clear(&mut self) {
        self.first_seq = seq(self.first_seq, self.len).wrapping_add(1);
        self.writer.clear();
        self.len = 0;
    }
}

/// The number of place `place` after `first`.
fn seq(first: u32, place: usize) -> u32 {
    first.wrapping_add(u32::try_from(place).unwrap_or(u32::MAX))
}

//! The queue as one sink sees it: what to send next, what is in flight, and when to try again.

use super::RetryQueue;
use super::block::{Note, SinkCount};
use crate::record::{Record, stored};
use crate::time::{Duration, Instant};

/// What one sink is owed.
#[derive(Debug)]
pub struct Outbox<'q, 'm> {
    pub(super) queue: &'q mut RetryQueue<'m>,
    pub(super) sink: usize,
}

impl Outbox<'_, '_> {
    /// The oldest record that has not been sent; [`Self::mark_sent`] goes on to the next.
    #[must_use]
    pub fn next(&self) -> Option<Record> {
        self.get(0)
    }

    /// The record that is to be sent after so many others.
    #[must_use]
    pub fn get(&self, ahead: u32) -> Option<Record> {
        if ahead >= self.unsent() {
            return None;
        }
        let position = self.queue.after(self.queue.sent[self.sink], ahead);
        self.queue.words_at(position).map(stored::load)
    }

    /// Records that have not been sent.
    #[must_use]
    pub fn unsent(&self) -> u32 {
        self.queue.unsent(self.sink)
    }

    /// Records that were sent and are not acknowledged.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.queue.span(self.queue.taken[self.sink], self.queue.sent[self.sink])
    }

    /// The next `records` records were sent: they are in flight until acknowledged.
    pub fn mark_sent(&mut self, records: u32) {
        let queue = &mut *self.queue;
        let records = records.min(queue.unsent(self.sink));
        queue.sent[self.sink] = queue.after(queue.sent[self.sink], records);
        let wait = &mut queue.waits[self.sink];
        (wait.attempts, wait.due) = (0, None);
    }

    /// The oldest `records` of those that were sent have arrived for good; more than are in flight
    /// count as all.
    pub fn acknowledge(&mut self, records: u32) {
        let note = self.note();
        self.acknowledge_noting(records, note);
    }

    /// The same; the sink notes something together with it, in one step that a crash does not
    /// divide.
    pub fn acknowledge_noting(&mut self, records: u32, note: Note) {
        let dropped = &mut self.queue.dropped_in_flight[self.sink];
        let gone = records.min(*dropped);
        *dropped -= gone;
        let records = (records - gone).min(self.in_flight());
        let queue = &mut *self.queue;
        let taken = queue.after(queue.taken[self.sink], records);
        queue.taken[self.sink] = taken;
        queue.block(self.sink).change(|block| {
            block.taken = taken;
            block.delivered = block.delivered.saturating_add(u64::from(records));
            block.note = note;
        });
        queue.count();
    }

    /// What the queue counts for the sink.
    #[must_use]
    pub fn count(&self) -> SinkCount {
        self.queue.count_of(self.sink)
    }

    /// What the sink noted last.
    #[must_use]
    pub fn note(&self) -> Note {
        self.queue.note(self.sink)
    }

    /// What is in flight did not arrive (or nobody will ever say so): all of it is to be sent again.
    pub fn send_again(&mut self) {
        let in_flight = u64::from(self.in_flight());
        let queue = &mut *self.queue;
        queue.waits[self.sink].retried += in_flight;
        queue.sent[self.sink] = queue.taken[self.sink];
        queue.dropped_in_flight[self.sink] = 0;
    }

    /// The sink could not take the next record: it is tried again after a random share of
    /// `grace`. `random` is any number.
    pub fn refused(&mut self, now: Instant, grace: Duration, random: u32) {
        let wait = &mut self.queue.waits[self.sink];
        let share = (grace.as_micros() * u64::from(random)) >> 32;
        if wait.attempts > 0 {
            wait.retried += 1;
        }
        wait.attempts += 1;
        wait.due = Some(now + Duration::from_micros(share));
    }

    /// Whether the sink may be tried: it has not refused, or its time has come.
    #[must_use]
    pub fn is_due(&self, now: Instant) -> bool {
        self.queue.waits[self.sink].due.is_none_or(|due| now >= due)
    }

    /// Something has changed for the better: the sink may be tried at once.
    pub fn wake(&mut self) {
        self.queue.waits[self.sink].due = None;
    }
}

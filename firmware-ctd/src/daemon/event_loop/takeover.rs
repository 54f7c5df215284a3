//! What a worker does because of those before it, and of its supervisor.

use super::super::log::RateLimit;
use super::super::shared::Word;
use super::{EventLoop, take};
use crate::daemon::clock;
use crate::engine::Source;
use crate::limited;
use crate::time::Instant;

impl EventLoop<'_> {
    /// Handles what a worker that was killed had received, as it would have done.
    pub fn handle_again(&mut self) {
        let now = clock::now();
        self.batches.state.touch();
        self.batches.destroy.touch();
        take(&mut self.engine, &mut self.edge, now, Source::State, &self.batches.state);
        self.batches.state.clear();
        // What was committed was handled whole.
        if self.batches.destroy.number() != self.engine.committed_batch() {
            take(&mut self.engine, &mut self.edge, now, Source::Destroy, &self.batches.destroy);
        }
        self.commit();
        self.batches.destroy.clear();
        self.deliver(now);
    }

    /// What the batch of destroys at hand counted is in force.
    pub(super) fn commit(&mut self) {
        self.engine.commit(self.batches.destroy.number());
    }

    /// The supervisor has opened the valve, and this worker lives: closes it, and counts.
    pub(super) fn close_valve(&mut self, now: Instant) {
        static LIMIT: RateLimit = RateLimit::new(3, 60);
        let words = self.facts.words;
        if words.get(Word::ValveOpen) == 0 {
            return;
        }
        for socket in [&self.edge.state, &self.edge.destroy] {
            if let Err(error) = socket.set_reliable(true) {
                limited!(LIMIT, log::Level::Error, "the valve does not close: {error}");
            }
        }
        let drops = self.edge.destroy.memory().map_or(0, |memory| memory.drops);
        let attempts = drops.wrapping_sub(words.get(Word::ValveDrops));
        // The kernel's own worker goes through what it kept in slots of 10 ms, and the last attempt
        // of a slot may be made again in the next.
        let slots = words.since(Word::ValveFromMs, now).as_millis_ceil() / 10 + 1;
        let again = u32::try_from(slots).unwrap_or(u32::MAX);
        let lost = attempts.saturating_sub(again).max(words.get(Word::ValveBacklog));
        words.add(Word::ValveLost, lost);
        words.set(Word::ValveTo, now.as_secs_u32());
        words.set(Word::ValveOpen, 0);
        self.engine.resync(now);
        let level = log::Level::Error;
        limited!(LIMIT, level, "reading again: {lost} ended flows or more were let go meanwhile");
    }
}

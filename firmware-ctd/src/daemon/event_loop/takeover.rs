//! What a worker does because of those before it, and of its supervisor.

use super::super::log::{InWords, RateLimit};
use super::super::shared::Word;
use super::{EventLoop, take};
use crate::daemon::{clock, losses};
use crate::engine::Source;
use crate::limited;
use crate::time::{Instant, Now};

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

    /// Brings the loss ledger up to date.
    pub(super) fn note_losses(&mut self, now: Now) {
        let words = self.facts.words;
        let span = [words.get(Word::VanishedFrom), words.get(Word::VanishedTo)];
        let count = self.engine.ledger().vanished_unseen;
        if let Some([from_s, to_s]) = self.vanished.noticed(now.boot, count, span) {
            words.set(Word::VanishedFrom, from_s);
            words.set(Word::VanishedTo, to_s);
        }
        self.losses = losses::collect(&self.engine, words, now);
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
                let (error, level) = (InWords(&error), log::Level::Error);
                limited!(LIMIT, level, "the valve does not close: {error}");
            }
        }
        let drops = self.edge.destroy.memory().map_or(0, |memory| memory.drops);
        let attempts = drops.wrapping_sub(words.get(Word::ValveDrops));
        // Some attempts are made again although nobody asks for that any more: of 5,000, 20 to 31
        // were (Linux 6.18). With a sixteenth taken off, the count is a lower bound.
        let lost = attempts - attempts.div_ceil(16);
        let lost = lost.max(words.get(Word::ValveBacklog));
        words.add(Word::ValveLost, lost);
        words.set(Word::ValveTo, now.as_secs_u32());
        words.set(Word::ValveOpen, 0);
        self.engine.resync(now);
        let level = log::Level::Error;
        limited!(LIMIT, level, "reading again: {lost} ended flows or more were let go meanwhile");
    }
}

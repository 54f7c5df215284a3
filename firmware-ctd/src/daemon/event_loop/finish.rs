//! The end of a worker that was told to end: what is owed is delivered as far as it goes, and the
//! flows are saved. And saves on the way.

use std::io;

use super::super::checkpoint::Checkpoints;
use super::EventLoop;
use crate::daemon::clock;
use crate::time::{Duration, Now};

/// How long a save at the end may take.
const FINISH: Duration = Duration::from_secs(15);

impl EventLoop<'_> {
    /// Writes out all that is owed, as far as it goes, and saves the flows.
    pub fn finish(&mut self) {
        let now = clock::now();
        // What is waiting already is still accounted for.
        let _ = self.read_events(now);
        self.deliver(now);
        self.commit();
        if let Some(checkpoints) = &mut self.edge.checkpoints {
            checkpoints.end();
        }
        let until = now.boot + FINISH;
        while self.edge.checkpoints.as_ref().is_some_and(Checkpoints::is_busy)
            && clock::now().boot < until
            && self.turn_at_end().is_ok()
        {}
    }

    /// Once all is handed over, what the kernel tells is left to it: it would be in no image.
    fn turn_at_end(&mut self) -> io::Result<()> {
        if !self.edge.checkpoints.as_ref().is_some_and(Checkpoints::is_handed_over) {
            return self.turn();
        }
        self.nap = Some(FINISH);
        self.wait()?;
        let now = clock::now();
        self.facts.words.beat(now.boot);
        self.save(now);
        Ok(())
    }

    /// Goes on with a checkpoint, or begins one.
    pub(super) fn save(&mut self, now: Now) {
        if let Some(checkpoints) = &mut self.edge.checkpoints {
            checkpoints.turn(&mut self.engine, now, &self.inner);
        }
    }
}

//! Leaving destroys in the kernel while sinks are behind, and measuring what that costs.

use super::super::dying::count_dying;
use super::super::log::{InWords, RateLimit};
use super::super::sysctl::Setting;
use super::EventLoop;
use crate::limited;
use crate::pressure::State;
use crate::time::Now;

impl EventLoop<'_> {
    /// How many destroys may be read now.
    pub(super) fn destroys_wanted(&self, most: usize) -> usize {
        match self.pressure.state() {
            State::Held(_) => 0,
            _ if self.pressure.dropping().is_some() => most,
            State::Open | State::Over(_) => {
                usize::try_from(self.engine.queue().room()).unwrap_or(most).min(most)
            }
        }
    }

    /// Delivers to the sinks, and decides whether destroys are read.
    pub(super) fn deliver(&mut self, now: Now) {
        self.edge.sinks.deliver(self.engine.queue_mut(), now, &self.inner, &self.losses);
        let queue = self.engine.queue();
        let (room, capacity) = (queue.room(), queue.capacity());
        if self.pressure.room(now.boot, room, capacity) {
            self.pressure_changed();
        }
        self.engine.set_dropping(self.pressure.dropping());
    }

    /// Looks at the kernel's table while destroys are held in it.
    pub(super) fn watch_backlog(&mut self, now: Now) {
        if self.pressure.poll_timeout().is_none_or(|at| at > now.boot) {
            return;
        }
        // What waits there is still to be heard of.
        self.engine.destroys_are_waiting(now.boot);
        let count = Setting::Count.read().unwrap_or(0);
        let max = Setting::Max.read().unwrap_or(u32::MAX);
        if self.pressure.looked(now.boot, count, max) {
            let backlog = self.measure_backlog(self.pressure.policy().budget(max));
            if self.pressure.measured(now.boot, backlog, max) {
                self.pressure_changed();
                self.engine.set_dropping(self.pressure.dropping());
            }
        }
    }

    /// How many destroys the kernel keeps, counted no further than beyond `enough`.
    fn measure_backlog(&mut self, enough: u32) -> Option<u32> {
        match count_dying(&mut self.batches.dump, enough) {
            Ok(count) => Some(count),
            Err(error) => {
                static LIMIT: RateLimit = RateLimit::new(2, 60);
                let (error, level) = (InWords(&error), log::Level::Warn);
                limited!(LIMIT, level, "cannot ask the kernel for what it keeps: {error}");
                None
            }
        }
    }

    fn pressure_changed(&self) {
        static LIMIT: RateLimit = RateLimit::new(6, 60);
        if let Err(error) = self.watch_destroys_anew() {
            limited!(LIMIT, log::Level::Warn, "epoll: {}", InWords(&error));
        }
        match self.pressure.state() {
            State::Open => limited!(LIMIT, log::Level::Info, "sinks take records again"),
            State::Held(_) => limited!(
                LIMIT,
                log::Level::Warn,
                "sinks are behind and the retry queue is full: the kernel keeps ended flows, up to \
                 retry.dying_budget_percent of its table"
            ),
            State::Over(_) => limited!(
                LIMIT,
                log::Level::Error,
                "the kernel keeps as many ended flows as it may (retry.dying_budget_percent): the \
                 oldest records are dropped and counted until sinks take some"
            ),
        }
    }
}

//! How far times that the kernel wrote down may be wrong against each other.
//!
//! Starts, ends and times of events are of the wall clock, which NTP or a person sets back now and
//! then: an earlier time may be that of a later thing. Times from before and after stand side by
//! side in the table for long, so the doubt stays; with a large one, times tell nothing, as with
//! kernels that send none. Clocks that are set forward keep the order of things.

use crate::time::Now;

/// Watches the wall clock against the time since boot.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Clock {
    /// The farthest that the wall clock was ever ahead of the time since boot.
    farthest_ns: i64,
    /// The farthest that it was ever set back.
    doubt_ns: u64,
    /// When it was looked at last. Many messages come at once.
    last: Now,
    /// That in seconds since boot.
    second: u32,
}

impl Clock {
    /// Looks at the clocks.
    #[inline]
    pub(super) fn look(&mut self, now: Now) {
        if now != self.last {
            self.look_closely(now);
        }
    }

    fn look_closely(&mut self, now: Now) {
        self.last = now;
        self.second = now.boot.as_secs_u32();
        let boot_ns = now.boot.as_micros().saturating_mul(1_000);
        // Behind it after a step to before the machine started.
        let ahead_ns = signed(now.wall.as_nanos()) - signed(boot_ns);
        self.farthest_ns = self.farthest_ns.max(ahead_ns);
        self.doubt_ns = self.doubt_ns.max(self.farthest_ns.abs_diff(ahead_ns));
    }

    /// Whole seconds since boot, as the table stores them, when it was looked at last: 64 bits are
    /// divided once for many messages.
    #[inline]
    pub(super) const fn second(&self) -> u32 {
        self.second
    }

    /// How far the clock has been set back: two times tell their order only if they are farther
    /// apart.
    #[inline]
    pub(super) const fn doubt_ns(&self) -> u64 {
        self.doubt_ns
    }
}

/// Nanoseconds as a number to subtract from; those after the year 2262 are all one.
fn signed(ns: u64) -> i64 {
    i64::try_from(ns).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{Instant, WallTime};

    #[test]
    fn only_a_clock_set_back_is_in_doubt() {
        let mut clock = Clock::default();
        let mut look = |boot_us, wall_ns| {
            clock.look(Now {
                boot: Instant::from_micros(boot_us),
                wall: WallTime::from_nanos(wall_ns),
            });
            clock.doubt_ns()
        };
        assert_eq!(look(1_000, 5_000_000), 0);
        assert_eq!(look(2_000, 6_000_000), 0, "time passes");
        assert_eq!(look(3_000, 90_000_000), 0, "set forward");
        assert_eq!(look(4_000, 11_000_000), 80_000_000, "set back");
        assert_eq!(look(5_000, 95_000_000), 80_000_000, "what was written down meanwhile remains");
        assert_eq!(look(6_000, 1_000_000), 95_000_000, "set back farther");
    }
}

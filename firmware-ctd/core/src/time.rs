//! Points in time and spans, as plain numbers with their unit in the type.
//!
//! Nothing here asks for the time: every state machine takes `now` as a parameter. Timers run on
//! `CLOCK_BOOTTIME` ([`Instant`]); the wall clock ([`WallTime`]) is only data in records, since
//! boards without a real-time clock boot with a wrong one and NTP steps it later.

use core::fmt;
use core::ops::{Add, Sub};

use crate::words::divide;

/// Nanoseconds in a millisecond.
pub const NANOS_PER_MILLI: u64 = 1_000_000;
/// Nanoseconds in a second.
pub const NANOS_PER_SEC: u64 = 1_000_000_000;

/// Whole milliseconds in so many nanoseconds.
#[inline]
#[must_use]
pub const fn millis(ns: u64) -> u64 {
    divide(ns, 1_000_000).0
}

/// A span of time in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Duration(u64);

impl Add for Duration {
    type Output = Self;

    /// Saturates.
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Duration {
    /// No time at all.
    pub const ZERO: Self = Self(0);

    /// A span of `us` microseconds.
    #[must_use]
    pub const fn from_micros(us: u64) -> Self {
        Self(us)
    }

    /// A span of `ms` milliseconds; saturates.
    #[must_use]
    pub const fn from_millis(ms: u64) -> Self {
        Self(ms.saturating_mul(1_000))
    }

    /// A span of `s` seconds; saturates.
    #[must_use]
    pub const fn from_secs(s: u64) -> Self {
        Self(s.saturating_mul(1_000_000))
    }

    /// The span in microseconds.
    #[must_use]
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// The span in whole milliseconds, rounded up, so that a wait never ends too early.
    #[must_use]
    pub const fn as_millis_ceil(self) -> u64 {
        self.0.div_ceil(1_000)
    }

    /// The span in whole seconds, rounded down.
    #[must_use]
    pub const fn as_secs(self) -> u64 {
        self.0 / 1_000_000
    }
}

/// A point of `CLOCK_BOOTTIME`, in microseconds since boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant(u64);

impl Instant {
    /// The moment of boot.
    pub const BOOT: Self = Self(0);

    /// The moment `us` microseconds after boot.
    #[must_use]
    pub const fn from_micros(us: u64) -> Self {
        Self(us)
    }

    /// Microseconds since boot.
    #[must_use]
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// Whole seconds since boot, as the flow table stores them; saturates after 136 years.
    #[must_use]
    pub fn as_secs_u32(self) -> u32 {
        u32::try_from(divide(self.0, 1_000_000).0).unwrap_or(u32::MAX)
    }

    /// The time from `earlier` to here; zero if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span.0))
    }
}

impl Sub<Duration> for Instant {
    type Output = Self;

    fn sub(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(span.0))
    }
}

/// A point of the wall clock (`CLOCK_REALTIME`), in nanoseconds since 1970, as the kernel's
/// conntrack timestamps count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct WallTime(u64);

impl WallTime {
    /// The moment `ns` nanoseconds after 1970.
    #[must_use]
    pub const fn from_nanos(ns: u64) -> Self {
        Self(ns)
    }

    /// Nanoseconds since 1970.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }
}

/// Seconds since 1970 with three decimals, as records show them.
impl fmt::Display for WallTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.0 / NANOS_PER_SEC, self.0 % NANOS_PER_SEC / 1_000_000)
    }
}

/// Both clocks, read together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// For timers.
    pub boot: Instant,
    /// For records.
    pub wall: WallTime,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_rounded_up_so_that_it_never_ends_early() {
        assert_eq!(Duration::from_micros(1).as_millis_ceil(), 1);
        assert_eq!(Duration::from_micros(1_000).as_millis_ceil(), 1);
        assert_eq!(Duration::from_micros(1_001).as_millis_ceil(), 2);
    }

    #[test]
    fn time_before_boot_does_not_wrap() {
        assert_eq!(Instant::BOOT - Duration::from_secs(1), Instant::BOOT);
        assert_eq!(Instant::BOOT.since(Instant::from_micros(5)), Duration::ZERO);
    }

    #[test]
    fn wall_time_shows_milliseconds() {
        let t = WallTime::from_nanos(1_795_289_206_230_999_999);
        assert_eq!(t.to_string(), "1795289206.230");
    }
}

//! The only place where anybody asks for the time.

use nix::time::{ClockId, clock_gettime};

use crate::time::{Instant, NANOS_PER_SEC, Now, WallTime};
use crate::words::divide;

/// Both clocks, now.
#[must_use]
pub fn now() -> Now {
    Now {
        boot: Instant::from_micros(divide(nanos(ClockId::CLOCK_BOOTTIME), 1_000).0),
        wall: WallTime::from_nanos(nanos(ClockId::CLOCK_REALTIME)),
    }
}

/// Whether the wall clock is known to be right: somebody keeps it so (NTP).
#[must_use]
pub fn is_synchronised() -> bool {
    super::sys::clock_is_synchronised()
}

/// Waits. For the time before and around workers: a worker itself waits in its epoll.
pub fn pause(ms: u16) {
    // A signal that ends it early does no harm.
    let _ = nix::poll::poll(&mut [], nix::poll::PollTimeout::from(ms));
}

/// A clock in nanoseconds; a time before its zero is zero.
fn nanos(clock: ClockId) -> u64 {
    let Ok(time) = clock_gettime(clock) else { return 0 };
    whole(time.tv_sec()).saturating_mul(NANOS_PER_SEC).saturating_add(whole(time.tv_nsec()))
}

/// A part of a time, which is 32 or 64 bits wide by platform.
fn whole(part: impl TryInto<u64>) -> u64 {
    part.try_into().unwrap_or(0)
}

//! The one place of the lab that asks for the time.
//!
//! Everything else takes it from here, so that the lint against clocks still guards the rest.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The monotonic clock.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the lab's clock")]
pub fn now() -> Instant {
    Instant::now()
}

/// The wall clock, since 1970.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the lab's clock")]
pub fn wall() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

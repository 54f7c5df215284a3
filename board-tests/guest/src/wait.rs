//! Waiting for something that nobody tells: by looking again, for a bounded time.

use std::io;
use std::time::{Duration, Instant};

use board_guest::error::LabError;

/// The time now, for bounds.
#[expect(clippy::disallowed_methods, reason = "the one clock of the first process")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Looks every 5 ms whether `done` says so, for at most `limit`.
pub(crate) fn until(
    what: &str,
    limit: Duration,
    mut done: impl FnMut() -> bool,
) -> Result<(), LabError> {
    let began = now();
    while !done() {
        if began.elapsed() > limit {
            return Err(LabError::new(
                format!("waiting for {what}"),
                io::ErrorKind::TimedOut.into(),
            ));
        }
        pause();
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "the pause between two looks, always in a loop")]
fn pause() {
    std::thread::sleep(Duration::from_millis(5));
}

//! How long a reboot took: known only once the wall clock is right again.
//!
//! Boards without a clock of their own wake up in 1970, at the time of their newest file, or in
//! 2033; NTP sets that right minutes later. So a difference of wall clocks over a reboot means
//! something only if both ends were right: the clock had been set before the checkpoint, and has
//! been set since. What is not plausible even then is ignored.

use super::Facts;
use crate::time::{Instant, NANOS_PER_SEC, Now};

/// No clock that is right shows an earlier time (2025-01-01).
const EARLIEST_S: u64 = 1_735_689_600;
/// No connection outlives a longer pause: a longer one is taken for a wrong clock.
const LONGEST_S: u64 = 30 * 86_400;

/// Seconds from the checkpoint to the moment `restored` (of this boot), given that the clock is
/// right `now`; none if that cannot be told.
#[must_use]
pub fn downtime_s(saved: &Facts, restored: Instant, now: Now) -> Option<u32> {
    let saved_s = saved.wall_ns / NANOS_PER_SEC;
    let restored_s =
        (now.wall.as_nanos() / NANOS_PER_SEC).checked_sub(now.boot.since(restored).as_secs())?;
    if !saved.synchronised || saved_s < EARLIEST_S || restored_s < EARLIEST_S {
        return None;
    }
    let down_s = restored_s.checked_sub(saved_s).filter(|&down_s| down_s <= LONGEST_S)?;
    u32::try_from(down_s).ok()
}

/// What becomes of a restored flow that has had no packet, once it is known how long the reboot
/// took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Correction {
    /// It has this many seconds left, whatever it was given.
    Timeout(u32),
    /// It had timed out.
    Drop,
}

/// The correction for a flow that had `timeout_s` left at the checkpoint: `down_s` went by until it
/// was made again, and `since_s` since then.
#[must_use]
pub fn correction(timeout_s: u32, down_s: u32, since_s: u32) -> Correction {
    let gone_s = down_s.saturating_add(since_s);
    match timeout_s.checked_sub(gone_s).filter(|&left_s| left_s > 0) {
        Some(left_s) => Correction::Timeout(left_s),
        None => Correction::Drop,
    }
}

/// Watches the wall clock for steps.
#[derive(Clone, Copy, Debug, Default)]
pub struct Steps {
    /// Wall clock less time since boot, in microseconds, as it was last seen.
    offset_us: Option<i64>,
    stepped: bool,
}

/// A smaller step is no step: clocks are slewed, and read one after the other.
const STEP_US: u64 = 2_000_000;

impl Steps {
    /// Looks at both clocks; whether the wall clock has been stepped since the last look.
    pub fn look(&mut self, now: Now) -> bool {
        let wall_us = i64::try_from(now.wall.as_nanos() / 1_000).unwrap_or(i64::MAX);
        let boot_us = i64::try_from(now.boot.as_micros()).unwrap_or(i64::MAX);
        let offset_us = wall_us.saturating_sub(boot_us);
        let before = self.offset_us.replace(offset_us);
        let stepped = before.is_some_and(|before| before.abs_diff(offset_us) > STEP_US);
        self.stepped |= stepped;
        stepped
    }

    /// Whether somebody has ever stepped it: whoever does knows the time.
    #[must_use]
    pub const fn any(&self) -> bool {
        self.stepped
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{Duration, WallTime};

    /// 2026-11-25.
    const NOW_S: u64 = 1_795_600_000;

    fn saved(wall_s: u64) -> Facts {
        Facts { wall_ns: wall_s * NANOS_PER_SEC, synchronised: true, ..Facts::default() }
    }

    fn now(wall_s: u64, boot_s: u64) -> Now {
        let boot = Instant::BOOT + Duration::from_secs(boot_s);
        Now { boot, wall: WallTime::from_nanos(wall_s * NANOS_PER_SEC) }
    }

    #[test]
    fn the_pause_ends_when_the_flows_are_made_again() {
        let restored = Instant::BOOT + Duration::from_secs(20);
        let told = downtime_s(&saved(NOW_S), restored, now(NOW_S + 160, 80));
        assert_eq!(told, Some(100), "160 s less the 60 s since then");
    }

    #[test]
    fn clocks_that_cannot_be_right_tell_nothing() {
        let at = |saved: &Facts, wall_s| downtime_s(saved, Instant::BOOT, now(wall_s, 0));
        assert_eq!(at(&saved(NOW_S), NOW_S), Some(0));
        assert_eq!(at(&saved(100), NOW_S), None, "saved in 1970");
        assert_eq!(at(&saved(NOW_S), 100), None, "woke up in 1970");
        assert_eq!(at(&saved(NOW_S), 2_000_000_000), None, "woke up in 2033");
        assert_eq!(at(&saved(2_000_000_000), NOW_S), None, "saved in 2033");
        assert_eq!(at(&saved(NOW_S), NOW_S - 1), None, "before it was saved");
        let unset = Facts { synchronised: false, ..saved(NOW_S) };
        assert_eq!(at(&unset, NOW_S + 10), None, "nobody had set the clock");
        assert_eq!(downtime_s(&saved(NOW_S), Instant::BOOT, now(5, 10)), None, "no underflow");
    }

    #[test]
    fn what_had_timed_out_is_dropped() {
        assert_eq!(correction(100, 60, 10), Correction::Timeout(30));
        assert_eq!(correction(100, 60, 40), Correction::Drop);
        assert_eq!(correction(100, u32::MAX, u32::MAX), Correction::Drop);
    }

    #[test]
    fn steps_are_told_from_slow_drift() {
        let mut steps = Steps::default();
        assert!(!steps.look(now(NOW_S, 10)));
        assert!(!steps.look(now(NOW_S + 1, 11)));
        assert!(!steps.look(now(NOW_S + 3, 12)), "a second more is no step");
        assert!(!steps.any());
        assert!(steps.look(now(NOW_S + 100, 13)), "forward");
        assert!(!steps.look(now(NOW_S + 101, 14)));
        assert!(steps.look(now(NOW_S, 15)), "back");
        assert!(steps.any());
    }
}

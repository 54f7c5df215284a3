//! When a checkpoint is saved, and what that may cost.
//!
//! Two places: *flash* outlives a reboot and wears out, *live* is memory. Saves by the interval go
//! to flash as far as its budget reaches; saves that somebody asks for, and the one at the end,
//! are always made, and are counted too. Only one save goes on at a time.
//!
//! **Budget**: an allowance in erase blocks fills up steadily over a day, up to a day's worth.
//! A save costs the erase blocks that its bytes touch, and one for what the file system writes
//! about it. Asked-for saves can overdraw it, which the following ones wait for.
//!
//! Sans-IO: time is a parameter; what is due is told, what was done is reported back.

use crate::time::{Duration, Instant};

const DAY: Duration = Duration::from_secs(86_400);
/// After a failed save, at least so long until the next by the interval.
const AFTER_FAILURE: Duration = Duration::from_secs(60);
/// Parts of an erase block that the allowance is counted in: a day has this many seconds.
const PARTS: u64 = 86_400;

/// Where a save goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Memory: it outlives the daemon.
    Live,
    /// Storage: it outlives a reboot.
    Flash,
}

/// Why a save is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Its time has come.
    Interval,
    /// Somebody asked.
    Asked,
    /// The daemon ends.
    End,
}

/// What the configuration says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Between two saves to flash; none if only those asked for and the one at the end.
    pub flash_interval: Option<Duration>,
    /// Between two saves to memory; none if there are none.
    pub live_interval: Option<Duration>,
    /// What may be written to flash in a day.
    pub flash_bytes_per_day: u64,
    /// Size of an erase block, not 0.
    pub erase_block_bytes: u32,
}

impl Policy {
    /// Erase blocks that a file of so many bytes costs.
    #[must_use]
    pub fn blocks(&self, bytes: u64) -> u64 {
        bytes.div_ceil(u64::from(self.erase_block_bytes.max(1))).saturating_add(1)
    }

    /// Erase blocks of a day.
    #[must_use]
    pub fn blocks_per_day(&self) -> u64 {
        self.flash_bytes_per_day / u64::from(self.erase_block_bytes.max(1))
    }
}

/// What has been written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Images to flash.
    pub flash_saves: u64,
    /// Bytes of them.
    pub flash_bytes: u64,
    /// Erase blocks of them.
    pub flash_blocks: u64,
    /// Images to memory.
    pub live_saves: u64,
    /// Saves by the interval that were not written since nothing had changed.
    pub unchanged: u64,
    /// Saves by the interval that the budget put off.
    pub put_off: u64,
    /// Saves that failed.
    pub failures: u64,
}

/// The plan. See the module's own documentation.
#[derive(Debug)]
pub struct Plan {
    policy: Policy,
    live_at: Option<Instant>,
    flash_at: Option<Instant>,
    /// What may still be written, in parts of an erase block.
    allowance: i64,
    /// When the allowance was last filled up.
    filled_at: Instant,
    /// What the last image in flash took: the guess for the next.
    last_bytes: u64,
    written: Written,
    asked: bool,
    /// The budget has put the flash save at hand off already.
    is_put_off: bool,
}

impl Plan {
    /// A plan whose first saves are an interval away. `allowance_blocks` is what is left of the
    /// budget of an earlier time, none for a day's worth.
    #[must_use]
    pub fn new(policy: Policy, now: Instant, allowance_blocks: Option<u32>) -> Self {
        let day = parts(policy.blocks_per_day());
        let allowance = allowance_blocks.map_or(day, |blocks| parts(u64::from(blocks)).min(day));
        Self {
            policy,
            live_at: policy.live_interval.map(|interval| now + interval),
            flash_at: policy.flash_interval.map(|interval| now + interval),
            allowance,
            filled_at: now,
            last_bytes: 0,
            written: Written::default(),
            asked: false,
            is_put_off: false,
        }
    }

    /// Takes over another policy. What is due earlier by it is due then.
    pub fn set_policy(&mut self, policy: Policy, now: Instant) {
        self.fill(now);
        let nearer = |at: Option<Instant>, interval: Option<Duration>| {
            let latest = interval.map(|interval| now + interval)?;
            Some(at.map_or(latest, |at| at.min(latest)))
        };
        self.live_at = nearer(self.live_at, policy.live_interval);
        self.flash_at = nearer(self.flash_at, policy.flash_interval);
        self.policy = policy;
        self.allowance = self.allowance.min(parts(policy.blocks_per_day()));
    }

    /// Somebody wants a save to flash now.
    pub fn ask(&mut self) {
        self.asked = true;
    }

    /// Whether somebody wants a save that has not begun.
    #[must_use]
    pub const fn is_asked(&self) -> bool {
        self.asked
    }

    /// The save to make now, if one is due. Report it with [`Self::done`] or [`Self::failed`].
    pub fn due(&mut self, now: Instant) -> Option<(Place, Reason)> {
        self.fill(now);
        if core::mem::take(&mut self.asked) {
            return Some((Place::Flash, Reason::Asked));
        }
        if self.flash_at.is_some_and(|at| at <= now) {
            if self.allowance >= parts(self.policy.blocks(self.last_bytes)) {
                return Some((Place::Flash, Reason::Interval));
            }
            self.put_off(now);
        }
        self.live_at.is_some_and(|at| at <= now).then_some((Place::Live, Reason::Interval))
    }

    /// Until the allowance is large enough; counted once for each save.
    fn put_off(&mut self, now: Instant) {
        if !core::mem::replace(&mut self.is_put_off, true) {
            self.written.put_off = self.written.put_off.saturating_add(1);
        }
        let lacking = parts(self.policy.blocks(self.last_bytes)).saturating_sub(self.allowance);
        let a_second = i64::try_from(self.policy.blocks_per_day()).unwrap_or(i64::MAX).max(1);
        let wait_s = u64::try_from(lacking / a_second).unwrap_or(0).saturating_add(1);
        self.flash_at = Some(now + Duration::from_secs(wait_s).min(DAY));
    }

    /// When [`Self::due`] is to be asked.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.asked {
            return Some(Instant::BOOT);
        }
        [self.live_at, self.flash_at].into_iter().flatten().min()
    }

    /// A save was made; `bytes` is none if nothing had changed and nothing was written.
    pub fn done(&mut self, now: Instant, place: Place, bytes: Option<u64>) {
        self.fill(now);
        match (place, bytes) {
            (_, None) => self.written.unchanged = self.written.unchanged.saturating_add(1),
            (Place::Live, Some(_)) => {
                self.written.live_saves = self.written.live_saves.saturating_add(1);
            }
            (Place::Flash, Some(bytes)) => {
                let blocks = self.policy.blocks(bytes);
                self.last_bytes = bytes;
                self.allowance = self.allowance.saturating_sub(parts(blocks));
                let written = &mut self.written;
                written.flash_saves = written.flash_saves.saturating_add(1);
                written.flash_bytes = written.flash_bytes.saturating_add(bytes);
                written.flash_blocks = written.flash_blocks.saturating_add(blocks);
            }
        }
        self.next(now, place, Duration::ZERO);
    }

    /// A save could not be made.
    pub fn failed(&mut self, now: Instant, place: Place) {
        self.written.failures = self.written.failures.saturating_add(1);
        self.next(now, place, AFTER_FAILURE);
    }

    fn next(&mut self, now: Instant, place: Place, least: Duration) {
        let after = |interval: Option<Duration>| Some(now + interval?.max(least));
        match place {
            Place::Live => self.live_at = after(self.policy.live_interval),
            Place::Flash => {
                self.is_put_off = false;
                self.flash_at = after(self.policy.flash_interval);
            }
        }
    }

    fn fill(&mut self, now: Instant) {
        // By whole seconds, so that nothing is lost by rounding.
        let seconds = now.since(self.filled_at).as_secs();
        if seconds == 0 {
            return;
        }
        self.filled_at = self.filled_at + Duration::from_secs(seconds);
        let more = i64::try_from(self.policy.blocks_per_day().saturating_mul(seconds));
        let day = parts(self.policy.blocks_per_day());
        self.allowance = self.allowance.saturating_add(more.unwrap_or(i64::MAX)).min(day);
    }

    /// Whole erase blocks that may still be written, at the time of the last call.
    #[must_use]
    pub fn allowance_blocks(&self) -> u32 {
        u32::try_from(self.allowance.max(0) / parts(1)).unwrap_or(u32::MAX)
    }

    /// What has been written.
    #[must_use]
    pub const fn written(&self) -> Written {
        self.written
    }

    /// The policy in force.
    #[must_use]
    pub const fn policy(&self) -> Policy {
        self.policy
    }

    /// When the next save to flash by the interval comes.
    #[must_use]
    pub const fn flash_at(&self) -> Option<Instant> {
        self.flash_at
    }
}

/// Erase blocks in the unit of the allowance.
fn parts(blocks: u64) -> i64 {
    i64::try_from(blocks.saturating_mul(PARTS)).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(s: u64) -> Instant {
        Instant::BOOT + Duration::from_secs(s)
    }

    fn policy() -> Policy {
        Policy {
            flash_interval: Some(Duration::from_secs(3_600)),
            live_interval: Some(Duration::from_secs(300)),
            flash_bytes_per_day: 1 << 20,
            erase_block_bytes: 64 << 10,
        }
    }

    #[test]
    fn saves_come_by_their_intervals() {
        let mut plan = Plan::new(policy(), at(0), None);
        assert_eq!(plan.poll_timeout(), Some(at(300)));
        assert_eq!(plan.due(at(299)), None);
        assert_eq!(plan.due(at(300)), Some((Place::Live, Reason::Interval)));
        plan.done(at(301), Place::Live, Some(5_000));
        assert_eq!(plan.due(at(600)), None);
        assert_eq!(plan.due(at(3_600)), Some((Place::Flash, Reason::Interval)));
        plan.done(at(3_601), Place::Flash, Some(5_000));
        assert_eq!(plan.written().flash_blocks, 2, "one for the file, one for what is about it");
        assert_eq!(plan.due(at(3_601)), Some((Place::Live, Reason::Interval)));
    }

    #[test]
    fn what_is_asked_for_comes_at_once_and_overdraws_the_budget() {
        let mut plan = Plan::new(policy(), at(0), Some(0));
        plan.ask();
        assert_eq!(plan.poll_timeout(), Some(at(0)));
        assert_eq!(plan.due(at(0)), Some((Place::Flash, Reason::Asked)));
        plan.done(at(0), Place::Flash, Some(900 << 10));
        assert_eq!(plan.allowance_blocks(), 0);
        // 16 blocks a day: 16 spent, 16 for the next.
        assert_eq!(plan.due(at(3_600)).map(|it| it.0), Some(Place::Live));
        assert_eq!(plan.written().put_off, 1);
        assert!(plan.flash_at() > Some(at(86_400)));
        plan.done(at(3_600), Place::Live, Some(1));
    }

    #[test]
    fn a_failure_is_not_repeated_at_once() {
        let mut short = policy();
        short.flash_interval = Some(Duration::from_secs(1));
        let mut plan = Plan::new(short, at(0), None);
        assert!(plan.due(at(1)).is_some());
        plan.failed(at(1), Place::Flash);
        assert_eq!(plan.due(at(60)), None);
        assert_eq!(plan.due(at(61)), Some((Place::Flash, Reason::Interval)));
    }

    #[test]
    fn a_shorter_interval_applies_at_once_and_none_ends_the_saves() {
        let mut plan = Plan::new(policy(), at(0), None);
        let mut other = policy();
        other.flash_interval = Some(Duration::from_secs(10));
        other.live_interval = None;
        plan.set_policy(other, at(5));
        assert_eq!(plan.poll_timeout(), Some(at(15)));
        other.flash_interval = None;
        plan.set_policy(other, at(6));
        assert_eq!(plan.poll_timeout(), None);
    }

    proptest! {
        /// However often it is asked, saves by the interval stay within the budget: over any time,
        /// at most a day's worth at the beginning and the daily rate after it.
        #[test]
        fn the_interval_keeps_the_budget(
            sizes in proptest::collection::vec(1_u64..600_000, 1..60),
            interval_s in 1_u64..5_000,
            block in prop_oneof![Just(4_096_u32), Just(65_536), Just(131_072)],
        ) {
            let policy = Policy {
                flash_interval: Some(Duration::from_secs(interval_s)),
                live_interval: None,
                flash_bytes_per_day: 1 << 20,
                erase_block_bytes: block,
            };
            let mut plan = Plan::new(policy, at(0), None);
            let (mut now, mut blocks, mut most) = (0, 0, 0);
            for size in sizes {
                // A save whose size was not foreseen may overdraw by that much.
                most = most.max(policy.blocks(size));
                let Some(next) = plan.poll_timeout() else { break };
                now = now.max(next.as_micros().div_ceil(1_000_000));
                if plan.due(at(now)).is_some() {
                    plan.done(at(now), Place::Flash, Some(size));
                    blocks += policy.blocks(size);
                }
                let allowed = policy.blocks_per_day() * (86_400 + now) / 86_400 + most;
                prop_assert!(blocks <= allowed, "{blocks} of {allowed} after {now} s");
            }
        }
    }
}

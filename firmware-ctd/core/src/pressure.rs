//! Back-pressure into the kernel: when destroys are left there, and when that has to end.
//!
//! While the retry queue is full because of a reliable sink, the destroy socket is not read: the
//! kernel keeps what it cannot deliver and repeats it. But what it keeps counts towards
//! `nf_conntrack_max`, and at that limit the router refuses new connections. So the backlog is
//! measured, and beyond the budget destroys are read on: the queue's oldest records give way and
//! are counted, until the queue has room again.
//!
//! A backlog is measured at most once a second, or at once when the kernel's table is nearly full
//! (from [`ALARM_PERCENT`] on), which is looked at the more often the faster it fills.
//!
//! Sans-IO: the caller reads, measures and tells. Not here: the supervisor's valve, for a worker
//! that does none of this any more.

use crate::retry::Loss;
use crate::time::{Duration, Instant};

/// From how full a kernel table on its backlog is measured at once.
pub const ALARM_PERCENT: u32 = 80;
/// Between two measurements of the backlog without alarm.
const MEASURE: Duration = Duration::from_secs(1);
/// Between two with alarm: at least this, when the last one was below the budget.
const MEASURE_ALARMED: Duration = Duration::from_millis(20);
/// Between two looks at how full the kernel's table is.
const LOOK_MIN: Duration = Duration::from_millis(2);
const LOOK_MAX: Duration = Duration::from_millis(250);

/// What becomes of destroys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// They are read.
    #[default]
    Open,
    /// They are left in the kernel since then.
    Held(Instant),
    /// The budget was passed then: they are read, and the oldest records give way.
    Over(Instant),
}

/// What the configuration says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Hold when the queue is full; otherwise the oldest records give way at once.
    pub hold: bool,
    /// Part of the kernel's table that undelivered destroys may take, in percent.
    pub budget_percent: u32,
}

impl Policy {
    /// How many destroys the kernel may keep, of a table for so many flows.
    #[must_use]
    pub fn budget(&self, max: u32) -> u32 {
        let budget = u64::from(max) * u64::from(self.budget_percent) / 100;
        u32::try_from(budget).unwrap_or(u32::MAX)
    }
}

/// Whether a kernel table that holds `count` flows of at most `max` is nearly full.
#[must_use]
pub fn is_alarming(count: u32, max: u32) -> bool {
    u64::from(count) * 100 >= u64::from(max) * u64::from(ALARM_PERCENT)
}

/// The state machine. See the module's own documentation.
#[derive(Clone, Copy, Debug)]
pub struct Pressure {
    policy: Policy,
    state: State,
    measured_at: Instant,
    look_at: Instant,
    look_every: Duration,
    last_count: u32,
    /// The backlog as it was last measured: a lower bound when it was beyond the budget.
    backlog: u32,
    /// How often destroys were held, and how often the budget was passed.
    counts: [u64; 2],
}

impl Pressure {
    /// Destroys are read.
    #[must_use]
    pub const fn new(policy: Policy) -> Self {
        Self {
            policy,
            state: State::Open,
            measured_at: Instant::BOOT,
            look_at: Instant::BOOT,
            look_every: LOOK_MIN,
            last_count: 0,
            backlog: 0,
            counts: [0; 2],
        }
    }

    /// Takes over a changed policy.
    pub fn set_policy(&mut self, policy: Policy) {
        self.policy = policy;
    }

    /// What becomes of destroys now.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// Destroys in the kernel's keeping, as last measured.
    #[must_use]
    pub const fn backlog(&self) -> u32 {
        self.backlog
    }

    /// How often destroys were held, and how often the budget was passed.
    #[must_use]
    pub const fn counts(&self) -> [u64; 2] {
        self.counts
    }

    /// What the configuration says.
    #[must_use]
    pub const fn policy(&self) -> Policy {
        self.policy
    }

    /// By what cause the queue's oldest records give way, if they do.
    #[must_use]
    pub const fn dropping(&self) -> Option<Loss> {
        match self.state {
            _ if !self.policy.hold => Some(Loss::Policy),
            State::Over(_) => Some(Loss::DyingBudget),
            State::Open | State::Held(_) => None,
        }
    }

    /// The queue has room for so many records of so many; whether the state has changed.
    pub fn room(&mut self, now: Instant, room: u32, capacity: u32) -> bool {
        let enough = room > capacity / 4;
        let next = match self.state {
            _ if !self.policy.hold => State::Open,
            State::Open if room == 0 => State::Held(now),
            State::Held(_) | State::Over(_) if enough => State::Open,
            same => same,
        };
        let changed = next != self.state;
        if let (true, State::Held(_)) = (changed, next) {
            self.counts[0] += 1;
            self.look_every = LOOK_MIN;
            self.look_at = now;
            self.measured_at = now;
        }
        if changed && next == State::Open {
            self.backlog = 0;
        }
        self.state = next;
        changed
    }

    /// When [`Self::looked`] is wanted.
    #[must_use]
    pub const fn poll_timeout(&self) -> Option<Instant> {
        if let State::Held(_) = self.state { Some(self.look_at) } else { None }
    }

    /// The kernel's table holds so many flows of so many; whether the backlog is to be measured.
    pub fn looked(&mut self, now: Instant, count: u32, max: u32) -> bool {
        if !matches!(self.state, State::Held(_)) {
            return false;
        }
        let fast = count.saturating_sub(self.last_count) > max / 200;
        let slower = Duration::from_micros(self.look_every.as_micros() * 2).min(LOOK_MAX);
        self.look_every = if fast { LOOK_MIN } else { slower };
        self.last_count = count;
        self.look_at = now + self.look_every;
        let wait = if is_alarming(count, max) { MEASURE_ALARMED } else { MEASURE };
        now >= self.measured_at + wait
    }

    /// The backlog was measured, of a table for `max` flows; whether the state has changed. A
    /// measurement that failed tells `None`: then the kernel's table decides alone.
    pub fn measured(&mut self, now: Instant, backlog: Option<u32>, max: u32) -> bool {
        self.measured_at = now;
        let State::Held(_) = self.state else { return false };
        self.backlog = backlog.unwrap_or(self.backlog);
        let full = u64::from(self.last_count) * 100 >= u64::from(max) * 95;
        let over = match backlog {
            Some(backlog) => backlog > self.policy.budget(max),
            None => full,
        };
        if over {
            self.counts[1] += 1;
            self.state = State::Over(now);
        }
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLD: Policy = Policy { hold: true, budget_percent: 10 };

    fn at(ms: u64) -> Instant {
        Instant::from_micros(10_000_000 + ms * 1_000)
    }

    #[test]
    fn a_full_queue_holds_until_it_has_room_again() {
        let mut pressure = Pressure::new(HOLD);
        assert!(!pressure.room(at(0), 1, 100));
        assert!(pressure.room(at(1), 0, 100));
        assert_eq!((pressure.state(), pressure.dropping()), (State::Held(at(1)), None));
        assert!(!pressure.room(at(2), 25, 100), "not for a little");
        assert!(pressure.room(at(3), 26, 100));
        assert_eq!((pressure.state(), pressure.counts()), (State::Open, [1, 0]));
    }

    #[test]
    fn beyond_the_budget_the_oldest_give_way_until_there_is_room() {
        let mut pressure = Pressure::new(HOLD);
        pressure.room(at(0), 0, 100);
        assert!(!pressure.looked(at(10), 500, 4096), "no alarm, and just begun");
        assert!(pressure.looked(at(1_000), 500, 4096), "after a second in any case");
        assert!(!pressure.measured(at(1_001), Some(409), 4096), "409 are 10 %");
        assert!(!pressure.looked(at(1_010), 3_400, 4096), "measured only just");
        assert!(pressure.looked(at(1_021), 3_400, 4096), "the alarm");
        assert!(pressure.measured(at(1_022), Some(410), 4096));
        assert_eq!(pressure.dropping(), Some(Loss::DyingBudget));
        assert!(!pressure.room(at(1_023), 0, 100));
        assert!(pressure.room(at(1_030), 50, 100));
        assert_eq!((pressure.dropping(), pressure.counts()), (None, [1, 1]));
    }

    #[test]
    fn a_table_that_fills_fast_is_looked_at_often() {
        let mut pressure = Pressure::new(HOLD);
        pressure.room(at(0), 0, 100);
        let mut last = at(0);
        for _ in 0..12 {
            let next = pressure.poll_timeout().unwrap();
            assert!(next.since(last) <= LOOK_MAX);
            last = next;
            pressure.looked(next, 100, 4096);
        }
        assert_eq!(pressure.poll_timeout().unwrap().since(last), LOOK_MAX);
        pressure.looked(last, 200, 4096);
        assert_eq!(pressure.poll_timeout().unwrap().since(last), LOOK_MIN);
    }

    #[test]
    fn without_hold_nothing_is_ever_held() {
        let mut pressure = Pressure::new(Policy { hold: false, ..HOLD });
        assert!(!pressure.room(at(0), 0, 100));
        assert_eq!(pressure.dropping(), Some(Loss::Policy));
        pressure.set_policy(HOLD);
        assert!(pressure.room(at(1), 0, 100));
        pressure.set_policy(Policy { hold: false, ..HOLD });
        assert!(pressure.room(at(2), 0, 100), "a reload lets go");
        assert_eq!(pressure.state(), State::Open);
    }

    #[test]
    fn a_backlog_that_cannot_be_measured_is_judged_by_the_table() {
        let mut pressure = Pressure::new(HOLD);
        pressure.room(at(0), 0, 100);
        pressure.looked(at(1_000), 3_000, 4096);
        assert!(!pressure.measured(at(1_000), None, 4096));
        pressure.looked(at(2_000), 4_000, 4096);
        assert!(pressure.measured(at(2_000), None, 4096));
    }
}

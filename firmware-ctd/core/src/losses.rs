//! The loss ledger as it is told: by cause, exactly or with a bound, with a span of time where
//! nobody could count.
//!
//! Each output (status, JSON, Prometheus, IPFIX options) has the same causes in the same order,
//! with the same words. This module only puts together what others count: the retry queue what it
//! dropped, the engine what it never heard of, the edge when nobody listened.
//!
//! # What is not here
//!
//! That the kernel had **no memory** for a DESTROY is no cause of its own. It does not tell: with
//! `NETLINK_NO_ENOBUFS` and `NETLINK_BROADCAST_ERROR` it keeps such a DESTROY and repeats it. Where
//! it cannot be had that way (best-effort events, another program's settings), the flow is found
//! missing by a dump: [`Cause::VanishedUnseen`].

use crate::retry::{Loss, Lost, SinkCount};
use crate::time::{Instant, NANOS_PER_SEC, Now, WallTime};

/// How much a number says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// So many.
    Exact,
    /// So many or more, in the span.
    AtLeast,
    /// So many or fewer: messages or attempts, of which not each cost a flow.
    AtMost,
}

impl Bound {
    /// Its word in programs' outputs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::AtLeast => "at_least",
            Self::AtMost => "at_most",
        }
    }
}

/// Why ended flows are not told of, or not wholly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Cause {
    /// A best-effort sink was behind.
    BestEffort,
    /// `retry.when_full` says to drop the oldest.
    QueuePolicy,
    /// `retry.dying_budget_percent` was reached.
    DyingBudget,
    /// Owed to a sink that is configured no more.
    SinkRemoved,
    /// The supervisor's valve.
    Valve,
    /// No daemon listened.
    Unheard,
    /// Flows whose last state was in no checkpoint when the power went.
    PowerCut,
    /// A dump did not show a flow any more whose end nobody told.
    VanishedUnseen,
    /// Messages that could not be read.
    Malformed,
    /// Messages longer than their room.
    Truncated,
    /// Flows that the table had no room for.
    TableFull,
}

/// How many causes there are.
pub const CAUSES: usize = 11;

impl Cause {
    /// All, in the order in which they are told.
    pub const ALL: [Self; CAUSES] = [
        Self::BestEffort,
        Self::QueuePolicy,
        Self::DyingBudget,
        Self::SinkRemoved,
        Self::Valve,
        Self::Unheard,
        Self::PowerCut,
        Self::VanishedUnseen,
        Self::Malformed,
        Self::Truncated,
        Self::TableFull,
    ];

    /// Its name, how much its number says, and what it means.
    const fn words(self) -> (&'static str, Bound, &'static str) {
        use Bound::{AtLeast, AtMost, Exact};
        match self {
            Self::BestEffort => ("best_effort", Exact, "the sink was behind, and is best effort"),
            Self::QueuePolicy => ("queue_policy", Exact, "the queue was full (retry.when_full)"),
            Self::DyingBudget => {
                ("dying_budget", Exact, "the kernel kept its share (retry.dying_budget_percent)")
            }
            Self::SinkRemoved => ("sink_removed", Exact, "owed to a sink configured no more"),
            Self::Valve => ("valve", AtLeast, "let go by the kernel, since nobody read"),
            Self::Unheard => ("unheard", AtLeast, "began and ended while no daemon listened"),
            Self::PowerCut => ("power_cut", AtLeast, "ended or changed before the power went"),
            Self::VanishedUnseen => {
                ("vanished_unseen", AtLeast, "ended unheard: told with their last known counters")
            }
            Self::Malformed => ("malformed", AtMost, "messages that could not be read"),
            Self::Truncated => ("truncated", AtMost, "messages longer than the receive buffer"),
            Self::TableFull => ("table_full", AtMost, "not held for want of room, in attempts"),
        }
    }

    /// Its name in all outputs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.words().0
    }

    /// How much its number says.
    #[must_use]
    pub const fn bound(self) -> Bound {
        self.words().1
    }

    /// What it means, in a few words.
    #[must_use]
    pub const fn help(self) -> &'static str {
        self.words().2
    }
}

/// A span of time, both ends in seconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// When it began.
    pub from_s: u32,
    /// When it ended.
    pub to_s: u32,
}

impl Span {
    /// A span that is known in seconds since boot, by the clock of now; `None` for 0 to 0, which
    /// stands for none.
    #[must_use]
    pub fn since_boot(now: Now, from_s: u32, to_s: u32) -> Option<Self> {
        let wall = |at_s: u32| {
            seconds(now.wall).saturating_sub(now.boot.as_secs_u32().saturating_sub(at_s))
        };
        (to_s != 0).then(|| Self { from_s: wall(from_s), to_s: wall(to_s) })
    }

    /// What is unknown since then (seconds since 1970, of an earlier boot) until this boot.
    #[must_use]
    pub fn until_boot(now: Now, since_s: u32) -> Option<Self> {
        let boot_s = seconds(now.wall).saturating_sub(now.boot.as_secs_u32());
        // Without a real-time clock it may be earlier by the clock of now.
        (since_s != 0).then(|| Self { from_s: since_s, to_s: boot_s.max(since_s) })
    }
}

/// What was lost by one cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Flows; packets and bytes where they are known (with exact numbers).
    pub lost: Lost,
    /// When, for a lower bound.
    pub span: Option<Span>,
}

impl Entry {
    /// Whether there is anything to tell.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.lost.records == 0 && self.span.is_none()
    }
}

/// What was lost, by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    entries: [Entry; CAUSES],
}

impl Losses {
    /// Notes what was lost by a cause.
    pub fn set(&mut self, cause: Cause, lost: Lost, span: Option<Span>) {
        self.entries[cause as usize] = Entry { lost, span };
    }

    /// Notes how many were lost by a cause of which no more is known.
    pub fn set_flows(&mut self, cause: Cause, records: u64, span: Option<Span>) {
        self.set(cause, Lost { records, ..Lost::default() }, span);
    }

    /// What was lost by a cause.
    #[must_use]
    pub const fn get(&self, cause: Cause) -> &Entry {
        &self.entries[cause as usize]
    }

    /// Every cause and what was lost by it.
    pub fn iter(&self) -> impl Iterator<Item = (Cause, &Entry)> {
        Cause::ALL.into_iter().zip(&self.entries)
    }

    /// The same as one sink sees it: of what the queue dropped, its own.
    #[must_use]
    pub fn of_sink(mut self, count: &SinkCount) -> Self {
        for loss in Loss::ALL {
            self.set(of_queue(loss), count.lost[loss as usize], None);
        }
        self.set(Cause::SinkRemoved, Lost::default(), None);
        self
    }
}

/// The cause of what the queue drops.
#[must_use]
pub const fn of_queue(loss: Loss) -> Cause {
    match loss {
        Loss::BestEffort => Cause::BestEffort,
        Loss::Policy => Cause::QueuePolicy,
        Loss::DyingBudget => Cause::DyingBudget,
    }
}

/// Seconds since 1970; stays at its greatest value from 2106 on.
#[must_use]
pub fn seconds(wall: WallTime) -> u32 {
    u32::try_from(wall.as_nanos() / NANOS_PER_SEC).unwrap_or(u32::MAX)
}

/// When a count grew, for counts of which only a lower bound is known: when the first and when the
/// last was noticed, in seconds since boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Growth {
    count: u64,
}

impl Growth {
    /// The count stands at this.
    #[must_use]
    pub const fn at(count: u64) -> Self {
        Self { count }
    }

    /// The count stands at this now; the span that is noted, if it grew, after the one that was.
    pub fn noticed(&mut self, now: Instant, count: u64, span: [u32; 2]) -> Option<[u32; 2]> {
        let grew = count > core::mem::replace(&mut self.count, count);
        let at_s = now.as_secs_u32().max(1);
        grew.then(|| [if span[1] == 0 { at_s } else { span[0] }, at_s])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now(boot_s: u64, wall_s: u64) -> Now {
        Now {
            boot: Instant::from_micros(boot_s * 1_000_000),
            wall: WallTime::from_nanos(wall_s * NANOS_PER_SEC),
        }
    }

    #[test]
    fn every_cause_has_its_place_and_a_name_of_its_own() {
        for (at, cause) in Cause::ALL.into_iter().enumerate() {
            assert_eq!(cause as usize, at);
            let same = Cause::ALL.into_iter().filter(|other| other.name() == cause.name());
            assert_eq!(same.count(), 1);
            assert!(!cause.help().is_empty());
        }
    }

    #[test]
    fn spans_are_told_by_the_clock_of_now() {
        let span = Span::since_boot(now(1_000, 1_800_000_000), 400, 900);
        assert_eq!(span, Some(Span { from_s: 1_799_999_400, to_s: 1_799_999_900 }));
        // NTP has stepped the clock: the span moves with it.
        let span = Span::since_boot(now(1_000, 1_800_003_600), 400, 900).unwrap();
        assert_eq!(span.from_s, 1_800_003_000);
        assert_eq!(Span::since_boot(now(1_000, 1_800_000_000), 0, 0), None);
        // A clock that begins at 1970 does not wrap.
        assert_eq!(Span::since_boot(now(1_000, 10), 1, 900), Some(Span::default()));
    }

    #[test]
    fn what_a_power_cut_took_is_unknown_since_the_last_checkpoint() {
        let span = |wall_s| Span::until_boot(now(60, wall_s), 1_799_990_000);
        let known = Span { from_s: 1_799_990_000, to_s: 1_799_999_940 };
        assert_eq!(span(1_800_000_000), Some(known));
        let none = Span { from_s: 1_799_990_000, to_s: 1_799_990_000 };
        assert_eq!(span(100), Some(none), "no real-time clock, and no NTP yet");
        assert_eq!(Span::until_boot(now(60, 1_800_000_000), 0), None);
        let mut losses = Losses::default();
        assert!(losses.get(Cause::PowerCut).is_empty());
        losses.set_flows(Cause::PowerCut, 0, span(1_800_000_000));
        assert!(!losses.get(Cause::PowerCut).is_empty(), "unknown is not nothing");
        assert_eq!(Cause::PowerCut.bound(), Bound::AtLeast);
    }

    #[test]
    fn a_sink_is_told_of_its_own_losses() {
        let mut losses = Losses::default();
        losses.set_flows(Cause::QueuePolicy, 100, None);
        losses.set_flows(Cause::SinkRemoved, 9, None);
        losses.set_flows(Cause::Valve, 7, Some(Span::default()));
        let own = Lost { records: 3, packets: 4, bytes: 5 };
        let count =
            SinkCount { lost: [Lost::default(), own, Lost::default()], ..Default::default() };
        let told = losses.of_sink(&count);
        assert_eq!(told.get(Cause::QueuePolicy).lost, own);
        assert_eq!(told.get(Cause::Valve), losses.get(Cause::Valve));
        assert!(told.get(Cause::SinkRemoved).is_empty() && told.get(Cause::BestEffort).is_empty());
    }

    #[test]
    fn a_count_that_grows_has_a_first_and_a_last_time() {
        let at = |s: u64| Instant::from_micros(s * 1_000_000);
        let mut growth = Growth::at(5);
        assert_eq!(growth.noticed(at(9), 5, [0, 0]), None);
        assert_eq!(growth.noticed(at(10), 6, [0, 0]), Some([10, 10]));
        assert_eq!(growth.noticed(at(20), 8, [10, 10]), Some([10, 20]));
        assert_eq!(growth.noticed(at(30), 8, [10, 20]), None);
    }
}

//! Dumps of the kernel's table: when one is made, what it shows, and what its end means.
//!
//! One state machine serves all purposes: the first dump at start, the paced refresh (events carry
//! neither counters nor timeouts), the resync after an overrun, and the confirmation that what was
//! missed is really gone.
//!
//! Every dump has a generation; whatever shows a flow (an entry, a NEW, an UPDATE) stamps it. When
//! a dump is complete, a sweep walks the table: a flow with an older stamp was *missed*. A dump is
//! no snapshot, and a DESTROY may be under way, so a missed flow is only marked. The next dump
//! that begins [`QUIET`] later, and as long after the last destroy that was late, *judges*: what it
//! misses too is gone. If anything is still marked by then, such a dump is made at once, to
//! confirm; what the confirmation is the first to miss waits for the next regular dump, so that
//! dumps do not follow one another without an end where flows end all the time.
//!
//! Dumps that fail, are interrupted (`NLM_F_DUMP_INTR`), cannot be read whole or fall silent are
//! made again, each time after a longer wait; nothing is concluded from them. Resyncs wait longer
//! too while overruns go on.

mod purpose;
mod wanted;

pub use wanted::{DumpWish, WishedDump};

use super::events::start_of;
pub use purpose::Purpose;

use super::{Engine, OUTPUTS};
use crate::record::{Cause, Kind};
use crate::table::{Key, Slot, flag};
use crate::time::{Duration, Instant, Now};
use crate::wire::nlmsg::{Header, flags};
use crate::wire::{Conntrack, Message};

/// How long no destroy may have been late before something missed is called gone. The kernel
/// repeats a destroy after at most 1 s.
const QUIET: Duration = Duration::from_secs(2);
/// The shortest wait before a dump is made again, and between two resyncs.
const BACKOFF_MIN: Duration = Duration::from_millis(1_000);
/// The longest.
const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// A resync waits until no event was lost for so long: a dump in the middle of a burst is soon
/// out of date, and the kernel walks through the table of the whole machine for it.
const SETTLE: Duration = Duration::from_millis(500);
/// A resync waits no longer than this for a burst to end.
const BURST_MAX: Duration = Duration::from_secs(10);
/// A dump that shows nothing for so long has failed.
const SILENCE: Duration = Duration::from_secs(5);
/// The longest pause between two parts of a refresh.
const PACE_MAX: Duration = Duration::from_millis(10);
/// Flows in one part of a dump, about: the kernel fills 16 to 32 KiB.
const FLOWS_PER_PART: u32 = 50;
/// Buckets that one call of [`Engine::handle_timeout`] sweeps at most.
const SWEEP_STEP: usize = 2048;
/// A tombstone hides a dump entry without start for so long.
const STALE_S: u32 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    /// A dump is under way.
    Dumping {
        purpose: Purpose,
        /// When the next part may be read.
        read_at: Instant,
        /// When something was last heard.
        heard: Instant,
        interrupted: bool,
    },
    /// A dump is complete; the table is walked through from this bucket on.
    Sweeping {
        purpose: Purpose,
        bucket: usize,
    },
}

/// When dumps are due, and the one under way.
#[derive(Debug)]
pub(super) struct Cycle {
    phase: Phase,
    generation: u16,
    seq: u32,
    /// The wish for a dump, until it is taken.
    request: Option<(u32, Purpose)>,
    start: bool,
    /// Somebody waits for a dump that has not begun.
    save: bool,
    /// The last dump that was complete.
    done_seq: u32,
    refresh_at: Option<Instant>,
    resync_at: Option<Instant>,
    /// When the first event was lost that no resync has followed yet.
    lost_since: Option<Instant>,
    confirm_at: Option<Instant>,
    /// Nothing before this.
    not_before: Instant,
    backoff: Duration,
    last_resync: Instant,
    last_late_destroy: Option<Instant>,
    /// A dump that begins after this may call gone what earlier ones missed.
    judge_from: Instant,
    /// The dump under way began late enough for that.
    judging: bool,
    /// Flows in the table that are marked as missed.
    missed: u32,
    complete: bool,
}

impl Cycle {
    pub(super) fn new() -> Self {
        Self {
            phase: Phase::Idle,
            generation: 0,
            seq: 0,
            request: None,
            start: true,
            save: false,
            done_seq: 0,
            refresh_at: None,
            resync_at: None,
            lost_since: None,
            confirm_at: None,
            not_before: Instant::BOOT,
            backoff: BACKOFF_MIN,
            last_resync: Instant::BOOT,
            last_late_destroy: None,
            judge_from: Instant::BOOT,
            judging: false,
            missed: 0,
            complete: false,
        }
    }

    pub(super) const fn generation(&self) -> u16 {
        self.generation
    }

    /// The wish for a dump, once.
    pub(super) fn take_request(&mut self) -> Option<(u32, Purpose)> {
        self.request.take()
    }

    /// Events were lost: a resync is due when the burst is over, later if the last resync was not
    /// long ago.
    pub(super) fn want_resync(&mut self, now: Instant) {
        let since = *self.lost_since.get_or_insert(now);
        if now.since(self.last_resync) > BACKOFF_MAX {
            self.backoff = BACKOFF_MIN;
        }
        let settled = (now + SETTLE).min(since + BURST_MAX);
        self.resync_at = Some(settled.max(self.last_resync + self.backoff));
    }

    /// A destroy found the buffer full and will be repeated.
    pub(super) fn destroys_were_late(&mut self, now: Instant) {
        self.last_late_destroy = Some(now);
    }

    /// The kernel repeats a destroy, perhaps for another listener's sake; behind it the one may wait
    /// that we were late for.
    pub(super) fn destroy_was_repeated(&mut self, now: Instant) {
        if self.last_late_destroy.is_some() && now < self.quiet_at() {
            self.last_late_destroy = Some(now);
        }
    }

    /// A missed flow was heard of again, or is gone.
    pub(super) fn found_missed(&mut self) {
        self.missed = self.missed.saturating_sub(1);
    }

    /// Something of the dump under way was lost: nothing may be concluded from what it shows.
    pub(super) fn spoil_dump(&mut self) {
        if let Phase::Dumping { interrupted, .. } = &mut self.phase {
            *interrupted = true;
        }
    }

    /// The refresh that is due counts from the last dump on, also when the period changes.
    pub(super) fn change_refresh(&mut self, old: Duration, new: Duration) {
        self.refresh_at = self.refresh_at.map(|at| at - old + new);
    }

    /// When the next dump is due, and for what.
    fn due(&self) -> Option<(Instant, Purpose)> {
        let wishes = [
            self.start.then_some((Instant::BOOT, Purpose::Start)),
            self.save.then_some((Instant::BOOT, Purpose::Save)),
            self.resync_at.map(|at| (at, Purpose::Resync)),
            self.confirm_at
                .filter(|_| self.missed > 0)
                .map(|at| (at.max(self.quiet_at()), Purpose::Confirm)),
            self.refresh_at.map(|at| (self.once_it_judges(at), Purpose::Refresh)),
        ];
        let (at, purpose) = wishes.into_iter().flatten().min_by_key(|&(at, _)| at)?;
        Some((at.max(self.not_before), purpose))
    }

    /// While something is missed, a refresh waits until it may judge: with a period below [`QUIET`]
    /// each one would put the judgement off.
    fn once_it_judges(&self, at: Instant) -> Instant {
        if self.missed > 0 { at.max(self.judge_from) } else { at }
    }

    /// From when on missed flows may be called gone.
    fn quiet_at(&self) -> Instant {
        self.last_late_destroy.map_or(Instant::BOOT, |late| late + QUIET)
    }

    fn lengthen_backoff(&mut self) {
        let doubled = Duration::from_micros(self.backoff.as_micros().saturating_mul(2));
        self.backoff = doubled.min(BACKOFF_MAX);
    }
}

impl Engine<'_> {
    /// When [`Engine::handle_timeout`] is wanted next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.cycle.phase {
            Phase::Idle => self.cycle.due().map(|(at, _)| at),
            Phase::Dumping { read_at, .. } => Some(read_at),
            Phase::Sweeping { .. } => Some(Instant::BOOT),
        }
    }

    /// Does what is due: starts a dump, or goes on with a sweep.
    pub fn handle_timeout(&mut self, now: Now) {
        self.clock.look(now);
        match self.cycle.phase {
            Phase::Idle => self.start_dump_if_due(now.boot),
            Phase::Dumping { .. } => {}
            Phase::Sweeping { .. } if self.cycle.save => {
                self.cycle.give_up_sweep(now.boot);
                self.start_dump_if_due(now.boot);
            }
            Phase::Sweeping { purpose, bucket } => self.sweep(now, purpose, bucket),
        }
    }

    /// Whether a dump is under way.
    #[must_use]
    pub const fn is_dumping(&self) -> bool {
        matches!(self.cycle.phase, Phase::Dumping { .. })
    }

    /// Whether a part of a dump is to be read from the request socket now.
    #[must_use]
    pub fn wants_dump_part(&self, now: Instant) -> bool {
        matches!(self.cycle.phase, Phase::Dumping { read_at, .. } if read_at <= now)
    }

    /// A part of a dump has been read: says how long to wait before the next.
    pub fn dump_part_read(&mut self, now: Instant) {
        let pace = self.pace();
        if let Phase::Dumping { purpose, read_at, heard, .. } = &mut self.cycle.phase {
            *heard = now;
            let paced = *purpose == Purpose::Refresh && !self.cycle.save;
            *read_at = if paced { now + pace } else { now };
        }
    }

    /// The request socket had nothing although a dump is under way: looks again a little later, or
    /// gives the dump up if that has gone on for long. (Only who looked can tell: a daemon that was
    /// stopped has not been listening to silence.)
    pub fn dump_part_missing(&mut self, now: Instant) {
        if let Phase::Dumping { read_at, heard, .. } = &mut self.cycle.phase {
            *read_at = now + PACE_MAX;
            if now.since(*heard) > SILENCE {
                self.dump_failed(now);
            }
        }
    }

    /// A refresh is spread over a quarter of its period at most.
    fn pace(&self) -> Duration {
        let parts = u64::from(self.table.len() / FLOWS_PER_PART + 1);
        let spread = self.settings.refresh.as_micros() / 4 / parts;
        Duration::from_micros(spread).min(PACE_MAX)
    }

    /// Whether a dump has been completed since the start.
    #[must_use]
    pub const fn has_seen_the_table(&self) -> bool {
        self.cycle.complete
    }

    /// Destroys wait to be read: until they have been, nothing missed may be called gone.
    pub fn destroys_are_waiting(&mut self, now: Instant) {
        self.cycle.destroys_were_late(now);
    }

    /// A dump is due soon.
    pub fn resync(&mut self, now: Instant) {
        self.cycle.want_resync(now);
    }

    fn start_dump_if_due(&mut self, now: Instant) {
        let Some((at, purpose)) = self.cycle.due() else { return };
        if at > now {
            return;
        }
        let cycle = &mut self.cycle;
        match purpose {
            Purpose::Start => cycle.start = false,
            Purpose::Refresh | Purpose::Confirm | Purpose::Save => {}
            Purpose::Resync => {
                self.stats.resyncs += 1;
                cycle.last_resync = now;
                cycle.lengthen_backoff();
            }
        }
        cycle.judging = now >= cycle.quiet_at().max(cycle.judge_from);
        // Any dump serves as a resync, as a refresh, and for a save.
        cycle.save = false;
        cycle.resync_at = None;
        cycle.lost_since = None;
        cycle.refresh_at = None;
        cycle.generation = cycle.generation.wrapping_add(1);
        cycle.seq = cycle.seq.wrapping_add(1).max(1);
        cycle.request = Some((cycle.seq, purpose));
        cycle.phase = Phase::Dumping { purpose, read_at: now, heard: now, interrupted: false };
    }

    /// The dump could not be started, or broke off: it is made again after a wait.
    pub fn dump_failed(&mut self, now: Instant) {
        self.stats.dumps_failed += 1;
        let cycle = &mut self.cycle;
        cycle.phase = Phase::Idle;
        cycle.request = None;
        cycle.not_before = now + cycle.backoff;
        cycle.lengthen_backoff();
        cycle.resync_at = Some(cycle.not_before);
    }

    /// Whether the message belongs to the dump under way; notes if it says that the table changed
    /// beneath it.
    fn is_of_dump(&mut self, header: &Header) -> bool {
        let Phase::Dumping { interrupted, .. } = &mut self.cycle.phase else { return false };
        let of_this = header.seq == self.cycle.seq;
        *interrupted |= of_this && header.has(flags::DUMP_INTR);
        of_this
    }

    /// An entry from the request socket.
    pub(super) fn handle_entry(&mut self, now: Now, header: &Header, ct: &Conntrack<'_>) {
        if self.is_of_dump(header) {
            self.on_dump_entry(now, ct);
        }
    }

    /// Any other message from the request socket: the end of a dump, or a refusal.
    pub(super) fn handle_reply(&mut self, now: Now, header: &Header, message: &Message<'_>) {
        if !self.is_of_dump(header) {
            return;
        }
        let Phase::Dumping { purpose, interrupted, .. } = self.cycle.phase else { return };
        match message {
            Message::Done(done) if done.errno == 0 && !interrupted => {
                self.cycle.done_seq = header.seq;
                self.cycle.phase = Phase::Sweeping { purpose, bucket: 0 };
            }
            Message::Done(_) => self.dump_failed(now.boot),
            Message::Response(response) if response.errno != 0 => self.dump_failed(now.boot),
            _ => {}
        }
    }

    fn on_dump_entry(&mut self, now: Now, ct: &Conntrack<'_>) {
        self.stats.dump_entries += 1;
        let Some(key) = self.key_of(ct) else { return self.cycle.spoil_dump() };
        if let Some(slot) = self.slot_of_entry(now, &key, ct) {
            self.confirm_restored(slot, ct);
            self.table.flow_mut(slot).change_flags(0, flag::DOUBTFUL | flag::REPLACED);
            self.apply(slot, ct);
            self.shown = Some(slot);
        }
    }

    /// The flow that an entry means, made if need be; nothing if it is stale or there is no room.
    fn slot_of_entry(&mut self, now: Now, key: &Key, ct: &Conntrack<'_>) -> Option<Slot> {
        let found = self.find_match(key, |flow| self.shows(flow, ct));
        if found.is_some_and(|slot| self.table.flow(slot).has(flag::START_EXACT)) {
            return found;
        }
        if self.is_stale(now, key, ct) {
            self.stats.stale_dump_entries += 1;
            return None;
        }
        found.or_else(|| self.begin(self.table.find(key), key, flag::FROM_DUMP))
    }

    /// Whether the entry is of a flow whose DESTROY has been handled: parts of a dump are made
    /// ready before they are read.
    fn is_stale(&self, now: Now, key: &Key, ct: &Conntrack<'_>) -> bool {
        let start_ns = start_of(ct);
        if start_ns.is_some() {
            return self.is_repeat(self.keys.key(key, start_ns));
        }
        let stone = self.tombstones.find(key.hash(), ct.id.unwrap_or(0));
        stone.is_some_and(|s| now.boot.as_secs_u32().saturating_sub(s.at_s) <= STALE_S)
    }

    /// Walks on through the table: marks what the dump did not show, and reports what an earlier
    /// one did not show either.
    fn sweep(&mut self, now: Now, purpose: Purpose, from: usize) {
        let end = (from + SWEEP_STEP).min(self.table.buckets());
        for bucket in from..end {
            let mut next = self.table.first(bucket);
            while let Some(slot) = next {
                if !self.has_room() {
                    self.cycle.phase = Phase::Sweeping { purpose, bucket };
                    return;
                }
                next = self.table.next(slot);
                self.sweep_flow(now, slot);
            }
        }
        self.cycle.phase = Phase::Sweeping { purpose, bucket: end };
        if end == self.table.buckets() {
            self.end_sweep(now.boot, purpose);
        }
    }

    /// Whether what a sweep finds can be reported.
    fn has_room(&self) -> bool {
        let room = self.dropping.is_some() || self.queue.room() > 0;
        room && self.outputs.len() < OUTPUTS - 1
    }

    fn sweep_flow(&mut self, now: Now, slot: Slot) {
        let flow = self.table.flow(slot);
        // What this sweep has marked is stamped with the generation before, so that going over a
        // bucket again changes nothing.
        let marked = self.cycle.generation.wrapping_sub(1);
        let (generation, missed_before) = (flow.generation(), flow.has(flag::MISSED));
        if generation == self.cycle.generation || missed_before && generation == marked {
            return;
        }
        if missed_before && self.cycle.judging && now.boot >= self.cycle.quiet_at() {
            return self.vanished(now, slot);
        }
        if !missed_before {
            self.stats.flows_missed += 1;
            self.cycle.missed += 1;
        }
        let mut flow = self.table.flow_mut(slot);
        flow.change_flags(flag::MISSED, 0);
        flow.set_generation(marked);
    }

    /// A flow is gone and nobody told.
    fn vanished(&mut self, now: Now, slot: Slot) {
        if self.table.flow(slot).has(flag::DOUBTFUL) {
            self.stats.ghosts += 1;
        } else {
            let unheard = self.table.flow(slot).has(flag::UNHEARD);
            let cause = if unheard { Cause::Restart } else { Cause::Resync };
            let record = self.record_of(now, slot, Kind::Destroy, cause);
            if self.is_repeat(record.key) {
                self.stats.ghosts += 1;
            } else {
                self.ledger.vanished_unseen += 1;
                self.report_destroy(now, &record);
            }
        }
        let key = self.table.key_of(slot);
        self.forget(slot, &key);
    }

    fn end_sweep(&mut self, now: Instant, purpose: Purpose) {
        self.stats.dumps += 1;
        let cycle = &mut self.cycle;
        cycle.phase = Phase::Idle;
        cycle.complete = true;
        cycle.refresh_at = Some(now + self.settings.refresh);
        cycle.judge_from = now + QUIET;
        let judged = cycle.judging && now >= cycle.quiet_at();
        let confirmed = purpose == Purpose::Confirm && judged;
        cycle.confirm_at = (!confirmed).then(|| now + QUIET);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_backoff_doubles_up_to_its_bound() {
        let mut cycle = Cycle::new();
        for _ in 0..20 {
            cycle.lengthen_backoff();
        }
        assert_eq!(cycle.backoff, BACKOFF_MAX);
    }

    #[test]
    fn frequent_refreshes_do_not_put_a_judgement_off() {
        let mut cycle = Cycle::new();
        cycle.start = false;
        let at = Instant::from_micros(10_000_000);
        (cycle.refresh_at, cycle.judge_from) = (Some(at), at + QUIET);
        assert_eq!(cycle.due(), Some((at, Purpose::Refresh)), "nothing is missed");
        cycle.missed = 1;
        assert_eq!(cycle.due(), Some((at + QUIET, Purpose::Refresh)));
    }

    #[test]
    fn a_confirmation_waits_until_destroys_are_quiet() {
        let mut cycle = Cycle::new();
        cycle.start = false;
        let at = Instant::from_micros(10_000_000);
        cycle.confirm_at = Some(at);
        assert_eq!(cycle.due(), None, "nothing is missed");
        cycle.missed = 1;
        assert_eq!(cycle.due(), Some((at, Purpose::Confirm)));
        cycle.destroys_were_late(at);
        assert_eq!(cycle.due(), Some((at + QUIET, Purpose::Confirm)));
    }
}

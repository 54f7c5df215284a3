//! How a save begins: which one, what it is to write, and the process that does it.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};

use super::hand_over::{self, HandOver};
use super::process::Saver;
use super::saver::{self, Job, Outcome, Step};
use super::{Checkpoints, Due, End, FRESH, Phase, RESERVE, Save, Writing, index, knows_the_time};
use crate::checkpoint::Facts;
use crate::checkpoint::plan::{Place, Reason};
use crate::daemon::sys::{self, Fork};
use crate::engine::{DumpWish, Engine};
use crate::retry::BYTES_RECORD;
use crate::time::{Duration, Instant, Now};

/// Where a save takes longer, flows that began since a fresh image are done without.
const SLOW: Duration = Duration::from_millis(500);

impl Checkpoints {
    /// Begins what is due, if anything is: at once, or after a dump where the image may not hold
    /// all, so that the most valuable flows are known first.
    pub(super) fn start(&mut self, engine: &mut Engine<'_>, now: Now, epoll: &Epoll) {
        let end = self.end == End::Due;
        let due = if end { Some((Place::Flash, Reason::End)) } else { self.plan.due(now.boot) };
        let Some((place, reason)) = due else { return };
        let only_mark = end && self.is_fresh(engine, now.boot);
        if end {
            self.end = End::Begun;
        }
        if place == Place::Flash && !only_mark {
            engine.note_ended();
        }
        let wish = (!only_mark).then(|| engine.want_dump(now.boot));
        let due = Due { place, reason, began: now.boot };
        match wish {
            Some(wish) if self.ranks(engine) != 1 => {
                self.save = Some(Save { due, phase: Phase::Dumping(wish) });
            }
            _ => self.begin(due, wish, engine, now, epoll),
        }
    }

    /// Whether the image in flash can be the last one, but for its mark.
    fn is_fresh(&self, engine: &Engine<'_>, now: Instant) -> bool {
        let image = &self.images[index(Place::Flash)];
        let young = image.saved.is_some_and(|at| now.since(at) < FRESH);
        let worth_it = image.took > SLOW || !engine.has_begun_others();
        young && worth_it && image.complete && engine.ended().is_some()
    }

    /// Makes the process that a save needs. Without a dump it writes only the mark.
    pub(super) fn begin(
        &mut self,
        due: Due,
        dump: Option<DumpWish>,
        engine: &mut Engine<'_>,
        now: Now,
        epoll: &Epoll,
    ) {
        if core::mem::take(&mut self.marked) {
            engine.unmark_saved();
        }
        match self.fork(due, (engine, dump), now, epoll) {
            Ok(writing) => self.save = Some(Save { due, phase: Phase::Writing(writing) }),
            Err(error) => self.over(due, now, 0, Outcome::failed(Step::Start, &error)),
        }
    }

    fn fork(
        &self,
        due: Due,
        (engine, dump): (&Engine<'_>, Option<DumpWish>),
        now: Now,
        epoll: &Epoll,
    ) -> io::Result<Writing> {
        let image = &self.images[index(due.place)];
        let (slot, next) = self.next[index(due.place)];
        let generation = if dump.is_some() { next } else { image.generation };
        let job = Job {
            facts: Facts {
                generation,
                boot_id: self.boot_id,
                wall_ns: now.wall.as_nanos(),
                boot_ms: now.boot.as_micros() / 1_000,
                synchronised: knows_the_time(self.words),
                orderly: false,
            },
            max_bytes: self.max_bytes,
            files: &self.files[index(due.place)],
            slot: dump.map(|_| slot),
            ends: due.reason == Reason::End,
            digest: Some(image.outcome.digest)
                .filter(|_| due.reason == Reason::Interval && image.saved.is_some()),
            owes: !engine.queue().is_empty(),
            reserve_bytes: reserve(engine.queue().len()),
            allowance_blocks: self.plan.allowance_blocks(),
        };
        let (ours, theirs) = UnixStream::pair()?;
        match sys::fork()? {
            Fork::Child => saver::run(&job, theirs),
            Fork::Parent(pid) => {
                drop(theirs);
                let saver = Saver::new(pid, ours);
                saver.socket.set_nonblocking(true)?;
                let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLET;
                epoll.add(saver.socket.as_fd(), EpollEvent::new(flags, Self::TOKENS[0]))?;
                let hand_over = Some(self.hand_over(engine, due.reason, dump, now));
                Ok(Writing { saver, hand_over, generation })
            }
        }
    }

    /// What the process is to be given.
    fn hand_over(
        &self,
        engine: &Engine<'_>,
        reason: Reason,
        dump: Option<DumpWish>,
        now: Now,
    ) -> HandOver {
        if dump.is_none() {
            return HandOver::without_flows(now);
        }
        // One that somebody asks for may be followed by the end, which then adds only the mark.
        HandOver::new(now, dump, self.ranks(engine), reason != Reason::Interval)
    }

    /// How many walks the order of flows in the image takes: one if it is sure to hold all.
    fn ranks(&self, engine: &Engine<'_>) -> usize {
        let likely_bytes = engine.table().len() as usize * hand_over::LIKELY_BYTES;
        if likely_bytes > self.max_bytes as usize { self.keep.len() } else { 1 }
    }
}

/// Bytes for so many owed records, and what else is carried.
fn reserve(records: u32) -> u32 {
    let bytes = u32::try_from(BYTES_RECORD).unwrap_or(u32::MAX);
    records.saturating_mul(bytes).saturating_add(RESERVE)
}

//! Checkpoints: saving the flows that live, and what an orderly reboot must carry beside them.
//!
//! A save is a dump of the kernel's table made for it, so that counters and timeouts are of now,
//! and a process of its own ([`saver`]) that is handed the flows as fast as it takes them: as the
//! dump shows them, or the most valuable first if the image may not hold all. It packs and writes
//! them while events go on here. What is due when is the plan's ([`crate::checkpoint::plan`]), which
//! of the two images to write [`files`]'.
//!
//! Nothing here waits: not for the kernel, not for the process, not for the storage.

pub mod after;
mod begin;
pub mod command;
pub mod files;
pub mod hand_over;
pub mod load;
pub mod process;
pub mod router;
pub mod saver;
pub mod show;

use std::io;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::epoll::Epoll;

use super::log::{InWords, RateLimit};
use super::shared::{Word, Words};
use crate::checkpoint::age::Steps;
use crate::checkpoint::pair::{self, Slot};
use crate::checkpoint::plan::{Place, Plan, Policy, Reason};
use crate::checkpoint::{Keep, Section};
use crate::config::Config;
use crate::engine::{DumpWish, Engine, WishedDump};
use crate::limited;
use crate::table;
use crate::time::{Duration, Instant, Now};
use after::After;
use files::Files;
use hand_over::HandOver;
pub use load::{Loaded, load};
use process::Saver;
use saver::{Outcome, Step};

/// What the engine carries: owed records, keys, counters.
const CARRIED: Section = Section::words(0);
/// What this router is: its addresses, and what is left of the flash budget.
const ROUTER: Section = Section::words(1);
/// In a mark: accounts of flows of the image that ended after it.
const ENDED: Section = Section::words(2);
/// A dump that does not come to an end for so long is done without: the table is nearly as fresh.
const DUMP_PATIENCE: Duration = Duration::from_secs(10);
/// A process that takes longer is killed.
const SAVE_PATIENCE: Duration = Duration::from_secs(300);
/// Between two looks whether one that was killed has ended.
const STUCK: Duration = Duration::from_secs(1);
/// Bytes of an image for what is carried beside owed records.
const RESERVE: u32 = 16 << 10;
/// An image so young is fresh: nothing need be saved at the end.
const FRESH: Duration = Duration::from_secs(10);

/// The last image of a place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// Its generation; 0 for none.
    pub generation: u64,
    /// When it was saved or found to be unchanged; none if that was before this worker.
    pub saved: Option<Instant>,
    /// It has flows too that no rule keeps.
    pub complete: bool,
    /// What was told of it.
    pub outcome: Outcome,
    /// How long it took.
    pub took: Duration,
}

/// Which save it is.
#[derive(Clone, Copy, Debug)]
struct Due {
    place: Place,
    reason: Reason,
    began: Instant,
}

/// A save that is under way.
#[derive(Debug)]
struct Save {
    due: Due,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    /// A dump was asked for, whose end is waited for before the process is made.
    Dumping(DumpWish),
    /// A process packs and writes.
    Writing(Writing),
}

/// A process, and what it has still to be given.
#[derive(Debug)]
struct Writing {
    saver: Saver,
    hand_over: Option<HandOver>,
    generation: u64,
}

impl Save {
    const fn waits_for_dump(&self) -> bool {
        match &self.phase {
            Phase::Dumping(_) => true,
            Phase::Writing(Writing { hand_over: Some(it), .. }) => it.waits_for_dump(),
            Phase::Writing(_) => false,
        }
    }
}

/// How a save that somebody waits for stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// It is not over.
    Waiting,
    /// It is.
    Over(Image),
}

/// The checkpoints of a worker.
#[derive(Debug)]
pub struct Checkpoints {
    files: [Files; 2],
    /// Where the next image of each place goes, and its generation.
    next: [(Slot, u64); 2],
    plan: Plan,
    keep: Keep,
    max_bytes: u32,
    boot_id: [u8; 16],
    images: [Image; 2],
    save: Option<Save>,
    /// The process of a save that is over, until it has ended, and when to look: no other is made
    /// meanwhile.
    dying: Option<(Saver, Instant)>,
    /// Saves to flash that have ended, in this worker.
    ended: u32,
    /// A save broke off: flows may still be marked as given to it.
    marked: bool,
    /// Somebody has asked for one.
    asked: core::cell::Cell<bool>,
    end: End,
    buffer: Box<[u32]>,
    words: Words,
    steps: Steps,
    /// What is still to be done about restored flows.
    after: Option<After>,
}

/// The save at the daemon's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// It is not to end.
    Far,
    /// It is to be saved.
    Due,
    /// It is saved or under way, or failed.
    Begun,
}

const fn index(place: Place) -> usize {
    match place {
        Place::Live => 0,
        Place::Flash => 1,
    }
}

impl Checkpoints {
    /// Tokens in the epoll: the process's socket, and what concerns restored flows.
    const TOKENS: [u64; 3] = [5, After::TOKENS[0], After::TOKENS[1]];

    /// Checkpoints by this configuration; none if it wants none.
    /// `loaded` is the image that the daemon goes on with.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn new(
        config: &Config,
        boot_id: [u8; 16],
        now: Instant,
        words: Words,
        loaded: Option<Loaded>,
    ) -> io::Result<Option<Self>> {
        let of = &config.checkpoint;
        if !of.is_on() {
            return Ok(None);
        }
        let allowance = loaded.as_ref().and_then(|it| router::allowance_blocks(it.router()));
        let mut steps = Steps::default();
        steps.look(super::clock::now());
        let live = config.control.socket.with_extension("checkpoint");
        let files = [live, of.directory.clone()].map(Files::new);
        let next = loaded.as_ref().map(|it| it.next(&files[1]));
        let restored = loaded.filter(Loaded::is_of_another_boot);
        let after = restored.map(|it| After::new(it, of.address_grace_s, now)).transpose()?;
        // From here on more happens than its image has.
        if let Err(error) = files[1].unmark() {
            let mark = files[1].mark();
            log::error!("{}: {}; it must not stay", mark.display(), InWords(&error));
        }
        let in_flash = next.unwrap_or_else(|| pair::choose(&files[1].find()));
        let found = [pair::choose(&files[0].find()), in_flash];
        // Of another boot's count too: a generation never comes twice.
        let images =
            found.map(|choice| Image { generation: choice.generation - 1, ..Image::default() });
        let next = found.map(|choice| (choice.write, choice.generation));
        Ok(Some(Self {
            files,
            next,
            plan: Plan::new(policy(config), now, allowance),
            keep: of.keep.clone(),
            max_bytes: of.max_bytes,
            boot_id,
            images,
            save: None,
            dying: None,
            ended: 0,
            marked: false,
            asked: core::cell::Cell::new(false),
            end: End::Far,
            buffer: vec![0; hand_over::BUFFER_WORDS].into(),
            words,
            steps,
            after,
        }))
    }

    /// Waits in this epoll for what concerns restored flows.
    ///
    /// # Errors
    ///
    /// What epoll(7) says.
    pub fn watch(&self, epoll: &Epoll) -> io::Result<()> {
        self.after.as_ref().map_or(Ok(()), |after| after.watch(epoll))
    }

    /// Something happened at a descriptor with this token; whether it is one of these.
    pub fn wake(&mut self, token: u64) -> bool {
        if let Some(after) = &mut self.after {
            after.wake(token);
        }
        Self::TOKENS.contains(&token)
    }

    /// Takes over what a changed configuration may change while the daemon runs.
    pub fn reconfigure(&mut self, config: &Config, now: Instant) {
        self.plan.set_policy(policy(config), now);
        self.keep.clone_from(&config.checkpoint.keep);
        self.max_bytes = config.checkpoint.max_bytes;
        if let Some(after) = &mut self.after {
            after.set_grace(config.checkpoint.address_grace_s);
        }
    }

    // --- what others want ----------------------------------------------------------------------

    /// Somebody wants an image in flash: which number of [`Self::outcome`] tells of it.
    pub fn ask(&self) -> u32 {
        self.asked.set(true);
        // One that is under way was begun before, and what it saves may be older.
        let under_way = self.save.as_ref().is_some_and(|save| save.due.place == Place::Flash);
        self.ended.wrapping_add(1 + u32::from(under_way))
    }

    /// How the save with this number stands.
    #[must_use]
    pub fn outcome(&self, number: u32) -> Asked {
        let over = self.ended.wrapping_sub(number) < u32::MAX / 2;
        if over { Asked::Over(self.images[index(Place::Flash)]) } else { Asked::Waiting }
    }

    /// The daemon is to end: saves once more, or if the image is fresh, only marks it as the last.
    pub fn end(&mut self) {
        self.end = End::Due;
    }

    /// Whether a save is under way or due at the end.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.save.is_some() || self.end == End::Due
    }

    /// Whether the process of the save under way has all that it needs.
    #[must_use]
    pub fn is_handed_over(&self) -> bool {
        let phase = self.save.as_ref().map(|save| &save.phase);
        matches!(phase, Some(Phase::Writing(Writing { hand_over: None, .. })))
    }

    /// The last image of a place.
    #[must_use]
    pub const fn image(&self, place: Place) -> &Image {
        &self.images[index(place)]
    }

    /// Where the last image in flash is: its directory, and its name there.
    #[must_use]
    pub fn last_file(&self) -> (&Path, &'static str) {
        let place = index(Place::Flash);
        (self.files[place].directory(), Files::name(self.next[place].0.other()))
    }

    /// The plan.
    #[must_use]
    pub const fn plan(&self) -> &Plan {
        &self.plan
    }

    /// When [`Self::turn`] is wanted.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if let Some((_, at)) = &self.dying {
            return Some(*at);
        }
        if self.asked.get() || self.end == End::Due && self.save.is_none() {
            return Some(Instant::BOOT);
        }
        let after = self.after.as_ref().and_then(After::poll_timeout);
        [self.save_timeout(), after].into_iter().flatten().min()
    }

    fn save_timeout(&self) -> Option<Instant> {
        match &self.save {
            None => self.plan.poll_timeout(),
            Some(save) if save.waits_for_dump() => Some(save.due.began + DUMP_PATIENCE),
            Some(Save { phase: Phase::Writing(Writing { hand_over: Some(it), .. }), .. })
                if it.more =>
            {
                Some(Instant::BOOT)
            }
            Some(save) => Some(save.due.began + SAVE_PATIENCE),
        }
    }

    // --- the save ------------------------------------------------------------------------------

    /// A dump has just shown this flow: it is handed over at once if a save waits for that.
    pub fn show(&mut self, engine: &mut Engine<'_>, slot: table::Slot) {
        let Some(Save { phase: Phase::Writing(writing), .. }) = &mut self.save else { return };
        if let Some(hand_over) = &mut writing.hand_over {
            let socket = &mut writing.saver.socket;
            hand_over.show(socket, &mut self.buffer, (engine, &self.keep), slot);
        }
    }

    /// Begins a save that is due, goes on with one, or ends it.
    pub fn turn(&mut self, engine: &mut Engine<'_>, now: Now, epoll: &Epoll) {
        let set = self.steps.look(now);
        if set {
            self.words.set(Word::ClockStepped, 1);
        }
        if let Some(after) = &mut self.after {
            after.turn(engine, self.words, set, now, epoll);
        }
        self.turn_save(engine, now, epoll);
    }

    fn turn_save(&mut self, engine: &mut Engine<'_>, now: Now, epoll: &Epoll) {
        if self.asked.take() {
            self.plan.ask();
        }
        let Some(mut save) = self.save.take() else {
            if let Some((saver, _)) = self.dying.take() {
                self.bury(saver, now.boot);
            }
            if self.dying.is_none() {
                self.start(engine, now, epoll);
            }
            return;
        };
        let took = now.boot.since(save.due.began);
        match &mut save.phase {
            Phase::Dumping(wish) => {
                if took > DUMP_PATIENCE || engine.wished_dump(wish) == WishedDump::Done {
                    return self.begin(save.due, Some(*wish), engine, now, epoll);
                }
            }
            Phase::Writing(writing) => {
                if let Some(hand_over) = writing.hand_over.as_mut().filter(|_| took > DUMP_PATIENCE)
                {
                    hand_over.give_up_dump();
                }
                let from = (&mut *engine, &self.keep);
                let outcome = writing.go_on(&mut self.buffer, from, took > SAVE_PATIENCE);
                if let Some(outcome) = outcome {
                    let generation = writing.generation;
                    self.over(save.due, now, generation, outcome);
                    let Phase::Writing(Writing { saver, .. }) = save.phase else { return };
                    return self.bury(saver, now.boot);
                }
            }
        }
        self.save = Some(save);
    }

    fn bury(&mut self, saver: Saver, now: Instant) {
        if !saver.bury() {
            self.dying = Some((saver, now + STUCK));
        }
    }

    /// Notes what became of a save.
    fn over(&mut self, due: Due, now: Now, generation: u64, outcome: Outcome) {
        let image = &mut self.images[index(due.place)];
        if due.place == Place::Flash {
            self.ended = self.ended.wrapping_add(1);
        }
        image.took = now.boot.since(due.began);
        if outcome.step != Step::None {
            image.outcome.errno = outcome.errno;
            image.outcome.step = outcome.step;
            // Only the last walk of a hand-over takes its marks off.
            self.marked = true;
            tell_failure(self.files[index(due.place)].directory(), &outcome);
            return self.plan.failed(now.boot, due.place);
        }
        if generation == image.generation {
            // It was only marked as the last.
            return;
        }
        image.saved = Some(now.boot);
        let written = (outcome.bytes > 0).then_some(outcome.bytes);
        match written {
            Some(_) => {
                image.generation = generation;
                image.complete = due.reason != Reason::Interval;
                image.outcome = outcome;
                let next = &mut self.next[index(due.place)];
                *next = (next.0.other(), generation + 1);
            }
            None => (image.outcome.errno, image.outcome.step) = (0, Step::None),
        }
        self.plan.done(now.boot, due.place, written);
    }
}

impl Writing {
    /// Hands over what the process takes, and looks for its answer.
    fn go_on(
        &mut self,
        buffer: &mut [u32],
        (engine, keep): (&mut Engine<'_>, &Keep),
        late: bool,
    ) -> Option<Outcome> {
        if late {
            return Some(Outcome::failed(Step::HandOver, &Errno::ETIMEDOUT.into()));
        }
        if let Some(under_way) = &mut self.hand_over {
            // When that fails, what the process says of it is worth more.
            let done = under_way.go_on(&mut self.saver.socket, buffer, engine, keep);
            if !matches!(done, Ok(false)) {
                self.hand_over = None;
            }
        }
        match self.saver.read() {
            Ok(answer) => answer,
            Err(error) => Some(Outcome::failed(Step::HandOver, &error)),
        }
    }
}

fn tell_failure(directory: &std::path::Path, outcome: &Outcome) {
    static LIMIT: RateLimit = RateLimit::new(3, 600);
    let (directory, step) = (directory.display(), outcome.step.name());
    let error = io::Error::from_raw_os_error(outcome.errno);
    let (error, level) = (InWords(&error), log::Level::Error);
    limited!(LIMIT, level, "no checkpoint in {directory}: {step}: {error}; the last one stays");
}

/// Whether the wall clock is known to be right, or was set by somebody who knows.
fn knows_the_time(words: Words) -> bool {
    words.get(Word::ClockStepped) != 0 || super::clock::is_synchronised()
}

/// What the configuration says of when and how much.
fn policy(config: &Config) -> Policy {
    let of = &config.checkpoint;
    let seconds = |s: u32| (s > 0).then(|| Duration::from_secs(u64::from(s)));
    Policy {
        flash_interval: seconds(of.interval_s),
        live_interval: seconds(of.live_interval_s),
        flash_bytes_per_day: of.flash_bytes_per_day,
        erase_block_bytes: of.erase_block_bytes,
    }
}

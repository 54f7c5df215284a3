//! Images at the start: after a reboot, flows are made again in the kernel, and the daemon goes on
//! with their accounts and with what it owed.
//!
//! Two steps, by two processes. The supervisor makes the flows in the kernel, before any of its
//! sockets hears events, and notes which were refused. The worker goes through the same image and
//! takes all flows into its table: those that were made, and those that ended with the reboot, which
//! it reports when the first dumps do not show them. An image of this very boot is not restored:
//! its flows live.

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use super::files::{self, Files};
use super::{CARRIED, ENDED, ROUTER};
use crate::checkpoint::pair::{self, Choice, Found, Slot};
use crate::checkpoint::{Facts, Fault, Keep, Reader, SavedExpect, SavedFlow, Section, Summary};
use crate::config::Checkpoint;
use crate::daemon::restore::{self, Outcome, Plan};
use crate::daemon::shared::{Word, Words};
use crate::engine::Engine;
use crate::restore::{Capacity, FlowSource, Refusal, Timeouts};
use crate::time::{Duration, Instant, NANOS_PER_MILLI, Now, WallTime};
use crate::words;

/// An image that is gone on with.
#[derive(Clone, Debug)]
pub struct Loaded {
    path: PathBuf,
    choice: Choice,
    /// What its head tells.
    pub facts: Facts,
    /// It is of an earlier boot: its flows were made again.
    rebooted: bool,
    /// The daemon ended after it, as it was told to; what it carried then is in this file.
    mark: Option<PathBuf>,
    /// Accounts of flows that ended after it, in order.
    ended: Vec<u64>,
    /// When they were, by both clocks.
    pub at: Now,
    /// A bit for each flow that was kept and not made.
    refused: Vec<u32>,
    keep: Keep,
    /// See [`super::router`].
    router: Vec<u32>,
}

/// The flows of an image that are worth being made again.
#[derive(Debug)]
pub struct Source<'k> {
    /// The image.
    pub reader: Reader<File>,
    /// Which are.
    pub keep: &'k Keep,
    /// Accounts of flows that have ended, in order.
    pub ended: &'k [u64],
}

impl FlowSource for Source<'_> {
    type Error = Fault;

    fn flows(&mut self, each: &mut dyn FnMut(&SavedFlow) -> bool) -> Result<(), Fault> {
        let (keep, ended) = (self.keep, self.ended);
        self.reader.flows(&mut |flow| {
            let wanted = keep.rank(&flow.facts()).is_some() && !has_ended(flow, ended);
            let goes_on = !wanted || each(flow);
            if goes_on { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })
    }

    fn expectations(&mut self, each: &mut dyn FnMut(&SavedExpect) -> bool) -> Result<(), Fault> {
        self.reader.expectations(&mut |expect| {
            if each(expect) { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })
    }
}

fn has_ended(flow: &SavedFlow, ended: &[u64]) -> bool {
    let account = (!ended.is_empty()).then(|| flow.account()).flatten();
    account.is_some_and(|account| ended.binary_search(&account).is_ok())
}

/// Finds the newest good image, and makes its flows again in the kernel if it is of another boot.
#[must_use]
pub fn load(config: &Checkpoint, boot_id: [u8; 16], words: Words, now: Now) -> Option<Loaded> {
    if !config.is_on() {
        return None;
    }
    let Best { image, choice, refused } = best(&config.directory);
    words.add(Word::ImagesRefused, refused);
    let (path, mut reader) = image?;
    // What cannot be read is not there.
    let router = words_of(&mut reader, ROUTER).unwrap_or_default();
    let facts = *reader.facts();
    let rebooted = facts.boot_id != boot_id;
    let mut mark = mark_of(&config.directory, &facts);
    let ended = mark.as_mut().map(|(_, mark)| ended(mark)).unwrap_or_default();
    let mark = mark.map(|(path, _)| path);
    let (keep, refused) = (config.keep.clone(), Vec::new());
    let mut loaded =
        Loaded { path, choice, facts, rebooted, mark, ended, at: now, refused, keep, router };
    if let Some(at_s) = words.get(Word::RestoredAt).checked_sub(1) {
        // A daemon before this one made them, and died before it could say which.
        loaded.at.boot = Instant::BOOT + Duration::from_secs(u64::from(at_s));
        loaded.refused = vec![0; reader.summary().flows.div_ceil(32) as usize];
    } else if rebooted && config.restore {
        let source = Source { reader, keep: &config.keep, ended: &loaded.ended };
        match make(source, config.timeout_cap_s, &mut loaded.refused) {
            Ok(outcome) => note(&outcome, words),
            Err(error) => log::error!("flows were not restored: {error}"),
        }
        loaded.at = crate::daemon::clock::now();
        words.set(Word::RestoredAt, loaded.at.boot.as_secs_u32().saturating_add(1));
    } else if rebooted {
        loaded.refused = vec![u32::MAX; reader.summary().flows.div_ceil(32) as usize];
    }
    Some(loaded)
}

/// What is in a directory.
#[derive(Debug)]
pub struct Best {
    /// The best image, open, with its file.
    pub image: Option<(PathBuf, Reader<File>)>,
    /// What was decided.
    pub choice: Choice,
    /// Images that are no good.
    pub refused: u32,
}

/// Finds the best image of a directory. Those that are no good are told in the log.
#[must_use]
pub fn best(directory: &Path) -> Best {
    let files = Files::new(directory.to_owned());
    let (images, mut refused) = (files.open_both(), 0);
    let found = images.each_ref().map(files::found);
    for (slot, found) in Slot::ALL.iter().zip(&found) {
        if let Found::Faulty(fault) = found {
            log::warn!("{}: {fault}; the other image is used", files.path(*slot).display());
            refused += 1;
        }
    }
    let mut both = Slot::ALL.into_iter().zip(images);
    let choice = pair::choose(&found);
    let image = both.find(|(slot, _)| Some(*slot) == choice.load);
    let image = image.and_then(|(slot, image)| Some((files.path(slot), image.ok()?)));
    Best { image, choice, refused }
}

/// The mark that the image with these facts was the last one, if it is in the directory.
pub fn mark_of(directory: &Path, image: &Facts) -> Option<(PathBuf, Reader<File>)> {
    let path = Files::new(directory.to_owned()).mark();
    let reader = files::open(&path).ok()?;
    let mark = reader.facts();
    let same = (mark.generation, mark.boot_id) == (image.generation, image.boot_id);
    (mark.orderly && same).then_some((path, reader))
}

/// Accounts of flows that ended after the image was made, in order; what cannot be read is not
/// there.
fn ended(mark: &mut Reader<File>) -> Vec<u64> {
    let words = words_of(mark, ENDED).unwrap_or_default();
    let mut ended: Vec<_> = words.chunks_exact(2).map(|pair| words::get_u64(pair, 0)).collect();
    ended.sort_unstable();
    ended
}

/// All words of a section.
fn words_of(reader: &mut Reader<File>, section: Section) -> Result<Vec<u32>, Fault> {
    let mut all = Vec::new();
    reader.words(section, &mut |_, words| {
        all.extend_from_slice(words);
        ControlFlow::Continue(())
    })?;
    Ok(all)
}

/// Why flows were not made, or not all.
#[derive(Debug)]
pub enum Make {
    /// The kernel does not answer.
    Kernel(io::Error),
    /// The image cannot be read any more.
    Image(Fault),
}

impl fmt::Display for Make {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kernel(error) => error.fmt(f),
            Self::Image(fault) => fault.fmt(f),
        }
    }
}

/// Makes the flows of an image that are worth keeping in the kernel; the bits of `refused` tell
/// those that were not made.
///
/// # Errors
///
/// [`Make`]. What was made by then stays.
pub fn make(mut source: Source<'_>, cap_s: u32, refused: &mut Vec<u32>) -> Result<Outcome, Make> {
    let Summary { flows, expectations, .. } = *source.reader.summary();
    let plan =
        Plan { capacity: Capacity { flows, expectations }, timeouts: Timeouts { age_s: 0, cap_s } };
    refused.resize(flows.div_ceil(32) as usize, 0);
    let done = restore::restore(&mut source, &plan, &mut |_| {}, &mut |index| {
        if let Some(word) = refused.get_mut((index / 32) as usize) {
            *word |= 1 << (index % 32);
        }
    });
    done.map_err(|failure| match failure {
        restore::Failure::Kernel(error) => Make::Kernel(error),
        restore::Failure::Source(fault) => Make::Image(fault),
    })
}

fn note(outcome: &Outcome, words: Words) {
    let Outcome { flows, expectations } = outcome;
    let of = |why| flows.refused_as(why);
    let others = of(Refusal::Denied)
        .saturating_add(of(Refusal::Other))
        .saturating_add(of(Refusal::NoHelper));
    for (word, count) in [
        (Word::Restored, flows.created),
        (Word::RestoredExpects, expectations.created),
        (Word::RefusedExists, of(Refusal::Exists)),
        (Word::RefusedHelper, flows.without_helper),
        (Word::RefusedMaster, of(Refusal::NoMaster)),
        (Word::RefusedFull, of(Refusal::Full)),
        (Word::RefusedOther, others),
        (Word::RefusedExpects, expectations.refusals()),
    ] {
        words.set(word, count);
    }
    log::info!("restored {} flows, {} refused", flows.created, flows.refusals());
    if expectations.refusals() > 0 {
        log::warn!("{} expectations were refused", expectations.refusals());
    }
}

impl Loaded {
    /// Takes flows, what was owed and what was counted into the engine; once for each boot.
    ///
    /// # Errors
    ///
    /// The image cannot be read any more.
    pub fn recall(&self, engine: &mut Engine<'_>, words: Words, now: Now) -> Result<(), Fault> {
        if words.get(Word::Recalled) != 0 {
            return Ok(());
        }
        let Some(mut reader) = self.reader()? else { return Ok(()) };
        if self.rebooted {
            self.recall_flows(&mut reader, engine, now)?;
        }
        self.recall_words(&mut reader, engine, now)?;
        if self.rebooted && self.mark.is_none() {
            words.set_unknown_since(WallTime::from_nanos(self.facts.wall_ns));
        }
        words.set(Word::Recalled, 1);
        Ok(())
    }

    fn recall_flows(
        &self,
        reader: &mut Reader<File>,
        engine: &mut Engine<'_>,
        now: Now,
    ) -> Result<(), Fault> {
        let (mut kept, saved_ms) = (0, self.facts.wall_ns / NANOS_PER_MILLI);
        reader.flows(&mut |flow| {
            if has_ended(flow, &self.ended) {
                return ControlFlow::Continue(());
            }
            let is_kept = self.keep.rank(&flow.facts()).is_some();
            let made = is_kept && !self.was_refused(kept);
            kept += u32::from(is_kept);
            // The engine counts those for which the table has no room.
            let _ = engine.recall(now, flow, saved_ms, made);
            ControlFlow::Continue(())
        })
    }

    /// Goes through the flows that were made again, until `each` says false.
    ///
    /// # Errors
    ///
    /// The image cannot be read any more, or is another one by now.
    pub fn made(&self, each: &mut dyn FnMut(&SavedFlow) -> bool) -> Result<(), Fault> {
        let Some(reader) = self.reader()? else { return Ok(()) };
        let mut index = 0;
        Source { reader, keep: &self.keep, ended: &self.ended }.flows(&mut |flow| {
            let made = !self.was_refused(index);
            index += 1;
            !made || each(flow)
        })
    }

    /// The image, if it is still the one that was loaded.
    fn reader(&self) -> Result<Option<Reader<File>>, Fault> {
        let reader = files::reopen(&self.path)?;
        let same = reader.facts().generation == self.facts.generation;
        Ok(Some(reader).filter(|_| same))
    }

    fn was_refused(&self, index: u32) -> bool {
        let word = self.refused.get((index / 32) as usize);
        word.is_none_or(|word| word >> (index % 32) & 1 != 0)
    }

    fn recall_words(
        &self,
        reader: &mut Reader<File>,
        engine: &mut Engine<'_>,
        now: Now,
    ) -> Result<(), Fault> {
        let mark = self.mark.as_ref().and_then(|mark| files::reopen(mark).ok());
        let marked = mark.map(|mut mark| words_of(&mut mark, CARRIED)).transpose()?;
        let carried = match marked {
            Some(words) if !words.is_empty() => words,
            _ => words_of(reader, CARRIED)?,
        };
        if !carried.is_empty() && engine.import(&carried, now.boot).is_err() {
            log::warn!(
                "{}: what was owed is of another version, or a daemon left some: not taken over",
                self.path.display()
            );
        }
        Ok(())
    }

    /// Where the next image goes; every byte of both is looked at again only if there has been one
    /// since this was loaded.
    #[must_use]
    pub fn next(&self, files: &Files) -> Choice {
        let newer = |generation| generation > self.facts.generation;
        if files.generations().into_iter().any(newer) {
            return pair::choose(&files.find());
        }
        self.choice
    }

    /// The addresses that the router had, and what was left of its flash budget.
    #[must_use]
    pub fn router(&self) -> &[u32] {
        &self.router
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether its flows were made again after a reboot.
    #[must_use]
    pub const fn is_of_another_boot(&self) -> bool {
        self.rebooted
    }
}

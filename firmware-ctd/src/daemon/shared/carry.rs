//! A state file that was left under other sizes or sinks: what it owes, remembers and has counted
//! goes into a new one.
//!
//! The new file is made beside the old one and then takes its place by rename(2): a daemon that is
//! killed meanwhile leaves the old one. What goes over:
//!
//! | what | how |
//! |---|---|
//! | words of all processes, destroys received and not handled | as they are |
//! | owed records, keys, counters | [`Engine::export`], [`Engine::import`]: what does not fit is counted |
//! | windows of sinks | message by message; what does not fit is told in the log |
//! | the table | flow by flow, so that what has ended while no daemon listened is reported. What does not fit is told in the log: its ends, unheard, are in no account |
//!
//! Allocates: it runs before a worker does.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::{BATCH, Batch, DESTROY_BYTES, Identity, STATE_BYTES, lock, new_file, word};
use crate::config::Config;
use crate::daemon::clock;
use crate::daemon::sink::Sinks;
use crate::daemon::sys::Mapping;
use crate::engine::{Engine, EventPath, Settings, Sizes};
use crate::table::{FlowRef, FlowTable};
use crate::time::{Duration, Now};

/// Beyond all sizes that can be configured, and small enough to be multiplied.
const MOST: u32 = 1 << 24;
/// What is all zero is not written: so much at a time.
const PAGE_WORDS: usize = 1024;

/// Where the engine lies, in words.
fn engine_at() -> usize {
    Mapping::SHARED + Batch::words(BATCH, DESTROY_BYTES) + Batch::words(BATCH, STATE_BYTES)
}

/// What has gone over.
#[derive(Debug)]
struct Carried {
    owed: u32,
    /// Flows that the new table has no room for.
    flows_left: u32,
    /// Sent by IPFIX, perhaps never read, and kept no longer.
    unconfirmed: u32,
}

/// Makes a file of this identity and length in place of the one at `path`, which is open and
/// locked, with all that can go over; none if there is nothing that could.
///
/// # Errors
///
/// What the file system says. The old file is as it was then.
pub(super) fn carry(
    path: &Path,
    old: &File,
    (config, sizes, boot_id): (&Config, &Sizes, [u8; 16]),
    (identity, len): (&Identity, u64),
) -> io::Result<Option<File>> {
    let mut words = read(old)?;
    let Some(before) = sizes_of(&words, identity) else { return Ok(None) };
    let mut engine = vec![0; sizes.words()];
    let mut windows = vec![0; Sinks::words(config)];
    let carried = {
        let (_, rest) = words.split_at_mut(engine_at());
        let (engine_before, windows_before) = rest.split_at_mut(before.words());
        let owed = carry_engine((engine_before, &before), (&mut engine, sizes), config, boot_id)?;
        let Some(owed) = owed else { return Ok(None) };
        Carried {
            owed,
            flows_left: carry_flows((engine_before, &before), (&mut engine, sizes)),
            unconfirmed: Sinks::carry(config, windows_before, &mut windows),
        }
    };
    let beside = path.with_extension("state.new");
    let new = new_file(&beside)?;
    lock(&new)?;
    new.set_len(0)?;
    new.set_len(len)?;
    words[word::IDENTITY..][..identity.len()].copy_from_slice(identity);
    write(&new, 0, &words[..engine_at()])?;
    write(&new, engine_at(), &engine)?;
    write(&new, engine_at() + engine.len(), &windows)?;
    fs::rename(&beside, path)?;
    tell(path, &carried);
    Ok(Some(new))
}

fn tell(path: &Path, carried: &Carried) {
    let Carried { owed, flows_left, .. } = carried;
    let path = path.display();
    log::warn!("{path}: made anew for other sizes or sinks; {owed} owed records went over");
    if *flows_left > 0 {
        log::warn!(
            "{flows_left} flows did not fit into the table: those that have ended while no daemon \
             listened are in no account"
        );
    }
    if carried.unconfirmed > 0 {
        let count = carried.unconfirmed;
        log::warn!(
            "{count} records sent by IPFIX may never have been read, and are kept no longer"
        );
    }
}

/// The sizes of a file of this version and boot.
fn sizes_of(words: &[u32], identity: &Identity) -> Option<Sizes> {
    let old: &Identity = words.get(word::IDENTITY..)?.first_chunk()?;
    let [version, capacity, extensions, remember, queue, engine, _, boot_id @ ..] = *old;
    let same = words.first() == Some(&super::MAGIC)
        && version == identity[0]
        && identity.ends_with(&boot_id)
        && [capacity, extensions, remember, queue].iter().all(|&size| size <= MOST);
    let sizes = Sizes { capacity, extensions, remember, queue };
    let whole =
        || u32::try_from(sizes.words()) == Ok(engine) && words.len() >= engine_at() + sizes.words();
    (same && whole()).then_some(sizes)
}

/// How many records are owed then; none if there is no sound engine.
fn carry_engine(
    (before, sizes_before): (&mut [u32], &Sizes),
    (memory, sizes): (&mut [u32], &Sizes),
    config: &Config,
    boot_id: [u8; 16],
) -> io::Result<Option<u32>> {
    let Now { boot: now, .. } = clock::now();
    // None of this matters here.
    let (events, refresh) = (EventPath::Reliable, Duration::ZERO);
    let settings = Settings { events, refresh, observed: false };
    let (sinks, seed) = (Sinks::ids(config), crate::daemon::seed()?);
    let old = Engine::open(before, sizes_before, settings, boot_id, &sinks, true);
    let new = Engine::new(memory, sizes, settings, boot_id, seed, &sinks);
    let (Ok(old), Ok(mut new)) = (old, new) else { return Ok(None) };
    let mut words = Vec::new();
    old.export(now, &mut |part| words.extend_from_slice(part));
    if new.import(&words, now).is_err() {
        return Ok(None);
    }
    new.commit(old.committed_batch());
    Ok(Some(new.queue().len()))
}

/// Both engines are closed again: the table is the last part of their memory.
fn carry_flows(
    (before, sizes_before): (&mut [u32], &Sizes),
    (memory, sizes): (&mut [u32], &Sizes),
) -> u32 {
    let (Some(old), Some(mut new)) = (table(before, sizes_before), table(memory, sizes)) else {
        return 0;
    };
    let mut left = 0;
    for bucket in 0..old.buckets() {
        let mut next = old.first(bucket);
        while let Some(slot) = next {
            left += u32::from(carry_flow(&old.flow(slot), &mut new).is_none());
            next = old.next(slot);
        }
    }
    left
}

fn table<'m>(memory: &'m mut [u32], sizes: &Sizes) -> Option<FlowTable<'m>> {
    let Sizes { capacity, extensions, .. } = *sizes;
    let at = memory.len().checked_sub(FlowTable::words(capacity, extensions))?;
    FlowTable::open(&mut memory[at..], capacity, extensions, 0).ok()
}

fn carry_flow(flow: &FlowRef<'_>, table: &mut FlowTable<'_>) -> Option<()> {
    let key = table.key(&flow.orig(), flow.zone());
    if table.find(&key).is_some() {
        return None;
    }
    let slot = table.insert(&key).ok()?;
    // Without room for its rare attributes it goes over without them.
    let _ = table.set_extension(slot, &flow.extension());
    let mut to = table.flow_mut(slot);
    to.set_reply(&flow.reply());
    to.set_id(flow.id());
    to.set_status(flow.status());
    to.set_mark(flow.mark());
    to.set_counters(flow.counters());
    to.set_start(flow.start_ns(), 0);
    to.set_expires_s(flow.expires_s().unwrap_or(0));
    to.set_as_of_s(flow.as_of_s());
    to.set_l4_state(flow.l4_state().unwrap_or_default());
    to.change_flags(flow.flags(), u32::MAX);
    Some(())
}

fn read(file: &File) -> io::Result<Vec<u32>> {
    let len = usize::try_from(file.metadata()?.len()).unwrap_or(0);
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes.chunks_exact(4).map(|b| u32::from_ne_bytes([b[0], b[1], b[2], b[3]])).collect())
}

/// Writes words into a file that is all zero.
fn write(file: &File, at: usize, words: &[u32]) -> io::Result<()> {
    let mut at = at as u64 * 4;
    for page in words.chunks(PAGE_WORDS) {
        if page.iter().any(|&word| word != 0) {
            let bytes: Vec<u8> = page.iter().flat_map(|word| word.to_ne_bytes()).collect();
            file.write_all_at(&bytes, at)?;
        }
        at += page.len() as u64 * 4;
    }
    Ok(())
}

//! The memory that outlives a worker: one mapping, of a file beside the control socket.
//!
//! ```text
//! | words for all processes | destroys received | states received | engine | windows of sinks |
//! ```
//!
//! While the supervisor lives, a new worker takes over where the last one was killed. When both are
//! gone, the file is still there (not over a reboot: `/var/run` is memory), and the next daemon of
//! the same boot takes it over; what it owes and has counted also under other sizes or with other
//! sinks (see `carry`). A lock on the file tells that a daemon lives; it goes with
//! the processes, however they end. Where no file can be made, the memory is of no file: it then
//! outlives workers only, which is said in the log.

mod carry;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use super::sink::Sinks;
use super::sys::{self, Batch, Mapping};
use crate::config::Config;
use crate::engine::Sizes;
use crate::time::{Duration, Instant, WallTime};

const MAGIC: u32 = 0x6663_7453;
/// Of the layout of everything in the mapping.
const VERSION: u32 = 2;

/// Datagrams read by one call; a DESTROY is below 700 bytes, a NEW with all that it can have below
/// 1,400.
pub const BATCH: usize = 64;
/// Room for a DESTROY. An odd number of cache lines, so that the rooms do not all fall into the
/// same few sets of the cache.
const DESTROY_BYTES: usize = 17 * 64;
/// Room for a NEW or UPDATE; odd as well.
const STATE_BYTES: usize = 33 * 64;

/// The words that all processes use.
mod word {
    pub(super) const MAGIC: usize = 0;
    /// Version, sizes, boot id: what must be equal to take the memory over.
    pub(super) const IDENTITY: usize = 1;
    pub(super) const IDENTITY_WORDS: usize = 11;
    pub(super) const FIRST_COUNTER: usize = 16;
}

type Identity = [u32; word::IDENTITY_WORDS];

/// What processes tell each other, a word each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Word {
    /// When the worker last did anything, in milliseconds since boot; wraps.
    Heartbeat = word::FIRST_COUNTER,
    /// The worker of now has become ready.
    Ready,
    /// Workers that were started anew.
    Restarts,
    /// Daemons that took the memory over when both processes had gone.
    Takeovers,
    /// The last one: when something was last heard before it, and when it was, in seconds since
    /// boot.
    TakeoverFrom,
    /// See [`Word::TakeoverFrom`].
    TakeoverTo,
    /// The valve is open: the kernel keeps nothing for the worker.
    ValveOpen,
    /// When it was last opened, in seconds since boot.
    ValveFrom,
    /// When it was last closed.
    ValveTo,
    /// Drops of the destroy socket when it was opened.
    ValveDrops,
    /// How often it was opened.
    ValveTimes,
    /// Destroys that were lost while it was open: at least.
    ValveLost,
    /// What the kernel kept when it was last opened: at least.
    ValveBacklog,
    /// Flows that were made again after a reboot.
    Restored,
    /// Expectations that were.
    RestoredExpects,
    /// Not made: a live flow was there.
    RefusedExists,
    /// Made without their helper, which is not loaded.
    RefusedHelper,
    /// Not made: their master was not there.
    RefusedMaster,
    /// Not made: the kernel's table was full.
    RefusedFull,
    /// Not made for another reason.
    RefusedOther,
    /// Expectations that the kernel refused.
    RefusedExpects,
    /// Looks at this router's addresses, with a way out.
    AddressChecks,
    /// Deleted again: their address is not this router's any more.
    DeletedAddress,
    /// Timeouts corrected when the clock was stepped.
    ClockCorrected,
    /// Deleted when the clock was stepped: they were too old.
    ClockDropped,
    /// Images that were not whole.
    ImagesRefused,
    /// When flows were made again, in seconds since boot and one more; 0 before.
    RestoredAt,
    /// The image that the daemon goes on with has been taken over.
    Recalled,
    /// Somebody has set the wall clock in this boot.
    ClockStepped,
    /// What a clock that is set means for restored flows has been done.
    ClockSettled,
    /// When the first flow was noticed whose end nobody had told, in seconds since boot.
    VanishedFrom,
    /// And the last one.
    VanishedTo,
    /// See [`Words::set_unknown_since`].
    UnknownSince,
}

const _: () = assert!((Word::UnknownSince as usize) < Mapping::SHARED);

/// The words that all processes use.
#[derive(Clone, Copy, Debug)]
pub struct Words(&'static [AtomicU32; Mapping::SHARED]);

impl Words {
    /// Reads a word.
    #[must_use]
    pub fn get(self, word: Word) -> u32 {
        self.0[word as usize].load(Relaxed)
    }

    /// Sets a word.
    pub fn set(self, word: Word, value: u32) {
        self.0[word as usize].store(value, Relaxed);
    }

    /// Adds to a word; stays at its greatest value.
    pub fn add(self, word: Word, more: u32) {
        self.set(word, self.get(word).saturating_add(more));
    }

    /// What ended in an earlier boot after this moment is unknown: the power was cut, and nothing
    /// newer had been saved.
    pub fn set_unknown_since(self, saved: WallTime) {
        self.set(Word::UnknownSince, crate::losses::seconds(saved).max(1));
    }

    /// The worker does something.
    pub fn beat(self, now: Instant) {
        self.set(Word::Heartbeat, millis(now));
    }

    /// How long ago the worker did something.
    #[must_use]
    pub fn silence(self, now: Instant) -> Duration {
        let ms = millis(now).wrapping_sub(self.get(Word::Heartbeat));
        // A heartbeat of this very moment may be later than `now`.
        Duration::from_millis(u64::from(if ms > u32::MAX / 2 { 0 } else { ms }))
    }
}

fn millis(now: Instant) -> u32 {
    u32::try_from((now.as_micros() / 1000) & u64::from(u32::MAX)).unwrap_or(0)
}

/// The mapping, its file, and its lock.
#[derive(Debug)]
pub struct Shared {
    mapping: Mapping,
    /// Its lock is held as long as it is open.
    _file: Option<File>,
    sizes: Sizes,
    /// What was in it is to be taken over.
    taken_over: bool,
}

/// The parts of a worker.
#[derive(Debug)]
pub struct Parts {
    /// Destroys as they are received.
    pub destroy: Batch,
    /// NEWs and UPDATEs as they are received.
    pub state: Batch,
    /// The engine's memory.
    pub engine: &'static mut [u32],
    /// What sinks keep.
    pub sinks: &'static mut [u32],
}

impl Shared {
    /// Opens the memory of a daemon with this configuration.
    ///
    /// # Errors
    ///
    /// `AddrInUse` if another daemon holds it; what mmap(2) says.
    pub fn open(config: &Config, sizes: &Sizes, boot_id: [u8; 16]) -> io::Result<Self> {
        let words = Mapping::SHARED
            + Batch::words(BATCH, DESTROY_BYTES)
            + Batch::words(BATCH, STATE_BYTES)
            + sizes.words()
            + Sinks::words(config);
        let identity = identity(sizes, Sinks::layout(config), boot_id);
        let path = path(&config.control.socket);
        let is = (config, sizes, boot_id);
        let (file, taken_over) = match open_locked(&path, is, (&identity, words as u64 * 4)) {
            Ok((file, taken_over)) => (Some(file), taken_over),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(error),
            Err(error) => {
                let path = path.display();
                log::warn!("{path}: {error}; what is owed does not outlive the daemon");
                (None, false)
            }
        };
        let mapping = Mapping::new(file.as_ref(), words)?;
        let shared = mapping.shared();
        for (word, value) in shared[word::IDENTITY..].iter().zip(identity) {
            word.store(value, Relaxed);
        }
        shared[word::MAGIC].store(MAGIC, Relaxed);
        Ok(Self { mapping, _file: file, sizes: *sizes, taken_over })
    }

    /// The words that all processes use.
    #[must_use]
    pub fn words(&self) -> Words {
        Words(self.mapping.shared())
    }

    /// Whether a daemon before this one left what is in it.
    #[must_use]
    pub const fn taken_over(&self) -> bool {
        self.taken_over
    }

    /// How large the engine is.
    #[must_use]
    pub const fn sizes(&self) -> &Sizes {
        &self.sizes
    }

    /// Cuts it into the parts of a worker, which this process is.
    #[must_use]
    pub fn into_parts(self) -> Parts {
        let own = self.mapping.own();
        let (destroy, own) = own.split_at_mut(Batch::words(BATCH, DESTROY_BYTES));
        let (state, own) = own.split_at_mut(Batch::words(BATCH, STATE_BYTES));
        let (engine, sinks) = own.split_at_mut(self.sizes.words());
        Parts {
            destroy: Batch::adopt(destroy, BATCH, DESTROY_BYTES),
            state: Batch::adopt(state, BATCH, STATE_BYTES),
            engine,
            sinks,
        }
    }
}

/// `firmware-ctd.state` for `firmware-ctd.sock`.
fn path(socket: &Path) -> PathBuf {
    socket.with_extension("state")
}

/// The boot id is its end.
fn identity(sizes: &Sizes, sinks: u32, boot_id: [u8; 16]) -> Identity {
    let [a, b, c, d] = crate::words::of_bytes(boot_id);
    let Sizes { capacity, extensions, remember, queue } = *sizes;
    let words = u32::try_from(sizes.words()).unwrap_or(u32::MAX);
    [VERSION, capacity, extensions, remember, queue, words, sinks, a, b, c, d]
}

/// Opens and locks the file, at its size; whether what is in it can be taken over. If not, it is
/// all zero.
fn open_locked(
    path: &Path,
    is: (&Config, &Sizes, [u8; 16]),
    (identity, len): (&Identity, u64),
) -> io::Result<(File, bool)> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    let file = new_file(path)?;
    lock(&file)?;
    if is_of(&file, identity).unwrap_or(false) {
        return Ok((file, true));
    }
    if file.metadata()?.len() > 0 {
        let shown = path.display();
        match carry::carry(path, &file, is, (identity, len)) {
            Ok(Some(new)) => return Ok((new, true)),
            Ok(None) => log::warn!(
                "{shown}: left by another version or before a reboot, or damaged; what was owed in \
                 it is lost"
            ),
            Err(error) => log::warn!("{shown}: {error}; what was owed in it is lost"),
        }
        file.set_len(0)?;
    }
    file.set_len(len)?;
    Ok((file, false))
}

fn new_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// Locks the file. A worker whose supervisor was killed holds it for a moment longer.
fn lock(file: &File) -> io::Result<()> {
    for _ in 0..200 {
        match sys::try_lock(file) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => super::clock::pause(10),
            other => return other,
        }
    }
    Err(io::ErrorKind::AddrInUse.into())
}

fn is_of(file: &File, identity: &Identity) -> io::Result<bool> {
    let mut bytes = [0; 4 * (word::IDENTITY + word::IDENTITY_WORDS)];
    file.read_exact_at(&mut bytes, 0)?;
    let mut words = bytes.chunks_exact(4).map(|b| u32::from_ne_bytes([b[0], b[1], b[2], b[3]]));
    Ok(words.next() == Some(MAGIC) && words.eq(identity.iter().copied()))
}

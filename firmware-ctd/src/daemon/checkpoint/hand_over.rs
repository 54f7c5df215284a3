//! Handing flows and words to the process that writes them.
//!
//! Where the image holds all, flows are handed over as the dump shows them, while they are at hand
//! in the processor's cache and the process packs beside it; as many as it takes. Then the table is
//! walked bucket by bucket for all others: once, or as often as there are rules when the image may
//! not hold all, so that the most valuable flows are the first in it. Flows that are handed over are
//! those of the moment at which they are met, but for their timeouts, which count from the moment
//! that the image tells. In a save that may be the last one, flows that no rule keeps go last: they
//! are not made again, but they end with this boot, and the next one reports that.

use std::io::{self, ErrorKind, Write};
use std::os::unix::net::UnixStream;

use super::saver::{MOST_WORDS, kind};
use crate::checkpoint::{Keep, frame};
use crate::engine::{DumpWish, Engine, WishedDump};
use crate::filter::FlowFacts;
use crate::table::{FlowRef, Slot, flag};
use crate::time::Now;
use crate::words;

/// Room for what waits to be sent.
pub const BUFFER_WORDS: usize = 8 << 10;
/// What a flow may take in an image: more than most.
pub const LIKELY_BYTES: usize = 48;
/// Buckets walked in one turn.
const BUCKETS: usize = 16 << 10;
/// Buffers sent in one turn.
const BUFFERS: usize = 8;
/// A process that takes nothing for so long is given up.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(2);

/// How far it is.
#[derive(Debug)]
pub struct HandOver {
    /// When the image began.
    now: Now,
    /// The dump whose end is waited for before the table is walked.
    dump: Option<DumpWish>,
    /// Walks for flows that are kept; with one, all rules count alike.
    ranks: usize,
    /// One more walk, for all others.
    rest: bool,
    rank: usize,
    bucket: usize,
    /// Flows of the bucket that are done.
    skip: usize,
    /// What of the buffer waits, in words; of the first of them, so many bytes are sent.
    waiting: core::ops::Range<usize>,
    part: usize,
    /// All flows are in the buffer or sent.
    walked: bool,
    /// More could be handed over at once.
    pub more: bool,
}

const _: () = assert!(BUFFER_WORDS <= MOST_WORDS);

impl HandOver {
    /// Nothing is handed over yet. With a dump to wait for, flows can be handed over as it shows
    /// them.
    #[must_use]
    pub const fn new(now: Now, dump: Option<DumpWish>, ranks: usize, rest: bool) -> Self {
        Self {
            now,
            dump,
            ranks,
            rest,
            rank: 0,
            bucket: 0,
            skip: 0,
            waiting: 0..0,
            part: 0,
            walked: false,
            more: true,
        }
    }

    /// Only what is carried beside the flows.
    #[must_use]
    pub const fn without_flows(now: Now) -> Self {
        let mut new = Self::new(now, None, 0, false);
        new.walked = true;
        new
    }

    /// Whether it waits for a dump.
    #[must_use]
    pub const fn waits_for_dump(&self) -> bool {
        self.dump.is_some()
    }

    /// Waits no longer for the dump: the table is nearly as fresh.
    pub const fn give_up_dump(&mut self) {
        self.dump = None;
    }

    /// Hands over a flow that the dump has just shown, if the process takes it. If not, the walk
    /// will find it.
    pub fn show(
        &mut self,
        socket: &mut UnixStream,
        buffer: &mut [u32],
        (engine, keep): (&mut Engine<'_>, &Keep),
        slot: Slot,
    ) {
        if self.dump.is_none() || self.ranks != 1 {
            return;
        }
        let flow = engine.table().flow(slot);
        if flow.has(flag::SAVED) || !self.is_wanted(&flow, keep) {
            return;
        }
        if self.waiting.end + 1 + frame::MOST_WORDS > buffer.len() {
            // What failed shows when it is gone on with.
            let _ = self.send(socket, buffer);
        }
        if self.put(buffer, engine, slot) {
            engine.mark_saved(slot, true);
        }
    }

    /// Hands over what is taken now; whether that was all.
    ///
    /// # Errors
    ///
    /// What send(2) says, but that the other does not take more now.
    pub fn go_on(
        &mut self,
        socket: &mut UnixStream,
        buffer: &mut [u32],
        engine: &mut Engine<'_>,
        keep: &Keep,
    ) -> io::Result<bool> {
        let mut buckets = BUCKETS;
        self.more = false;
        if let Some(wish) = &self.dump {
            if engine.wished_dump(wish) != WishedDump::Done {
                return Ok(false);
            }
            self.dump = None;
        }
        for _ in 0..BUFFERS {
            if !self.send(socket, buffer)? {
                return Ok(false);
            }
            if buckets == 0 {
                break;
            }
            if self.walked {
                send_words(socket, buffer, engine, self.now)?;
                return Ok(true);
            }
            self.walk(buffer, engine, keep, &mut buckets);
        }
        self.more = true;
        Ok(false)
    }

    /// Fills the buffer with flows.
    fn walk(
        &mut self,
        buffer: &mut [u32],
        engine: &mut Engine<'_>,
        keep: &Keep,
        buckets: &mut usize,
    ) {
        let walks = self.ranks + usize::from(self.rest);
        while *buckets > 0 && !self.walked {
            let table = engine.table();
            let mut next = table.first(self.bucket);
            for _ in 0..self.skip {
                next = next.and_then(|slot| table.next(slot));
            }
            while let Some(slot) = next {
                if !self.visit(buffer, engine, keep, (slot, self.rank + 1 == walks)) {
                    return;
                }
                self.skip += 1;
                next = engine.table().next(slot);
            }
            *buckets -= 1;
            self.skip = 0;
            self.bucket += 1;
            if self.bucket == engine.table().buckets() {
                self.bucket = 0;
                self.rank += 1;
                self.walked = self.rank == walks;
            }
        }
    }

    /// Looks at a flow: false if it is wanted and there is no room for it. The last walk leaves no
    /// mark.
    fn visit(
        &mut self,
        buffer: &mut [u32],
        engine: &mut Engine<'_>,
        keep: &Keep,
        (slot, last): (Slot, bool),
    ) -> bool {
        let flow = engine.table().flow(slot);
        let saved = flow.has(flag::SAVED);
        let wanted = !saved && self.is_wanted(&flow, keep);
        if wanted && !self.put(buffer, engine, slot) {
            return false;
        }
        if saved && last || wanted && !last {
            engine.mark_saved(slot, !last);
        }
        true
    }

    /// Puts a flow into the buffer; whether there was room.
    fn put(&mut self, buffer: &mut [u32], engine: &Engine<'_>, slot: Slot) -> bool {
        let room = buffer.get_mut(self.waiting.end..).unwrap_or_default();
        let Some((first, room)) = room.split_first_mut() else { return false };
        let Some(room) = room.first_chunk_mut() else { return false };
        let used = frame::put(&engine.saved_flow(self.now, slot), room);
        *first = head(kind::FLOW, used);
        self.waiting.end += 1 + used;
        true
    }

    /// Whether the walk under way takes a flow that has not been taken yet.
    fn is_wanted(&self, flow: &FlowRef<'_>, keep: &Keep) -> bool {
        // What is on its way out is not made again.
        if flow.has(flag::MISSED) || flow.has(flag::REPLACED) || flow.has(flag::DOUBTFUL) {
            return false;
        }
        let (orig, reply) = (flow.orig(), flow.reply());
        match keep.rank(&FlowFacts::of(flow, &orig, &reply)) {
            Some(rank) => self.ranks == 1 || rank <= self.rank,
            None => self.rank == self.ranks,
        }
    }

    /// Sends what is in the buffer; whether all of it went.
    fn send(&mut self, socket: &mut UnixStream, buffer: &[u32]) -> io::Result<bool> {
        let mut bytes = [0; 16 << 10];
        while !self.waiting.is_empty() {
            let words = &buffer[self.waiting.clone()];
            let words = &words[..words.len().min(bytes.len() / 4)];
            words::to_raw(words, &mut bytes);
            match socket.write(&bytes[self.part..words.len() * 4]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => {
                    let sent = self.part + count;
                    self.waiting.start += sent / 4;
                    self.part = sent % 4;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        self.waiting = 0..0;
        Ok(true)
    }
}

/// Sends what is carried beside the flows, in one go: the process reads it into its memory.
fn send_words(
    socket: &mut UnixStream,
    buffer: &mut [u32],
    engine: &Engine<'_>,
    now: Now,
) -> io::Result<()> {
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.set_nonblocking(false)?;
    let (mut done, mut used) = (Ok(()), 0);
    engine.export_over_reboot(now.boot, &mut |mut words| {
        while !words.is_empty() && done.is_ok() {
            let room = &mut buffer[used..];
            let count = words.len().min(room.len());
            room[..count].copy_from_slice(&words[..count]);
            (used, words) = (used + count, &words[count..]);
            if used == buffer.len() {
                done = send_frame(socket, kind::CARRIED, &buffer[..used]);
                used = 0;
            }
        }
    });
    done?;
    send_frame(socket, kind::CARRIED, &buffer[..used])?;
    for &account in engine.ended().unwrap_or_default() {
        send_frame(socket, kind::ENDED, &words::halves(account))?;
    }
    send_frame(socket, kind::END, &[])?;
    socket.set_nonblocking(true)
}

fn send_frame(socket: &mut UnixStream, what: u32, words: &[u32]) -> io::Result<()> {
    socket.write_all(&head(what, words.len()).to_ne_bytes())?;
    let mut bytes = [0; 4096];
    for part in words.chunks(bytes.len() / 4) {
        words::to_raw(part, &mut bytes);
        socket.write_all(&bytes[..part.len() * 4])?;
    }
    Ok(())
}

/// The first word of a frame.
fn head(what: u32, words: usize) -> u32 {
    what << 24 | u32::try_from(words).unwrap_or(0)
}

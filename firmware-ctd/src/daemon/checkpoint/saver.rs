//! The process that writes one image: made for it, gone after it.
//!
//! The worker hands it flows and words through a socket, as fast as it takes them, and goes on with
//! its events; all that is slow (packing, writing, waiting for the storage) happens here. The whole
//! image is made in this process's memory first: what came half is not written at all.

use std::io::{self, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use super::files::{Draft, FileError, Files};
use super::{CARRIED, ENDED, ROUTER, router};
use crate::checkpoint::pair::Slot;
use crate::checkpoint::{
    EncodeError, Encoder, EncoderMemory, Facts, Limit, SavedExpect, Section, frame,
};
use crate::daemon::addresses;
use crate::daemon::netlink::{self, RequestSocket};
use crate::daemon::sys::{self, Batch};
use crate::hash::KeyHash;
use crate::wire::{Family, Message, request};
use crate::words;

/// What the worker sends: the kind in the highest byte, words that follow in the others.
pub mod kind {
    /// A flow: the words of `checkpoint::frame`.
    pub const FLOW: u32 = 1;
    /// Words of what is carried beside flows.
    pub const CARRIED: u32 = 2;
    /// The account of a flow that is in the image and has ended, in words.
    pub const ENDED: u32 = 3;
    /// That is all.
    pub const END: u32 = 4;
}

/// Words of a frame at most, but for its first.
pub const MOST_WORDS: usize = 1 << 15;

/// Parts of a dump of expectations that are read before it is given up.
const MOST_PARTS: u32 = 1 << 12;

/// What is received at a time.
const RECEIVE_BYTES: usize = 64 << 10;

/// Room for a part of what the kernel lists.
const LIST_BYTES: usize = 32 << 10;

/// What is to be written.
#[derive(Debug)]
pub struct Job<'f> {
    /// The head of the image.
    pub facts: Facts,
    /// The largest that it may be.
    pub max_bytes: u32,
    /// Where the files are.
    pub files: &'f Files,
    /// Which image to write; none for only the mark.
    pub slot: Option<Slot>,
    /// The daemon ends: a mark is written, after the image.
    pub ends: bool,
    /// What the image before it held: if this one would hold the same, it is not written.
    pub digest: Option<u64>,
    /// Something is owed to a sink: what is carried beside the flows counts as content.
    pub owes: bool,
    /// Bytes to keep for what is carried beside the flows.
    pub reserve_bytes: u32,
    /// What is left of the flash budget.
    pub allowance_blocks: u32,
}

/// What became of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// `errno` of what failed, 0 if nothing did, -1 if it has none.
    pub errno: i32,
    /// What failed.
    pub step: Step,
    /// Bytes of the image; 0 if it was not written, since nothing had changed.
    pub bytes: u64,
    /// Flows in it.
    pub flows: u32,
    /// Flows that it had no room for.
    pub cut: u32,
    /// Expectations in it.
    pub expectations: u32,
    /// What it holds, timeouts apart, in one number.
    pub digest: u64,
}

/// Steps of a save that can fail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u32)]
pub enum Step {
    /// Nothing failed.
    #[default]
    None,
    /// Making the process or its socket.
    Start,
    /// Handing over: the worker or this process broke off.
    HandOver,
    /// Making the image.
    Encode,
    /// Writing the file.
    Write,
    /// Writing the mark that it was the last.
    Mark,
}

impl Step {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Start => "making a process",
            Self::HandOver => "handing over",
            Self::Encode => "making the image",
            Self::Write => "writing",
            Self::Mark => "marking it as the last",
        }
    }

    const fn of(number: u32) -> Self {
        match number {
            0 => Self::None,
            1 => Self::Start,
            2 => Self::HandOver,
            3 => Self::Encode,
            4 => Self::Write,
            _ => Self::Mark,
        }
    }
}

impl Outcome {
    /// Words of an outcome.
    pub const WORDS: usize = 9;

    /// It failed at this step.
    #[must_use]
    pub fn failed(step: Step, error: &io::Error) -> Self {
        Self { errno: error.raw_os_error().unwrap_or(-1), step, ..Self::default() }
    }

    fn to_words(self) -> [u32; Self::WORDS] {
        let ([bytes, bytes_high], [digest, digest_high]) =
            (words::halves(self.bytes), words::halves(self.digest));
        let errno = u32::from_ne_bytes(self.errno.to_ne_bytes());
        let (flows, cut, expectations) = (self.flows, self.cut, self.expectations);
        let step = self.step as u32;
        [errno, step, bytes, bytes_high, flows, cut, expectations, digest, digest_high]
    }

    /// The outcome whose words these are.
    #[must_use]
    pub fn of_words(words: &[u32; Self::WORDS]) -> Self {
        let [errno, step, _, _, flows, cut, expectations, _, _] = *words;
        Self {
            errno: i32::from_ne_bytes(errno.to_ne_bytes()),
            step: Step::of(step),
            bytes: words::get_u64(words, 2),
            flows,
            cut,
            expectations,
            digest: words::get_u64(words, 7),
        }
    }
}

/// Does the job, tells the worker what became of it, and ends the process.
pub fn run(job: &Job<'_>, mut socket: UnixStream) -> ! {
    sys::close_all_but(socket.as_fd());
    let outcome =
        save(job, &mut socket).unwrap_or_else(|(step, error)| Outcome::failed(step, &error));
    let mut bytes = [0; Outcome::WORDS * 4];
    words::to_raw(&outcome.to_words(), &mut bytes);
    // If the worker is gone, nobody wants to know.
    let _ = socket.write_all(&bytes);
    sys::exit_at_once(0)
}

fn save(job: &Job<'_>, socket: &mut UnixStream) -> Result<Outcome, (Step, io::Error)> {
    let at = |step: Step| move |error| (step, error);
    let mut memory = EncoderMemory::new();
    let mut image = Image::new(job, &mut memory).map_err(at(Step::Encode))?;
    let mut words = vec![0; MOST_WORDS];
    let mut socket = BufReader::with_capacity(RECEIVE_BYTES, socket);
    loop {
        let (what, count) = receive(&mut socket, &mut words).map_err(at(Step::HandOver))?;
        if what == kind::END {
            break;
        }
        image.take(what, &words[..count]).map_err(at(Step::Encode))?;
    }
    std::fs::create_dir_all(job.files.directory()).map_err(at(Step::Write))?;
    let mut outcome = Outcome::default();
    let ended = core::mem::take(&mut image.ended);
    // What is carried stands in the image, if there is one.
    let mut carried = Vec::new();
    match job.slot {
        Some(slot) => {
            let bytes;
            (bytes, outcome) = image.finish().map_err(at(Step::Encode))?;
            if job.digest != Some(outcome.digest) {
                write(job.files.begin(slot), &bytes).map_err(at(Step::Write))?;
                outcome.bytes = bytes.len() as u64;
            }
        }
        None => carried = image.carried,
    }
    if job.ends {
        let words = [(CARRIED, &*carried), (ENDED, &*ended)];
        let bytes = mark(&job.facts, &words, &mut memory).map_err(at(Step::Mark))?;
        write(job.files.begin_mark(), &bytes).map_err(at(Step::Mark))?;
    }
    Ok(outcome)
}

/// The mark that the image with these facts was the last one, with these words.
fn mark(
    facts: &Facts,
    words: &[(Section, &[u32])],
    memory: &mut EncoderMemory,
) -> io::Result<Vec<u8>> {
    let facts = Facts { orderly: true, ..*facts };
    let mut encoder =
        Encoder::new(memory, Vec::new(), &facts, Limit::default()).map_err(unencodable)?;
    for (section, words) in words {
        encoder.words(*section, 1, words).map_err(unencodable)?;
    }
    Ok(encoder.finish().map_err(unencodable)?.0)
}

/// Puts an image in its place.
fn write(draft: Result<Draft<'_>, FileError>, bytes: &[u8]) -> io::Result<()> {
    let mut draft = draft.map_err(|failed| failed.error)?;
    if let Err(error) = draft.write_all(bytes) {
        // It takes room that the next attempt needs; if it stays, that one removes it.
        let _ = draft.discard();
        return Err(error);
    }
    let now = crate::daemon::clock::now().wall;
    draft.commit(now).map_err(|failed| failed.error)
}

/// The image as it is made.
struct Image<'m> {
    encoder: Encoder<'m, Vec<u8>>,
    /// A sum over all that is in it, in whatever order it came.
    digest: u64,
    flows: u32,
    cut: u32,
    expectations: u32,
    /// Words that come behind the flows.
    carried: Vec<u32>,
    ended: Vec<u32>,
    owes: bool,
    allowance_blocks: u32,
}

impl<'m> Image<'m> {
    fn new(job: &Job<'_>, memory: &'m mut EncoderMemory) -> io::Result<Self> {
        let limit =
            Limit { bytes: Some(job.max_bytes), reserve: job.reserve_bytes.min(job.max_bytes / 2) };
        Ok(Self {
            encoder: Encoder::new(memory, Vec::new(), &job.facts, limit).map_err(unencodable)?,
            digest: 0,
            flows: 0,
            cut: 0,
            expectations: 0,
            carried: Vec::new(),
            ended: Vec::new(),
            owes: job.owes,
            allowance_blocks: job.allowance_blocks,
        })
    }

    fn take(&mut self, what: u32, words: &[u32]) -> io::Result<()> {
        match what {
            kind::FLOW => self.flow(words),
            kind::CARRIED => {
                self.carried.extend_from_slice(words);
                Ok(())
            }
            kind::ENDED => {
                self.ended.extend_from_slice(words);
                Ok(())
            }
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    fn flow(&mut self, words: &[u32]) -> io::Result<()> {
        let flow = frame::get(words).ok_or(io::ErrorKind::InvalidData)?;
        match self.encoder.flow(&flow) {
            Ok(()) => {
                self.flows += 1;
                let mut hash = KeyHash::new64([0, 0]);
                frame::lasting(words).for_each(|part| hash.words(part));
                self.digest = self.digest.wrapping_add(hash.finish64());
                Ok(())
            }
            Err(EncodeError::Full) => {
                self.cut += 1;
                Ok(())
            }
            Err(error) => Err(unencodable(error)),
        }
    }

    fn finish(mut self) -> io::Result<(Vec<u8>, Outcome)> {
        // Without them, what they would announce is refused after the reboot: no more.
        let _ = expectations(&mut |expect| {
            let fits = self.encoder.expectation(expect).is_ok();
            self.expectations += u32::from(fits);
        });
        let mut batch = Batch::new(1, LIST_BYTES)?;
        let addresses = addresses::addresses(&mut batch).unwrap_or_default();
        let router = router::words_of(self.allowance_blocks, &addresses);
        for (section, words) in [(CARRIED, &self.carried), (ROUTER, &router)] {
            self.encoder.words(section, 1, words).map_err(unencodable)?;
        }
        let mut hash = KeyHash::new64([0, 0]);
        hash.words(if self.owes { &self.carried } else { &[] });
        hash.word(self.expectations);
        let digest = self.digest.wrapping_add(hash.finish64());
        let (flows, cut, expectations) = (self.flows, self.cut, self.expectations);
        let (bytes, _) = self.encoder.finish().map_err(unencodable)?;
        Ok((bytes, Outcome { flows, cut, expectations, digest, ..Outcome::default() }))
    }
}

fn unencodable(error: EncodeError) -> io::Error {
    match error {
        EncodeError::Io(error) => error,
        EncodeError::Full => io::Error::from_raw_os_error(nix::libc::EFBIG),
    }
}

/// Asks the kernel for the expectations that there are.
fn expectations(each: &mut dyn FnMut(&SavedExpect)) -> io::Result<()> {
    let socket = RequestSocket::open()?;
    socket.ask(|writer| request::expect_dump(writer, 1, Family::Unspec))?;
    let mut batch = Batch::new(1, LIST_BYTES)?;
    for _ in 0..MOST_PARTS {
        for raw in netlink::next_part(socket.as_fd(), &mut batch)? {
            match Message::parse(&raw) {
                Ok(Message::Expect { expect, .. }) => {
                    SavedExpect::of(&expect).iter().for_each(&mut *each);
                }
                Ok(Message::Done(_) | Message::Response(_)) => return Ok(()),
                _ => {}
            }
        }
    }
    Ok(())
}

/// Receives a frame into `words`: its kind, and how many words it has.
fn receive(socket: &mut impl Read, words: &mut [u32]) -> io::Result<(u32, usize)> {
    let mut first = [0; 4];
    socket.read_exact(&mut first)?;
    let first = u32::from_ne_bytes(first);
    let count = (first & 0xff_ffff) as usize;
    let words = words.get_mut(..count).ok_or(io::ErrorKind::InvalidData)?;
    // A flow is a part or two.
    let mut bytes = [0; 256];
    for part in words.chunks_mut(bytes.len() / 4) {
        let bytes = &mut bytes[..part.len() * 4];
        socket.read_exact(bytes)?;
        words::of_raw(bytes, part);
    }
    Ok((first >> 24, count))
}

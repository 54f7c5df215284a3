//! Reads an image.

use core::ops::ControlFlow;
use std::io::{ErrorKind, Read, Seek, SeekFrom};

use super::coder;
use super::crc::Crc;
use super::flow::{Codec, NO_TUPLE, expectation};
use super::image::{
    BLOCK_HEAD, BLOCK_OVERHEAD, CRC_BYTES, END_BYTES, END_PAYLOAD, FLOWS_HEAD, Facts, Fault,
    FaultKind, HEADER_BYTES, MAGIC, MAX_FLOWS, MAX_HEADER, MAX_PAYLOAD, Section, Summary, VERSION,
    be32, be64,
};
use super::saved::{SavedExpect, SavedFlow};
use crate::table::Extension;
use crate::wire::Status;

/// Words that are handed out at a time.
const PIECE: usize = 256;

/// What is given in place of a flow where one is read.
const NO_FLOW: SavedFlow = SavedFlow {
    orig: NO_TUPLE,
    reply: NO_TUPLE,
    zone: 0,
    zone_orig_only: false,
    status: Status(0),
    mark: 0,
    timeout_s: None,
    l4_state: None,
    counters: None,
    inexact: false,
    start_ms: None,
    rare: Extension {
        labels: None,
        seqadj_orig: None,
        seqadj_reply: None,
        helper: None,
        master: None,
        vtags: None,
        synproxy: None,
        zone_reply: None,
    },
};

const NO_EXPECT: SavedExpect = SavedExpect {
    master: NO_TUPLE,
    tuple: NO_TUPLE,
    mask: NO_TUPLE,
    zone: 0,
    timeout_s: 0,
    flags: 0,
    class: 0,
    helper: None,
    function: None,
    nat: None,
};

/// A whole and sound image, to read.
#[derive(Debug)]
pub struct Reader<R> {
    blocks: Blocks<R>,
    codec: Box<Codec>,
    facts: Facts,
    summary: Summary,
}

/// The blocks of an image, one after the other.
#[derive(Debug)]
struct Blocks<R> {
    input: R,
    /// Where the first one is.
    first: u64,
    /// Where the next one is.
    at: u64,
    buffer: Box<[u8]>,
}

/// A block in the buffer, its checksum right.
#[derive(Clone, Copy, Debug)]
struct Block {
    section: Section,
    count: u16,
    len: usize,
    at: u64,
    crc: [u8; CRC_BYTES],
}

impl Block {
    const fn fault(&self, what: FaultKind) -> Fault {
        Fault { offset: self.at, what }
    }
}

impl<R: Read> Blocks<R> {
    /// Fills the beginning of the buffer, from the place of the next block on.
    fn read(&mut self, from: usize, to: usize) -> Result<(), Fault> {
        let mut done = from;
        while done < to {
            let offset = self.at + done as u64;
            match self.input.read(&mut self.buffer[done..to]) {
                Ok(0) => return Err(Fault { offset, what: FaultKind::Cut }),
                Ok(count) => done += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Fault { offset, what: FaultKind::Io(error.kind()) }),
            }
        }
        Ok(())
    }

    /// The header, and its checksum as it stands there.
    fn header(&mut self) -> Result<(Facts, [u8; CRC_BYTES]), Fault> {
        let fault = |offset, what| Err(Fault { offset, what });
        match self.read(0, HEADER_BYTES) {
            Err(cut) if cut.what == FaultKind::Cut && !self.begins(cut.offset) => {
                return fault(0, FaultKind::NotAnImage);
            }
            done => done?,
        }
        if !self.begins(8) {
            return fault(0, FaultKind::NotAnImage);
        }
        let lengths = be32(&self.buffer, 8);
        let version = crate::words::high_half(lengths);
        let len = usize::from(crate::words::low_half(lengths));
        if version != VERSION {
            return fault(8, FaultKind::Version(version));
        }
        if !(HEADER_BYTES..=MAX_HEADER).contains(&len) {
            return fault(10, FaultKind::BadLength);
        }
        self.read(HEADER_BYTES, len)?;
        let (head, crc) = self.buffer[..len].split_at(len - CRC_BYTES);
        if Crc::of(head) != be32(crc, 0) {
            return fault(0, FaultKind::Checksum);
        }
        let crc = be32(crc, 0).to_be_bytes();
        let facts = self.buffer.first_chunk().map(Facts::read).unwrap_or_default();
        self.first = len as u64;
        self.at = self.first;
        Ok((facts, crc))
    }

    /// Whether what is in the buffer, so many bytes, is or begins the magic.
    fn begins(&self, bytes: u64) -> bool {
        MAGIC.iter().zip(&self.buffer).zip(0..bytes).all(|((a, b), _)| a == b)
    }

    /// The next block.
    fn next(&mut self) -> Result<Block, Fault> {
        let at = self.at;
        self.read(0, BLOCK_HEAD)?;
        let word = be32(&self.buffer, 0);
        let len = usize::try_from(be32(&self.buffer, 4)).unwrap_or(usize::MAX);
        if len > MAX_PAYLOAD {
            return Err(Fault { offset: at + 4, what: FaultKind::BadLength });
        }
        let end = BLOCK_HEAD + len;
        self.read(BLOCK_HEAD, end + CRC_BYTES)?;
        let crc = Crc::of(&self.buffer[..end]);
        let block = Block {
            section: Section::from_number(crate::words::high_half(word)),
            count: crate::words::low_half(word),
            len,
            at,
            crc: crc.to_be_bytes(),
        };
        if crc != be32(&self.buffer, end) {
            return Err(block.fault(FaultKind::Checksum));
        }
        self.at += (end + CRC_BYTES) as u64;
        Ok(block)
    }

    fn payload(&self, block: &Block) -> &[u8] {
        &self.buffer[BLOCK_HEAD..BLOCK_HEAD + block.len]
    }

    /// Nothing comes any more.
    fn end(&mut self) -> Result<(), Fault> {
        match self.read(0, 1) {
            Err(fault) if fault.what == FaultKind::Cut => Ok(()),
            Err(fault) => Err(fault),
            Ok(()) => Err(Fault { offset: self.at, what: FaultKind::BytesAfterEnd }),
        }
    }
}

/// What is looked at when an image is opened.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Depth {
    Checksums,
    Flows,
}

impl<R: Read + Seek> Reader<R> {
    /// Opens an image and verifies all of it: every checksum, every flow and the totals.
    ///
    /// Takes memory for one block and for what flows have in common, about 140 KiB, whatever the
    /// image says; reads no further than the end of the image.
    ///
    /// # Errors
    /// The first fault.
    pub fn open(input: R) -> Result<Self, Fault> {
        Self::open_checked(input, Depth::Flows)
    }

    /// Opens an image that was verified not long ago: checks only that it is whole, by its
    /// checksums. What is told of its flows and expectations is what it says itself.
    ///
    /// # Errors
    /// The first fault.
    pub fn reopen(input: R) -> Result<Self, Fault> {
        Self::open_checked(input, Depth::Checksums)
    }

    fn open_checked(input: R, depth: Depth) -> Result<Self, Fault> {
        let mut blocks =
            Blocks { input, first: 0, at: 0, buffer: vec![0; MAX_PAYLOAD + BLOCK_OVERHEAD].into() };
        rewind(&mut blocks.input, 0)?;
        let (facts, header_crc) = blocks.header()?;
        let summary = Summary::default();
        let mut reader = Self { blocks, codec: Box::new(Codec::new(false)), facts, summary };
        let mut crc = Crc::new();
        crc.update(&header_crc);
        reader.verify(crc, depth)?;
        Ok(reader)
    }

    /// What the header tells.
    #[must_use]
    pub const fn facts(&self) -> &Facts {
        &self.facts
    }

    /// What is in the image.
    #[must_use]
    pub const fn summary(&self) -> &Summary {
        &self.summary
    }

    /// Hands out every flow, until `each` breaks off: blocks as they were written, in each the
    /// flows in the order of their starts. May be called again.
    ///
    /// # Errors
    /// The image cannot be read, or is another one by now.
    pub fn flows(
        &mut self,
        each: &mut dyn FnMut(&SavedFlow) -> ControlFlow<()>,
    ) -> Result<(), Fault> {
        self.codec.clear();
        self.pass(Section::FLOWS, &mut |codec, block, payload| flows(codec, block, payload, each))
    }

    /// Hands out every expectation, until `each` breaks off.
    ///
    /// # Errors
    /// The image cannot be read, or is another one by now.
    pub fn expectations(
        &mut self,
        each: &mut dyn FnMut(&SavedExpect) -> ControlFlow<()>,
    ) -> Result<(), Fault> {
        self.pass(Section::EXPECTATIONS, &mut |_, block, payload| {
            expectations(block, payload, each)
        })
    }

    /// Hands out the words of a section, with the version of its content, a piece at a time, until
    /// `each` breaks off. A section that is not there has no pieces.
    ///
    /// # Errors
    /// The image cannot be read, or is another one by now.
    pub fn words(
        &mut self,
        section: Section,
        each: &mut dyn FnMut(u32, &[u32]) -> ControlFlow<()>,
    ) -> Result<(), Fault> {
        self.pass(section, &mut |_, block, payload| {
            if block.section.is_words() { words(block, payload, each) } else { Ok(GO_ON) }
        })
    }

    /// One pass over the blocks of a section.
    fn pass(&mut self, section: Section, each: &mut Pass<'_>) -> Result<(), Fault> {
        let Self { blocks, codec, .. } = self;
        rewind(&mut blocks.input, blocks.first)?;
        blocks.at = blocks.first;
        loop {
            let block = blocks.next()?;
            if block.section == Section::END {
                return Ok(());
            }
            if block.section == section && each(codec, &block, blocks.payload(&block))?.is_break() {
                return Ok(());
            }
        }
    }

    /// Reads everything once. `crc` is that over the checksums.
    fn verify(&mut self, mut crc: Crc, depth: Depth) -> Result<(), Fault> {
        let Self { blocks, codec, summary, .. } = self;
        loop {
            let block = blocks.next()?;
            let payload = blocks.payload(&block);
            match block.section {
                Section::END => {
                    let bytes = u32::try_from(blocks.at).ok();
                    let totals = [0, 4, 8, 12].map(|at| be32(payload, at));
                    if depth == Depth::Checksums {
                        [summary.flows, summary.ipv6, summary.expectations, _] = totals;
                    }
                    let found = [summary.flows, summary.ipv6, summary.expectations, summary.blocks];
                    if block.len < END_PAYLOAD {
                        return Err(block.fault(FaultKind::BadLength));
                    }
                    if totals != found
                        || bytes != Some(be32(payload, 16))
                        || crc.value() != be32(payload, 20)
                    {
                        return Err(block.fault(FaultKind::Totals));
                    }
                    summary.bytes = bytes.unwrap_or(0);
                    return blocks.end();
                }
                Section::FLOWS | Section::EXPECTATIONS if depth == Depth::Checksums => {}
                Section::FLOWS => {
                    let _ = flows(codec, &block, payload, &mut |flow| {
                        summary.flows = summary.flows.saturating_add(1);
                        summary.ipv6 += u32::from(flow.orig.src.is_ipv6());
                        GO_ON
                    })?;
                }
                Section::EXPECTATIONS => {
                    let _ = expectations(&block, payload, &mut |_| {
                        summary.expectations = summary.expectations.saturating_add(1);
                        GO_ON
                    })?;
                }
                section if section.is_words() => {
                    let _ = words(&block, payload, &mut |_, _| ControlFlow::Break(()))?;
                    let bytes = u32::try_from(block.len).unwrap_or(0).saturating_sub(4);
                    summary.note(section, be32(payload, 0), bytes);
                }
                section => summary.note(section, 0, u32::try_from(block.len).unwrap_or(0)),
            }
            crc.update(&block.crc);
            summary.blocks = summary.blocks.saturating_add(1);
        }
    }
}

/// What is done with a block.
type Pass<'a> = dyn FnMut(&mut Codec, &Block, &[u8]) -> Result<ControlFlow<()>, Fault> + 'a;

const GO_ON: ControlFlow<()> = ControlFlow::Continue(());

fn rewind(input: &mut impl Seek, offset: u64) -> Result<(), Fault> {
    match input.seek(SeekFrom::Start(offset)) {
        Ok(_) => Ok(()),
        Err(error) => Err(Fault { offset, what: FaultKind::Io(error.kind()) }),
    }
}

fn flows(
    codec: &mut Codec,
    block: &Block,
    payload: &[u8],
    each: &mut dyn FnMut(&SavedFlow) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, Fault> {
    let unsound = block.fault(FaultKind::Unsound);
    let mut start_ms = be64(payload, 0);
    let plain = usize::try_from(be32(payload, 8)).map_err(|_| unsound)?;
    let (plain, coded) =
        payload.get(FLOWS_HEAD..).and_then(|rest| rest.split_at_checked(plain)).ok_or(unsound)?;
    if block.count == 0 || usize::from(block.count) > MAX_FLOWS {
        return Err(unsound);
    }
    let mut streams = coder::Reader::new(plain, coded);
    for _ in 0..block.count {
        let flow = codec.flow(&mut streams, &NO_FLOW, &mut start_ms).map_err(|_| unsound)?;
        if streams.is_beyond() {
            return Err(unsound);
        }
        if each(&flow).is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    if streams.is_at_end() { Ok(GO_ON) } else { Err(unsound) }
}

fn expectations(
    block: &Block,
    payload: &[u8],
    each: &mut dyn FnMut(&SavedExpect) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, Fault> {
    let unsound = block.fault(FaultKind::Unsound);
    let mut streams = coder::Reader::plain(payload);
    for _ in 0..block.count {
        let found = expectation(&mut streams, &NO_EXPECT).map_err(|_| unsound)?;
        if streams.is_beyond() {
            return Err(unsound);
        }
        if each(&found).is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    if block.count > 0 && streams.is_at_end() { Ok(GO_ON) } else { Err(unsound) }
}

fn words(
    block: &Block,
    payload: &[u8],
    each: &mut dyn FnMut(u32, &[u32]) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, Fault> {
    if payload.len() < 8 || payload.len() % 4 != 0 || block.count != 0 {
        return Err(block.fault(FaultKind::Unsound));
    }
    let mut piece = [0; PIECE];
    for bytes in payload[4..].chunks(4 * PIECE) {
        let words = bytes.len() / 4;
        for (word, at) in piece.iter_mut().zip((0..bytes.len()).step_by(4)) {
            *word = be32(bytes, at);
        }
        if each(be32(payload, 0), &piece[..words]).is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(GO_ON)
}

const _: () = assert!(MAX_HEADER <= MAX_PAYLOAD && END_BYTES <= MAX_PAYLOAD);

//! Writes an image.

use std::io::{self, Write};

use super::coder::Writer;
use super::crc::Crc;
use super::flow::{Codec, expectation};
use super::image::{
    BLOCK_HEAD, BLOCK_OVERHEAD, CRC_BYTES, END_BYTES, END_PAYLOAD, FLOWS_HEAD, Facts, HEADER_BYTES,
    MAX_FLOWS, MAX_PAYLOAD, Section, SectionSummary, Summary,
};
use super::saved::{SavedExpect, SavedFlow};

/// The most bytes that one flow takes: all that it may have, guessed as badly as can be.
const MAX_FLOW: usize = 512;
/// The same for an IPv4 flow without rare attributes.
const MAX_PLAIN_FLOW: usize = 200;
/// The most bytes that one expectation takes.
const MAX_EXPECT: usize = 224;
/// What the end of the two streams of a block adds.
const STREAM_ENDS: usize = 8;
/// The most words of a block.
const MAX_WORDS: usize = (MAX_PAYLOAD - 4) / 4;

/// Why something is not in the image.
#[derive(Debug)]
pub enum EncodeError {
    /// The size limit leaves no room for it. The image can still be finished.
    Full,
    /// The image could not be written; it is of no use.
    Io(io::Error),
}

impl core::fmt::Display for EncodeError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Full => f.write_str("the size limit leaves no room for it"),
            Self::Io(error) => write!(f, "the image cannot be written: {error}"),
        }
    }
}

impl std::error::Error for EncodeError {}

impl From<io::Error> for EncodeError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// How large an image may become.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limit {
    /// The most bytes of the whole image; none: as many as 32 bits count.
    pub bytes: Option<u32>,
    /// So many of them are kept for expectations and words: flows are refused before.
    pub reserve: u32,
}

/// All the memory that writing an image takes, to be used again.
#[derive(Debug)]
pub struct EncoderMemory {
    codec: Codec,
    streams: Writer,
    block: Box<[u8]>,
    batch: Vec<SavedFlow>,
    /// Starts and places of the batch.
    order: Vec<(Option<u64>, u16)>,
}

impl EncoderMemory {
    /// Allocates it: nothing else here allocates.
    #[must_use]
    pub fn new() -> Self {
        Self {
            codec: Codec::new(true),
            streams: Writer::new(MAX_PAYLOAD),
            block: vec![0; MAX_PAYLOAD + BLOCK_OVERHEAD].into(),
            batch: Vec::with_capacity(MAX_FLOWS),
            order: Vec::with_capacity(MAX_FLOWS),
        }
    }
}

impl Default for EncoderMemory {
    fn default() -> Self {
        Self::new()
    }
}

/// What is being gathered for the next block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Open {
    Nothing,
    /// Flows, in the batch; together at most so many bytes.
    Flows(usize),
    /// So many expectations, in the streams.
    Expectations(u16),
    /// Words of this section and version, so many bytes, in the block.
    Words(Section, u32, usize),
}

/// Writes one image, block by block: see [`image`](super::image).
///
/// What is given first is kept when there is a size limit. An image without [`Self::finish`] is
/// refused by every reader.
#[derive(Debug)]
pub struct Encoder<'m, W: Write> {
    memory: &'m mut EncoderMemory,
    out: W,
    open: Open,
    limit: usize,
    reserve: usize,
    /// Over the checksums of the header and the blocks.
    crc: Crc,
    written: usize,
    summary: Summary,
}

impl<'m, W: Write> Encoder<'m, W> {
    /// Begins an image. A limit below the size of an empty image is taken for that.
    ///
    /// # Errors
    /// The header could not be written.
    pub fn new(
        memory: &'m mut EncoderMemory,
        mut out: W,
        facts: &Facts,
        limit: Limit,
    ) -> Result<Self, EncodeError> {
        memory.codec.clear();
        memory.batch.clear();
        let header = facts.header();
        out.write_all(&header)?;
        let mut crc = Crc::new();
        crc.update(&header[HEADER_BYTES - CRC_BYTES..]);
        let bytes = limit.bytes.unwrap_or(u32::MAX);
        Ok(Self {
            memory,
            out,
            open: Open::Nothing,
            limit: usize::try_from(bytes).unwrap_or(usize::MAX),
            reserve: usize::try_from(limit.reserve).unwrap_or(usize::MAX),
            crc,
            written: HEADER_BYTES,
            summary: Summary::default(),
        })
    }

    /// Adds a flow.
    ///
    /// # Errors
    /// No room for it, or for what was to be written before it.
    pub fn flow(&mut self, flow: &SavedFlow) -> Result<(), EncodeError> {
        let most = bound(flow);
        if self.memory.batch.len() == MAX_FLOWS || !matches!(self.open, Open::Flows(_)) {
            self.close()?;
        }
        if !self.has_room(self.pending() + most, self.reserve) {
            // What the batch really takes is far less than the most it may take.
            self.close()?;
            if !self.has_room(most, self.reserve) {
                return Err(EncodeError::Full);
            }
        }
        self.open = Open::Flows(self.pending() + most);
        self.memory.batch.push(*flow);
        self.summary.flows += 1;
        self.summary.ipv6 += u32::from(flow.orig.src.is_ipv6());
        Ok(())
    }

    /// Adds an expectation.
    ///
    /// # Errors
    /// No room for it, or for what was to be written before it.
    pub fn expectation(&mut self, given: &SavedExpect) -> Result<(), EncodeError> {
        let count = match self.open {
            Open::Expectations(count) => count,
            _ => {
                self.close()?;
                self.memory.streams.clear();
                0
            }
        };
        if !self.has_room(self.pending() + MAX_EXPECT, 0) {
            return Err(EncodeError::Full);
        }
        self.open = Open::Expectations(count + 1);
        let _ = expectation(&mut self.memory.streams, given);
        self.summary.expectations += 1;
        if self.memory.streams.len() + MAX_EXPECT + STREAM_ENDS > MAX_PAYLOAD {
            self.close()?;
        }
        Ok(())
    }

    /// Adds words to a section: its whole content or the next piece of it. `version` is that of
    /// the content.
    ///
    /// # Errors
    /// No room for them: none is added. Or no room for what was to be written before them.
    pub fn words(
        &mut self,
        section: Section,
        version: u32,
        words: &[u32],
    ) -> Result<(), EncodeError> {
        if !matches!(self.open, Open::Words(s, v, _) if (s, v) == (section, version)) {
            self.close()?;
        }
        let blocks = words.len() / MAX_WORDS + 1;
        let most = words.len().saturating_mul(4).saturating_add(blocks * (BLOCK_OVERHEAD + 4));
        if !self.has_room(self.pending().saturating_add(most), 0) {
            return Err(EncodeError::Full);
        }
        for &word in words {
            let mut len = match self.open {
                Open::Words(_, _, len) => len,
                _ => self.put(0, version),
            };
            len = self.put(len, word);
            self.open = Open::Words(section, version, len);
            if len == MAX_PAYLOAD {
                self.close()?;
            }
        }
        Ok(())
    }

    /// Ends the image, and gives back what it was written to and what is in it.
    ///
    /// # Errors
    /// It could not be written.
    pub fn finish(mut self) -> Result<(W, Summary), EncodeError> {
        self.close()?;
        let Summary { flows, ipv6, expectations, blocks, .. } = self.summary;
        let bytes = u32::try_from(self.written + END_BYTES).unwrap_or(u32::MAX);
        let mut at = 0;
        for word in [flows, ipv6, expectations, blocks, bytes, self.crc.value()] {
            at = self.put(at, word);
        }
        self.emit(Section::END, 0, END_PAYLOAD)?;
        self.summary.blocks = blocks;
        self.summary.bytes = bytes;
        self.out.flush()?;
        Ok((self.out, self.summary))
    }

    /// Whether `more` bytes of content fit, with the last block after them.
    fn has_room(&self, more: usize, reserve: usize) -> bool {
        let ends = BLOCK_OVERHEAD + FLOWS_HEAD + STREAM_ENDS + END_BYTES;
        more.checked_add(ends)
            .and_then(|more| more.checked_add(reserve))
            .and_then(|more| more.checked_add(self.written))
            .is_some_and(|bytes| bytes <= self.limit)
    }

    /// The most bytes of content that wait for their block.
    fn pending(&self) -> usize {
        match self.open {
            Open::Nothing => 0,
            Open::Flows(most) => most,
            Open::Expectations(_) => self.memory.streams.len(),
            Open::Words(_, _, len) => len,
        }
    }

    /// Puts a word into the payload at `at`; gives the place after it.
    fn put(&mut self, at: usize, word: u32) -> usize {
        let from = BLOCK_HEAD + at;
        self.memory.block[from..from + 4].copy_from_slice(&word.to_be_bytes());
        at + 4
    }

    /// Writes what waits for its block.
    fn close(&mut self) -> Result<(), EncodeError> {
        match core::mem::replace(&mut self.open, Open::Nothing) {
            Open::Nothing => Ok(()),
            Open::Flows(_) => self.close_flows(),
            Open::Expectations(count) => {
                let (plain, _) = self.memory.streams.finish();
                let len = plain.len();
                self.memory.block[BLOCK_HEAD..BLOCK_HEAD + len].copy_from_slice(plain);
                self.emit(Section::EXPECTATIONS, count, len)
            }
            Open::Words(section, version, len) => {
                let bytes = u32::try_from(len).unwrap_or(0).saturating_sub(4);
                self.summary.note(section, version, bytes);
                self.emit(section, 0, len)
            }
        }
    }

    /// Writes the batch, in the order of starts: as one block, or several if its flows have much.
    fn close_flows(&mut self) -> Result<(), EncodeError> {
        let EncoderMemory { batch, order, .. } = self.memory;
        order.clear();
        order.extend(batch.iter().zip(0..).map(|(flow, place)| (flow.start_ms, place)));
        order.sort_unstable();
        let mut from = 0;
        while let Some((first, _)) = self.memory.order.get(from) {
            let first = first.unwrap_or(0);
            let count = self.encode_flows(from, first);
            from += usize::from(count);
            let (plain, coded) = self.memory.streams.finish();
            let block = &mut self.memory.block[BLOCK_HEAD..];
            block[..8].copy_from_slice(&first.to_be_bytes());
            let plain_len = u32::try_from(plain.len()).unwrap_or(0);
            block[8..FLOWS_HEAD].copy_from_slice(&plain_len.to_be_bytes());
            let middle = FLOWS_HEAD + plain.len();
            let len = middle + coded.len();
            block[FLOWS_HEAD..middle].copy_from_slice(plain);
            block[middle..len].copy_from_slice(coded);
            self.emit(Section::FLOWS, count, len)?;
        }
        self.memory.batch.clear();
        Ok(())
    }

    /// Encodes flows, from one on, as many as a block is sure to hold.
    fn encode_flows(&mut self, from: usize, first: u64) -> u16 {
        let EncoderMemory { codec, streams, batch, order, .. } = &mut *self.memory;
        let mut start_ms = first;
        let mut count = 0;
        streams.clear();
        for (_, place) in &order[from..] {
            if streams.len() + MAX_FLOW + STREAM_ENDS + FLOWS_HEAD > MAX_PAYLOAD {
                break;
            }
            // Only reading can fail.
            let _ = codec.flow(streams, &batch[usize::from(*place)], &mut start_ms);
            count += 1;
        }
        count
    }

    /// Writes the block whose payload is in place.
    fn emit(&mut self, section: Section, count: u16, len: usize) -> Result<(), EncodeError> {
        let block = &mut self.memory.block;
        block[..2].copy_from_slice(&section.number().to_be_bytes());
        block[2..4].copy_from_slice(&count.to_be_bytes());
        block[4..BLOCK_HEAD].copy_from_slice(&u32::try_from(len).unwrap_or(0).to_be_bytes());
        let end = BLOCK_HEAD + len;
        let crc = Crc::of(&block[..end]).to_be_bytes();
        block[end..end + CRC_BYTES].copy_from_slice(&crc);
        self.out.write_all(&block[..end + CRC_BYTES])?;
        self.written += end + CRC_BYTES;
        self.crc.update(&crc);
        self.summary.blocks += 1;
        Ok(())
    }
}

/// The most bytes that a flow takes.
fn bound(flow: &SavedFlow) -> usize {
    let ipv6 = flow.orig.src.is_ipv6() || flow.orig.dst.is_ipv6();
    let other =
        flow.reply.src.is_ipv6() || flow.reply.dst.is_ipv6() || flow.orig.proto != flow.reply.proto;
    if ipv6 || other || !flow.rare.is_empty() { MAX_FLOW } else { MAX_PLAIN_FLOW }
}

impl Summary {
    pub(super) fn note(&mut self, section: Section, version: u32, bytes: u32) {
        let same = |s: &&mut SectionSummary| (s.section, s.version) == (section, version);
        match self.sections.iter_mut().find(same) {
            Some(known) => known.bytes = known.bytes.saturating_add(bytes),
            // More than there is room for are not listed.
            None => drop(self.sections.push(SectionSummary { section, version, bytes })),
        }
    }
}

//! The image: what stands where, so that anybody can write a second reader.
//!
//! All numbers are big-endian, whatever the machine. A CRC is CRC-32 as zlib has it. "`x` bits"
//! means plain bits, see below; `a..b` are bytes, the last one excluded.
//!
//! # Frame
//!
//! The header:
//!
//! | bytes | |
//! |---|---|
//! | 0..8 | `FWCTDckp` |
//! | 8..10 | version of the format: 1. Another one is refused |
//! | 10..12 | bytes of the header, 64 to 1024, its CRC included |
//! | 12..16 | bit 0: the wall clock was known to be right; bit 1: this is a mark, see below; others are not looked at |
//! | 16..24 | generation |
//! | 24..40 | boot id |
//! | 40..48 | when it was saved: wall clock, nanoseconds since 1970 |
//! | 48..56 | when it was saved: milliseconds since the boot |
//! | 56..60 | 0, not looked at; a longer header has more after it |
//! | last 4 | CRC of all before |
//!
//! Then blocks, one after the other; the file ends with the last:
//!
//! | bytes | |
//! |---|---|
//! | 0..2 | section |
//! | 2..4 | count |
//! | 4..8 | length of the payload, at most 32,768 |
//! | 8.. | payload |
//! | last 4 | CRC of the whole block before it |
//!
//! | section | count | payload |
//! |---|---|---|
//! | 1, flows | 1 to 1,024 flows | u64: base of the starts; u32: bytes of plain bits; the plain bits; the coded symbols |
//! | 2, expectations | expectations, not 0 | plain bits |
//! | 3, end | not looked at | u32 each: flows; those of them whose original source is IPv6; expectations; blocks before this one; bytes of the whole image; CRC over the CRCs of the header and of all blocks before this one, as they stand. More may follow |
//! | 0x100 to 0x1ff, words | 0 | u32: version of the content; then u32 words, at least one. Blocks of one section are pieces of one content |
//! | others | | skipped |
//!
//! A **mark** is an image without flows. It tells that the daemon ended, as it was told to, after
//! the image of the same generation and boot id; words in it stand for those of the image.
//!
//! # Plain bits and coded symbols
//!
//! A block of flows has two streams. **Plain bits** are packed from the highest bit of the first
//! byte on, the highest bit of a value first; the last byte is filled up with zeros. **Symbols**
//! of 0 to 31 go through a range coder (G. N. N. Martin, 1979, in the form with carry). The reader
//! has `code`, the first four bytes, and `range` = 2^32 - 1. To read a symbol of an alphabet:
//!
//! ```text
//! unit = range >> 12                       (division without rest throughout)
//! at = code / unit
//! symbol = the s for which starts[s] <= at < starts[s + 1]; the last if there is none
//! code = code - unit * starts[symbol]
//! range = unit * (starts[symbol + 1] - starts[symbol])
//! while range < 2^24: code = (code << 8) + next byte, modulo 2^32; range = range << 8
//! ```
//!
//! Both streams are read to their very end by the flows of the block, no byte more or less. (The
//! writer has `low` = 0 and `range`; it adds `unit * starts[symbol]` to `low`, a carry goes into
//! the bytes already written; instead of taking in a byte it puts out the highest of `low`; at the
//! end of the block it puts out all four.)
//!
//! An **alphabet** is 33 `starts`, first 0, 128, 256 ... 4096; 32 `counts`, first all 1; `period` =
//! `left` = 16. After each of its symbols: `counts[symbol]` += 4, `left` -= 1. When `left` is 0:
//!
//! ```text
//! starts[s] = s + (counts[0] + ... + counts[s - 1]) * 4064 / (sum of all counts)
//! if period == 1024: every count = count / 2, else period = period * 2
//! left = period
//! ```
//!
//! Alphabets, dictionaries and kinds live over the whole image; the range coder and the bits begin
//! anew with every block.
//!
//! A **number** of width `w` has an alphabet of lengths. Symbol 0: 0. Symbol `n` from 1 to 29: a
//! one, followed by `n` - 1 bits. Symbol 30: `w` bits. Symbol 31: there is none, where that can be;
//! elsewhere it is unsound. Of a number of width 16, only the lowest 16 bits count. (The writer
//! takes 30 for whatever is longer than 29 bits.)
//!
//! # Flows
//!
//! The flows of a block are in the order of their starts, those without first. Each is these
//! things, in this order:
//!
//! **Kind.** A symbol `u` of the alphabet *upper*. If it is below 16, a symbol `l` (below 16) of
//! the alphabet *lower*\[`u`\]: the kind in slot `16 u + l`, which must be there. If it is 16, five
//! numbers of width 32, each with lengths of its own: the words of a new kind, each XORed with the
//! same word of the last new kind (first zeros). It gets slot 0, the next one slot 1, after slot
//! 255 again 0. The words: status bits; mark; TCP or SCTP state, window scales, flags of the
//! original and of the reply direction, a byte each (0 if there are none); zone in the upper half
//! and protocol in the lowest byte (the byte between is 0); and these bits:
//!
//! | bit | |
//! |---|---|
//! | 0, 1 | the original source, destination is IPv6 |
//! | 2, 3 | form of what identifies it: 0 none, 1 ports, 2 ICMP |
//! | 4 | the zone is of the original direction alone |
//! | 5 | the counters are a lower bound |
//! | 6, 7, 8, 9 | there is: a TCP or SCTP state; counters; a timeout; a start |
//! | 10, 11, 12 | source; destination; ports or ICMP triple of the reply are told, else they are those of the original's answer |
//! | 13 | the reply is told as a whole (bits 10 to 12 are then not looked at) |
//! | 16 to 23 | there are: labels; sequence adjustment of the original, of the reply direction; helper; master; SCTP tags; SYN proxy; zone of the reply |
//!
//! Other bits are refused. Lengths of starts, ports, timeouts and counters below are kept three
//! times: for TCP, for UDP, for all else.
//!
//! **Start**, if bit 9: a number of width 64, milliseconds after the start before it in this block,
//! or after the base (which is the first start of the block).
//!
//! **Original source, then destination**: an address of the role *source*, of the role
//! *destination*. Each role has a dictionary for IPv4 and one for IPv6, of at most 2,048 and 512
//! (source), 4,096 and 2,048 (destination), 256 and 64 (*translated*) addresses. An address is a
//! number of width 16, if there is one: its place in the dictionary. If there is none, a number of
//! width 32 for each word (one or four, each with lengths of its own), XORed with the same word of
//! the last address that was told so in this dictionary (first zeros); it gets the next place, if
//! the dictionary is not full.
//!
//! **Original ports**, with form 1: a number of width 16, the source port; a number of width 16, if
//! there is one: the destination port. If there is none, it is the port noted for the destination
//! address: with each place of the dictionary the last destination port is noted (first 0), and
//! with one place more for all addresses that have none. With form 2, 32 bits: identifier (16),
//! type and code.
//!
//! **Reply**, if bit 13, as a tuple in plain bits (below). Else it is the answer to the original:
//! source and destination exchanged, ports too; ICMP types 0 and 8, 13 and 14, 15 and 16, 17 and
//! 18, ICMPv6 types 128 and 129, 139 and 140 exchanged. If bit 10, the source is an address of the
//! role *translated*, of the family it had; if bit 11, the destination. If bit 12, with ports:
//! source, then destination port, each a number of width 16 (lengths of its own), if there is one,
//! else unchanged; with ICMP, 32 bits as above.
//!
//! **Timeout**, if bit 8: a number of width 32, if there is one: so much shorter than the longest
//! timeout of the kind so far (first 0; forgotten with the slot). If there is none, a number of
//! width 32 with lengths of its own: so much longer.
//!
//! **Counters**, if bit 7: for the original, then the reply direction, each with lengths of its own:
//! packets, a number of width 64; whole bytes a packet, a number of width 64; the rest in truncated
//! binary. With 0 packets, divide by 1. A rest below `p` packets: none if `p` is 1; else, with `k`
//! the largest for which 2^k <= p - 1, and `short` = 2^(k + 1) - p: `k` bits, `v`; if `v` < `short`
//! it is the rest, else it is 2 `v` + one bit more - `short`.
//!
//! **The rare**, all in plain bits. Bit 16: 128 bits of labels. Bits 17, 18: position, offset
//! before and after, 32 bits each. Bit 19: a name. Bit 20: a tuple. Bit 21: two tags of 32 bits.
//! Bit 22: initial sequence number, timestamp, offset, 32 bits each. Bit 23: 16 bits.
//!
//! A **name** is 5 bits, the bytes up to the last that is not NUL (at most 16), and these. A
//! **tuple in plain bits** is: 1 bit, the source is IPv6; 1 bit, the destination is; 8 bits of
//! protocol; 2 bits of form; 32 or 128 bits of source, the same of destination; 32 bits, two ports
//! or the ICMP triple, unless the form is 0.
//!
//! # Expectations
//!
//! Each is: master, tuple, mask, as tuples in plain bits; 16 bits of zone; timeout in seconds,
//! flags, class, 32 bits each; 1 bit and, if it is set, the helper's name; the same for the
//! function; 1 bit and, if it is set, 32 bits of direction and a tuple: its NAT.
//!
//! # Refused
//!
//! Whatever is not as written here, with the first fault and its place: a wrong checksum, a length
//! beyond the end, a place or slot that is not filled, a form of 3, a sum that does not fit its
//! type. So an image that is cut anywhere, or has any bit flipped, is none. A reader needs memory
//! for one block and for what flows have in common, whatever the image says.

use core::fmt;

use super::crc::Crc;
use crate::words;

/// What an image begins with.
pub const MAGIC: [u8; 8] = *b"FWCTDckp";
/// The version of the format that is written and read.
pub const VERSION: u16 = 1;
/// Bytes of a header of this version.
pub const HEADER_BYTES: usize = 64;
/// The longest header that is read: later versions may add to it.
pub(super) const MAX_HEADER: usize = 1024;
/// The longest payload of a block.
pub const MAX_PAYLOAD: usize = 32_768;
/// Bytes of a block beside its payload: section, count and length before it, CRC after it.
pub const BLOCK_OVERHEAD: usize = 12;
/// Bytes of the last block.
pub const END_BYTES: usize = BLOCK_OVERHEAD + END_PAYLOAD;
pub(super) const END_PAYLOAD: usize = 24;
pub(super) const BLOCK_HEAD: usize = 8;
pub(super) const CRC_BYTES: usize = 4;
/// Bytes before the plain bits of a block of flows.
pub(super) const FLOWS_HEAD: usize = 12;
/// The most flows of a block.
pub const MAX_FLOWS: usize = 1024;

const SYNCHRONISED: u32 = 1;
const ORDERLY: u32 = 1 << 1;

/// What a block is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Section(u16);

impl Section {
    pub(super) const FLOWS: Self = Self(1);
    pub(super) const EXPECTATIONS: Self = Self(2);
    pub(super) const END: Self = Self(3);
    const WORDS: u16 = 0x100;

    /// A section of words; what they mean is the business of who saves them.
    #[must_use]
    pub const fn words(number: u8) -> Self {
        Self(Self::WORDS | number as u16)
    }

    /// The number as it stands in the image.
    #[must_use]
    pub const fn number(self) -> u16 {
        self.0
    }

    pub(super) const fn from_number(number: u16) -> Self {
        Self(number)
    }

    /// Whether it is a section of words.
    #[must_use]
    pub const fn is_words(self) -> bool {
        self.0 & 0xff00 == Self::WORDS
    }
}

/// What the header of an image tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Counts the images: the later one has the higher generation.
    pub generation: u64,
    /// The kernel's id of the boot in which it was saved.
    pub boot_id: [u8; 16],
    /// When it was saved, wall clock in nanoseconds since 1970.
    pub wall_ns: u64,
    /// When it was saved, in milliseconds since that boot.
    pub boot_ms: u64,
    /// The wall clock was known to be right.
    pub synchronised: bool,
    /// It is a mark: the daemon ended after the image of this generation, as it was told to.
    pub orderly: bool,
}

impl Facts {
    pub(super) fn header(&self) -> [u8; HEADER_BYTES] {
        let flag = |set: bool, bit: u32| if set { bit } else { 0 };
        let flags = flag(self.synchronised, SYNCHRONISED) | flag(self.orderly, ORDERLY);
        let mut header = [0; HEADER_BYTES];
        let mut at = 0;
        let mut put = |bytes: &[u8]| {
            header[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
        };
        put(&MAGIC);
        put(&VERSION.to_be_bytes());
        put(&[0, 64]);
        put(&flags.to_be_bytes());
        put(&self.generation.to_be_bytes());
        put(&self.boot_id);
        put(&self.wall_ns.to_be_bytes());
        put(&self.boot_ms.to_be_bytes());
        put(&[0; 4]);
        let crc = Crc::of(&header[..HEADER_BYTES - CRC_BYTES]);
        header[HEADER_BYTES - CRC_BYTES..].copy_from_slice(&crc.to_be_bytes());
        header
    }

    /// The facts of a header whose CRC was right.
    pub(super) fn read(header: &[u8; HEADER_BYTES]) -> Self {
        let flags = be32(header, 12);
        Self {
            generation: be64(header, 16),
            boot_id: words::to_bytes([24, 28, 32, 36].map(|at| be32(header, at))),
            wall_ns: be64(header, 40),
            boot_ms: be64(header, 48),
            synchronised: flags & SYNCHRONISED != 0,
            orderly: flags & ORDERLY != 0,
        }
    }
}

/// The word at `at`; zero where there is none.
pub(super) fn be32(bytes: &[u8], at: usize) -> u32 {
    let word = bytes.get(at..).and_then(|rest| rest.first_chunk::<4>());
    u32::from_be_bytes(word.copied().unwrap_or_default())
}

pub(super) fn be64(bytes: &[u8], at: usize) -> u64 {
    u64::from(be32(bytes, at)) << 32 | u64::from(be32(bytes, at + 4))
}

/// What is in an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Flows of both families.
    pub flows: u32,
    /// Those of them whose original source is an IPv6 address.
    pub ipv6: u32,
    /// Expectations.
    pub expectations: u32,
    /// Blocks, without the last, which ends the image.
    pub blocks: u32,
    /// Bytes of the whole image.
    pub bytes: u32,
    /// Sections of words, and sections that this version does not know, the first 16.
    pub sections: heapless::Vec<SectionSummary, 16>,
}

/// What is in a section of words, or in one that is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SectionSummary {
    /// Which one.
    pub section: Section,
    /// The version of its content; 0 if the section is not known.
    pub version: u32,
    /// Bytes of content.
    pub bytes: u32,
}

/// Why an image is refused, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Bytes from the beginning of the file: of what is wrong, or of the block in which it is.
    pub offset: u64,
    /// What is wrong.
    pub what: FaultKind,
}

/// What is wrong with an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// It does not begin as an image does.
    NotAnImage,
    /// It is of a version that is not known here.
    Version(u16),
    /// It ends before its end.
    Cut,
    /// A length that no writer writes.
    BadLength,
    /// A checksum is wrong.
    Checksum,
    /// Content that no writer writes, under a right checksum.
    Unsound,
    /// The totals at its end are not those of what is before.
    Totals,
    /// Something comes after its end.
    BytesAfterEnd,
    /// It cannot be read.
    Io(std::io::ErrorKind),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "byte {}: ", self.offset)?;
        f.write_str(match self.what {
            FaultKind::NotAnImage => "this is no checkpoint",
            FaultKind::Version(version) => {
                return write!(f, "format version {version} is not known; this program reads 1");
            }
            FaultKind::Cut => "it ends in the middle",
            FaultKind::BadLength => "a length cannot be right",
            FaultKind::Checksum => "a checksum is wrong",
            FaultKind::Unsound => "the content makes no sense",
            FaultKind::Totals => "the totals at the end do not agree with what is before",
            FaultKind::BytesAfterEnd => "something comes after the end",
            FaultKind::Io(kind) => return write!(f, "it cannot be read: {kind}"),
        })
    }
}

impl core::error::Error for Fault {}

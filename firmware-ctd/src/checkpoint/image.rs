//! The image: what stands where.

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
    /// The daemon ended after it, as it was told to.
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

impl Fault {
    /// The file cannot be read.
    #[must_use]
    pub fn io(error: &std::io::Error) -> Self {
        Self { offset: 0, what: FaultKind::Io(error.kind()) }
    }
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

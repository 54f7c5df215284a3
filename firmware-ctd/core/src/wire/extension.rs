//! The smaller parts of a conntrack entry: counters, timestamps, labels, helper, sequence
//! adjustments, SYN proxy and security context.
//!
//! A part that has several values is taken whole: if one is absent, the message is refused.
//!
//! Source: `enum ctattr_counters`, `ctattr_tstamp`, `ctattr_help`, `ctattr_seqadj`,
//! `ctattr_synproxy`, `ctattr_secctx`.

use super::error::{Error, Full};
use super::nla::{Attribute, AttributeWriter, Attributes, be32_fields};

/// `enum ctattr_counters`.
mod cta_counters {
    pub(super) const PACKETS: u16 = 1;
    pub(super) const BYTES: u16 = 2;
    pub(super) const PACKETS32: u16 = 3;
    pub(super) const BYTES32: u16 = 4;
}

/// `enum ctattr_tstamp`.
mod cta_timestamp {
    pub(super) const START: u16 = 1;
    pub(super) const STOP: u16 = 2;
}

/// `enum ctattr_help`.
mod cta_help {
    pub(super) const NAME: u16 = 1;
    pub(super) const INFO: u16 = 2;
}

/// `enum ctattr_secctx`.
mod cta_secctx {
    pub(super) const NAME: u16 = 1;
}

/// `CTA_COUNTERS_*` of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Counters {
    /// Packets.
    pub packets: u64,
    /// Bytes, counted from the IP header on.
    pub bytes: u64,
}

/// `CTA_LABELS`: up to 128 connection labels.
///
/// Bytes as on the wire; label *n* is bit `n % 8` of byte `n / 8` on a little-endian kernel. The
/// kernel writes an array of `unsigned long`, so the bytes are the kernel's own order and are
/// carried as they came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Labels(pub [u8; 16]);

/// `CTA_HELP`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Helper<'a> {
    /// Name without its NUL, at most 15 bytes from a kernel.
    pub name: &'a [u8],
    /// `CTA_HELP_INFO`, private to the helper.
    pub info: Option<&'a [u8]>,
}

/// `CTA_SEQ_ADJ_*` of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SeqAdj {
    /// Sequence number of the last adjustment.
    pub correction_pos: u32,
    /// Offset before it.
    pub offset_before: u32,
    /// Offset after it.
    pub offset_after: u32,
}

/// `CTA_SYNPROXY`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SynProxy {
    /// Initial sequence number of the client.
    pub isn: u32,
    /// Initial timestamp.
    pub its: u32,
    /// Timestamp offset.
    pub tsoff: u32,
}

impl Counters {
    /// Reads what a `CTA_COUNTERS_*` holds: the 64-bit counters, or those of 32 bits that kernels
    /// before 2.6.29 sent.
    #[inline]
    pub(super) fn parse(nest: Attributes<'_>) -> Result<Self, Error> {
        let (mut packets, mut bytes) = (None, None);
        let (mut packets32, mut bytes32) = (None, None);
        for attribute in nest {
            let attribute = attribute?;
            match attribute.kind {
                cta_counters::PACKETS => packets = Some(attribute.be64()?),
                cta_counters::BYTES => bytes = Some(attribute.be64()?),
                cta_counters::PACKETS32 => packets32 = Some(attribute.be32()?.into()),
                cta_counters::BYTES32 => bytes32 = Some(attribute.be32()?.into()),
                _ => {}
            }
        }
        let packets = packets.or(packets32).ok_or(Error::Missing)?;
        let bytes = bytes.or(bytes32).ok_or(Error::Missing)?;
        Ok(Self { packets, bytes })
    }

    /// Writes them as attribute `kind`, 64 bits each.
    pub(super) fn emit(self, w: &mut AttributeWriter<'_, '_>, kind: u16) -> Result<(), Full> {
        w.nest(kind, |w| {
            w.be64(cta_counters::PACKETS, self.packets)?;
            w.be64(cta_counters::BYTES, self.bytes)
        })
    }
}

/// What a `CTA_TIMESTAMP` holds: wall clock in nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Timestamps {
    pub(super) start_ns: Option<u64>,
    pub(super) stop_ns: Option<u64>,
}

impl Timestamps {
    #[inline]
    pub(super) fn parse(nest: Attributes<'_>) -> Result<Self, Error> {
        let mut times = Self::default();
        for attribute in nest {
            let attribute = attribute?;
            match attribute.kind {
                cta_timestamp::START => times.start_ns = Some(attribute.be64()?),
                cta_timestamp::STOP => times.stop_ns = Some(attribute.be64()?),
                _ => {}
            }
        }
        Ok(times)
    }

    /// Writes them as attribute `kind`, unless both are absent.
    pub(super) fn emit(self, w: &mut AttributeWriter<'_, '_>, kind: u16) -> Result<(), Full> {
        if self.start_ns.is_none() && self.stop_ns.is_none() {
            return Ok(());
        }
        w.nest(kind, |w| {
            w.optional(self.start_ns, |w, time| w.be64(cta_timestamp::START, time))?;
            w.optional(self.stop_ns, |w, time| w.be64(cta_timestamp::STOP, time))
        })
    }
}

/// Bytes of a word of the kernel's.
const LONG: usize = size_of::<core::ffi::c_ulong>();

impl Labels {
    /// Label N as bit N. The kernel keeps an array of words in the machine's own order, so the same
    /// bytes mean other labels on another board.
    #[must_use]
    pub fn to_bits(self) -> u128 {
        let longs = self.0.chunks_exact(LONG).rev();
        longs.fold(0, |bits, long| {
            let bytes = long.iter().copied();
            let number = if cfg!(target_endian = "big") {
                bytes.fold(0, |number, byte| number << 8 | u128::from(byte))
            } else {
                bytes.rev().fold(0, |number, byte| number << 8 | u128::from(byte))
            };
            bits << (8 * LONG) | number
        })
    }

    /// The reverse of [`Self::to_bits`].
    #[must_use]
    pub fn from_bits(bits: u128) -> Self {
        let mut labels = Self(bits.to_le_bytes());
        if cfg!(target_endian = "big") {
            labels.0.chunks_exact_mut(LONG).for_each(<[u8]>::reverse);
        }
        labels
    }

    /// Reads `CTA_LABELS`: fewer bytes are filled up with zeros, more are left out (no kernel has
    /// more than 128 labels).
    pub(super) fn parse(attribute: &Attribute<'_>) -> Self {
        let mut labels = Self::default();
        for (to, from) in labels.0.iter_mut().zip(attribute.value) {
            *to = *from;
        }
        labels
    }
}

impl<'a> Helper<'a> {
    /// Reads what a `CTA_HELP` holds.
    pub(super) fn parse(nest: Attributes<'a>) -> Result<Self, Error> {
        let (mut name, mut info) = (None, None);
        for attribute in nest {
            let attribute = attribute?;
            match attribute.kind {
                cta_help::NAME => name = Some(attribute.text()),
                cta_help::INFO => info = Some(attribute.value),
                _ => {}
            }
        }
        Ok(Self { name: name.ok_or(Error::Missing)?, info })
    }

    /// Writes it as attribute `kind`.
    pub(super) fn emit(&self, w: &mut AttributeWriter<'_, '_>, kind: u16) -> Result<(), Full> {
        w.nest(kind, |w| {
            w.text(cta_help::NAME, self.name)?;
            w.optional(self.info, |w, info| w.bytes(cta_help::INFO, info))
        })
    }
}

impl SeqAdj {
    /// Reads what a `CTA_SEQ_ADJ_*` holds.
    pub(super) fn parse(nest: Attributes<'_>) -> Result<Self, Error> {
        let [correction_pos, offset_before, offset_after] = three(nest)?;
        Ok(Self { correction_pos, offset_before, offset_after })
    }

    /// Writes it as attribute `kind`.
    pub(super) fn emit(self, w: &mut AttributeWriter<'_, '_>, kind: u16) -> Result<(), Full> {
        let fields = [self.correction_pos, self.offset_before, self.offset_after];
        w.nest(kind, |w| w.be32_fields(&fields.map(Some)))
    }
}

impl SynProxy {
    /// Reads what a `CTA_SYNPROXY` holds.
    pub(super) fn parse(nest: Attributes<'_>) -> Result<Self, Error> {
        let [isn, its, tsoff] = three(nest)?;
        Ok(Self { isn, its, tsoff })
    }

    /// Writes it as attribute `kind`.
    pub(super) fn emit(self, w: &mut AttributeWriter<'_, '_>, kind: u16) -> Result<(), Full> {
        w.nest(kind, |w| w.be32_fields(&[self.isn, self.its, self.tsoff].map(Some)))
    }
}

/// The values of attributes 1, 2 and 3, all of them.
fn three(nest: Attributes<'_>) -> Result<[u32; 3], Error> {
    match be32_fields(nest)? {
        [Some(first), Some(second), Some(third)] => Ok([first, second, third]),
        _ => Err(Error::Missing),
    }
}

/// Reads what a `CTA_SECCTX` holds: the name without its NUL.
pub(super) fn parse_secctx(nest: Attributes<'_>) -> Result<&[u8], Error> {
    let mut name = None;
    for attribute in nest {
        let attribute = attribute?;
        if attribute.kind == cta_secctx::NAME {
            name = Some(attribute.text());
        }
    }
    name.ok_or(Error::Missing)
}

/// Writes a security context as attribute `kind`.
pub(super) fn emit_secctx(
    w: &mut AttributeWriter<'_, '_>,
    kind: u16,
    name: &[u8],
) -> Result<(), Full> {
    w.nest(kind, |w| w.text(cta_secctx::NAME, name))
}

//! What a flow is looked up by: its original tuple and the zone of that direction.

use core::net::IpAddr;

use crate::hash::TableHash;
use crate::wire::{L4, Protocol, Tuple};
use crate::words::{self, low_half};

/// Set in the kind word of an IPv6 flow.
const KIND_IPV6: u32 = 1 << 16;
/// Where the kind of layer 4 stands in the kind word.
const KIND_L4_SHIFT: u32 = 17;

/// An original tuple and its zone as the words that the table stores and compares.
///
/// Words 0 to 3 are source, destination, layer 4, and kind; with IPv6 six more hold the rest of
/// both addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    first: [u32; 4],
    rest: Option<[u32; 6]>,
    hash: u32,
}

impl Key {
    /// The key of `orig` in `zone` (0 when the original direction has no zone), for a table with
    /// this seed: see [`FlowTable::key`](super::FlowTable::key).
    #[inline]
    #[must_use]
    pub fn new(orig: &Tuple, zone: u16, seed: [u32; 2]) -> Self {
        let (l4_kind, l4) = words::of_l4(orig.l4);
        let kind = u32::from(orig.proto.0) << 24 | l4_kind << KIND_L4_SHIFT | u32::from(zone);
        match (orig.src, orig.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let first = [src.to_bits(), dst.to_bits(), l4, kind];
                Self { first, rest: None, hash: hash_first(first, seed).finish32() }
            }
            (src, dst) => {
                Self::ipv6(words::of_address(src), words::of_address(dst), l4, kind, seed)
            }
        }
    }

    fn ipv6(
        (src, [a, b, c]): (u32, [u32; 3]),
        (dst, [d, e, f]): (u32, [u32; 3]),
        l4: u32,
        kind: u32,
        seed: [u32; 2],
    ) -> Self {
        let first = [src, dst, l4, kind | KIND_IPV6];
        let rest = [a, b, c, d, e, f];
        let mut hash = hash_first(first, seed);
        hash.words(&rest);
        Self { first, rest: Some(rest), hash: hash.finish32() }
    }

    /// The keyed hash by which the table finds the flow.
    #[inline]
    #[must_use]
    pub const fn hash(&self) -> u32 {
        self.hash
    }

    /// The words that stand in the head cell.
    #[inline]
    #[must_use]
    pub const fn first(&self) -> &[u32; 4] {
        &self.first
    }

    /// The words that stand in the cell of an IPv6 flow's addresses; none with IPv4.
    #[inline]
    #[must_use]
    pub const fn rest(&self) -> Option<&[u32; 6]> {
        self.rest.as_ref()
    }

    /// Whether the tuple is of IPv6.
    #[inline]
    #[must_use]
    pub const fn is_ipv6(&self) -> bool {
        self.rest.is_some()
    }
}

/// The words of the head cell are hashed one by one, without a loop also when code is made small.
#[inline]
fn hash_first([src, dst, l4, kind]: [u32; 4], seed: [u32; 2]) -> TableHash {
    let mut hash = TableHash::new32(seed);
    hash.word(src);
    hash.word(dst);
    hash.word(l4);
    hash.word(kind);
    hash
}

/// The protocol in a kind word.
pub(super) fn protocol(kind: u32) -> Protocol {
    Protocol(kind.to_be_bytes()[0])
}

/// The zone in a kind word.
pub(super) fn zone(kind: u32) -> u16 {
    low_half(kind)
}

/// The layer 4 identification whose word this is, in a flow of this kind.
pub(super) fn l4(kind: u32, word: u32) -> L4 {
    words::to_l4(kind >> KIND_L4_SHIFT, word)
}

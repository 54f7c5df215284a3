//! What a flow is looked up by: its original tuple and the zone of that direction.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::hash::TableHash;
use crate::wire::{L4, Protocol, Tuple};

/// Set in the kind word of an IPv6 flow.
const KIND_IPV6: u32 = 1 << 16;
/// Where the kind of layer 4 stands in the kind word.
const KIND_L4_SHIFT: u32 = 17;
const L4_NONE: u32 = 0;
const L4_PORTS: u32 = 1;
const L4_ICMP: u32 = 2;

/// An original tuple and its zone as the words that the table stores and compares.
///
/// Words 0 to 3 are source, destination, layer 4, and kind; with IPv6 six more hold the rest of
/// both addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    first: [u32; 4],
    rest: [u32; 6],
    hash: u32,
}

impl Key {
    /// The key of `orig` in `zone` (0 when the original direction has no zone), for a table with
    /// this seed: see [`FlowTable::key`](super::FlowTable::key).
    #[inline]
    #[must_use]
    pub fn new(orig: &Tuple, zone: u16, seed: [u32; 2]) -> Self {
        let (l4_kind, l4) = l4_words(orig.l4);
        let kind = u32::from(orig.proto.0) << 24 | l4_kind << KIND_L4_SHIFT | u32::from(zone);
        match (orig.src, orig.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let first = [src.to_bits(), dst.to_bits(), l4, kind];
                Self { first, rest: [0; 6], hash: hash_first(first, seed).finish32() }
            }
            (src, dst) => Self::ipv6(address_words(src), address_words(dst), l4, kind, seed),
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
        Self { first, rest, hash: hash.finish32() }
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

    /// The words that stand in the cell of an IPv6 flow's addresses; all zero with IPv4.
    #[inline]
    #[must_use]
    pub const fn rest(&self) -> &[u32; 6] {
        &self.rest
    }

    /// Whether the tuple is of IPv6.
    #[inline]
    #[must_use]
    pub const fn is_ipv6(&self) -> bool {
        self.first[3] & KIND_IPV6 != 0
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

/// The first four bytes of an address, and the other twelve of an IPv6 one.
#[inline]
pub(super) fn address_words(address: IpAddr) -> (u32, [u32; 3]) {
    match address {
        IpAddr::V4(v4) => (v4.to_bits(), [0; 3]),
        IpAddr::V6(v6) => {
            let bits = v6.to_bits();
            (word(bits, 96), [word(bits, 64), word(bits, 32), word(bits, 0)])
        }
    }
}

#[inline]
fn word(bits: u128, shift: u32) -> u32 {
    u32::try_from(bits >> shift & 0xffff_ffff).unwrap_or(0)
}

/// The address whose words these are.
pub(super) fn address(ipv6: bool, first: u32, rest: [u32; 3]) -> IpAddr {
    if !ipv6 {
        return IpAddr::V4(Ipv4Addr::from_bits(first));
    }
    let bits = rest.iter().fold(u128::from(first), |bits, &word| bits << 32 | u128::from(word));
    IpAddr::V6(Ipv6Addr::from_bits(bits))
}

/// Which kind of layer 4 identification it is, and its word.
#[inline]
pub(super) fn l4_words(l4: L4) -> (u32, u32) {
    match l4 {
        L4::None => (L4_NONE, 0),
        L4::Ports { src, dst } => (L4_PORTS, u32::from(src) << 16 | u32::from(dst)),
        L4::Icmp { id, kind, code } => {
            (L4_ICMP, u32::from(id) << 16 | u32::from(kind) << 8 | u32::from(code))
        }
    }
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
    let [_, _, icmp_kind, icmp_code] = word.to_be_bytes();
    match kind >> KIND_L4_SHIFT & 3 {
        L4_PORTS => L4::Ports { src: high_half(word), dst: low_half(word) },
        L4_ICMP => L4::Icmp { id: high_half(word), kind: icmp_kind, code: icmp_code },
        _ => L4::None,
    }
}

pub(super) fn low_half(word: u32) -> u16 {
    let [_, _, a, b] = word.to_be_bytes();
    u16::from_be_bytes([a, b])
}

pub(super) fn high_half(word: u32) -> u16 {
    let [a, b, _, _] = word.to_be_bytes();
    u16::from_be_bytes([a, b])
}

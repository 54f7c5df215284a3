//! Values as 32-bit words: the form in which everything lies in memory that outlives a process.
//!
//! Tables, queues and records are slices of words without pointers, so that several processes can
//! share them and any bit pattern can be read back without harm.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::sync::atomic::{Ordering, compiler_fence};

use crate::wire::L4;

/// All stores before it are in memory before those after it, should the process be killed between
/// them. (What the processor has carried out is seen by others in any case.)
#[inline]
pub fn settle() {
    compiler_fence(Ordering::SeqCst);
}

/// A 64-bit number, low word first.
#[inline]
pub fn get_u64(words: &[u32], at: usize) -> u64 {
    u64::from(words[at + 1]) << 32 | u64::from(words[at])
}

/// Stores a 64-bit number, low word first.
#[inline]
pub fn put_u64(words: &mut [u32], at: usize, value: u64) {
    let [low, high] = halves(value);
    words[at] = low;
    words[at + 1] = high;
}

/// Both halves of a number, low first.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "splits a number into its halves")]
pub const fn halves(value: u64) -> [u32; 2] {
    [value as u32, (value >> 32) as u32]
}

/// What is greater than any divisor of [`divide`].
pub const DIVISORS_END: u32 = 1 << 20;

/// A 64-bit number divided, and what is left, by a number below [`DIVISORS_END`] that is not 0.
///
/// Processors of 32 bits have no such division, and the one that compilers put in its place takes a
/// hundred instructions and more. Here it is four of theirs.
#[inline]
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "each rest is less than the divisor")]
pub const fn divide(value: u64, by: u32) -> (u64, u32) {
    debug_assert!(by < DIVISORS_END);
    if cfg!(target_pointer_width = "64") {
        (value / by as u64, (value % by as u64) as u32)
    } else {
        divide_in_steps(value, by)
    }
}

#[inline(never)]
const fn divide_in_steps(value: u64, by: u32) -> (u64, u32) {
    let [low, high] = halves(value);
    // A rest has twenty bits at most: there is room for twelve more each time.
    let first = (high % by) << 12 | low >> 20;
    let second = (first % by) << 12 | low >> 8 & 0xfff;
    let third = (second % by) << 8 | low & 0xff;
    let lower = (first / by) << 20 | (second / by) << 8 | (third / by);
    (((high / by) as u64) << 32 | lower as u64, third % by)
}

/// Words as they lie in this machine's memory: for processes of one machine. `bytes` has four for each.
pub fn to_raw(words: &[u32], bytes: &mut [u8]) {
    for (chunk, word) in bytes.chunks_exact_mut(4).zip(words) {
        chunk.copy_from_slice(&word.to_ne_bytes());
    }
}

/// The reverse of [`to_raw`].
pub fn of_raw(bytes: &[u8], words: &mut [u32]) {
    for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(4)) {
        *word = u32::from_ne_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]);
    }
}

/// The lower half of a word.
pub fn low_half(word: u32) -> u16 {
    let [_, _, a, b] = word.to_be_bytes();
    u16::from_be_bytes([a, b])
}

/// The upper half of a word.
pub fn high_half(word: u32) -> u16 {
    let [a, b, _, _] = word.to_be_bytes();
    u16::from_be_bytes([a, b])
}

/// Sixteen bytes as words.
pub fn of_bytes(bytes: [u8; 16]) -> [u32; 4] {
    // Without a loop, also when code is made small: this is in the path of every event.
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = bytes;
    [[a, b, c, d], [e, f, g, h], [i, j, k, l], [m, n, o, p]].map(u32::from_be_bytes)
}

/// The sixteen bytes whose words these are.
pub fn to_bytes(words: [u32; 4]) -> [u8; 16] {
    let [[a, b, c, d], [e, f, g, h], [i, j, k, l], [m, n, o, p]] = words.map(u32::to_be_bytes);
    [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
}

/// The first four bytes of an address, and the other twelve of an IPv6 one.
#[inline]
pub fn of_address(address: IpAddr) -> (u32, [u32; 3]) {
    match address {
        IpAddr::V4(v4) => (v4.to_bits(), [0; 3]),
        IpAddr::V6(v6) => {
            let [first, rest @ ..] = of_bytes(v6.octets());
            (first, rest)
        }
    }
}

/// The address whose words these are.
pub fn to_address(ipv6: bool, first: u32, rest: [u32; 3]) -> IpAddr {
    if !ipv6 {
        return IpAddr::V4(Ipv4Addr::from_bits(first));
    }
    let [a, b, c] = rest;
    IpAddr::V6(Ipv6Addr::from(to_bytes([first, a, b, c])))
}

const L4_NONE: u32 = 0;
const L4_PORTS: u32 = 1;
const L4_ICMP: u32 = 2;

/// Which kind of layer 4 identification it is (two bits), and its word.
#[inline]
pub fn of_l4(l4: L4) -> (u32, u32) {
    match l4 {
        L4::None => (L4_NONE, 0),
        L4::Ports { src, dst } => (L4_PORTS, u32::from(src) << 16 | u32::from(dst)),
        L4::Icmp { id, kind, code } => {
            (L4_ICMP, u32::from(id) << 16 | u32::from(kind) << 8 | u32::from(code))
        }
    }
}

/// The layer 4 identification of this kind (its two lowest bits) whose word this is.
pub fn to_l4(kind: u32, word: u32) -> L4 {
    let [_, _, icmp_kind, icmp_code] = word.to_be_bytes();
    match kind & 3 {
        L4_PORTS => L4::Ports { src: high_half(word), dst: low_half(word) },
        L4_ICMP => L4::Icmp { id: high_half(word), kind: icmp_kind, code: icmp_code },
        _ => L4::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_are_divided_as_processors_do(value: u64, shift in 0..64_u32, by in 1..DIVISORS_END) {
            let value = value >> shift;
            let long = u64::from(by);
            let wanted = (value / long, u32::try_from(value % long).unwrap());
            prop_assert_eq!(divide(value, by), wanted);
            prop_assert_eq!(divide_in_steps(value, by), wanted);
        }

        #[test]
        fn addresses_are_their_words(v4: u32, v6: u128) {
            let (v4, v6) = (IpAddr::from(Ipv4Addr::from_bits(v4)), IpAddr::from(Ipv6Addr::from_bits(v6)));
            for address in [v4, v6] {
                let (first, rest) = of_address(address);
                prop_assert_eq!(to_address(address.is_ipv6(), first, rest), address);
            }
            prop_assert_eq!(u128::from(of_address(v6).0), v6_bits(v6) >> 96);
        }
    }

    fn v6_bits(address: IpAddr) -> u128 {
        match address {
            IpAddr::V6(v6) => v6.to_bits(),
            IpAddr::V4(_) => 0,
        }
    }

    #[test]
    fn the_largest_numbers_are_divided_too() {
        for by in [1, 2, 1_000, 1_000_000, DIVISORS_END - 1] {
            let long = u64::from(by);
            for value in [0, 1, u64::from(by) - 1, u64::from(u32::MAX), 1 << 32, u64::MAX] {
                let wanted = (value / long, u32::try_from(value % long).unwrap());
                assert_eq!(divide_in_steps(value, by), wanted, "{value} by {by}");
            }
        }
    }
}

//! What an image tells of the router itself: what was left of its flash budget, and the addresses
//! that it had.
//!
//! Words: a version, erase blocks, how many addresses there are (with the highest bit if there were
//! more), and five words for each: 4 or 6, and the address.

use core::net::IpAddr;

use crate::daemon::addresses::Addresses;
use crate::words;

/// Version of these words.
pub const VERSION: u32 = 1;
const CUT: u32 = 1 << 31;

/// The words of what is left of the budget, and of these addresses.
#[must_use]
pub fn words_of(allowance_blocks: u32, addresses: &Addresses) -> Vec<u32> {
    let known = addresses.as_slice();
    let cut = if addresses.cut { CUT } else { 0 };
    let mut words = vec![VERSION, allowance_blocks, u32::try_from(known.len()).unwrap_or(0) | cut];
    for &address in known {
        let (first, [a, b, c]) = words::of_address(address);
        words.extend([if address.is_ipv6() { 6 } else { 4 }, first, a, b, c]);
    }
    words
}

/// The addresses whose words these are; none if they are not.
#[must_use]
pub fn addresses(words: &[u32]) -> Addresses {
    let mut found = Addresses::default();
    let [VERSION, _, count, rest @ ..] = words else { return found };
    for entry in rest.chunks_exact(5).take((count & !CUT) as usize) {
        if let &[family @ (4 | 6), first, a, b, c] = entry {
            let address: IpAddr = words::to_address(family == 6, first, [a, b, c]);
            found.add(address);
        }
    }
    found.cut |= count & CUT != 0;
    found
}

/// What was left of the flash budget, in erase blocks.
#[must_use]
pub fn allowance_blocks(words: &[u32]) -> Option<u32> {
    let [VERSION, blocks, ..] = words else { return None };
    Some(*blocks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_back() {
        let mut some = Addresses::default();
        some.add("203.0.113.7".parse().unwrap());
        some.add("2001:db8::7".parse().unwrap());
        assert_eq!(addresses(&words_of(7, &some)), some);
        assert_eq!(allowance_blocks(&words_of(7, &some)), Some(7));
        some.cut = true;
        assert_eq!(addresses(&words_of(7, &some)), some);
    }

    #[test]
    fn other_words_are_no_addresses() {
        for words in [&[][..], &[2, 0, 1, 4, 5, 0, 0, 0], &[1, 0, 9, 4], &[1, 0, 1, 5, 0, 0, 0, 0]]
        {
            assert_eq!(addresses(words), Addresses::default(), "{words:?}");
        }
    }
}

//! HalfSipHash: the keyed hash of the flow table and the plain hash of record keys.
//!
//! HalfSipHash works on 32-bit words, which is what small boards compute with: SipHash proper
//! costs a 32-bit core twice as much. It is the function that Linux uses for its own hash tables
//! on 32-bit machines (`hsiphash`, `lib/siphash.c`). Input is whole words only.
//!
//! Source: J.-P. Aumasson, D. J. Bernstein, "SipHash: a fast short-input PRF", and the authors'
//! test vectors.

/// A HalfSipHash under way, with `C` rounds a word and `D` rounds at the end.
#[derive(Clone, Copy, Debug)]
pub struct HalfSip<const C: usize, const D: usize> {
    v: [u32; 4],
    words: u32,
}

/// For hash tables: short, keyed, hard to aim at.
pub type TableHash = HalfSip<1, 3>;
/// For keys that live long: 64 bits out.
pub type KeyHash = HalfSip<2, 4>;

impl<const C: usize, const D: usize> HalfSip<C, D> {
    /// Starts a hash with 32 bits of output.
    #[must_use]
    pub const fn new32(key: [u32; 2]) -> Self {
        Self { v: [key[0], key[1], 0x6c79_6765 ^ key[0], 0x7465_6462 ^ key[1]], words: 0 }
    }

    /// Starts a hash with 64 bits of output.
    #[must_use]
    pub const fn new64(key: [u32; 2]) -> Self {
        let mut hash = Self::new32(key);
        hash.v[1] ^= 0xee;
        hash
    }

    /// Takes in one word.
    #[inline]
    pub fn word(&mut self, word: u32) {
        self.v[3] ^= word;
        self.v = rounds::<C>(self.v);
        self.v[0] ^= word;
        self.words = self.words.wrapping_add(1);
    }

    /// Takes in several words.
    #[inline]
    pub fn words(&mut self, words: &[u32]) {
        for &word in words {
            self.word(word);
        }
    }

    /// Ends a hash that was begun by [`Self::new32`].
    #[inline]
    #[must_use]
    pub fn finish32(mut self) -> u32 {
        self.last_block();
        self.v[2] ^= 0xff;
        self.v = rounds::<D>(self.v);
        self.v[1] ^ self.v[3]
    }

    /// Ends a hash that was begun by [`Self::new64`].
    #[inline]
    #[must_use]
    pub fn finish64(mut self) -> u64 {
        self.last_block();
        self.v[2] ^= 0xee;
        self.v = rounds::<D>(self.v);
        let low = self.v[1] ^ self.v[3];
        self.v[1] ^= 0xdd;
        self.v = rounds::<D>(self.v);
        let high = self.v[1] ^ self.v[3];
        u64::from(high) << 32 | u64::from(low)
    }

    /// The last block holds the length in bytes, modulo 256, in its top byte.
    #[inline]
    fn last_block(&mut self) {
        let length = self.words.wrapping_mul(4) << 24;
        self.word(length);
    }
}

/// `N` rounds, one after the other in the code also when it is made small.
#[inline(always)]
const fn rounds<const N: usize>(v: [u32; 4]) -> [u32; 4] {
    match N {
        1 => round(v),
        2 => round(round(v)),
        3 => round(round(round(v))),
        4 => round(round(round(round(v)))),
        _ => panic!("no such variant"),
    }
}

#[inline(always)]
const fn round([mut a, mut b, mut c, mut d]: [u32; 4]) -> [u32; 4] {
    a = a.wrapping_add(b);
    b = b.rotate_left(5) ^ a;
    a = a.rotate_left(16);
    c = c.wrapping_add(d);
    d = d.rotate_left(8) ^ c;
    a = a.wrapping_add(d);
    d = d.rotate_left(7) ^ a;
    c = c.wrapping_add(b);
    b = b.rotate_left(13) ^ c;
    c = c.rotate_left(16);
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u32; 2] = [0x0302_0100, 0x0706_0504];

    /// The input of all published vectors: bytes 0, 1, 2, ... as little-endian words.
    fn input(words: u8) -> Vec<u32> {
        (0..words).map(|w| u32::from_le_bytes([4 * w, 4 * w + 1, 4 * w + 2, 4 * w + 3])).collect()
    }

    #[test]
    fn table_hash_gives_the_kernels_vectors() {
        // lib/tests/siphash_kunit.c, test_vectors_hsiphash for 32-bit, lengths 0, 4, 8, 12, 60.
        let vectors = [
            (0, 0x5814_c896),
            (1, 0x7e05_9ea6),
            (2, 0x5779_99b1),
            (3, 0x6b28_096c),
            (15, 0x88b4_c4cc),
        ];
        for (words, expected) in vectors {
            let mut hash = TableHash::new32(KEY);
            hash.words(&input(words));
            assert_eq!(hash.finish32(), expected, "{words} words");
        }
    }

    #[test]
    fn key_hash_gives_the_authors_vectors() {
        // vectors_hsip64 of the reference implementation, lengths 0, 4, 8, 12, 16, 20.
        let vectors: [(u8, [u8; 8]); 6] = [
            (0, [0x21, 0x8d, 0x1f, 0x59, 0xb9, 0xb8, 0x3c, 0xc8]),
            (1, [0xd5, 0xe7, 0x8a, 0x17, 0x5b, 0xe5, 0x2e, 0xa1]),
            (2, [0xed, 0xfe, 0xe8, 0x20, 0xbc, 0xe4, 0x85, 0x8c]),
            (3, [0x7b, 0xc7, 0x1f, 0x9f, 0xae, 0xf5, 0xc7, 0x99]),
            (4, [0x73, 0x36, 0xaa, 0xd2, 0x5f, 0x7b, 0xf3, 0xb5]),
            (5, [0x1b, 0xf5, 0x2b, 0x0a, 0x6f, 0xee, 0xa7, 0xdb]),
        ];
        for (words, expected) in vectors {
            let mut hash = KeyHash::new64(KEY);
            hash.words(&input(words));
            assert_eq!(hash.finish64(), u64::from_le_bytes(expected), "{words} words");
        }
    }
}

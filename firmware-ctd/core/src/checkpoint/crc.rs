//! CRC-32 as Ethernet and zlib have it: reflected, polynomial 0x04C11DB7, begun and ended with all
//! ones.
//!
//! Four bytes a step, by eight tables of 16 entries: 512 bytes, where the usual table for one byte
//! a step takes 1,024 and is slower.

const POLYNOMIAL: u32 = 0xedb8_8320;

/// `TABLES[k][n]`: the CRC of nibble `n`, followed by `k` nibbles of zeros.
static TABLES: [[u32; 16]; 8] = {
    let mut tables = [[0_u32; 16]; 8];
    let mut k = 0;
    while k < 8 {
        let mut n = 0_u32;
        while n < 16 {
            let mut crc = n;
            let mut bit = 0;
            while bit < 4 * (k + 1) {
                crc = if crc & 1 == 1 { crc >> 1 ^ POLYNOMIAL } else { crc >> 1 };
                bit += 1;
            }
            tables[k][n as usize] = crc;
            n += 1;
        }
        k += 1;
    }
    tables
};

/// A CRC-32 under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Crc(u32);

impl Crc {
    pub(super) const fn new() -> Self {
        Self(u32::MAX)
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        let mut chunks = bytes.chunks_exact(4);
        let mut crc = self.0;
        for chunk in &mut chunks {
            crc ^= u32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]);
            let part = |table: usize, shift: u32| TABLES[table][(crc >> shift & 15) as usize];
            // One after the other in the code also when it is made small.
            let low = part(7, 0) ^ part(6, 4) ^ part(5, 8) ^ part(4, 12);
            crc = low ^ part(3, 16) ^ part(2, 20) ^ part(1, 24) ^ part(0, 28);
        }
        for &byte in chunks.remainder() {
            crc ^= u32::from(byte);
            let low = TABLES[1][(crc & 15) as usize] ^ TABLES[0][(crc >> 4 & 15) as usize];
            crc = crc >> 8 ^ low;
        }
        self.0 = crc;
    }

    pub(super) const fn value(self) -> u32 {
        !self.0
    }

    /// The CRC of `bytes`.
    pub(super) fn of(bytes: &[u8]) -> u32 {
        let mut crc = Self::new();
        crc.update(bytes);
        crc.value()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn it_is_the_usual_crc() {
        // The check value of the CRC catalogue, and two of RFC 3720's kind for the empty and zeros.
        assert_eq!(Crc::of(b"123456789"), 0xcbf4_3926);
        assert_eq!(Crc::of(b""), 0);
        assert_eq!(Crc::of(&[0; 4]), 0x2144_df1c);
    }

    proptest! {
        #[test]
        fn it_is_the_same_bit_by_bit(bytes: Vec<u8>, cut: usize) {
            let naive = bytes.iter().fold(u32::MAX, |crc, &byte| {
                (0..8).fold(crc ^ u32::from(byte), |crc, _| {
                    if crc & 1 == 1 { crc >> 1 ^ POLYNOMIAL } else { crc >> 1 }
                })
            });
            prop_assert_eq!(Crc::of(&bytes), !naive);
            let (a, b) = bytes.split_at(cut % (bytes.len() + 1));
            let mut pieces = Crc::new();
            pieces.update(a);
            pieces.update(b);
            prop_assert_eq!(pieces.value(), !naive);
        }
    }
}

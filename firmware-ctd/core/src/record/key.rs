//! Keys of records: which flow it was, for ever.
//!
//! A key is HalfSipHash-2-4 with 64 bits of output under the all-zero hash key, over these 32-bit
//! words: the four of the boot id, the kind word (protocol, shape, zone), the original tuple, the
//! start in nanoseconds (low word first). It is not secret and anybody can compute it again; the
//! order of bytes of the machine does not matter.

use core::fmt;

use crate::hash::KeyHash;
use crate::table::Key;

/// The key of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordKey {
    /// With the start of the flow in it: unique.
    Strong(u64),
    /// The start is not known (timestamps off, or an older flow): never taken for a repeat.
    Weak(u64),
}

impl RecordKey {
    /// The number.
    #[must_use]
    pub const fn value(self) -> u64 {
        match self {
            Self::Strong(value) | Self::Weak(value) => value,
        }
    }

    /// Whether the start is missing in it.
    #[must_use]
    pub const fn is_weak(self) -> bool {
        matches!(self, Self::Weak(_))
    }
}

/// Sixteen hexadecimal digits.
impl fmt::Display for RecordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.value())
    }
}

/// Makes the keys of one boot.
#[derive(Clone, Copy, Debug)]
pub struct RecordKeys {
    boot: KeyHash,
}

impl RecordKeys {
    /// The keys of the boot with this id (`/proc/sys/kernel/random/boot_id`, as 16 bytes).
    #[must_use]
    pub fn new(boot_id: [u8; 16]) -> Self {
        let mut boot = KeyHash::new64([0, 0]);
        for word in boot_id.chunks_exact(4) {
            boot.word(u32::from_be_bytes([word[0], word[1], word[2], word[3]]));
        }
        Self { boot }
    }

    /// The key of a flow with this original tuple and zone, and this start if it is known.
    #[must_use]
    pub fn key(&self, key: &Key, start_ns: Option<u64>) -> RecordKey {
        match start_ns {
            Some(start) => RecordKey::Strong(self.with(key, low(start), low(start >> 32))),
            None => RecordKey::Weak(self.with(key, 0, 0)),
        }
    }

    /// What identifies a living flow by tuple, zone and `CTA_ID`.
    #[must_use]
    pub fn flow(&self, key: &Key, id: u32) -> u64 {
        self.with(key, id, u32::MAX)
    }

    fn with(&self, key: &Key, first: u32, second: u32) -> u64 {
        let mut hash = self.boot;
        let [src, dst, l4, kind] = *key.first();
        hash.word(src);
        hash.word(dst);
        hash.word(l4);
        hash.word(kind);
        if let Some(rest) = key.rest() {
            hash.words(rest);
        }
        hash.word(first);
        hash.word(second);
        hash.finish64()
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the low word is asked for")]
const fn low(value: u64) -> u32 {
    value as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{L4, Protocol, Tuple};
    use core::net::IpAddr;

    fn key(src: &str, zone: u16) -> Key {
        let address = |a: &str| a.parse::<IpAddr>().unwrap();
        let l4 = L4::Ports { src: 1, dst: 2 };
        let proto = Protocol::UDP;
        Key::new(&Tuple { src: address(src), dst: address("192.0.2.2"), proto, l4 }, zone, [3, 4])
    }

    #[test]
    fn everything_that_tells_flows_apart_is_in_the_key() {
        let keys = RecordKeys::new([1; 16]);
        let all = [
            keys.key(&key("192.0.2.1", 0), Some(5)),
            keys.key(&key("192.0.2.1", 0), Some(5 << 32)),
            keys.key(&key("192.0.2.1", 1), Some(5)),
            keys.key(&key("192.0.2.3", 0), Some(5)),
            RecordKeys::new([2; 16]).key(&key("192.0.2.1", 0), Some(5)),
        ];
        for (i, a) in all.iter().enumerate() {
            for b in &all[i + 1..] {
                assert_ne!(a, b);
            }
        }
        assert_eq!(all[0], keys.key(&key("192.0.2.1", 0), Some(5)));
    }

    #[test]
    fn a_key_without_start_is_weak() {
        let keys = RecordKeys::new([1; 16]);
        assert!(keys.key(&key("192.0.2.1", 0), None).is_weak());
        assert!(!keys.key(&key("192.0.2.1", 0), Some(0)).is_weak());
    }
}

//! Where everything lies in the table's memory, counted in 32-bit words.
//!
//! ```text
//! | header | buckets: 2 x capacity | cells: 2 x capacity x 14 | extensions x 32 |
//! ```
//!
//! A flow is a chain of *cells* of 56 bytes: the head (who), the body (how much, how long) and,
//! for IPv6, the rest of the addresses; a flow that goes on with an earlier account has one more.
//! So an IPv4 flow takes two cells or three and an IPv6 flow three or four, out of one store that
//! any mixture can fill. References are indices plus one, zero is
//! none: the memory holds no pointers and can be mapped anywhere, by several processes.

/// Words of one cell.
pub(super) const CELL: usize = 14;
/// Words of one extension.
pub(super) const EXTENSION: usize = 32;
/// Cells of an IPv4 flow.
pub(super) const CELLS_IPV4: u32 = 2;
/// Cells of an IPv6 flow.
pub(super) const CELLS_IPV6: u32 = 3;
/// Hash buckets for each flow of capacity.
const BUCKETS_PER_FLOW: usize = 2;

/// Words of the header.
pub(super) mod header {
    /// `fctT`.
    pub(in crate::table) const MAGIC: usize = 0;
    /// Version of this layout.
    pub(in crate::table) const VERSION: usize = 1;
    pub(in crate::table) const CAPACITY: usize = 2;
    pub(in crate::table) const EXTENSIONS: usize = 3;
    pub(in crate::table) const SEED: usize = 4; // two words
    /// First free cell of the list of returned ones.
    pub(in crate::table) const FREE_CELL: usize = 6;
    /// Cells that were ever used: those beyond were never touched.
    pub(in crate::table) const CELLS_TOUCHED: usize = 7;
    pub(in crate::table) const CELLS_USED: usize = 8;
    pub(in crate::table) const FREE_EXTENSION: usize = 9;
    pub(in crate::table) const EXTENSIONS_TOUCHED: usize = 10;
    pub(in crate::table) const EXTENSIONS_USED: usize = 11;
    pub(in crate::table) const FLOWS_IPV4: usize = 12;
    pub(in crate::table) const FLOWS_IPV6: usize = 13;
    pub(in crate::table) const PEAK_CELLS: usize = 14;
    /// The flow that is being changed, 0 for none.
    pub(in crate::table) const CHANGING: usize = 15;
    pub(in crate::table) const WORDS: usize = 16;
}

/// Words of the first cell of a flow.
pub(super) mod head {
    pub(in crate::table) const NEXT: usize = 0;
    /// Source address; with IPv6 its first four bytes.
    pub(in crate::table) const SRC: usize = 1;
    pub(in crate::table) const DST: usize = 2;
    pub(in crate::table) const L4: usize = 3;
    /// Protocol, shape (family, kind of layer 4), zone of the original direction.
    pub(in crate::table) const KIND: usize = 4;
    pub(in crate::table) const REPLY_SRC: usize = 5;
    pub(in crate::table) const REPLY_DST: usize = 6;
    pub(in crate::table) const REPLY_L4: usize = 7;
    pub(in crate::table) const ID: usize = 8;
    pub(in crate::table) const STATUS: usize = 9;
    pub(in crate::table) const MARK: usize = 10;
    pub(in crate::table) const BODY: usize = 11;
    pub(in crate::table) const ADDRESSES: usize = 12;
    /// Flags in the upper half, generation in the lower.
    pub(in crate::table) const FLAGS: usize = 13;
}

/// Words of the second cell. Counters are low word first.
pub(super) mod body {
    pub(in crate::table) const COUNTERS: usize = 0; // eight words
    pub(in crate::table) const START: usize = 8; // two words
    pub(in crate::table) const EXPIRES: usize = 10;
    pub(in crate::table) const AS_OF: usize = 11;
    pub(in crate::table) const TCP: usize = 12;
    /// Reference of the extension; or, with [`super::CARRIED`], of the cell of what is carried,
    /// which then refers to the extension.
    pub(in crate::table) const EXTENSION: usize = 13;
}

/// Set in a body's reference that is not of an extension but of a [`carry`] cell.
pub(super) const CARRIED: u32 = 1 << 31;

/// Words of the cell of what a flow carries on.
pub(super) mod carry {
    pub(in crate::table) const BASE: usize = 0; // eight words
    pub(in crate::table) const START: usize = 8; // two words
    pub(in crate::table) const AS_OF: usize = 10; // two words
    /// Which of them there are.
    pub(in crate::table) const PRESENT: usize = 12;
    pub(in crate::table) const EXTENSION: usize = 13;
}

/// Words of the third cell of an IPv6 flow: the last twelve bytes of each address.
pub(super) mod addresses {
    pub(in crate::table) const SRC: usize = 0;
    pub(in crate::table) const DST: usize = 3;
    pub(in crate::table) const REPLY_SRC: usize = 6;
    pub(in crate::table) const REPLY_DST: usize = 9;
}

/// Offsets of a table of a given capacity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) buckets: usize,
    first_bucket: usize,
    first_cell: usize,
    first_extension: usize,
    pub(super) words: usize,
}

impl Layout {
    pub(super) fn new(capacity: u32, extensions: u32) -> Self {
        let capacity = capacity as usize;
        let buckets = capacity * BUCKETS_PER_FLOW;
        let first_bucket = header::WORDS;
        let first_cell = first_bucket + buckets;
        let first_extension = first_cell + capacity * CELLS_IPV4 as usize * CELL;
        let words = first_extension + extensions as usize * EXTENSION;
        Self { buckets, first_bucket, first_cell, first_extension, words }
    }

    /// The word that holds the head of bucket `bucket`.
    #[inline]
    pub(super) fn bucket(&self, bucket: usize) -> usize {
        self.first_bucket + bucket
    }

    /// The first word of the cell with this reference (index plus one).
    #[inline]
    pub(super) fn cell(&self, reference: u32) -> usize {
        self.first_cell + (reference as usize - 1) * CELL
    }

    /// The first word of the extension with this reference (index plus one).
    #[inline]
    pub(super) fn extension(&self, reference: u32) -> usize {
        self.first_extension + (reference as usize - 1) * EXTENSION
    }

    /// The bucket of a hash: its high bits decide, so that any number of buckets will do.
    #[inline]
    pub(super) fn bucket_of(&self, hash: u32) -> usize {
        let scaled = (u64::from(hash) * self.buckets as u64) >> 32;
        usize::try_from(scaled).unwrap_or(0)
    }
}

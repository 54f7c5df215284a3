//! The flow table: every flow that lives, in memory that is fixed at start.
//!
//! One slice of 32-bit words holds everything, header included, and no pointers: it can be a
//! mapping that several processes share. Look-up is by original tuple and zone through a keyed
//! hash, so that nobody outside can choose collisions. Freshly zeroed memory stays untouched
//! until flows need it.
//!
//! Sizes: an IPv4 flow takes [`BYTES_IPV4`], an IPv6 flow [`BYTES_IPV6`], out of a store for
//! `capacity` IPv4 flows. When it is full, [`FlowTable::insert`] gives [`Full`] and changes
//! nothing; the caller counts it, and accounts the flow from its DESTROY alone. Rare attributes
//! lie in a bounded side store ([`Extension`]); when that is full the flow goes without them. What
//! a flow carries on from before a reboot ([`Carried`]) takes half the room of an IPv4 flow more.
//!
//! Several flows may have one key: a later one stands before its predecessor until that one's
//! DESTROY has come. The table does not decide which of them a message means; the engine does.

mod carried;
mod extension;
mod flow;
mod key;
mod layout;
mod open;

pub use carried::Carried;
pub use extension::{Extension, HelperName, padded};
pub use flow::{FlowMut, FlowRef, L4State, flag};
pub use key::Key;

use core::fmt;
use core::num::NonZeroU32;

use crate::wire::Tuple;
use crate::words::settle;
use layout::{CARRIED, CELL, CELLS_IPV4, CELLS_IPV6, EXTENSION, Layout, body, carry, head, header};

const MAGIC: u32 = 0x6663_7454;
const VERSION: u32 = 2;

/// Bytes of an IPv4 flow, its share of the hash buckets included.
pub const BYTES_IPV4: usize = CELLS_IPV4 as usize * CELL * 4 + 8;
/// Bytes of an IPv6 flow, its share of the hash buckets included.
pub const BYTES_IPV6: usize = BYTES_IPV4 * CELLS_IPV6 as usize / CELLS_IPV4 as usize;
/// Bytes of one extension.
pub const BYTES_EXTENSION: usize = EXTENSION * 4;

/// Fewest flows that a table is made for.
pub const MIN_CAPACITY: u32 = 16;
/// Most flows that a table is made for.
pub const MAX_CAPACITY: u32 = 1 << 22;

const _: () = assert!(BYTES_IPV4 <= 128 && BYTES_IPV6 <= 192);

/// There is no room for the flow, or for the extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// The memory given does not fit the table asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrongSize;

impl fmt::Display for WrongSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the memory has not the size that the table's capacity asks for")
    }
}

/// A flow's place in the table; good until that flow is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot(NonZeroU32);

impl Slot {
    fn new(reference: u32) -> Option<Self> {
        NonZeroU32::new(reference).map(Self)
    }
}

/// How full the table is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// IPv4 flows that the table was made for.
    pub capacity: u32,
    /// IPv4 flows in the table.
    pub ipv4: u32,
    /// IPv6 flows in the table.
    pub ipv6: u32,
    /// Part of the store in use, in thousandths.
    pub permille: u32,
    /// The most of the store that was ever in use, in thousandths.
    pub peak_permille: u32,
    /// Extensions that the table was made for.
    pub extensions: u32,
    /// Extensions in use.
    pub extensions_used: u32,
}

/// The table. See the module's own documentation.
#[derive(Debug)]
pub struct FlowTable<'m> {
    mem: &'m mut [u32],
    layout: Layout,
    seed: [u32; 2],
    cells: u32,
}

impl<'m> FlowTable<'m> {
    /// How many words a table takes.
    #[must_use]
    pub fn words(capacity: u32, extensions: u32) -> usize {
        Layout::new(capacity, extensions).words
    }

    /// Makes an empty table in zeroed memory of [`Self::words`] words.
    ///
    /// `seed` must be random and secret.
    ///
    /// # Errors
    ///
    /// [`WrongSize`] if the memory is not of that size, or the capacity out of range.
    pub fn format(
        mem: &'m mut [u32],
        capacity: u32,
        extensions: u32,
        seed: [u32; 2],
    ) -> Result<Self, WrongSize> {
        if !(MIN_CAPACITY..=MAX_CAPACITY).contains(&capacity) || extensions >= CARRIED {
            return Err(WrongSize);
        }
        let layout = Layout::new(capacity, extensions);
        if mem.len() != layout.words {
            return Err(WrongSize);
        }
        mem[header::VERSION] = VERSION;
        mem[header::CAPACITY] = capacity;
        mem[header::EXTENSIONS] = extensions;
        mem[header::SEED..header::SEED + 2].copy_from_slice(&seed);
        settle();
        mem[header::MAGIC] = MAGIC;
        Ok(Self { mem, layout, seed, cells: capacity * CELLS_IPV4 })
    }

    /// The key of a flow with this original tuple, in this zone of the original direction.
    #[inline]
    #[must_use]
    pub fn key(&self, orig: &Tuple, zone: u16) -> Key {
        Key::new(orig, zone, self.seed)
    }

    /// The key of a flow in the table.
    #[must_use]
    pub fn key_of(&self, slot: Slot) -> Key {
        let flow = self.flow(slot);
        self.key(&flow.orig(), flow.zone())
    }

    /// The newest flow with this key.
    #[inline]
    #[must_use]
    pub fn find(&self, key: &Key) -> Option<Slot> {
        let bucket = self.layout.bucket_of(key.hash());
        self.same_from(self.mem[self.layout.bucket(bucket)], key)
    }

    /// The next older flow with the same key.
    #[must_use]
    pub fn next_older(&self, slot: Slot, key: &Key) -> Option<Slot> {
        self.same_from(self.mem[self.head(slot) + head::NEXT], key)
    }

    fn same_from(&self, mut reference: u32, key: &Key) -> Option<Slot> {
        while reference != 0 {
            let at = self.layout.cell(reference);
            if self.is_at(at, key) {
                return Slot::new(reference);
            }
            reference = self.mem[at + head::NEXT];
        }
        None
    }

    #[inline]
    fn is_at(&self, at: usize, key: &Key) -> bool {
        if !is_equal(&self.mem[at + head::SRC..], key.first()) {
            return false;
        }
        match (self.mem[at + head::ADDRESSES], key.rest()) {
            (0, _) | (_, None) => true,
            (addresses, Some(rest)) => is_equal(&self.mem[self.layout.cell(addresses)..], rest),
        }
    }

    /// Puts in a flow that has nothing but its key; it stands before older ones with this key.
    ///
    /// # Errors
    ///
    /// [`Full`] if the store has not enough cells; nothing is changed.
    pub fn insert(&mut self, key: &Key) -> Result<Slot, Full> {
        let wanted = if key.is_ipv6() { CELLS_IPV6 } else { CELLS_IPV4 };
        if self.cells - self.mem[header::CELLS_USED] < wanted {
            return Err(Full);
        }
        let head_ref = self.take_cell();
        let body_ref = self.take_cell();
        let at = self.layout.cell(head_ref);
        self.mem[at + head::SRC..=at + head::KIND].copy_from_slice(key.first());
        self.mem[at + head::BODY] = body_ref;
        if let Some(rest) = key.rest() {
            let addresses = self.take_cell();
            self.mem[at + head::ADDRESSES] = addresses;
            let to = self.layout.cell(addresses);
            self.mem[to..to + 6].copy_from_slice(rest);
        }
        let bucket = self.layout.bucket(self.layout.bucket_of(key.hash()));
        self.mem[at + head::NEXT] = self.mem[bucket];
        // By one store, for `open`: all of the flow, or nothing.
        settle();
        self.mem[bucket] = head_ref;
        self.count_flow(key.is_ipv6(), 1);
        Slot::new(head_ref).ok_or(Full)
    }

    /// Takes a flow out.
    pub fn remove(&mut self, slot: Slot) {
        let key = self.key_of(slot);
        self.remove_keyed(slot, &key);
    }

    /// Takes a flow out whose key is known.
    pub(crate) fn remove_keyed(&mut self, slot: Slot, key: &Key) {
        let at = self.head(slot);
        let next = self.mem[at + head::NEXT];
        let bucket = self.layout.bucket(self.layout.bucket_of(key.hash()));
        let mut link = bucket;
        while self.mem[link] != slot.0.get() {
            link = self.layout.cell(self.mem[link]) + head::NEXT;
        }
        self.mem[link] = next;
        settle();
        self.drop_extension(slot);
        self.drop_carried(slot);
        let [body_ref, addresses] = [self.mem[at + head::BODY], self.mem[at + head::ADDRESSES]];
        for reference in [addresses, body_ref, slot.0.get()] {
            self.return_cell(reference);
        }
        self.count_flow(key.is_ipv6(), u32::MAX);
    }

    /// A flow, to read.
    #[inline]
    #[must_use]
    pub fn flow(&self, slot: Slot) -> FlowRef<'_> {
        let (head, body) = self.places(slot);
        FlowRef { mem: self.mem, layout: &self.layout, head, body }
    }

    /// A flow, to change.
    #[inline]
    pub fn flow_mut(&mut self, slot: Slot) -> FlowMut<'_> {
        let (head, body) = self.places(slot);
        FlowMut { mem: self.mem, layout: &self.layout, head, body }
    }

    /// Changes every flow.
    pub(crate) fn change_all(&mut self, mut change: impl FnMut(FlowMut<'_>)) {
        for bucket in 0..self.layout.buckets {
            let mut next = self.first(bucket);
            while let Some(slot) = next {
                change(self.flow_mut(slot));
                next = self.next(slot);
            }
        }
    }

    /// Where the two cells of every flow lie.
    #[inline]
    fn places(&self, slot: Slot) -> (usize, usize) {
        let head = self.head(slot);
        (head, self.layout.cell(self.mem[head + head::BODY]))
    }

    #[inline]
    fn head(&self, slot: Slot) -> usize {
        self.layout.cell(slot.0.get())
    }

    /// Stores the rare attributes of a flow; an empty extension takes no room.
    ///
    /// # Errors
    ///
    /// [`Full`] if the flow had none yet and there is no room; nothing is changed.
    pub fn set_extension(&mut self, slot: Slot, extension: &Extension) -> Result<(), Full> {
        if extension.is_empty() {
            self.drop_extension(slot);
            return Ok(());
        }
        let word = self.extension_word(slot);
        if self.mem[word] == 0 {
            self.mem[word] = self.take_extension()?;
        }
        let at = self.layout.extension(self.mem[word]);
        extension.store(&mut self.mem[at..at + EXTENSION]);
        Ok(())
    }

    fn body_extension(&self, slot: Slot) -> usize {
        self.layout.cell(self.mem[self.head(slot) + head::BODY]) + body::EXTENSION
    }

    /// The word that refers to the extension, wherever it is.
    fn extension_word(&self, slot: Slot) -> usize {
        let word = self.body_extension(slot);
        match self.mem[word] {
            reference if reference & CARRIED != 0 => {
                self.layout.cell(reference & !CARRIED) + carry::EXTENSION
            }
            _ => word,
        }
    }

    fn take_extension(&mut self) -> Result<u32, Full> {
        let free = self.mem[header::FREE_EXTENSION];
        let reference = if free != 0 {
            self.mem[header::FREE_EXTENSION] = self.mem[self.layout.extension(free)];
            free
        } else if self.mem[header::EXTENSIONS_TOUCHED] < self.mem[header::EXTENSIONS] {
            self.mem[header::EXTENSIONS_TOUCHED] += 1;
            self.mem[header::EXTENSIONS_TOUCHED]
        } else {
            return Err(Full);
        };
        self.mem[header::EXTENSIONS_USED] += 1;
        Ok(reference)
    }

    fn drop_extension(&mut self, slot: Slot) {
        let word = self.extension_word(slot);
        let reference = core::mem::take(&mut self.mem[word]);
        if reference != 0 {
            let at = self.layout.extension(reference);
            self.mem[at] = self.mem[header::FREE_EXTENSION];
            self.mem[header::FREE_EXTENSION] = reference;
            self.mem[header::EXTENSIONS_USED] -= 1;
        }
    }

    /// Takes a cell out of the store, zeroed. The caller has made sure that there is one.
    fn take_cell(&mut self) -> u32 {
        let free = self.mem[header::FREE_CELL];
        let reference = if free == 0 {
            self.mem[header::CELLS_TOUCHED] += 1;
            self.mem[header::CELLS_TOUCHED]
        } else {
            self.mem[header::FREE_CELL] = self.mem[self.layout.cell(free)];
            free
        };
        let at = self.layout.cell(reference);
        self.mem[at..at + CELL].fill(0);
        let used = self.mem[header::CELLS_USED] + 1;
        self.mem[header::CELLS_USED] = used;
        if used > self.mem[header::PEAK_CELLS] {
            self.mem[header::PEAK_CELLS] = used;
        }
        reference
    }

    fn return_cell(&mut self, reference: u32) {
        if reference != 0 {
            let at = self.layout.cell(reference);
            self.mem[at] = self.mem[header::FREE_CELL];
            self.mem[header::FREE_CELL] = reference;
            self.mem[header::CELLS_USED] -= 1;
        }
    }

    /// Adds to the count of flows; `u32::MAX` takes one away.
    fn count_flow(&mut self, ipv6: bool, by: u32) {
        let word = if ipv6 { header::FLOWS_IPV6 } else { header::FLOWS_IPV4 };
        self.mem[word] = self.mem[word].wrapping_add(by);
    }

    /// How many buckets there are to walk through with [`Self::first`] and [`Self::next`].
    ///
    /// Walking bucket by bucket is stable: a flow that lives throughout is met exactly once,
    /// whatever comes and goes between two buckets.
    #[must_use]
    pub fn buckets(&self) -> usize {
        self.layout.buckets
    }

    /// The first flow of a bucket.
    #[must_use]
    pub fn first(&self, bucket: usize) -> Option<Slot> {
        Slot::new(self.mem[self.layout.bucket(bucket)])
    }

    /// The next flow of the same bucket.
    #[must_use]
    pub fn next(&self, slot: Slot) -> Option<Slot> {
        Slot::new(self.mem[self.head(slot) + head::NEXT])
    }

    /// How many flows are in the table.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.mem[header::FLOWS_IPV4] + self.mem[header::FLOWS_IPV6]
    }

    /// Whether there is no flow.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How full the table is.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let permille = |cells: u32| {
            u32::try_from(u64::from(cells) * 1000 / u64::from(self.cells)).unwrap_or(1000)
        };
        Usage {
            capacity: self.mem[header::CAPACITY],
            ipv4: self.mem[header::FLOWS_IPV4],
            ipv6: self.mem[header::FLOWS_IPV6],
            permille: permille(self.mem[header::CELLS_USED]),
            peak_permille: permille(self.mem[header::PEAK_CELLS]),
            extensions: self.mem[header::EXTENSIONS],
            extensions_used: self.mem[header::EXTENSIONS_USED],
        }
    }
}
/// Whether words begin with these. A loop: comparing memory by a call costs more for so few.
#[inline]
fn is_equal<const N: usize>(words: &[u32], wanted: &[u32; N]) -> bool {
    words.len() >= N && words.iter().zip(wanted).all(|(word, wanted)| word == wanted)
}

//! Taking over a table that an earlier process left, wherever it was killed.
//!
//! A flow is put in and taken out by one store each, so the chains of the buckets are whole; what
//! was on its way in or out is in no chain and in no free list either. So the walk through the
//! chains tells what lives, and all else that was ever touched is free. A chain that is not sound
//! is cut where it stops being so: that memory was written by something else.
//!
//! Allocates for as long as it lasts: it runs before anything else does.

use super::layout::{CARRIED, CELL, CELLS_IPV4, Layout, body, carry, head, header};
use super::{FlowTable, MAGIC, MAX_CAPACITY, MIN_CAPACITY, Slot, VERSION, WrongSize, flag};

impl<'m> FlowTable<'m> {
    /// Takes over a table of this size. Every flow is stamped with generation 0, neither missed nor
    /// saved any more, and gets these flags.
    ///
    /// # Errors
    ///
    /// [`WrongSize`] if the memory holds no such table.
    pub fn open(
        mem: &'m mut [u32],
        capacity: u32,
        extensions: u32,
        flags: u32,
    ) -> Result<Self, WrongSize> {
        if !Self::is_there(mem, capacity, extensions) {
            return Err(WrongSize);
        }
        let layout = Layout::new(capacity, extensions);
        let seed = [mem[header::SEED], mem[header::SEED + 1]];
        let mut table = Self { mem, layout, seed, cells: capacity * CELLS_IPV4 };
        table.repair();
        table.doubt_what_was_changing();
        table.begin_anew(flags);
        Ok(table)
    }

    /// Whether a table of this size was made in this memory.
    pub(crate) fn is_there(mem: &[u32], capacity: u32, extensions: u32) -> bool {
        (MIN_CAPACITY..=MAX_CAPACITY).contains(&capacity)
            && mem.len() == Layout::new(capacity, extensions).words
            && mem[header::MAGIC] == MAGIC
            && mem[header::VERSION] == VERSION
            && mem[header::CAPACITY] == capacity
            && mem[header::EXTENSIONS] == extensions
            && mem[header::CELLS_TOUCHED] <= capacity * CELLS_IPV4
            && mem[header::EXTENSIONS_TOUCHED] <= extensions
    }

    /// Finds out what lives, and puts all else into the free lists.
    fn repair(&mut self) {
        let mut alive = Alive {
            cells: vec![false; self.mem[header::CELLS_TOUCHED] as usize],
            extensions: vec![false; self.mem[header::EXTENSIONS_TOUCHED] as usize],
            flows: [0; 2],
        };
        for bucket in 0..self.layout.buckets {
            let mut link = self.layout.bucket(bucket);
            while self.mem[link] != 0 {
                if !self.is_sound(self.mem[link], bucket, &mut alive) {
                    self.mem[link] = 0;
                    break;
                }
                link = self.layout.cell(self.mem[link]) + head::NEXT;
            }
        }
        self.free_cells(&alive.cells);
        self.free_extensions(&alive.extensions);
        [self.mem[header::FLOWS_IPV4], self.mem[header::FLOWS_IPV6]] = alive.flows;
    }

    /// Whether a flow with all its parts lies here, that belongs into this bucket and is in no
    /// other chain.
    fn is_sound(&mut self, reference: u32, bucket: usize, alive: &mut Alive) -> bool {
        if !alive.is_free_cell(reference) {
            return false;
        }
        let at = self.layout.cell(reference);
        let [body_ref, addresses] = [self.mem[at + head::BODY], self.mem[at + head::ADDRESSES]];
        let parts_are_free = alive.is_free_cell(body_ref)
            && body_ref != reference
            && (addresses == 0
                || alive.is_free_cell(addresses)
                    && addresses != body_ref
                    && addresses != reference);
        if !parts_are_free || !self.belongs(reference, bucket) {
            return false;
        }
        for part in [reference, body_ref, addresses] {
            alive.take_cell(part);
        }
        alive.flows[usize::from(addresses != 0)] += 1;
        self.take_rare(reference, body_ref, alive);
        true
    }

    /// What few flows have: a reference to what is not there, or is another flow's, is cut.
    fn take_rare(&mut self, reference: u32, body_ref: u32, alive: &mut Alive) {
        let mut word = self.layout.cell(body_ref) + body::EXTENSION;
        let cell = self.mem[word] & !CARRIED;
        if self.mem[word] & CARRIED != 0 {
            if !alive.is_free_cell(cell) {
                self.mem[word] = 0;
                // What it carried on is lost.
                self.mem[self.layout.cell(reference) + head::FLAGS] |= flag::INEXACT;
                return;
            }
            alive.take_cell(cell);
            word = self.layout.cell(cell) + carry::EXTENSION;
        }
        if self.mem[word] != 0 && !alive.take_extension(self.mem[word]) {
            self.mem[word] = 0;
        }
    }

    fn belongs(&self, reference: u32, bucket: usize) -> bool {
        Slot::new(reference).is_some_and(|slot| {
            // Its key must not depend on an extension, which has not been looked at.
            let flow = self.flow(slot);
            let addresses = self.mem[flow.head + head::ADDRESSES];
            let key = self.key(&flow.orig(), flow.zone());
            key.is_ipv6() == (addresses != 0) && self.layout.bucket_of(key.hash()) == bucket
        })
    }

    fn free_cells(&mut self, alive: &[bool]) {
        let (mut free, mut used) = (0, 0);
        for (reference, &alive) in (1..).zip(alive) {
            if alive {
                used += 1;
            } else {
                let at = self.layout.cell(reference);
                self.mem[at..at + CELL].fill(0);
                self.mem[at] = free;
                free = reference;
            }
        }
        self.mem[header::FREE_CELL] = free;
        self.mem[header::CELLS_USED] = used;
    }

    fn free_extensions(&mut self, alive: &[bool]) {
        let (mut free, mut used) = (0, 0);
        for (reference, &alive) in (1..).zip(alive) {
            if alive {
                used += 1;
            } else {
                let at = self.layout.extension(reference);
                self.mem[at] = free;
                free = reference;
            }
        }
        self.mem[header::FREE_EXTENSION] = free;
        self.mem[header::EXTENSIONS_USED] = used;
    }

    /// The counters of a flow that was being changed may be half old and half new.
    fn doubt_what_was_changing(&mut self) {
        let changing = core::mem::take(&mut self.mem[header::CHANGING]);
        let mut chains = (0..self.layout.buckets).filter_map(|bucket| self.first(bucket));
        let found = chains.find_map(|first| {
            let mut next = Some(first);
            while let Some(slot) = next.filter(|slot| slot.0.get() != changing) {
                next = self.next(slot);
            }
            next
        });
        if let Some(slot) = found.filter(|_| changing != 0) {
            self.flow_mut(slot).change_flags(0, flag::COUNTERS | flag::TIMEOUT | flag::L4_STATE);
        }
    }

    fn begin_anew(&mut self, flags: u32) {
        self.change_all(|mut flow| {
            flow.set_generation(0);
            flow.change_flags(flags, flag::MISSED | flag::SAVED);
        });
    }

    /// A flow is about to be changed: should that not come to its end, it is doubted.
    #[inline]
    pub(crate) fn begin_change(&mut self, slot: Slot) {
        self.mem[header::CHANGING] = slot.0.get();
        crate::words::settle();
    }

    /// The change has come to its end.
    #[inline]
    pub(crate) fn end_change(&mut self) {
        crate::words::settle();
        self.mem[header::CHANGING] = 0;
    }
}

/// What belongs to flows that live.
struct Alive {
    cells: Vec<bool>,
    extensions: Vec<bool>,
    /// IPv4 and IPv6.
    flows: [u32; 2],
}

impl Alive {
    /// Whether there is such a cell, and nobody's so far.
    fn is_free_cell(&self, reference: u32) -> bool {
        place(reference).and_then(|at| self.cells.get(at)).is_some_and(|alive| !alive)
    }

    fn take_cell(&mut self, reference: u32) {
        if let Some(alive) = place(reference).and_then(|at| self.cells.get_mut(at)) {
            *alive = true;
        }
    }

    /// Whether there is such an extension, and it was nobody's so far.
    fn take_extension(&mut self, reference: u32) -> bool {
        let Some(alive) = place(reference).and_then(|at| self.extensions.get_mut(at)) else {
            return false;
        };
        !core::mem::replace(alive, true)
    }
}

/// References are indices plus one.
fn place(reference: u32) -> Option<usize> {
    reference.checked_sub(1).map(|at| at as usize)
}

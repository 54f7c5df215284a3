//! Addresses by reference: a dictionary that writer and reader build alike.
//!
//! One dictionary for each role and family: an address gets the next number when it is first
//! written out, until the dictionary is full; after that, addresses that it does not hold are
//! written out every time. The writer finds numbers with a hash of fixed size and few probes. It
//! may miss an address that is there, which costs bytes and nothing else.

use super::coder::{Lengths, Stream, Unsound};

/// What an address is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Role {
    /// Original source.
    Source,
    /// Original destination.
    Destination,
    /// Whatever stands in a reply tuple in place of one of these.
    Translated,
}

const PROBES: usize = 16;
const ROLES: usize = 3;

/// The most addresses of each role, for IPv4 and IPv6.
const CAPACITIES: [[usize; 2]; ROLES] = [[2048, 512], [4096, 2048], [256, 64]];

/// An address as four words; an IPv4 address is in the first.
pub(super) type Address = [u32; 4];

/// The dictionaries of all roles.
#[derive(Debug)]
pub(super) struct Addresses([[Dictionary; 2]; ROLES]);

impl Addresses {
    pub(super) fn new(writes: bool) -> Self {
        Self(
            CAPACITIES
                .map(|[v4, v6]| [Dictionary::new(1, v4, writes), Dictionary::new(4, v6, writes)]),
        )
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.0.iter_mut().flatten().for_each(Dictionary::clear);
    }

    /// An address, and the port that was last noted for it.
    pub(super) fn code<S: Stream>(
        &mut self,
        s: &mut S,
        role: Role,
        ipv6: bool,
        address: Address,
    ) -> Result<(Address, &mut u16), Unsound> {
        self.0[role as usize][usize::from(ipv6)].code(s, address)
    }
}

/// The dictionary of one role and family.
#[derive(Debug)]
struct Dictionary {
    /// Words of an address: 1 or 4.
    stride: usize,
    capacity: usize,
    /// The addresses, by their numbers.
    words: Vec<u32>,
    /// The port that was last noted for each, and after the last, for those that have no number.
    ports: Box<[u16]>,
    /// The address that was last written out.
    last: Address,
    /// The writer's: numbers plus one, by hash; 0 = free.
    index: Box<[u16]>,
    /// Of numbers, or none.
    numbers: Lengths,
    literals: [Lengths; 4],
}

impl Dictionary {
    fn new(stride: usize, capacity: usize, writes: bool) -> Self {
        Self {
            stride,
            capacity,
            words: Vec::with_capacity(stride * capacity),
            ports: vec![0; capacity + 1].into(),
            last: [0; 4],
            index: vec![0; if writes { 2 * capacity } else { 0 }].into(),
            numbers: Lengths::EVEN,
            literals: [Lengths::EVEN; 4],
        }
    }

    fn clear(&mut self) {
        self.words.clear();
        self.ports.fill(0);
        self.last = [0; 4];
        self.index.fill(0);
        self.numbers = Lengths::EVEN;
        self.literals = [Lengths::EVEN; 4];
    }

    fn code<S: Stream>(
        &mut self,
        s: &mut S,
        address: Address,
    ) -> Result<(Address, &mut u16), Unsound> {
        let found = if S::WRITES { self.find(&address) } else { Find::Full };
        let number = if let Find::Number(number) = found { Some(number) } else { None };
        if let Some(number) = self.numbers.half(s, number) {
            let number = usize::from(number);
            let address = self.get(number).ok_or(Unsound)?;
            return Ok((address, self.ports.get_mut(number).ok_or(Unsound)?));
        }
        let mut written = [0; 4];
        for (at, word) in written.iter_mut().enumerate().take(self.stride) {
            let last = &mut self.last[at];
            *last ^= self.literals[at].word(s, address[at] ^ *last)?;
            *word = *last;
        }
        let number = self.words.len() / self.stride;
        if number < self.capacity {
            self.words.extend_from_slice(&written[..self.stride]);
            if let Find::Free(place) = found {
                // The capacity is below 2^16.
                self.index[place] = u16::try_from(number + 1).unwrap_or(0);
            }
        }
        Ok((written, self.ports.get_mut(number).ok_or(Unsound)?))
    }

    fn get(&self, number: usize) -> Option<Address> {
        let from = number * self.stride;
        let words = self.words.get(from..from + self.stride)?;
        let mut address = [0; 4];
        address[..self.stride].copy_from_slice(words);
        Some(address)
    }

    /// Where an address is, or may be put, in the writer's index.
    fn find(&self, address: &Address) -> Find {
        let mask = self.index.len() - 1;
        let mut hash = address
            .iter()
            .fold(0_u32, |hash, word| (hash ^ word).wrapping_mul(0x9e37_79b1).rotate_left(15));
        hash ^= hash >> 15;
        for probe in 0..PROBES {
            let place = (hash as usize).wrapping_add(probe) & mask;
            match self.index[place].checked_sub(1) {
                None => return Find::Free(place),
                Some(number) if self.holds(number, address) => return Find::Number(number),
                Some(_) => {}
            }
        }
        Find::Full
    }

    fn holds(&self, number: u16, address: &Address) -> bool {
        let from = usize::from(number) * self.stride;
        self.words.get(from..from + self.stride) == address.get(..self.stride)
    }
}

/// What the writer's index says of an address.
enum Find {
    /// It has this number.
    Number(u16),
    /// It has none; this is a free place in the index.
    Free(usize),
    /// It has none, and there is no place near where it belongs.
    Full,
}

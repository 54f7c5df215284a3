//! Kinds of flows: all that many flows have in common, told once and then by number.

use super::coder::{Alphabet, Lengths, Stream, Unsound};
use super::saved::SavedFlow;
use crate::table::L4State;
use crate::wire::{L4, Protocol, Status};
use crate::words;

/// Bits of the fifth word of a kind.
pub(super) mod flag {
    /// The original source is an IPv6 address; and the destination.
    pub(in crate::checkpoint) const SRC_IPV6: u32 = 1;
    pub(in crate::checkpoint) const DST_IPV6: u32 = 1 << 1;
    /// Two bits: nothing, ports, or the ICMP triple.
    pub(in crate::checkpoint) const L4_SHIFT: u32 = 2;
    pub(in crate::checkpoint) const ZONE_ORIG_ONLY: u32 = 1 << 4;
    pub(in crate::checkpoint) const INEXACT: u32 = 1 << 5;
    /// These are there: TCP or SCTP state, counters, timeout, start.
    pub(in crate::checkpoint) const L4_STATE: u32 = 1 << 6;
    pub(in crate::checkpoint) const COUNTERS: u32 = 1 << 7;
    pub(in crate::checkpoint) const TIMEOUT: u32 = 1 << 8;
    pub(in crate::checkpoint) const START: u32 = 1 << 9;
    /// These of the reply tuple are not those of the original's inverse.
    pub(in crate::checkpoint) const REPLY_SRC: u32 = 1 << 10;
    pub(in crate::checkpoint) const REPLY_DST: u32 = 1 << 11;
    pub(in crate::checkpoint) const REPLY_L4: u32 = 1 << 12;
    /// The reply tuple has another family, protocol or form; it is written out.
    pub(in crate::checkpoint) const REPLY_WHOLE: u32 = 1 << 13;
    /// Rare attributes that are there.
    pub(in crate::checkpoint) const LABELS: u32 = 1 << 16;
    pub(in crate::checkpoint) const SEQADJ_ORIG: u32 = 1 << 17;
    pub(in crate::checkpoint) const SEQADJ_REPLY: u32 = 1 << 18;
    pub(in crate::checkpoint) const HELPER: u32 = 1 << 19;
    pub(in crate::checkpoint) const MASTER: u32 = 1 << 20;
    pub(in crate::checkpoint) const VTAGS: u32 = 1 << 21;
    pub(in crate::checkpoint) const SYNPROXY: u32 = 1 << 22;
    pub(in crate::checkpoint) const ZONE_REPLY: u32 = 1 << 23;
    /// All of the rare ones.
    pub(in crate::checkpoint) const RARE: u32 = 0xff << 16;
    const ALL: u32 = 0x00ff_3fff;
    /// Never set.
    pub(in crate::checkpoint) const UNKNOWN: u32 = !ALL;
}

/// Status, mark, TCP or SCTP state, zone and protocol, flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Kind([u32; 5]);

impl Kind {
    pub(super) fn of(flow: &SavedFlow) -> Self {
        let state = flow.l4_state.map_or(0, |state| {
            u32::from_be_bytes([state.state, state.wscales, state.flags_orig, state.flags_reply])
        });
        let zone_proto = u32::from(flow.zone) << 16 | u32::from(flow.orig.proto.0);
        Self([flow.status.0, flow.mark, state, zone_proto, flags(flow)])
    }

    #[inline]
    pub(super) const fn has(&self, bits: u32) -> bool {
        self.0[4] & bits != 0
    }

    pub(super) const fn status(&self) -> Status {
        Status(self.0[0])
    }

    pub(super) const fn mark(&self) -> u32 {
        self.0[1]
    }

    pub(super) fn l4_state(&self) -> Option<L4State> {
        let [state, wscales, flags_orig, flags_reply] = self.0[2].to_be_bytes();
        self.has(flag::L4_STATE).then_some(L4State { state, wscales, flags_orig, flags_reply })
    }

    pub(super) fn zone(&self) -> u16 {
        words::high_half(self.0[3])
    }

    pub(super) const fn proto(&self) -> Protocol {
        let [.., proto] = self.0[3].to_be_bytes();
        Protocol(proto)
    }

    /// Which form the protocol's identification has, as [`words::to_l4`] takes it.
    pub(super) const fn l4_form(&self) -> u32 {
        self.0[4] >> flag::L4_SHIFT & 3
    }

    /// Whether a writer may have made it.
    fn is_sound(&self) -> bool {
        let spare = self.0[3] >> 8 & 0xff;
        !self.has(flag::UNKNOWN) && self.l4_form() != 3 && spare == 0
    }

    fn hash(&self) -> u32 {
        let hash = self
            .0
            .iter()
            .fold(0_u32, |hash, word| (hash ^ word).wrapping_mul(0x9e37_79b1).rotate_left(15));
        hash ^ hash >> 15
    }
}

fn flags(flow: &SavedFlow) -> u32 {
    let SavedFlow { orig, rare, .. } = flow;
    let form = words::of_l4(orig.l4).0 << flag::L4_SHIFT;
    let bits = [
        (flag::SRC_IPV6, orig.src.is_ipv6()),
        (flag::DST_IPV6, orig.dst.is_ipv6()),
        (flag::ZONE_ORIG_ONLY, flow.zone_orig_only),
        (flag::INEXACT, flow.inexact),
        (flag::L4_STATE, flow.l4_state.is_some()),
        (flag::COUNTERS, flow.counters.is_some()),
        (flag::TIMEOUT, flow.timeout_s.is_some()),
        (flag::START, flow.start_ms.is_some()),
        (flag::LABELS, rare.labels.is_some()),
        (flag::SEQADJ_ORIG, rare.seqadj_orig.is_some()),
        (flag::SEQADJ_REPLY, rare.seqadj_reply.is_some()),
        (flag::HELPER, rare.helper.is_some()),
        (flag::MASTER, rare.master.is_some()),
        (flag::VTAGS, rare.vtags.is_some()),
        (flag::SYNPROXY, rare.synproxy.is_some()),
        (flag::ZONE_REPLY, rare.zone_reply.is_some()),
    ];
    let set = bits.iter().filter(|(_, set)| *set).fold(0, |sum, (bit, _)| sum | bit);
    form | reply_flags(flow) | set
}

fn reply_flags(flow: &SavedFlow) -> u32 {
    let (plain, reply) = (flow.orig.inverse(), &flow.reply);
    let form = |l4: L4| words::of_l4(l4).0;
    if plain.src.is_ipv6() != reply.src.is_ipv6()
        || plain.dst.is_ipv6() != reply.dst.is_ipv6()
        || plain.proto != reply.proto
        || form(plain.l4) != form(reply.l4)
    {
        return flag::REPLY_WHOLE;
    }
    let differ = |bit: u32, differ: bool| if differ { bit } else { 0 };
    differ(flag::REPLY_SRC, plain.src != reply.src)
        | differ(flag::REPLY_DST, plain.dst != reply.dst)
        | differ(flag::REPLY_L4, plain.l4 != reply.l4)
}

/// The kinds that can be told by number.
const SLOTS: usize = 256;
/// Slots that share the upper half of their number.
const GROUP: usize = 16;
/// In place of the upper half: a new kind.
const NEW: usize = 16;
/// Places of the writer's index.
const PLACES: usize = 1024;
const PROBES: usize = 8;

/// One kind, and what is remembered of its flows.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Slot {
    pub(super) kind: Kind,
    /// The longest timeout so far.
    pub(super) timeout_s: u32,
}

/// The last kinds: the 257th takes the place of the first, and so on.
#[derive(Debug)]
pub(super) struct Kinds {
    slots: Box<[Slot]>,
    /// The slot that the next new kind gets.
    next: usize,
    filled: usize,
    last: Kind,
    /// The writer's: slots by hash, whose kind may have changed since; `u16::MAX` = free.
    index: Box<[u16]>,
    /// Of the upper half of a number, and of the lower half for each upper one.
    upper: Alphabet,
    lower: Box<[Alphabet]>,
    literals: [Lengths; 5],
}

impl Kinds {
    pub(super) fn new(writes: bool) -> Self {
        Self {
            slots: vec![Slot::default(); SLOTS].into(),
            next: 0,
            filled: 0,
            last: Kind::default(),
            index: vec![u16::MAX; if writes { PLACES } else { 0 }].into(),
            upper: Alphabet::EVEN,
            lower: vec![Alphabet::EVEN; SLOTS / GROUP].into(),
            literals: [Lengths::EVEN; 5],
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        (self.next, self.filled, self.last) = (0, 0, Kind::default());
        self.index.fill(u16::MAX);
        self.upper = Alphabet::EVEN;
        self.lower.fill(Alphabet::EVEN);
        self.literals = [Lengths::EVEN; 5];
    }

    /// A kind.
    pub(super) fn code<S: Stream>(
        &mut self,
        s: &mut S,
        kind: impl FnOnce() -> Kind,
    ) -> Result<&mut Slot, Unsound> {
        let kind = if S::WRITES { kind() } else { Kind::default() };
        let found = if S::WRITES { self.find(&kind) } else { Err(0) };
        let number = found.map_or(NEW * GROUP, usize::from);
        let upper = s.symbol(&mut self.upper, number / GROUP);
        if upper != NEW {
            let lower = self.lower.get_mut(upper).ok_or(Unsound)?;
            let number = upper * GROUP + s.symbol(lower, number % GROUP);
            return self.slots[..self.filled].get_mut(number).ok_or(Unsound);
        }
        for ((last, lengths), value) in self.last.0.iter_mut().zip(&mut self.literals).zip(kind.0) {
            *last ^= lengths.word(s, value ^ *last)?;
        }
        if !self.last.is_sound() {
            return Err(Unsound);
        }
        let number = self.next;
        if let (true, Err(place)) = (S::WRITES, found) {
            self.index[place] = u16::try_from(number).unwrap_or(0);
        }
        self.next = (number + 1) % SLOTS;
        self.filled = SLOTS.min(self.filled + 1);
        let slot = &mut self.slots[number];
        *slot = Slot { kind: self.last, timeout_s: 0 };
        Ok(slot)
    }

    /// The slot that has this kind, or the place in the index where it may be noted.
    fn find(&self, kind: &Kind) -> Result<u16, usize> {
        let home = kind.hash() as usize;
        for probe in 0..PROBES {
            let place = home.wrapping_add(probe) % PLACES;
            match self.slots.get(usize::from(self.index[place])) {
                Some(slot) if slot.kind == *kind => return Ok(self.index[place]),
                Some(_) => {}
                None => return Err(place),
            }
        }
        Err(home % PLACES)
    }
}

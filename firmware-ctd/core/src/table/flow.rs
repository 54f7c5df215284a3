//! One flow in the table, seen and changed in place.

use super::carried::Carried;
use super::extension::Extension;
use super::key;
use super::layout::{CARRIED, CELL, EXTENSION, Layout, addresses, body, carry, head};
use crate::wire::{Counters, Status, Tuple};
use crate::words::{self, get_u64, put_u64};

/// What is known of a flow beyond the kernel's attributes.
pub mod flag {
    /// [`start_ns`](super::FlowRef::start_ns) is the kernel's own start, from a dump.
    pub const START_EXACT: u32 = 1 << 16;
    /// The start is the time of the flow's NEW event: at or shortly after the real one.
    pub const START_EVENT: u32 = 1 << 17;
    /// The kernel counts packets and bytes of this flow.
    pub const COUNTERS: u32 = 1 << 18;
    /// Counters ran backwards: the sums are a lower bound.
    pub const INEXACT: u32 = 1 << 19;
    /// A dump that should have shown the flow did not.
    pub const MISSED: u32 = 1 << 20;
    /// A later flow with the same tuple was heard of: this one's DESTROY is still to come.
    pub const REPLACED: u32 = 1 << 21;
    /// Made by an event that may have been older than a DESTROY already seen.
    pub const DOUBTFUL: u32 = 1 << 22;
    /// First seen in a dump: it may have been made before events were attached to flows, and
    /// then never sends a DESTROY.
    pub const FROM_DUMP: u32 = 1 << 23;
    /// The timeout is known.
    pub const TIMEOUT: u32 = 1 << 24;
    /// The zone is of the original direction alone.
    pub const ZONE_ORIG_ONLY: u32 = 1 << 25;
    /// TCP (or SCTP) state is known.
    pub const L4_STATE: u32 = 1 << 26;
    /// An attribute had no room among the extensions.
    pub const EXTENSION_LOST: u32 = 1 << 27;
    /// Nobody listened for a while, and the flow has not been heard of since.
    pub const UNHEARD: u32 = 1 << 28;
    /// Saved before a reboot, and no dump of this boot has shown it yet. With [`START_EVENT`] it
    /// was made again in the kernel, at or shortly before that time; without, it was not.
    pub const RESTORED: u32 = 1 << 29;
    /// What the flow carries on had no room.
    pub const CARRIED_LOST: u32 = 1 << 30;
    /// The save that is under way has been given the flow.
    pub const SAVED: u32 = 1 << 31;
}

/// TCP state, window scales and flags of both directions; for SCTP the state alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct L4State {
    /// `enum tcp_conntrack` or `enum sctp_conntrack`.
    pub state: u8,
    /// Window scales, original in the low and reply in the high four bits.
    pub wscales: u8,
    /// TCP flags of the original direction.
    pub flags_orig: u8,
    /// TCP flags of the reply direction.
    pub flags_reply: u8,
}

/// A flow in the table, to read.
#[derive(Clone, Copy, Debug)]
pub struct FlowRef<'t> {
    pub(super) mem: &'t [u32],
    pub(super) layout: &'t Layout,
    pub(super) head: usize,
    pub(super) body: usize,
}

impl FlowRef<'_> {
    #[inline]
    fn in_head(&self, word: usize) -> u32 {
        self.mem[self.head + word]
    }

    #[inline]
    fn in_body(&self, word: usize) -> u32 {
        self.mem[self.body + word]
    }

    fn address(&self, first: usize, rest: usize) -> core::net::IpAddr {
        let addresses = self.in_head(head::ADDRESSES);
        let mut others = [0; 3];
        if addresses != 0 {
            let at = self.layout.cell(addresses) + rest;
            others = [self.mem[at], self.mem[at + 1], self.mem[at + 2]];
        }
        words::to_address(addresses != 0, self.in_head(first), others)
    }

    fn tuple(&self, src: (usize, usize), dst: (usize, usize), l4: usize) -> Tuple {
        let kind = self.in_head(head::KIND);
        Tuple {
            src: self.address(src.0, src.1),
            dst: self.address(dst.0, dst.1),
            proto: key::protocol(kind),
            l4: key::l4(kind, self.in_head(l4)),
        }
    }

    /// The original tuple.
    #[must_use]
    pub fn orig(&self) -> Tuple {
        self.tuple((head::SRC, addresses::SRC), (head::DST, addresses::DST), head::L4)
    }

    /// The reply tuple.
    #[must_use]
    pub fn reply(&self) -> Tuple {
        self.tuple(
            (head::REPLY_SRC, addresses::REPLY_SRC),
            (head::REPLY_DST, addresses::REPLY_DST),
            head::REPLY_L4,
        )
    }

    /// The zone of the original direction, 0 for none.
    #[must_use]
    pub fn zone(&self) -> u16 {
        key::zone(self.in_head(head::KIND))
    }

    /// `CTA_ID`.
    #[inline]
    #[must_use]
    pub fn id(&self) -> u32 {
        self.in_head(head::ID)
    }

    /// `CTA_STATUS`.
    #[must_use]
    pub fn status(&self) -> Status {
        Status(self.in_head(head::STATUS))
    }

    /// `CTA_MARK`.
    #[must_use]
    pub fn mark(&self) -> u32 {
        self.in_head(head::MARK)
    }

    /// The bits of [`flag`] that are set.
    #[inline]
    #[must_use]
    pub fn flags(&self) -> u32 {
        self.in_head(head::FLAGS) & 0xffff_0000
    }

    /// Whether all of these bits of [`flag`] are set.
    #[inline]
    #[must_use]
    pub fn has(&self, flags: u32) -> bool {
        self.in_head(head::FLAGS) & flags == flags
    }

    /// The generation in which the flow was last seen.
    #[inline]
    #[must_use]
    pub fn generation(&self) -> u16 {
        words::low_half(self.in_head(head::FLAGS))
    }

    /// What the kernel last told of both directions, original and reply, without the base.
    #[must_use]
    pub fn counters(&self) -> [Counters; 2] {
        let at = |word| get_u64(self.mem, self.body + body::COUNTERS + word);
        [Counters { packets: at(0), bytes: at(2) }, Counters { packets: at(4), bytes: at(6) }]
    }

    /// Start of the flow, wall clock in nanoseconds, as the flags say how exact; 0 is unknown.
    #[inline]
    #[must_use]
    pub fn start_ns(&self) -> u64 {
        get_u64(self.mem, self.body + body::START)
    }

    /// When the flow times out, in seconds since boot, if its flag says so.
    #[must_use]
    pub fn expires_s(&self) -> Option<u32> {
        self.has(flag::TIMEOUT).then(|| self.in_body(body::EXPIRES))
    }

    /// When the counters were last told, in seconds since boot.
    #[must_use]
    pub fn as_of_s(&self) -> u32 {
        self.in_body(body::AS_OF)
    }

    /// TCP or SCTP state, if known.
    #[must_use]
    pub fn l4_state(&self) -> Option<L4State> {
        self.has(flag::L4_STATE).then(|| {
            let [state, wscales, flags_orig, flags_reply] = self.in_body(body::TCP).to_be_bytes();
            L4State { state, wscales, flags_orig, flags_reply }
        })
    }

    /// Whether the flow has rare attributes.
    #[inline]
    #[must_use]
    pub fn has_extension(&self) -> bool {
        self.extension_reference() != 0
    }

    /// The rare attributes.
    #[must_use]
    pub fn extension(&self) -> Extension {
        match self.extension_reference() {
            0 => Extension::default(),
            reference => {
                let at = self.layout.extension(reference);
                Extension::load(&self.mem[at..at + EXTENSION])
            }
        }
    }

    /// What the flow carries on from before.
    #[must_use]
    pub fn carried(&self) -> Carried {
        self.carried_at()
            .map_or_else(Carried::default, |at| Carried::load(&self.mem[at..at + CELL]))
    }

    /// Where that lies.
    #[inline]
    fn carried_at(&self) -> Option<usize> {
        let rare = self.in_body(body::EXTENSION);
        (rare & CARRIED != 0).then(|| self.layout.cell(rare & !CARRIED))
    }

    #[inline]
    fn extension_reference(&self) -> u32 {
        match self.carried_at() {
            Some(at) => self.mem[at + carry::EXTENSION],
            None => self.in_body(body::EXTENSION),
        }
    }
}

/// A flow in the table, to change. Its key never changes.
#[derive(Debug)]
pub struct FlowMut<'t> {
    pub(super) mem: &'t mut [u32],
    pub(super) layout: &'t Layout,
    pub(super) head: usize,
    pub(super) body: usize,
}

impl FlowMut<'_> {
    #[inline]
    fn set_head(&mut self, word: usize, value: u32) {
        self.mem[self.head + word] = value;
    }

    #[inline]
    fn set_body(&mut self, word: usize, value: u32) {
        self.mem[self.body + word] = value;
    }

    fn set_address(&mut self, first: usize, rest: usize, address: core::net::IpAddr) {
        let (word, others) = words::of_address(address);
        self.set_head(first, word);
        let addresses = self.mem[self.head + head::ADDRESSES];
        if addresses != 0 {
            let at = self.layout.cell(addresses) + rest;
            [self.mem[at], self.mem[at + 1], self.mem[at + 2]] = others;
        }
    }

    /// Sets the reply tuple, which is of the original's family and protocol.
    pub fn set_reply(&mut self, reply: &Tuple) {
        self.set_address(head::REPLY_SRC, addresses::REPLY_SRC, reply.src);
        self.set_address(head::REPLY_DST, addresses::REPLY_DST, reply.dst);
        self.set_head(head::REPLY_L4, words::of_l4(reply.l4).1);
    }

    /// Sets `CTA_ID`.
    pub fn set_id(&mut self, id: u32) {
        self.set_head(head::ID, id);
    }

    /// Sets `CTA_STATUS`.
    pub fn set_status(&mut self, status: Status) {
        self.set_head(head::STATUS, status.0);
    }

    /// Sets `CTA_MARK`.
    pub fn set_mark(&mut self, mark: u32) {
        self.set_head(head::MARK, mark);
    }

    /// Sets and clears bits of [`flag`].
    #[inline]
    pub fn change_flags(&mut self, set: u32, clear: u32) {
        let flags = self.mem[self.head + head::FLAGS] & !(clear & 0xffff_0000);
        self.set_head(head::FLAGS, flags | set & 0xffff_0000);
    }

    /// Notes the generation in which the flow was seen.
    #[inline]
    pub fn set_generation(&mut self, generation: u16) {
        let flags = self.mem[self.head + head::FLAGS] & 0xffff_0000;
        self.set_head(head::FLAGS, flags | u32::from(generation));
    }

    /// Sets the kernel's counters of both directions, and when they were told.
    pub fn set_counters(&mut self, [orig, reply]: [Counters; 2]) {
        let at = self.body + body::COUNTERS;
        put_u64(self.mem, at, orig.packets);
        put_u64(self.mem, at + 2, orig.bytes);
        put_u64(self.mem, at + 4, reply.packets);
        put_u64(self.mem, at + 6, reply.bytes);
        self.change_flags(flag::COUNTERS, 0);
    }

    /// Sets the start and how it is known: [`flag::START_EXACT`] or [`flag::START_EVENT`].
    pub fn set_start(&mut self, start_ns: u64, how: u32) {
        put_u64(self.mem, self.body + body::START, start_ns);
        self.change_flags(how, flag::START_EXACT | flag::START_EVENT);
    }

    /// Sets when the flow times out, in seconds since boot.
    pub fn set_expires_s(&mut self, at_s: u32) {
        self.set_body(body::EXPIRES, at_s);
        self.change_flags(flag::TIMEOUT, 0);
    }

    /// Sets when the flow was last known to live, in seconds since boot.
    pub fn set_as_of_s(&mut self, at_s: u32) {
        self.set_body(body::AS_OF, at_s);
    }

    /// Sets TCP or SCTP state.
    pub fn set_l4_state(&mut self, s: L4State) {
        let word = u32::from_be_bytes([s.state, s.wscales, s.flags_orig, s.flags_reply]);
        self.set_body(body::TCP, word);
        self.change_flags(flag::L4_STATE, 0);
    }
}

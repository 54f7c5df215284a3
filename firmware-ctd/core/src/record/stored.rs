//! Records of destroyed flows as words, to be kept in memory that outlives a process.
//!
//! Only what a destroyed flow has is kept: kind, flow id and timeout are not. Any words can be read
//! back; what never was a record gives some record.

use super::{Cause, Kind, Record, RecordKey};
use crate::table::L4State;
use crate::wire::{Counters, Labels, Protocol, Status, Tuple};
use crate::words::{self, get_u64, put_u64};

/// Words of one record.
pub const WORDS: usize = 50;

/// Changes whenever the meaning of the words does.
pub const VERSION: u32 = 2;

mod at {
    pub(super) const PRESENT: usize = 0;
    pub(super) const KEY: usize = 1; // two words, as are all times
    pub(super) const START: usize = 3;
    pub(super) const END: usize = 5;
    pub(super) const AS_OF: usize = 7;
    pub(super) const ORIG: usize = 9; // nine words a tuple
    pub(super) const REPLY: usize = 18;
    pub(super) const COUNTERS: usize = 27; // eight words
    pub(super) const MARK: usize = 35;
    pub(super) const ID: usize = 36;
    pub(super) const STATUS: usize = 37;
    pub(super) const L4_STATE: usize = 38;
    pub(super) const ZONE: usize = 39;
    pub(super) const HELPER: usize = 40; // four words
    pub(super) const LABELS: usize = 44; // four words
    pub(super) const ACCOUNT: usize = 48; // two words
}

mod bit {
    pub(super) const CAUSE: u32 = 0; // two bits
    pub(super) const WEAK: u32 = 1 << 2;
    pub(super) const INEXACT: u32 = 1 << 3;
    pub(super) const IPV6: u32 = 1 << 4;
    pub(super) const START: u32 = 1 << 5;
    pub(super) const END: u32 = 1 << 6;
    pub(super) const AS_OF: u32 = 1 << 7;
    pub(super) const COUNTERS: u32 = 1 << 8;
    pub(super) const L4_STATE: u32 = 1 << 9;
    pub(super) const HELPER: u32 = 1 << 10;
    pub(super) const LABELS: u32 = 1 << 11;
    pub(super) const ORIG_L4: u32 = 12; // two bits
    pub(super) const REPLY_L4: u32 = 14; // two bits
    pub(super) const ACCOUNT: u32 = 1 << 16;
    pub(super) const PROTOCOL: u32 = 24; // eight bits
}

/// Writes the record into its words; what it does not have leaves its words as they were.
pub fn store(record: &Record, to: &mut [u32; WORDS]) {
    let flag = |is: bool, bit: u32| if is { bit } else { 0 };
    let orig_l4 = store_tuple(&record.orig, to, at::ORIG) << bit::ORIG_L4;
    let reply_l4 = store_tuple(&record.reply, to, at::REPLY) << bit::REPLY_L4;
    let present = (record.cause as u32) << bit::CAUSE
        | flag(record.key.is_weak(), bit::WEAK)
        | flag(record.inexact, bit::INEXACT)
        | flag(record.orig.src.is_ipv6(), bit::IPV6)
        | flag(record.start_ns.is_some(), bit::START)
        | flag(record.end_ns.is_some(), bit::END)
        | flag(record.as_of_ns.is_some(), bit::AS_OF)
        | flag(record.counters.is_some(), bit::COUNTERS)
        | flag(record.l4_state.is_some(), bit::L4_STATE)
        | flag(record.helper.is_some(), bit::HELPER)
        | flag(record.labels.is_some(), bit::LABELS)
        | flag(record.account.is_some(), bit::ACCOUNT)
        | orig_l4
        | reply_l4
        | u32::from(record.orig.proto.0) << bit::PROTOCOL;
    to[at::PRESENT] = present;
    put_u64(to, at::KEY, record.key.value());
    put_u64(to, at::START, record.start_ns.unwrap_or(0));
    put_u64(to, at::END, record.end_ns.unwrap_or(0));
    put_u64(to, at::AS_OF, record.as_of_ns.unwrap_or(0));
    put_u64(to, at::ACCOUNT, record.account.unwrap_or(0));
    if let Some([orig, reply]) = record.counters {
        put_u64(to, at::COUNTERS, orig.packets);
        put_u64(to, at::COUNTERS + 2, orig.bytes);
        put_u64(to, at::COUNTERS + 4, reply.packets);
        put_u64(to, at::COUNTERS + 6, reply.bytes);
    }
    to[at::MARK] = record.mark;
    to[at::ID] = record.id;
    to[at::STATUS] = record.status.0;
    to[at::ZONE] = u32::from(record.zone);
    if let Some(s) = record.l4_state {
        to[at::L4_STATE] = u32::from_be_bytes([s.state, s.wscales, s.flags_orig, s.flags_reply]);
    }
    if let Some(helper) = record.helper {
        to[at::HELPER..at::HELPER + 4].copy_from_slice(&words::of_bytes(helper));
    }
    if let Some(labels) = record.labels {
        to[at::LABELS..at::LABELS + 4].copy_from_slice(&words::of_bytes(labels.0));
    }
}

/// Writes a tuple; which kind of layer 4 identification it has.
fn store_tuple(tuple: &Tuple, to: &mut [u32; WORDS], at: usize) -> u32 {
    let (src, src_rest) = words::of_address(tuple.src);
    let (dst, dst_rest) = words::of_address(tuple.dst);
    let (kind, l4) = words::of_l4(tuple.l4);
    to[at] = src;
    to[at + 1] = dst;
    to[at + 2] = l4;
    if tuple.src.is_ipv6() {
        to[at + 3..at + 6].copy_from_slice(&src_rest);
        to[at + 6..at + 9].copy_from_slice(&dst_rest);
    }
    kind
}

/// The record whose words these are.
#[must_use]
pub fn load(from: &[u32; WORDS]) -> Record {
    let present = from[at::PRESENT];
    let has = |bit: u32| present & bit != 0;
    let long = |bit: u32, at: usize| has(bit).then(|| get_u64(from, at));
    let key = get_u64(from, at::KEY);
    let four = |at: usize| [from[at], from[at + 1], from[at + 2], from[at + 3]];
    Record {
        kind: Kind::Destroy,
        cause: Cause::from_bits(present >> bit::CAUSE),
        key: if has(bit::WEAK) { RecordKey::Weak(key) } else { RecordKey::Strong(key) },
        flow: 0,
        account: long(bit::ACCOUNT, at::ACCOUNT),
        start_ns: long(bit::START, at::START),
        end_ns: long(bit::END, at::END),
        as_of_ns: long(bit::AS_OF, at::AS_OF),
        orig: load_tuple(from, at::ORIG, present >> bit::ORIG_L4),
        reply: load_tuple(from, at::REPLY, present >> bit::REPLY_L4),
        counters: has(bit::COUNTERS).then(|| load_counters(from)),
        inexact: has(bit::INEXACT),
        zone: words::low_half(from[at::ZONE]),
        mark: from[at::MARK],
        id: from[at::ID],
        status: Status(from[at::STATUS]),
        timeout_s: None,
        l4_state: has(bit::L4_STATE).then(|| {
            let [state, wscales, flags_orig, flags_reply] = from[at::L4_STATE].to_be_bytes();
            L4State { state, wscales, flags_orig, flags_reply }
        }),
        helper: has(bit::HELPER).then(|| words::to_bytes(four(at::HELPER))),
        labels: has(bit::LABELS).then(|| Labels(words::to_bytes(four(at::LABELS)))),
    }
}

/// Packets and bytes of both directions together; nothing where none were counted.
#[must_use]
pub fn totals(from: &[u32; WORDS]) -> Counters {
    if from[at::PRESENT] & bit::COUNTERS == 0 {
        return Counters::default();
    }
    let [orig, reply] = load_counters(from);
    Counters {
        packets: orig.packets.saturating_add(reply.packets),
        bytes: orig.bytes.saturating_add(reply.bytes),
    }
}

fn load_counters(from: &[u32; WORDS]) -> [Counters; 2] {
    let at = |index| get_u64(from, at::COUNTERS + index);
    [Counters { packets: at(0), bytes: at(2) }, Counters { packets: at(4), bytes: at(6) }]
}

fn load_tuple(from: &[u32; WORDS], at: usize, l4_kind: u32) -> Tuple {
    let ipv6 = from[at::PRESENT] & bit::IPV6 != 0;
    let rest = |at: usize| [from[at], from[at + 1], from[at + 2]];
    let [protocol, ..] = from[at::PRESENT].to_be_bytes();
    Tuple {
        src: words::to_address(ipv6, from[at], rest(at + 3)),
        dst: words::to_address(ipv6, from[at + 1], rest(at + 6)),
        proto: Protocol(protocol),
        l4: words::to_l4(l4_kind, from[at + 2]),
    }
}

const _: () = assert!(bit::PROTOCOL == 24 && at::ACCOUNT + 2 <= WORDS);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::L4;

    fn tuple(src: &str, dst: &str, l4: L4) -> Tuple {
        Tuple { src: src.parse().unwrap(), dst: dst.parse().unwrap(), proto: Protocol(200), l4 }
    }

    fn full() -> Record {
        Record {
            kind: Kind::Destroy,
            cause: Cause::Restart,
            key: RecordKey::Strong(0x0102_0304_0506_0708),
            flow: 0,
            account: Some(0x1112_1314_1516_1718),
            start_ns: Some(u64::MAX),
            end_ns: Some(1),
            as_of_ns: Some(2),
            orig: tuple("2001:db8::1", "2001:db8:1:2:3:4:5:6", L4::Ports { src: 1, dst: 65_535 }),
            reply: tuple("2001:db8::2", "2001:db8::3", L4::Icmp { id: 7, kind: 8, code: 9 }),
            counters: Some([
                Counters { packets: 1, bytes: u64::MAX },
                Counters { packets: 1 << 40, bytes: 4 },
            ]),
            inexact: true,
            zone: 65_000,
            mark: 0xdead_beef,
            id: 77,
            status: Status(0x19e),
            timeout_s: None,
            l4_state: Some(L4State { state: 3, wscales: 0x71, flags_orig: 5, flags_reply: 6 }),
            helper: Some(*b"ftp\0\0\0\0\0\0\0\0\0\0\0\0\0"),
            labels: Some(Labels([9; 16])),
        }
    }

    #[test]
    fn everything_comes_back() {
        let bare = Record {
            cause: Cause::Event,
            key: RecordKey::Weak(5),
            account: None,
            start_ns: None,
            end_ns: None,
            as_of_ns: None,
            orig: tuple("192.0.2.1", "198.51.100.255", L4::None),
            reply: tuple("198.51.100.255", "192.0.2.1", L4::None),
            counters: None,
            inexact: false,
            l4_state: None,
            helper: None,
            labels: None,
            ..full()
        };
        // Into words that held something else, both ways.
        let mut words = [0xffff_ffff; WORDS];
        for record in [full(), bare, full()] {
            store(&record, &mut words);
            assert_eq!(load(&words), record);
        }
    }

    #[test]
    fn totals_are_of_both_directions() {
        let mut words = [0; WORDS];
        store(&full(), &mut words);
        assert_eq!(totals(&words), Counters { packets: (1 << 40) + 1, bytes: u64::MAX });
        store(&Record { counters: None, ..full() }, &mut words);
        assert_eq!(totals(&words), Counters::default());
    }
}

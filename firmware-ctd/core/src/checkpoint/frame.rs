//! A saved flow as words of this machine: how a daemon hands flows to the process that writes them.
//!
//! A few dozen words for most flows, read back by the same program on the same machine at once; what
//! lasts is the image. Rare attributes take room only where there are any.

use super::SavedFlow;
use crate::table::{Extension, L4State};
use crate::wire::{Counters, Protocol, Status, Tuple};
use crate::words::{self, get_u64, put_u64};

/// Most words of a flow.
pub const MOST_WORDS: usize = at::RARE + Extension::WORDS;

/// Places of the parts; those of addresses beyond IPv4 and of rare attributes may be missing.
mod at {
    /// Which parts there are, kinds of layer 4, protocol.
    pub(super) const PRESENT: usize = 0;
    pub(super) const ZONE: usize = 1;
    pub(super) const STATUS: usize = 2;
    pub(super) const MARK: usize = 3;
    pub(super) const TIMEOUT: usize = 4;
    pub(super) const L4_STATE: usize = 5;
    pub(super) const START: usize = 6;
    pub(super) const COUNTERS: usize = 8;
    /// Source, destination, layer 4 of the original tuple and of the reply tuple.
    pub(super) const TUPLES: usize = 16;
    pub(super) const SHORT: usize = 22;
    /// The last twelve bytes of each address.
    pub(super) const RARE: usize = SHORT + 12;
}

mod bit {
    pub(super) const IPV6: u32 = 1;
    pub(super) const ZONE_ORIG_ONLY: u32 = 1 << 1;
    pub(super) const TIMEOUT: u32 = 1 << 2;
    pub(super) const L4_STATE: u32 = 1 << 3;
    pub(super) const START: u32 = 1 << 4;
    pub(super) const COUNTERS: u32 = 1 << 5;
    pub(super) const INEXACT: u32 = 1 << 6;
    pub(super) const RARE: u32 = 1 << 7;
    pub(super) const ORIG_L4: u32 = 8; // two bits
    pub(super) const REPLY_L4: u32 = 10; // two bits
    pub(super) const PROTOCOL: u32 = 24; // eight bits
}

/// Writes a flow; how many words it takes.
pub fn put(flow: &SavedFlow, to: &mut [u32; MOST_WORDS]) -> usize {
    let ipv6 = flow.orig.src.is_ipv6();
    let rare = !flow.rare.is_empty();
    let flag = |set: bool, bit: u32| if set { bit } else { 0 };
    let mut present = flag(ipv6, bit::IPV6)
        | flag(flow.zone_orig_only, bit::ZONE_ORIG_ONLY)
        | flag(flow.timeout_s.is_some(), bit::TIMEOUT)
        | flag(flow.l4_state.is_some(), bit::L4_STATE)
        | flag(flow.start_ms.is_some(), bit::START)
        | flag(flow.counters.is_some(), bit::COUNTERS)
        | flag(flow.inexact, bit::INEXACT)
        | flag(rare, bit::RARE)
        | u32::from(flow.orig.proto.0) << bit::PROTOCOL;
    to[at::ZONE] = u32::from(flow.zone);
    to[at::STATUS] = flow.status.0;
    to[at::MARK] = flow.mark;
    to[at::TIMEOUT] = flow.timeout_s.unwrap_or(0);
    to[at::L4_STATE] = flow
        .l4_state
        .map_or(0, |s| u32::from_be_bytes([s.state, s.wscales, s.flags_orig, s.flags_reply]));
    put_u64(to, at::START, flow.start_ms.unwrap_or(0));
    let [orig, reply] = flow.counters.unwrap_or_default();
    for (n, value) in [orig.packets, orig.bytes, reply.packets, reply.bytes].iter().enumerate() {
        put_u64(to, at::COUNTERS + 2 * n, *value);
    }
    for (n, (tuple, kind)) in
        [(&flow.orig, bit::ORIG_L4), (&flow.reply, bit::REPLY_L4)].into_iter().enumerate()
    {
        let (src, src_rest) = words::of_address(tuple.src);
        let (dst, dst_rest) = words::of_address(tuple.dst);
        let (l4_kind, l4) = words::of_l4(tuple.l4);
        let first = at::TUPLES + 3 * n;
        to[first..first + 3].copy_from_slice(&[src, dst, l4]);
        let rest = at::SHORT + 6 * n;
        to[rest..rest + 3].copy_from_slice(&src_rest);
        to[rest + 3..rest + 6].copy_from_slice(&dst_rest);
        present |= l4_kind << kind;
    }
    to[at::PRESENT] = present;
    let used = if ipv6 { at::RARE } else { at::SHORT };
    if !rare {
        return used;
    }
    flow.rare.store(&mut to[used..used + Extension::WORDS]);
    used + Extension::WORDS
}

/// Reads a flow; None if these are not the words of one.
#[must_use]
pub fn get(from: &[u32]) -> Option<SavedFlow> {
    let short: &[u32; at::SHORT] = from.first_chunk()?;
    let present = short[at::PRESENT];
    let has = |bit: u32| present & bit != 0;
    let mut rest = from.get(at::SHORT..)?;
    let mut long = [0; 12];
    if has(bit::IPV6) {
        long = *rest.first_chunk()?;
        rest = rest.get(12..)?;
    }
    let rare = match has(bit::RARE) {
        true => Extension::load(rest.get(..Extension::WORDS)?),
        false => Extension::default(),
    };
    let [proto, ..] = present.to_be_bytes();
    let tuple = |n: usize, kind: u32| {
        let (first, others) = (at::TUPLES + 3 * n, 6 * n);
        let three = |at: usize| [long[at], long[at + 1], long[at + 2]];
        Tuple {
            src: words::to_address(has(bit::IPV6), short[first], three(others)),
            dst: words::to_address(has(bit::IPV6), short[first + 1], three(others + 3)),
            proto: Protocol(proto),
            l4: words::to_l4(present >> kind, short[first + 2]),
        }
    };
    let count = |n: usize| get_u64(short, at::COUNTERS + 2 * n);
    Some(SavedFlow {
        orig: tuple(0, bit::ORIG_L4),
        reply: tuple(1, bit::REPLY_L4),
        zone: words::low_half(short[at::ZONE]),
        zone_orig_only: has(bit::ZONE_ORIG_ONLY),
        status: Status(short[at::STATUS]),
        mark: short[at::MARK],
        timeout_s: has(bit::TIMEOUT).then_some(short[at::TIMEOUT]),
        l4_state: has(bit::L4_STATE).then(|| {
            let [state, wscales, flags_orig, flags_reply] = short[at::L4_STATE].to_be_bytes();
            L4State { state, wscales, flags_orig, flags_reply }
        }),
        counters: has(bit::COUNTERS).then(|| {
            [
                Counters { packets: count(0), bytes: count(1) },
                Counters { packets: count(2), bytes: count(3) },
            ]
        }),
        inexact: has(bit::INEXACT),
        start_ms: has(bit::START).then(|| get_u64(short, at::START)),
        rare,
    })
}

/// The words of a flow that do not change as time goes by: all but the timeout.
pub fn lasting(words: &[u32]) -> impl Iterator<Item = &[u32]> {
    let parts = [words.get(..at::TIMEOUT), words.get(at::TIMEOUT + 1..)];
    parts.into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{L4, Labels, SeqAdj};
    use core::net::IpAddr;

    fn flow(src: &str, dst: &str) -> SavedFlow {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let orig = Tuple {
            src: address(src),
            dst: address(dst),
            proto: Protocol::TCP,
            l4: L4::Ports { src: 40_000, dst: 443 },
        };
        SavedFlow {
            orig,
            reply: Tuple { l4: L4::Ports { src: 443, dst: 50_000 }, ..orig },
            zone: 7,
            zone_orig_only: true,
            status: Status(0x19e),
            mark: 0x8000_0001,
            timeout_s: Some(7_440),
            l4_state: Some(L4State { state: 3, wscales: 0x78, flags_orig: 9, flags_reply: 11 }),
            counters: Some([
                Counters { packets: 1, bytes: u64::MAX },
                Counters { packets: 3 << 40, bytes: 4 },
            ]),
            inexact: true,
            start_ms: Some(1_795_289_206_230),
            rare: Extension::default(),
        }
    }

    #[test]
    fn what_is_put_is_got() {
        let four = flow("192.0.2.1", "198.51.100.7");
        let six = flow("2001:db8::1", "2001:db8:ffff::7:8");
        let none = SavedFlow {
            timeout_s: None,
            l4_state: None,
            counters: None,
            start_ms: None,
            inexact: false,
            zone_orig_only: false,
            ..six
        };
        let rare = Extension {
            labels: Some(Labels([7; 16])),
            seqadj_reply: Some(SeqAdj { correction_pos: 1, offset_before: 2, offset_after: 3 }),
            helper: Some(*b"ftp\0\0\0\0\0\0\0\0\0\0\0\0\0"),
            master: Some(four.orig),
            ..Extension::default()
        };
        for flow in [four, six, none, SavedFlow { rare, ..four }, SavedFlow { rare, ..six }] {
            let mut words = [u32::MAX; MOST_WORDS];
            let used = put(&flow, &mut words);
            assert_eq!(get(&words[..used]), Some(flow));
            assert_eq!(get(&words[..used - 1]), None, "one word less is no flow");
        }
    }
}

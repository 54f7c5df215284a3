//! Any flow, any expectation: also such as no kernel makes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use firmware_ctd::checkpoint::{Facts, FunctionName, SavedExpect, SavedFlow};
use firmware_ctd::table::{Extension, L4State};
use firmware_ctd::wire::{Counters, L4, Labels, Protocol, SeqAdj, Status, SynProxy, Tuple};
use proptest::option::{of, weighted};
use proptest::prelude::*;

/// An address of few or of all, so that some come again.
pub(crate) fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        3 => (0..20_u32).prop_map(|n| IpAddr::V4(Ipv4Addr::from_bits(0xc0a8_0100 + n))),
        2 => any::<u32>().prop_map(|n| IpAddr::V4(Ipv4Addr::from_bits(n))),
        1 => (0..20_u128).prop_map(|n| IpAddr::V6(Ipv6Addr::from_bits(0xfd00 << 112 | n))),
        1 => any::<u128>().prop_map(|n| IpAddr::V6(Ipv6Addr::from_bits(n))),
    ]
}

pub(crate) fn l4() -> impl Strategy<Value = L4> {
    prop_oneof![
        1 => Just(L4::None),
        4 => any::<(u16, u16)>().prop_map(|(src, dst)| L4::Ports { src, dst }),
        1 => any::<u16>().prop_map(|src| L4::Ports { src, dst: 443 }),
        1 => any::<(u16, u8, u8)>().prop_map(|(id, kind, code)| L4::Icmp { id, kind, code }),
    ]
}

pub(crate) fn tuple() -> impl Strategy<Value = Tuple> {
    let proto =
        prop_oneof![prop::sample::select(vec![1, 6, 17, 33, 47, 58, 132, 136]), any::<u8>(),];
    (address(), address(), proto, l4()).prop_map(|(src, dst, proto, l4)| Tuple {
        src,
        dst,
        proto: Protocol(proto),
        l4,
    })
}

/// The inverse, the inverse with some of it changed, or any tuple.
fn reply(orig: Tuple) -> impl Strategy<Value = Tuple> {
    let plain = orig.inverse();
    (0..8_u8, tuple(), any::<bool>()).prop_map(move |(changes, other, whole)| {
        if whole && changes == 7 {
            return other;
        }
        let mut reply = plain;
        if changes & 1 != 0 {
            reply.src = other.src;
        }
        if changes & 2 != 0 {
            reply.dst = other.dst;
        }
        if changes & 4 != 0 {
            reply.l4 = match (plain.l4, other.l4) {
                (L4::Ports { src, .. }, L4::Ports { dst, .. }) => L4::Ports { src, dst },
                _ => other.l4,
            };
        }
        reply
    })
}

/// Numbers of every length.
pub(crate) fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        8 => (any::<u64>(), 0..64_u32).prop_map(|(n, shift)| n >> shift),
        1 => Just(0),
        1 => Just(u64::MAX),
    ]
}

fn small() -> impl Strategy<Value = u32> {
    prop_oneof![4 => 0..4_u32, 1 => any::<u32>()]
}

fn counters() -> impl Strategy<Value = Counters> {
    (number(), number()).prop_map(|(packets, bytes)| Counters { packets, bytes })
}

fn seqadj() -> impl Strategy<Value = SeqAdj> {
    any::<(u32, u32, u32)>().prop_map(|(correction_pos, offset_before, offset_after)| SeqAdj {
        correction_pos,
        offset_before,
        offset_after,
    })
}

/// Ends may be NUL or not.
fn function() -> impl Strategy<Value = FunctionName> {
    prop_oneof![Just(*b"nat-follow-master\0\0\0\0\0\0\0"), any::<FunctionName>()]
}

fn name() -> impl Strategy<Value = [u8; 16]> {
    prop_oneof![
        Just(*b"ftp\0\0\0\0\0\0\0\0\0\0\0\0\0"),
        any::<[u8; 16]>(),
        (0..16_usize, any::<[u8; 16]>()).prop_map(|(len, mut name)| {
            name[len..].fill(0);
            name
        }),
    ]
}

fn rare() -> impl Strategy<Value = Extension> {
    let some = 0.5;
    let parts = (
        weighted(some, any::<[u8; 16]>().prop_map(Labels)),
        weighted(some, seqadj()),
        weighted(some, seqadj()),
        weighted(some, name()),
        weighted(some, tuple()),
        weighted(some, any::<[u32; 2]>()),
        weighted(
            some,
            any::<(u32, u32, u32)>().prop_map(|(isn, its, tsoff)| SynProxy { isn, its, tsoff }),
        ),
        weighted(some, any::<u16>()),
    );
    let all = parts.prop_map(
        |(labels, seqadj_orig, seqadj_reply, helper, master, vtags, synproxy, zone_reply)| {
            Extension {
                labels,
                seqadj_orig,
                seqadj_reply,
                helper,
                master,
                vtags,
                synproxy,
                zone_reply,
            }
        },
    );
    prop_oneof![2 => Just(Extension::default()), 1 => all]
}

fn l4_state() -> impl Strategy<Value = L4State> {
    any::<[u8; 4]>().prop_map(|[state, wscales, flags_orig, flags_reply]| L4State {
        state,
        wscales,
        flags_orig,
        flags_reply,
    })
}

pub(crate) fn flow() -> impl Strategy<Value = SavedFlow> {
    let usual_state =
        Just(L4State { state: 3, wscales: 0x77, flags_orig: 0x23, flags_reply: 0x23 });
    let state = of(prop_oneof![3 => usual_state, 1 => l4_state()]);
    let tuples = tuple().prop_flat_map(|orig| (Just(orig), reply(orig)));
    let common = (
        small(),
        prop_oneof![3 => Just(0x18e_u32), 1 => any::<u32>()],
        small(),
        state,
        any::<(bool, bool)>(),
    );
    let own = (
        weighted(0.9, prop_oneof![2 => 0..=432_000_u32, 1 => any::<u32>()]),
        weighted(0.9, (counters(), counters())),
        weighted(0.9, prop_oneof![3 => 1_700_000_000_000..1_700_000_900_000_u64, 1 => number()]),
    );
    (tuples, common, own, rare()).prop_map(|((orig, reply), common, own, rare)| {
        let (zone, status, mark, l4_state, (zone_orig_only, inexact)) = common;
        let (timeout_s, counters, start_ms) = own;
        SavedFlow {
            orig,
            reply,
            zone: zone.to_be_bytes()[3].into(),
            zone_orig_only,
            status: Status(status),
            mark,
            timeout_s,
            l4_state,
            counters: counters.map(|(orig, reply)| [orig, reply]),
            inexact,
            start_ms,
            rare,
        }
    })
}

pub(crate) fn expectation() -> impl Strategy<Value = SavedExpect> {
    let nat = of((any::<u32>(), tuple()));
    ((tuple(), tuple(), tuple()), any::<u16>(), any::<[u32; 3]>(), of(name()), of(function()), nat)
        .prop_map(|((master, tuple, mask), zone, numbers, helper, function, nat)| {
            let [timeout_s, flags, class] = numbers;
            SavedExpect {
                master,
                tuple,
                mask,
                zone,
                timeout_s,
                flags,
                class,
                helper,
                function,
                nat,
            }
        })
}

pub(crate) fn facts() -> impl Strategy<Value = Facts> {
    any::<(u64, [u8; 16], u64, u64, bool, bool)>().prop_map(
        |(generation, boot_id, wall_ns, boot_ms, synchronised, orderly)| Facts {
            generation,
            boot_id,
            wall_ns,
            boot_ms,
            synchronised,
            orderly,
        },
    )
}

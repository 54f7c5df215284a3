//! One flow, one expectation: which values are written, in which order.
//!
//! Written once for both directions, over [`Stream`].

use core::net::IpAddr;

use super::addresses::{Address, Addresses, Role};
use super::coder::{Lengths, Stream, Unsound, below, low_word, raw};
use super::kind::{Kind, Kinds, flag};
use super::saved::{SavedExpect, SavedFlow};
use crate::table::{Extension, HelperName};
use crate::wire::{Counters, L4, Labels, Protocol, SeqAdj, SynProxy, Tuple};
use crate::words;

/// What writer and reader remember between flows, over the whole image.
#[derive(Debug)]
pub(super) struct Codec {
    kinds: Kinds,
    addresses: Addresses,
    numbers: [Numbers; 3],
}

/// How long the numbers of flows of one protocol are.
#[derive(Clone, Copy, Debug)]
struct Numbers {
    start: Lengths,
    sport: Lengths,
    /// None: the port that was last noted for the address.
    dport: Lengths,
    /// None: unchanged.
    reply_ports: [Lengths; 2],
    /// None: longer than any before.
    shorter: Lengths,
    longer: Lengths,
    counters: [(Lengths, Lengths); 2],
}

impl Numbers {
    const EVEN: Self = Self {
        start: Lengths::EVEN,
        sport: Lengths::EVEN,
        dport: Lengths::EVEN,
        reply_ports: [Lengths::EVEN; 2],
        shorter: Lengths::EVEN,
        longer: Lengths::EVEN,
        counters: [(Lengths::EVEN, Lengths::EVEN); 2],
    };

    /// Which of the three sets is for this protocol.
    const fn of(proto: Protocol) -> usize {
        match proto {
            Protocol::TCP => 0,
            Protocol::UDP => 1,
            _ => 2,
        }
    }
}

impl Codec {
    pub(super) fn new(writes: bool) -> Self {
        Self {
            kinds: Kinds::new(writes),
            addresses: Addresses::new(writes),
            numbers: [Numbers::EVEN; 3],
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.kinds.clear();
        self.addresses.clear();
        self.numbers = [Numbers::EVEN; 3];
    }

    /// One flow. `start_ms` is that of the flow before it, and becomes its own; the flows of a
    /// block are in the order of their starts.
    pub(super) fn flow<S: Stream>(
        &mut self,
        s: &mut S,
        given: &SavedFlow,
        start_ms: &mut u64,
    ) -> Result<SavedFlow, Unsound> {
        let slot = self.kinds.code(s, || Kind::of(given))?;
        let kind = slot.kind;
        let numbers = &mut self.numbers[Numbers::of(kind.proto())];
        if kind.has(flag::START) {
            let later = given.start_ms.unwrap_or(0).wrapping_sub(*start_ms);
            let later = numbers.start.number(s, 64, later)?;
            *start_ms = start_ms.checked_add(later).ok_or(Unsound)?;
        }
        let orig = original(s, &mut self.addresses, numbers, kind, &given.orig)?;
        let reply = reply(s, &mut self.addresses, numbers, (kind, &orig), &given.reply)?;
        let timeout_s = match kind.has(flag::TIMEOUT) {
            true => Some(timeout(s, numbers, &mut slot.timeout_s, given.timeout_s)?),
            false => None,
        };
        let counters = match kind.has(flag::COUNTERS) {
            true => Some(counters(s, numbers, given.counters.unwrap_or_default())?),
            false => None,
        };
        let rare = match kind.has(flag::RARE) {
            true => rare(s, kind, &given.rare)?,
            false => Extension::default(),
        };
        Ok(SavedFlow {
            orig,
            reply,
            zone: kind.zone(),
            zone_orig_only: kind.has(flag::ZONE_ORIG_ONLY),
            status: kind.status(),
            mark: kind.mark(),
            timeout_s,
            l4_state: kind.l4_state(),
            counters,
            inexact: kind.has(flag::INEXACT),
            start_ms: kind.has(flag::START).then_some(*start_ms),
            rare,
        })
    }
}

/// The original tuple.
fn original<S: Stream>(
    s: &mut S,
    addresses: &mut Addresses,
    numbers: &mut Numbers,
    kind: Kind,
    given: &Tuple,
) -> Result<Tuple, Unsound> {
    let ipv6 = kind.has(flag::SRC_IPV6);
    let (src, _) = addresses.code(s, Role::Source, ipv6, of_ip(given.src))?;
    let src = to_ip(ipv6, src);
    let ipv6 = kind.has(flag::DST_IPV6);
    let (dst, port) = addresses.code(s, Role::Destination, ipv6, of_ip(given.dst))?;
    let dst = to_ip(ipv6, dst);
    let l4 = match words::to_l4(kind.l4_form(), 0) {
        L4::Ports { .. } => {
            let (given_src, given_dst) = ports(given.l4);
            let src = numbers.sport.half(s, Some(given_src)).ok_or(Unsound)?;
            let other = Some(given_dst).filter(|given| given != port);
            if let Some(other) = numbers.dport.half(s, other) {
                *port = other;
            }
            L4::Ports { src, dst: *port }
        }
        _ => raw_l4(s, kind.l4_form(), given.l4),
    };
    Ok(Tuple { src, dst, proto: kind.proto(), l4 })
}

/// The reply tuple: where it differs from the inverse of the original.
fn reply<S: Stream>(
    s: &mut S,
    addresses: &mut Addresses,
    numbers: &mut Numbers,
    (kind, orig): (Kind, &Tuple),
    given: &Tuple,
) -> Result<Tuple, Unsound> {
    if kind.has(flag::REPLY_WHOLE) {
        return whole_tuple(s, given);
    }
    let mut reply = orig.inverse();
    for (bit, address, given) in
        [(flag::REPLY_SRC, &mut reply.src, given.src), (flag::REPLY_DST, &mut reply.dst, given.dst)]
    {
        if kind.has(bit) {
            let ipv6 = address.is_ipv6();
            let (told, _) = addresses.code(s, Role::Translated, ipv6, of_ip(given))?;
            *address = to_ip(ipv6, told);
        }
    }
    if kind.has(flag::REPLY_L4) {
        reply.l4 = match reply.l4 {
            L4::Ports { src, dst } => {
                let (given_src, given_dst) = ports(given.l4);
                let [for_src, for_dst] = &mut numbers.reply_ports;
                L4::Ports {
                    src: reply_port(s, for_src, src, given_src),
                    dst: reply_port(s, for_dst, dst, given_dst),
                }
            }
            _ => raw_l4(s, kind.l4_form(), given.l4),
        };
    }
    Ok(reply)
}

fn reply_port<S: Stream>(s: &mut S, lengths: &mut Lengths, plain: u16, given: u16) -> u16 {
    lengths.half(s, Some(given).filter(|given| *given != plain)).unwrap_or(plain)
}

/// A timeout, by how far it is from the longest of its kind.
fn timeout<S: Stream>(
    s: &mut S,
    numbers: &mut Numbers,
    longest: &mut u32,
    given: Option<u32>,
) -> Result<u32, Unsound> {
    let given = given.unwrap_or(0);
    let shorter = longest.checked_sub(given).map(u64::from);
    if let Some(shorter) = numbers.shorter.optional(s, 32, shorter) {
        return longest.checked_sub(low_word(shorter)).ok_or(Unsound);
    }
    let longer = numbers.longer.word(s, given.wrapping_sub(*longest))?;
    *longest = longest.checked_add(longer).ok_or(Unsound)?;
    Ok(*longest)
}

/// Counters of both directions: packets, whole bytes a packet, and what is left over.
fn counters<S: Stream>(
    s: &mut S,
    numbers: &mut Numbers,
    mut counters: [Counters; 2],
) -> Result<[Counters; 2], Unsound> {
    for (lengths, direction) in numbers.counters.iter_mut().zip(&mut counters) {
        let packets = lengths.0.number(s, 64, direction.packets)?;
        let divisor = packets.max(1);
        let (each, rest) = divide(direction.bytes, divisor);
        let each = lengths.1.number(s, 64, each)?;
        let rest = below(s, divisor, rest);
        let bytes = each.checked_mul(divisor).and_then(|bytes| bytes.checked_add(rest));
        *direction = Counters { packets, bytes: bytes.ok_or(Unsound)? };
    }
    Ok(counters)
}

/// Quotient and remainder; by 32 bits where it will do, for 32-bit boards.
#[inline]
fn divide(dividend: u64, divisor: u64) -> (u64, u64) {
    match (u32::try_from(dividend), u32::try_from(divisor)) {
        (Ok(dividend), Ok(divisor)) => {
            ((dividend / divisor.max(1)).into(), (dividend % divisor.max(1)).into())
        }
        _ => (dividend / divisor.max(1), dividend % divisor.max(1)),
    }
}

fn rare<S: Stream>(s: &mut S, kind: Kind, given: &Extension) -> Result<Extension, Unsound> {
    let mut out = Extension::default();
    if kind.has(flag::LABELS) {
        let labels = words::of_bytes(given.labels.unwrap_or_default().0);
        out.labels = Some(Labels(words::to_bytes(raw_words(s, labels))));
    }
    for (bit, to, given) in [
        (flag::SEQADJ_ORIG, &mut out.seqadj_orig, given.seqadj_orig),
        (flag::SEQADJ_REPLY, &mut out.seqadj_reply, given.seqadj_reply),
    ] {
        if kind.has(bit) {
            let SeqAdj { correction_pos, offset_before, offset_after } = given.unwrap_or_default();
            let told = raw_words(s, [correction_pos, offset_before, offset_after]);
            let [correction_pos, offset_before, offset_after] = told;
            *to = Some(SeqAdj { correction_pos, offset_before, offset_after });
        }
    }
    if kind.has(flag::HELPER) {
        out.helper = Some(name(s, given.helper.unwrap_or_default())?);
    }
    if kind.has(flag::MASTER) {
        out.master = Some(whole_tuple(s, given.master.as_ref().unwrap_or(&NO_TUPLE))?);
    }
    if kind.has(flag::VTAGS) {
        out.vtags = Some(raw_words(s, given.vtags.unwrap_or_default()));
    }
    if kind.has(flag::SYNPROXY) {
        let SynProxy { isn, its, tsoff } = given.synproxy.unwrap_or_default();
        let [isn, its, tsoff] = raw_words(s, [isn, its, tsoff]);
        out.synproxy = Some(SynProxy { isn, its, tsoff });
    }
    if kind.has(flag::ZONE_REPLY) {
        out.zone_reply = Some(raw_half(s, given.zone_reply.unwrap_or(0)));
    }
    Ok(out)
}

/// One expectation, all of it in plain bits.
pub(super) fn expectation<S: Stream>(
    s: &mut S,
    given: &SavedExpect,
) -> Result<SavedExpect, Unsound> {
    let master = whole_tuple(s, &given.master)?;
    let tuple = whole_tuple(s, &given.tuple)?;
    let mask = whole_tuple(s, &given.mask)?;
    let zone = raw_half(s, given.zone);
    let [timeout_s, flags, class] = raw_words(s, [given.timeout_s, given.flags, given.class]);
    let helper = match raw_bit(s, given.helper.is_some()) {
        true => Some(name(s, given.helper.unwrap_or_default())?),
        false => None,
    };
    let function = match raw_bit(s, given.function.is_some()) {
        true => Some(name(s, given.function.unwrap_or_default())?),
        false => None,
    };
    let nat = match raw_bit(s, given.nat.is_some()) {
        true => {
            let (direction, tuple) = given.nat.unwrap_or((0, NO_TUPLE));
            Some((s.raw(32, direction), whole_tuple(s, &tuple)?))
        }
        false => None,
    };
    Ok(SavedExpect { master, tuple, mask, zone, timeout_s, flags, class, helper, function, nat })
}

/// What a reader has in place of a tuple.
pub(super) const NO_TUPLE: Tuple = Tuple {
    src: IpAddr::V4(core::net::Ipv4Addr::UNSPECIFIED),
    dst: IpAddr::V4(core::net::Ipv4Addr::UNSPECIFIED),
    proto: Protocol(0),
    l4: L4::None,
};

/// A tuple in plain bits: which addresses are IPv6, protocol, form, addresses, and the ports or
/// the ICMP triple.
fn whole_tuple<S: Stream>(s: &mut S, given: &Tuple) -> Result<Tuple, Unsound> {
    let src_ipv6 = raw_bit(s, given.src.is_ipv6());
    let dst_ipv6 = raw_bit(s, given.dst.is_ipv6());
    let [.., proto] = s.raw(8, given.proto.0.into()).to_be_bytes();
    let form = s.raw(2, words::of_l4(given.l4).0);
    if form == 3 {
        return Err(Unsound);
    }
    let src = raw_address(s, src_ipv6, given.src);
    let dst = raw_address(s, dst_ipv6, given.dst);
    Ok(Tuple { src, dst, proto: Protocol(proto), l4: raw_l4(s, form, given.l4) })
}

fn raw_address<S: Stream>(s: &mut S, ipv6: bool, given: IpAddr) -> IpAddr {
    let [first, a, b, c] = of_ip(given);
    let first = s.raw(32, first);
    let rest = if ipv6 { raw_words(s, [a, b, c]) } else { [0; 3] };
    words::to_address(ipv6, first, rest)
}

fn raw_l4<S: Stream>(s: &mut S, form: u32, given: L4) -> L4 {
    let word = if form == 0 { 0 } else { s.raw(32, words::of_l4(given).1) };
    words::to_l4(form, word)
}

/// A name that is padded with NULs: how many bytes to the last that is none, and those.
fn name<S: Stream>(s: &mut S, given: HelperName) -> Result<HelperName, Unsound> {
    let len = given.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    let len = raw(s, 5, len as u64);
    let mut name = HelperName::default();
    let len = usize::try_from(len).map_err(|_| Unsound)?;
    for (to, from) in name.get_mut(..len).ok_or(Unsound)?.iter_mut().zip(given) {
        let [.., byte] = s.raw(8, from.into()).to_be_bytes();
        *to = byte;
    }
    Ok(name)
}

fn raw_words<S: Stream, const N: usize>(s: &mut S, given: [u32; N]) -> [u32; N] {
    given.map(|word| s.raw(32, word))
}

fn raw_half<S: Stream>(s: &mut S, given: u16) -> u16 {
    words::low_half(s.raw(16, given.into()))
}

fn raw_bit<S: Stream>(s: &mut S, given: bool) -> bool {
    s.raw(1, given.into()) == 1
}

fn of_ip(address: IpAddr) -> Address {
    let (first, [a, b, c]) = words::of_address(address);
    [first, a, b, c]
}

fn to_ip(ipv6: bool, [first, a, b, c]: Address) -> IpAddr {
    words::to_address(ipv6, first, [a, b, c])
}

fn ports(l4: L4) -> (u16, u16) {
    match l4 {
        L4::Ports { src, dst } => (src, dst),
        _ => (0, 0),
    }
}

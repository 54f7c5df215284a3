//! Strategies: every value that a message can carry.

use std::net::IpAddr;

use firmware_ctd::wire::{
    Conntrack, Counters, CpuStats, Dccp, Done, Event, Expect, ExpectCpuStats, ExpectNat, Family,
    Filter, GlobalStats, Header, Helper, L4, Labels, NatRange, ProtoInfo, Protocol, Response, Sctp,
    SeqAdj, Status, SynProxy, Tcp, TcpFlags, TcpState, Tuple, TupleFilter,
};
use proptest::option::of;
use proptest::prelude::*;

/// Names that helpers, expectations and security contexts may have: any bytes but NUL.
const NAMES: [&[u8]; 5] = [b"", b"f", b"ftp", b"a-helper-of-15b", b"\xff\x01system_u:object_r:x"];

/// A name.
pub(crate) fn name() -> BoxedStrategy<&'static [u8]> {
    prop::sample::select(NAMES.to_vec()).boxed()
}

/// Any bytes.
pub(crate) fn blob() -> BoxedStrategy<&'static [u8]> {
    prop::sample::select(vec![&b""[..], b"\0", b"\0\0\0\x01", b"\x08\x00\x01\x00\xff"]).boxed()
}

/// An address of the IPv6 or the IPv4 family.
pub(crate) fn address(v6: bool) -> BoxedStrategy<IpAddr> {
    any::<[u8; 16]>()
        .prop_map(move |octets| {
            let [a, b, c, d, ..] = octets;
            if v6 { IpAddr::from(octets) } else { IpAddr::from([a, b, c, d]) }
        })
        .boxed()
}

/// Protocols, those with keys of their own more often than chance would have them.
pub(crate) fn protocol() -> BoxedStrategy<Protocol> {
    let known = [
        Protocol::TCP,
        Protocol::UDP,
        Protocol::UDPLITE,
        Protocol::SCTP,
        Protocol::DCCP,
        Protocol::GRE,
        Protocol::ICMP,
        Protocol::ICMPV6,
    ];
    prop_oneof![4 => prop::sample::select(known.to_vec()), 1 => any::<u8>().prop_map(Protocol)]
        .boxed()
}

/// Any key, whatever the protocol.
pub(crate) fn l4() -> BoxedStrategy<L4> {
    prop_oneof![
        Just(L4::None),
        any::<(u16, u16)>().prop_map(|(src, dst)| L4::Ports { src, dst }),
        any::<(u16, u8, u8)>().prop_map(|(id, kind, code)| L4::Icmp { id, kind, code }),
    ]
    .boxed()
}

/// Any tuple of one family.
pub(crate) fn tuple(v6: bool) -> BoxedStrategy<Tuple> {
    (address(v6), address(v6), protocol(), l4())
        .prop_map(|(src, dst, proto, l4)| Tuple { src, dst, proto, l4 })
        .boxed()
}

/// A header's family that allows tuples of this family.
pub(crate) fn family(v6: bool) -> BoxedStrategy<Family> {
    let own = if v6 { Family::Ipv6 } else { Family::Ipv4 };
    prop_oneof![4 => Just(own), 1 => Just(Family::Unspec), 1 => any::<u8>().prop_map(odd_family)]
        .boxed()
}

fn odd_family(number: u8) -> Family {
    if number == 2 || number == 10 { Family::Unspec } else { Family::from_number(number) }
}

/// Any protocol information.
pub(crate) fn protoinfo() -> BoxedStrategy<ProtoInfo> {
    let flags = || of(any::<(u8, u8)>().prop_map(|(flags, mask)| TcpFlags { flags, mask }));
    let tcp = (of(any::<u8>().prop_map(TcpState)), any::<[Option<u8>; 2]>(), flags(), flags())
        .prop_map(|(state, [wscale_orig, wscale_reply], flags_orig, flags_reply)| {
            ProtoInfo::Tcp(Tcp { state, wscale_orig, wscale_reply, flags_orig, flags_reply })
        });
    let sctp = any::<(Option<u8>, Option<u32>, Option<u32>)>().prop_map(
        |(state, vtag_orig, vtag_reply)| ProtoInfo::Sctp(Sctp { state, vtag_orig, vtag_reply }),
    );
    let dccp =
        any::<(Option<u8>, Option<u8>, Option<u64>)>().prop_map(|(state, role, handshake_seq)| {
            ProtoInfo::Dccp(Dccp { state, role, handshake_seq })
        });
    prop_oneof![Just(ProtoInfo::None), tcp, sctp, dccp].boxed()
}

fn counters() -> BoxedStrategy<Counters> {
    any::<(u64, u64)>().prop_map(|(packets, bytes)| Counters { packets, bytes }).boxed()
}

fn labels() -> BoxedStrategy<Labels> {
    any::<[u8; 16]>().prop_map(Labels).boxed()
}

fn helper() -> BoxedStrategy<Helper<'static>> {
    (name(), of(blob())).prop_map(|(name, info)| Helper { name, info }).boxed()
}

fn nat_range() -> BoxedStrategy<NatRange> {
    any::<bool>()
        .prop_flat_map(|v6| {
            (of(address(v6)), of(address(v6)), any::<Option<(u16, u16)>>())
                .prop_map(|(min, max, ports)| NatRange { min, max, ports })
        })
        .boxed()
}

fn seqadj() -> BoxedStrategy<SeqAdj> {
    any::<[u32; 3]>()
        .prop_map(|[correction_pos, offset_before, offset_after]| SeqAdj {
            correction_pos,
            offset_before,
            offset_after,
        })
        .boxed()
}

fn synproxy() -> BoxedStrategy<SynProxy> {
    any::<[u32; 3]>().prop_map(|[isn, its, tsoff]| SynProxy { isn, its, tsoff }).boxed()
}

/// Any conntrack entry that can be read back: tuples of one family, the header's own where it
/// says one; a directional zone only beside its tuple.
pub(crate) fn conntrack() -> BoxedStrategy<Conntrack<'static>> {
    any::<bool>()
        .prop_flat_map(|v6| (tuples(v6), scalars(), rare()))
        .prop_map(|(a, b, c)| Conntrack {
            family: a.family,
            orig: a.orig,
            reply: a.reply,
            master: a.master,
            zone_orig: a.zone_orig,
            zone_reply: a.zone_reply,
            protoinfo: c.protoinfo,
            helper: c.helper,
            labels: c.labels,
            labels_mask: c.labels_mask,
            nat_src: c.nat_src,
            nat_dst: c.nat_dst,
            seqadj_orig: c.seqadj_orig,
            seqadj_reply: c.seqadj_reply,
            synproxy: c.synproxy,
            secctx: c.secctx,
            ..b
        })
        .boxed()
}

fn tuples(v6: bool) -> BoxedStrategy<Conntrack<'static>> {
    let zones = any::<[Option<u16>; 2]>();
    (family(v6), of(tuple(v6)), of(tuple(v6)), of(tuple(v6)), zones)
        .prop_map(|(family, orig, reply, master, [zone_orig, zone_reply])| Conntrack {
            family,
            orig,
            reply,
            master,
            zone_orig: orig.and(zone_orig),
            zone_reply: reply.and(zone_reply),
            ..Conntrack::default()
        })
        .boxed()
}

fn scalars() -> BoxedStrategy<Conntrack<'static>> {
    let words = any::<[Option<u32>; 7]>();
    let times = any::<[Option<u64>; 3]>();
    (words, times, any::<Option<u16>>(), of(counters()), of(counters()))
        .prop_map(|(words, times, zone, counters_orig, counters_reply)| {
            let [status, status_mask, timeout_s, mark, mark_mask, id, use_count] = words;
            let [start_ns, stop_ns, event_ns] = times;
            Conntrack {
                status: status.map(Status),
                status_mask,
                timeout_s,
                mark,
                mark_mask,
                id,
                use_count,
                start_ns,
                stop_ns,
                event_ns,
                zone,
                counters_orig,
                counters_reply,
                ..Conntrack::default()
            }
        })
        .boxed()
}

fn rare() -> BoxedStrategy<Conntrack<'static>> {
    let named = (of(helper()), of(name()), protoinfo());
    let labels = (of(labels()), of(labels()));
    let nat = (of(nat_range()), of(nat_range()));
    let tcp = (of(seqadj()), of(seqadj()), of(synproxy()));
    (named, labels, nat, tcp)
        .prop_map(|(named, labels, nat, tcp)| Conntrack {
            helper: named.0,
            secctx: named.1,
            protoinfo: named.2,
            labels: labels.0,
            labels_mask: labels.1,
            nat_src: nat.0,
            nat_dst: nat.1,
            seqadj_orig: tcp.0,
            seqadj_reply: tcp.1,
            synproxy: tcp.2,
            ..Conntrack::default()
        })
        .boxed()
}

/// Any expectation that can be read back.
pub(crate) fn expect() -> BoxedStrategy<Expect<'static>> {
    let nat = (any::<u32>(), any::<bool>().prop_flat_map(tuple))
        .prop_map(|(dir, tuple)| ExpectNat { dir, tuple });
    let tuples =
        any::<bool>().prop_flat_map(|v6| (family(v6), of(tuple(v6)), of(tuple(v6)), of(tuple(v6))));
    let words = any::<([Option<u32>; 4], Option<u16>)>();
    (tuples, words, of(name()), of(name()), of(nat))
        .prop_map(|((family, master, tuple, mask), (words, zone), help_name, function, nat)| {
            let [timeout_s, id, flags, class] = words;
            Expect {
                family,
                master,
                tuple,
                mask,
                timeout_s,
                id,
                help_name,
                zone,
                flags,
                class,
                nat,
                function,
            }
        })
        .boxed()
}

/// Any filter.
pub(crate) fn filter() -> BoxedStrategy<Filter> {
    let words = any::<([Option<u32>; 4], Option<u16>)>();
    (any::<u8>(), words, tuple_filter(), tuple_filter())
        .prop_map(|(family, ([mark, mark_mask, status, status_mask], zone), orig, reply)| Filter {
            family: Family::from_number(family),
            mark,
            mark_mask,
            status: status.map(Status),
            status_mask,
            zone,
            orig,
            reply,
        })
        .boxed()
}

fn tuple_filter() -> BoxedStrategy<TupleFilter> {
    let ip =
        any::<(bool, bool)>().prop_flat_map(|(v6, v6_too)| (of(address(v6)), of(address(v6_too))));
    let words = any::<([Option<u16>; 4], [Option<u8>; 2])>();
    (ip, of(protocol()), words)
        .prop_map(
            |((src, dst), proto, ([zone, src_port, dst_port, icmp_id], [icmp_kind, icmp_code]))| {
                TupleFilter {
                    src,
                    dst,
                    zone,
                    proto,
                    src_port,
                    dst_port,
                    icmp_id,
                    icmp_kind,
                    icmp_code,
                }
            },
        )
        .boxed()
}

/// Any event.
pub(crate) fn event() -> BoxedStrategy<Event> {
    prop::sample::select(vec![Event::New, Event::Update, Event::Destroy]).boxed()
}

/// Any statistics of one CPU.
pub(crate) fn cpu_stats() -> BoxedStrategy<CpuStats> {
    any::<(u16, [Option<u32>; 15])>().prop_map(|(cpu, counters)| CpuStats { cpu, counters }).boxed()
}

/// Any statistics of one CPU, for expectations.
pub(crate) fn expect_cpu_stats() -> BoxedStrategy<ExpectCpuStats> {
    any::<(u16, [Option<u32>; 3])>()
        .prop_map(|(cpu, [new, create, delete])| ExpectCpuStats { cpu, new, create, delete })
        .boxed()
}

/// Any statistics of the table.
pub(crate) fn global_stats() -> BoxedStrategy<GlobalStats> {
    any::<[Option<u32>; 2]>()
        .prop_map(|[entries, max_entries]| GlobalStats { entries, max_entries })
        .boxed()
}

/// Any response.
pub(crate) fn response() -> BoxedStrategy<Response<'static>> {
    let header = any::<(u32, u16, u16, u32, u32)>()
        .prop_map(|(len, kind, flags, seq, port)| Header { len, kind, flags, seq, port });
    (0..=i32::MAX, header, of(name()), any::<[Option<u32>; 3]>())
        .prop_map(|(errno, request, ext_msg, [ext_offset, missing_kind, missing_nest])| Response {
            errno,
            request,
            ext_msg,
            ext_offset,
            missing_kind,
            missing_nest,
        })
        .boxed()
}

/// Any end of a dump.
pub(crate) fn done() -> BoxedStrategy<Done<'static>> {
    (0..=i32::MAX, of(name())).prop_map(|(errno, ext_msg)| Done { errno, ext_msg }).boxed()
}

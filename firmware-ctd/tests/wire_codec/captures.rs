//! What kernels said is read as what was asked of them.
//!
//! Expected values are those that `examples/capture_ctnetlink.rs` asked for, and those of the
//! hand-made messages' own descriptions.

use std::collections::BTreeSet;

use firmware_ctd::wire::{
    Conntrack, Counters, CpuCounter, Dccp, Done, Event, Expect, ExpectNat, Family, Helper, L4,
    Labels, Message, Messages, ProtoInfo, Protocol, Response, Sctp, SeqAdj, Status, SynProxy, Tcp,
    TcpFlags, TcpState, Tuple,
};

use crate::capture::{
    ALL, DUMPS, EVENTS, HAND_MADE, Order, RESPONSES, by_name, datagrams, swapped,
};
use crate::support::{emitted, parsed};

fn tuple(src: &str, dst: &str, proto: Protocol, l4: L4) -> Tuple {
    Tuple { src: src.parse().unwrap(), dst: dst.parse().unwrap(), proto, l4 }
}

fn ports(src: u16, dst: u16) -> L4 {
    L4::Ports { src, dst }
}

fn v4(proto: Protocol, l4: L4) -> Tuple {
    tuple("192.0.2.2", "198.51.100.2", proto, l4)
}

fn v6(proto: Protocol, l4: L4) -> Tuple {
    tuple("2001:db8::2", "2001:db8:ffff::2", proto, l4)
}

fn tcp_info() -> ProtoInfo {
    let flags = |flags| Some(TcpFlags { flags, mask: 0 });
    ProtoInfo::Tcp(Tcp {
        state: Some(TcpState::ESTABLISHED),
        wscale_orig: Some(7),
        wscale_reply: Some(9),
        flags_orig: flags(0x0b),
        flags_reply: flags(0x0b),
    })
}

/// The conntrack message that a datagram is.
fn conntrack(datagram: &[u8]) -> (Event, Conntrack<'_>) {
    match parsed(datagram) {
        Ok(Message::Conntrack { event, ct }) => (event, ct),
        other => panic!("not a conntrack message: {other:?}"),
    }
}

fn all_messages(datagram: &[u8]) -> Vec<Message<'_>> {
    Messages::new(datagram).map(|raw| Message::parse(&raw.unwrap()).unwrap()).collect()
}

#[test]
fn every_captured_message_is_read() {
    let mut count = 0;
    for file in ALL {
        for (name, datagram) in datagrams(file) {
            for raw in Messages::new(&datagram) {
                let message = raw.and_then(|raw| Message::parse(&raw));
                assert!(message.is_ok(), "{name}: {message:?}");
                count += 1;
            }
        }
    }
    assert!(count > 180, "only {count} messages");
}

/// A capture swapped for the other byte order has the same lengths in that order, and swapped
/// back is what it was: big-endian machines test with what kernels said, not with something else.
#[test]
fn captures_can_be_swapped() {
    let host = if cfg!(target_endian = "big") { Order::Big } else { Order::Little };
    let other = if cfg!(target_endian = "big") { Order::Little } else { Order::Big };
    for file in ALL {
        for (name, datagram) in datagrams(file) {
            let there = swapped(&datagram, host);
            assert_ne!(there, datagram, "{name}");
            assert_eq!(swapped(&there, other), datagram, "{name}");
        }
    }
}

/// The codec writes an event exactly as the kernel did.
#[test]
fn events_are_emitted_as_the_kernel_has_them() {
    let mut count = 0;
    for (name, datagram) in datagrams(EVENTS) {
        let again = emitted(&parsed(&datagram).unwrap());
        assert_eq!(again[..8], datagram[..8], "{name}: length, type or flags");
        assert_eq!(again[16..], datagram[16..], "{name}");
        count += 1;
    }
    assert!(count > 70, "only {count} events");
}

#[test]
fn a_new_flow_of_every_protocol() {
    let events = by_name(EVENTS);
    let icmp = |kind| L4::Icmp { id: 0x1234, kind, code: 0 };
    let sctp = ProtoInfo::Sctp(Sctp {
        state: Some(4),
        vtag_orig: Some(0x0102_0304),
        vtag_reply: Some(0x0506_0708),
    });
    for (family, of, icmp_proto, icmp_kinds) in [
        ("ipv4", v4 as fn(_, _) -> _, Protocol::ICMP, (8, 0)),
        ("ipv6", v6 as fn(_, _) -> _, Protocol::ICMPV6, (128, 129)),
    ] {
        for (name, proto, l4, answer, info) in [
            ("tcp", Protocol::TCP, ports(40001, 443), ports(443, 40001), tcp_info()),
            ("udp", Protocol::UDP, ports(40002, 53), ports(53, 40002), ProtoInfo::None),
            ("udplite", Protocol::UDPLITE, ports(40003, 5004), ports(5004, 40003), ProtoInfo::None),
            ("sctp", Protocol::SCTP, ports(40004, 2905), ports(2905, 40004), sctp),
            ("gre", Protocol::GRE, ports(0x0101, 0x0202), ports(0x0202, 0x0101), ProtoInfo::None),
            ("icmp", icmp_proto, icmp(icmp_kinds.0), icmp(icmp_kinds.1), ProtoInfo::None),
            ("ospf", Protocol(89), L4::None, L4::None, ProtoInfo::None),
        ] {
            let name = format!("{family} {name}");
            let (event, ct) = conntrack(&events[name.as_str()][0]);
            let orig = of(proto, l4);
            assert_eq!(event, Event::New, "{name}");
            assert_eq!(ct.orig, Some(orig), "{name}");
            let reply = Tuple { src: orig.dst, dst: orig.src, proto, l4: answer };
            assert_eq!(ct.reply, Some(reply), "{name}");
            assert_eq!(orig.inverse(), reply, "{name}");
            assert_eq!(ct.family, if family == "ipv4" { Family::Ipv4 } else { Family::Ipv6 });
            assert_eq!(ct.status, Some(Status(Status::CONFIRMED)), "{name}");
            assert_eq!(ct.timeout_s, Some(600), "{name}");
            assert_eq!(ct.protoinfo, info, "{name}");
            assert!(ct.id.is_some() && ct.event_ns.is_some(), "{name}");
            assert!(ct.counters_orig.is_none() && ct.start_ns.is_none(), "{name}");
        }
    }
}

#[test]
fn what_few_flows_have() {
    let events = by_name(EVENTS);
    let new = |name: &str| conntrack(&events[name][0]).1;
    let tcp = |port| v4(Protocol::TCP, ports(port, 80));
    let natted = Status::CONFIRMED | Status::SRC_NAT_DONE | Status::DST_NAT_DONE;

    let snat = new("snat");
    assert_eq!(snat.orig, Some(tcp(41001)));
    let answer = tuple("198.51.100.2", "203.0.113.1", Protocol::TCP, ports(80, 50000));
    assert_eq!(snat.reply, Some(answer));
    assert_eq!(snat.status, Some(Status(natted | Status::SRC_NAT)));
    let dnat = new("dnat");
    let answer = tuple("10.0.0.7", "192.0.2.2", Protocol::TCP, ports(8080, 41002));
    assert_eq!(dnat.reply, Some(answer));
    assert_eq!(dnat.status, Some(Status(natted | Status::DST_NAT)));
    let answer = tuple("2001:db8:ffff::2", "2001:db8:1::1", Protocol::UDP, ports(53, 50001));
    assert_eq!(new("snat ipv6").reply, Some(answer));

    assert_eq!(new("mark").mark, Some(0xdead_beef));
    let zones = |name| {
        let ct = new(name);
        (ct.zone, ct.zone_orig, ct.zone_reply)
    };
    assert_eq!(zones("zone 7"), (Some(7), None, None));
    assert_eq!(zones("zone 8 original"), (None, Some(8), None));
    assert_eq!(zones("zone 9 reply"), (None, None, Some(9)));

    let adjusted = new("sequence adjustment");
    let seqadj = |n| Some(SeqAdj { correction_pos: n, offset_before: n + 1, offset_after: n + 2 });
    assert_eq!((adjusted.seqadj_orig, adjusted.seqadj_reply), (seqadj(0x1000), seqadj(0x2000)));
    let synproxy = SynProxy { isn: 0x1111_1111, its: 0x2222_2222, tsoff: 0x3333_3333 };
    assert_eq!(new("synproxy").synproxy, Some(synproxy));
    let assured = Status::CONFIRMED | Status::SEEN_REPLY | Status::ASSURED;
    assert_eq!(new("assured").status, Some(Status(assured)));

    assert_eq!(new("helper ftp").helper, Some(Helper { name: b"ftp", info: None }));
    let child = new("flow of a master");
    assert_eq!(child.master, Some(v4(Protocol::TCP, ports(42000, 21))));
    assert_eq!(child.status, Some(Status(Status::CONFIRMED | Status::EXPECTED)));
}

/// A rule sets label 5 and a mark on real packets.
/// An entry is found by its original tuple and the zone of that direction, be it directional.
#[test]
fn entries_in_zones_are_found_and_deleted() {
    let (events, dumps, responses) = (by_name(EVENTS), by_name(DUMPS), by_name(RESPONSES));
    for (zone, port) in [("Some(7)", 41005), ("Some(8)", 41006), ("None", 41007)] {
        let name = format!("delete in zone {zone}");
        let orig = Some(v4(Protocol::TCP, ports(port, 80)));
        let (event, ct) = conntrack(&dumps[name.as_str()][0]);
        assert_eq!((event, ct.orig), (Event::Update, orig), "{name}");
        let answer = parsed(&responses[name.as_str()][0]);
        assert!(matches!(answer, Ok(Message::Response(Response { errno: 0, .. }))), "{name}");
        let (event, ct) = conntrack(&events[name.as_str()][0]);
        assert_eq!((event, ct.orig), (Event::Destroy, orig), "{name}");
    }
}

#[test]
fn labels_and_marks_of_real_packets() {
    let events = by_name(EVENTS);
    let (event, ct) = conntrack(&events["real udp, label"][0]);
    let mut bit = 1_u128 << 5;
    // The kernel writes words of its own size and order; the capture is of a little-endian one.
    bit = bit.to_le();
    assert_eq!((event, ct.labels), (Event::New, Some(Labels(bit.to_ne_bytes()))));
    let (event, ct) = conntrack(&events["real udp, label"][1]);
    assert_eq!((event, ct.labels), (Event::Update, None));
    assert!(ct.status.is_some_and(|status| status.has(Status::SEEN_REPLY)));
    let (_, ct) = conntrack(&events["real udp, mark"][0]);
    assert_eq!((ct.mark, ct.labels), (Some(0x1234), None));
}

#[test]
fn flows_of_the_conntrack_program() {
    let events = by_name(EVENTS);
    let flow = |proto, l4| tuple("10.9.0.1", "10.9.0.2", proto, l4);
    for (name, orig) in [
        ("tcp", flow(Protocol::TCP, ports(1, 2))),
        ("udp", flow(Protocol::UDP, ports(3, 4))),
        ("sctp", flow(Protocol::SCTP, ports(5, 6))),
        // 6.18 has no DCCP: the generic tracker takes it, without ports.
        ("dccp", flow(Protocol::DCCP, L4::None)),
        ("gre", flow(Protocol::GRE, ports(9, 10))),
        ("icmp", flow(Protocol::ICMP, L4::Icmp { id: 77, kind: 13, code: 0 })),
    ] {
        let (event, ct) = conntrack(&events[format!("conntrack -I {name}").as_str()][0]);
        assert_eq!((event, ct.orig), (Event::New, Some(orig)), "{name}");
        assert_eq!(ct.reply, Some(orig.inverse()), "{name}");
        assert_eq!(ct.timeout_s, Some(300), "{name}");
    }
    let (_, udp) = conntrack(&events["conntrack -I udp"][0]);
    assert_eq!(udp.zone, Some(11));
    let (_, tcp) = conntrack(&events["conntrack -I tcp"][0]);
    assert_eq!(tcp.mark, Some(5));
}

/// Every flow that came, and only those, goes: with its counters and its times.
#[test]
fn every_new_flow_is_destroyed_with_counters_and_times() {
    let mut born = BTreeSet::new();
    let mut dead = BTreeSet::new();
    for (name, datagram) in datagrams(EVENTS) {
        let Ok(Message::Conntrack { event, ct }) = parsed(&datagram) else { continue };
        let key = (ct.orig.unwrap(), ct.zone, ct.zone_orig, ct.zone_reply);
        match event {
            Event::New => assert!(born.insert(key), "{name}"),
            Event::Update => {}
            Event::Destroy => {
                assert!(dead.insert(key), "{name}");
                assert!(ct.counters_orig.is_some() && ct.counters_reply.is_some());
                let (start, stop) = (ct.start_ns.unwrap(), ct.stop_ns.unwrap());
                // In this century, in order, and not more than a minute apart.
                assert!(start > 1_700_000_000_000_000_000 && stop < 4_000_000_000_000_000_000);
                assert!(stop > start && stop - start < 60_000_000_000);
            }
        }
    }
    assert!(born.len() > 30);
    assert_eq!(born, dead);
}

#[test]
fn counters_of_real_packets() {
    let of_port = |port| {
        datagrams(EVENTS).into_iter().find_map(|(_, datagram)| match parsed(&datagram) {
            Ok(Message::Conntrack { event: Event::Destroy, ct })
                if matches!(ct.orig?.l4, L4::Ports { dst, .. } if dst == port) =>
            {
                Some((ct.counters_orig?, ct.counters_reply?))
            }
            _ => None,
        })
    };
    // One datagram each way: "question" and "answer", with 28 bytes of headers.
    let udp = (Counters { packets: 1, bytes: 36 }, Counters { packets: 1, bytes: 34 });
    assert_eq!(of_port(5355), Some(udp));
}

#[test]
fn dumps_list_what_was_made() {
    let dumps = by_name(DUMPS);
    let mut listed = Vec::new();
    for datagram in &dumps["table"] {
        listed.extend(all_messages(datagram));
    }
    assert_eq!(listed.pop(), Some(Message::Done(Done::default())));
    let made: BTreeSet<_> = datagrams(EVENTS)
        .into_iter()
        .filter_map(|(_, datagram)| match parsed(&datagram) {
            Ok(Message::Conntrack { event: Event::New, ct }) => Some((ct.orig?, ct.zone)),
            _ => None,
        })
        .collect();
    let mut seen = BTreeSet::new();
    for message in listed {
        let Message::Conntrack { event: Event::Update, ct } = message else {
            panic!("{message:?}");
        };
        assert!(ct.use_count.is_some() && ct.start_ns.is_some() && ct.counters_reply.is_some());
        assert_eq!((ct.stop_ns, ct.event_ns), (None, None));
        seen.insert((ct.orig.unwrap(), ct.zone));
    }
    assert_eq!(seen, made);
    let marked = all_messages(&dumps["mark 0xdeadbeef"][0]);
    assert!(matches!(marked[..], [Message::Conntrack { ct, .. }] if ct.mark == Some(0xdead_beef)));
}

/// Each filter let through what it names: the bits of `CTA_FILTER` are the kernel's.
#[test]
fn filters_were_understood() {
    let dumps = by_name(DUMPS);
    let listed = |name: &str| -> BTreeSet<Tuple> {
        let datagrams = &dumps[format!("filter {name}").as_str()];
        let messages = datagrams.iter().flat_map(|datagram| all_messages(datagram));
        messages
            .filter_map(|message| match message {
                Message::Conntrack { ct, .. } => ct.orig,
                _ => None,
            })
            .collect()
    };
    let tcp = |port| v4(Protocol::TCP, ports(port, 80));
    let ping = |kind| L4::Icmp { id: 0x1234, kind, code: 0 };
    for (name, only) in [
        ("protocol", v4(Protocol::UDPLITE, ports(40003, 5004))),
        ("source port", tcp(41004)),
        ("destination port", v4(Protocol::TCP, ports(40001, 443))),
        ("icmp", v4(Protocol::ICMP, ping(8))),
        ("icmpv6", v6(Protocol::ICMPV6, ping(128))),
        ("reply", tcp(41001)),
        ("reply port", tcp(41001)),
        ("zone", tcp(41005)),
        ("mark and mask", tcp(41004)),
    ] {
        assert_eq!(listed(name), BTreeSet::from([only]), "{name}");
    }
    for name in ["other icmp id", "other icmp code", "other icmpv6 id", "other icmpv6 code"] {
        assert_eq!(listed(name), BTreeSet::new(), "{name}");
    }
    for name in ["source", "destination"] {
        let found = listed(name);
        assert_eq!(found.len(), 6, "{name}");
        assert!(found.iter().all(|orig| orig.src.to_string() == "10.9.0.1"), "{name}");
    }
    assert!(listed("status").contains(&tcp(41010)));
    // What Linux does wrong, as the filter's documentation says.
    assert_eq!(listed("source ipv6"), BTreeSet::new(), "eight flows have this source");
    assert!(listed("original zone").contains(&tcp(41001)), "its zone is another one");
}

#[test]
fn statistics() {
    let dumps = by_name(DUMPS);
    let cpus = all_messages(&dumps["cpu statistics"][0]);
    let numbers: Vec<_> = cpus
        .iter()
        .map(|message| match message {
            Message::CpuStats(stats) => {
                assert_eq!(stats.get(CpuCounter::Searched), None);
                assert_eq!(stats.get(CpuCounter::Drop), Some(0));
                assert_eq!(stats.get(CpuCounter::ChainTooLong), Some(0));
                stats.cpu
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(numbers, [0, 1]);
    let [Message::GlobalStats(stats)] = all_messages(&dumps["statistics"][0])[..] else {
        panic!("no global statistics");
    };
    assert_eq!(stats.max_entries, Some(262_144));
    let expect = all_messages(&dumps["expectation statistics"][0]);
    let created = expect.iter().map(|message| match message {
        Message::ExpectCpuStats(stats) => stats.create.unwrap(),
        other => panic!("{other:?}"),
    });
    assert_eq!(created.sum::<u32>(), 1);
}

#[test]
fn expectations() {
    let any = "255.255.255.255";
    let wanted = Expect {
        family: Family::Ipv4,
        master: Some(v4(Protocol::TCP, ports(42000, 21))),
        tuple: Some(tuple("198.51.100.2", "192.0.2.2", Protocol::TCP, ports(0, 42001))),
        mask: Some(tuple(any, any, Protocol::TCP, ports(0, 0xffff))),
        timeout_s: None,
        id: None,
        help_name: Some(b"ftp"),
        zone: None,
        flags: Some(Expect::PERMANENT),
        class: Some(0),
        nat: Some(ExpectNat {
            dir: 1,
            tuple: tuple("203.0.113.1", "0.0.0.0", Protocol::TCP, ports(42002, 0)),
        }),
        function: Some(b"nat-follow-master"),
    };
    let events = by_name(EVENTS);
    let seen: Vec<_> = events["expectation"]
        .iter()
        .map(|datagram| match parsed(datagram) {
            Ok(Message::Expect { event, expect }) => {
                assert!(expect.id.is_some());
                assert!(matches!(expect.timeout_s, Some(299 | 300)));
                assert_eq!(Expect { id: None, timeout_s: None, ..expect }, wanted);
                event
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(seen, [Event::New, Event::Destroy]);
    let dumps = by_name(DUMPS);
    match all_messages(&dumps["expectations"][0])[0] {
        Message::Expect { event, expect } => {
            let same = Expect { id: None, timeout_s: None, ..expect };
            assert_eq!((event, same), (Event::Update, wanted));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn refusals() {
    let responses = by_name(RESPONSES);
    let response = |name: &str, place: usize| match parsed(&responses[name][place]) {
        Ok(Message::Response(response)) => response,
        other => panic!("{name}: {other:?}"),
    };
    let text = Some(&b"Attribute failed policy validation"[..]);
    assert_eq!(response("ipv4 tcp", 0).errno, 0);
    assert_eq!(response("no such entry", 0).errno, libc::ENOENT);
    assert_eq!(response("no such entry", 0).request.kind, 0x0102);
    assert_eq!(response("exists", 0).errno, libc::EEXIST);
    // The bad attribute stands behind 16 + 4 bytes of headers.
    let bad = response("timeout of two bytes", 0);
    assert_eq!((bad.errno, bad.ext_msg, bad.ext_offset), (libc::ERANGE, text, Some(20)));
    let uncapped: Vec<_> = (0..3).map(|place| response("uncapped", place)).collect();
    assert_eq!(uncapped[0].errno, libc::ENOENT);
    assert_eq!((uncapped[0].request.seq, uncapped[0].request.len), (1000, 72));
    assert_eq!((uncapped[1].errno, uncapped[1].request.seq), (libc::ERANGE, 1001));
    assert_eq!((uncapped[1].ext_msg, uncapped[1].ext_offset), (None, None));
    assert_eq!((uncapped[2].errno, uncapped[2].request.seq), (libc::ERANGE, 1002));
    assert_eq!((uncapped[2].ext_msg, uncapped[2].ext_offset), (text, Some(20)));
}

/// The hand-made message whose name begins with `name`.
fn hand_made(name: &str) -> Vec<u8> {
    let found = datagrams(HAND_MADE).into_iter().find(|(full, _)| full.starts_with(name));
    found.expect("a hand-made message").1
}

#[test]
fn dccp() {
    let info = ProtoInfo::Dccp(Dccp {
        state: Some(3),
        role: Some(1),
        handshake_seq: Some(0xa1b2_c3d4_e5f6),
    });
    for name in ["dccp: NEW", "dccp: the same"] {
        let bytes = hand_made(name);
        let (event, ct) = conntrack(&bytes);
        assert_eq!(event, Event::New);
        assert_eq!(ct.orig, Some(v4(Protocol::DCCP, ports(40005, 5001))));
        assert_eq!(ct.reply, ct.orig.map(|tuple| tuple.inverse()));
        assert_eq!(ct.protoinfo, info, "{name}");
    }
}

#[test]
fn old_counters() {
    let mut bytes = hand_made("counters of 32 bits");
    let expected = |ct: Conntrack<'_>| {
        assert_eq!(ct.counters_orig, Some(Counters { packets: 7, bytes: 0xffff_fff0 }));
        assert_eq!(ct.counters_reply, Some(Counters { packets: 5, bytes: 500 }));
        assert_eq!(ct.orig, Some(v4(Protocol::UDP, ports(1, 2))));
    };
    expected(conntrack(&bytes).1);
    clear_nested(&mut bytes[20..]);
    expected(conntrack(&bytes).1);
    let bytes = hand_made("counters of both");
    let wide = Counters { packets: 1 << 40, bytes: 1 << 41 };
    assert_eq!(conntrack(&bytes).1.counters_orig, Some(wide));
}

/// Clears `NLA_F_NESTED` everywhere, as kernels before 2.6.24 left it.
fn clear_nested(attributes: &mut [u8]) {
    let mut rest = attributes;
    while !rest.is_empty() {
        let len = usize::from(u16::from_ne_bytes([rest[0], rest[1]]));
        let kind = u16::from_ne_bytes([rest[2], rest[3]]);
        rest[2..4].copy_from_slice(&(kind & 0x7fff).to_ne_bytes());
        if kind & 0x8000 != 0 {
            clear_nested(&mut rest[4..len]);
        }
        rest = &mut rest[len.next_multiple_of(4)..];
    }
}

#[test]
fn rare_attributes() {
    let bytes = hand_made("secctx");
    assert_eq!(conntrack(&bytes).1.secctx, Some(&b"system_u:object_r:unlabeled_t:s0"[..]));
    let bytes = hand_made("labels of 8");
    let labels = [1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(conntrack(&bytes).1.labels, Some(Labels(labels)));
    let bytes = hand_made("labels of 20");
    let labels = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];
    assert_eq!(conntrack(&bytes).1.labels, Some(Labels(labels)));
    let bytes = hand_made("attributes to come");
    let ct = conntrack(&bytes).1;
    let known = Conntrack {
        family: Family::Ipv4,
        orig: Some(v4(Protocol::UDP, ports(1, 2))),
        mark: Some(9),
        ..Conntrack::default()
    };
    assert_eq!(ct, known);
}

#[test]
fn the_last_of_a_repeated_attribute_counts() {
    let bytes = hand_made("an entry with everything twice");
    let ct = conntrack(&bytes).1;
    assert_eq!(ct.orig, Some(v4(Protocol::UDP, ports(1, 2))));
    assert_eq!((ct.mark, ct.status), (Some(2), Some(Status(8))));
    assert_eq!(ct.counters_orig, Some(Counters { packets: 3, bytes: 4 }));
    assert_eq!((ct.start_ns, ct.stop_ns), (Some(7), None));
}

#[test]
fn several_messages_of_one_datagram() {
    let bytes = hand_made("two messages and a done");
    let messages = all_messages(&bytes);
    assert_eq!(messages.len(), 3);
    assert_eq!(messages[2], Message::Done(Done::default()));
    let headers: Vec<_> = Messages::new(&bytes).map(|raw| raw.unwrap().header).collect();
    assert!(headers.iter().all(|header| header.seq == 9 && header.flags == 2));
    let bytes = hand_made("a dump that ended early");
    assert_eq!(all_messages(&bytes), [Message::Done(Done { errno: 4, ext_msg: None })]);
    let bytes = hand_made("overrun, noop");
    assert_eq!(
        all_messages(&bytes),
        [Message::Overrun, Message::Noop, Message::Other { kind: 0x0a00 }]
    );
}

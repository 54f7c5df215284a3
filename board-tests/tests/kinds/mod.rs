//! Flows of every kind, made in a real kernel, and what conntrack(8) shows of a table: for tests
//! that take one away and want it back as it was.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;

use board_tests::daemon::requests::Requests;
use board_tests::daemon::tool;
use board_tests::lab::Netns;
use firmware_ctd::wire::{
    Conntrack, Helper, L4, Labels, NatRange, ProtoInfo, Protocol, Sctp, SeqAdj, Status, SynProxy,
    Tcp, TcpFlags, TcpState, Tuple,
};

/// Arguments of `conntrack -I` beside addresses and timeout, one flow a line.
const MADE: &str = "\
-p udp --sport 1 --dport 53
-p udp --sport 2 --dport 53 -u SEEN_REPLY
-p udp --sport 3 --dport 53 -u SEEN_REPLY,ASSURED -m 4294967295
-p udp --sport 4 --dport 53 -u FIXED_TIMEOUT -m 7
-p udp --sport 5 --dport 53 -w 65535
-p udp --sport 6 --dport 53 --orig-zone 4
-p udp --sport 7 --dport 53 --reply-zone 5
-p udp --sport 65535 --dport 65535
-p tcp --sport 1 --dport 80 --state NONE
-p tcp --sport 2 --dport 80 --state SYN_SENT
-p tcp --sport 3 --dport 80 --state SYN_RECV -u SEEN_REPLY
-p tcp --sport 4 --dport 80 --state ESTABLISHED -u SEEN_REPLY,ASSURED -w 3 -m 1
-p tcp --sport 5 --dport 80 --state FIN_WAIT -u SEEN_REPLY,ASSURED
-p tcp --sport 6 --dport 80 --state CLOSE_WAIT -u SEEN_REPLY,ASSURED
-p tcp --sport 7 --dport 80 --state LAST_ACK -u SEEN_REPLY,ASSURED
-p tcp --sport 8 --dport 80 --state TIME_WAIT -u SEEN_REPLY,ASSURED
-p tcp --sport 9 --dport 80 --state CLOSE
-p tcp --sport 10 --dport 80 --state LISTEN
-p udplite --sport 1 --dport 53
-p sctp --sport 1 --dport 80 --state CLOSED --orig-vtag 1 --reply-vtag 2
-p sctp --sport 2 --dport 80 --state COOKIE_WAIT --orig-vtag 1 --reply-vtag 2
-p sctp --sport 4 --dport 80 --state ESTABLISHED --orig-vtag 1 --reply-vtag 2 -m 9
-p sctp --sport 7 --dport 80 --state SHUTDOWN_ACK_SENT --orig-vtag 1 --reply-vtag 2
-p gre --srckey 0x111 --dstkey 0xfffe
-p 99
-p 254 -m 3";

const ENDS: [[&str; 4]; 2] =
    [["-s", "192.0.2.1", "-d", "198.51.100.1"], ["-s", "2001:db8::1", "-d", "2001:db8::ffff:2"]];

/// Rules that make the kernel keep labels, and that it has a helper for.
pub(crate) const RULES: &str = "table inet test {
    ct helper ftp { type \"ftp\" protocol tcp; }
    chain output { type filter hook output priority 0
        tcp dport 21 ct helper set \"ftp\"
        udp dport 5353 ct label set 5
    }
}";

fn by_tool(netns: &Netns) -> io::Result<()> {
    for addresses in ENDS {
        for line in MADE.lines() {
            let mut arguments = vec!["-I", "-t", "3000"];
            arguments.extend(addresses);
            arguments.extend(line.split(' '));
            tool::conntrack(netns, &arguments)?;
        }
    }
    Ok(())
}

fn ends(ipv6: bool) -> [IpAddr; 2] {
    if ipv6 {
        [[0x2001, 0xdb8, 0, 0, 0, 0, 1, 1].into(), [0x2001, 0xdb8, 0, 0, 0, 0, 2, 2].into()]
    } else {
        [[10, 0, 0, 1].into(), [10, 0, 0, 2].into()]
    }
}

/// Addresses to translate to: a source and a destination.
pub(crate) fn others(ipv6: bool) -> [IpAddr; 2] {
    if ipv6 {
        [[0x2001, 0xdb8, 7, 0, 0, 0, 0, 1].into(), [0x2001, 0xdb8, 7, 0, 0, 0, 0, 2].into()]
    } else {
        [[203, 0, 113, 1].into(), [203, 0, 113, 2].into()]
    }
}

pub(crate) fn tuple(ipv6: bool, proto: Protocol, l4: L4) -> Tuple {
    let [src, dst] = ends(ipv6);
    Tuple { src, dst, proto, l4 }
}

pub(crate) const fn ports(src: u16, dst: u16) -> L4 {
    L4::Ports { src, dst }
}

/// An assured flow of any protocol.
pub(crate) fn plain(orig: Tuple) -> Conntrack<'static> {
    let status = Status::CONFIRMED | Status::SEEN_REPLY | Status::ASSURED;
    Conntrack {
        orig: Some(orig),
        reply: Some(orig.inverse()),
        timeout_s: Some(3000),
        status: Some(Status(status)),
        protoinfo: match orig.proto {
            Protocol::TCP => ProtoInfo::Tcp(tcp(TcpState::ESTABLISHED.0, [7, 14], [0x23, 0x33])),
            Protocol::SCTP => ProtoInfo::Sctp(Sctp {
                state: Some(4),
                vtag_orig: Some(0xffff_0001),
                vtag_reply: Some(0x0102_0304),
            }),
            _ => ProtoInfo::None,
        },
        ..Conntrack::default()
    }
}

fn tcp(state: u8, [orig, reply]: [u8; 2], [flags_orig, flags_reply]: [u8; 2]) -> Tcp {
    let flags = |flags| Some(TcpFlags { flags, mask: 0xff });
    Tcp {
        state: Some(TcpState(state)),
        wscale_orig: Some(orig),
        wscale_reply: Some(reply),
        flags_orig: flags(flags_orig),
        flags_reply: flags(flags_reply),
    }
}

/// What is translated of a flow.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Nat {
    Source,
    Destination,
    Both,
    /// The address stays.
    SourcePort,
    DestinationPort,
}

const NATS: [Nat; 5] =
    [Nat::Source, Nat::Destination, Nat::Both, Nat::SourcePort, Nat::DestinationPort];

/// `ct`, translated to addresses of [`others`] and these ports (none: the port stays).
pub(crate) fn translated(
    ct: &Conntrack<'static>,
    nat: Nat,
    ports: Option<[u16; 2]>,
) -> Conntrack<'static> {
    let Some(orig) = ct.orig else { return *ct };
    let [src, dst] = others(orig.src.is_ipv6());
    let [source, destination] = ports.map_or([None; 2], |ports| ports.map(Some));
    let (nat_src, nat_dst) = match nat {
        Nat::Source => (Some((src, source)), None),
        Nat::Destination => (None, Some((dst, destination))),
        Nat::Both => (Some((src, source)), Some((dst, destination))),
        Nat::SourcePort => (Some((orig.src, source)), None),
        Nat::DestinationPort => (None, Some((orig.dst, destination))),
    };
    let exactly = |(ip, port)| NatRange::exactly(ip, port);
    Conntrack { nat_src: nat_src.map(exactly), nat_dst: nat_dst.map(exactly), ..*ct }
}

fn translations(ipv6: bool) -> Vec<Conntrack<'static>> {
    let mut flows = Vec::new();
    for (n, nat) in (0..).zip(NATS) {
        let to = Some([40_000 + n, 8_000 + n]);
        for proto in [Protocol::TCP, Protocol::UDP, Protocol::SCTP, Protocol::UDPLITE] {
            let orig = tuple(ipv6, proto, ports(1000 + n, 80));
            flows.push(translated(&plain(orig), nat, to));
        }
        let gre = tuple(ipv6, Protocol::GRE, ports(0x100 + n, 0xff00 + n));
        flows.push(translated(&plain(gre), nat, to));
        let proto = if ipv6 { Protocol::ICMPV6 } else { Protocol::ICMP };
        let kind = if ipv6 { 128 } else { 8 };
        let echo = |id| plain(tuple(ipv6, proto, L4::Icmp { id, kind, code: 0 }));
        flows.push(translated(&echo(500 + n), nat, Some([600 + n, 600 + n])));
        if !matches!(nat, Nat::SourcePort | Nat::DestinationPort) {
            flows.push(translated(&echo(700 + n), nat, None));
            let orig = tuple(ipv6, Protocol::UDP, ports(2000 + n, 80));
            flows.push(translated(&plain(orig), nat, None));
            let bare = tuple(ipv6, Protocol(100 + n.to_be_bytes()[1]), L4::None);
            flows.push(translated(&plain(bare), nat, None));
        }
    }
    flows
}

/// What is rare, and what of TCP conntrack(8) cannot make. The last two are children, of a master
/// and of a child.
fn rare(ipv6: bool) -> Vec<Conntrack<'static>> {
    let udp = |src| plain(tuple(ipv6, Protocol::UDP, ports(src, 53)));
    let stream = |src, dst| plain(tuple(ipv6, Protocol::TCP, ports(src, dst)));
    let adjusted = |n| Some(SeqAdj { correction_pos: n, offset_before: 1, offset_after: n + 2 });
    let scaled = |state, scales, flags| ProtoInfo::Tcp(tcp(state, scales, flags));
    let mut labels = Labels::default();
    labels.0[0] = 0x20;
    labels.0[15] = 0x81;
    let ftp = Some(Helper { name: b"ftp", info: None });
    let icmp = if ipv6 { (Protocol::ICMPV6, 128) } else { (Protocol::ICMP, 8) };
    let echo = L4::Icmp { id: 77, kind: icmp.1, code: 0 };
    vec![
        plain(tuple(ipv6, icmp.0, echo)),
        Conntrack { zone: Some(3), ..translated(&udp(30), Nat::Both, Some([1, 2])) },
        Conntrack { zone_orig: Some(8), ..udp(31) },
        Conntrack { zone_reply: Some(9), mark: Some(0x8000_0001), ..udp(32) },
        Conntrack { zone_orig: Some(8), ..translated(&udp(33), Nat::Source, Some([33, 33])) },
        Conntrack { labels: Some(labels), ..udp(34) },
        Conntrack { labels: Some(labels), ..translated(&udp(35), Nat::Source, None) },
        Conntrack {
            seqadj_orig: adjusted(77),
            seqadj_reply: adjusted(0xffff_0000),
            ..translated(&stream(36, 80), Nat::Source, None)
        },
        Conntrack {
            synproxy: Some(SynProxy { isn: 0xffff_fff1, its: 2, tsoff: 3 }),
            ..stream(37, 80)
        },
        Conntrack { protoinfo: scaled(3, [0, 0], [0x0a, 0x0a]), ..stream(38, 80) },
        Conntrack { protoinfo: scaled(3, [14, 0], [1, 1]), ..stream(39, 80) },
        Conntrack { protoinfo: scaled(3, [0, 14], [3, 1]), ..stream(40, 80) },
        Conntrack { protoinfo: scaled(4, [2, 3], [5, 3]), ..stream(41, 80) },
        Conntrack { protoinfo: scaled(1, [0, 0], [1, 0]), ..stream(42, 80) },
        Conntrack { helper: ftp, ..stream(43, 21) },
        Conntrack { helper: ftp, ..translated(&stream(44, 21), Nat::Both, Some([9, 21])) },
        Conntrack { master: stream(43, 21).orig, ..stream(45, 20) },
        Conntrack { master: stream(45, 20).orig, ..translated(&udp(46), Nat::Source, None) },
    ]
}

pub(crate) fn all_kinds(netns: &Netns) -> io::Result<usize> {
    tool::output(netns, "nft".as_ref(), &[RULES])?;
    by_tool(netns)?;
    let requests = Requests::open(netns)?;
    let mut count = 2 * MADE.lines().count();
    for ct in [false, true].into_iter().flat_map(|ipv6| {
        let mut flows = translations(ipv6);
        flows.extend(rare(ipv6));
        flows
    }) {
        requests.create(&ct).map_err(|error| io::Error::other(format!("{error}: {ct:?}")))?;
        count += 1;
    }
    Ok(count)
}

/// Flows as conntrack(8) shows them, each with the timeouts of all that look like it: the keys of
/// GRE are not shown, for one.
pub(crate) type Shown = BTreeMap<String, Vec<u32>>;

/// Every flow as conntrack(8) shows it; without what a new flow has of its own: id, counters,
/// start, references.
pub(crate) fn shown(netns: &Netns) -> io::Result<Shown> {
    let xml = tool::conntrack(netns, &["-L", "-o", "xml"])?;
    let mut flows = Shown::new();
    for flow in xml.split("<flow>").skip(1) {
        let mut text = flow.split("</flow>").next().unwrap_or_default().to_owned();
        let timeout = cut(&mut text, "timeout").and_then(|text| text.parse().ok());
        for own in ["counters", "timestamp", "deltatime", "use"] {
            while cut(&mut text, own).is_some() {}
        }
        // The last one: that of the entry, after those of an ICMP tuple.
        if let Some(at) = text.rfind("<id>") {
            let mut rest = text.split_off(at);
            cut(&mut rest, "id");
            text.push_str(&rest);
        }
        flows.entry(text).or_default().push(timeout.unwrap_or(0));
    }
    flows.values_mut().for_each(|timeouts| timeouts.sort_unstable());
    Ok(flows)
}

/// Takes the first element of that name out of `xml`; what stood in it.
fn cut(xml: &mut String, name: &str) -> Option<String> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let from = xml.find(&open)?;
    let to = xml.get(from..)?.find(&close)? + from;
    let inside = xml.get(from + open.len()..to)?.to_owned();
    xml.replace_range(from..to + close.len(), "");
    Some(inside)
}

/// Timeouts may have gone down by the seconds that the test took.
pub(crate) const SLACK_S: u32 = 20;

pub(crate) fn same_shown(before: &Shown, after: &Shown) {
    let lost: Vec<_> = before.keys().filter(|flow| !after.contains_key(*flow)).collect();
    let new: Vec<_> = after.keys().filter(|flow| !before.contains_key(*flow)).collect();
    assert!(lost.is_empty() && new.is_empty(), "were:\n{lost:#?}\nare:\n{new:#?}");
    for (flow, was) in before {
        let is = &after[flow];
        assert_eq!(was.len(), is.len(), "{flow}");
        for (was, is) in was.iter().zip(is) {
            assert!(is <= was && was - is <= SLACK_S, "{flow}: {was} s became {is} s");
        }
    }
}

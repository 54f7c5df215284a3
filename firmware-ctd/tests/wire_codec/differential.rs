//! A second parser reads the same: `netlink-packet-netfilter`, in what it knows (addresses, ports,
//! protocol, status, timeout, mark and TCP state of conntrack messages).

use std::net::IpAddr;

use firmware_ctd::wire::{
    Conntrack, L4, Message, Messages, ProtoInfo, RawMessage, Tcp, TcpFlags, TcpState, Tuple,
};
use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_netfilter::conntrack::{
    ConntrackAttribute, ConntrackMessage, IPTuple, ProtoInfo as TheirProtoInfo, ProtoInfoTCP,
    ProtoTuple, TCPFlags, Tuple as TheirTuple,
};
use netlink_packet_netfilter::{NetfilterMessage, NetfilterMessageInner};
use proptest::prelude::*;

use crate::capture::{DUMPS, EVENTS, HAND_MADE, datagrams};
use crate::support::emitted;
use crate::values;

/// What both parsers know of a tuple.
#[derive(Debug, Default, PartialEq)]
struct CommonTuple {
    src: Option<IpAddr>,
    dst: Option<IpAddr>,
    proto: Option<u8>,
    src_port: Option<u16>,
    dst_port: Option<u16>,
}

/// What both parsers know of a message.
#[derive(Debug, Default, PartialEq)]
struct Common {
    destroy: bool,
    orig: Option<CommonTuple>,
    reply: Option<CommonTuple>,
    status: Option<u32>,
    timeout_s: Option<u32>,
    mark: Option<u32>,
    tcp: Option<Tcp>,
}

fn our_tuple(tuple: Tuple) -> CommonTuple {
    let (src_port, dst_port) = match tuple.l4 {
        L4::Ports { src, dst } => (Some(src), Some(dst)),
        L4::None | L4::Icmp { .. } => (None, None),
    };
    CommonTuple {
        src: Some(tuple.src),
        dst: Some(tuple.dst),
        proto: Some(tuple.proto.0),
        src_port,
        dst_port,
    }
}

fn ours(destroy: bool, ct: &Conntrack<'_>) -> Common {
    Common {
        destroy,
        orig: ct.orig.map(our_tuple),
        reply: ct.reply.map(our_tuple),
        status: ct.status.map(|status| status.0),
        timeout_s: ct.timeout_s,
        mark: ct.mark,
        tcp: match ct.protoinfo {
            ProtoInfo::Tcp(tcp) => Some(tcp),
            ProtoInfo::None | ProtoInfo::Sctp(_) | ProtoInfo::Dccp(_) => None,
        },
    }
}

/// A message as the other crate reads it; `None` when it refuses it.
fn theirs(message: &[u8]) -> Option<Common> {
    let message = NetlinkMessage::<NetfilterMessage>::deserialize(message).ok()?;
    let NetlinkPayload::InnerMessage(NetfilterMessage { inner, .. }) = message.payload else {
        panic!("not a netfilter message");
    };
    let NetfilterMessageInner::Conntrack(message) = inner else { panic!("not conntrack's") };
    let (destroy, attributes) = match message {
        ConntrackMessage::New(attributes) => (false, attributes),
        ConntrackMessage::Delete(attributes) => (true, attributes),
        other => panic!("{other:?}"),
    };
    let mut common = Common { destroy, ..Common::default() };
    for attribute in attributes {
        match attribute {
            ConntrackAttribute::CtaTupleOrig(parts) => common.orig = Some(their_tuple(parts)),
            ConntrackAttribute::CtaTupleReply(parts) => common.reply = Some(their_tuple(parts)),
            ConntrackAttribute::CtaStatus(status) => common.status = Some(status.bits()),
            ConntrackAttribute::CtaTimeout(timeout_s) => common.timeout_s = Some(timeout_s),
            ConntrackAttribute::CtaMark(mark) => common.mark = Some(mark),
            ConntrackAttribute::CtaProtoInfo(infos) => common.tcp = their_tcp(infos),
            _ => {}
        }
    }
    Some(common)
}

fn their_tuple(parts: Vec<TheirTuple>) -> CommonTuple {
    let mut tuple = CommonTuple::default();
    for part in parts {
        match part {
            TheirTuple::Ip(ips) => ips.into_iter().for_each(|ip| match ip {
                IPTuple::SourceAddress(ip) => tuple.src = Some(ip),
                IPTuple::DestinationAddress(ip) => tuple.dst = Some(ip),
                _ => {}
            }),
            TheirTuple::Proto(protos) => protos.into_iter().for_each(|proto| match proto {
                ProtoTuple::Protocol(number) => tuple.proto = Some(number.into()),
                ProtoTuple::SourcePort(port) => tuple.src_port = Some(port),
                ProtoTuple::DestinationPort(port) => tuple.dst_port = Some(port),
                _ => {}
            }),
            _ => {}
        }
    }
    tuple
}

fn their_tcp(infos: Vec<TheirProtoInfo>) -> Option<Tcp> {
    let flags = |flags: TCPFlags| Some(TcpFlags { flags: flags.flags, mask: flags.mask });
    let mut found = None;
    for info in infos {
        let TheirProtoInfo::TCP(fields) = info else { continue };
        let mut tcp = Tcp::default();
        for field in fields {
            match field {
                ProtoInfoTCP::State(state) => tcp.state = Some(TcpState(state)),
                ProtoInfoTCP::OriginalWindowScale(scale) => tcp.wscale_orig = Some(scale),
                ProtoInfoTCP::ReplyWindowScale(scale) => tcp.wscale_reply = Some(scale),
                ProtoInfoTCP::OriginalFlags(value) => tcp.flags_orig = flags(value),
                ProtoInfoTCP::ReplyFlags(value) => tcp.flags_reply = flags(value),
                _ => {}
            }
        }
        found = Some(tcp);
    }
    found
}

/// Our reading of a conntrack message; `None` when it is refused or another message.
fn read(raw: &RawMessage<'_>) -> Option<Common> {
    match Message::parse(raw) {
        Ok(Message::Conntrack { ct, .. }) => Some(ours(raw.header.kind == 0x0102, &ct)),
        _ => None,
    }
}

/// The conntrack messages of a datagram, each with its own bytes.
fn conntrack_messages(datagram: &[u8]) -> Vec<(RawMessage<'_>, &[u8])> {
    let mut at = 0;
    let mut found = Vec::new();
    for raw in Messages::new(datagram).map(Result::unwrap) {
        let len = raw.header.len as usize;
        if matches!(raw.header.kind, 0x0100 | 0x0102) {
            found.push((raw, &datagram[at..at + len]));
        }
        at += len.next_multiple_of(4);
    }
    found
}

#[test]
fn captured_messages_are_read_alike() {
    let mut count = 0;
    for file in [EVENTS, DUMPS, HAND_MADE] {
        for (name, datagram) in datagrams(file) {
            for (raw, bytes) in conntrack_messages(&datagram) {
                assert_eq!(read(&raw), Some(theirs(bytes).expect(name)), "{name}");
                count += 1;
            }
        }
    }
    assert!(count > 120, "only {count} messages");
}

/// With one bit flipped, the two may refuse different messages, but never read different values.
#[test]
fn damaged_messages_are_not_read_differently() {
    let mut both = 0;
    for (name, mut datagram) in datagrams(EVENTS) {
        // Netlink headers stay as they are: the other crate has its own view of types.
        for bit in 20 * 8..datagram.len() * 8 {
            datagram[bit / 8] ^= 1 << (bit % 8);
            for (raw, bytes) in conntrack_messages(&datagram) {
                if let (Some(ours), Some(theirs)) = (read(&raw), theirs(bytes)) {
                    assert_eq!(ours, theirs, "{name}, bit {bit}");
                    both += 1;
                }
            }
            datagram[bit / 8] ^= 1 << (bit % 8);
        }
    }
    assert!(both > 10_000, "only {both} messages that both read");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn generated_messages_are_read_alike(event in values::event(), ct in values::conntrack()) {
        let bytes = emitted(&Message::Conntrack { event, ct });
        let raw = Messages::new(&bytes).next().unwrap().unwrap();
        prop_assert_eq!(read(&raw), theirs(&bytes));
        prop_assert_eq!(read(&raw).map(|common| common.mark), Some(ct.mark));
    }
}

//! Bytes that no kernel sends: an error or a value, never a panic; and a value is sound, which is
//! to say that it can be emitted and read back.

use firmware_ctd::wire::{
    Conntrack, Error, Event, Expect, Filter, Header, L4, Message, Messages, RawMessage, Writer,
};
use proptest::prelude::*;

use crate::capture::{ALL, datagrams};
use crate::support::{BUFFER, only};

/// Reads a datagram. Every message that can be read can be emitted and read back.
fn sound(datagram: &[u8], buffer: &mut [u8]) {
    for raw in Messages::new(datagram).flatten() {
        let Ok(message) = Message::parse(&raw) else { continue };
        let mut w = Writer::new(buffer);
        message.emit(&mut w, raw.header.seq).expect("a read message fits");
        let again = Message::parse(&only(w.as_bytes()));
        assert_eq!(again, Ok(message));
    }
}

/// The ends of the messages of a well-formed datagram, without their padding.
fn ends(datagram: &[u8]) -> Vec<usize> {
    let mut at = 0;
    let mut ends = Vec::new();
    for raw in Messages::new(datagram) {
        let len = raw.unwrap().header.len as usize;
        ends.push(at + len);
        at += len.next_multiple_of(4);
    }
    ends
}

#[test]
fn cut_at_every_byte() {
    for file in ALL {
        for (name, datagram) in datagrams(file) {
            let ends = ends(&datagram);
            for cut in 0..datagram.len() {
                let read: Vec<_> = Messages::new(&datagram[..cut]).collect();
                let whole = ends.iter().filter(|end| **end <= cut).count();
                let padded = ends.iter().rev().find(|end| **end <= cut);
                let clean = padded.is_none_or(|end| cut <= end.next_multiple_of(4)) && whole > 0;
                assert_eq!(read.iter().flatten().count(), whole, "{name} cut at {cut}");
                let error = read.last().copied().and_then(Result::err);
                let expected = if clean || cut == 0 { None } else { Some(Error::Truncated) };
                assert_eq!(error, expected, "{name} cut at {cut}");
            }
        }
    }
}

/// A message that says it is as short as it was cut: an error, unless the cut falls between two
/// attributes.
#[test]
fn payload_cut_at_every_byte() {
    for file in ALL {
        for (name, datagram) in datagrams(file) {
            for raw in Messages::new(&datagram).map(Result::unwrap) {
                let boundaries = boundaries(&raw);
                for cut in 0..raw.payload.len() {
                    let short = RawMessage { payload: &raw.payload[..cut], ..raw };
                    let read = Message::parse(&short);
                    let allowed = boundaries.contains(&cut);
                    assert!(read.is_err() || allowed, "{name} cut at {cut}: {read:?}");
                }
            }
        }
    }
}

/// Where the payload of a message may end: between attributes, and anywhere where what is cut off
/// is never looked at.
fn boundaries(raw: &RawMessage<'_>) -> Vec<usize> {
    let fixed = match raw.header.kind {
        2 => return response_boundaries(raw),
        3 => return vec![0],
        0..16 | 0x0a00 => return (0..raw.payload.len()).collect(),
        _ => 4,
    };
    attribute_boundaries(raw.payload, fixed)
}

/// In padding and at the end of attributes that begin at `at`.
fn attribute_boundaries(payload: &[u8], mut at: usize) -> Vec<usize> {
    let mut found = vec![at];
    while at < payload.len() {
        let len = usize::from(u16::from_ne_bytes([payload[at], payload[at + 1]]));
        found.extend(at + len..=at + len.next_multiple_of(4));
        at += len.next_multiple_of(4);
    }
    found
}

/// Without extended acknowledgements the request's payload is not looked at.
fn response_boundaries(raw: &RawMessage<'_>) -> Vec<usize> {
    let header: [u8; 4] = raw.payload[4..8].try_into().unwrap();
    let capped = raw.header.flags & 0x100 != 0;
    let request = if capped { 16 } else { u32::from_ne_bytes(header) as usize };
    if raw.header.flags & 0x200 == 0 {
        return (20..raw.payload.len()).collect();
    }
    let mut found = attribute_boundaries(raw.payload, 4 + request.next_multiple_of(4));
    found.push(4 + request);
    found
}

#[test]
fn every_bit_flipped() {
    let mut buffer = vec![0; BUFFER];
    for file in ALL {
        for (_, mut datagram) in datagrams(file) {
            // Of long dumps the first entries stand for the rest.
            datagram.truncate(640);
            for bit in 0..datagram.len() * 8 {
                datagram[bit / 8] ^= 1 << (bit % 8);
                sound(&datagram, &mut buffer);
                datagram[bit / 8] ^= 1 << (bit % 8);
            }
        }
    }
}

/// A message of type `kind` with these attributes' bytes.
fn message(kind: u16, attributes: &[u8]) -> Result<Message<'static>, Error> {
    let payload = [&[2, 0, 0, 0], attributes].concat().leak();
    Message::parse(&RawMessage { header: Header { kind, ..Header::default() }, payload })
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let len = u16::try_from(value.len() + 4).unwrap();
    let mut bytes = [&len.to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

const V4: [u8; 4] = [192, 0, 2, 1];
const V6: [u8; 16] = [0x20; 16];

/// `CTA_TUPLE_ORIG` with these contents of `CTA_TUPLE_IP` and `CTA_TUPLE_PROTO`.
fn tuple(ip: &[u8], proto: &[u8]) -> Vec<u8> {
    attribute(1, &[attribute(1, ip), attribute(2, proto)].concat())
}

#[test]
fn each_error_has_its_cause() {
    let v4 = [attribute(1, &V4), attribute(2, &V4)].concat();
    let v6 = [attribute(3, &V6), attribute(4, &V6)].concat();
    let mixed = [attribute(1, &V4), attribute(4, &V6)].concat();
    let tcp = attribute(1, &[6]);
    let mut beyond = attribute(3, &[0; 4]);
    beyond[0..2].copy_from_slice(&9_u16.to_ne_bytes());
    let mut below = attribute(3, &[0; 4]);
    below[0..2].copy_from_slice(&3_u16.to_ne_bytes());
    let reply = |bytes: &[u8]| [&2_u16.to_ne_bytes(), bytes].concat();
    let mut as_reply = tuple(&v6, &tcp);
    as_reply.splice(2..4, reply(&[]));
    for (attributes, error) in [
        (vec![8, 0, 3], Error::Truncated),
        (beyond, Error::BadNesting),
        (below, Error::BadLength),
        (attribute(3, &[0; 3]), Error::BadLength),
        (attribute(3, &[0; 5]), Error::BadLength),
        (attribute(27, &[0; 4]), Error::BadLength),
        (attribute(1, &[8, 0, 1]), Error::Truncated),
        (attribute(1, &attribute(2, &tcp)), Error::Missing),
        (attribute(1, &attribute(1, &v4)), Error::Missing),
        (tuple(&v4, &[]), Error::Missing),
        (tuple(&attribute(1, &V4), &tcp), Error::Missing),
        (tuple(&v4, &[tcp.clone(), attribute(2, &[0, 1])].concat()), Error::Missing),
        (tuple(&v4, &[tcp.clone(), attribute(4, &[0, 1])].concat()), Error::Missing),
        (tuple(&mixed, &tcp), Error::MixedFamilies),
        ([tuple(&v4, &tcp), as_reply].concat(), Error::MixedFamilies),
        (tuple(&v6, &tcp), Error::BadFamily),
        (attribute(9, &attribute(1, &[0; 8])), Error::Missing),
        (attribute(5, &[]), Error::Missing),
        (attribute(15, &attribute(1, &[0; 4])), Error::Missing),
        (attribute(19, &[]), Error::Missing),
    ] {
        assert_eq!(message(0x0100, &attributes), Err(error), "{attributes:02x?}");
    }
    assert!(message(0x0100, &tuple(&v4, &tcp)).is_ok());
    assert_eq!(Conntrack::parse(&[2, 0, 0]), Err(Error::Truncated));
    assert_eq!(Expect::parse(&[]), Err(Error::Truncated));
    assert_eq!(Filter::parse(&[0]), Err(Error::Truncated));
}

/// Ports and an ICMP triple in one tuple: the protocol's own key counts.
#[test]
fn two_keys_in_one_tuple() {
    let v4 = [attribute(1, &V4), attribute(2, &V4)].concat();
    let ports = [attribute(2, &[0, 1]), attribute(3, &[0, 2])].concat();
    let triple = |id| [attribute(id, &[0, 3]), attribute(id + 1, &[8]), attribute(id + 2, &[0])];
    let (icmp, icmpv6) = (triple(4).concat(), triple(7).concat());
    let ports_key = L4::Ports { src: 1, dst: 2 };
    let icmp_key = L4::Icmp { id: 3, kind: 8, code: 0 };
    for (proto, keys, expected) in [
        (6, [&ports[..], &icmp], ports_key),
        (1, [&ports[..], &icmp], icmp_key),
        (58, [&ports[..], &icmpv6], icmp_key),
        (58, [&ports[..], &icmp], ports_key),
        (1, [&ports[..], &icmpv6], ports_key),
        (1, [&ports[..], &[]], ports_key),
        (89, [&icmp[..], &[]], icmp_key),
    ] {
        let bytes = tuple(&v4, &[&attribute(1, &[proto]), keys[0], keys[1]].concat());
        match message(0x0100, &bytes) {
            Ok(Message::Conntrack { ct, .. }) => {
                assert_eq!(ct.orig.map(|orig| orig.l4), Some(expected), "protocol {proto}");
            }
            other => panic!("{other:?}"),
        }
    }
}

/// A range of ports without its end is one port, as in the kernel; without its start it is none.
#[test]
fn ranges_of_ports() {
    let (min, max) = (attribute(1, &[0, 7]), attribute(2, &[0, 9]));
    for (ports, expected) in [
        ([&min[..], &max].concat(), Ok(Some((7, 9)))),
        (min.clone(), Ok(Some((7, 7)))),
        (max.clone(), Err(Error::Missing)),
        (vec![], Ok(None)),
    ] {
        let nat = attribute(6, &[attribute(1, &V4), attribute(3, &ports)].concat());
        let read = message(0x0100, &nat).map(|message| match message {
            Message::Conntrack { ct, .. } => ct.nat_src.and_then(|range| range.ports),
            other => panic!("{other:?}"),
        });
        assert_eq!(read, expected);
    }
    let mixed = attribute(6, &[attribute(1, &V4), attribute(5, &V6)].concat());
    assert_eq!(message(0x0100, &mixed), Err(Error::MixedFamilies));
}

/// `NLM_F_CREATE` and `NLM_F_EXCL` together tell a new entry; either alone is an update.
#[test]
fn flags_tell_new_from_update() {
    for (flags, expected) in [
        (0x600, Event::New),
        (0x602, Event::New),
        (0x400, Event::Update),
        (0x200, Event::Update),
        (0x022, Event::Update),
    ] {
        for kind in [0x0100, 0x0200] {
            let header = Header { kind, flags, ..Header::default() };
            match Message::parse(&RawMessage { header, payload: &[2, 0, 0, 0] }) {
                Ok(Message::Conntrack { event, .. } | Message::Expect { event, .. }) => {
                    assert_eq!(event, expected, "{flags:x}");
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn impossible_error_numbers() {
    for (error, expected) in
        [(1, Err(Error::BadValue)), (i32::MIN, Err(Error::BadValue)), (0, Ok(()))]
    {
        for (kind, rest) in [(2, 16), (3, 0)] {
            let payload = [&error.to_ne_bytes()[..], &vec![0; rest]].concat();
            let header = Header { kind, ..Header::default() };
            let read = Message::parse(&RawMessage { header, payload: &payload });
            assert_eq!(read.map(|_| ()), expected, "{error}");
        }
    }
}

#[test]
fn header_lengths_that_cannot_be() {
    for (len, error) in [
        (0, Error::BadLength),
        (15, Error::BadLength),
        (17, Error::Truncated),
        (u32::MAX, Error::Truncated),
    ] {
        let datagram = [&u32::to_ne_bytes(len)[..], &[0; 12]].concat();
        let mut messages = Messages::new(&datagram);
        assert_eq!(messages.next(), Some(Err(error)), "{len}");
        assert_eq!(messages.next(), None, "{len}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn any_bytes(datagram in prop::collection::vec(any::<u8>(), 0..400)) {
        sound(&datagram, &mut vec![0; BUFFER]);
    }

    /// Any bytes as attributes of every type of message.
    #[test]
    fn any_attributes(kind in 0_u16..0x0205, flags in any::<u16>(), payload in prop::collection::vec(any::<u8>(), 0..400)) {
        let header = Header { kind, flags, ..Header::default() };
        let read = Message::parse(&RawMessage { header, payload: &payload });
        prop_assert!(read.is_ok() || read.is_err());
    }
}

//! Every request has the type, flags and attributes that `nf_conntrack_netlink.c` looks for.

use firmware_ctd::wire::nla::Attributes;
use firmware_ctd::wire::request::{self, CreateFlags};
use firmware_ctd::wire::{
    Conntrack, Expect, Family, Filter, Full, L4, Messages, Protocol, Status, Tuple, Writer,
};

use crate::support::written;

fn tuple() -> Tuple {
    let l4 = L4::Ports { src: 1, dst: 2 };
    Tuple { src: [10, 0, 0, 1].into(), dst: [10, 0, 0, 2].into(), proto: Protocol::UDP, l4 }
}

type Write = fn(&mut Writer<'_>) -> Result<(), Full>;

/// A request, the type and flags that it has, its family, and the attributes at its top.
const REQUESTS: [(Write, u16, u16, u8, &[u16]); 20] = [
    (|w| request::dump(w, 7, Family::Unspec), 0x0101, 0x301, 0, &[]),
    (|w| request::dump(w, 7, Family::Ipv6), 0x0101, 0x301, 10, &[]),
    (|w| request::dump_filtered(w, 7, &zone_filter()), 0x0101, 0x301, 2, &[18]),
    (|w| request::get_dying(w, 7), 0x0106, 0x301, 0, &[]),
    (|w| request::get_unconfirmed(w, 7), 0x0107, 0x301, 0, &[]),
    (|w| request::get(w, 7, &tuple(), Some(3)), 0x0101, 0x001, 2, &[1, 18]),
    (|w| request::get_stats(w, 7), 0x0105, 0x001, 0, &[]),
    (|w| request::get_cpu_stats(w, 7), 0x0104, 0x301, 0, &[]),
    (|w| request::create(w, 7, create(true, true), &flow()), 0x0100, 0x605, 2, &[1, 2, 3, 7]),
    (|w| request::create(w, 7, create(false, true), &flow()), 0x0100, 0x601, 2, &[1, 2, 3, 7]),
    (|w| request::create(w, 7, create(false, false), &flow()), 0x0100, 0x401, 2, &[1, 2, 3, 7]),
    (|w| request::update(w, 7, true, &flow()), 0x0100, 0x005, 2, &[1, 2, 3, 7]),
    (|w| request::delete(w, 7, true, &tuple(), None, None), 0x0102, 0x005, 2, &[1]),
    (|w| request::delete(w, 7, false, &tuple(), Some(3), Some(4)), 0x0102, 0x001, 2, &[1, 18, 12]),
    (|w| request::flush(w, 7, None), 0x0102, 0x005, 0, &[]),
    (|w| request::flush(w, 7, Some(&zone_filter())), 0x0102, 0x005, 2, &[18]),
    (
        |w| request::expect_create(w, 7, create(true, true), &expect()),
        0x0200,
        0x605,
        2,
        &[2, 1, 4, 5],
    ),
    (|w| request::expect_delete(w, 7, true, &expect()), 0x0202, 0x005, 2, &[2, 5]),
    (|w| request::expect_dump(w, 7, Family::Unspec), 0x0201, 0x301, 0, &[]),
    (|w| request::expect_get_cpu_stats(w, 7), 0x0203, 0x301, 0, &[]),
];

const fn create(ack: bool, exclusive: bool) -> CreateFlags {
    CreateFlags { ack, exclusive }
}

fn zone_filter() -> Filter {
    Filter { family: Family::Ipv4, zone: Some(3), ..Filter::default() }
}

fn flow() -> Conntrack<'static> {
    Conntrack {
        orig: Some(tuple()),
        reply: Some(tuple().inverse()),
        status: Some(Status(Status::CONFIRMED)),
        timeout_s: Some(60),
        ..Conntrack::default()
    }
}

fn expect() -> Expect<'static> {
    Expect {
        tuple: Some(tuple()),
        master: Some(tuple()),
        timeout_s: Some(60),
        id: Some(5),
        ..Expect::default()
    }
}

/// Type, flags, number, family and attributes of the messages in `bytes`.
fn described(bytes: &[u8]) -> Vec<(u16, u16, u32, u8, Vec<u16>)> {
    let messages = Messages::new(bytes).map(Result::unwrap);
    messages
        .map(|raw| {
            let (nfgen, attributes) = raw.payload.split_at(4);
            assert_eq!(nfgen[1..], [0, 0, 0], "version and resource");
            assert_eq!(raw.header.port, 0);
            let kinds = Attributes::new(attributes).map(|attribute| attribute.unwrap().kind);
            (raw.header.kind, raw.header.flags, raw.header.seq, nfgen[0], kinds.collect())
        })
        .collect()
}

#[test]
fn each_request() {
    for (place, (write, kind, flags, family, kinds)) in REQUESTS.into_iter().enumerate() {
        let expected = vec![(kind, flags, 7, family, kinds.to_vec())];
        assert_eq!(described(&written(write)), expected, "request {place}");
    }
}

/// `IPCTNL_MSG_CT_GET_CTRZERO` would take the counters from other readers.
#[test]
fn none_zeroes_counters() {
    for (write, ..) in REQUESTS {
        assert_ne!(described(&written(write))[0].0, 0x0103);
    }
}

#[test]
fn several_in_one_buffer() {
    let bytes = written(|w| REQUESTS.into_iter().try_for_each(|(write, ..)| write(w)));
    let apart: Vec<_> =
        REQUESTS.into_iter().flat_map(|(write, ..)| described(&written(write))).collect();
    assert_eq!(described(&bytes), apart);
}

/// An expectation without a tuple is asked for by its master.
#[test]
fn expectations_by_master() {
    let by_master = Expect { tuple: None, ..expect() };
    let bytes = written(|w| request::expect_get(w, 7, &by_master));
    assert_eq!(described(&bytes), [(0x0201, 0x001, 7, 2, vec![1, 5])]);
}

#[test]
fn clear_begins_anew() {
    let mut buffer = [0xff; 64];
    let mut w = Writer::new(&mut buffer);
    assert!(w.is_empty());
    request::get_stats(&mut w, 1).unwrap();
    let first = w.as_bytes().to_vec();
    w.clear();
    assert!(w.is_empty() && w.as_bytes().is_empty());
    request::get_stats(&mut w, 1).unwrap();
    assert_eq!((w.as_bytes(), w.len()), (&first[..], 20));
}

#[test]
fn inverse_of_icmp_types() {
    let icmp = |proto, kind| Tuple { proto, l4: L4::Icmp { id: 9, kind, code: 3 }, ..tuple() };
    // RFC 792 echo, timestamp and information, RFC 950 address mask, RFC 4443 echo, RFC 4620.
    for (proto, one, other) in [
        (Protocol::ICMP, 8, 0),
        (Protocol::ICMP, 13, 14),
        (Protocol::ICMP, 15, 16),
        (Protocol::ICMP, 17, 18),
        (Protocol::ICMPV6, 128, 129),
        (Protocol::ICMPV6, 139, 140),
    ] {
        let (ask, answer) = (icmp(proto, one), icmp(proto, other));
        let answer = Tuple { src: answer.dst, dst: answer.src, ..answer };
        assert_eq!(ask.inverse(), answer);
        assert_eq!(answer.inverse(), ask);
    }
    assert_eq!(icmp(Protocol::ICMP, 3).inverse().l4, icmp(Protocol::ICMP, 3).l4);
    assert_eq!(icmp(Protocol::ICMPV6, 8).inverse().l4, icmp(Protocol::ICMPV6, 8).l4);
}

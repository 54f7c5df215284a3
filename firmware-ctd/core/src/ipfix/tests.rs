//! Tests of messages: byte tables written down from the RFCs, and another program's parser.

mod others;
mod tables;

use super::*;
use crate::losses::{Cause as LossCause, Losses, Span};
use crate::record::{Cause, Kind, Record, RecordKey};
use crate::retry::Lost;
use crate::table::L4State;
use crate::wire::{Counters, L4, Protocol, Status, Tuple};

const PLAIN: Exporter = Exporter { domain: 7, process: 9, enterprise: None };
/// With the enterprise number that RFC 5612 gives to examples.
const OWN: Exporter = Exporter { enterprise: Some(32_473), ..PLAIN };
const TIME: WallTime = WallTime::from_nanos(1_795_289_300_999_999_999);

fn tuple(src: &str, dst: &str, proto: Protocol, l4: L4) -> Tuple {
    Tuple { src: src.parse().unwrap(), dst: dst.parse().unwrap(), proto, l4 }
}

/// A UDP flow behind source NAT.
fn ipv4() -> Record {
    let (there, back) =
        (L4::Ports { src: 35_626, dst: 1000 }, L4::Ports { src: 1000, dst: 35_627 });
    Record {
        kind: Kind::Destroy,
        cause: Cause::Event,
        key: RecordKey::Strong(0x9f0c_0000_0000_0001),
        flow: 7,
        account: None,
        start_ns: Some(1_795_289_206_230_999_999),
        end_ns: Some(1_795_289_266_772_000_000),
        as_of_ns: None,
        orig: tuple("192.0.2.2", "198.51.100.2", Protocol::UDP, there),
        reply: tuple("198.51.100.2", "198.51.100.1", Protocol::UDP, back),
        counters: Some([
            Counters { packets: 1, bytes: 29 },
            Counters { packets: 0x0102_0304_0506_0708, bytes: u64::MAX },
        ]),
        inexact: false,
        zone: 0x1234,
        mark: 0x89ab_cdef,
        id: 4_029_139_822,
        status: Status(Status::SRC_NAT | Status::SEEN_REPLY | Status::CONFIRMED),
        timeout_s: None,
        l4_state: None,
        helper: None,
        labels: None,
    }
}

/// A TCP flow without NAT.
fn ipv6() -> Record {
    let (there, back) = (L4::Ports { src: 40_000, dst: 443 }, L4::Ports { src: 443, dst: 40_000 });
    Record {
        orig: tuple("2001:db8::1", "2001:db8:1::2", Protocol::TCP, there),
        reply: tuple("2001:db8:1::2", "2001:db8::1", Protocol::TCP, back),
        status: Status(Status::SEEN_REPLY | Status::ASSURED),
        l4_state: Some(L4State { state: 7, ..L4State::default() }),
        ..ipv4()
    }
}

fn echo() -> Record {
    let icmp = |id, kind| L4::Icmp { id, kind, code: 3 };
    Record {
        orig: tuple("192.0.2.2", "198.51.100.2", Protocol::ICMP, icmp(77, 8)),
        reply: tuple("198.51.100.2", "198.51.100.1", Protocol::ICMP, icmp(78, 0)),
        ..ipv4()
    }
}

/// A message of what `fill` puts into it.
fn message(exporter: Exporter, fill: impl FnOnce(&mut Message<'_>)) -> (Vec<u8>, u16) {
    let mut buffer = vec![0xee; MAX_MESSAGE];
    let mut message = Message::new(&mut buffer, exporter).unwrap();
    fill(&mut message);
    let (bytes, records) = message.finish(TIME, 0x0102_0304);
    (bytes.to_vec(), records)
}

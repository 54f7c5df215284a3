//! The values of a flow's record.
//!
//! Where a record does not tell a thing, IPFIX has no word for "unknown" in a field of fixed
//! length, and these stand in: counters that the kernel does not keep are 0; a start that is not
//! known is the end.
//!
//! **NAT**: the addresses "post NAT" are those of the reply tuple, turned round. Without NAT they
//! repeat the addresses before. `natEvent` is 0 (reserved) without NAT, 5 (NAT44 session delete)
//! for IPv4. The registry has no value for IPv6 to IPv6; 2 (NAT translation delete, historic) is
//! the only one that does not claim IPv4, and is used.
//!
//! **Ports**: protocols without ports have 0. So has GRE: its keys are no ports, and a collector
//! would take them for such. ICMP has the identifier as source port, type and code as destination
//! port, as conntrack keeps them: old collectors look for `type * 256 + code` there, and NAT
//! changes the identifier as it changes a port, which only the pair of ports before and after can
//! tell. Type and code stand in `icmpTypeCode` too; NAT does not change them.
//!
//! **`flowEndReason`**: 5 (lack of resources) when the end was not seen (a resync, a restart): the message
//! about it was lost for want of buffer, and the counters are the last known ones. Otherwise 3
//! (end detected) when TCP had seen a FIN or RST (fin-wait and later) or SCTP a shutdown or abort,
//! since these made the kernel end the flow. Otherwise 1 (idle timeout): the rule, but flows that
//! were deleted by hand or evicted early look the same in the kernel's message.
//!
//! Source: IANA's "IPFIX Information Elements", "flowEndReason" and "NAT Event Type"; RFC 8158,
//! section 4.3.

use core::net::IpAddr;

use super::element::Family;
use super::{Exporter, Full};
use crate::record::{Cause, Record};
use crate::time;
use crate::wire::bytes::Buffer;
use crate::wire::{Counters, L4, Protocol, Status, Tuple};

/// Values of `flowEndReason`.
mod reason {
    pub(super) const IDLE: u8 = 1;
    pub(super) const DETECTED: u8 = 3;
    pub(super) const RESOURCES: u8 = 5;
}

/// Values of `natEvent`.
mod nat {
    pub(super) const NONE: u8 = 0;
    pub(super) const DELETE: u8 = 2;
    pub(super) const DELETE_NAT44: u8 = 5;
}

/// The family that a record's template is chosen by.
pub(super) const fn family(record: &Record) -> Family {
    if record.orig.src.is_ipv6() { Family::V6 } else { Family::V4 }
}

/// More bytes than a record has.
const LONGEST: usize = 160;

/// Appends the record of a flow: the fields of [`elements`](super::element::elements) in their
/// order, one after the other, since this is done for every flow (tests hold the two together).
pub(super) fn put(
    buffer: &mut Buffer<'_>,
    exporter: &Exporter,
    record: &Record,
) -> Result<(), Full> {
    let [forward, reverse] = record.counters.unwrap_or([Counters::default(); 2]);
    let (before, after) = (ports(&record.orig), ports_after(record));
    let family = family(record);
    let mut fields = Fields { bytes: [0; LONGEST], len: 0 };
    fields.put(record.key.value().to_be_bytes());
    fields.put(millis(record.start_ns.or(record.end_ns)).to_be_bytes());
    fields.put(millis(record.end_ns.or(record.start_ns)).to_be_bytes());
    fields.address(family, record.orig.src);
    fields.address(family, record.orig.dst);
    fields.put(before.src.to_be_bytes());
    fields.put(before.dst.to_be_bytes());
    fields.put([record.orig.proto.0]);
    fields.put(type_code(&record.orig).to_be_bytes());
    fields.put([end_reason(record), nat_event(record)]);
    fields.put(forward.bytes.to_be_bytes());
    fields.put(forward.packets.to_be_bytes());
    fields.put(reverse.bytes.to_be_bytes());
    fields.put(reverse.packets.to_be_bytes());
    fields.address(family, record.reply.dst);
    fields.address(family, record.reply.src);
    fields.put(after.src.to_be_bytes());
    fields.put(after.dst.to_be_bytes());
    if exporter.enterprise.is_some() {
        fields.put(record.zone.to_be_bytes());
        fields.put(record.mark.to_be_bytes());
    }
    buffer.put(fields.bytes.get(..fields.len).unwrap_or_default())
}

/// A record under construction.
struct Fields {
    bytes: [u8; LONGEST],
    len: usize,
}

impl Fields {
    #[inline]
    fn put<const N: usize>(&mut self, value: [u8; N]) {
        if let Some(room) = self.bytes.get_mut(self.len..).and_then(<[u8]>::first_chunk_mut) {
            *room = value;
            self.len = self.len.saturating_add(N);
        }
    }

    /// Families are never mixed in a flow; the length would have to be kept all the same.
    #[inline]
    fn address(&mut self, family: Family, address: IpAddr) {
        match (address, family) {
            (IpAddr::V4(address), Family::V4) => self.put(address.octets()),
            (IpAddr::V6(address), Family::V6) => self.put(address.octets()),
            (_, Family::V4) => self.put([0; 4]),
            (_, Family::V6) => self.put([0; 16]),
        }
    }
}

fn millis(time_ns: Option<u64>) -> u64 {
    time_ns.map_or(0, time::millis)
}

/// What the port fields hold.
#[derive(Clone, Copy, Debug, Default)]
struct Ports {
    src: u16,
    dst: u16,
}

fn ports(tuple: &Tuple) -> Ports {
    match tuple.l4 {
        L4::Ports { src, dst } if tuple.proto != Protocol::GRE => Ports { src, dst },
        L4::Icmp { id, .. } => Ports { src: id, dst: type_code(tuple) },
        L4::Ports { .. } | L4::None => Ports::default(),
    }
}

/// The ports after NAT, in the original direction.
fn ports_after(record: &Record) -> Ports {
    match record.reply.l4 {
        L4::Icmp { id, .. } => Ports { src: id, dst: type_code(&record.orig) },
        L4::Ports { .. } | L4::None => {
            let Ports { src, dst } = ports(&record.reply);
            Ports { src: dst, dst: src }
        }
    }
}

const fn type_code(tuple: &Tuple) -> u16 {
    match tuple.l4 {
        L4::Icmp { kind, code, .. } => u16::from_be_bytes([kind, code]),
        L4::Ports { .. } | L4::None => 0,
    }
}

fn end_reason(record: &Record) -> u8 {
    let state = record.l4_state.map_or(0, |it| it.state);
    match (record.cause, record.orig.proto, state) {
        (Cause::Resync | Cause::Restart, _, _) => reason::RESOURCES,
        // fin-wait, close-wait, last-ack, time-wait, close
        (Cause::Event, Protocol::TCP, 4..=8) => reason::DETECTED,
        // closed, shutdown-sent, shutdown-recd, shutdown-ack-sent
        (Cause::Event, Protocol::SCTP, 1 | 5..=7) => reason::DETECTED,
        (Cause::Event, _, _) => reason::IDLE,
    }
}

const fn nat_event(record: &Record) -> u8 {
    let status = record.status;
    let translated = status.has(Status::SRC_NAT) || status.has(Status::DST_NAT);
    match (translated, family(record)) {
        (false, _) => nat::NONE,
        (true, Family::V4) => nat::DELETE_NAT44,
        (true, Family::V6) => nat::DELETE,
    }
}

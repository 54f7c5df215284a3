//! The bytes of the requests: create, delete, flush.

use super::flows::Flows;
use firmware_ctd::wire::{L4, Protocol, Tuple};
use std::net::IpAddr;

const NEW: u16 = 0x0100;
const DELETE: u16 = 0x0102;
const REQUEST: u16 = 1;
const ACK: u16 = 4;
const EXCL: u16 = 0x200;
const CREATE: u16 = 0x400;
const NESTED: u16 = 0x8000;

/// Requests back to back, ready for one `sendmsg`.
#[derive(Debug, Default)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    last: usize,
}

impl Batch {
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.last = 0;
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Asks for an acknowledgement of the request added last.
    pub(super) fn acknowledge_last(&mut self) {
        if let Some(flags) = self.bytes.get_mut(self.last + 6..self.last + 8) {
            let value = u16::from_ne_bytes([flags[0], flags[1]]) | ACK;
            flags.copy_from_slice(&value.to_ne_bytes());
        }
    }

    pub(super) fn create(&mut self, seq: u32, flows: &Flows, n: u32) {
        let orig = flows.orig(n);
        self.message(NEW, REQUEST | CREATE | EXCL, seq, family(&orig));
        self.tuple(1, &orig);
        self.tuple(2, &flows.inverse(n));
        self.be32(7, flows.timeout_s);
        self.be32(3, 0xe); // CONFIRMED, ASSURED, SEEN_REPLY
        if orig.proto == Protocol::TCP {
            self.nest(4, |it| it.nest(1, |it| it.attribute(1, &[3])));
        }
        if flows.mark != 0 {
            self.be32(8, flows.mark);
        }
        self.zone(flows);
        if let Some((address, port)) = flows.public(n) {
            self.nest(6, |it| {
                it.attribute(1, &address.octets());
                it.attribute(2, &address.octets());
                it.nest(3, |it| {
                    it.attribute(1, &port.to_be_bytes());
                    it.attribute(2, &port.to_be_bytes());
                });
            });
        }
        self.close();
    }

    pub(super) fn delete(&mut self, seq: u32, flows: &Flows, n: u32) {
        let orig = flows.orig(n);
        self.message(DELETE, REQUEST, seq, family(&orig));
        self.tuple(1, &orig);
        self.zone(flows);
        self.close();
    }

    pub(super) fn flush(&mut self, seq: u32) {
        self.message(DELETE, REQUEST, seq, 0);
        self.close();
    }

    fn zone(&mut self, flows: &Flows) {
        if flows.zone != 0 {
            self.attribute(18, &flows.zone.to_be_bytes());
        }
    }

    fn tuple(&mut self, kind: u16, tuple: &Tuple) {
        self.nest(kind, |it| {
            it.nest(1, |it| match (tuple.src, tuple.dst) {
                (IpAddr::V4(src), IpAddr::V4(dst)) => {
                    it.attribute(1, &src.octets());
                    it.attribute(2, &dst.octets());
                }
                (IpAddr::V6(src), IpAddr::V6(dst)) => {
                    it.attribute(3, &src.octets());
                    it.attribute(4, &dst.octets());
                }
                _ => {}
            });
            it.nest(2, |it| {
                it.attribute(1, &[tuple.proto.0]);
                if let L4::Ports { src, dst } = tuple.l4 {
                    it.attribute(2, &src.to_be_bytes());
                    it.attribute(3, &dst.to_be_bytes());
                }
            });
        });
    }

    fn message(&mut self, kind: u16, flags: u16, seq: u32, family: u8) {
        self.last = self.bytes.len();
        self.bytes.extend_from_slice(&0u32.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&flags.to_ne_bytes());
        self.bytes.extend_from_slice(&seq.to_ne_bytes());
        self.bytes.extend_from_slice(&0u32.to_ne_bytes());
        self.bytes.extend_from_slice(&[family, 0, 0, 0]);
    }

    fn close(&mut self) {
        let length = u32::try_from(self.bytes.len() - self.last).unwrap_or(u32::MAX);
        self.bytes[self.last..self.last + 4].copy_from_slice(&length.to_ne_bytes());
    }

    fn be32(&mut self, kind: u16, value: u32) {
        self.attribute(kind, &value.to_be_bytes());
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn nest(&mut self, kind: u16, inside: impl FnOnce(&mut Self)) {
        let at = self.bytes.len();
        self.attribute(kind | NESTED, &[]);
        inside(self);
        let length = u16::try_from(self.bytes.len() - at).unwrap_or(u16::MAX);
        self.bytes[at..at + 2].copy_from_slice(&length.to_ne_bytes());
    }
}

const fn family(tuple: &Tuple) -> u8 {
    if tuple.src.is_ipv6() { 10 } else { 2 }
}

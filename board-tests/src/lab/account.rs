//! What one host really sent and received, packet by packet, as conntrack would count it.
//!
//! The account looks at every frame that passes between the host's stack and the wire. It keeps
//! packets and IP bytes per flow, with the host's own address as the source, and learns from the
//! [`Stamp`] at the head of a payload which flow of a plan a packet belongs to, so that the far
//! side can name a flow in spite of address translation. Not counted: ICMP
//! errors (conntrack does not count those for a flow either; [`Account::other`] does).
//! Limits: no IP options or extension headers, no fragments; the hosts make none.

use std::collections::HashMap;
use std::net::IpAddr;

use super::netlink::head;
use super::tuple::{Count, Proto, Tuple};

/// The head of a payload that says which flow it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp(pub u64);

impl Stamp {
    /// Bytes of a stamp.
    pub const LEN: usize = 16;
    const MAGIC: [u8; 8] = *b"labflow:";

    /// The stamp as it stands in a payload.
    #[must_use]
    pub fn bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..8].copy_from_slice(&Self::MAGIC);
        bytes[8..].copy_from_slice(&self.0.to_be_bytes());
        bytes
    }

    /// The stamp at the head of `payload`.
    #[must_use]
    pub fn read(payload: &[u8]) -> Option<Self> {
        let rest = payload.strip_prefix(&Self::MAGIC)?;
        (rest.len() >= 8).then(|| Self(u64::from_be_bytes(head(rest))))
    }
}

/// Both directions of a flow at one host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Both {
    /// What the host put on the wire.
    pub sent: Count,
    /// What reached the host.
    pub received: Count,
}

/// The books of one host.
#[derive(Debug, Default)]
pub struct Account {
    flows: HashMap<Tuple, Both>,
    stamps: HashMap<u64, Tuple>,
    other: u64,
    total: Both,
}

impl Account {
    /// The flow `tuple`, whose source is this host.
    #[must_use]
    pub fn get(&self, tuple: &Tuple) -> Both {
        self.flows.get(tuple).copied().unwrap_or_default()
    }

    /// Every flow that was not taken out, in no order.
    pub fn flows(&self) -> impl Iterator<Item = (&Tuple, &Both)> {
        self.flows.iter()
    }

    /// IP packets that are no part of any flow (ICMP errors).
    #[must_use]
    pub const fn other(&self) -> u64 {
        self.other
    }

    /// All flows together, those taken out included.
    #[must_use]
    pub const fn total(&self) -> Both {
        self.total
    }

    /// As which flow (its source is this host) the packets stamped `id` came in.
    #[must_use]
    pub fn stamped(&self, id: u64) -> Option<Tuple> {
        self.stamps.get(&id).copied()
    }

    /// Takes the flow `tuple` out of the books.
    pub fn take(&mut self, tuple: &Tuple) -> Both {
        self.flows.remove(tuple).unwrap_or_default()
    }

    /// Forgets the stamp `id`.
    pub fn forget(&mut self, id: u64) {
        self.stamps.remove(&id);
    }

    pub(super) fn sent(&mut self, packet: &[u8]) {
        match look(packet) {
            Seen::Packet { tuple, bytes, .. } => {
                let one = Count { packets: 1, bytes };
                self.flows.entry(tuple).or_default().sent += one;
                self.total.sent += one;
            }
            Seen::Other => self.other += 1,
        }
    }

    pub(super) fn received(&mut self, packet: &[u8]) {
        match look(packet) {
            Seen::Packet { tuple, bytes, payload } => {
                let (tuple, one) = (tuple.inverse(), Count { packets: 1, bytes });
                self.flows.entry(tuple).or_default().received += one;
                self.total.received += one;
                if let Some(Stamp(id)) = Stamp::read(payload) {
                    self.stamps.entry(id).or_insert(tuple);
                }
            }
            Seen::Other => self.other += 1,
        }
    }
}

enum Seen<'a> {
    Packet { tuple: Tuple, bytes: u64, payload: &'a [u8] },
    Other,
}

fn look(ip: &[u8]) -> Seen<'_> {
    let parsed = match ip.first().map(|byte| byte >> 4) {
        Some(4) => ipv4(ip),
        Some(6) => ipv6(ip),
        _ => None,
    };
    parsed.and_then(|packet| packet.seen()).unwrap_or(Seen::Other)
}

struct Packet<'a> {
    proto: Proto,
    src: IpAddr,
    dst: IpAddr,
    bytes: u64,
    l4: &'a [u8],
}

fn ipv4(ip: &[u8]) -> Option<Packet<'_>> {
    let total = u16::from_be_bytes(head(ip.get(2..)?));
    Some(Packet {
        proto: Proto::from_number(*ip.get(9)?)?,
        src: head::<4>(ip.get(12..)?).into(),
        dst: head::<4>(ip.get(16..)?).into(),
        bytes: total.into(),
        l4: ip.get(20..total.into())?,
    })
}

fn ipv6(ip: &[u8]) -> Option<Packet<'_>> {
    let total = 40 + usize::from(u16::from_be_bytes(head(ip.get(4..)?)));
    Some(Packet {
        proto: Proto::from_number(*ip.get(6)?)?,
        src: head::<16>(ip.get(8..)?).into(),
        dst: head::<16>(ip.get(24..)?).into(),
        bytes: total as u64,
        l4: ip.get(40..total)?,
    })
}

impl<'a> Packet<'a> {
    fn seen(&self) -> Option<Seen<'a>> {
        let word = |at: usize| self.l4.get(at..).map(|b| u16::from_be_bytes(head(b)));
        let (sport, dport, start) = match self.proto {
            Proto::Tcp => (word(0)?, word(2)?, usize::from(*self.l4.get(12)? >> 4) * 4),
            Proto::Udp => (word(0)?, word(2)?, 8),
            Proto::Icmp if matches!(self.l4.first()?, 0 | 8) => (word(4)?, word(4)?, 8),
            Proto::Icmpv6 if matches!(self.l4.first()?, 128 | 129) => (word(4)?, word(4)?, 8),
            Proto::Icmp | Proto::Icmpv6 => return None,
        };
        let tuple = Tuple::new(self.proto, (self.src, sport), (self.dst, dport));
        Some(Seen::Packet { tuple, bytes: self.bytes, payload: self.l4.get(start..)? })
    }
}

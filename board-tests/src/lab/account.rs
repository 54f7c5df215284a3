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

#[cfg(test)]
mod tests {
    use super::{Account, Both, Count, Proto, Stamp, Tuple};

    /// An IPv4 datagram from 192.0.2.2:4000 to 198.51.100.2:53 with this payload.
    fn ipv4_udp(payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(28 + payload.len()).unwrap().to_be_bytes();
        let mut packet = vec![0x45, 0, length[0], length[1], 0, 0, 0, 0, 64, 17, 0, 0];
        packet.extend([192, 0, 2, 2, 198, 51, 100, 2]);
        packet.extend([0x0f, 0xa0, 0, 53, 0, 0, 0, 0]);
        packet.extend(payload);
        packet
    }

    /// An ICMPv6 message of this type from 2001:db8:1::2, identifier 77.
    fn icmpv6(kind: u8) -> Vec<u8> {
        let mut packet = vec![0x60, 0, 0, 0, 0, 12, 58, 64];
        packet.extend([0x20, 1, 0x0d, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
        packet.extend([0x20, 1, 0x0d, 0xb8, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
        packet.extend([kind, 0, 0, 0, 0, 77, 0, 1, 9, 9, 9, 9]);
        packet
    }

    fn udp_tuple() -> Tuple {
        let (src, dst) = (("192.0.2.2", 4000), ("198.51.100.2", 53));
        Tuple::new(Proto::Udp, (src.0.parse().unwrap(), src.1), (dst.0.parse().unwrap(), dst.1))
    }

    #[test]
    fn both_directions_are_one_flow_of_the_host() {
        let mut account = Account::default();
        account.sent(&ipv4_udp(b"12345"));
        let mut answer = ipv4_udp(b"1");
        answer[12..16].copy_from_slice(&[198, 51, 100, 2]);
        answer[16..20].copy_from_slice(&[192, 0, 2, 2]);
        answer[20..24].copy_from_slice(&[0, 53, 0x0f, 0xa0]);
        account.received(&answer);
        let both = Both {
            sent: Count { packets: 1, bytes: 33 },
            received: Count { packets: 1, bytes: 29 },
        };
        assert_eq!(account.get(&udp_tuple()), both);
        assert_eq!(account.total(), both);
        assert_eq!(account.take(&udp_tuple()), both);
        assert_eq!((account.flows().count(), account.total()), (0, both));
    }

    #[test]
    fn padding_after_the_packet_is_not_counted() {
        let mut account = Account::default();
        let mut packet = ipv4_udp(b"12345");
        packet.resize(46, 0);
        account.sent(&packet);
        assert_eq!(account.get(&udp_tuple()).sent.bytes, 33);
    }

    #[test]
    fn echoes_are_flows_and_other_icmp_is_not() {
        let mut account = Account::default();
        for kind in [128, 129, 1, 135] {
            account.sent(&icmpv6(kind));
        }
        let [(tuple, both)] = account.flows().collect::<Vec<_>>()[..] else {
            panic!("one flow");
        };
        assert_eq!((tuple.proto, tuple.src.port(), tuple.dst.port()), (Proto::Icmpv6, 77, 77));
        assert_eq!((both.sent, account.other()), (Count { packets: 2, bytes: 104 }, 2));
    }

    #[test]
    fn a_stamp_names_the_flow_at_the_far_side() {
        let mut account = Account::default();
        let mut payload = Stamp(42).bytes().to_vec();
        payload.extend([0; 10]);
        account.received(&ipv4_udp(&payload));
        assert_eq!(account.stamped(42), Some(udp_tuple().inverse()));
        account.forget(42);
        assert_eq!(account.stamped(42), None);
        assert_eq!(Stamp::read(&Stamp(42).bytes()[..15]), None);
    }

    #[test]
    fn cut_packets_are_counted_as_other_and_never_panic() {
        let mut account = Account::default();
        let (udp, icmp) = (ipv4_udp(b"12345"), icmpv6(128));
        for packet in [&udp, &icmp] {
            for length in 0..packet.len() {
                account.sent(&packet[..length]);
                account.received(&packet[..length]);
            }
        }
        assert_eq!(account.flows().count(), 0);
        assert_eq!(account.other(), 2 * (udp.len() + icmp.len()) as u64);
    }
}

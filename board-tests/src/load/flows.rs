//! Which flows a load is made of, by arithmetic.
//!
//! Flow *n* has the tuple *n* modulo [`Flows::distinct`]. Tuples are distinct for the first
//! 2^32 / 5 of them: the low digits choose the source port, the rest the source address.
//! Addresses are private ones (10.0.0.0/8, fd00::/8) as sources and documentation ones
//! (198.51.100.0/24, 2001:db8::/32) as destinations.

use firmware_ctd::wire::{L4, Protocol, Tuple};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Source ports of one address: 1,024 and up.
const PORTS: u32 = 50_000;
/// First source port.
const FIRST_PORT: u32 = 1024;

/// Address families of a load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Families {
    /// IPv4 only.
    #[default]
    Ipv4,
    /// IPv6 only.
    Ipv6,
    /// Even flows IPv4, odd flows IPv6.
    Half,
}

/// Transport protocols of a load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    /// UDP only.
    #[default]
    Udp,
    /// TCP only, in state `ESTABLISHED`.
    Tcp,
    /// Two UDP flows, then two TCP flows, so that it mixes with [`Families::Half`].
    Mixed,
}

/// What the flows of a load are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flows {
    /// Address families.
    pub families: Families,
    /// Transport protocols.
    pub transport: Transport,
    /// How many tuples there are before they come again; `u32::MAX` for never.
    pub distinct: u32,
    /// `CTA_ZONE` of every flow; 0 is the default zone.
    pub zone: u16,
    /// `CTA_MARK` of every flow; 0 sends none.
    pub mark: u32,
    /// Timeout in seconds.
    pub timeout_s: u32,
    /// Source NAT of IPv4 flows to this address, with a port chosen here.
    pub snat: Option<Ipv4Addr>,
}

impl Default for Flows {
    fn default() -> Self {
        Self { families: Families::Ipv4, transport: Transport::Udp, ..Self::MIXED }
    }
}

impl Flows {
    /// A mixture of all kinds: IPv4 and IPv6, UDP and TCP, in equal parts.
    pub const MIXED: Self = Self {
        families: Families::Half,
        transport: Transport::Mixed,
        distinct: u32::MAX,
        zone: 0,
        mark: 0,
        timeout_s: 600,
        snat: None,
    };

    /// Tuple of flow `n` in the original direction.
    #[must_use]
    pub fn orig(&self, n: u32) -> Tuple {
        let n = n % self.distinct;
        let (host, port) = (n / PORTS, low16(FIRST_PORT + n % PORTS));
        let ipv6 = match self.families {
            Families::Ipv4 => false,
            Families::Ipv6 => true,
            Families::Half => n % 2 == 1,
        };
        let tcp = match self.transport {
            Transport::Udp => false,
            Transport::Tcp => true,
            Transport::Mixed => n / 2 % 2 == 1,
        };
        let (src, dst) = if ipv6 { ipv6_pair(host) } else { ipv4_pair(host) };
        Tuple {
            src,
            dst,
            proto: if tcp { Protocol::TCP } else { Protocol::UDP },
            l4: L4::Ports { src: port, dst: if tcp { 443 } else { 53 } },
        }
    }

    /// Tuple of the reply direction as a request must carry it: the plain inverse.
    #[must_use]
    pub fn inverse(&self, n: u32) -> Tuple {
        self.orig(n).inverse()
    }

    /// Tuple of the reply direction as the kernel then has it, after source NAT.
    #[must_use]
    pub fn reply(&self, n: u32) -> Tuple {
        let plain = self.inverse(n);
        match (self.public(n), plain.l4) {
            (Some((address, port)), L4::Ports { src, .. }) => {
                Tuple { dst: IpAddr::V4(address), l4: L4::Ports { src, dst: port }, ..plain }
            }
            _ => plain,
        }
    }

    /// Public address and port that source NAT gives flow `n`.
    ///
    /// Each destination address has its own 50,000 ports, so no two flows meet before 254
    /// destinations are used up: 12.7 million tuples.
    #[must_use]
    pub fn public(&self, n: u32) -> Option<(Ipv4Addr, u16)> {
        let orig = self.orig(n);
        match (self.snat, orig.src, orig.l4) {
            (Some(address), IpAddr::V4(_), L4::Ports { src, .. }) => {
                Some((address, src.wrapping_add(10_000)))
            }
            _ => None,
        }
    }
}

fn ipv4_pair(host: u32) -> (IpAddr, IpAddr) {
    let [_, a, b, c] = (host + 2).to_be_bytes();
    let dst = low8(1 + host % 254);
    (Ipv4Addr::new(10, a, b, c).into(), Ipv4Addr::new(198, 51, 100, dst).into())
}

fn ipv6_pair(host: u32) -> (IpAddr, IpAddr) {
    let host = host + 2;
    let (high, low) = (low16(host >> 16), low16(host));
    (
        Ipv6Addr::new(0xfd00, 0, 0, 1, 0, 0, high, low).into(),
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
    )
}

/// The low 16 bits.
const fn low16(value: u32) -> u16 {
    let [_, _, high, low] = value.to_be_bytes();
    u16::from_be_bytes([high, low])
}

/// The low 8 bits.
const fn low8(value: u32) -> u8 {
    value.to_be_bytes()[3]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn tuples_are_distinct_also_after_nat() {
        let flows = Flows {
            families: Families::Half,
            transport: Transport::Mixed,
            snat: Some(Ipv4Addr::new(198, 51, 100, 1)),
            ..Flows::default()
        };
        let orig: HashSet<_> = (0..300_000).map(|n| flows.orig(n)).collect();
        let reply: HashSet<_> = (0..300_000).map(|n| flows.reply(n)).collect();
        assert_eq!((orig.len(), reply.len()), (300_000, 300_000));
    }

    #[test]
    fn tuples_come_again_after_distinct() {
        let flows = Flows { distinct: 1000, ..Flows::default() };
        assert_eq!(flows.orig(17), flows.orig(2017));
        assert_ne!(flows.orig(17), flows.orig(18));
    }

    #[test]
    fn half_mixes_families_with_transports() {
        let flows =
            Flows { families: Families::Half, transport: Transport::Mixed, ..Flows::default() };
        let kinds: HashSet<_> =
            (0..4).map(|n| (flows.orig(n).src.is_ipv6(), flows.orig(n).proto)).collect();
        assert_eq!(kinds.len(), 4);
    }
}

//! Who has which address: documentation addresses only (RFC 5737, RFC 3849).
//!
//! ```text
//!  LAN hosts 192.0.2.2 …    ─ lan0 [ router ] wan0 ─   WAN hosts 198.51.100.2 …
//!  2001:db8:1::2 …    192.0.2.1 │          │ 198.51.100.1    2001:db8:2::2 …
//!              2001:db8:1::1 ───┘          └─── 2001:db8:2::1
//! ```
//! IPv4 of the LAN leaves as 198.51.100.1 (masquerade); IPv6 is forwarded as it is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::link::Mac;

/// The router's name of its inner interface.
pub const LAN_INTERFACE: &str = "lan0";
/// The router's name of its outer interface.
pub const WAN_INTERFACE: &str = "wan0";

/// The side of the router.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// Inside: clients, behind the masquerade.
    Lan,
    /// Outside: servers.
    Wan,
}

/// The addresses of one host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Hardware address; the last two bytes are the host's number.
    pub mac: Mac,
    /// IPv4 address, /24.
    pub ipv4: Ipv4Addr,
    /// IPv6 address, /64.
    pub ipv6: Ipv6Addr,
    /// The router's addresses on this side.
    pub gateway: (Ipv4Addr, Ipv6Addr),
    /// The router's hardware address on this side.
    pub router_mac: Mac,
}

impl Side {
    /// The router's interface on this side.
    #[must_use]
    pub const fn interface(self) -> &'static str {
        match self {
            Self::Lan => LAN_INTERFACE,
            Self::Wan => WAN_INTERFACE,
        }
    }

    /// The router's addresses on this side.
    #[must_use]
    pub const fn gateway(self) -> (Ipv4Addr, Ipv6Addr) {
        (self.ipv4(1), self.ipv6(1))
    }

    /// The router's hardware address on this side.
    #[must_use]
    pub const fn router_mac(self) -> Mac {
        [0x02, 0x52, self.number(), 0, 0, 1]
    }

    /// Host `index` (0 …) of this side; at most 250.
    #[must_use]
    pub const fn place(self, index: u8) -> Place {
        Place {
            mac: [0x02, 0x48, self.number(), 0, 0, index],
            ipv4: self.ipv4(index.saturating_add(2)),
            ipv6: self.ipv6(index.saturating_add(2)),
            gateway: self.gateway(),
            router_mac: self.router_mac(),
        }
    }

    const fn number(self) -> u8 {
        match self {
            Self::Lan => 1,
            Self::Wan => 2,
        }
    }

    const fn ipv4(self, last: u8) -> Ipv4Addr {
        match self {
            Self::Lan => Ipv4Addr::new(192, 0, 2, last),
            Self::Wan => Ipv4Addr::new(198, 51, 100, last),
        }
    }

    const fn ipv6(self, last: u8) -> Ipv6Addr {
        Ipv6Addr::new(0x2001, 0xdb8, self.number() as u16, 0, 0, 0, 0, last as u16)
    }
}

impl Place {
    /// The Ethernet header of a packet to the router.
    #[must_use]
    pub fn header(&self, ipv6: bool) -> [u8; 14] {
        let mut header = [0; 14];
        header[..6].copy_from_slice(&self.router_mac);
        header[6..12].copy_from_slice(&self.mac);
        header[12..].copy_from_slice(if ipv6 { &[0x86, 0xdd] } else { &[0x08, 0x00] });
        header
    }

    /// Both addresses.
    #[must_use]
    pub const fn addresses(&self) -> [IpAddr; 2] {
        [IpAddr::V4(self.ipv4), IpAddr::V6(self.ipv6)]
    }
}

//! The addresses of one direction of a flow.

use core::net::IpAddr;

/// An IP protocol number, `IPPROTO_*`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Protocol(pub u8);

impl Protocol {
    /// ICMP, 1.
    pub const ICMP: Self = Self(1);
    /// TCP, 6.
    pub const TCP: Self = Self(6);
    /// UDP, 17.
    pub const UDP: Self = Self(17);
    /// DCCP, 33.
    pub const DCCP: Self = Self(33);
    /// GRE, 47.
    pub const GRE: Self = Self(47);
    /// ICMPv6, 58.
    pub const ICMPV6: Self = Self(58);
    /// SCTP, 132.
    pub const SCTP: Self = Self(132);
    /// UDP-Lite, 136.
    pub const UDPLITE: Self = Self(136);
}

/// What identifies a flow beyond its addresses and protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum L4 {
    /// Nothing: the kernel tracks this protocol by addresses alone.
    #[default]
    None,
    /// Ports of TCP, UDP, UDP-Lite, SCTP and DCCP; the keys of GRE.
    Ports {
        /// Source port or key.
        src: u16,
        /// Destination port or key.
        dst: u16,
    },
    /// ICMP and ICMPv6.
    Icmp {
        /// Echo identifier.
        id: u16,
        /// Message type.
        kind: u8,
        /// Message code.
        code: u8,
    },
}

/// One direction of a flow: `CTA_TUPLE_*`.
///
/// Both addresses are of one family; a tuple off the wire always is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tuple {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// Layer 4 protocol.
    pub proto: Protocol,
    /// Ports, keys or the ICMP triple.
    pub l4: L4,
}

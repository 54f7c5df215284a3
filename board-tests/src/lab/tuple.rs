//! How the lab names a flow: by the addresses of one direction.
//!
//! Of its own, not the daemon's: the lab is the independent side of every comparison.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// The protocols that the hosts of the lab speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Proto {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP echo.
    Icmp,
    /// ICMPv6 echo.
    Icmpv6,
}

impl Proto {
    /// From an IP protocol number; `None` for those that the lab does not account.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Icmp),
            6 => Some(Self::Tcp),
            17 => Some(Self::Udp),
            58 => Some(Self::Icmpv6),
            _ => None,
        }
    }

    /// The name as records spell it: `tcp`, `udp`, `icmp`, `icmpv6`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
            Self::Icmpv6 => "icmpv6",
        }
    }

    /// The inverse of [`Proto::name`].
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Tcp, Self::Udp, Self::Icmp, Self::Icmpv6].into_iter().find(|p| p.name() == name)
    }

    /// Whether it is ICMP or ICMPv6.
    #[must_use]
    pub const fn is_icmp(self) -> bool {
        matches!(self, Self::Icmp | Self::Icmpv6)
    }
}

/// One direction of a flow. For ICMP both ports are the echo identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tuple {
    /// Protocol.
    pub proto: Proto,
    /// Source.
    pub src: SocketAddr,
    /// Destination.
    pub dst: SocketAddr,
}

impl Tuple {
    /// From addresses and ports; ICMP takes its identifier as both ports.
    #[must_use]
    pub const fn new(proto: Proto, src: (IpAddr, u16), dst: (IpAddr, u16)) -> Self {
        Self { proto, src: SocketAddr::new(src.0, src.1), dst: SocketAddr::new(dst.0, dst.1) }
    }

    /// The other direction as it is without address translation.
    #[must_use]
    pub const fn inverse(self) -> Self {
        Self { proto: self.proto, src: self.dst, dst: self.src }
    }
}

impl fmt::Display for Tuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.proto.name();
        if self.proto.is_icmp() {
            return write!(
                f,
                "{name} {} > {} id {}",
                self.src.ip(),
                self.dst.ip(),
                self.src.port()
            );
        }
        write!(f, "{name} {} > {}", self.src, self.dst)
    }
}

/// Packets and bytes of one direction; bytes are counted from the IP header on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Packets.
    pub packets: u64,
    /// Bytes, IP header included.
    pub bytes: u64,
}

impl std::ops::AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.packets += other.packets;
        self.bytes += other.bytes;
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} packets {} B", self.packets, self.bytes)
    }
}

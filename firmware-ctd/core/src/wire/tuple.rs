//! The addresses of one direction of a flow: `CTA_TUPLE_*`.
//!
//! A tuple off the wire always has both addresses, of one family, and a protocol. Ports or the
//! ICMP triple are taken whole or not at all.
//!
//! Source: `enum ctattr_tuple`, `ctattr_ip` and `ctattr_l4proto`.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::conntrack::Family;
use super::error::{Error, Full};
use super::nla::{Attribute, AttributeWriter, Attributes};

/// `enum ctattr_tuple`.
pub(super) mod cta_tuple {
    pub(in crate::wire) const IP: u16 = 1;
    pub(in crate::wire) const PROTO: u16 = 2;
    pub(in crate::wire) const ZONE: u16 = 3;
}

/// `enum ctattr_ip`.
pub(super) mod cta_ip {
    pub(in crate::wire) const V4_SRC: u16 = 1;
    pub(in crate::wire) const V4_DST: u16 = 2;
    pub(in crate::wire) const V6_SRC: u16 = 3;
    pub(in crate::wire) const V6_DST: u16 = 4;
}

/// `enum ctattr_l4proto`.
pub(super) mod cta_proto {
    pub(in crate::wire) const NUM: u16 = 1;
    pub(in crate::wire) const SRC_PORT: u16 = 2;
    pub(in crate::wire) const DST_PORT: u16 = 3;
    pub(in crate::wire) const ICMP_ID: u16 = 4;
    pub(in crate::wire) const ICMP_TYPE: u16 = 5;
    pub(in crate::wire) const ICMP_CODE: u16 = 6;
    pub(in crate::wire) const ICMPV6_ID: u16 = 7;
    pub(in crate::wire) const ICMPV6_TYPE: u16 = 8;
    pub(in crate::wire) const ICMPV6_CODE: u16 = 9;
}

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

impl Tuple {
    /// The family of the addresses.
    #[must_use]
    pub const fn family(&self) -> Family {
        Family::of(self.src)
    }

    /// The tuple of an answer to this one, without any translation of addresses: what the kernel
    /// wants as reply tuple of a flow that is to be made.
    ///
    /// An ICMP type that has no answer keeps its number.
    #[must_use]
    pub const fn inverse(&self) -> Self {
        let l4 = match self.l4 {
            L4::None => L4::None,
            L4::Ports { src, dst } => L4::Ports { src: dst, dst: src },
            L4::Icmp { id, kind, code } => {
                L4::Icmp { id, kind: icmp_answer(self.proto, kind), code }
            }
        };
        Self { src: self.dst, dst: self.src, proto: self.proto, l4 }
    }

    /// Reads what a `CTA_TUPLE_*` holds: the tuple, and `CTA_TUPLE_ZONE` when it is there.
    #[inline]
    pub(super) fn parse(nest: &Attribute<'_>) -> Result<(Self, Option<u16>), Error> {
        let mut tuple = None;
        let zone = Self::read(nest, &mut tuple)?;
        Ok((tuple.ok_or(Error::Missing)?, zone))
    }

    /// The same, into a place where the tuple is to stay: there are a dozen of them in the path of
    /// an event, and each time one is moved it costs as much as reading it.
    pub(super) fn read(
        nest: &Attribute<'_>,
        into: &mut Option<Self>,
    ) -> Result<Option<u16>, Error> {
        if usual::read(nest.value, into).is_some() {
            return Ok(None);
        }
        let (tuple, zone) = Self::walk(nest.nested())?;
        *into = Some(tuple);
        Ok(zone)
    }

    /// As [`Tuple::parse`], attribute by attribute.
    fn walk(nest: Attributes<'_>) -> Result<(Self, Option<u16>), Error> {
        let mut addresses = None;
        let mut proto = None;
        let mut zone = None;
        for attribute in nest {
            let attribute = attribute?;
            match attribute.kind {
                cta_tuple::IP => addresses = Some(Addresses::parse(attribute.nested())?.pair()?),
                cta_tuple::PROTO => proto = Some(Layer4::parse(attribute.nested())?),
                cta_tuple::ZONE => zone = Some(attribute.be16()?),
                _ => {}
            }
        }
        let (src, dst) = addresses.ok_or(Error::Missing)?;
        let (proto, l4) = proto.ok_or(Error::Missing)?.whole()?;
        Ok((Self { src, dst, proto, l4 }, zone))
    }

    /// Writes the tuple as attribute `kind`.
    pub(super) fn emit(
        &self,
        w: &mut AttributeWriter<'_, '_>,
        kind: u16,
        zone: Option<u16>,
    ) -> Result<(), Full> {
        w.nest(kind, |w| {
            w.nest(cta_tuple::IP, |w| emit_addresses(w, Some(self.src), Some(self.dst)))?;
            w.nest(cta_tuple::PROTO, |w| Layer4::from(self).emit(w))?;
            w.optional(zone, |w, zone| w.be16(cta_tuple::ZONE, zone))
        })
    }
}

/// The type of the answer to an ICMP or ICMPv6 message of type `kind`: echo, timestamp,
/// information and address mask of RFC 792 and 950, echo and node information of RFC 4443 and 4620.
const fn icmp_answer(proto: Protocol, kind: u8) -> u8 {
    match (proto, kind) {
        (Protocol::ICMP, 8) => 0,
        (Protocol::ICMP, 0) => 8,
        (Protocol::ICMP, 13) => 14,
        (Protocol::ICMP, 14) => 13,
        (Protocol::ICMP, 15) => 16,
        (Protocol::ICMP, 16) => 15,
        (Protocol::ICMP, 17) => 18,
        (Protocol::ICMP, 18) => 17,
        (Protocol::ICMPV6, 128) => 129,
        (Protocol::ICMPV6, 129) => 128,
        (Protocol::ICMPV6, 139) => 140,
        (Protocol::ICMPV6, 140) => 139,
        _ => kind,
    }
}

/// The one form in which every kernel writes a tuple with ports: addresses, protocol, ports, in
/// this order and nothing else. Nearly all tuples have it, and half of the attributes of an event
/// are in its tuples; so it is compared as a whole. Whatever differs is walked.
mod usual {
    use super::{IpAddr, L4, Protocol, Tuple, cta_ip, cta_proto, cta_tuple};
    use crate::wire::nla::{header_bytes, nest_header};

    const IP_V4: u32 = u32::from_ne_bytes(nest_header(cta_tuple::IP, 20));
    const V4_SRC: u32 = u32::from_ne_bytes(header_bytes(cta_ip::V4_SRC, 8));
    const V4_DST: u32 = u32::from_ne_bytes(header_bytes(cta_ip::V4_DST, 8));
    const IP_V6: u32 = u32::from_ne_bytes(nest_header(cta_tuple::IP, 44));
    const V6_SRC: u32 = u32::from_ne_bytes(header_bytes(cta_ip::V6_SRC, 20));
    const V6_DST: u32 = u32::from_ne_bytes(header_bytes(cta_ip::V6_DST, 20));
    const PROTO: u32 = u32::from_ne_bytes(nest_header(cta_tuple::PROTO, 28));
    const NUM: u32 = u32::from_ne_bytes(header_bytes(cta_proto::NUM, 5));
    const SRC_PORT: u32 = u32::from_ne_bytes(header_bytes(cta_proto::SRC_PORT, 6));
    const DST_PORT: u32 = u32::from_ne_bytes(header_bytes(cta_proto::DST_PORT, 6));

    /// The tuple, if `value` is of this form.
    #[inline]
    pub(super) fn read(value: &[u8], into: &mut Option<Tuple>) -> Option<()> {
        let mut words = Words(value);
        match u32::from_ne_bytes(words.next()?) {
            IP_V4 => words.tuple::<4>([V4_SRC, V4_DST], into),
            IP_V6 => words.tuple::<16>([V6_SRC, V6_DST], into),
            _ => None,
        }
    }

    /// Bytes that are read from the front.
    struct Words<'a>(&'a [u8]);

    impl Words<'_> {
        #[inline]
        fn next<const N: usize>(&mut self) -> Option<[u8; N]> {
            let (next, rest) = self.0.split_first_chunk::<N>()?;
            self.0 = rest;
            Some(*next)
        }

        #[inline]
        fn expect(&mut self, header: u32) -> Option<()> {
            (u32::from_ne_bytes(self.next()?) == header).then_some(())
        }

        #[inline]
        fn tuple<const N: usize>(
            &mut self,
            [src, dst]: [u32; 2],
            into: &mut Option<Tuple>,
        ) -> Option<()>
        where
            IpAddr: From<[u8; N]>,
        {
            self.expect(src)?;
            let src = self.next::<N>()?;
            self.expect(dst)?;
            let dst = self.next::<N>()?;
            self.expect(PROTO)?;
            self.expect(NUM)?;
            let [proto, ..] = self.next::<4>()?;
            let l4 = L4::Ports { src: self.port(SRC_PORT)?, dst: self.port(DST_PORT)? };
            if !self.0.is_empty() {
                return None;
            }
            let (src, dst) = (src.into(), dst.into());
            *into = Some(Tuple { src, dst, proto: Protocol(proto), l4 });
            Some(())
        }

        #[inline]
        fn port(&mut self, header: u32) -> Option<u16> {
            self.expect(header)?;
            let [high, low, ..] = self.next::<4>()?;
            Some(u16::from_be_bytes([high, low]))
        }
    }
}

/// What a `CTA_TUPLE_IP` holds; in filters either address may be absent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Addresses {
    pub(super) src: Option<IpAddr>,
    pub(super) dst: Option<IpAddr>,
}

impl Addresses {
    pub(super) fn parse(nest: Attributes<'_>) -> Result<Self, Error> {
        let mut ip = Self::default();
        for attribute in nest {
            let attribute = attribute?;
            match attribute.kind {
                cta_ip::V4_SRC => ip.src = Some(v4(&attribute)?),
                cta_ip::V4_DST => ip.dst = Some(v4(&attribute)?),
                cta_ip::V6_SRC => ip.src = Some(v6(&attribute)?),
                cta_ip::V6_DST => ip.dst = Some(v6(&attribute)?),
                _ => {}
            }
        }
        Ok(ip)
    }

    /// Both addresses, of one family.
    fn pair(self) -> Result<(IpAddr, IpAddr), Error> {
        match (self.src, self.dst) {
            (Some(src), Some(dst)) if src.is_ipv4() == dst.is_ipv4() => Ok((src, dst)),
            (Some(_), Some(_)) => Err(Error::MixedFamilies),
            _ => Err(Error::Missing),
        }
    }
}

/// An IPv4 address.
pub(super) fn v4(attribute: &Attribute<'_>) -> Result<IpAddr, Error> {
    attribute.array::<4>().map(|octets| IpAddr::V4(Ipv4Addr::from(octets)))
}

/// An IPv6 address.
pub(super) fn v6(attribute: &Attribute<'_>) -> Result<IpAddr, Error> {
    attribute.array::<16>().map(|octets| IpAddr::V6(Ipv6Addr::from(octets)))
}

/// Writes `ip` as attribute `v4` or `v6`, whichever its family asks for.
pub(super) fn emit_address(
    w: &mut AttributeWriter<'_, '_>,
    v4: u16,
    v6: u16,
    ip: IpAddr,
) -> Result<(), Full> {
    match ip {
        IpAddr::V4(ip) => w.bytes(v4, &ip.octets()),
        IpAddr::V6(ip) => w.bytes(v6, &ip.octets()),
    }
}

/// Writes the addresses that are there, as `CTA_TUPLE_IP` holds them.
pub(super) fn emit_addresses(
    w: &mut AttributeWriter<'_, '_>,
    src: Option<IpAddr>,
    dst: Option<IpAddr>,
) -> Result<(), Full> {
    w.optional(src, |w, ip| emit_address(w, cta_ip::V4_SRC, cta_ip::V6_SRC, ip))?;
    w.optional(dst, |w, ip| emit_address(w, cta_ip::V4_DST, cta_ip::V6_DST, ip))
}

/// What a `CTA_TUPLE_PROTO` holds; in filters any of it may be absent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Layer4 {
    pub(super) proto: Option<Protocol>,
    pub(super) src_port: Option<u16>,
    pub(super) dst_port: Option<u16>,
    pub(super) icmp: IcmpTriple,
    /// What stands in the attributes of ICMPv6.
    pub(super) icmpv6: IcmpTriple,
}

/// The triple of ICMP or of ICMPv6.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct IcmpTriple {
    pub(super) id: Option<u16>,
    pub(super) kind: Option<u8>,
    pub(super) code: Option<u8>,
}

impl IcmpTriple {
    /// All three or none.
    const fn whole(self) -> Result<Option<L4>, Error> {
        match (self.id, self.kind, self.code) {
            (Some(id), Some(kind), Some(code)) => Ok(Some(L4::Icmp { id, kind, code })),
            (None, None, None) => Ok(None),
            _ => Err(Error::Missing),
        }
    }
}

impl Layer4 {
    /// After this, [`Layer4::icmp`] is the triple of the tuple's own protocol.
    pub(super) fn parse(nest: Attributes<'_>) -> Result<Self, Error> {
        let mut layer4 = Self::default();
        for attribute in nest {
            layer4.take(&attribute?)?;
        }
        if layer4.proto == Some(Protocol::ICMPV6) {
            layer4.icmp = layer4.icmpv6;
        }
        Ok(layer4)
    }

    #[inline]
    fn take(&mut self, attribute: &Attribute<'_>) -> Result<(), Error> {
        match attribute.kind {
            cta_proto::NUM => self.proto = Some(Protocol(attribute.u8()?)),
            cta_proto::SRC_PORT => self.src_port = Some(attribute.be16()?),
            cta_proto::DST_PORT => self.dst_port = Some(attribute.be16()?),
            cta_proto::ICMP_ID => self.icmp.id = Some(attribute.be16()?),
            cta_proto::ICMP_TYPE => self.icmp.kind = Some(attribute.u8()?),
            cta_proto::ICMP_CODE => self.icmp.code = Some(attribute.u8()?),
            cta_proto::ICMPV6_ID => self.icmpv6.id = Some(attribute.be16()?),
            cta_proto::ICMPV6_TYPE => self.icmpv6.kind = Some(attribute.u8()?),
            cta_proto::ICMPV6_CODE => self.icmpv6.code = Some(attribute.u8()?),
            _ => {}
        }
        Ok(())
    }

    /// Protocol and key of a whole tuple. Where both kinds of key stand, ports come first, except
    /// for ICMP and ICMPv6.
    fn whole(self) -> Result<(Protocol, L4), Error> {
        let proto = self.proto.ok_or(Error::Missing)?;
        let ports = match (self.src_port, self.dst_port) {
            (Some(src), Some(dst)) => Some(L4::Ports { src, dst }),
            (None, None) => None,
            _ => return Err(Error::Missing),
        };
        let icmp = self.icmp.whole()?;
        let l4 = match proto {
            Protocol::ICMP | Protocol::ICMPV6 => icmp.or(ports),
            _ => ports.or(icmp),
        };
        Ok((proto, l4.unwrap_or_default()))
    }

    /// Writes what is there, the triple under the numbers that the protocol has for it.
    pub(super) fn emit(&self, w: &mut AttributeWriter<'_, '_>) -> Result<(), Full> {
        let [id, kind, code] = if self.proto == Some(Protocol::ICMPV6) {
            [cta_proto::ICMPV6_ID, cta_proto::ICMPV6_TYPE, cta_proto::ICMPV6_CODE]
        } else {
            [cta_proto::ICMP_ID, cta_proto::ICMP_TYPE, cta_proto::ICMP_CODE]
        };
        w.optional(self.proto, |w, proto| w.u8(cta_proto::NUM, proto.0))?;
        w.optional(self.src_port, |w, port| w.be16(cta_proto::SRC_PORT, port))?;
        w.optional(self.dst_port, |w, port| w.be16(cta_proto::DST_PORT, port))?;
        w.optional(self.icmp.id, |w, value| w.be16(id, value))?;
        w.optional(self.icmp.kind, |w, value| w.u8(kind, value))?;
        w.optional(self.icmp.code, |w, value| w.u8(code, value))
    }
}

impl From<&Tuple> for Layer4 {
    fn from(tuple: &Tuple) -> Self {
        let layer4 = Self { proto: Some(tuple.proto), ..Self::default() };
        match tuple.l4 {
            L4::None => layer4,
            L4::Ports { src, dst } => Self { src_port: Some(src), dst_port: Some(dst), ..layer4 },
            L4::Icmp { id, kind, code } => Self {
                icmp: IcmpTriple { id: Some(id), kind: Some(kind), code: Some(code) },
                ..layer4
            },
        }
    }
}

//! Which entries a dump lists or a flush removes.
//!
//! The kernel compares; what it cannot (or does wrongly, see [`TupleFilter::src`]) is left to the
//! caller. A kernel that filtered says so with `NLM_F_DUMP_FILTERED` in the answer.
//!
//! Limits: a filter by addresses or ports wants a family; ports and ICMP values want the protocol.
//! The kernel refuses other requests with EINVAL or does not compare what was asked.
//!
//! `CTA_FILTER_*_FLAGS` are the one place where ctnetlink has a value in host order.
//!
//! Source: `enum ctattr_filter`; `ctnetlink_parse_filter` and `ctnetlink_filter_match` in
//! `net/netfilter/nf_conntrack_netlink.c`, flags in `net/netfilter/nf_internals.h`.

use core::net::IpAddr;

use super::conntrack::{Family, Status, cta};
use super::error::{Error, Full};
use super::nla::{Attribute, AttributeWriter, Attributes};
use super::nlmsg::Nfgen;
use super::tuple::{Addresses, IcmpTriple, Layer4, Protocol, cta_tuple, emit_addresses};

/// `enum ctattr_filter`.
mod cta_filter {
    pub(super) const ORIG_FLAGS: u16 = 1;
    pub(super) const REPLY_FLAGS: u16 = 2;
}

/// `CTA_FILTER_F_*`: what of a tuple is compared.
mod flag {
    pub(super) const IP_SRC: u32 = 1;
    pub(super) const IP_DST: u32 = 1 << 1;
    pub(super) const ZONE: u32 = 1 << 2;
    pub(super) const PROTO_NUM: u32 = 1 << 3;
    pub(super) const SRC_PORT: u32 = 1 << 4;
    pub(super) const DST_PORT: u32 = 1 << 5;
    pub(super) const ICMP_TYPE: u32 = 1 << 6;
    pub(super) const ICMP_CODE: u32 = 1 << 7;
    pub(super) const ICMP_ID: u32 = 1 << 8;
    pub(super) const ICMPV6_TYPE: u32 = 1 << 9;
    pub(super) const ICMPV6_CODE: u32 = 1 << 10;
    pub(super) const ICMPV6_ID: u32 = 1 << 11;
}

/// What the entries must have; a default filter lets all through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Entries of this family; `Unspec` for both.
    pub family: Family,
    /// `mark & mark_mask` must be this.
    pub mark: Option<u32>,
    /// All bits when absent. Without [`Filter::mark`] the kernel does not look at it.
    pub mark_mask: Option<u32>,
    /// `status & status_mask` must be this.
    pub status: Option<Status>,
    /// The bits of [`Filter::status`] when absent. The kernel refuses a mask of 0.
    pub status_mask: Option<u32>,
    /// The zone; without it, the kernel lists all zones.
    pub zone: Option<u16>,
    /// What the original tuple must have.
    pub orig: TupleFilter,
    /// What the reply tuple must have.
    pub reply: TupleFilter,
}

/// What one tuple must have; a default one lets all through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TupleFilter {
    /// Source address. **Not for IPv6**: Linux (seen in 6.12 and 6.18) compares IPv6 addresses the
    /// wrong way round and gives the entries that have *another* address. Leave it out and compare
    /// what the dump lists.
    pub src: Option<IpAddr>,
    /// Destination address. Not for IPv6, see [`TupleFilter::src`].
    pub dst: Option<IpAddr>,
    /// Zone of this direction. Linux (seen in 6.18) takes it and does not compare it: it lists the
    /// other zones too. [`Filter::zone`] works.
    pub zone: Option<u16>,
    /// Layer 4 protocol.
    pub proto: Option<Protocol>,
    /// Source port or key.
    pub src_port: Option<u16>,
    /// Destination port or key.
    pub dst_port: Option<u16>,
    /// ICMP identifier; of ICMPv6 if [`TupleFilter::proto`] is, here and below.
    pub icmp_id: Option<u16>,
    /// ICMP type. The kernel refuses (EINVAL) one that has no answer, such as an error's.
    pub icmp_kind: Option<u8>,
    /// ICMP code.
    pub icmp_code: Option<u8>,
}

impl Filter {
    /// Reads what follows the netlink header of a filtered request: what a kernel would compare.
    ///
    /// # Errors
    /// When the bytes are cut short or wrongly nested, or a value is to be compared that is not
    /// there.
    pub fn parse(payload: &[u8]) -> Result<Self, Error> {
        let (nfgen, attributes) = Nfgen::split(payload)?;
        let mut filter = Self { family: nfgen.family, ..Self::default() };
        let mut flags = Flags::default();
        for attribute in attributes {
            filter.take(&attribute?, &mut flags)?;
        }
        filter.orig = filter.orig.only(flags.orig)?;
        filter.reply = filter.reply.only(flags.reply)?;
        Ok(filter)
    }

    fn take(&mut self, attribute: &Attribute<'_>, flags: &mut Flags) -> Result<(), Error> {
        match attribute.kind {
            cta::MARK => self.mark = Some(attribute.be32()?),
            cta::MARK_MASK => self.mark_mask = Some(attribute.be32()?),
            cta::STATUS => self.status = Some(Status(attribute.be32()?)),
            cta::STATUS_MASK => self.status_mask = Some(attribute.be32()?),
            cta::ZONE => self.zone = Some(attribute.be16()?),
            cta::TUPLE_ORIG => self.orig = TupleFilter::parse(attribute.nested())?,
            cta::TUPLE_REPLY => self.reply = TupleFilter::parse(attribute.nested())?,
            cta::FILTER => *flags = Flags::parse(attribute.nested())?,
            _ => {}
        }
        Ok(())
    }

    /// Writes the filter's attributes.
    ///
    /// # Errors
    /// [`Full`] when they do not fit.
    pub fn emit(&self, w: &mut AttributeWriter<'_, '_>) -> Result<(), Full> {
        w.optional(self.mark, |w, value| w.be32(cta::MARK, value))?;
        w.optional(self.mark_mask, |w, value| w.be32(cta::MARK_MASK, value))?;
        w.optional(self.status, |w, value| w.be32(cta::STATUS, value.0))?;
        w.optional(self.status_mask, |w, value| w.be32(cta::STATUS_MASK, value))?;
        w.optional(self.zone, |w, value| w.be16(cta::ZONE, value))?;
        self.orig.emit(w, cta::TUPLE_ORIG)?;
        self.reply.emit(w, cta::TUPLE_REPLY)?;
        Flags { orig: self.orig.flags(), reply: self.reply.flags() }.emit(w)
    }
}

/// `CTA_FILTER`: what is compared of either tuple.
#[derive(Clone, Copy, Debug, Default)]
struct Flags {
    orig: u32,
    reply: u32,
}

impl Flags {
    fn parse(nest: Attributes<'_>) -> Result<Self, Error> {
        let mut flags = Self::default();
        for attribute in nest {
            let attribute = attribute?;
            match attribute.kind {
                cta_filter::ORIG_FLAGS => flags.orig = attribute.ne32()?,
                cta_filter::REPLY_FLAGS => flags.reply = attribute.ne32()?,
                _ => {}
            }
        }
        Ok(flags)
    }

    /// Writes both, unless nothing of a tuple is compared.
    fn emit(self, w: &mut AttributeWriter<'_, '_>) -> Result<(), Full> {
        if self.orig | self.reply == 0 {
            return Ok(());
        }
        w.nest(cta::FILTER, |w| {
            w.ne32(cta_filter::ORIG_FLAGS, self.orig)?;
            w.ne32(cta_filter::REPLY_FLAGS, self.reply)
        })
    }
}

impl TupleFilter {
    fn parse(nest: Attributes<'_>) -> Result<Self, Error> {
        let mut filter = Self::default();
        for attribute in nest {
            let attribute = attribute?;
            match attribute.kind {
                cta_tuple::IP => {
                    let ip = Addresses::parse(attribute.nested())?;
                    (filter.src, filter.dst) = (ip.src, ip.dst);
                }
                cta_tuple::PROTO => filter.set_layer4(&Layer4::parse(attribute.nested())?),
                cta_tuple::ZONE => filter.zone = Some(attribute.be16()?),
                _ => {}
            }
        }
        Ok(filter)
    }

    const fn set_layer4(&mut self, layer4: &Layer4) {
        self.proto = layer4.proto;
        self.src_port = layer4.src_port;
        self.dst_port = layer4.dst_port;
        self.icmp_id = layer4.icmp.id;
        self.icmp_kind = layer4.icmp.kind;
        self.icmp_code = layer4.icmp.code;
    }

    fn layer4(&self) -> Layer4 {
        Layer4 {
            proto: self.proto,
            src_port: self.src_port,
            dst_port: self.dst_port,
            icmp: IcmpTriple { id: self.icmp_id, kind: self.icmp_kind, code: self.icmp_code },
            ..Layer4::default()
        }
    }

    /// The flags that name the ICMP values, and which of them this protocol has.
    fn icmp_flags(&self) -> [u32; 3] {
        if self.proto == Some(Protocol::ICMPV6) {
            [flag::ICMPV6_ID, flag::ICMPV6_TYPE, flag::ICMPV6_CODE]
        } else {
            [flag::ICMP_ID, flag::ICMP_TYPE, flag::ICMP_CODE]
        }
    }

    /// The flags of the values that are there.
    fn flags(&self) -> u32 {
        let [id, kind, code] = self.icmp_flags();
        when(self.src.is_some(), flag::IP_SRC)
            | when(self.dst.is_some(), flag::IP_DST)
            | when(self.zone.is_some(), flag::ZONE)
            | when(self.proto.is_some(), flag::PROTO_NUM)
            | when(self.src_port.is_some(), flag::SRC_PORT)
            | when(self.dst_port.is_some(), flag::DST_PORT)
            | when(self.icmp_id.is_some(), id)
            | when(self.icmp_kind.is_some(), kind)
            | when(self.icmp_code.is_some(), code)
    }

    /// Only the values that `flags` name, all of which must be there.
    fn only(self, flags: u32) -> Result<Self, Error> {
        let [id, kind, code] = self.icmp_flags();
        Ok(Self {
            src: wanted(self.src, flags & flag::IP_SRC)?,
            dst: wanted(self.dst, flags & flag::IP_DST)?,
            zone: wanted(self.zone, flags & flag::ZONE)?,
            proto: wanted(self.proto, flags & flag::PROTO_NUM)?,
            src_port: wanted(self.src_port, flags & flag::SRC_PORT)?,
            dst_port: wanted(self.dst_port, flags & flag::DST_PORT)?,
            icmp_id: wanted(self.icmp_id, flags & id)?,
            icmp_kind: wanted(self.icmp_kind, flags & kind)?,
            icmp_code: wanted(self.icmp_code, flags & code)?,
        })
    }

    fn emit(&self, w: &mut AttributeWriter<'_, '_>, kind: u16) -> Result<(), Full> {
        let flags = self.flags();
        if flags == 0 {
            return Ok(());
        }
        w.nest(kind, |w| {
            if flags & (flag::IP_SRC | flag::IP_DST) != 0 {
                w.nest(cta_tuple::IP, |w| emit_addresses(w, self.src, self.dst))?;
            }
            if flags & !(flag::IP_SRC | flag::IP_DST | flag::ZONE) != 0 {
                w.nest(cta_tuple::PROTO, |w| self.layer4().emit(w))?;
            }
            w.optional(self.zone, |w, zone| w.be16(cta_tuple::ZONE, zone))
        })
    }
}

/// `flag`, if it is to be set.
const fn when(set: bool, flag: u32) -> u32 {
    if set { flag } else { 0 }
}

/// `value` if `flag` asks for it, in which case it must be there.
fn wanted<T>(value: Option<T>, flag: u32) -> Result<Option<T>, Error> {
    if flag == 0 {
        return Ok(None);
    }
    value.ok_or(Error::Missing).map(Some)
}

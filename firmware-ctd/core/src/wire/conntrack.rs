//! One conntrack entry as a message carries it: `enum ctattr_type`.
//!
//! Of an attribute that stands twice the last one counts, as in the kernel. The tuples of an entry
//! are of one family, which is the header's where that says one.

use core::net::IpAddr;

use super::error::{Error, Full};
use super::extension::{
    Counters, Helper, Labels, SeqAdj, SynProxy, Timestamps, emit_secctx, parse_secctx,
};
use super::nat::NatRange;
use super::nla::{Attribute, AttributeWriter};
use super::nlmsg::Nfgen;
use super::protoinfo::ProtoInfo;
use super::tuple::Tuple;

/// `enum ctattr_type`.
pub(super) mod cta {
    pub(in crate::wire) const TUPLE_ORIG: u16 = 1;
    pub(in crate::wire) const TUPLE_REPLY: u16 = 2;
    pub(in crate::wire) const STATUS: u16 = 3;
    pub(in crate::wire) const PROTOINFO: u16 = 4;
    pub(in crate::wire) const HELP: u16 = 5;
    pub(in crate::wire) const NAT_SRC: u16 = 6;
    pub(in crate::wire) const TIMEOUT: u16 = 7;
    pub(in crate::wire) const MARK: u16 = 8;
    pub(in crate::wire) const COUNTERS_ORIG: u16 = 9;
    pub(in crate::wire) const COUNTERS_REPLY: u16 = 10;
    pub(in crate::wire) const USE: u16 = 11;
    pub(in crate::wire) const ID: u16 = 12;
    pub(in crate::wire) const NAT_DST: u16 = 13;
    pub(in crate::wire) const TUPLE_MASTER: u16 = 14;
    pub(in crate::wire) const SEQ_ADJ_ORIG: u16 = 15;
    pub(in crate::wire) const SEQ_ADJ_REPLY: u16 = 16;
    pub(in crate::wire) const ZONE: u16 = 18;
    pub(in crate::wire) const SECCTX: u16 = 19;
    pub(in crate::wire) const TIMESTAMP: u16 = 20;
    pub(in crate::wire) const MARK_MASK: u16 = 21;
    pub(in crate::wire) const LABELS: u16 = 22;
    pub(in crate::wire) const LABELS_MASK: u16 = 23;
    pub(in crate::wire) const SYNPROXY: u16 = 24;
    pub(in crate::wire) const FILTER: u16 = 25;
    pub(in crate::wire) const STATUS_MASK: u16 = 26;
    pub(in crate::wire) const TIMESTAMP_EVENT: u16 = 27;
}

/// `nfgen_family` of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Family {
    /// `AF_UNSPEC`: in requests, both families.
    #[default]
    Unspec,
    /// `AF_INET`.
    Ipv4,
    /// `AF_INET6`.
    Ipv6,
    /// Any other number.
    Other(u8),
}

impl Family {
    /// The family that `AF_*` number `number` names.
    #[must_use]
    #[inline]
    pub const fn from_number(number: u8) -> Self {
        match number {
            0 => Self::Unspec,
            2 => Self::Ipv4,
            10 => Self::Ipv6,
            other => Self::Other(other),
        }
    }

    /// Its `AF_*` number.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Unspec => 0,
            Self::Ipv4 => 2,
            Self::Ipv6 => 10,
            Self::Other(number) => number,
        }
    }

    /// The family of an address.
    #[must_use]
    #[inline]
    pub const fn of(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(_) => Self::Ipv4,
            IpAddr::V6(_) => Self::Ipv6,
        }
    }

    /// Refuses tuples of a message with this family in its header: addresses of another family, or
    /// of two.
    pub(super) fn check(self, tuples: [Option<&Tuple>; 3]) -> Result<(), Error> {
        let mut families = tuples.into_iter().flatten().map(Tuple::family);
        let Some(first) = families.next() else { return Ok(()) };
        if families.any(|family| family != first) {
            return Err(Error::MixedFamilies);
        }
        match self {
            Self::Ipv4 | Self::Ipv6 if self != first => Err(Error::BadFamily),
            _ => Ok(()),
        }
    }
}

/// `CTA_STATUS`: `enum ip_conntrack_status`, kept as the kernel's own bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Status(pub u32);

impl Status {
    /// The flow was expected by another (`IPS_EXPECTED`).
    pub const EXPECTED: u32 = 1;
    /// Packets were seen in both directions.
    pub const SEEN_REPLY: u32 = 1 << 1;
    /// Not evicted early.
    pub const ASSURED: u32 = 1 << 2;
    /// In the kernel's table.
    pub const CONFIRMED: u32 = 1 << 3;
    /// Source addresses of the original direction are translated.
    pub const SRC_NAT: u32 = 1 << 4;
    /// Destination addresses of the original direction are translated.
    pub const DST_NAT: u32 = 1 << 5;
    /// Sequence numbers are adjusted.
    pub const SEQ_ADJUST: u32 = 1 << 6;
    /// Source NAT was decided.
    pub const SRC_NAT_DONE: u32 = 1 << 7;
    /// Destination NAT was decided.
    pub const DST_NAT_DONE: u32 = 1 << 8;
    /// Being removed.
    pub const DYING: u32 = 1 << 9;
    /// The timeout does not change with packets.
    pub const FIXED_TIMEOUT: u32 = 1 << 10;
    /// Never in the table.
    pub const TEMPLATE: u32 = 1 << 11;
    /// Clash resolution (`IPS_NAT_CLASH`, once `IPS_UNTRACKED`).
    pub const NAT_CLASH: u32 = 1 << 12;
    /// A helper was attached.
    pub const HELPER: u32 = 1 << 13;
    /// Forwarded by a flow table, not by the stack.
    pub const OFFLOAD: u32 = 1 << 14;
    /// Forwarded by hardware.
    pub const HW_OFFLOAD: u32 = 1 << 15;

    /// Whether all of `bits` are set.
    #[must_use]
    pub const fn has(self, bits: u32) -> bool {
        self.0 & bits == bits
    }
}

/// One conntrack entry, as far as a message tells of it.
///
/// Every field is absent unless the message carried it: events carry little, dumps more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conntrack<'a> {
    /// `nfgen_family`.
    pub family: Family,
    /// `CTA_TUPLE_ORIG`.
    pub orig: Option<Tuple>,
    /// `CTA_TUPLE_REPLY`.
    pub reply: Option<Tuple>,
    /// `CTA_TUPLE_MASTER`.
    pub master: Option<Tuple>,
    /// `CTA_ZONE`: the zone of both directions.
    pub zone: Option<u16>,
    /// `CTA_TUPLE_ZONE` in the original tuple: a zone for that direction alone.
    pub zone_orig: Option<u16>,
    /// `CTA_TUPLE_ZONE` in the reply tuple.
    pub zone_reply: Option<u16>,
    /// `CTA_STATUS`.
    pub status: Option<Status>,
    /// `CTA_STATUS_MASK`, in filters.
    pub status_mask: Option<u32>,
    /// `CTA_PROTOINFO`.
    pub protoinfo: ProtoInfo,
    /// `CTA_TIMEOUT`, seconds.
    pub timeout_s: Option<u32>,
    /// `CTA_MARK`.
    pub mark: Option<u32>,
    /// `CTA_MARK_MASK`, in requests.
    pub mark_mask: Option<u32>,
    /// `CTA_COUNTERS_ORIG`.
    pub counters_orig: Option<Counters>,
    /// `CTA_COUNTERS_REPLY`.
    pub counters_reply: Option<Counters>,
    /// `CTA_TIMESTAMP_START`, wall clock in nanoseconds.
    pub start_ns: Option<u64>,
    /// `CTA_TIMESTAMP_STOP`, wall clock in nanoseconds.
    pub stop_ns: Option<u64>,
    /// `CTA_TIMESTAMP_EVENT` (Linux 6.14 on), wall clock in nanoseconds.
    pub event_ns: Option<u64>,
    /// `CTA_ID`: neither stable over a boot nor unique in time.
    pub id: Option<u32>,
    /// `CTA_USE`.
    pub use_count: Option<u32>,
    /// `CTA_HELP`.
    pub helper: Option<Helper<'a>>,
    /// `CTA_LABELS`.
    pub labels: Option<Labels>,
    /// `CTA_LABELS_MASK`, in requests.
    pub labels_mask: Option<Labels>,
    /// `CTA_NAT_SRC`, in requests.
    pub nat_src: Option<NatRange>,
    /// `CTA_NAT_DST`, in requests.
    pub nat_dst: Option<NatRange>,
    /// `CTA_SEQ_ADJ_ORIG`.
    pub seqadj_orig: Option<SeqAdj>,
    /// `CTA_SEQ_ADJ_REPLY`.
    pub seqadj_reply: Option<SeqAdj>,
    /// `CTA_SYNPROXY`.
    pub synproxy: Option<SynProxy>,
    /// `CTA_SECCTX`: the name, without its NUL.
    pub secctx: Option<&'a [u8]>,
}

impl<'a> Conntrack<'a> {
    /// Reads what follows the netlink header of a conntrack message.
    ///
    /// # Errors
    /// When the bytes are cut short or wrongly nested, a value has another size than its kind, a
    /// tuple has no addresses or protocol, or the tuples are not of one family. An entry without
    /// any tuple is not an error: requests may have none.
    #[inline]
    pub fn parse(payload: &'a [u8]) -> Result<Self, Error> {
        let mut ct = Self::default();
        ct.read(payload)?;
        Ok(ct)
    }

    /// As [`Self::parse`], into a fresh value that stays where it is: half a kibibyte is not moved
    /// about for each event. After an error the value is of no use.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn read(&mut self, payload: &'a [u8]) -> Result<(), Error> {
        let (nfgen, attributes) = Nfgen::split(payload)?;
        self.family = nfgen.family;
        for attribute in attributes {
            self.take(&attribute?)?;
        }
        self.family.check([self.orig.as_ref(), self.reply.as_ref(), self.master.as_ref()])
    }

    /// Takes over what one attribute tells.
    #[inline]
    fn take(&mut self, attribute: &Attribute<'a>) -> Result<(), Error> {
        match attribute.kind {
            cta::TUPLE_ORIG => {
                self.zone_orig = Tuple::read(attribute, &mut self.orig)?;
            }
            cta::TUPLE_REPLY => {
                self.zone_reply = Tuple::read(attribute, &mut self.reply)?;
            }
            cta::STATUS => self.status = Some(Status(attribute.be32()?)),
            cta::PROTOINFO => self.protoinfo = ProtoInfo::parse(attribute.nested())?,
            cta::TIMEOUT => self.timeout_s = Some(attribute.be32()?),
            cta::MARK => self.mark = Some(attribute.be32()?),
            cta::COUNTERS_ORIG => self.counters_orig = Some(Counters::parse(attribute.nested())?),
            cta::COUNTERS_REPLY => self.counters_reply = Some(Counters::parse(attribute.nested())?),
            cta::ID => self.id = Some(attribute.be32()?),
            cta::ZONE => self.zone = Some(attribute.be16()?),
            cta::TIMESTAMP => {
                let times = Timestamps::parse(attribute.nested())?;
                self.start_ns = times.start_ns;
                self.stop_ns = times.stop_ns;
            }
            cta::TIMESTAMP_EVENT => self.event_ns = Some(attribute.be64()?),
            _ => self.take_rare(attribute)?,
        }
        Ok(())
    }

    /// The attributes that few messages have.
    #[cold]
    fn take_rare(&mut self, attribute: &Attribute<'a>) -> Result<(), Error> {
        match attribute.kind {
            cta::TUPLE_MASTER => self.master = Some(Tuple::parse(attribute)?.0),
            cta::HELP => self.helper = Some(Helper::parse(attribute.nested())?),
            cta::USE => self.use_count = Some(attribute.be32()?),
            cta::SEQ_ADJ_ORIG => self.seqadj_orig = Some(SeqAdj::parse(attribute.nested())?),
            cta::SEQ_ADJ_REPLY => self.seqadj_reply = Some(SeqAdj::parse(attribute.nested())?),
            cta::SYNPROXY => self.synproxy = Some(SynProxy::parse(attribute.nested())?),
            cta::LABELS => self.labels = Some(Labels::parse(attribute)),
            cta::LABELS_MASK => self.labels_mask = Some(Labels::parse(attribute)),
            cta::SECCTX => self.secctx = Some(parse_secctx(attribute.nested())?),
            cta::NAT_SRC => self.nat_src = Some(NatRange::parse(attribute.nested())?),
            cta::NAT_DST => self.nat_dst = Some(NatRange::parse(attribute.nested())?),
            cta::MARK_MASK => self.mark_mask = Some(attribute.be32()?),
            cta::STATUS_MASK => self.status_mask = Some(attribute.be32()?),
            _ => {}
        }
        Ok(())
    }

    /// Writes every field that is there, also those that the kernel ignores in requests, in the
    /// order in which the kernel has them in events.
    ///
    /// What is read back is equal, if the tuples are of one family, which is [`Conntrack::family`]
    /// where that says one; no name has a NUL in it; and a directional zone has its tuple.
    ///
    /// # Errors
    /// [`Full`] when it does not fit.
    pub fn emit(&self, w: &mut AttributeWriter<'_, '_>) -> Result<(), Full> {
        w.optional(self.orig, |w, tuple| tuple.emit(w, cta::TUPLE_ORIG, self.zone_orig))?;
        w.optional(self.reply, |w, tuple| tuple.emit(w, cta::TUPLE_REPLY, self.zone_reply))?;
        w.optional(self.zone, |w, value| w.be16(cta::ZONE, value))?;
        w.optional(self.id, |w, value| w.be32(cta::ID, value))?;
        w.optional(self.status, |w, value| w.be32(cta::STATUS, value.0))?;
        w.optional(self.timeout_s, |w, value| w.be32(cta::TIMEOUT, value))?;
        w.optional(self.counters_orig, |w, value| value.emit(w, cta::COUNTERS_ORIG))?;
        w.optional(self.counters_reply, |w, value| value.emit(w, cta::COUNTERS_REPLY))?;
        Timestamps { start_ns: self.start_ns, stop_ns: self.stop_ns }.emit(w, cta::TIMESTAMP)?;
        self.protoinfo.emit(w, cta::PROTOINFO)?;
        self.emit_extensions(w)?;
        w.optional(self.mark, |w, value| w.be32(cta::MARK, value))?;
        w.optional(self.event_ns, |w, value| w.be64(cta::TIMESTAMP_EVENT, value))?;
        self.emit_requested(w)
    }

    fn emit_extensions(&self, w: &mut AttributeWriter<'_, '_>) -> Result<(), Full> {
        w.optional(self.helper, |w, value| value.emit(w, cta::HELP))?;
        w.optional(self.secctx, |w, value| emit_secctx(w, cta::SECCTX, value))?;
        w.optional(self.labels, |w, value| w.bytes(cta::LABELS, &value.0))?;
        w.optional(self.master, |w, tuple| tuple.emit(w, cta::TUPLE_MASTER, None))?;
        w.optional(self.seqadj_orig, |w, value| value.emit(w, cta::SEQ_ADJ_ORIG))?;
        w.optional(self.seqadj_reply, |w, value| value.emit(w, cta::SEQ_ADJ_REPLY))?;
        w.optional(self.synproxy, |w, value| value.emit(w, cta::SYNPROXY))
    }

    /// What is in requests only, and what is in dumps only.
    fn emit_requested(&self, w: &mut AttributeWriter<'_, '_>) -> Result<(), Full> {
        w.optional(self.status_mask, |w, value| w.be32(cta::STATUS_MASK, value))?;
        w.optional(self.mark_mask, |w, value| w.be32(cta::MARK_MASK, value))?;
        w.optional(self.labels_mask, |w, value| w.bytes(cta::LABELS_MASK, &value.0))?;
        w.optional(self.nat_src, |w, value| value.emit(w, cta::NAT_SRC))?;
        w.optional(self.nat_dst, |w, value| value.emit(w, cta::NAT_DST))?;
        w.optional(self.use_count, |w, value| w.be32(cta::USE, value))
    }

    /// The family for a message's header: [`Conntrack::family`], or that of the tuples where it
    /// is unspecified.
    #[must_use]
    pub fn header_family(&self) -> Family {
        match (self.family, self.orig.or(self.reply)) {
            (Family::Unspec, Some(tuple)) => tuple.family(),
            (family, _) => family,
        }
    }
}

//! Expectations: flows that a helper has announced. `enum ctattr_expect`.
//!
//! Source: `include/uapi/linux/netfilter/nfnetlink_conntrack.h`.

use super::conntrack::Family;
use super::error::{Error, Full};
use super::nla::{Attribute, AttributeWriter, Attributes};
use super::nlmsg::Nfgen;
use super::tuple::Tuple;

/// `enum ctattr_expect`.
mod cta {
    pub(super) const MASTER: u16 = 1;
    pub(super) const TUPLE: u16 = 2;
    pub(super) const MASK: u16 = 3;
    pub(super) const TIMEOUT: u16 = 4;
    pub(super) const ID: u16 = 5;
    pub(super) const HELP_NAME: u16 = 6;
    pub(super) const ZONE: u16 = 7;
    pub(super) const FLAGS: u16 = 8;
    pub(super) const CLASS: u16 = 9;
    pub(super) const NAT: u16 = 10;
    pub(super) const FN: u16 = 11;
}

/// `enum ctattr_expect_nat`.
mod cta_nat {
    pub(super) const DIR: u16 = 1;
    pub(super) const TUPLE: u16 = 2;
}

/// `CTA_EXPECT_NAT`: how the expected flow will be translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ExpectNat {
    /// Direction of the master that it belongs to: 0 original, 1 reply.
    pub dir: u32,
    /// The source address and port to translate to; the rest is zero.
    pub tuple: Tuple,
}

/// One expectation, as far as a message tells of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expect<'a> {
    /// `nfgen_family`.
    pub family: Family,
    /// `CTA_EXPECT_MASTER`: original tuple of the flow that it belongs to.
    pub master: Option<Tuple>,
    /// `CTA_EXPECT_TUPLE`: what is expected.
    pub tuple: Option<Tuple>,
    /// `CTA_EXPECT_MASK`: which bits of it must agree.
    pub mask: Option<Tuple>,
    /// `CTA_EXPECT_TIMEOUT`, seconds.
    pub timeout_s: Option<u32>,
    /// `CTA_EXPECT_ID`.
    pub id: Option<u32>,
    /// `CTA_EXPECT_HELP_NAME`, without its NUL.
    pub help_name: Option<&'a [u8]>,
    /// `CTA_EXPECT_ZONE`.
    pub zone: Option<u16>,
    /// `CTA_EXPECT_FLAGS`: `NF_CT_EXPECT_*`.
    pub flags: Option<u32>,
    /// `CTA_EXPECT_CLASS`: the helper's own kind of expectation.
    pub class: Option<u32>,
    /// `CTA_EXPECT_NAT`.
    pub nat: Option<ExpectNat>,
    /// `CTA_EXPECT_FN`: name of the function that sets the flow up, without its NUL.
    pub function: Option<&'a [u8]>,
}

impl Expect<'_> {
    /// `NF_CT_EXPECT_PERMANENT`: it stays after the first flow.
    pub const PERMANENT: u32 = 1;
    /// `NF_CT_EXPECT_INACTIVE`: it announces nothing for now.
    pub const INACTIVE: u32 = 2;
    /// `NF_CT_EXPECT_USERSPACE`: a helper in user space made it.
    pub const USERSPACE: u32 = 4;
}

impl<'a> Expect<'a> {
    /// Reads what follows the netlink header of an expectation message.
    ///
    /// # Errors
    /// As [`super::Conntrack::parse`].
    pub fn parse(payload: &'a [u8]) -> Result<Self, Error> {
        let (nfgen, attributes) = Nfgen::split(payload)?;
        let mut expect = Self { family: nfgen.family, ..Self::default() };
        for attribute in attributes {
            expect.take(&attribute?)?;
        }
        let tuples = [expect.master.as_ref(), expect.tuple.as_ref(), expect.mask.as_ref()];
        expect.family.check(tuples)?;
        Ok(expect)
    }

    fn take(&mut self, attribute: &Attribute<'a>) -> Result<(), Error> {
        match attribute.kind {
            cta::MASTER => self.master = Some(Tuple::parse(attribute)?.0),
            cta::TUPLE => self.tuple = Some(Tuple::parse(attribute)?.0),
            cta::MASK => self.mask = Some(Tuple::parse(attribute)?.0),
            cta::TIMEOUT => self.timeout_s = Some(attribute.be32()?),
            cta::ID => self.id = Some(attribute.be32()?),
            cta::HELP_NAME => self.help_name = Some(attribute.text()),
            cta::ZONE => self.zone = Some(attribute.be16()?),
            cta::FLAGS => self.flags = Some(attribute.be32()?),
            cta::CLASS => self.class = Some(attribute.be32()?),
            cta::NAT => self.nat = Some(ExpectNat::parse(attribute.nested())?),
            cta::FN => self.function = Some(attribute.text()),
            _ => {}
        }
        Ok(())
    }

    /// Writes every field that is there, in the kernel's order. What is read back is equal, under
    /// the conditions of [`super::Conntrack::emit`].
    ///
    /// # Errors
    /// [`Full`] when it does not fit.
    pub fn emit(&self, w: &mut AttributeWriter<'_, '_>) -> Result<(), Full> {
        w.optional(self.tuple, |w, tuple| tuple.emit(w, cta::TUPLE, None))?;
        w.optional(self.mask, |w, tuple| tuple.emit(w, cta::MASK, None))?;
        w.optional(self.master, |w, tuple| tuple.emit(w, cta::MASTER, None))?;
        w.optional(self.nat, |w, nat| nat.emit(w, cta::NAT))?;
        w.optional(self.timeout_s, |w, value| w.be32(cta::TIMEOUT, value))?;
        w.optional(self.id, |w, value| w.be32(cta::ID, value))?;
        w.optional(self.flags, |w, value| w.be32(cta::FLAGS, value))?;
        w.optional(self.class, |w, value| w.be32(cta::CLASS, value))?;
        w.optional(self.help_name, |w, name| w.text(cta::HELP_NAME, name))?;
        w.optional(self.zone, |w, value| w.be16(cta::ZONE, value))?;
        w.optional(self.function, |w, name| w.text(cta::FN, name))
    }

    /// What names an expectation in requests: family, tuple, zone and id, or the master where
    /// there is no tuple.
    pub(super) fn key(&self) -> Self {
        Self {
            family: self.family,
            master: if self.tuple.is_none() { self.master } else { None },
            tuple: self.tuple,
            zone: self.zone,
            id: self.id,
            ..Self::default()
        }
    }

    /// The family for a message's header: [`Expect::family`], or that of the tuples where it is
    /// unspecified.
    #[must_use]
    pub fn header_family(&self) -> Family {
        match (self.family, self.tuple.or(self.master)) {
            (Family::Unspec, Some(tuple)) => tuple.family(),
            (family, _) => family,
        }
    }
}

impl ExpectNat {
    fn parse(nest: Attributes<'_>) -> Result<Self, Error> {
        let (mut dir, mut tuple) = (None, None);
        for attribute in nest {
            let attribute = attribute?;
            match attribute.kind {
                cta_nat::DIR => dir = Some(attribute.be32()?),
                cta_nat::TUPLE => tuple = Some(Tuple::parse(&attribute)?.0),
                _ => {}
            }
        }
        let dir = dir.ok_or(Error::Missing)?;
        Ok(Self { dir, tuple: tuple.ok_or(Error::Missing)? })
    }

    fn emit(&self, w: &mut AttributeWriter<'_, '_>, kind: u16) -> Result<(), Full> {
        w.nest(kind, |w| {
            w.be32(cta_nat::DIR, self.dir)?;
            self.tuple.emit(w, cta_nat::TUPLE, None)
        })
    }
}

//! Translations that a request asks for: `CTA_NAT_SRC` and `CTA_NAT_DST`.
//!
//! The kernel never sends them: it tells a translation by a reply tuple that is not the inverse of
//! the original one.
//!
//! Source: `enum ctattr_nat` and `ctattr_protonat`.

use core::net::IpAddr;

use super::error::{Error, Full};
use super::nla::{Attribute, AttributeWriter, Attributes};
use super::tuple::{emit_address, v4, v6};

/// `enum ctattr_nat`.
mod cta {
    pub(super) const V4_MINIP: u16 = 1;
    pub(super) const V4_MAXIP: u16 = 2;
    pub(super) const PROTO: u16 = 3;
    pub(super) const V6_MINIP: u16 = 4;
    pub(super) const V6_MAXIP: u16 = 5;
}

/// `enum ctattr_protonat`.
mod cta_proto {
    pub(super) const PORT_MIN: u16 = 1;
    pub(super) const PORT_MAX: u16 = 2;
}

/// `CTA_NAT_SRC` or `CTA_NAT_DST`, in requests only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct NatRange {
    /// Lowest address.
    pub min: Option<IpAddr>,
    /// Highest address.
    pub max: Option<IpAddr>,
    /// Lowest and highest port.
    pub ports: Option<(u16, u16)>,
}

impl NatRange {
    /// Exactly one address and, for protocols that have them, one port.
    #[must_use]
    pub const fn exactly(ip: IpAddr, port: Option<u16>) -> Self {
        let ports = match port {
            Some(port) => Some((port, port)),
            None => None,
        };
        Self { min: Some(ip), max: Some(ip), ports }
    }

    /// Reads what a `CTA_NAT_*` holds.
    pub(super) fn parse(nest: Attributes<'_>) -> Result<Self, Error> {
        let mut range = Self::default();
        for attribute in nest {
            range.take(&attribute?)?;
        }
        match (range.min, range.max) {
            (Some(min), Some(max)) if min.is_ipv4() != max.is_ipv4() => Err(Error::MixedFamilies),
            _ => Ok(range),
        }
    }

    fn take(&mut self, attribute: &Attribute<'_>) -> Result<(), Error> {
        match attribute.kind {
            cta::V4_MINIP => self.min = Some(v4(attribute)?),
            cta::V4_MAXIP => self.max = Some(v4(attribute)?),
            cta::V6_MINIP => self.min = Some(v6(attribute)?),
            cta::V6_MAXIP => self.max = Some(v6(attribute)?),
            cta::PROTO => self.ports = ports(attribute.nested())?,
            _ => {}
        }
        Ok(())
    }

    /// Writes it as attribute `kind`.
    pub(super) fn emit(&self, w: &mut AttributeWriter<'_, '_>, kind: u16) -> Result<(), Full> {
        w.nest(kind, |w| {
            w.optional(self.min, |w, ip| emit_address(w, cta::V4_MINIP, cta::V6_MINIP, ip))?;
            w.optional(self.max, |w, ip| emit_address(w, cta::V4_MAXIP, cta::V6_MAXIP, ip))?;
            w.optional(self.ports, |w, (min, max)| {
                w.nest(cta::PROTO, |w| {
                    w.be16(cta_proto::PORT_MIN, min)?;
                    w.be16(cta_proto::PORT_MAX, max)
                })
            })
        })
    }
}

/// Reads `CTA_NAT_PROTO`. A highest port that is absent is the lowest one, as in the kernel.
fn ports(nest: Attributes<'_>) -> Result<Option<(u16, u16)>, Error> {
    let (mut min, mut max) = (None, None);
    for attribute in nest {
        let attribute = attribute?;
        match attribute.kind {
            cta_proto::PORT_MIN => min = Some(attribute.be16()?),
            cta_proto::PORT_MAX => max = Some(attribute.be16()?),
            _ => {}
        }
    }
    match (min, max) {
        (Some(min), max) => Ok(Some((min, max.unwrap_or(min)))),
        (None, Some(_)) => Err(Error::Missing),
        (None, None) => Ok(None),
    }
}

//! The information elements of the templates, in their order.
//!
//! Says what is exported under which number and length; the values are `flow`'s business, which
//! writes them in this order.
//!
//! Source: the IANA registry "IPFIX Information Elements"; RFC 7011, section 3.2; RFC 5103,
//! section 6.1.

use super::{Exporter, Full};
use crate::wire::bytes::Buffer;

/// The enterprise number of reverse elements (RFC 5103).
pub(super) const REVERSE: u32 = 29_305;
/// Marks a field specifier that an enterprise number follows.
const ENTERPRISE_BIT: u16 = 0x8000;

/// Whose number an element has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Iana,
    /// The element of the same number, of the reverse direction.
    Reverse,
    /// The configured enterprise.
    Own,
}

/// The family of a flow's addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

/// One field of the flow templates.
#[derive(Clone, Copy, Debug)]
pub(super) struct Element {
    owner: Owner,
    v4: u16,
    v6: u16,
    /// Bytes, of numbers; 0 for addresses.
    len: u8,
}

/// Elements that only an exporter with an enterprise number has, at the end of the list.
const OWN: usize = 2;

const ELEMENTS: [Element; 21] = [
    iana(148, 8),             // flowId
    iana(152, 8),             // flowStartMilliseconds
    iana(153, 8),             // flowEndMilliseconds
    by_family(8, 27, 0),      // source address
    by_family(12, 28, 0),     // destination address
    iana(7, 2),               // source port
    iana(11, 2),              // destination port
    iana(4, 1),               // protocol
    by_family(32, 139, 2),    // ICMP type and code
    iana(136, 1),             // flowEndReason
    iana(230, 1),             // natEvent
    iana(1, 8),               // octets
    iana(2, 8),               // packets
    of(Owner::Reverse, 1, 8), // octets of the reply direction
    of(Owner::Reverse, 2, 8), // packets of the reply direction
    by_family(225, 281, 0),   // source address after NAT
    by_family(226, 282, 0),   // destination address after NAT
    iana(227, 2),             // source port after NAT
    iana(228, 2),             // destination port after NAT
    of(Owner::Own, 1, 2),     // zone
    of(Owner::Own, 2, 4),     // mark
];

const fn iana(number: u16, len: u8) -> Element {
    of(Owner::Iana, number, len)
}

const fn of(owner: Owner, number: u16, len: u8) -> Element {
    Element { owner, v4: number, v6: number, len }
}

const fn by_family(v4: u16, v6: u16, len: u8) -> Element {
    Element { owner: Owner::Iana, v4, v6, len }
}

/// The elements of this exporter's flow templates.
pub(super) fn elements(exporter: &Exporter) -> &'static [Element] {
    let left_out = if exporter.enterprise.is_some() { 0 } else { OWN };
    ELEMENTS.get(..ELEMENTS.len().saturating_sub(left_out)).unwrap_or_default()
}

impl Element {
    /// Bytes of the field.
    pub(super) fn len(&self, family: Family) -> u16 {
        match (self.len, family) {
            (0, Family::V4) => 4,
            (0, Family::V6) => 16,
            (len, _) => u16::from(len),
        }
    }

    /// Appends the field specifier.
    pub(super) fn put(
        &self,
        buffer: &mut Buffer<'_>,
        exporter: &Exporter,
        family: Family,
    ) -> Result<(), Full> {
        let number = match family {
            Family::V4 => self.v4,
            Family::V6 => self.v6,
        };
        let enterprise = match self.owner {
            Owner::Iana => None,
            Owner::Reverse => Some(REVERSE),
            Owner::Own => exporter.enterprise,
        };
        put_specifier(buffer, number, self.len(family), enterprise)
    }
}

/// Appends a field specifier (RFC 7011, section 3.2).
pub(super) fn put_specifier(
    buffer: &mut Buffer<'_>,
    number: u16,
    len: u16,
    enterprise: Option<u32>,
) -> Result<(), Full> {
    let bit = if enterprise.is_some() { ENTERPRISE_BIT } else { 0 };
    buffer.put(&(number | bit).to_be_bytes())?;
    buffer.put(&len.to_be_bytes())?;
    match enterprise {
        Some(enterprise) => buffer.put(&enterprise.to_be_bytes()),
        None => Ok(()),
    }
}

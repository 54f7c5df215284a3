//! The information elements of the templates, in their order.
//!
//! One list serves the templates and the records, so that the two cannot differ. Says what is
//! exported under which number and length; the values are `flow`'s business.
//!
//! Source: the IANA registry "IPFIX Information Elements"; RFC 7011, section 3.2; RFC 5103,
//! section 6.1.

use super::{Exporter, Full};
use crate::wire::bytes::Buffer;

/// The enterprise number of reverse elements (RFC 5103).
pub(super) const REVERSE: u32 = 29_305;
/// Marks a field specifier that an enterprise number follows.
const ENTERPRISE_BIT: u16 = 0x8000;

/// What a field tells of a flow. "Post" is what NAT made of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Key,
    Start,
    End,
    Source,
    Destination,
    SourcePort,
    DestinationPort,
    Protocol,
    IcmpTypeCode,
    EndReason,
    NatEvent,
    Octets,
    Packets,
    ReverseOctets,
    ReversePackets,
    PostSource,
    PostDestination,
    PostSourcePort,
    PostDestinationPort,
    Zone,
    Mark,
}

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
    pub(super) field: Field,
    owner: Owner,
    v4: u16,
    v6: u16,
    /// Bytes, of numbers; 0 for addresses.
    len: u8,
}

/// Elements that only an exporter with an enterprise number has, at the end of the list.
const OWN: usize = 2;

const ELEMENTS: [Element; 21] = [
    iana(Field::Key, 148, 8),
    iana(Field::Start, 152, 8),
    iana(Field::End, 153, 8),
    by_family(Field::Source, 8, 27, 0),
    by_family(Field::Destination, 12, 28, 0),
    iana(Field::SourcePort, 7, 2),
    iana(Field::DestinationPort, 11, 2),
    iana(Field::Protocol, 4, 1),
    by_family(Field::IcmpTypeCode, 32, 139, 2),
    iana(Field::EndReason, 136, 1),
    iana(Field::NatEvent, 230, 1),
    iana(Field::Octets, 1, 8),
    iana(Field::Packets, 2, 8),
    of(Owner::Reverse, Field::ReverseOctets, 1, 8),
    of(Owner::Reverse, Field::ReversePackets, 2, 8),
    by_family(Field::PostSource, 225, 281, 0),
    by_family(Field::PostDestination, 226, 282, 0),
    iana(Field::PostSourcePort, 227, 2),
    iana(Field::PostDestinationPort, 228, 2),
    of(Owner::Own, Field::Zone, 1, 2),
    of(Owner::Own, Field::Mark, 2, 4),
];

const fn iana(field: Field, number: u16, len: u8) -> Element {
    of(Owner::Iana, field, number, len)
}

const fn of(owner: Owner, field: Field, number: u16, len: u8) -> Element {
    Element { field, owner, v4: number, v6: number, len }
}

const fn by_family(field: Field, v4: u16, v6: u16, len: u8) -> Element {
    Element { field, owner: Owner::Iana, v4, v6, len }
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

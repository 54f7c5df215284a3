//! Ended flows as IPFIX: what a collector is told, and in which bytes.
//!
//! [`Message`] writes one message into a buffer: templates, records of flows, records of the
//! exporter's own counters. [`replay::Replay`] keeps messages that went into a TCP connection
//! until the collector must have read them.
//!
//! Decides how a [`Record`](crate::record::Record) becomes fields. Does not decide when a message
//! is sent, when templates are repeated (over UDP from time to time, over TCP first in every
//! connection) or what is lost; opens no socket, asks for no time, allocates nothing.
//!
//! Every field has a fixed length, and the templates never change while an [`Exporter`] lives.
//! Only ended flows are meant to be exported: the fields speak of an end and of its reason.
//!
//! Source: RFC 7011 (messages, templates), RFC 5103 (reverse counters), RFC 8158 (NAT), the IANA
//! registry "IP Flow Information Export (IPFIX) Entities".

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::std_instead_of_core)]

mod counters;
mod element;
mod flow;
mod message;
pub mod replay;
#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "an overflow fails the test")]
mod tests;

pub use counters::ExporterCounters;
pub use message::Message;

pub use crate::wire::Full;

use crate::hash::KeyHash;
use crate::time::{NANOS_PER_SEC, WallTime};
use element::REVERSE;

/// The default limit of a message sent by UDP: it fits an Ethernet frame, with room for tunnels.
pub const UDP_MESSAGE: usize = 1400;
/// The longest message: its length is a 16-bit number.
pub const MAX_MESSAGE: usize = 65_535;

/// Template of IPv4 flows.
pub const TEMPLATE_IPV4: u16 = 256;
/// Template of IPv6 flows.
pub const TEMPLATE_IPV6: u16 = 257;
/// Options template of the exporter's counters.
pub const TEMPLATE_COUNTERS: u16 = 258;

/// Options template of what was not sent, by cause.
pub const TEMPLATE_LOSSES: u16 = 259;

/// The version in a message's header (RFC 7011, section 3.1).
const VERSION: u16 = 10;
/// Bytes of a message's header.
const HEADER: usize = 16;
/// Counts the changes of the templates in this program's history: part of [`Exporter::layout`].
const TEMPLATES: u32 = 2;

/// Who exports: fixed at start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exporter {
    /// Observation domain of every message (RFC 7011, section 3.1).
    pub domain: u32,
    /// `exportingProcessId`, the scope of the counters.
    pub process: u32,
    /// Enterprise number under which zone (element 1) and mark (element 2) are exported. Without
    /// one they are left out.
    pub enterprise: Option<u32>,
}

impl Exporter {
    /// Whether zone and mark may stand under this enterprise number: 0 is IANA's own, and under
    /// that of RFC 5103 they would be reverse counters.
    #[must_use]
    pub const fn is_usable_enterprise(number: u32) -> bool {
        number != 0 && number != REVERSE
    }

    /// A number for everything that an encoded message takes for granted: messages of an earlier
    /// run can be sent again if, and only if, they were made under the same number.
    #[must_use]
    pub fn layout(&self) -> u32 {
        let mut hash = KeyHash::new32([0, 0]);
        hash.words(&[TEMPLATES, self.domain, self.process, self.enterprise.unwrap_or(0)]);
        hash.finish32()
    }
}

/// The export time of a header: seconds since 1970, modulo 2^32 as the field is.
#[expect(clippy::cast_possible_truncation, reason = "the field wraps in 2106 by its definition")]
const fn export_seconds(time: WallTime) -> u32 {
    (time.as_nanos() / NANOS_PER_SEC) as u32
}

//! The exporter's own counters, so that a collector knows what it was not told.
//!
//! Options template 259: what was not sent, by cause, a record for each cause that there was. The
//! scope is the process and the cause: `selectorName` with the name and the bound of
//! [`losses`](crate::losses), such as `valve at_least`. As in the statistics of RFC 7011, the times
//! are those of the first and the last loss; 0 where no span is kept.
//!
//! Options template 258: the "Exporting Process Reliability Statistics" of RFC 7011, section 4.3
//! (what was not sent), and what was exported. The two times of the first and last loss, which
//! that section knows, are left out: the exporter does not keep them.
//!
//! Writes what it is given; does not count.

use super::element::put_specifier;
use super::{Exporter, Full, TEMPLATE_COUNTERS, TEMPLATE_LOSSES};
use crate::losses::{Cause, Entry};
use crate::wire::bytes::Buffer;

/// `exportingProcessId`: the scope, 4 bytes.
const PROCESS: u16 = 144;
/// `selectorName`: the second scope, a string with its length before it.
const SELECTOR_NAME: u16 = 335;
/// The length of a field that has its length before it (RFC 7011, section 7).
const VARIABLE: u16 = 0xffff;
/// Fields of what was lost: flows, packets, octets of 8 bytes, `flowStartSeconds` and
/// `flowEndSeconds` of 4.
const LOSS_FIELDS: [(u16, u16); 5] = [(166, 8), (167, 8), (168, 8), (150, 4), (151, 4)];

/// What an exporter has done for one collector since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExporterCounters {
    /// Messages sent (`exportedMessageTotalCount`).
    pub messages: u64,
    /// Flow records sent (`exportedFlowRecordTotalCount`). Records of counters are none.
    pub flow_records: u64,
    /// Bytes of messages sent (`exportedOctetTotalCount`).
    pub octets: u64,
    /// Flows that the collector will never be told of (`notSentFlowTotalCount`).
    pub lost_flows: u64,
    /// The packets of these flows, both directions, as far as known (`notSentPacketTotalCount`).
    pub lost_packets: u64,
    /// The bytes of these flows, both directions, as far as known (`notSentOctetTotalCount`).
    pub lost_octets: u64,
}

impl ExporterCounters {
    /// Element numbers and values, 8 bytes each.
    const fn fields(&self) -> [(u16, u64); 6] {
        [
            (41, self.messages),
            (42, self.flow_records),
            (40, self.octets),
            (166, self.lost_flows),
            (167, self.lost_packets),
            (168, self.lost_octets),
        ]
    }
}

/// Appends the options template (RFC 7011, section 3.4.2.2).
pub(super) fn put_template(buffer: &mut Buffer<'_>) -> Result<(), Full> {
    let fields = ExporterCounters::default().fields();
    let count = u16::try_from(fields.len()).map_err(|_| Full)?.saturating_add(1);
    buffer.put(&TEMPLATE_COUNTERS.to_be_bytes())?;
    buffer.put(&count.to_be_bytes())?;
    buffer.put(&1_u16.to_be_bytes())?;
    put_specifier(buffer, PROCESS, 4, None)?;
    fields.iter().try_for_each(|&(number, _)| put_specifier(buffer, number, 8, None))
}

/// Appends the record.
pub(super) fn put(
    buffer: &mut Buffer<'_>,
    exporter: &Exporter,
    counters: &ExporterCounters,
) -> Result<(), Full> {
    buffer.put(&exporter.process.to_be_bytes())?;
    counters.fields().iter().try_for_each(|&(_, value)| buffer.put(&value.to_be_bytes()))
}

/// Appends the options template of losses.
pub(super) fn put_loss_template(buffer: &mut Buffer<'_>) -> Result<(), Full> {
    let count = u16::try_from(LOSS_FIELDS.len()).map_err(|_| Full)?.saturating_add(2);
    buffer.put(&TEMPLATE_LOSSES.to_be_bytes())?;
    buffer.put(&count.to_be_bytes())?;
    buffer.put(&2_u16.to_be_bytes())?;
    put_specifier(buffer, PROCESS, 4, None)?;
    put_specifier(buffer, SELECTOR_NAME, VARIABLE, None)?;
    LOSS_FIELDS.iter().try_for_each(|&(number, len)| put_specifier(buffer, number, len, None))
}

/// Appends the record of one cause.
pub(super) fn put_loss(
    buffer: &mut Buffer<'_>,
    exporter: &Exporter,
    cause: Cause,
    entry: &Entry,
) -> Result<(), Full> {
    let (name, bound) = (cause.name(), cause.bound().name());
    let len = name.len().saturating_add(bound.len()).saturating_add(1);
    buffer.put(&exporter.process.to_be_bytes())?;
    buffer.put(&[u8::try_from(len).map_err(|_| Full)?])?;
    for part in [name, " ", bound] {
        buffer.put(part.as_bytes())?;
    }
    let lost = entry.lost;
    for value in [lost.records, lost.packets, lost.bytes] {
        buffer.put(&value.to_be_bytes())?;
    }
    let span = entry.span.unwrap_or_default();
    [span.from_s, span.to_s].iter().try_for_each(|value| buffer.put(&value.to_be_bytes()))
}

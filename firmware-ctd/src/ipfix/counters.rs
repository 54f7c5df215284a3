//! The exporter's own counters, so that a collector knows what it was not told.
//!
//! Options template 258: the "Exporting Process Reliability Statistics" of RFC 7011, section 4.3
//! (what was not sent), and what was exported. The two times of the first and last loss, which
//! that section knows, are left out: the exporter does not keep them.
//!
//! Writes what it is given; does not count.

use super::element::put_specifier;
use super::{Exporter, Full, TEMPLATE_COUNTERS};
use crate::wire::bytes::Buffer;

/// `exportingProcessId`: the scope, 4 bytes.
const PROCESS: u16 = 144;

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

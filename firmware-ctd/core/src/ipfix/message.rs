//! One IPFIX message in a buffer of the caller's.
//!
//! A message is a header and sets; a set holds templates, or records of one template. Sets open
//! and close by themselves as what is pushed changes. Whatever does not fit leaves the message as
//! it was. The length of the buffer is the limit of the message: [`UDP_MESSAGE`](super::UDP_MESSAGE)
//! bytes or what is configured for UDP, up to [`MAX_MESSAGE`] for TCP.
//!
//! The sequence number is the caller's to keep: it is the number of data records in all messages
//! *before* this one in the same transport session and observation domain, modulo 2^32; records of
//! counters are data records, templates are not (RFC 7011, section 3.1). [`Message::finish`] tells
//! by how much it grows.
//!
//! Source: RFC 7011, sections 3.1, 3.3 and 3.4. Sets are not padded, as section 3.3.1 allows.

use super::element::{Family, elements};
use super::{
    Exporter, ExporterCounters, Full, HEADER, MAX_MESSAGE, TEMPLATE_COUNTERS, TEMPLATE_IPV4,
    TEMPLATE_IPV6, TEMPLATE_LOSSES, VERSION, counters, export_seconds, flow,
};
use crate::losses::{Cause, Entry, Losses};
use crate::record::Record;
use crate::time::WallTime;
use crate::wire::bytes::Buffer;

/// Set of templates.
const SET_TEMPLATES: u16 = 2;
/// Set of options templates.
const SET_OPTIONS_TEMPLATES: u16 = 3;

/// A message under construction.
#[derive(Debug)]
pub struct Message<'b> {
    buffer: Buffer<'b>,
    exporter: Exporter,
    set: Option<Set>,
    records: u16,
}

/// The set that is open: the last one.
#[derive(Clone, Copy, Debug)]
struct Set {
    id: u16,
    at: usize,
}

/// What can stand in a set.
#[derive(Clone, Copy, Debug)]
enum Part<'a> {
    Template(Family),
    OptionsTemplate,
    LossTemplate,
    Flow(&'a Record),
    Counters(&'a ExporterCounters),
    Loss(Cause, &'a Entry),
}

impl<'b> Message<'b> {
    /// Begins a message.
    ///
    /// # Errors
    /// The buffer does not even hold the header.
    pub fn new(buffer: &'b mut [u8], exporter: Exporter) -> Result<Self, Full> {
        let len = buffer.len().min(MAX_MESSAGE);
        let mut buffer = Buffer::new(buffer.get_mut(..len).unwrap_or_default());
        buffer.put(&VERSION.to_be_bytes())?;
        buffer.put(&[0; 10])?; // length, time and sequence number, when it is finished
        buffer.put(&exporter.domain.to_be_bytes())?;
        Ok(Self { buffer, exporter, set: None, records: 0 })
    }

    /// Appends all templates.
    ///
    /// # Errors
    /// They do not fit: none of them was appended.
    pub fn templates(&mut self) -> Result<(), Full> {
        self.append(&[
            Part::Template(Family::V4),
            Part::Template(Family::V6),
            Part::OptionsTemplate,
            Part::LossTemplate,
        ])
    }

    /// Appends the record of an ended flow.
    ///
    /// # Errors
    /// It does not fit: the message is as it was, to be finished and sent.
    pub fn push(&mut self, record: &Record) -> Result<(), Full> {
        self.append_record(Part::Flow(record))
    }

    /// Appends a record of the exporter's counters.
    ///
    /// # Errors
    /// It does not fit: the message is as it was.
    pub fn counters(&mut self, counters: &ExporterCounters) -> Result<(), Full> {
        self.append_record(Part::Counters(counters))
    }

    /// Appends a record for each cause by which something was lost.
    ///
    /// # Errors
    /// Not all of them fit: those that did are there.
    pub fn losses(&mut self, losses: &Losses) -> Result<(), Full> {
        let mut there = losses.iter().filter(|(_, entry)| !entry.is_empty());
        there.try_for_each(|(cause, entry)| self.append_record(Part::Loss(cause, entry)))
    }

    /// Data records so far, those of counters included.
    #[must_use]
    pub const fn records(&self) -> u16 {
        self.records
    }

    /// Bytes so far.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Whether nothing but the header is there, and nothing need be sent.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.buffer.len() <= HEADER
    }

    /// Ends the message: its bytes, and by how many data records it moves the sequence number on.
    #[must_use]
    pub fn finish(mut self, export_time: WallTime, sequence: u32) -> (&'b [u8], u16) {
        let len = u16::try_from(self.buffer.len()).unwrap_or(u16::MAX);
        let seconds = export_seconds(export_time);
        let patches: [(usize, &[u8]); 3] =
            [(2, &len.to_be_bytes()), (4, &seconds.to_be_bytes()), (8, &sequence.to_be_bytes())];
        for (at, value) in patches {
            // Cannot fail: the header is there from the beginning.
            let _ = self.buffer.patch(at, value);
        }
        (self.buffer.into_filled(), self.records)
    }

    fn append_record(&mut self, part: Part<'_>) -> Result<(), Full> {
        let records = self.records.checked_add(1).ok_or(Full)?;
        self.append(&[part])?;
        self.records = records;
        Ok(())
    }

    /// Appends all parts or none.
    fn append(&mut self, parts: &[Part<'_>]) -> Result<(), Full> {
        let (len, set) = (self.buffer.len(), self.set);
        let done = parts.iter().try_for_each(|part| self.write(part));
        if done.is_err() {
            self.buffer.truncate(len);
            self.set = set;
        }
        done
    }

    /// The length of the set is right again after every part, so that no set need be closed.
    fn write(&mut self, part: &Part<'_>) -> Result<(), Full> {
        let set = self.open(part.set())?;
        part.put(&mut self.buffer, &self.exporter)?;
        let len = self.buffer.len().saturating_sub(set.at);
        let len = u16::try_from(len).map_err(|_| Full)?;
        self.buffer.patch(set.at.saturating_add(2), &len.to_be_bytes())
    }

    fn open(&mut self, id: u16) -> Result<Set, Full> {
        if let Some(set) = self.set.filter(|set| set.id == id) {
            return Ok(set);
        }
        let set = Set { id, at: self.buffer.len() };
        self.buffer.put(&id.to_be_bytes())?;
        self.buffer.put(&[0; 2])?;
        self.set = Some(set);
        Ok(set)
    }
}

impl Part<'_> {
    const fn set(&self) -> u16 {
        match self {
            Self::Template(_) => SET_TEMPLATES,
            Self::OptionsTemplate | Self::LossTemplate => SET_OPTIONS_TEMPLATES,
            Self::Flow(record) => template_id(flow::family(record)),
            Self::Counters(_) => TEMPLATE_COUNTERS,
            Self::Loss(..) => TEMPLATE_LOSSES,
        }
    }

    fn put(&self, buffer: &mut Buffer<'_>, exporter: &Exporter) -> Result<(), Full> {
        match self {
            Self::Template(family) => put_template(buffer, exporter, *family),
            Self::OptionsTemplate => counters::put_template(buffer),
            Self::LossTemplate => counters::put_loss_template(buffer),
            Self::Flow(record) => flow::put(buffer, exporter, record),
            Self::Counters(counters) => counters::put(buffer, exporter, counters),
            Self::Loss(cause, entry) => counters::put_loss(buffer, exporter, *cause, entry),
        }
    }
}

const fn template_id(family: Family) -> u16 {
    match family {
        Family::V4 => TEMPLATE_IPV4,
        Family::V6 => TEMPLATE_IPV6,
    }
}

/// Appends a template of flows (RFC 7011, section 3.4.1).
fn put_template(buffer: &mut Buffer<'_>, exporter: &Exporter, family: Family) -> Result<(), Full> {
    let elements = elements(exporter);
    let count = u16::try_from(elements.len()).map_err(|_| Full)?;
    buffer.put(&template_id(family).to_be_bytes())?;
    buffer.put(&count.to_be_bytes())?;
    elements.iter().try_for_each(|element| element.put(buffer, exporter, family))
}

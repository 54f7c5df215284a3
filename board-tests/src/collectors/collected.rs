//! What all collectors have in common: one record, as far as a collector keeps it.
//!
//! [`Row`] reads the JSON that each of them writes, where numbers may be text. It decides how a
//! value is read, not what it is called. Limit: a field that is missing and one that a collector
//! does not keep are the same here.

use serde_json::Value;
use std::io;
use std::net::IpAddr;

/// A flow that a collector wrote down; `None` for what it does not keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collected {
    /// flowId.
    pub key: Option<u64>,
    /// Milliseconds since 1970.
    pub start_ms: u64,
    /// Milliseconds since 1970.
    pub end_ms: u64,
    /// Source of the original direction.
    pub src: IpAddr,
    /// Destination of the original direction.
    pub dst: IpAddr,
    /// Source port.
    pub sport: Option<u16>,
    /// Destination port.
    pub dport: Option<u16>,
    /// Number of the protocol.
    pub proto: u8,
    /// ICMP type times 256, and code.
    pub icmp: Option<u16>,
    /// Bytes of the original direction.
    pub bytes: u64,
    /// Packets of the original direction.
    pub packets: u64,
    /// Bytes of the reply direction.
    pub reverse_bytes: Option<u64>,
    /// Packets of the reply direction.
    pub reverse_packets: Option<u64>,
    /// Source after translation.
    pub nat_src: Option<IpAddr>,
    /// Destination after translation.
    pub nat_dst: Option<IpAddr>,
    /// Source port after translation.
    pub nat_sport: Option<u16>,
    /// Destination port after translation.
    pub nat_dport: Option<u16>,
    /// natEvent.
    pub nat_event: Option<u8>,
    /// flowEndReason.
    pub end_reason: Option<u8>,
    /// Observation domain of the exporter.
    pub domain: Option<u32>,
}

/// An object of JSON.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row<'a>(pub(super) &'a Value);

impl<'a> Row<'a> {
    /// A number, or text that is one; `None` where there is no such field.
    pub(super) fn number<N: TryFrom<u64>>(self, name: &str) -> io::Result<Option<N>> {
        self.number_of(name, 10)
    }

    /// The same for text to a base.
    pub(super) fn number_of<N: TryFrom<u64>>(self, name: &str, base: u32) -> io::Result<Option<N>> {
        let number = match self.0.get(name) {
            None => return Ok(None),
            Some(Value::String(text)) => u64::from_str_radix(text, base).ok(),
            Some(value) => value.as_u64(),
        };
        let fits = number.and_then(|it| N::try_from(it).ok());
        fits.map(Some).ok_or_else(|| self.wrong(name))
    }

    /// A number that must be there.
    pub(super) fn needed<N: TryFrom<u64>>(self, name: &str) -> io::Result<N> {
        self.number(name)?.ok_or_else(|| self.wrong(name))
    }

    /// Text; `None` where there is no such field.
    pub(super) fn text(self, name: &str) -> Option<&'a str> {
        self.0.get(name).and_then(Value::as_str)
    }

    /// An address; `None` where there is no such field.
    pub(super) fn address(self, name: &str) -> io::Result<Option<IpAddr>> {
        let parsed = self.0.get(name).map(|it| it.as_str().and_then(|text| text.parse().ok()));
        parsed.map(|it| it.ok_or_else(|| self.wrong(name))).transpose()
    }

    /// The first address of `names` that is there; one must be.
    pub(super) fn one_address(self, names: [&str; 2]) -> io::Result<IpAddr> {
        let first = self.address(names[0])?;
        let found = if first.is_some() { first } else { self.address(names[1])? };
        found.ok_or_else(|| self.wrong(names[0]))
    }

    /// An error with the field and the whole record.
    pub(super) fn wrong(self, name: &str) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, format!("{name} in {}", self.0))
    }
}

/// The lines of a file that are whole, as JSON; a file that is not there has none.
pub(super) fn json_lines(path: &str) -> io::Result<Vec<Value>> {
    let text = match std::fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_may_be_text_and_must_fit() {
        let value = json!({"a": "40000", "b": 7, "c": "9f0c000000000001", "d": "x", "e": 65536});
        let row = Row(&value);
        assert_eq!(row.number::<u16>("a").unwrap(), Some(40_000));
        assert_eq!(row.needed::<u8>("b").unwrap(), 7);
        assert_eq!(row.number_of::<u64>("c", 16).unwrap(), Some(0x9f0c_0000_0000_0001));
        assert_eq!(row.number::<u8>("absent").unwrap(), None);
        assert!(row.number::<u8>("d").is_err() && row.number::<u16>("e").is_err());
    }
}

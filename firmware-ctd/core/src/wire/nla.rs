//! Netlink attributes: 16-bit length and kind in host order, a value, padding to 4 bytes.
//!
//! Values are cut here, and turned from network order into host order by the accessor's name
//! (`be16`, `be32`, `be64`; `ne32` for the few values that the kernel keeps in its own order).
//! Which attribute may stand where is decided by the files that know their meaning.
//!
//! A scalar must have exactly its size: the kernel never sends another, and its own policies
//! refuse a shorter one. The flag bits `NLA_F_NESTED` and `NLA_F_NET_BYTEORDER` are masked.
//!
//! Source: `struct nlattr` in `include/uapi/linux/netlink.h`.

use super::bytes::{Buffer, cut, head};
use super::error::{Error, Full};

/// Bytes of an attribute's header.
const HEADER: usize = 4;
/// `NLA_F_NESTED`: the value is attributes.
const NESTED: u16 = 1 << 15;
/// `NLA_TYPE_MASK`: the kind without `NLA_F_NESTED` and `NLA_F_NET_BYTEORDER`.
const KIND_MASK: u16 = 0x3fff;

/// One attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// The kind without its flag bits.
    pub kind: u16,
    /// The value without padding.
    pub value: &'a [u8],
}

impl<'a> Attribute<'a> {
    /// The value as attributes.
    #[must_use]
    #[inline]
    pub const fn nested(&self) -> Attributes<'a> {
        Attributes::new(self.value)
    }

    /// The value as `N` bytes.
    ///
    /// # Errors
    /// [`Error::BadLength`] when it has another size; so do all the scalars below.
    #[inline]
    pub fn array<const N: usize>(&self) -> Result<[u8; N], Error> {
        self.value.try_into().map_err(|_| Error::BadLength)
    }

    /// One byte.
    #[inline]
    pub fn u8(&self) -> Result<u8, Error> {
        self.array().map(u8::from_ne_bytes)
    }

    /// 16 bits in network order.
    #[inline]
    pub fn be16(&self) -> Result<u16, Error> {
        self.array().map(u16::from_be_bytes)
    }

    /// 32 bits in network order.
    #[inline]
    pub fn be32(&self) -> Result<u32, Error> {
        self.array().map(u32::from_be_bytes)
    }

    /// 64 bits in network order.
    #[inline]
    pub fn be64(&self) -> Result<u64, Error> {
        self.array().map(u64::from_be_bytes)
    }

    /// 32 bits in host order.
    #[inline]
    pub fn ne32(&self) -> Result<u32, Error> {
        self.array().map(u32::from_ne_bytes)
    }

    /// The value up to its first NUL, if it has one.
    #[must_use]
    pub fn text(&self) -> &'a [u8] {
        self.value.split(|byte| *byte == 0).next().unwrap_or_default()
    }
}

/// The attributes that follow each other in some bytes. Ends after the first error.
#[derive(Clone, Debug)]
pub struct Attributes<'a> {
    rest: &'a [u8],
}

impl<'a> Attributes<'a> {
    /// Attributes from the first byte on.
    #[must_use]
    #[inline]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Cuts off the first attribute.
    #[inline]
    fn step(&mut self) -> Result<Attribute<'a>, Error> {
        let bytes = core::mem::take(&mut self.rest);
        let ([len0, len1, kind0, kind1], _) = head(bytes)?;
        let len = usize::from(u16::from_ne_bytes([len0, len1]));
        let kind = u16::from_ne_bytes([kind0, kind1]) & KIND_MASK;
        let (value, rest) = cut(bytes, HEADER, len, Error::BadNesting)?;
        self.rest = rest;
        Ok(Attribute { kind, value })
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<Attribute<'a>, Error>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() { None } else { Some(self.step()) }
    }
}

/// The values of the attributes 1 to `N`, each 32 bits in network order; others are skipped.
pub(super) fn be32_fields<const N: usize>(
    attributes: Attributes<'_>,
) -> Result<[Option<u32>; N], Error> {
    let mut fields = [None; N];
    for attribute in attributes {
        let attribute = attribute?;
        let place = usize::from(attribute.kind).checked_sub(1);
        if let Some(field) = place.and_then(|place| fields.get_mut(place)) {
            *field = Some(attribute.be32()?);
        }
    }
    Ok(fields)
}

/// Appends attributes to a message.
///
/// Every method gives [`Full`] when the attribute does not fit; the message is then given up as a
/// whole by whoever began it.
#[derive(Debug)]
pub struct AttributeWriter<'w, 'b> {
    out: &'w mut Buffer<'b>,
}

impl<'w, 'b> AttributeWriter<'w, 'b> {
    pub(super) const fn new(out: &'w mut Buffer<'b>) -> Self {
        Self { out }
    }

    /// Any value.
    pub fn bytes(&mut self, kind: u16, value: &[u8]) -> Result<(), Full> {
        self.record(kind, value, value.len())
    }

    /// Text and its closing NUL. A NUL within the text would end it for the reader.
    pub fn text(&mut self, kind: u16, text: &[u8]) -> Result<(), Full> {
        self.record(kind, text, text.len().saturating_add(1))
    }

    /// One byte.
    pub fn u8(&mut self, kind: u16, value: u8) -> Result<(), Full> {
        self.bytes(kind, &[value])
    }

    /// 16 bits in network order.
    pub fn be16(&mut self, kind: u16, value: u16) -> Result<(), Full> {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// 32 bits in network order.
    pub fn be32(&mut self, kind: u16, value: u32) -> Result<(), Full> {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// 64 bits in network order.
    pub fn be64(&mut self, kind: u16, value: u64) -> Result<(), Full> {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// 32 bits in host order.
    pub fn ne32(&mut self, kind: u16, value: u32) -> Result<(), Full> {
        self.bytes(kind, &value.to_ne_bytes())
    }

    /// Attributes within an attribute: what `body` writes.
    pub fn nest<F>(&mut self, kind: u16, body: F) -> Result<(), Full>
    where
        F: FnOnce(&mut Self) -> Result<(), Full>,
    {
        let start = self.out.len();
        self.out.put(&[0; HEADER])?;
        body(self)?;
        let header = header(kind | NESTED, self.out.len().saturating_sub(start))?;
        self.out.patch(start, &header)
    }

    /// The fields that are there, as attributes 1 to `N`.
    pub(super) fn be32_fields<const N: usize>(
        &mut self,
        fields: &[Option<u32>; N],
    ) -> Result<(), Full> {
        for (kind, field) in (1..).zip(fields) {
            self.optional(*field, |w, value| w.be32(kind, value))?;
        }
        Ok(())
    }

    /// What `put` writes of `field`, when there is one.
    pub(super) fn optional<T, F>(&mut self, field: Option<T>, put: F) -> Result<(), Full>
    where
        F: FnOnce(&mut Self, T) -> Result<(), Full>,
    {
        field.map_or(Ok(()), |value| put(self, value))
    }

    /// An attribute of `len` bytes without its header: `value`, and zeros after it.
    fn record(&mut self, kind: u16, value: &[u8], len: usize) -> Result<(), Full> {
        let len = len.saturating_add(HEADER);
        self.out.put_record(header(kind, len)?, value, len)
    }
}

/// An attribute's header; `len` counts the header too.
fn header(kind: u16, len: usize) -> Result<[u8; HEADER], Full> {
    u16::try_from(len).map(|len| header_bytes(kind, len)).map_err(|_| Full)
}

/// The header of a nest of `len` bytes, its own included, as the kernel writes it.
pub(super) const fn nest_header(kind: u16, len: u16) -> [u8; HEADER] {
    header_bytes(kind | NESTED, len)
}

/// The header of an attribute of `len` bytes, its own included.
pub(super) const fn header_bytes(kind: u16, len: u16) -> [u8; HEADER] {
    let [len0, len1] = len.to_ne_bytes();
    let [kind0, kind1] = kind.to_ne_bytes();
    [len0, len1, kind0, kind1]
}

//! The only place where received bytes are cut and where bytes are put into a buffer.
//!
//! Netlink messages and attributes are both records: a header that tells the length of header
//! and value, padding to 4 bytes, the next record. [`cut`] serves both.

use super::error::{Error, Full};

/// Netlink pads messages and attributes to this many bytes.
pub(super) const ALIGN: usize = 4;

/// The first `N` bytes and what follows them.
#[inline]
pub(super) fn head<const N: usize>(bytes: &[u8]) -> Result<([u8; N], &[u8]), Error> {
    let (head, rest) = bytes.split_first_chunk::<N>().ok_or(Error::Truncated)?;
    Ok((*head, rest))
}

/// Cuts one record of `len` bytes (its header of `header` bytes included) off `bytes`: its value,
/// and what follows the padding. The last record may lack its padding.
///
/// # Errors
/// `BadLength` when `len` is less than the header, `beyond` when `len` is more than there is.
#[inline]
pub(super) fn cut(
    bytes: &[u8],
    header: usize,
    len: usize,
    beyond: Error,
) -> Result<(&[u8], &[u8]), Error> {
    if len < header {
        return Err(Error::BadLength);
    }
    let value = bytes.get(header..len).ok_or(beyond)?;
    let rest = bytes.get(padded(len)..).unwrap_or_default();
    Ok((value, rest))
}

/// `len` rounded up to the alignment.
#[inline]
pub(super) const fn padded(len: usize) -> usize {
    len.saturating_add(ALIGN - 1) & !(ALIGN - 1)
}

/// A buffer that is filled from its start.
#[derive(Debug)]
pub(crate) struct Buffer<'b> {
    bytes: &'b mut [u8],
    len: usize,
}

impl<'b> Buffer<'b> {
    pub(crate) const fn new(bytes: &'b mut [u8]) -> Self {
        Self { bytes, len: 0 }
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    pub(super) fn filled(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// What was written, for as long as the buffer lives.
    pub(crate) fn into_filled(self) -> &'b [u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// Forgets what was written after the first `len` bytes.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Appends `value`.
    pub(crate) fn put(&mut self, value: &[u8]) -> Result<(), Full> {
        let free = self.bytes.get_mut(self.len..).unwrap_or_default();
        free.get_mut(..value.len()).ok_or(Full)?.copy_from_slice(value);
        self.len = self.len.saturating_add(value.len());
        Ok(())
    }

    /// Appends one record: `header`, `value`, and zeros up to the alignment of what `len` counts
    /// (header, value, and perhaps a closing NUL, which is one of the zeros).
    pub(super) fn put_record<const N: usize>(
        &mut self,
        header: [u8; N],
        value: &[u8],
        len: usize,
    ) -> Result<(), Full> {
        let free = self.bytes.get_mut(self.len..).unwrap_or_default();
        let record = free.get_mut(..padded(len)).ok_or(Full)?;
        let (head, rest) = record.split_first_chunk_mut().ok_or(Full)?;
        let (body, zeros) = rest.split_at_mut_checked(value.len()).ok_or(Full)?;
        *head = header;
        body.copy_from_slice(value);
        zeros.fill(0);
        self.len = self.len.saturating_add(padded(len));
        Ok(())
    }

    /// Writes `value` over what stands at `at`.
    pub(crate) fn patch(&mut self, at: usize, value: &[u8]) -> Result<(), Full> {
        let filled = self.bytes.get_mut(..self.len).ok_or(Full)?;
        let place = filled.get_mut(at..).and_then(|rest| rest.get_mut(..value.len()));
        place.ok_or(Full)?.copy_from_slice(value);
        Ok(())
    }
}

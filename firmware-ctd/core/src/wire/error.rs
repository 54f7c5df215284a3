//! Why bytes could not be read, or did not fit.
//!
//! One variant is one counter: [`Error::ALL`] and [`Error::index`] let the engine keep an array.

use core::fmt;

/// What is wrong with received bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Error {
    /// The datagram ends inside a message, or a message inside a fixed part.
    Truncated,
    /// A length that cannot be: below its own header's, or not the size of the value.
    BadLength,
    /// An attribute reaches beyond the attribute or message that holds it.
    BadNesting,
    /// An attribute that the message makes no sense without is not there.
    Missing,
    /// IPv4 and IPv6 addresses in one tuple, or in the tuples of one flow.
    MixedFamilies,
    /// The addresses are of another family than the message's header says.
    BadFamily,
    /// A value that its field cannot have.
    BadValue,
}

impl Error {
    /// Every variant, in the order of [`Error::index`].
    pub const ALL: [Self; 7] = [
        Self::Truncated,
        Self::BadLength,
        Self::BadNesting,
        Self::Missing,
        Self::MixedFamilies,
        Self::BadFamily,
        Self::BadValue,
    ];

    /// Place in [`Error::ALL`], for an array of counters.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Name of the counter: lower case, words joined by `_`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Truncated => "truncated",
            Self::BadLength => "bad_length",
            Self::BadNesting => "bad_nesting",
            Self::Missing => "missing",
            Self::MixedFamilies => "mixed_families",
            Self::BadFamily => "bad_family",
            Self::BadValue => "bad_value",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Truncated => "message is cut short",
            Self::BadLength => "length does not fit the value",
            Self::BadNesting => "attribute reaches beyond what holds it",
            Self::Missing => "required attribute is missing",
            Self::MixedFamilies => "IPv4 and IPv6 addresses are mixed",
            Self::BadFamily => "addresses are not of the message's family",
            Self::BadValue => "impossible value",
        })
    }
}

impl core::error::Error for Error {}

/// A message does not fit into what is left of the buffer (or an attribute into its 16-bit
/// length). What stood in the buffer before still stands there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("buffer is full")
    }
}

impl core::error::Error for Full {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn index_is_the_place_in_all() {
        for (place, error) in Error::ALL.into_iter().enumerate() {
            assert_eq!(error.index(), place);
        }
    }
}

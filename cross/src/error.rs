//! What can go wrong, and the exit code of each.

use std::fmt;
use std::io;

/// Why a command did not succeed.
#[derive(Debug)]
pub(crate) enum CrossError {
    /// The command line is wrong.
    Usage(String),
    /// Something needed is not on this machine.
    Missing(String),
    /// A limit is not kept.
    Limit(String),
    /// A step could not be carried out.
    Failed(String),
    /// The system refused.
    Io(io::Error),
}

impl CrossError {
    /// The exit code.
    pub(crate) const fn code(&self) -> u8 {
        match self {
            Self::Limit(_) => 1,
            Self::Usage(_) => 64,
            Self::Missing(_) => 69,
            Self::Failed(_) => 70,
            Self::Io(_) => 74,
        }
    }
}

impl fmt::Display for CrossError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(what) => write!(f, "{what}; see cargo cross help"),
            Self::Missing(what) | Self::Limit(what) | Self::Failed(what) => f.write_str(what),
            Self::Io(error) => write!(f, "{error}"),
        }
    }
}

impl From<io::Error> for CrossError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

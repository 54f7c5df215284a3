//! What went wrong in the lab, in one line that says what to do.

use std::fmt;
use std::io;

/// A failure of the lab itself (never of what is tested in it).
#[derive(Debug)]
pub struct LabError {
    doing: String,
    source: io::Error,
    advice: Option<String>,
}

impl LabError {
    /// A failure while `doing` something (a phrase like "making a veth pair").
    pub fn new(doing: impl Into<String>, source: io::Error) -> Self {
        Self { doing: doing.into(), source, advice: None }
    }

    /// The same with a hint what to do.
    #[must_use]
    pub fn advice(mut self, text: impl Into<String>) -> Self {
        self.advice = Some(text.into());
        self
    }

    /// The error number of the system, if one is behind it.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        self.source.raw_os_error()
    }
}

impl fmt::Display for LabError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lab: {}: {}", self.doing, self.source)?;
        self.advice.as_ref().map_or(Ok(()), |advice| write!(f, "; {advice}"))
    }
}

impl std::error::Error for LabError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// Says what was being done when a system call failed.
pub trait Context<T> {
    /// Wraps the error with `doing`.
    ///
    /// # Errors
    /// The wrapped one.
    fn context(self, doing: &str) -> Result<T, LabError>;
}

impl<T, E: Into<io::Error>> Context<T> for Result<T, E> {
    fn context(self, doing: &str) -> Result<T, LabError> {
        self.map_err(|error| LabError::new(doing, error.into()))
    }
}

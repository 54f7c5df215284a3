//! What is wrong with a configuration, and where.
//!
//! Configuration is read before `Ready` (or by a process of its own), so texts are owned strings
//! here, unlike in the core.

use std::fmt;
use std::path::{Path, PathBuf};

/// Where a value was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place<'a> {
    /// The file as it was named by the user.
    pub file: &'a Path,
    /// The line, counted from 1; none if the fault is of the whole file.
    pub line: Option<u32>,
}

impl<'a> Place<'a> {
    /// Line `line` of `file`.
    #[must_use]
    pub const fn line(file: &'a Path, line: u32) -> Self {
        Self { file, line: Some(line) }
    }

    /// `file` as a whole.
    #[must_use]
    pub const fn whole(file: &'a Path) -> Self {
        Self { file, line: None }
    }

    /// The fault `message` at this place.
    #[must_use]
    pub fn fault(self, message: String) -> Fault {
        Fault { file: self.file.to_path_buf(), line: self.line, message }
    }
}

/// One fault of a configuration.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// The file as it was named by the user.
    pub file: PathBuf,
    /// The line, counted from 1; none if the fault is of the whole file.
    pub line: Option<u32>,
    /// What is wrong and what is allowed, on one line.
    pub message: String,
}

/// `file:line: message`, on one line whatever the file is called.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for letter in self.file.to_string_lossy().chars() {
            if letter.is_control() {
                write!(f, "{}", letter.escape_default())?;
            } else {
                fmt::Write::write_char(f, letter)?;
            }
        }
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}", self.message)
    }
}

/// All faults of all files: the order of the files, then of the lines. Never empty as an error.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    list: Vec<Fault>,
}

impl Faults {
    /// The faults in order.
    #[must_use]
    pub fn as_slice(&self) -> &[Fault] {
        &self.list
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(super) fn push(&mut self, fault: Fault) {
        self.list.push(fault);
    }

    /// Appends the faults of one file: by line, at most `most`, then how many there are more.
    pub(super) fn append(&mut self, mut faults: Vec<Fault>, most: usize) {
        faults.sort_by_key(|fault| fault.line);
        let more = faults.len().saturating_sub(most);
        let file = faults.first().map(|fault| fault.file.clone());
        faults.truncate(most);
        self.list.append(&mut faults);
        if let (Some(file), true) = (file, more > 0) {
            self.push(Fault { file, line: None, message: format!("and {more} faults more") });
        }
    }
}

/// One line each, without a line break at the end.
impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, fault) in self.list.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            fault.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

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

    /// Appends the faults of one file.
    pub(super) fn append(&mut self, file: FileFaults) {
        let FileFaults { path, list, more } = file;
        self.list.extend(list);
        if more > 0 {
            self.push(Fault { file: path, line: None, message: format!("and {more} faults more") });
        }
    }
}

/// Most faults that are reported of one file.
pub const MOST_FAULTS: usize = 64;

/// The first [`MOST_FAULTS`] faults of one file by line, and how many there are more.
#[derive(Debug)]
pub(super) struct FileFaults {
    path: PathBuf,
    list: Vec<Fault>,
    more: u32,
}

impl FileFaults {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_path_buf(), list: Vec::new(), more: 0 }
    }

    /// Adds a fault behind those of its line and of the lines before.
    pub(super) fn add(&mut self, line: u32, message: String) {
        let line = Some(line);
        let place = self.list.partition_point(|fault| fault.line <= line);
        if self.list.len() == MOST_FAULTS {
            self.more = self.more.saturating_add(1);
            if place == MOST_FAULTS {
                return;
            }
            self.list.pop();
        }
        self.list.insert(place, Fault { file: self.path.clone(), line, message });
    }

    /// Keeps the faults whose line meets `keep`.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(u32) -> bool) {
        self.list.retain(|fault| fault.line.is_none_or(&mut keep));
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.more = self.more.saturating_add(other.more);
        for fault in other.list {
            self.add(fault.line.unwrap_or(0), fault.message);
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

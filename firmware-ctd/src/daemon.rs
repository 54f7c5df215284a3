//! The edge: one thread around one epoll, and all the input and output.

use std::path::{Path, PathBuf};

use crate::cli::Format;
use crate::exit;

pub mod log;

/// The command `run`; returns the exit code.
#[must_use]
pub fn run(_files: &[PathBuf]) -> u8 {
    exit::SOFTWARE
}

/// The command `status`; returns the exit code.
#[must_use]
pub fn status(_socket: &Path, _format: Format) -> u8 {
    exit::SOFTWARE
}

/// The command `flows`; returns the exit code.
#[must_use]
pub fn flows(_socket: &Path, _json: bool, _all: bool, _filter: &[String]) -> u8 {
    exit::SOFTWARE
}

/// The command `events`; returns the exit code.
#[must_use]
pub fn events(_socket: &Path, _json: bool) -> u8 {
    exit::SOFTWARE
}

/// The command `selftest`; returns the exit code.
#[must_use]
pub fn selftest(_json: bool) -> u8 {
    exit::SOFTWARE
}

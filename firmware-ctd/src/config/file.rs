//! Reads configuration files: which files are taken at all.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::draft::Draft;
use super::{Fault, Faults, Place, document};

/// Longest file that is read, in bytes.
pub const LONGEST: u64 = 256 << 10;

/// Reads `path` over what `draft` holds; faults go to `faults`.
pub fn read(path: &Path, draft: &mut Draft, faults: &mut Faults) {
    match text_of(path) {
        Ok(text) => document::read(path, &text, draft, faults),
        Err(fault) => faults.push(fault),
    }
}

fn text_of(path: &Path) -> Result<String, Fault> {
    let whole = Place::whole(path);
    let unreadable = |error: std::io::Error| whole.fault(format!("cannot be read: {error}"));
    // Without O_NONBLOCK opening a named pipe would wait for its other end.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let file = file.map_err(unreadable)?;
    let kind = file.metadata().map_err(unreadable)?.file_type();
    if kind.is_dir() {
        return Err(whole.fault("is a directory; name a file".to_owned()));
    }
    if !kind.is_file() {
        return Err(whole.fault("is not a regular file".to_owned()));
    }
    let bytes = bytes_of(&file).map_err(unreadable)?;
    if bytes.len() as u64 > LONGEST {
        return Err(whole.fault("is longer than 256 KiB".to_owned()));
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let line = 1 + error.as_bytes().iter().take(good).filter(|b| **b == b'\n').count();
        Place::line(path, u32::try_from(line).unwrap_or(u32::MAX))
            .fault("is not UTF-8 text".to_owned())
    })
}

fn bytes_of(file: &File) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(LONGEST + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

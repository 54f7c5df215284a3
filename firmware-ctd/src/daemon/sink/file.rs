//! JSON lines into a file, rotated at a size: `path` and `path.1`, at most twice `max_bytes`.
//!
//! Lines gather in a fixed buffer and go out by one write(2) a round. What a full disk or a
//! missing directory keeps back stays in the buffer and is tried again each second; when the buffer is full
//! too, lines are refused. A file that was removed or replaced is noticed and opened anew. A line
//! is whole or absent: the rest of a partial write goes first the next time, rotation happens
//! between lines, and the torn end that a power cut left is cut off before anything is appended.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use super::{Refused, Sink, SinkState};
use crate::config;
use crate::daemon::log::RateLimit;
use crate::limited;
use crate::time::{Duration, Instant};

/// Room for lines that are not written yet.
const BUFFER_BYTES: usize = 32 << 10;
/// From how full a buffer on lines are written at once.
const WRITE_AT: usize = BUFFER_BYTES / 2;
/// Between two attempts to open a file.
const RETRY: Duration = Duration::from_secs(1);
/// The longest end of a file that is looked through for the last whole line.
const TORN_MAX: u64 = 64 << 10;

/// The sink. See the module's own documentation.
#[derive(Debug)]
pub struct FileSink {
    path: PathBuf,
    rotated: PathBuf,
    target: String,
    max_bytes: u64,
    /// Keep what cannot be written, to try again.
    reliable: bool,
    file: Option<File>,
    /// Bytes in the file.
    written: u64,
    buffer: Box<[u8]>,
    filled: usize,
    /// Lines in the buffer; the first may be written in part.
    owed: u64,
    /// Bytes of the first line in the buffer that are written already.
    torn: bool,
    /// The time as it was last told.
    now: Instant,
    try_again_at: Instant,
    check_at: Instant,
    delivered: u64,
    refused: u64,
    failures: u64,
    errno: i32,
}

impl FileSink {
    /// A sink into the configured file, made with its directory if need be.
    #[must_use]
    pub fn open(config: &config::FileSink, now: Instant) -> Self {
        let mut rotated = config.path.clone().into_os_string();
        rotated.push(".1");
        let mut sink = Self {
            target: config.path.to_string_lossy().into_owned(),
            path: config.path.clone(),
            rotated: rotated.into(),
            max_bytes: config.max_bytes,
            reliable: config.reliable,
            file: None,
            written: 0,
            buffer: vec![0; BUFFER_BYTES].into(),
            filled: 0,
            owed: 0,
            torn: false,
            now,
            try_again_at: now,
            check_at: now + RETRY,
            delivered: 0,
            refused: 0,
            failures: 0,
            errno: 0,
        };
        sink.ensure_open();
        sink
    }

    /// Takes over what may change while the daemon runs: everything but the path.
    pub fn reconfigure(&mut self, config: &config::FileSink) {
        self.max_bytes = config.max_bytes;
        self.reliable = config.reliable;
    }

    fn ensure_open(&mut self) -> bool {
        if self.file.is_none() && self.now >= self.try_again_at {
            match open_whole(&self.path) {
                Ok((file, len)) => {
                    self.written = len;
                    self.file = Some(file);
                    self.drop_torn_line();
                }
                Err(error) => self.failed(&error),
            }
        }
        self.file.is_some()
    }

    /// A new file must not begin with the rest of a line: that line is lost with the old file,
    /// where its beginning was.
    fn drop_torn_line(&mut self) {
        if core::mem::take(&mut self.torn) {
            let end = self.buffer[..self.filled].iter().position(|&byte| byte == b'\n');
            self.forget(end.map_or(self.filled, |at| at + 1));
            self.owed = self.owed.saturating_sub(1);
            self.refused += 1;
        }
    }

    fn failed(&mut self, error: &io::Error) {
        static LIMIT: RateLimit = RateLimit::new(3, 60);
        self.failures += 1;
        self.try_again_at = self.now + RETRY;
        let errno = error.raw_os_error().unwrap_or(-1);
        if self.errno != errno {
            limited!(
                LIMIT,
                log::Level::Warn,
                "sink {}: {error}; keeping records back",
                self.target
            );
        }
        self.errno = errno;
        if !self.reliable {
            self.drop_all();
        }
    }

    /// Best effort: what could not be written is gone, and counted.
    fn drop_all(&mut self) {
        self.refused += self.owed;
        self.owed = 0;
        self.filled = 0;
        if core::mem::take(&mut self.torn) {
            // Opening the file anew cuts off what was written of the line.
            self.file = None;
        }
    }

    /// Writes the buffer; true if it is empty then.
    fn write_out(&mut self) -> bool {
        while self.filled > 0 {
            if !self.ensure_open() {
                return false;
            }
            let Some(file) = &mut self.file else { return false };
            match file.write(&self.buffer[..self.filled]) {
                Ok(0) => return false,
                Ok(count) => self.wrote(count),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    self.failed(&error);
                    return false;
                }
            }
        }
        true
    }

    fn wrote(&mut self, count: usize) {
        let all = count == self.filled;
        let lines = if all { self.owed } else { count_lines(&self.buffer[..count]) };
        self.torn = self.buffer[count - 1] != b'\n';
        self.delivered += lines;
        self.owed -= lines;
        self.written += count as u64;
        self.forget(count);
        if self.errno != 0 {
            static LIMIT: RateLimit = RateLimit::new(3, 60);
            limited!(LIMIT, log::Level::Info, "sink {}: writing again", self.target);
            self.errno = 0;
        }
    }

    fn forget(&mut self, count: usize) {
        self.buffer.copy_within(count..self.filled, 0);
        self.filled -= count;
    }

    /// Makes room for a line within `max_bytes`: true if it may be appended.
    fn rotate_for(&mut self, line: usize) -> bool {
        let planned = self.written + self.filled as u64;
        if planned == 0 || planned + line as u64 <= self.max_bytes {
            return true;
        }
        if self.errno != 0 || !self.write_out() {
            return false;
        }
        match fs::rename(&self.path, &self.rotated) {
            Ok(()) => self.file = None,
            Err(error) if error.kind() == ErrorKind::NotFound => self.file = None,
            Err(error) => {
                self.failed(&error);
                return false;
            }
        }
        self.ensure_open()
    }

    /// Opens the file anew if somebody removed or replaced it.
    fn notice_removal(&mut self) {
        if self.now < self.check_at {
            return;
        }
        self.check_at = self.now + RETRY;
        let inode = |meta: fs::Metadata| (meta.dev(), meta.ino());
        let held = self.file.as_ref().and_then(|file| file.metadata().ok()).map(inode);
        if held.is_some() && held != fs::metadata(&self.path).ok().map(inode) {
            static LIMIT: RateLimit = RateLimit::new(3, 60);
            let level = log::Level::Warn;
            let target = &self.target;
            limited!(
                LIMIT,
                level,
                "sink {target}: the file was removed or replaced; opening it anew"
            );
            self.file = None;
            self.try_again_at = self.now;
        }
    }
}

impl Sink for FileSink {
    fn offer(&mut self, line: &[u8]) -> Result<(), Refused> {
        if !self.rotate_for(line.len()) || self.filled + line.len() > self.buffer.len() {
            self.refused += 1;
            return Err(Refused);
        }
        self.buffer[self.filled..self.filled + line.len()].copy_from_slice(line);
        self.filled += line.len();
        self.owed += 1;
        if self.filled >= WRITE_AT && self.errno == 0 {
            self.write_out();
        }
        Ok(())
    }

    fn flush(&mut self, now: Instant) {
        self.now = now;
        self.notice_removal();
        if self.errno == 0 || now >= self.try_again_at {
            self.write_out();
        }
    }

    fn state(&self) -> SinkState<'_> {
        SinkState {
            kind: "file",
            target: &self.target,
            delivered: self.delivered,
            owed: self.owed,
            refused: self.refused,
            failures: self.failures,
            errno: self.errno,
        }
    }
}

fn count_lines(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|&&byte| byte == b'\n').count() as u64
}

/// Opens a file to append to, with its directory, and without a torn last line.
fn open_whole(path: &PathBuf) -> io::Result<(File, u64)> {
    let open = || OpenOptions::new().read(true).append(true).create(true).open(path);
    let mut file = match open() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            fs::create_dir_all(path.parent().unwrap_or(path))?;
            open()?
        }
        other => other?,
    };
    let len = file.metadata()?.len();
    let whole = whole_lines(&mut file, len)?;
    if whole < len {
        static LIMIT: RateLimit = RateLimit::new(3, 60);
        let (path, cut) = (path.display(), len - whole);
        limited!(LIMIT, log::Level::Warn, "{path}: cut off {cut} bytes of a torn line");
        file.set_len(whole)?;
    }
    Ok((file, whole))
}

/// How many bytes of a file are whole lines, as far as its end shows.
fn whole_lines(file: &mut File, len: u64) -> io::Result<u64> {
    let mut part = [0; 4096];
    let mut end = len;
    while end > 0 && len - end < TORN_MAX {
        let from = end.saturating_sub(part.len() as u64);
        let part = &mut part[..usize::try_from(end - from).unwrap_or(0)];
        file.seek(SeekFrom::Start(from))?;
        file.read_exact(part)?;
        if let Some(at) = part.iter().rposition(|&byte| byte == b'\n') {
            return Ok(from + at as u64 + 1);
        }
        end = from;
    }
    // No line break in all that: not one torn line of ours.
    Ok(if end == 0 { 0 } else { len })
}

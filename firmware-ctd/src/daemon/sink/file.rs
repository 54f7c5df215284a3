//! JSON lines into a file, rotated at a size: `path` and `path.1`, at most twice `max_bytes`.
//!
//! What is owed goes out by one write(2) of many lines. A line is whole or absent: what a full disk
//! took of a line is cut off again at once, rotation happens between lines, and the torn end that a
//! power cut left is cut off before anything is appended. A file that was removed or replaced is
//! noticed and opened anew, a missing directory is made.
//!
//! # Crash
//!
//! Where the next line begins is noted together with what the queue holds as delivered. A worker
//! that follows one that was killed between a write and that note compares the file from there on
//! with the lines that are owed: those that are there were delivered. So no line comes twice.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{Refused, Sink, SinkState, Trouble, Turn};
use crate::config;
use crate::daemon::log::{InWords, RateLimit};
use crate::limited;
use crate::record::json;
use crate::record::text::Text;
use crate::retry::{Note, Outbox};
use crate::time::{Duration, Instant};
use crate::words::{get_u64, put_u64};

/// Room for the lines of one write.
const BUFFER_BYTES: usize = 32 << 10;
/// Between two looks at whether the file is still the one at the path.
const CHECK: Duration = Duration::from_secs(1);
/// The longest end of a file that is looked through for the last whole line.
const TORN_MAX: u64 = 64 << 10;

/// The sink. See the module's own documentation.
#[derive(Debug)]
pub struct FileSink {
    path: PathBuf,
    rotated: PathBuf,
    target: String,
    max_bytes: u64,
    file: Option<OpenFile>,
    buffer: Box<[u8]>,
    check_at: Instant,
    trouble: Trouble,
}

/// The file that lines are appended to.
#[derive(Debug)]
struct OpenFile {
    file: File,
    device: u64,
    inode: u64,
    /// Bytes in it: whole lines.
    len: u64,
}

impl FileSink {
    /// A sink into the configured file, made with its directory if need be. What a predecessor
    /// wrote and could not acknowledge any more is acknowledged.
    #[must_use]
    pub fn open(config: &config::FileSink, outbox: &mut Outbox<'_, '_>, now: Instant) -> Self {
        let mut rotated = config.path.clone().into_os_string();
        rotated.push(".1");
        let mut sink = Self {
            target: config.path.to_string_lossy().into_owned(),
            path: config.path.clone(),
            rotated: rotated.into(),
            max_bytes: config.max_bytes,
            file: None,
            buffer: vec![0; BUFFER_BYTES].into(),
            check_at: now + CHECK,
            trouble: Trouble::default(),
        };
        if sink.find_delivered(outbox).is_err() {
            // Then it cannot be read; what is owed is written again once it can be.
            outbox.send_again();
        }
        if let Err(error) = sink.ensure_open(outbox) {
            sink.failed(&error);
        }
        sink
    }

    /// Acknowledges the owed lines that stand in the file behind the place of the last note.
    fn find_delivered(&mut self, outbox: &mut Outbox<'_, '_>) -> io::Result<()> {
        let (device, inode, mut at) = places(outbox.note());
        let mut file = File::open(&self.path)?;
        let meta = file.metadata()?;
        if (meta.dev(), meta.ino()) != (device, inode) || meta.len() <= at {
            return Ok(());
        }
        file.seek(SeekFrom::Start(at))?;
        let mut line = [0; json::MAX_LINE];
        let mut there = [0; json::MAX_LINE];
        while let Some(record) = outbox.next() {
            let mut text = Text::new(&mut line);
            json::line(&mut text, &record);
            let there = &mut there[..text.len()];
            if file.read_exact(there).is_err() || there != text.as_bytes() {
                break;
            }
            at += text.len() as u64;
            outbox.mark_sent(1);
            outbox.acknowledge_noting(1, note(device, inode, at));
        }
        Ok(())
    }

    fn ensure_open(&mut self, outbox: &mut Outbox<'_, '_>) -> io::Result<()> {
        if self.file.is_none() {
            let open = open_whole(&self.path)?;
            outbox.acknowledge_noting(0, open.note());
            self.file = Some(open);
        }
        Ok(())
    }

    fn failed(&mut self, error: &io::Error) {
        static LIMIT: RateLimit = RateLimit::new(3, 60);
        if self.trouble.met(error) {
            let (target, error, level) = (&self.target, InWords(error), log::Level::Warn);
            limited!(LIMIT, level, "sink {target}: {error}; keeping records back");
        }
    }

    fn overcome(&mut self) {
        static LIMIT: RateLimit = RateLimit::new(3, 60);
        if self.trouble.overcome() {
            limited!(LIMIT, log::Level::Info, "sink {}: writing again", self.target);
        }
    }

    /// Writes as many lines as one write takes; whether there were any.
    fn write_lines(&mut self, outbox: &mut Outbox<'_, '_>) -> io::Result<bool> {
        self.ensure_open(outbox)?;
        let room = self.max_bytes.saturating_sub(self.file.as_ref().map_or(0, |it| it.len));
        let (mut lines, mut bytes) = self.fill(outbox, room);
        if lines == 0 && bytes > 0 {
            self.rotate(outbox)?;
            (lines, bytes) = self.fill(outbox, self.max_bytes.max(bytes as u64));
        }
        if lines == 0 {
            return Ok(false);
        }
        outbox.mark_sent(lines);
        let Some(open) = &mut self.file else { return Ok(false) };
        let (whole, result) = open.append(&self.buffer[..bytes]);
        let whole = if result.is_ok() { lines } else { count_lines(&self.buffer[..whole]) };
        outbox.acknowledge_noting(whole, open.note());
        if result.is_err() {
            outbox.send_again();
        }
        result.map(|()| true)
    }

    /// Puts owed lines into the buffer, up to `room` bytes: how many, and how many bytes. No line
    /// and the bytes of the next one if that does not fit.
    fn fill(&mut self, outbox: &Outbox<'_, '_>, room: u64) -> (u32, usize) {
        let room = usize::try_from(room).unwrap_or(usize::MAX).min(self.buffer.len());
        let mut text = Text::new(&mut self.buffer);
        let mut lines = 0;
        while let Some(record) = outbox.get(lines) {
            let before = text.len();
            json::line(&mut text, &record);
            if text.is_cut() || text.len() > room {
                let longer = text.len();
                text.truncate(before);
                return (lines, if lines == 0 { longer } else { before });
            }
            lines += 1;
        }
        (lines, text.len())
    }

    /// Makes room for a line within `max_bytes`. An empty file has room for any.
    fn rotate(&mut self, outbox: &mut Outbox<'_, '_>) -> io::Result<()> {
        if self.file.as_ref().is_some_and(|it| it.len == 0) {
            return Ok(());
        }
        match fs::rename(&self.path, &self.rotated) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => self.file = None,
        }
        self.ensure_open(outbox)
    }

    /// Opens the file anew if somebody removed or replaced it.
    fn notice_removal(&mut self, now: Instant) {
        static LIMIT: RateLimit = RateLimit::new(3, 60);
        if now < self.check_at {
            return;
        }
        self.check_at = now + CHECK;
        let Some(open) = &self.file else { return };
        let there = fs::metadata(&self.path).ok().map(|meta| (meta.dev(), meta.ino()));
        if there != Some((open.device, open.inode)) {
            let (target, level) = (&self.target, log::Level::Warn);
            limited!(
                LIMIT,
                level,
                "sink {target}: the file was removed or replaced; opening it anew"
            );
            self.file = None;
        }
    }
}

impl Sink for FileSink {
    fn deliver(&mut self, turn: &Turn<'_>, outbox: &mut Outbox<'_, '_>) -> Result<(), Refused> {
        self.notice_removal(turn.now.boot);
        loop {
            match self.write_lines(outbox) {
                Ok(true) => self.overcome(),
                Ok(false) => return Ok(()),
                Err(error) => {
                    self.failed(&error);
                    return Err(Refused);
                }
            }
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        Some(self.check_at).filter(|_| self.file.is_some())
    }

    fn reconfigure(&mut self, config: &config::Sink) {
        if let config::Sink::File(config) = config {
            self.max_bytes = config.max_bytes;
        }
    }

    fn state(&self) -> SinkState<'_> {
        let trouble = self.trouble;
        SinkState { kind: "file", target: &self.target, trouble, unconfirmed: 0, connected: None }
    }
}

impl OpenFile {
    /// Appends lines. When that fails, the whole ones that were written stay, and no part of
    /// another: how many bytes those are.
    fn append(&mut self, lines: &[u8]) -> (usize, io::Result<()>) {
        let mut written = 0;
        let result = loop {
            match self.file.write(&lines[written..]) {
                Ok(0) => break Err(ErrorKind::WriteZero.into()),
                Ok(count) => written += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
            if written == lines.len() {
                break Ok(());
            }
        };
        let whole = lines[..written].iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        self.len += whole as u64;
        let cut = if whole < written { self.file.set_len(self.len) } else { Ok(()) };
        (whole, result.and(cut))
    }

    fn note(&self) -> Note {
        note(self.device, self.inode, self.len)
    }
}

fn count_lines(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.iter().filter(|&&byte| byte == b'\n').count()).unwrap_or(u32::MAX)
}

fn note(device: u64, inode: u64, at: u64) -> Note {
    let mut note = [0; 6];
    put_u64(&mut note, 0, device);
    put_u64(&mut note, 2, inode);
    put_u64(&mut note, 4, at);
    note
}

/// Device, inode, and where the next line begins.
fn places(note: Note) -> (u64, u64, u64) {
    (get_u64(&note, 0), get_u64(&note, 2), get_u64(&note, 4))
}

/// Opens a file to append to, with its directory, and without a torn last line.
fn open_whole(path: &Path) -> io::Result<OpenFile> {
    let open = || OpenOptions::new().read(true).append(true).create(true).open(path);
    let mut file = match open() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            fs::create_dir_all(path.parent().unwrap_or(path))?;
            open()?
        }
        other => other?,
    };
    let meta = file.metadata()?;
    let len = whole_lines(&mut file, meta.len())?;
    if len < meta.len() {
        static LIMIT: RateLimit = RateLimit::new(3, 60);
        let (path, cut) = (path.display(), meta.len() - len);
        limited!(LIMIT, log::Level::Warn, "{path}: cut off {cut} bytes of a torn line");
        file.set_len(len)?;
    }
    Ok(OpenFile { file, device: meta.dev(), inode: meta.ino(), len })
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

//! The log back-end: lines of at most 512 bytes to standard error or to `/dev/log`.
//!
//! A line never waits and never allocates: it is made in a buffer on the stack, and goes out by
//! one write that cannot block. What is longer ends in `...`; control characters are escaped, so
//! that what comes from outside cannot forge lines or talk to a terminal. A datagram that
//! `/dev/log` does not take goes to standard error; a line that neither takes is counted
//! ([`dropped`]). The path is looked up for each line, so a log daemon that comes back is used
//! at once.
//!
//! Every line that traffic can trigger goes through [`limited!`](crate::limited) with a
//! [`RateLimit`] of its own place. Time is what the event loop last told [`set_now`].
//!
//! Formats: `<6>firmware-ctd: text` on standard error, as systemd and procd wrappers understand
//! it; `<30>firmware-ctd[PID]: text` (RFC 3164 without the time, facility daemon) on `/dev/log`,
//! where OpenWrt's logd, busybox' syslogd, rsyslog and journald add the time.

use core::fmt::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixDatagram;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

use log::{Level, Log, Metadata, Record};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::sys;
use crate::config::{self, LogTarget};

/// Longest line, in bytes, with its head and its line break.
pub const LONGEST: usize = 512;

/// Facility `daemon` of syslog, in the place where it stands in a priority.
const FACILITY: u8 = 3 << 3;

static BACKEND: Backend = Backend::new("/dev/log");
static NOW_S: AtomicU32 = AtomicU32::new(0);
static SUPPRESSED: AtomicU32 = AtomicU32::new(0);

/// Makes this the back-end of the crate `log`; later calls only [`apply`] the configuration.
pub fn init(config: &config::Log) {
    // An error means that the back-end is set already.
    let _ = log::set_logger(&BACKEND);
    apply(config);
}

/// Changes target and level while the program runs.
pub fn apply(config: &config::Log) {
    BACKEND.set_target(config.target);
    log::set_max_level(config.level);
}

/// Tells the rate limits the time, in seconds since boot; it may wrap.
pub fn set_now(now_s: u32) {
    NOW_S.store(now_s, Relaxed);
}

/// Lines that rate limits suppressed so far; stays at `u32::MAX` when that is reached.
#[must_use]
pub fn suppressed() -> u32 {
    SUPPRESSED.load(Relaxed)
}

/// Lines that neither `/dev/log` nor standard error took so far; stays at `u32::MAX`.
#[must_use]
pub fn dropped() -> u32 {
    BACKEND.dropped.load(Relaxed)
}

/// An error in words, without the allocation that its own `Display` makes.
#[derive(Clone, Copy, Debug)]
pub struct InWords<'e>(pub &'e std::io::Error);

impl fmt::Display for InWords<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.raw_os_error() {
            Some(errno) => f.write_str(sys::error_words(errno, &mut [0; 128])),
            None => self.0.kind().fmt(f),
        }
    }
}

/// Writes lines.
#[derive(Debug)]
pub struct Backend {
    path: &'static str,
    syslog: AtomicBool,
    socket: OnceLock<UnixDatagram>,
    dropped: AtomicU32,
}

impl Backend {
    /// A back-end to standard error, with its syslog socket at `path`.
    #[must_use]
    pub const fn new(path: &'static str) -> Self {
        Self {
            path,
            syslog: AtomicBool::new(false),
            socket: OnceLock::new(),
            dropped: AtomicU32::new(0),
        }
    }

    /// Changes where lines go.
    pub fn set_target(&self, target: LogTarget) {
        self.syslog.store(target == LogTarget::Syslog, Relaxed);
    }

    /// Sends one datagram; false if the log daemon does not take it now.
    fn to_syslog(&self, record: &Record<'_>) -> bool {
        let Some(socket) = self.socket() else { return false };
        let mut line = Line::new();
        let priority = FACILITY | severity(record.level());
        line.fill(
            format_args!("<{priority}>firmware-ctd[{}]: ", std::process::id()),
            record.args(),
        );
        socket.send_to(line.bytes(), self.path).is_ok()
    }

    fn socket(&self) -> Option<&UnixDatagram> {
        if self.socket.get().is_none() {
            let socket = UnixDatagram::unbound().ok()?;
            socket.set_nonblocking(true).ok()?;
            // Of two threads that come here together, one socket wins.
            let _ = self.socket.set(socket);
        }
        self.socket.get()
    }
}

impl Log for Backend {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) || (self.syslog.load(Relaxed) && self.to_syslog(record))
        {
            return;
        }
        let mut line = Line::new();
        line.fill(format_args!("<{}>firmware-ctd: ", severity(record.level())), record.args());
        line.end();
        if !put(std::io::stderr().as_fd(), line.bytes()) {
            saturating_increment(&self.dropped);
        }
    }

    fn flush(&self) {}
}

/// The severity of syslog.
const fn severity(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

/// Writes `bytes` to `fd` if that cannot block; false if they did not go out.
///
/// The file description may be shared with a shell, so it is asked, not set to non-blocking. A
/// pipe that can be written to has room for a page, more than a line.
fn put(fd: BorrowedFd<'_>, bytes: &[u8]) -> bool {
    let mut wait = [PollFd::new(fd, PollFlags::POLLOUT)];
    let ready = matches!(poll(&mut wait, PollTimeout::ZERO), Ok(1..));
    ready && nix::unistd::write(fd, bytes).is_ok()
}

fn saturating_increment(counter: &AtomicU32) {
    // An error means that the counter is at its end.
    let _ = counter.fetch_update(Relaxed, Relaxed, |n| n.checked_add(1));
}

/// A line in the making.
struct Line {
    buffer: [u8; LONGEST],
    used: usize,
    cut: bool,
}

impl Line {
    /// What stands at the end of a line that was cut.
    const CUT: &'static [u8] = b"...";
    /// Room for text: less [`Self::CUT`] and the line break.
    const ROOM: usize = LONGEST - Self::CUT.len() - 1;

    const fn new() -> Self {
        Self { buffer: [0; LONGEST], used: 0, cut: false }
    }

    fn fill(&mut self, head: fmt::Arguments<'_>, text: &fmt::Arguments<'_>) {
        // An error means that the line is full, or that a value cannot be shown: both cut it.
        if self.write_fmt(head).is_err() || self.write_fmt(*text).is_err() {
            self.cut = true;
        }
        if self.cut {
            self.append(Self::CUT, LONGEST);
        }
    }

    fn end(&mut self) {
        self.append(b"\n", LONGEST);
    }

    fn bytes(&self) -> &[u8] {
        self.buffer.get(..self.used).unwrap_or_default()
    }

    /// Appends all of `bytes` if then at most `limit` bytes are used, else nothing.
    fn append(&mut self, bytes: &[u8], limit: usize) -> bool {
        let end = self.used + bytes.len();
        match self.buffer.get_mut(self.used..end) {
            Some(place) if end <= limit => {
                place.copy_from_slice(bytes);
                self.used = end;
                true
            }
            _ => false,
        }
    }

    fn append_char(&mut self, letter: char) -> fmt::Result {
        let mut utf8 = [0; 4];
        let fits = self.append(letter.encode_utf8(&mut utf8).as_bytes(), Self::ROOM);
        if fits { Ok(()) } else { Err(fmt::Error) }
    }
}

/// Escapes control characters, as `\n` or `\u{1b}`; an error when the line is full.
impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for letter in text.chars() {
            if letter.is_control() {
                letter.escape_default().try_for_each(|part| self.append_char(part))?;
            } else {
                self.append_char(letter)?;
            }
        }
        Ok(())
    }
}

/// Bounds the lines of one place in the program.
///
/// A token bucket: `burst` lines at once, and `burst` lines in every `per_s` seconds in the long
/// run, given back evenly. What is above that is counted and told with the next line.
#[derive(Debug)]
pub struct RateLimit {
    burst: u32,
    per_s: u32,
    tokens: AtomicU32,
    /// When tokens were last given back, in seconds.
    filled_s: AtomicU32,
    suppressed: AtomicU32,
}

impl RateLimit {
    /// At most `burst` lines in every `per_s` seconds; 0 counts as 1 for both.
    #[must_use]
    pub const fn new(burst: u32, per_s: u32) -> Self {
        let burst = if burst == 0 { 1 } else { burst };
        let per_s = if per_s == 0 { 1 } else { per_s };
        Self {
            burst,
            per_s,
            tokens: AtomicU32::new(burst),
            filled_s: AtomicU32::new(0),
            suppressed: AtomicU32::new(0),
        }
    }

    /// Asks for one line at `now_s`: the number of lines suppressed since the last that passed,
    /// or none if this one is suppressed too.
    #[must_use]
    pub fn admit(&self, now_s: u32) -> Option<u32> {
        self.refill(now_s);
        let taken = self.tokens.fetch_update(Relaxed, Relaxed, |n| n.checked_sub(1));
        if taken.is_ok() {
            return Some(self.suppressed.swap(0, Relaxed));
        }
        saturating_increment(&self.suppressed);
        saturating_increment(&SUPPRESSED);
        None
    }

    /// Gives back the tokens of the whole steps since the last time; the rest of time stays due.
    fn refill(&self, now_s: u32) {
        let filled = self.filled_s.load(Relaxed);
        let elapsed = now_s.wrapping_sub(filled);
        let gained = elapsed.saturating_mul(self.burst) / self.per_s;
        if gained == 0 {
            return;
        }
        let paid = if gained < self.burst {
            // Rounded up, so that the long run never exceeds the rate.
            (gained * self.per_s).div_ceil(self.burst)
        } else {
            elapsed
        };
        let next = filled.wrapping_add(paid);
        // Of two threads that come here together, one fills.
        if self.filled_s.compare_exchange(filled, next, Relaxed, Relaxed).is_ok() {
            let full = |n: u32| Some(n.saturating_add(gained).min(self.burst));
            let _ = self.tokens.fetch_update(Relaxed, Relaxed, full);
        }
    }
}

/// Logs `text` if `limit` admits it; used through [`limited!`](crate::limited).
pub fn write_limited(limit: &RateLimit, level: Level, text: fmt::Arguments<'_>) {
    if level > log::max_level() {
        return;
    }
    match limit.admit(NOW_S.load(Relaxed)) {
        None => {}
        Some(0) => log::log!(level, "{text}"),
        Some(1) => log::log!(level, "{text} (1 similar line suppressed)"),
        Some(n) => log::log!(level, "{text} ({n} similar lines suppressed)"),
    }
}

/// Logs a line that traffic can trigger: `limited!(LIMIT, Level::Warn, "text {}", value)`.
///
/// `LIMIT` is a `static` [`RateLimit`](crate::daemon::log::RateLimit) of this place alone. A line
/// below the current level takes nothing from it.
#[macro_export]
macro_rules! limited {
    ($limit:expr, $level:expr, $($text:tt)+) => {
        $crate::daemon::log::write_limited(&$limit, $level, ::core::format_args!($($text)+))
    };
}

#[cfg(test)]
mod tests;

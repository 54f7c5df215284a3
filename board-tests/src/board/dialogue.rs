//! The two serial ports of a board, as the other end of each sees it.
//!
//! The emulator connects to a socket of ours before the board runs, so nothing that it says is
//! missed. A thread for each port takes all that comes at once: a board never waits for its tests.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use board_guest::channel::Said;

use super::emulator::Emulator;
use crate::lab::clock;
use crate::load::sys;

/// How long the emulator may take to open its ports.
const OPEN: Duration = Duration::from_secs(20);

/// A port that the emulator is to connect to.
#[derive(Debug)]
pub(super) struct Port(UnixListener);

impl Port {
    /// At this path, which an earlier emulator may have used.
    pub(super) fn listen(path: &Path) -> io::Result<Self> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        listener.set_nonblocking(true)?;
        Ok(Self(listener))
    }

    /// Waits for the emulator.
    pub(super) fn accept(self, emulator: &mut Emulator) -> io::Result<UnixStream> {
        let began = clock::now();
        loop {
            match self.0.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(false)?;
                    return Ok(stream);
                }
                Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error),
                Err(_) => {}
            }
            emulator.check()?;
            if began.elapsed() > OPEN {
                return Err(io::Error::new(ErrorKind::TimedOut, "the emulator opens no port"));
            }
            sys::readable(&[self.0.as_fd()], 50)?;
        }
    }
}

/// Something that grows, and those who wait for it.
#[derive(Debug, Default)]
struct Growing<T> {
    value: Mutex<T>,
    grown: Condvar,
}

impl<T> Growing<T> {
    fn lock(&self) -> MutexGuard<'_, T> {
        self.value.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut T)) {
        change(&mut self.lock());
        self.grown.notify_all();
    }

    /// Waits until `found` finds something.
    fn wait<R>(&self, limit: Duration, mut found: impl FnMut(&mut T) -> Option<R>) -> Option<R> {
        let mut result = None;
        let none = |value: &mut T| {
            result = found(value);
            result.is_none()
        };
        let waited = self.grown.wait_timeout_while(self.lock(), limit, none);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
        result
    }
}

/// The serial console.
#[derive(Debug)]
pub struct Console {
    port: UnixStream,
    shown: Arc<Growing<Vec<u8>>>,
}

impl Console {
    pub(super) fn new(port: UnixStream) -> io::Result<Self> {
        let shown = Arc::new(Growing::default());
        let (mut from, to) = (port.try_clone()?, Arc::clone(&shown));
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = from.read(&mut bytes) {
                let read = bytes.get(..count).unwrap_or_default();
                to.change(|shown: &mut Vec<u8>| shown.extend_from_slice(read));
            }
        });
        Ok(Self { port, shown })
    }

    /// All that it has shown so far.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock()).replace('\r', "")
    }

    /// Types a line, and reads on until `word` comes, as a person does; what has come.
    ///
    /// # Errors
    /// `TimedOut` with what came instead.
    pub fn type_line(&mut self, line: &str, word: &str, limit: Duration) -> io::Result<String> {
        let from = self.shown.lock().len();
        // Enter, as a terminal sends it.
        self.port.write_all(format!("{line}\r").as_bytes())?;
        let said = |shown: &[u8]| {
            String::from_utf8_lossy(shown.get(from..).unwrap_or_default()).replace('\r', "")
        };
        let found = self.shown.wait(limit, |shown| {
            let text = said(shown);
            text.contains(word).then_some(text)
        });
        found.ok_or_else(|| {
            let text = said(&self.shown.lock());
            io::Error::new(ErrorKind::TimedOut, format!("no \"{word}\" on the console: {text}"))
        })
    }
}

/// What has come by the channel.
#[derive(Debug, Default)]
struct Heard {
    events: Vec<String>,
    lines: Vec<String>,
    done: Option<Result<(), String>>,
    closed: bool,
}

/// The channel to the board's first process.
#[derive(Debug)]
pub(super) struct Channel {
    port: Mutex<UnixStream>,
    heard: Arc<Growing<Heard>>,
}

impl Channel {
    pub(super) fn new(port: UnixStream) -> io::Result<Self> {
        let heard = Arc::new(Growing::default());
        let (from, to) = (BufReader::new(port.try_clone()?), Arc::clone(&heard));
        thread::spawn(move || {
            for line in from.split(b'\n').map_while(Result::ok) {
                let said = Said::parse(&String::from_utf8_lossy(&line));
                to.change(|heard: &mut Heard| match said {
                    Some(Said::Event(text)) => heard.events.push(text),
                    Some(Said::Line(text)) => heard.lines.push(text),
                    Some(Said::Done(done)) => heard.done = Some(done),
                    // The firmware of a PC says a word on its serial ports too.
                    None => {}
                });
            }
            to.change(|heard| heard.closed = true);
        });
        Ok(Self { port: Mutex::new(port), heard })
    }

    /// All events so far.
    pub(super) fn events(&self) -> Vec<String> {
        self.heard.lock().events.clone()
    }

    /// Says a command; [`Self::answer`] waits for its end.
    pub(super) fn tell(&self, command: &str) -> io::Result<()> {
        self.heard.change(|heard| {
            heard.lines.clear();
            heard.done = None;
        });
        let mut port = self.port.lock().unwrap_or_else(PoisonError::into_inner);
        port.write_all(format!("{command}\n").as_bytes())
    }

    /// Says a command; the answer.
    pub(super) fn ask(&self, command: &str, limit: Duration) -> io::Result<Vec<String>> {
        self.tell(command)?;
        self.answer(limit)
    }

    /// The answer to the last command.
    pub(super) fn answer(&self, limit: Duration) -> io::Result<Vec<String>> {
        let answer = self.heard.wait(limit, |heard| match heard.done.take() {
            Some(Ok(())) => Some(Ok(std::mem::take(&mut heard.lines))),
            Some(Err(why)) => Some(Err(io::Error::other(why))),
            None if heard.closed => Some(Err(ErrorKind::UnexpectedEof.into())),
            None => None,
        });
        answer.unwrap_or_else(|| Err(ErrorKind::TimedOut.into()))
    }
}

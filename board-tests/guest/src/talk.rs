//! The board's side of the channel: whole lines, from any thread.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use board_guest::channel::Said;
use board_guest::error::{Context, LabError};
use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};

/// The second serial port.
#[derive(Debug)]
pub(crate) struct Talk {
    port: Mutex<File>,
}

impl Talk {
    /// Opens the port; what is sent through it is left as it is.
    pub(crate) fn open(path: &Path) -> Result<Self, LabError> {
        let doing = format!("opening the channel {}", path.display());
        let mut found = None;
        crate::wait::until(&doing, std::time::Duration::from_secs(10), || {
            found = port(path);
            found.is_some()
        })?;
        let found = found.unwrap_or_else(|| path.to_owned());
        let file = OpenOptions::new().read(true).write(true).open(found).context(&doing)?;
        // A virtio port is no terminal, and raw by nature.
        if let Ok(mut settings) = tcgetattr(file.as_fd()) {
            cfmakeraw(&mut settings);
            tcsetattr(file.as_fd(), SetArg::TCSANOW, &settings).context(&doing)?;
        }
        Ok(Self { port: Mutex::new(file) })
    }

    /// The port, to read from.
    pub(crate) fn reader(&self) -> std::io::Result<File> {
        self.port.lock().unwrap_or_else(PoisonError::into_inner).try_clone()
    }

    /// Says one line.
    pub(crate) fn say(&self, said: &Said) {
        let line = said.line();
        let mut port = self.port.lock().unwrap_or_else(PoisonError::into_inner);
        // A port that fails is a board that nobody hears: its test says so.
        let _ = port.write_all(line.as_bytes());
    }

    /// Tells that something happened.
    pub(crate) fn event(&self, text: &str) {
        self.say(&Said::Event(text.to_owned()));
    }
}

/// The port, once it is there. The number of a virtio port's device depends on the order in which
/// the kernel finds devices: there is only one such port.
fn port(path: &Path) -> Option<PathBuf> {
    if path.exists() {
        return Some(path.to_owned());
    }
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    let is_virtio = |path: &Path| name(path).is_some_and(|name| name.starts_with("vport"));
    let devices = std::fs::read_dir("/dev").into_iter().flatten().flatten();
    devices.map(|device| device.path()).find(|it| is_virtio(path) && is_virtio(it))
}

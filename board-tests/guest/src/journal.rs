//! The log: what the daemon says to `/dev/log` and on its standard error is told on the channel, and
//! shown on the console when asked for, as `logread -f` would.

use std::os::unix::net::UnixDatagram;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use board_guest::error::{Context, LabError};

use crate::console;
use crate::talk::Talk;

/// What the daemon says when it serves.
const READY: &str = "ready: ";

/// The log.
#[derive(Debug)]
pub(crate) struct Journal {
    talk: Arc<Talk>,
    show: bool,
    /// How often the daemon has said that it serves.
    ready: Mutex<u32>,
    said: Condvar,
}

impl Journal {
    /// Listens from now on.
    pub(crate) fn open(talk: &Arc<Talk>, show: bool) -> Result<Arc<Self>, LabError> {
        let socket = UnixDatagram::bind("/dev/log").context("binding /dev/log")?;
        let (talk, ready, said) = (Arc::clone(talk), Mutex::default(), Condvar::new());
        let journal = Arc::new(Self { talk, show, ready, said });
        let own = Arc::clone(&journal);
        std::thread::spawn(move || {
            let mut buffer = [0; 1024];
            while let Ok(length) = socket.recv(&mut buffer) {
                let line = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default());
                own.tell(line.trim_end());
            }
        });
        Ok(journal)
    }

    /// One line, with the priority before it.
    pub(crate) fn tell(&self, line: &str) {
        self.talk.event(&format!("log {line}"));
        if self.show {
            // Without its priority, as logread shows it.
            console::print(&format!("{}\n", line.split_once('>').map_or(line, |(_, text)| text)));
        }
        if line.contains(READY) {
            *self.ready.lock().unwrap_or_else(PoisonError::into_inner) += 1;
            self.said.notify_all();
        }
    }

    /// Waits until the daemon has said for the first time that it serves; whether it did.
    pub(crate) fn wait_until_ready(&self, limit: Duration) -> bool {
        let ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.said.wait_timeout_while(ready, limit, |ready| *ready == 0);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }
}

//! Programs in the router's namespace that never outlive the test.

use std::io;
use std::os::fd::AsRawFd;
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::clock;
use super::error::{Context, LabError};
use super::netns::Netns;
use super::reboot::BootId;
use super::sys;

/// A program that was started by the lab; killed and waited for when dropped.
///
/// It also gets SIGKILL when the **thread** that started it ends, so start it from the thread that
/// keeps the guard.
#[derive(Debug)]
pub struct Guarded {
    child: Child,
}

impl Guarded {
    pub(super) fn spawn(command: &mut Command, netns: &Netns) -> Result<Self, LabError> {
        Self::spawn_booted(command, netns, None)
    }

    /// The same, under the id of another boot.
    pub(super) fn spawn_booted(
        command: &mut Command,
        netns: &Netns,
        boot: Option<&BootId>,
    ) -> Result<Self, LabError> {
        sys::start_in(command, netns.as_raw_fd());
        if let Some(boot) = boot {
            sys::boot_as(command, boot.path()).context("naming a boot")?;
        }
        let name = command.get_program().to_string_lossy().into_owned();
        let child = command.spawn().context(&format!("starting {name}"))?;
        Ok(Self { child })
    }

    /// The process, for its pipes.
    pub const fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::from_ne_bytes(self.child.id().to_ne_bytes()))
    }

    /// Sends it a signal (`SIGSTOP`, `SIGHUP`, …).
    ///
    /// # Errors
    /// When it has ended.
    pub fn signal(&self, signal: Signal) -> Result<(), LabError> {
        kill(self.pid(), signal).context(&format!("sending {signal}"))
    }

    /// Waits for its end, at most `limit`; `None` when it is still running.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn wait(&mut self, limit: Duration) -> Result<Option<ExitStatus>, LabError> {
        let begin = clock::now();
        loop {
            let status = self.child.try_wait().context("waiting for a program")?;
            if status.is_some() || begin.elapsed() >= limit {
                return Ok(status);
            }
            pause();
        }
    }

    /// Asks it to end with SIGTERM and waits at most `limit`.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn stop(&mut self, limit: Duration) -> Result<ExitStatus, LabError> {
        self.signal(Signal::SIGTERM)?;
        self.wait(limit)?.ok_or_else(|| {
            LabError::new("waiting for a program to end", io::ErrorKind::TimedOut.into())
        })
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // Both fail only when it has ended already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A short pause of a poll for the end of a process.
#[expect(clippy::disallowed_methods, reason = "waitpid has no timeout")]
fn pause() {
    std::thread::sleep(Duration::from_millis(2));
}

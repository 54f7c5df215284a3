//! ulogd2 that sends IPFIX: flows by NFCT, messages by ulogd2's own plugin IPFIX.
//!
//! Destroys only, reliable, no table of its own, as [`super`] sets up ulogd2 for lines. What the
//! plugin of 2.0.8 sends is much less than a record of this project's: IPv4 only (other flows are
//! left out without a word), packets and bytes of both directions added into 32 bits, seconds, no
//! translation, no key.
//!
//! Limits of it that a comparison must know: a message goes out only when it is full, since its
//! timer fires once, one second after the start, and what is not sent when it ends is lost; the
//! template is sent once; a connection that broke is never made again; `send` blocks, so a slow
//! TCP collector stops the reading of events.

use super::ulogd::configure_output;
use super::{PATIENCE_S, SAID, Setup, joined};
use crate::load::sys;
use crate::measure;
use std::fs::{self, File};
use std::io;
use std::net::SocketAddrV4;
use std::os::fd::AsRawFd;
use std::process::{Child, Command, ExitStatus, Stdio};

/// What carries the messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Messages of 1400 bytes.
    Udp,
    /// The collector must listen when ulogd2 starts.
    Tcp,
}

/// Flows of the first message: 1400 bytes without 16 of the header, 48 of the template and 4 of
/// the set, at 33 a flow.
pub const FIRST_MESSAGE: u32 = 40;

/// Flows of every other message, which has no template.
pub const NEXT_MESSAGE: u32 = 41;

/// ulogd2 that runs. Killed when dropped.
#[derive(Debug)]
pub struct UlogdIpfix {
    child: Child,
}

/// Gives `command` the configuration for `collector`.
///
/// # Errors
/// When Debian's plugins are missing or the configuration cannot be written.
pub fn configure(
    command: &mut Command,
    setup: &Setup<'_>,
    collector: SocketAddrV4,
    transport: Transport,
) -> io::Result<()> {
    let lines = format!(
        "oid=1\n\
         host=\"{host}\"\n\
         port={port}\n\
         proto=\"{proto}\"\n\
         mtu=1400\n\
         send_template=\"once\"\n",
        host = collector.ip(),
        port = collector.port(),
        proto = if transport == Transport::Tcp { "tcp" } else { "udp" },
    );
    configure_output(command, setup, "IPFIX", &lines)
}

/// Starts it and waits until it is told of destroys.
///
/// # Errors
/// When it is not installed, ends, or is not ready within a minute.
pub fn start(
    setup: &Setup<'_>,
    collector: SocketAddrV4,
    transport: Transport,
) -> io::Result<UlogdIpfix> {
    let program = super::Peer::Ulogd.program(setup.programs);
    let program = program.ok_or_else(|| io::Error::other("ulogd2 is not installed"))?;
    let mut command = Command::new(program);
    configure(&mut command, setup, collector, transport)?;
    let said = File::create(setup.file(SAID))?;
    command.stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said);
    sys::prepare(&mut command, Some(setup.netns.as_raw_fd()));
    let mut running = UlogdIpfix { child: command.spawn()? };
    measure::wait_for("ulogd2 to be ready", PATIENCE_S, || {
        if let Some(status) = running.child.try_wait()? {
            let said = fs::read_to_string(setup.file(SAID)).unwrap_or_default();
            return Err(io::Error::other(format!("ulogd2 ended, {status}; it said:\n{said}")));
        }
        Ok(joined(running.pid()).then_some(()))
    })?;
    Ok(running)
}

impl UlogdIpfix {
    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap_or(i32::MAX)
    }

    /// Ends it with SIGTERM.
    ///
    /// # Errors
    /// When it does not end within a minute.
    pub fn stop(mut self) -> io::Result<ExitStatus> {
        let pid = nix::unistd::Pid::from_raw(self.pid());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM)?;
        measure::wait_for("ulogd2 to end", PATIENCE_S, || self.child.try_wait())
    }
}

impl Drop for UlogdIpfix {
    fn drop(&mut self) {
        // Both fail only when it has ended already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

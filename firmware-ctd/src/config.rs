//! The static configuration: what it may say, and one checked [`Config`] of it.
//!
//! One table, [`schema::SCHEMA`], names every key with its type, range, default and explanation.
//! Reading, checking, the reference in the README and every front-end follow it. A front-end
//! ([`document`] for TOML) only finds sections, keys and values with their places and feeds them to a
//! [`draft::Draft`].
//!
//! Every key has a default, so an empty file is valid. Several files overlay each other: per key
//! the later file wins; a later file that has any `[[sink]]` (or `sink = []`) replaces the whole
//! list of the earlier ones. All faults of all files are reported at once.
//!
//! Limits: a file of 256 KiB, 64 faults reported a file, 16 sinks. Reading allocates; it is done before
//! `Ready`, and by a process of its own later.

pub mod document;
pub mod draft;
mod fault;
pub mod file;
mod node;
pub mod schema;
mod sink;
pub mod value;

use std::io::Write;
use std::path::PathBuf;

use crate::checkpoint::Keep;
use crate::exit;
pub use fault::{Fault, Faults, MOST_FAULTS, Place};
pub use schema::KeyName;
pub use sink::{FileSink, IpfixSink, Sink, SyslogSink, Transport, UnixSink};

/// Where the control socket is when nothing else is said.
pub const DEFAULT_SOCKET: &str = "/var/run/firmware-ctd.sock";

/// The checked configuration; the default is that of an empty file.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The kernel's own settings.
    pub kernel: Kernel,
    /// How events are received.
    pub events: Events,
    /// The flow table.
    pub table: Table,
    /// Records that are owed to sinks.
    pub retry: Retry,
    /// Where records go; may be empty.
    pub sinks: Vec<Sink>,
    /// Flows carried over a reboot.
    pub checkpoint: Checkpoint,
    /// The control socket.
    pub control: Control,
    /// The log.
    pub log: Log,
}

/// `[kernel]`
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Kernel {
    /// Switch on conntrack events, accounting and timestamps.
    pub manage_sysctls: bool,
}

/// `[events]`
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Events {
    /// The kernel repeats a destroy that did not fit into the receive buffer.
    pub reliable: bool,
    /// Receive buffer of each event socket, in bytes as the kernel counts them.
    pub receive_buffer_bytes: u32,
    /// Nap between two reads when events keep coming, in milliseconds; 0 = none.
    pub coalesce_ms: u32,
    /// What is listened to.
    pub groups: Groups,
    /// Keys of recent destroys that are remembered against repeats.
    pub remember: u32,
}

/// The kinds of events that are listened to; `destroy` always is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Groups {
    /// Flows that begin.
    pub new: bool,
    /// Flows that change.
    pub update: bool,
    /// Flows that end.
    pub destroy: bool,
}

/// `[table]`
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// Flows that the table holds, counted in IPv4 flows.
    pub capacity: u32,
    /// Flows that may have labels, a helper, a master or sequence adjustments. Never 0 after
    /// [`load`]: 0 in a file stands for a sixteenth of the capacity, at least 16.
    pub extensions: u32,
    /// Seconds between two dumps that refresh counters and timeouts.
    pub refresh_s: u32,
}

/// `[retry]`
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Retry {
    /// Records of destroyed flows that are held for sinks.
    pub capacity: u32,
    /// The longest wait before a sink that refused a record is tried again, in seconds.
    pub max_delay_s: u32,
    /// What happens when the queue is full.
    pub when_full: WhenFull,
    /// Part of `nf_conntrack_max` that undelivered destroys may take in the kernel.
    pub dying_budget_percent: u32,
    /// Seconds after which a worker that does nothing is taken for stuck.
    pub stall_s: u32,
}

/// What happens when the queue is full because of a reliable sink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// Destroys are left in the kernel.
    #[default]
    Hold,
    /// The oldest record is dropped and counted.
    DropOldest,
}

/// `[checkpoint]`
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Checkpoint {
    /// Where the images lie; empty for none.
    pub directory: PathBuf,
    /// Seconds between two saves there; 0 = only at the end and when asked.
    pub interval_s: u32,
    /// Seconds between two saves into memory; 0 = none.
    pub live_interval_s: u32,
    /// What saves by the interval may write in a day.
    pub flash_bytes_per_day: u64,
    /// Size of an erase block.
    pub erase_block_bytes: u32,
    /// Largest image.
    pub max_bytes: u32,
    /// Which flows are saved.
    pub keep: Keep,
    /// Saved flows are made again at the first start after a reboot.
    pub restore: bool,
    /// Longest timeout of a restored flow until it has a packet, in seconds.
    pub timeout_cap_s: u32,
    /// Seconds after which restored flows of foreign addresses are deleted.
    pub address_grace_s: u32,
}

impl Checkpoint {
    /// Whether flows are saved at all.
    #[must_use]
    pub fn is_on(&self) -> bool {
        !self.directory.as_os_str().is_empty()
    }
}

/// `[control]`
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Control {
    /// The Unix socket, absolute, at most 107 bytes.
    pub socket: PathBuf,
    /// Clients served at a time.
    pub clients: u32,
}

/// `[log]`
#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    /// Where lines go.
    pub target: LogTarget,
    /// The least important lines that are still written.
    pub level: log::LevelFilter,
}

/// Where log lines go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogTarget {
    /// Standard error, with the level as `<6>` in front.
    Stderr,
    /// The syslog socket `/dev/log`; standard error while there is none.
    Syslog,
}

impl Default for Config {
    fn default() -> Self {
        draft::Draft::new().into_config()
    }
}

impl Config {
    /// Values that are legal but unwise, one line each.
    #[must_use]
    pub fn warnings(&self) -> Vec<&'static str> {
        let checks = [
            (
                self.events.receive_buffer_bytes < 64 << 10,
                "events.receive_buffer is below 64KiB: a burst does not fit, the kernel repeats \
                 destroys later and forgets NEWs",
            ),
            (
                !self.events.reliable && self.sinks.iter().any(Sink::reliable),
                "events.reliable is off while a sink is reliable: destroys that do not fit into \
                 the receive buffer are lost before any sink",
            ),
            (
                self.table.extensions > self.table.capacity,
                "table.extensions is above table.capacity: the rest can never be used",
            ),
            (
                self.checkpoint.is_on()
                    && u64::from(self.checkpoint.max_bytes) > self.checkpoint.flash_bytes_per_day,
                "checkpoint.max_bytes is above checkpoint.flash_bytes_per_day: a full image is \
                 written at the end and when asked only",
            ),
            (self.sinks.is_empty(), "there is no sink: destroyed flows are counted, not recorded"),
        ];
        checks.into_iter().filter(|(unwise, _)| *unwise).map(|(_, text)| text).collect()
    }

    /// Takes over all that a reload applies; what needs a restart stays as it is.
    pub fn take_live(&mut self, new: &Self) {
        schema::take_live(self, new);
    }

    /// The keys that differ in `new` and that only a restart can apply.
    #[must_use]
    pub fn needs_restart(&self, new: &Self) -> Vec<KeyName> {
        schema::fixed_changes(self, new)
    }
}

/// Reads `files` one over the other and checks the whole; no file gives the defaults.
///
/// # Errors
/// Every fault of every file.
pub fn load(files: &[PathBuf]) -> Result<Config, Faults> {
    let mut draft = draft::Draft::new();
    let mut faults = Faults::default();
    for file in files {
        file::read(file, &mut draft, &mut faults);
    }
    draft.finish(faults)
}

/// As [`load`], with the faults on standard error, one a line.
///
/// # Errors
///
/// The exit code, [`exit::CONFIG`].
pub fn load_or_tell(files: &[PathBuf]) -> Result<Config, u8> {
    load(files).map_err(|faults| {
        // Nobody is left to tell when standard error is gone; the exit code still tells.
        let _ = writeln!(std::io::stderr(), "{faults}");
        exit::CONFIG
    })
}

/// The command `validate`: faults or warnings to standard error, one a line.
///
/// Returns the exit code, [`exit::OK`] or [`exit::CONFIG`].
#[must_use]
pub fn validate(files: &[PathBuf]) -> u8 {
    match load_or_tell(files) {
        Ok(config) => {
            // Nobody is left to tell when standard error is gone; the exit code still tells.
            let mut err = std::io::stderr().lock();
            for warning in config.warnings() {
                let _ = writeln!(err, "warning: {warning}");
            }
            let _ = writeln!(err, "configuration is valid");
            exit::OK
        }
        Err(code) => code,
    }
}

#[cfg(test)]
mod tests;

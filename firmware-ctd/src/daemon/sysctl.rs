//! The kernel's conntrack settings: read, and set where the configuration says so.
//!
//! They are those of the network namespace the daemon runs in.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};

const DIRECTORY: &str = "/proc/sys/net/netfilter/";

/// A setting of the kernel's conntrack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// Events are attached to new flows: 0 never, 1 always, 2 only while somebody listens.
    Events,
    /// Packets and bytes are counted.
    Accounting,
    /// Starts and ends are noted.
    Timestamp,
    /// Flows that may exist (one number for the whole machine).
    Max,
    /// Flows that exist, destroyed but unreported ones included.
    Count,
}

impl Setting {
    /// The settings that the daemon wants at 1.
    pub const WANTED: [Self; 3] = [Self::Events, Self::Accounting, Self::Timestamp];

    /// The name of its file below `/proc/sys/net/netfilter`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Events => "nf_conntrack_events",
            Self::Accounting => "nf_conntrack_acct",
            Self::Timestamp => "nf_conntrack_timestamp",
            Self::Max => "nf_conntrack_max",
            Self::Count => "nf_conntrack_count",
        }
    }

    /// What is lost while it is 0.
    #[must_use]
    pub const fn without(self) -> &'static str {
        match self {
            Self::Events => "flows end without an event",
            Self::Accounting => "flows have no packets and bytes",
            Self::Timestamp => "flows have no start and only weak keys",
            Self::Max | Self::Count => "",
        }
    }

    fn path(self, buffer: &mut [u8; 64]) -> &str {
        let mut text = crate::record::text::Text::new(buffer);
        text.str(DIRECTORY);
        text.str(self.name());
        let len = text.len();
        std::str::from_utf8(&buffer[..len]).unwrap_or_default()
    }

    /// Its value.
    ///
    /// # Errors
    ///
    /// `NotFound` while conntrack is not loaded; `InvalidData` if it is no number.
    pub fn read(self) -> io::Result<u32> {
        let mut bytes = [0; 16];
        let len = File::open(self.path(&mut [0; 64]))?.read(&mut bytes)?;
        std::str::from_utf8(&bytes[..len])
            .ok()
            .and_then(|text| text.trim_end().parse().ok())
            .ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// Sets it to 1.
    ///
    /// # Errors
    ///
    /// `PermissionDenied` without `CAP_NET_ADMIN` over the network namespace.
    pub fn switch_on(self) -> io::Result<()> {
        OpenOptions::new().write(true).open(self.path(&mut [0; 64]))?.write_all(b"1\n")
    }
}

/// Sees to the settings: sets what is not 1 if `manage`, else only tells of what is 0.
///
/// Calls `tell` for each setting that was not as wanted, with its value and how setting it went.
pub fn check(manage: bool, mut tell: impl FnMut(Setting, u32, Option<io::Result<()>>)) {
    for setting in Setting::WANTED {
        match setting.read() {
            Ok(1) | Err(_) => {}
            Ok(value) if manage => tell(setting, value, Some(setting.switch_on())),
            Ok(0) => tell(setting, 0, None),
            Ok(_) => {}
        }
    }
}

//! The kernel's own counters: per CPU, per CPU for expectations, and of the whole table.
//!
//! Source: `enum ctattr_stats_cpu`, `ctattr_stats_global`, `ctattr_expect_stats`. The number of the
//! CPU stands in the netfilter header.

use super::error::{Error, Full};
use super::nla::{AttributeWriter, be32_fields};
use super::nlmsg::Nfgen;

/// A counter of [`CpuStats`]: `CTA_STATS_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CpuCounter {
    /// Look-ups (not sent any more).
    Searched,
    /// Look-ups that found an entry.
    Found,
    /// Entries made (not sent any more).
    New,
    /// Packets that could not be tracked.
    Invalid,
    /// Packets of entries already known (not sent any more).
    Ignore,
    /// Entries removed (not sent any more).
    Delete,
    /// Entries put on the dying list (not sent any more).
    DeleteList,
    /// Entries put into the table.
    Insert,
    /// Entries that could not be put into the table, as it had one like them.
    InsertFailed,
    /// Packets dropped, as no entry could be made.
    Drop,
    /// Entries removed early to make room.
    EarlyDrop,
    /// ICMP packets that could not be tracked.
    Error,
    /// Look-ups that began anew, as the table changed meanwhile.
    SearchRestart,
    /// Clashes that were resolved.
    ClashResolve,
    /// Entries refused for too long a hash chain.
    ChainTooLong,
}

impl CpuCounter {
    /// Every counter, in the order of the kernel's numbers.
    pub const ALL: [Self; 15] = [
        Self::Searched,
        Self::Found,
        Self::New,
        Self::Invalid,
        Self::Ignore,
        Self::Delete,
        Self::DeleteList,
        Self::Insert,
        Self::InsertFailed,
        Self::Drop,
        Self::EarlyDrop,
        Self::Error,
        Self::SearchRestart,
        Self::ClashResolve,
        Self::ChainTooLong,
    ];

    /// The name that `conntrack -S` shows.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Searched => "searched",
            Self::Found => "found",
            Self::New => "new",
            Self::Invalid => "invalid",
            Self::Ignore => "ignore",
            Self::Delete => "delete",
            Self::DeleteList => "delete_list",
            Self::Insert => "insert",
            Self::InsertFailed => "insert_failed",
            Self::Drop => "drop",
            Self::EarlyDrop => "early_drop",
            Self::Error => "error",
            Self::SearchRestart => "search_restart",
            Self::ClashResolve => "clash_resolve",
            Self::ChainTooLong => "chaintoolong",
        }
    }
}

/// The counters of one CPU since boot; each wraps at 32 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuStats {
    /// Number of the CPU.
    pub cpu: u16,
    /// One value for each of [`CpuCounter::ALL`], if the kernel sent it.
    pub counters: [Option<u32>; CpuCounter::ALL.len()],
}

impl CpuStats {
    /// One counter, if the kernel sent it.
    #[must_use]
    pub fn get(&self, counter: CpuCounter) -> Option<u32> {
        self.counters.get(counter as usize).copied().flatten()
    }

    /// Reads what follows the netlink header.
    ///
    /// # Errors
    /// When the bytes are cut short or a counter has not 32 bits.
    pub fn parse(payload: &[u8]) -> Result<Self, Error> {
        let (nfgen, attributes) = Nfgen::split(payload)?;
        Ok(Self { cpu: nfgen.res_id, counters: be32_fields(attributes)? })
    }

    /// Writes the counters that are there.
    ///
    /// # Errors
    /// [`Full`] when they do not fit.
    pub fn emit(&self, w: &mut AttributeWriter<'_, '_>) -> Result<(), Full> {
        w.be32_fields(&self.counters)
    }
}

/// What one CPU did with expectations since boot; each counter wraps at 32 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExpectCpuStats {
    /// Number of the CPU.
    pub cpu: u16,
    /// Flows that an expectation had announced.
    pub new: Option<u32>,
    /// Expectations made.
    pub create: Option<u32>,
    /// Expectations removed.
    pub delete: Option<u32>,
}

impl ExpectCpuStats {
    /// Reads what follows the netlink header.
    ///
    /// # Errors
    /// When the bytes are cut short or a counter has not 32 bits.
    pub fn parse(payload: &[u8]) -> Result<Self, Error> {
        let (nfgen, attributes) = Nfgen::split(payload)?;
        let [new, create, delete] = be32_fields(attributes)?;
        Ok(Self { cpu: nfgen.res_id, new, create, delete })
    }

    /// Writes the counters that are there.
    ///
    /// # Errors
    /// [`Full`] when they do not fit.
    pub fn emit(&self, w: &mut AttributeWriter<'_, '_>) -> Result<(), Full> {
        w.be32_fields(&[self.new, self.create, self.delete])
    }
}

/// The whole table of this network namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GlobalStats {
    /// Entries, those that are dying included.
    pub entries: Option<u32>,
    /// The most there may be (`nf_conntrack_max`), from Linux 5.13 on.
    pub max_entries: Option<u32>,
}

impl GlobalStats {
    /// Reads what follows the netlink header.
    ///
    /// # Errors
    /// When the bytes are cut short or a value has not 32 bits.
    pub fn parse(payload: &[u8]) -> Result<Self, Error> {
        let (_, attributes) = Nfgen::split(payload)?;
        let [entries, max_entries] = be32_fields(attributes)?;
        Ok(Self { entries, max_entries })
    }

    /// Writes the values that are there.
    ///
    /// # Errors
    /// [`Full`] when they do not fit.
    pub fn emit(&self, w: &mut AttributeWriter<'_, '_>) -> Result<(), Full> {
        w.be32_fields(&[self.entries, self.max_entries])
    }
}

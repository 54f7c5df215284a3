//! How a restore went, in numbers.

use crate::wire::Error;

/// Why the kernel refused.
///
/// One variant is one counter: see [`Refusal::ALL`] and [`Refusal::index`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// EEXIST: a live flow has one of its tuples, and stays as it is.
    Exists,
    /// EOPNOTSUPP: no helper of that name.
    NoHelper,
    /// ENOENT: no master.
    NoMaster,
    /// ENOMEM, ENOSPC, ENOBUFS, EMFILE: the table (or a chain of it) is full.
    Full,
    /// EPERM, EACCES: no `CAP_NET_ADMIN`.
    Denied,
    /// Anything else; [`Tally::others`] has the numbers.
    Other,
}

impl Refusal {
    /// Every variant, in the order of [`Refusal::index`].
    pub const ALL: [Self; 6] =
        [Self::Exists, Self::NoHelper, Self::NoMaster, Self::Full, Self::Denied, Self::Other];

    /// What the error number of an answer means.
    #[must_use]
    pub const fn of(errno: i32) -> Self {
        match errno {
            libc::EEXIST => Self::Exists,
            libc::EOPNOTSUPP => Self::NoHelper,
            libc::ENOENT => Self::NoMaster,
            libc::ENOMEM | libc::ENOSPC | libc::ENOBUFS | libc::EMFILE => Self::Full,
            libc::EPERM | libc::EACCES => Self::Denied,
            _ => Self::Other,
        }
    }

    /// Place in [`Refusal::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Name of the counter: lower case, words joined by `_`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Exists => "exists",
            Self::NoHelper => "no_helper",
            Self::NoMaster => "no_master",
            Self::Full => "table_full",
            Self::Denied => "denied",
            Self::Other => "refused_otherwise",
        }
    }
}

/// Error numbers that are told apart among [`Refusal::Other`].
const OTHERS: usize = 4;

/// Numbers of a restore, of flows or of expectations: created, timed out, refused and beyond the
/// capacity together are all that there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Made by the kernel.
    pub created: u32,
    /// Not asked for: timed out between the checkpoint and now.
    pub timed_out: u32,
    /// Refused for good, by [`Refusal::index`].
    pub refused: [u32; Refusal::ALL.len()],
    /// Not asked for: the source had more than it was said to have.
    pub beyond_capacity: u32,
    /// Asked for once more without the helper, which this kernel does not have.
    pub without_helper: u32,
    /// Asked for once more without the master, which does not live.
    pub without_master: u32,
    /// Error numbers of [`Refusal::Other`] and how often each came, the first that came first; 0
    /// times is none. More kinds than there is room for are counted in `refused` alone.
    pub others: [(i32, u32); OTHERS],
    /// Answers that could not be read, by [`Error::index`].
    pub malformed: [u32; Error::ALL.len()],
}

impl Tally {
    /// How many were refused for good.
    #[must_use]
    pub fn refusals(&self) -> u32 {
        self.refused.iter().fold(0, |sum, &count| sum.saturating_add(count))
    }

    /// How many were refused for this reason.
    #[must_use]
    pub fn refused_as(&self, why: Refusal) -> u32 {
        self.refused.get(why.index()).copied().unwrap_or(0)
    }

    /// Every counter, its name and its value.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, u32)> + '_ {
        let first = [
            ("created", self.created),
            ("timed_out", self.timed_out),
            ("beyond_capacity", self.beyond_capacity),
            ("without_helper", self.without_helper),
            ("without_master", self.without_master),
        ];
        first
            .into_iter()
            .chain(Refusal::ALL.into_iter().map(|why| (why.name(), self.refused_as(why))))
    }

    pub(super) fn note_refusal(&mut self, errno: i32) {
        let why = Refusal::of(errno);
        if let Some(count) = self.refused.get_mut(why.index()) {
            *count = count.saturating_add(1);
        }
        if why == Refusal::Other {
            let place =
                self.others.iter_mut().find(|(number, count)| *count == 0 || *number == errno);
            if let Some((number, count)) = place {
                *number = errno;
                *count = count.saturating_add(1);
            }
        }
    }

    pub(super) fn note_malformed(&mut self, error: Error) {
        if let Some(count) = self.malformed.get_mut(error.index()) {
            *count = count.saturating_add(1);
        }
    }
}

//! What the sinks and the `events` stream are told: one record for each thing that happened to a
//! flow.
//!
//! A record is a plain value; how it is written out is [`json`]'s business. The key of a record
//! makes repeats harmless: the same end of the same flow always has the same key.

pub mod json;
mod key;
pub mod stored;
pub mod text;

pub use key::{RecordKey, RecordKeys};

use crate::table::{HelperName, L4State};
use crate::wire::{Counters, Labels, Status, Tuple};

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A flow began.
    New,
    /// A flow changed.
    Update,
    /// A flow ended: the only kind that reliable sinks are given.
    Destroy,
    /// Nothing: the flow lives, and somebody asked.
    Flow,
}

impl Kind {
    /// The word for it in records.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Update => "update",
            Self::Destroy => "destroy",
            Self::Flow => "flow",
        }
    }
}

/// How it became known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The kernel said so.
    Event,
    /// A dump no longer showed the flow: the counters are the last known ones.
    Resync,
    /// As with a resync, but nobody listened meanwhile: the daemon was started anew.
    Restart,
}

impl Cause {
    /// The word for it in records.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Resync => "resync",
            Self::Restart => "restart",
        }
    }

    /// The cause that the two lowest bits stand for.
    pub(crate) const fn from_bits(bits: u32) -> Self {
        match bits & 3 {
            0 => Self::Event,
            1 => Self::Resync,
            _ => Self::Restart,
        }
    }
}

/// One thing that happened to one flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// What happened.
    pub kind: Kind,
    /// How it became known.
    pub cause: Cause,
    /// Identifies the flow for ever, if its start is known, or weakly, if it is not.
    pub key: RecordKey,
    /// Identifies the flow among those that live: for events before the start is known.
    pub flow: u64,
    /// Identifies the flow over all boots, if it was carried over one: see
    /// [`checkpoint::account`](crate::checkpoint::account).
    pub account: Option<u64>,
    /// Start, wall clock in nanoseconds.
    pub start_ns: Option<u64>,
    /// End, wall clock in nanoseconds. When the end was not seen: when it was noticed.
    pub end_ns: Option<u64>,
    /// If the end was not seen: when the counters were last told, or, where none ever were, when
    /// the flow was last known to live.
    pub as_of_ns: Option<u64>,
    /// Original tuple.
    pub orig: Tuple,
    /// Reply tuple.
    pub reply: Tuple,
    /// Both directions' counters, if the kernel counts; original and reply.
    pub counters: Option<[Counters; 2]>,
    /// The counters are a lower bound.
    pub inexact: bool,
    /// Zone of the original direction.
    pub zone: u16,
    /// Mark.
    pub mark: u32,
    /// `CTA_ID`.
    pub id: u32,
    /// Status bits.
    pub status: Status,
    /// Seconds until the flow times out, if it lives and that is known.
    pub timeout_s: Option<u32>,
    /// TCP or SCTP state.
    pub l4_state: Option<L4State>,
    /// The helper that was attached.
    pub helper: Option<HelperName>,
    /// Labels.
    pub labels: Option<Labels>,
}

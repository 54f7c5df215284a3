//! What is saved of one flow, and of one expectation.

use crate::filter::FlowFacts;
use crate::record::RecordKeys;
use crate::table::{Extension, HelperName, Key, L4State, padded};
use crate::time::NANOS_PER_MILLI;
use crate::wire::{Counters, Expect, ExpectNat, Protocol, Status, Tuple};

/// A flow as a checkpoint keeps it: all that is needed to make it again in the kernel, and to go on
/// with its account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SavedFlow {
    /// Original tuple.
    pub orig: Tuple,
    /// Reply tuple, as the kernel told it: translated if the flow is.
    pub reply: Tuple,
    /// Zone of the original direction.
    pub zone: u16,
    /// The zone is of the original direction alone; that of the reply direction stands in
    /// [`rare`](Self::rare).
    pub zone_orig_only: bool,
    /// Status bits, as the kernel told them.
    pub status: Status,
    /// Mark.
    pub mark: u32,
    /// Seconds until the flow times out, at the time of the checkpoint. None for a flow whose
    /// timeout the kernel never told (offloaded since its beginning).
    pub timeout_s: Option<u32>,
    /// TCP or SCTP state.
    pub l4_state: Option<L4State>,
    /// All that was ever counted, over all boots; none if the kernel does not count.
    pub counters: Option<[Counters; 2]>,
    /// The counters are a lower bound.
    pub inexact: bool,
    /// Start over all boots, wall clock in milliseconds; none if it is not known.
    pub start_ms: Option<u64>,
    /// The rare attributes.
    pub rare: Extension,
}

impl SavedFlow {
    /// What a filter looks at.
    #[must_use]
    pub fn facts(&self) -> FlowFacts<'_> {
        let tcp = self.orig.proto == Protocol::TCP;
        FlowFacts {
            family: if self.orig.src.is_ipv6() { 6 } else { 4 },
            orig: &self.orig,
            reply: &self.reply,
            zone: self.zone,
            mark: self.mark,
            status: self.status,
            tcp_state: self.l4_state.filter(|_| tcp).map(|state| state.state),
            labels: self.rare.labels,
        }
    }

    /// Which account the flow goes on with: see [`account`].
    #[must_use]
    pub fn account(&self) -> Option<u64> {
        self.start_ms.map(|start_ms| account(&self.orig, self.zone, start_ms))
    }
}

/// Identifies a flow over all boots: as the key of a record is computed, of the all-zero boot id
/// and the start rounded down to milliseconds. So anybody can compute it of any record with a start.
#[must_use]
pub fn account(orig: &Tuple, zone: u16, start_ms: u64) -> u64 {
    // The seed is for the table alone; a key's words are the same with any.
    let key = Key::new(orig, zone, [0; 2]);
    RecordKeys::new([0; 16]).key(&key, Some(start_ms.saturating_mul(NANOS_PER_MILLI))).value()
}

/// The name of a function that sets an expected flow up, NUL padded. The kernel's longest is
/// `nat-follow-master`.
pub type FunctionName = [u8; 24];

/// An expectation as a checkpoint keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SavedExpect {
    /// Original tuple of the flow whose helper announced it.
    pub master: Tuple,
    /// What is expected.
    pub tuple: Tuple,
    /// Which bits of it must agree.
    pub mask: Tuple,
    /// Zone.
    pub zone: u16,
    /// Seconds until it times out, at the time of the checkpoint.
    pub timeout_s: u32,
    /// `NF_CT_EXPECT_*`.
    pub flags: u32,
    /// The helper's own kind of expectation.
    pub class: u32,
    /// The helper's name.
    pub helper: Option<HelperName>,
    /// Name of the function that sets the expected flow up, NUL padded.
    pub function: Option<FunctionName>,
    /// How the expected flow will be translated: direction and tuple.
    pub nat: Option<(u32, Tuple)>,
}

impl SavedExpect {
    /// What is saved of an expectation that the kernel told of; none if it told too little.
    #[must_use]
    pub fn of(expect: &Expect<'_>) -> Option<Self> {
        Some(Self {
            master: expect.master?,
            tuple: expect.tuple?,
            mask: expect.mask?,
            zone: expect.zone.unwrap_or(0),
            timeout_s: expect.timeout_s.unwrap_or(0),
            flags: expect.flags.unwrap_or(0),
            class: expect.class.unwrap_or(0),
            helper: expect.help_name.map(padded),
            function: expect.function.map(padded),
            nat: expect.nat.map(|ExpectNat { dir, tuple }| (dir, tuple)),
        })
    }
}

//! What the hosts themselves sent and received, flow by flow, and the comparison with anybody
//! else's account of the same flows.
//!
//! The comparison forgives nothing: every flow of the ledger must be told exactly once, with the
//! translated reply tuple that the WAN host saw and with the packets and bytes that each side
//! sent; nothing else may be told.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use super::account::Both;
use super::ctnetlink::Entry;
use super::tuple::{Count, Tuple};

/// One flow as the hosts know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Original direction, as the LAN host and the router see it.
    pub orig: Tuple,
    /// Reply direction as the WAN host sends it: to the router's address after masquerade.
    pub reply: Tuple,
    /// The LAN host's books.
    pub lan: Both,
    /// The WAN host's books.
    pub wan: Both,
    /// When its first packet was due, since 1970.
    pub start: Duration,
    /// When its last packet was acknowledged, since 1970.
    pub end: Duration,
}

/// The flows of a run.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// Every flow, in the order of their ends.
    pub flows: Vec<Flow>,
    /// Packets at the hosts that belong to no flow of the run: tuple and counts.
    pub strays: Vec<(Tuple, Both)>,
}

/// A flow as somebody else tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// Original direction.
    pub orig: Tuple,
    /// Reply direction.
    pub reply: Tuple,
    /// Packets and bytes of the original direction; absent when not accounted.
    pub orig_count: Option<Count>,
    /// Packets and bytes of the reply direction.
    pub reply_count: Option<Count>,
}

impl From<&Entry> for Told {
    fn from(entry: &Entry) -> Self {
        Self {
            orig: entry.orig,
            reply: entry.reply,
            orig_count: entry.orig_count,
            reply_count: entry.reply_count,
        }
    }
}

/// Where two accounts differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    /// The hosts made this flow; nobody told it.
    Missing(Tuple),
    /// Told, and the hosts did not make it.
    Unknown(Tuple),
    /// Told more than once.
    Repeated(Tuple),
    /// Told with another reply tuple.
    Reply {
        /// The flow.
        orig: Tuple,
        /// As the WAN host saw it.
        hosts: Tuple,
        /// As told.
        told: Tuple,
    },
    /// Told with other counts.
    Counts {
        /// The flow.
        orig: Tuple,
        /// Whether the reply direction differs.
        reply: bool,
        /// What the host sent.
        hosts: Count,
        /// As told; absent when told without counts.
        told: Option<Count>,
    },
    /// The hosts' own books disagree: packets were lost between them.
    Lost {
        /// The flow.
        orig: Tuple,
        /// Sent by one host.
        sent: Count,
        /// Received by the other.
        received: Count,
    },
    /// Packets that belong to no flow of the run.
    Stray(Tuple),
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(orig) => write!(f, "{orig}: not told"),
            Self::Unknown(orig) => write!(f, "{orig}: told, but no host made it"),
            Self::Repeated(orig) => write!(f, "{orig}: told more than once"),
            Self::Reply { orig, hosts, told } => {
                write!(f, "{orig}: reply is {hosts}, told {told}")
            }
            Self::Counts { orig, reply, hosts, told } => {
                let side = if *reply { "reply" } else { "original" };
                write!(f, "{orig}: {side} sent {hosts}, told ")?;
                match told {
                    Some(told) => write!(f, "{told}"),
                    None => write!(f, "nothing"),
                }
            }
            Self::Lost { orig, sent, received } => {
                write!(f, "{orig}: sent {sent}, received {received}")
            }
            Self::Stray(tuple) => write!(f, "{tuple}: packets of no known flow"),
        }
    }
}

impl Ledger {
    /// Everything that the hosts of one side sent: (LAN, WAN).
    #[must_use]
    pub fn sum(&self) -> (Count, Count) {
        let mut sum = (Count::default(), Count::default());
        for flow in &self.flows {
            sum.0 += flow.lan.sent;
            sum.1 += flow.wan.sent;
        }
        sum
    }

    /// The ledger of two runs.
    pub fn append(&mut self, other: Self) {
        self.flows.extend(other.flows);
        self.strays.extend(other.strays);
    }

    /// Whether the hosts agree among themselves: what one sent, the other received.
    #[must_use]
    pub fn inner_differences(&self) -> Vec<Difference> {
        let lost = self.flows.iter().flat_map(|flow| {
            [(flow.lan.sent, flow.wan.received), (flow.wan.sent, flow.lan.received)]
                .into_iter()
                .filter(|(sent, received)| sent != received)
                .map(|(sent, received)| Difference::Lost { orig: flow.orig, sent, received })
        });
        lost.chain(self.strays.iter().map(|(tuple, _)| Difference::Stray(*tuple))).collect()
    }

    /// Every difference between this ledger and what somebody else told of the same flows, and
    /// among the hosts themselves. Empty means: equal, flow by flow and so in sum.
    #[must_use]
    pub fn check<T: Into<Told>>(&self, told: impl IntoIterator<Item = T>) -> Vec<Difference> {
        let mut differences = self.inner_differences();
        let mut open: HashMap<Tuple, (&Flow, bool)> =
            self.flows.iter().map(|flow| (flow.orig, (flow, false))).collect();
        for told in told.into_iter().map(Into::into) {
            match open.get_mut(&told.orig) {
                None => differences.push(Difference::Unknown(told.orig)),
                Some((_, seen)) if *seen => differences.push(Difference::Repeated(told.orig)),
                Some((flow, seen)) => {
                    *seen = true;
                    compare(flow, &told, &mut differences);
                }
            }
        }
        let missing = self.flows.iter().filter(|flow| open.get(&flow.orig).is_none_or(|o| !o.1));
        differences.extend(missing.map(|flow| Difference::Missing(flow.orig)));
        differences
    }
}

fn compare(flow: &Flow, told: &Told, differences: &mut Vec<Difference>) {
    let orig = flow.orig;
    if flow.reply != told.reply {
        differences.push(Difference::Reply { orig, hosts: flow.reply, told: told.reply });
    }
    for (reply, hosts, told) in
        [(false, flow.lan.sent, told.orig_count), (true, flow.wan.sent, told.reply_count)]
    {
        if told != Some(hosts) {
            differences.push(Difference::Counts { orig, reply, hosts, told });
        }
    }
}

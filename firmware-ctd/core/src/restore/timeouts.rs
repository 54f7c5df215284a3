//! How long a restored flow may live.

use super::recipe::tcp_state;
use crate::checkpoint::SavedFlow;
use crate::wire::{Protocol, Status};

/// How long restored flows live, by what was saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Seconds that went by since the checkpoint; 0 where nobody knows.
    pub age_s: u32,
    /// Most seconds that a flow gets. Flows that go on are soon given the kernel's own timeout by
    /// their packets, those that ended meanwhile shall not stay for five days.
    pub cap_s: u32,
}

impl Timeouts {
    /// Seconds that `flow` still has, from 1 on; none if it has timed out.
    ///
    /// The kernel tells no timeout of a flow that is offloaded: it gets the kernel's default for
    /// its protocol and state.
    #[must_use]
    pub fn of(&self, flow: &SavedFlow) -> Option<u32> {
        let saved_s = flow.timeout_s.unwrap_or_else(|| default_s(flow));
        self.remaining(saved_s)
    }

    /// Of a timeout of `saved_s` seconds, what is left; none if that is nothing.
    pub(super) fn remaining(&self, saved_s: u32) -> Option<u32> {
        let left_s = saved_s.saturating_sub(self.age_s).min(self.cap_s);
        Some(left_s).filter(|&left_s| left_s > 0)
    }
}

/// `tcp_timeouts` of `nf_conntrack_proto_tcp.c` by `enum tcp_conntrack`.
const TCP_S: [u32; 10] = [60, 120, 60, 432_000, 120, 60, 30, 120, 10, 120];
/// `sctp_timeouts` of `nf_conntrack_proto_sctp.c` by `enum sctp_conntrack`.
const SCTP_S: [u32; 9] = [30, 3, 3, 3, 210, 3, 3, 3, 30];
const GENERIC_S: u32 = 600;

/// Linux's default timeout for the flow's protocol and state, in seconds.
fn default_s(flow: &SavedFlow) -> u32 {
    let pick = |assured_s, fresh_s| {
        if flow.status.has(Status::ASSURED) { assured_s } else { fresh_s }
    };
    let by_state =
        |table: &[u32], state: u8| table.get(usize::from(state)).copied().unwrap_or(GENERIC_S);
    match flow.orig.proto {
        Protocol::TCP => by_state(&TCP_S, tcp_state(flow).state),
        Protocol::SCTP => by_state(&SCTP_S, flow.l4_state.map_or(0, |l4| l4.state)),
        Protocol::UDP | Protocol::UDPLITE => pick(120, 30),
        Protocol::GRE => pick(180, 30),
        Protocol::ICMP | Protocol::ICMPV6 => 30,
        _ => GENERIC_S,
    }
}

//! How a saved flow is asked for, so that the kernel really makes it as it was.
//!
//! What the kernel takes without a word and does otherwise (seen on Linux 6.18 where nothing else is
//! said):
//!
//! * A reply tuple that is already translated gives an entry that looks right and translates
//!   nothing. So the reply tuple is the plain inverse, and what the saved one differs by stands in
//!   `CTA_NAT_SRC` and `CTA_NAT_DST`, each exactly one address and port.
//! * A direction without its `CTA_NAT_*`, beside one that has it, gets a binding in which the
//!   kernel may choose another port if its own is taken. So a translated flow always has both; one
//!   that changes nothing sets no status bit.
//! * Window scales are taken only if both directions have the flag `WINDOW_SCALE`.
//! * `MAXACK_SET` and `DATA_UNACKNOWLEDGED` are taken, but the sequence numbers that they speak of
//!   (`td_maxack`, `td_end`) cannot be given and stay 0. By the source an RST would then be measured
//!   against 0, and a timeout stay short; so neither is asked for. The kernel sets both anew with
//!   the next packets.
//! * SCTP state without both verification tags is EINVAL.
//!
//! Source: `ctnetlink_create_conntrack`, `nlattr_to_tcp`, `nlattr_to_sctp`, `nf_nat_setup_info`,
//! `tcp_in_window`.

use super::timeouts::Timeouts;
use crate::checkpoint::SavedFlow;
use crate::table::{HelperName, L4State};
use crate::wire::{
    Conntrack, Helper, L4, NatRange, ProtoInfo, Protocol, Sctp, Status, Tcp, TcpFlags, TcpState,
    Tuple,
};

/// Status bits that are asked for as saved. `CONFIRMED` is always asked for (EBUSY without); all
/// others the kernel sets itself by what else is in the request, or refuses.
const STATUS: u32 = Status::SEEN_REPLY | Status::ASSURED | Status::FIXED_TIMEOUT;
const NAT: u32 = Status::SRC_NAT | Status::DST_NAT;
/// TCP flags that are asked for as saved.
const TCP_FLAGS: u8 = TcpFlags::WINDOW_SCALE | TcpFlags::SACK_PERM | TcpFlags::CLOSE_INIT;
/// TCP flags that a request says anything about.
const TCP_MASK: u8 = TCP_FLAGS | TcpFlags::BE_LIBERAL;

/// What is left out of a request because the kernel did not take it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Without {
    /// The helper: this kernel has none of that name.
    pub helper: bool,
    /// The master: there is no such flow.
    pub master: bool,
}

/// The request ([`create`](crate::wire::request::create)) that makes a saved flow; none if it
/// timed out meanwhile.
#[must_use]
pub fn request<'a>(
    flow: &'a SavedFlow,
    timeouts: &Timeouts,
    without: Without,
) -> Option<Conntrack<'a>> {
    let timeout_s = timeouts.of(flow)?;
    let (nat_src, nat_dst) = translation(&flow.orig, &flow.reply, flow.status);
    let rare = &flow.rare;
    Some(Conntrack {
        orig: Some(flow.orig),
        reply: Some(flow.orig.inverse()),
        master: rare.master.filter(|_| !without.master),
        zone: Some(flow.zone).filter(|&zone| zone != 0 && !flow.zone_orig_only),
        zone_orig: Some(flow.zone).filter(|&zone| zone != 0 && flow.zone_orig_only),
        zone_reply: rare.zone_reply.filter(|&zone| zone != 0),
        status: Some(Status(Status::CONFIRMED | flow.status.0 & STATUS)),
        protoinfo: protoinfo(flow),
        timeout_s: Some(timeout_s),
        mark: Some(flow.mark).filter(|&mark| mark != 0),
        helper: rare
            .helper
            .as_ref()
            .filter(|_| !without.helper)
            .map(|name| Helper { name: text(name), info: None }),
        labels: rare.labels,
        nat_src,
        nat_dst,
        seqadj_orig: rare.seqadj_orig,
        seqadj_reply: rare.seqadj_reply,
        synproxy: rare.synproxy,
        ..Conntrack::default()
    })
}

/// The text of a NUL padded name.
pub(super) fn text(name: &HelperName) -> &[u8] {
    name.split(|&byte| byte == 0).next().unwrap_or_default()
}

/// What makes `reply` of the inverse of `orig`: `CTA_NAT_SRC` and `CTA_NAT_DST`, both or neither.
fn translation(
    orig: &Tuple,
    reply: &Tuple,
    status: Status,
) -> (Option<NatRange>, Option<NatRange>) {
    if same_ends(&orig.inverse(), reply) {
        return (None, None);
    }
    let (src_port, dst_port) = match (orig.l4, reply.l4) {
        (L4::Ports { .. }, L4::Ports { src, dst }) => (Some(dst), Some(src)),
        // There is one identifier, and the kernel translates the destination first. Who changes it
        // is known from the status alone.
        (L4::Icmp { id, .. }, L4::Icmp { id: new, .. }) => {
            let by_destination = status.0 & NAT == Status::DST_NAT;
            (Some(new), Some(if by_destination { new } else { id }))
        }
        _ => (None, None),
    };
    let exactly = |ip, port| Some(NatRange::exactly(ip, port));
    (exactly(reply.dst, src_port), exactly(reply.src, dst_port))
}

/// Whether addresses and ports (or the identifier) are the same. ICMP types that have no answer of
/// their own are none of a translation's business.
fn same_ends(a: &Tuple, b: &Tuple) -> bool {
    let l4 = match (a.l4, b.l4) {
        (L4::Icmp { id, .. }, L4::Icmp { id: other, .. }) => id == other,
        (one, other) => one == other,
    };
    l4 && (a.src, a.dst) == (b.src, b.dst)
}

fn protoinfo(flow: &SavedFlow) -> ProtoInfo {
    match flow.orig.proto {
        Protocol::TCP => ProtoInfo::Tcp(tcp(flow)),
        Protocol::SCTP => flow.l4_state.map_or(ProtoInfo::None, |l4| {
            let [orig, reply] = flow.rare.vtags.unwrap_or_default();
            ProtoInfo::Sctp(Sctp {
                state: Some(l4.state),
                vtag_orig: Some(orig),
                vtag_reply: Some(reply),
            })
        }),
        _ => ProtoInfo::None,
    }
}

fn tcp(flow: &SavedFlow) -> Tcp {
    let l4 = tcp_state(flow);
    let flags = |saved: u8| {
        Some(TcpFlags { flags: saved & TCP_FLAGS | TcpFlags::BE_LIBERAL, mask: TCP_MASK })
    };
    let scaled = l4.flags_orig & l4.flags_reply & TcpFlags::WINDOW_SCALE != 0;
    let scale = |nibble: u8| Some(nibble).filter(|_| scaled);
    Tcp {
        state: Some(TcpState(l4.state)),
        wscale_orig: scale(l4.wscales & 15),
        wscale_reply: scale(l4.wscales >> 4),
        flags_orig: flags(l4.flags_orig),
        flags_reply: flags(l4.flags_reply),
    }
}

/// The saved state. The kernel tells none of an offloaded flow: such a one is established, and of
/// one that never had an answer only the SYN was seen.
pub(super) fn tcp_state(flow: &SavedFlow) -> L4State {
    flow.l4_state.unwrap_or_else(|| {
        let established = flow.status.has(Status::SEEN_REPLY);
        let state = if established { TcpState::ESTABLISHED } else { TcpState::SYN_SENT };
        L4State { state: state.0, ..L4State::default() }
    })
}

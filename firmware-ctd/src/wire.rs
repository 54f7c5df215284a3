//! ctnetlink messages, parsed and emitted.
//!
//! Two levels, as in smoltcp: checked views over bytes ([`nlmsg`], [`nla`]) and plain values
//! ([`Conntrack`], [`Tuple`], ...) that the rest of the program works with. Nothing allocates;
//! what a value cannot own it borrows from the received bytes.
//!
//! Byte order is right by construction: netlink headers and attribute headers are in host order
//! and are touched only in [`nlmsg`] and [`nla`]; every ctnetlink value is big-endian on the wire
//! and in host order in these types.
//!
//! Attributes that are not known are skipped, values that are not known are kept as numbers.
//! Input that cannot be right (truncated, overlong, wrongly nested) gives an [`Error`], which the
//! caller counts; nothing panics.
//!
//! Source: `include/uapi/linux/netlink.h`, `netfilter/nfnetlink.h`,
//! `netfilter/nfnetlink_conntrack.h`, and what Linux 6.18 sends.

mod conntrack;
mod tuple;

pub use conntrack::{
    Conntrack, Counters, Dccp, Family, Helper, Labels, NatRange, ProtoInfo, Sctp, SeqAdj, Status,
    SynProxy, Tcp, TcpFlags, TcpState,
};
pub use tuple::{L4, Protocol, Tuple};

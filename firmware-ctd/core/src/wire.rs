//! ctnetlink messages, parsed and emitted.
//!
//! Two levels, as in smoltcp: checked views over bytes ([`nlmsg`], [`nla`]) and plain values
//! ([`Conntrack`], [`Tuple`], ...) that the rest of the program works with. Nothing allocates;
//! what a value cannot own it borrows from the received bytes.
//!
//! Byte order is right by construction: netlink headers and attribute headers are in host order
//! and are touched only in [`nlmsg`] and [`nla`]; every ctnetlink value is big-endian on the wire
//! and in host order in these types. The kernel has two exceptions, [`Labels`] and the flags of a
//! [`Filter`], which it keeps in its own order.
//!
//! Attributes that are not known are skipped, values that are not known are kept as numbers.
//! Input that cannot be right (truncated, overlong, wrongly nested) gives an [`Error`], which the
//! caller counts; nothing panics.
//!
//! Source: `include/uapi/linux/netlink.h`, `netfilter/nfnetlink.h`,
//! `netfilter/nfnetlink_conntrack.h`, and what Linux 6.18 sends.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::std_instead_of_core)]

pub(crate) mod bytes;
mod conntrack;
mod error;
mod expect;
mod extension;
mod filter;
mod message;
mod nat;
pub mod nla;
pub mod nlmsg;
mod protoinfo;
pub mod request;
mod response;
pub mod route;
mod stats;
mod tuple;

pub use conntrack::{Conntrack, Family, Status};
pub use error::{Error, Full};
pub use expect::{Expect, ExpectNat};
pub use extension::{Counters, Helper, Labels, SeqAdj, SynProxy};
pub use filter::{Filter, TupleFilter};
pub use message::{Event, Message};
pub use nat::NatRange;
pub use nlmsg::{Header, Messages, RawMessage, Writer};
pub use protoinfo::{Dccp, ProtoInfo, Sctp, Tcp, TcpFlags, TcpState};
pub use response::{Done, Response};
pub use stats::{CpuCounter, CpuStats, ExpectCpuStats, GlobalStats};
pub use tuple::{L4, Protocol, Tuple};

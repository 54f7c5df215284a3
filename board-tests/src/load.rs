//! A load of conntrack events, made through ctnetlink.
//!
//! [`Flows`] describes which flows by arithmetic, so that a checker can tell afterwards every
//! flow that was made without having kept a list. [`Loader`] creates and deletes them in batches:
//! hundreds of requests in one `sendmsg`, an acknowledgement asked for the last one only, refusals
//! (which the kernel sends anyway) told apart by their sequence numbers. [`Tally`] says exactly
//! what was done and what was refused.
//!
//! It decides nothing about listeners, namespaces or measures: a loader works in the network
//! namespace of the thread that opened it. At most 65,536 requests go into one batch.
//!
//! Source: `net/netfilter/nf_conntrack_netlink.c` (`ctnetlink_new_conntrack`,
//! `ctnetlink_del_conntrack`), `net/netlink/af_netlink.c` (`netlink_rcv_skb`).

mod flows;
mod loader;
mod request;
pub mod sys;

pub use flows::{Families, Flows, Transport};
pub use loader::{Loader, Refusal, Tally};

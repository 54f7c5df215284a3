//! Requests to ctnetlink.
//!
//! Each function appends one message to a [`Writer`]; `seq` comes back in the answers. Without an
//! acknowledgement asked for, the kernel answers refusals only. Never `CTRZERO`: other readers
//! rely on the counters too.
//!
//! What the kernel takes is its business: a request that it refuses gives an errno in a
//! [`super::Response`]. Decided here is only what goes on the wire.
//!
//! Source: `net/netfilter/nf_conntrack_netlink.c`.

use super::conntrack::{Conntrack, Family, cta};
use super::error::Full;
use super::expect::Expect;
use super::filter::Filter;
use super::message::{header, kind};
use super::nla::AttributeWriter;
use super::nlmsg::{Nfgen, Writer, flags};
use super::tuple::Tuple;

/// How [`create`] deals with an entry that is there, and what it answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CreateFlags {
    /// Answer with an acknowledgement also when it went well.
    pub ack: bool,
    /// Refuse (EEXIST) when the entry is there; otherwise it is updated.
    pub exclusive: bool,
}

impl CreateFlags {
    const fn bits(self) -> u16 {
        let exclusive = if self.exclusive { flags::EXCL } else { 0 };
        flags::CREATE | exclusive | ack_bit(self.ack)
    }
}

/// Lists all entries of a family, `Unspec` for both.
///
/// # Errors
/// [`Full`] when it does not fit; so do all functions here.
pub fn dump(w: &mut Writer<'_>, seq: u32, family: Family) -> Result<(), Full> {
    plain(w, kind::CT_GET, flags::DUMP, seq, family)
}

/// Lists the entries that the kernel finds to agree with `filter`.
pub fn dump_filtered(w: &mut Writer<'_>, seq: u32, filter: &Filter) -> Result<(), Full> {
    send(w, (kind::CT_GET, flags::DUMP, seq), filter.family, |w| filter.emit(w))
}

/// Lists the destroyed entries whose event the kernel could not yet deliver.
pub fn get_dying(w: &mut Writer<'_>, seq: u32) -> Result<(), Full> {
    plain(w, kind::CT_GET_DYING, flags::DUMP, seq, Family::Unspec)
}

/// Lists the entries that are not yet in the table (always none since Linux 5.19).
pub fn get_unconfirmed(w: &mut Writer<'_>, seq: u32) -> Result<(), Full> {
    plain(w, kind::CT_GET_UNCONFIRMED, flags::DUMP, seq, Family::Unspec)
}

/// Asks for one entry by its original tuple and that tuple's zone: [`Conntrack::zone`] or
/// [`Conntrack::zone_orig`]; `None` for zone 0.
///
/// The one answer has `NLM_F_MULTI` set although no `NLMSG_DONE` follows.
pub fn get(w: &mut Writer<'_>, seq: u32, orig: &Tuple, zone: Option<u16>) -> Result<(), Full> {
    send(w, (kind::CT_GET, 0, seq), orig.family(), |w| {
        orig.emit(w, cta::TUPLE_ORIG, None)?;
        w.optional(zone, |w, zone| w.be16(cta::ZONE, zone))
    })
}

/// Asks for [`super::GlobalStats`].
pub fn get_stats(w: &mut Writer<'_>, seq: u32) -> Result<(), Full> {
    plain(w, kind::CT_GET_STATS, 0, seq, Family::Unspec)
}

/// Lists [`super::CpuStats`], one message for each CPU.
pub fn get_cpu_stats(w: &mut Writer<'_>, seq: u32) -> Result<(), Full> {
    plain(w, kind::CT_GET_STATS_CPU, flags::DUMP, seq, Family::Unspec)
}

/// Makes an entry.
///
/// Wanted: both tuples and a timeout. For a translated flow the reply tuple is the plain
/// [`Tuple::inverse`] and the translation stands in `nat_src` and `nat_dst`.
pub fn create(
    w: &mut Writer<'_>,
    seq: u32,
    flags: CreateFlags,
    ct: &Conntrack<'_>,
) -> Result<(), Full> {
    send(w, (kind::CT_NEW, flags.bits(), seq), ct.header_family(), |w| ct.emit(w))
}

/// Changes an entry that is there.
pub fn update(w: &mut Writer<'_>, seq: u32, ack: bool, ct: &Conntrack<'_>) -> Result<(), Full> {
    send(w, (kind::CT_NEW, ack_bit(ack), seq), ct.header_family(), |w| ct.emit(w))
}

/// Removes one entry by its original tuple and that tuple's zone, as in [`get`]. With `id`, only
/// if the entry has this id.
pub fn delete(
    w: &mut Writer<'_>,
    seq: u32,
    ack: bool,
    orig: &Tuple,
    zone: Option<u16>,
    id: Option<u32>,
) -> Result<(), Full> {
    send(w, (kind::CT_DELETE, ack_bit(ack), seq), orig.family(), |w| {
        orig.emit(w, cta::TUPLE_ORIG, None)?;
        w.optional(zone, |w, zone| w.be16(cta::ZONE, zone))?;
        w.optional(id, |w, id| w.be32(cta::ID, id))
    })
}

/// Removes all entries, or those that agree with `filter`. Asks for an acknowledgement.
pub fn flush(w: &mut Writer<'_>, seq: u32, filter: Option<&Filter>) -> Result<(), Full> {
    let filter = filter.copied().unwrap_or_default();
    send(w, (kind::CT_DELETE, flags::ACK, seq), filter.family, |w| filter.emit(w))
}

/// Asks for an acknowledgement and nothing else: `NLMSG_NOOP`, which the kernel skips but answers.
///
/// Requests of one datagram are carried out in their order, so the answer to this one says that
/// all before it are done, and that every refusal of them has been sent.
pub fn barrier(w: &mut Writer<'_>, seq: u32) -> Result<(), Full> {
    w.message(header(kind::NOOP, flags::REQUEST | flags::ACK, seq), &[], |_| Ok(()))
}

/// Makes an expectation. Wanted: tuple, mask, master and timeout; the master has a helper.
pub fn expect_create(
    w: &mut Writer<'_>,
    seq: u32,
    flags: CreateFlags,
    expect: &Expect<'_>,
) -> Result<(), Full> {
    send(w, (kind::EXP_NEW, flags.bits(), seq), expect.header_family(), |w| expect.emit(w))
}

/// Changes the timeout of an expectation that is there. Wanted: tuple, mask, master and timeout.
pub fn expect_update(
    w: &mut Writer<'_>,
    seq: u32,
    ack: bool,
    expect: &Expect<'_>,
) -> Result<(), Full> {
    let head = (kind::EXP_NEW, ack_bit(ack), seq);
    send(w, head, expect.header_family(), |w| expect.emit(w))
}

/// Removes the expectation of `expect`'s tuple, zone and (if it is there) id.
pub fn expect_delete(
    w: &mut Writer<'_>,
    seq: u32,
    ack: bool,
    expect: &Expect<'_>,
) -> Result<(), Full> {
    let head = (kind::EXP_DELETE, ack_bit(ack), seq);
    send(w, head, expect.header_family(), |w| expect.key().emit(w))
}

/// Asks for the expectation of `expect`'s tuple (or master), zone and (if it is there) id.
///
/// The one answer has `NLM_F_MULTI` set although no `NLMSG_DONE` follows.
pub fn expect_get(w: &mut Writer<'_>, seq: u32, expect: &Expect<'_>) -> Result<(), Full> {
    send(w, (kind::EXP_GET, 0, seq), expect.header_family(), |w| expect.key().emit(w))
}

/// Lists the expectations of a family, `Unspec` for both.
pub fn expect_dump(w: &mut Writer<'_>, seq: u32, family: Family) -> Result<(), Full> {
    plain(w, kind::EXP_GET, flags::DUMP, seq, family)
}

/// Lists [`super::ExpectCpuStats`], one message for each CPU.
pub fn expect_get_cpu_stats(w: &mut Writer<'_>, seq: u32) -> Result<(), Full> {
    plain(w, kind::EXP_GET_STATS_CPU, flags::DUMP, seq, Family::Unspec)
}

const fn ack_bit(ack: bool) -> u16 {
    if ack { flags::ACK } else { 0 }
}

/// A request without attributes.
fn plain(w: &mut Writer<'_>, kind: u16, flags: u16, seq: u32, family: Family) -> Result<(), Full> {
    send(w, (kind, flags, seq), family, |_| Ok(()))
}

/// A request of this type, these flags besides `NLM_F_REQUEST`, and this number.
fn send<'b, F>(
    w: &mut Writer<'b>,
    (kind, flags, seq): (u16, u16, u32),
    family: Family,
    body: F,
) -> Result<(), Full>
where
    F: FnOnce(&mut AttributeWriter<'_, 'b>) -> Result<(), Full>,
{
    let header = header(kind, flags | flags::REQUEST, seq);
    w.netfilter(header, Nfgen::of(family), body)
}

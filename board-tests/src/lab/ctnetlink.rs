//! The kernel's own view of the router's flows: a small ctnetlink reader.
//!
//! Independent of the codec under test on purpose, and much smaller: it reads the tuples, the
//! counters, the status, the id and the times of what the hosts of the lab speak. Flows of other
//! protocols are counted in [`Heard::other`]. Source: `linux/netfilter/nfnetlink_conntrack.h`.

use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::sys::socket::SockProtocol;

use super::error::{Context, LabError};
use super::netlink::{ACKED, DUMP, Netlink, Reply, Request, attrs, head};
use super::netns::Netns;
use super::tuple::{Count, Proto, Tuple};
use super::{nft, sys};

const SUBSYSTEM: u16 = 1 << 8;
const NEW: u16 = SUBSYSTEM;
const GET: u16 = SUBSYSTEM | 1;
const DELETE: u16 = SUBSYSTEM | 2;
const GET_STATS_CPU: u16 = SUBSYSTEM | 4;
/// `NLM_F_CREATE | NLM_F_EXCL`: the event of a new flow.
const CREATED: u16 = 0x400 | 0x200;

/// One conntrack entry as the kernel told it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Original direction.
    pub orig: Tuple,
    /// Reply direction, translated.
    pub reply: Tuple,
    /// Counters of the original direction; absent when accounting is off.
    pub orig_count: Option<Count>,
    /// Counters of the reply direction.
    pub reply_count: Option<Count>,
    /// `CTA_STATUS`, the kernel's bits.
    pub status: u32,
    /// `CTA_ID`.
    pub id: u32,
    /// Start in nanoseconds of the wall clock; absent when timestamps are off.
    pub start_ns: Option<u64>,
    /// End in nanoseconds of the wall clock; only in destroys.
    pub stop_ns: Option<u64>,
    /// `CTA_PROTOINFO_TCP_STATE`.
    pub tcp_state: Option<u8>,
}

/// What an event says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The flow is new.
    New,
    /// It changed.
    Update,
    /// It is gone.
    Destroy,
}

/// What a listener heard so far.
#[derive(Debug, Default)]
pub struct Heard {
    /// Entries in order.
    pub entries: Vec<(Kind, Entry)>,
    /// Messages about flows that the lab's hosts do not make.
    pub other: u64,
}

/// Joined to conntrack events of a router. Destroys are reliable whatever the size of the receive
/// buffer: the kernel repeats those that found no room, for as long as the listener lives, so read
/// it or drop it. Beginnings and updates that find no room are lost.
#[derive(Debug)]
pub struct Listener {
    netlink: Netlink,
}

impl Listener {
    /// Reads events until none came for `patience`, or until `enough` says so.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn listen(
        &mut self,
        patience: Duration,
        mut enough: impl FnMut(&Heard) -> bool,
    ) -> Result<Heard, LabError> {
        let mut heard = Heard::default();
        let result = self.netlink.listen(patience, |reply| {
            match (kind_of(reply), parse(reply.payload)) {
                (Some(kind), Some(entry)) => heard.entries.push((kind, entry)),
                _ => heard.other += 1,
            }
            !enough(&heard)
        });
        result.map_err(|error| LabError::new("listening to conntrack events", error))?;
        Ok(heard)
    }
}

fn kind_of(reply: &Reply<'_>) -> Option<Kind> {
    match reply.kind {
        NEW if reply.flags & CREATED != 0 => Some(Kind::New),
        NEW => Some(Kind::Update),
        DELETE => Some(Kind::Destroy),
        _ => None,
    }
}

/// The request side: one socket of the router's namespace.
#[derive(Debug)]
pub(super) struct Requests {
    netlink: Netlink,
}

impl Requests {
    pub(super) fn open(netns: &Netns) -> Result<Self, LabError> {
        let netlink = netns.run(|| Netlink::open(SockProtocol::NetlinkNetFilter, 0))?;
        netlink.receive_buffer(4 << 20)?;
        Ok(Self { netlink })
    }

    /// Every entry of both families.
    pub(super) fn dump(&mut self) -> Result<Vec<Entry>, LabError> {
        let mut request = Request::default();
        request.message(GET, DUMP, &nft::header(0, 0));
        let mut entries = Vec::new();
        self.netlink.talk(&request, "dumping the conntrack table", |reply| {
            entries.extend(parse(reply.payload));
        })?;
        Ok(entries)
    }

    /// Removes every entry; the kernel makes a destroy event for each.
    pub(super) fn flush(&mut self) -> Result<(), LabError> {
        let mut request = Request::default();
        request.message(DELETE, ACKED, &nft::header(0, 0));
        self.netlink.ack(&request, "flushing the conntrack table")
    }

    /// Packets that conntrack saw and refused to assign (`CTA_STATS_INVALID`), of all CPUs.
    pub(super) fn invalid(&mut self) -> Result<u64, LabError> {
        let mut request = Request::default();
        request.message(GET_STATS_CPU, DUMP, &nft::header(0, 0));
        let mut sum = 0;
        self.netlink.talk(&request, "reading the conntrack statistics", |reply| {
            let body = reply.payload.get(4..).unwrap_or_default();
            sum += attrs(body)
                .filter(|(kind, _)| *kind == 4)
                .map(|(_, value)| u64::from(u32::from_be_bytes(head(value))))
                .sum::<u64>();
        })?;
        Ok(sum)
    }
}

/// A listener in the namespace `netns`, joined to the groups of `kinds`.
pub(super) fn listen(netns: &Netns, kinds: &[Kind]) -> Result<Listener, LabError> {
    let groups = kinds.iter().fold(0, |bits, kind| bits | 1 << (*kind as u32));
    let netlink = netns.run(|| Netlink::open(SockProtocol::NetlinkNetFilter, groups))?;
    netlink.receive_buffer(64 << 20)?;
    sys::make_reliable(netlink.as_raw_fd()).context("making a listener reliable")?;
    Ok(Listener { netlink })
}

fn parse(payload: &[u8]) -> Option<Entry> {
    let body = payload.get(4..)?;
    let find = |wanted: u16| attrs(body).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
    let times = find(20);
    Some(Entry {
        orig: tuple(find(1)?)?,
        reply: tuple(find(2)?)?,
        orig_count: find(9).map(count),
        reply_count: find(10).map(count),
        status: find(3).map_or(0, be32),
        id: find(12).map_or(0, be32),
        start_ns: times.and_then(|nest| attr_in(nest, 1)).map(be64),
        stop_ns: times.and_then(|nest| attr_in(nest, 2)).map(be64),
        tcp_state: find(4)
            .and_then(|info| attr_in(info, 1))
            .and_then(|tcp| attr_in(tcp, 1))
            .and_then(|state| state.first().copied()),
    })
}

fn attr_in(nest: &[u8], wanted: u16) -> Option<&[u8]> {
    attrs(nest).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

fn be32(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(head(bytes))
}

fn be64(bytes: &[u8]) -> u64 {
    u64::from_be_bytes(head(bytes))
}

fn count(nest: &[u8]) -> Count {
    let field = |kind| attr_in(nest, kind).map_or(0, be64);
    Count { packets: field(1), bytes: field(2) }
}

fn tuple(nest: &[u8]) -> Option<Tuple> {
    let (ip, l4) = (attr_in(nest, 1)?, attr_in(nest, 2)?);
    let address = |v4, v6| {
        attr_in(ip, v4)
            .map(|bytes| IpAddr::from(head::<4>(bytes)))
            .or_else(|| attr_in(ip, v6).map(|bytes| IpAddr::from(head::<16>(bytes))))
    };
    let proto = Proto::from_number(*attr_in(l4, 1)?.first()?)?;
    let port = |kind| attr_in(l4, kind).map_or(0, |bytes| u16::from_be_bytes(head(bytes)));
    let (sport, dport) = match proto {
        Proto::Tcp | Proto::Udp => (port(2), port(3)),
        Proto::Icmp => (port(4), port(4)),
        Proto::Icmpv6 => (port(7), port(7)),
    };
    Some(Tuple::new(proto, (address(1, 3)?, sport), (address(2, 4)?, dport)))
}

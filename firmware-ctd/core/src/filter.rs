//! Which flows a client wants to see.
//!
//! A filter is up to [`MOST`] words, `proto=tcp src=192.0.2.0/24 assured`; a flow is shown when
//! it meets all of them. Parsing and matching need no allocation, so that the daemon can do both
//! after `Ready`. What a flow does not have (ports of ICMP, the TCP state of UDP) meets no word.

use core::fmt;
use core::net::IpAddr;

use crate::nearest::nearest;
use crate::record::json::TCP_STATES;
use crate::table::FlowRef;
use crate::wire::{L4, Labels, Protocol, Status, Tuple};

/// Most words of a filter.
pub const MOST: usize = 16;

/// A filter; the default lets every flow pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    conditions: [Option<Condition>; MOST],
}

/// What a filter looks at.
#[derive(Clone, Copy, Debug)]
pub struct FlowFacts<'a> {
    /// 4 or 6.
    pub family: u8,
    /// The original direction.
    pub orig: &'a Tuple,
    /// The reply direction.
    pub reply: &'a Tuple,
    /// The conntrack zone.
    pub zone: u16,
    /// The connection mark.
    pub mark: u32,
    /// The status bits.
    pub status: Status,
    /// `enum tcp_conntrack`, of a TCP flow.
    pub tcp_state: Option<u8>,
    /// The connection labels.
    pub labels: Option<Labels>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    Family(u8),
    Proto(u8),
    Src(Net),
    Dst(Net),
    Addr(Net),
    SrcPort(Ports),
    DstPort(Ports),
    Port(Ports),
    Zone(u16),
    Mark {
        value: u32,
        mask: u32,
    },
    Label(u8),
    State(u8),
    /// One of these bits.
    AnyStatus(u32),
}

/// A word that a filter cannot take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilterError {
    /// Which word, counted from 0.
    pub index: usize,
    /// What is wrong with it.
    pub cause: FilterFault,
}

/// What is wrong with a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilterFault {
    /// Not a word of filters; perhaps this one was meant.
    Unknown(Option<&'static str>),
    /// The value is not one; this is what is allowed.
    Value(&'static str),
    /// There are more than [`MOST`] words.
    TooMany,
}

/// What is wrong and what is allowed; the word itself is the caller's to name.
impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.cause {
            FilterFault::Unknown(Some(name)) => write!(f, "unknown; did you mean \"{name}\"?"),
            FilterFault::Unknown(None) => {
                f.write_str("unknown; known:")?;
                WORDS.iter().try_for_each(|word| write!(f, " {word}"))
            }
            FilterFault::Value(allowed) => write!(f, "not a value; allowed: {allowed}"),
            FilterFault::TooMany => write!(f, "one too many; allowed: {MOST} words"),
        }
    }
}

impl core::error::Error for FilterError {}

const WORDS: [&str; 16] = [
    "family=", "proto=", "src=", "dst=", "addr=", "sport=", "dport=", "port=", "zone=", "mark=",
    "label=", "state=", "assured", "snat", "dnat", "offload",
];

const PROTOCOLS: [(&str, u8); 8] = [
    ("tcp", 6),
    ("udp", 17),
    ("icmp", 1),
    ("icmpv6", 58),
    ("sctp", 132),
    ("dccp", 33),
    ("gre", 47),
    ("udplite", 136),
];

const FAMILY: &str = "ipv4, ipv6";
const PROTO: &str = "tcp, udp, icmp, icmpv6, sctp, dccp, gre, udplite, or 0 to 255";
const NET: &str = "an IPv4 or IPv6 address, or one with /PREFIX";
const PORT: &str = "0 to 65535, or a range as 1000-2000";
const ZONE: &str = "0 to 65535";
const MARK: &str = "a number, decimal or 0x..., or one with /MASK";
const LABEL: &str = "0 to 127";
const STATE: &str = "none, syn-sent, syn-recv, established, fin-wait, close-wait, last-ack, \
                     time-wait, close, syn-sent2";

impl<'t> FlowFacts<'t> {
    /// What a filter looks at, of a flow of the table and its tuples.
    #[must_use]
    pub fn of(flow: &FlowRef<'_>, orig: &'t Tuple, reply: &'t Tuple) -> Self {
        let tcp = orig.proto == Protocol::TCP;
        Self {
            family: if orig.src.is_ipv6() { 6 } else { 4 },
            orig,
            reply,
            zone: flow.zone(),
            mark: flow.mark(),
            status: flow.status(),
            tcp_state: flow.l4_state().filter(|_| tcp).map(|state| state.state),
            labels: if flow.has_extension() { flow.extension().labels } else { None },
        }
    }
}

impl Filter {
    /// The filter of `words`; none lets every flow pass.
    ///
    /// # Errors
    /// The first word that is not known, has a wrong value, or is one too many.
    pub fn parse<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<Self, FilterError> {
        let mut filter = Self::default();
        for (index, word) in words.into_iter().enumerate() {
            let place = filter.conditions.get_mut(index);
            let place = place.ok_or(FilterError { index, cause: FilterFault::TooMany })?;
            *place = Some(condition(word).map_err(|cause| FilterError { index, cause })?);
        }
        Ok(filter)
    }

    /// Whether `flow` meets every word.
    #[must_use]
    pub fn matches(&self, flow: &FlowFacts<'_>) -> bool {
        self.conditions.iter().flatten().all(|condition| condition.holds(flow))
    }
}

fn condition(word: &str) -> Result<Condition, FilterFault> {
    let (key, value) = word.split_once('=').unwrap_or((word, ""));
    let key = if word.contains('=') {
        WORDS.iter().find(|w| w.strip_suffix('=') == Some(key))
    } else {
        WORDS.iter().find(|w| **w == key)
    };
    let Some(key) = key else {
        return Err(FilterFault::Unknown(meant(word)));
    };
    let (parsed, allowed) = match *key {
        "family=" => (family(value).map(Condition::Family), FAMILY),
        "proto=" => (protocol(value).map(Condition::Proto), PROTO),
        "src=" => (Net::parse(value).map(Condition::Src), NET),
        "dst=" => (Net::parse(value).map(Condition::Dst), NET),
        "addr=" => (Net::parse(value).map(Condition::Addr), NET),
        "sport=" => (Ports::parse(value).map(Condition::SrcPort), PORT),
        "dport=" => (Ports::parse(value).map(Condition::DstPort), PORT),
        "port=" => (Ports::parse(value).map(Condition::Port), PORT),
        "zone=" => (decimal_u16(value).map(Condition::Zone), ZONE),
        "mark=" => (mark(value), MARK),
        "label=" => (decimal_u8(value, 127).map(Condition::Label), LABEL),
        "state=" => (tcp_state(value).map(Condition::State), STATE),
        flag => return Ok(Condition::AnyStatus(status_bits(flag))),
    };
    parsed.ok_or(FilterFault::Value(allowed))
}

/// The known word that is nearest to the part of `word` before its value.
fn meant(word: &str) -> Option<&'static str> {
    let key = word.split('=').next().unwrap_or_default();
    let bare = |known: &'static str| known.strip_suffix('=').unwrap_or(known);
    let near = nearest(key, &mut WORDS.iter().map(|known| bare(known)))?;
    WORDS.iter().find(|known| bare(known) == near).copied()
}

fn status_bits(flag: &str) -> u32 {
    match flag {
        "assured" => Status::ASSURED,
        "snat" => Status::SRC_NAT,
        "dnat" => Status::DST_NAT,
        _ => Status::OFFLOAD | Status::HW_OFFLOAD,
    }
}

fn family(value: &str) -> Option<u8> {
    match value {
        "ipv4" | "4" => Some(4),
        "ipv6" | "6" => Some(6),
        _ => None,
    }
}

fn protocol(value: &str) -> Option<u8> {
    let named = PROTOCOLS.iter().find(|(name, _)| name.eq_ignore_ascii_case(value));
    named.map(|(_, number)| *number).or_else(|| decimal_u8(value, u8::MAX))
}

fn tcp_state(value: &str) -> Option<u8> {
    let state = TCP_STATES.iter().position(|name| is_state(name, value));
    state.and_then(|number| u8::try_from(number).ok())
}

/// Whether `value` is `name`, in any case and with `_` for `-`.
#[inline(never)]
fn is_state(name: &str, value: &str) -> bool {
    let same = |a: u8, b: u8| a == b.to_ascii_lowercase() || (a == b'-' && b == b'_');
    name.len() == value.len() && name.bytes().zip(value.bytes()).all(|(a, b)| same(a, b))
}

/// A decimal number without a sign, at most `most`.
fn decimal(value: &str, most: u32) -> Option<u32> {
    let mut number = 0u32;
    for digit in value.bytes() {
        let digit = char::from(digit).to_digit(10)?;
        number = number.checked_mul(10)?.checked_add(digit)?;
    }
    if value.is_empty() || number > most { None } else { Some(number) }
}

fn decimal_u8(value: &str, most: u8) -> Option<u8> {
    decimal(value, u32::from(most)).and_then(|number| u8::try_from(number).ok())
}

fn decimal_u16(value: &str) -> Option<u16> {
    decimal(value, u32::from(u16::MAX)).and_then(|number| u16::try_from(number).ok())
}

/// A number, decimal or hexadecimal behind `0x`.
fn number(value: &str) -> Option<u32> {
    match value.strip_prefix("0x") {
        Some(hex) if !hex.starts_with('+') => u32::from_str_radix(hex, 16).ok(),
        Some(_) => None,
        None => decimal(value, u32::MAX),
    }
}

fn mark(value: &str) -> Option<Condition> {
    let (value, mask) = match value.split_once('/') {
        Some((value, mask)) => (value, number(mask)?),
        None => (value, u32::MAX),
    };
    Some(Condition::Mark { value: number(value)?, mask })
}

/// Addresses that share the first `prefix` bits with `addr`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Net {
    addr: IpAddr,
    prefix: u8,
}

impl Net {
    fn parse(value: &str) -> Option<Self> {
        let (addr, prefix) = match value.split_once('/') {
            Some((addr, prefix)) => (addr, Some(decimal_u8(prefix, 128)?)),
            None => (value, None),
        };
        let addr: IpAddr = addr.parse().ok()?;
        let whole = if addr.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.unwrap_or(whole);
        if prefix <= whole { Some(Self { addr, prefix }) } else { None }
    }

    fn contains(self, addr: IpAddr) -> bool {
        let prefix = u32::from(self.prefix);
        match (self.addr, addr) {
            (IpAddr::V4(net), IpAddr::V4(addr)) => {
                (net.to_bits() ^ addr.to_bits()).leading_zeros() >= prefix
            }
            (IpAddr::V6(net), IpAddr::V6(addr)) => {
                (net.to_bits() ^ addr.to_bits()).leading_zeros() >= prefix
            }
            _ => false,
        }
    }

    fn has_end(self, tuple: &Tuple) -> bool {
        self.contains(tuple.src) || self.contains(tuple.dst)
    }
}

/// Ports from `first` to `last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ports {
    first: u16,
    last: u16,
}

impl Ports {
    fn parse(value: &str) -> Option<Self> {
        let (first, last) = value.split_once('-').unwrap_or((value, value));
        let (first, last) = (decimal_u16(first)?, decimal_u16(last)?);
        if first <= last { Some(Self { first, last }) } else { None }
    }

    fn contain(self, port: Option<u16>) -> bool {
        port.is_some_and(|port| (self.first..=self.last).contains(&port))
    }

    fn has_end(self, tuple: &Tuple) -> bool {
        self.contain(src_port(tuple)) || self.contain(dst_port(tuple))
    }
}

fn src_port(tuple: &Tuple) -> Option<u16> {
    if let L4::Ports { src, .. } = tuple.l4 { Some(src) } else { None }
}

fn dst_port(tuple: &Tuple) -> Option<u16> {
    if let L4::Ports { dst, .. } = tuple.l4 { Some(dst) } else { None }
}

impl Condition {
    fn holds(&self, flow: &FlowFacts<'_>) -> bool {
        match *self {
            Self::Family(family) => flow.family == family,
            Self::Proto(proto) => flow.orig.proto.0 == proto,
            Self::Src(net) => net.contains(flow.orig.src),
            Self::Dst(net) => net.contains(flow.orig.dst),
            Self::Addr(net) => net.has_end(flow.orig) || net.has_end(flow.reply),
            Self::SrcPort(ports) => ports.contain(src_port(flow.orig)),
            Self::DstPort(ports) => ports.contain(dst_port(flow.orig)),
            Self::Port(ports) => ports.has_end(flow.orig) || ports.has_end(flow.reply),
            Self::Zone(zone) => flow.zone == zone,
            Self::Mark { value, mask } => (flow.mark ^ value) & mask == 0,
            Self::Label(bit) => flow.labels.is_some_and(|labels| labels.to_bits() >> bit & 1 != 0),
            Self::State(state) => flow.tcp_state == Some(state),
            Self::AnyStatus(bits) => flow.status.0 & bits != 0,
        }
    }
}

#[cfg(test)]
mod tests;

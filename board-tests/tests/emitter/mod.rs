//! IPFIX messages written by hand, so that the collectors are tried with what owes nothing to the
//! daemon's encoder, nor to theirs.
//!
//! The templates are those of the daemon's sink: 256 for IPv4, 257 for IPv6, 258 for options.
//! Source: RFC 7011 sections 3.1 to 3.4, RFC 5103 section 6.1, RFC 8158, IANA's registry.

use std::net::IpAddr;

/// What is sent of a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) key: u64,
    pub(crate) start_ms: u64,
    pub(crate) end_ms: u64,
    pub(crate) src: IpAddr,
    pub(crate) dst: IpAddr,
    pub(crate) ports: (u16, u16),
    pub(crate) proto: u8,
    pub(crate) icmp: u16,
    pub(crate) end_reason: u8,
    pub(crate) nat_event: u8,
    pub(crate) count: (u64, u64),
    pub(crate) reverse: (u64, u64),
    pub(crate) nat: (IpAddr, IpAddr),
    pub(crate) nat_ports: (u16, u16),
}

/// The enterprise of RFC 5103.
const REVERSE: u32 = 29305;

/// Number, length and enterprise of each field.
fn fields(v6: bool) -> Vec<(u16, u16, u32)> {
    let of = |v4: u16, other: u16| if v6 { other } else { v4 };
    let address = of(4, 16);
    vec![
        (148, 8, 0),
        (152, 8, 0),
        (153, 8, 0),
        (of(8, 27), address, 0),
        (of(12, 28), address, 0),
        (7, 2, 0),
        (11, 2, 0),
        (4, 1, 0),
        (of(32, 139), 2, 0),
        (136, 1, 0),
        (230, 1, 0),
        (1, 8, 0),
        (2, 8, 0),
        (1, 8, REVERSE),
        (2, 8, REVERSE),
        (of(225, 281), address, 0),
        (of(226, 282), address, 0),
        (227, 2, 0),
        (228, 2, 0),
    ]
}

fn specifier(out: &mut Vec<u8>, (number, length, enterprise): (u16, u16, u32)) {
    let bit = if enterprise == 0 { 0 } else { 0x8000 };
    out.extend_from_slice(&(number | bit).to_be_bytes());
    out.extend_from_slice(&length.to_be_bytes());
    if enterprise != 0 {
        out.extend_from_slice(&enterprise.to_be_bytes());
    }
}

/// A length of a message; a message that is longer than a length can say is no message.
fn small(length: usize) -> u16 {
    u16::try_from(length).unwrap_or(u16::MAX)
}

fn set(id: u16, content: &[u8]) -> Vec<u8> {
    let mut out = id.to_be_bytes().to_vec();
    out.extend_from_slice(&small(content.len() + 4).to_be_bytes());
    out.extend_from_slice(content);
    out
}

fn octets(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(it) => out.extend_from_slice(&it.octets()),
        IpAddr::V6(it) => out.extend_from_slice(&it.octets()),
    }
}

fn encoded(record: &Record) -> Vec<u8> {
    let mut out = Vec::new();
    for value in [record.key, record.start_ms, record.end_ms] {
        out.extend_from_slice(&value.to_be_bytes());
    }
    octets(&mut out, record.src);
    octets(&mut out, record.dst);
    out.extend_from_slice(&record.ports.0.to_be_bytes());
    out.extend_from_slice(&record.ports.1.to_be_bytes());
    out.push(record.proto);
    out.extend_from_slice(&record.icmp.to_be_bytes());
    out.extend_from_slice(&[record.end_reason, record.nat_event]);
    for value in [record.count.0, record.count.1, record.reverse.0, record.reverse.1] {
        out.extend_from_slice(&value.to_be_bytes());
    }
    octets(&mut out, record.nat.0);
    octets(&mut out, record.nat.1);
    out.extend_from_slice(&record.nat_ports.0.to_be_bytes());
    out.extend_from_slice(&record.nat_ports.1.to_be_bytes());
    out
}

/// Makes messages with right sequence numbers.
#[derive(Debug)]
pub(crate) struct Emitter {
    /// Data records sent so far.
    pub(crate) sequence: u32,
    /// Observation domain.
    pub(crate) domain: u32,
}

impl Emitter {
    fn message(&mut self, sets: &[u8], records: usize) -> Vec<u8> {
        let mut out = 10_u16.to_be_bytes().to_vec();
        out.extend_from_slice(&small(sets.len() + 16).to_be_bytes());
        for word in [1_795_582_400, self.sequence, self.domain] {
            out.extend_from_slice(&word.to_be_bytes());
        }
        out.extend_from_slice(sets);
        self.sequence += u32::from(small(records));
        out
    }

    /// All three templates.
    pub(crate) fn templates(&mut self) -> Vec<u8> {
        let mut flows = Vec::new();
        for (id, v6) in [(256_u16, false), (257, true)] {
            let fields = fields(v6);
            flows.extend_from_slice(&id.to_be_bytes());
            flows.extend_from_slice(&small(fields.len()).to_be_bytes());
            fields.into_iter().for_each(|field| specifier(&mut flows, field));
        }
        let mut options = Vec::new();
        for word in [258_u16, 3, 1] {
            options.extend_from_slice(&word.to_be_bytes());
        }
        // observationDomainId, exportedMessageTotalCount, exportedFlowRecordTotalCount
        [(149, 4, 0), (41, 8, 0), (42, 8, 0)]
            .into_iter()
            .for_each(|it| specifier(&mut options, it));
        let mut sets = set(2, &flows);
        sets.extend(set(3, &options));
        self.message(&sets, 0)
    }

    /// Records in the order given, those of IPv4 first.
    pub(crate) fn data(&mut self, records: &[Record]) -> Vec<u8> {
        let of = |v6: bool| {
            let chosen = records.iter().filter(|it| it.src.is_ipv6() == v6);
            chosen.flat_map(encoded).collect::<Vec<u8>>()
        };
        let (v4, v6) = (of(false), of(true));
        let mut sets = if v4.is_empty() { Vec::new() } else { set(256, &v4) };
        if !v6.is_empty() {
            sets.extend(set(257, &v6));
        }
        self.message(&sets, records.len())
    }

    /// One record of the options template.
    pub(crate) fn options(&mut self, messages: u64, records: u64) -> Vec<u8> {
        let mut content = self.domain.to_be_bytes().to_vec();
        content.extend_from_slice(&messages.to_be_bytes());
        content.extend_from_slice(&records.to_be_bytes());
        self.message(&set(258, &content), 1)
    }
}

/// Flow `n` of a load, all different, IPv4 with source NAT.
pub(crate) fn numbered(n: u32) -> Record {
    let public = IpAddr::from([203, 0, 113, 1]);
    let dst = IpAddr::from([198, 51, 100, 2]);
    Record {
        key: 0x9f0c_0000_0000_0000 | u64::from(n),
        start_ms: 1_795_582_300_000 + u64::from(n),
        end_ms: 1_795_582_400_123,
        src: IpAddr::from((0x0a00_0000 + n).to_be_bytes()),
        dst,
        ports: (40_000, 53),
        proto: 17,
        icmp: 0,
        end_reason: 1,
        nat_event: 1,
        count: (u64::from(n) + 100, 3),
        reverse: (u64::from(n) + 7, 2),
        nat: (public, dst),
        nat_ports: (61_000, 53),
    }
}

/// A flow of each kind: plain, translated in either direction, ICMP, one way, IPv6.
pub(crate) fn of_each_kind() -> Vec<Record> {
    let v4 = |bytes: [u8; 4]| IpAddr::from(bytes);
    let v6 = |net: u16, host: u16| IpAddr::from([0x2001, 0xdb8, net, 0, 0, 0, 0, host]);
    let base = numbered(1);
    let big = (u64::from(u32::MAX) + 5, 5_000_000_000);
    let plain = Record {
        ports: (40_001, 443),
        proto: 6,
        end_reason: 3,
        nat_event: 0,
        count: big,
        nat: (base.src, base.dst),
        nat_ports: (40_001, 443),
        ..numbered(2)
    };
    let forwarded = Record {
        src: v4([198, 51, 100, 77]),
        dst: v4([203, 0, 113, 1]),
        ports: (1234, 80),
        proto: 6,
        reverse: (0, 0),
        nat: (v4([198, 51, 100, 77]), v4([10, 0, 0, 80])),
        nat_ports: (1234, 8080),
        ..numbered(3)
    };
    let ping = Record { ports: (0, 0), proto: 1, icmp: 0x0800, nat_ports: (0, 0), ..numbered(4) };
    let (src6, dst6) = (v6(0, 2), v6(1, 2));
    let plain6 = Record {
        src: src6,
        dst: dst6,
        nat: (src6, dst6),
        ports: (50_000, 443),
        nat_ports: (50_000, 443),
        nat_event: 0,
        ..numbered(5)
    };
    let nat6 = Record {
        nat: (v6(0xf, 1), v6(1, 9)),
        nat_ports: (50_007, 445),
        ..Record { key: numbered(6).key, nat_event: 1, ..plain6.clone() }
    };
    let ping6 = Record {
        ports: (0, 0),
        nat_ports: (0, 0),
        proto: 58,
        icmp: 0x8000,
        key: numbered(7).key,
        ..plain6.clone()
    };
    let plain = Record { nat: (plain.src, plain.dst), ..plain };
    vec![base, plain, forwarded, ping, plain6, nat6, ping6]
}

//! One conntrack entry as a message carries it: `enum ctattr_type`.

use super::tuple::Tuple;

/// `nfgen_family` of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Family {
    /// `AF_UNSPEC`: in requests, both families.
    #[default]
    Unspec,
    /// `AF_INET`.
    Ipv4,
    /// `AF_INET6`.
    Ipv6,
    /// Any other number.
    Other(u8),
}

/// `CTA_STATUS`: `enum ip_conntrack_status`, kept as the kernel's own bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Status(pub u32);

impl Status {
    /// The flow was expected by another (`IPS_EXPECTED`).
    pub const EXPECTED: u32 = 1;
    /// Packets were seen in both directions.
    pub const SEEN_REPLY: u32 = 1 << 1;
    /// Not evicted early.
    pub const ASSURED: u32 = 1 << 2;
    /// In the kernel's table.
    pub const CONFIRMED: u32 = 1 << 3;
    /// Source addresses of the original direction are translated.
    pub const SRC_NAT: u32 = 1 << 4;
    /// Destination addresses of the original direction are translated.
    pub const DST_NAT: u32 = 1 << 5;
    /// Sequence numbers are adjusted.
    pub const SEQ_ADJUST: u32 = 1 << 6;
    /// Source NAT was decided.
    pub const SRC_NAT_DONE: u32 = 1 << 7;
    /// Destination NAT was decided.
    pub const DST_NAT_DONE: u32 = 1 << 8;
    /// Being removed.
    pub const DYING: u32 = 1 << 9;
    /// The timeout does not change with packets.
    pub const FIXED_TIMEOUT: u32 = 1 << 10;
    /// Never in the table.
    pub const TEMPLATE: u32 = 1 << 11;
    /// Clash resolution (`IPS_NAT_CLASH`, once `IPS_UNTRACKED`).
    pub const NAT_CLASH: u32 = 1 << 12;
    /// A helper was attached.
    pub const HELPER: u32 = 1 << 13;
    /// Forwarded by a flow table, not by the stack.
    pub const OFFLOAD: u32 = 1 << 14;
    /// Forwarded by hardware.
    pub const HW_OFFLOAD: u32 = 1 << 15;

    /// Whether all of `bits` are set.
    #[must_use]
    pub const fn has(self, bits: u32) -> bool {
        self.0 & bits == bits
    }
}

/// `CTA_COUNTERS_*` of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Counters {
    /// Packets.
    pub packets: u64,
    /// Bytes, counted from the IP header on.
    pub bytes: u64,
}

/// `enum tcp_conntrack`, kept as the kernel's number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TcpState(pub u8);

impl TcpState {
    /// `TCP_CONNTRACK_ESTABLISHED`.
    pub const ESTABLISHED: Self = Self(3);
}

/// `struct nf_ct_tcp_flags`: what is set, and in requests, what to change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TcpFlags {
    /// `IP_CT_TCP_FLAG_*`.
    pub flags: u8,
    /// Bits to take over in a request.
    pub mask: u8,
}

/// `CTA_PROTOINFO_TCP`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tcp {
    /// Connection state.
    pub state: Option<TcpState>,
    /// Window scale of the original direction.
    pub wscale_orig: Option<u8>,
    /// Window scale of the reply direction.
    pub wscale_reply: Option<u8>,
    /// Flags of the original direction.
    pub flags_orig: Option<TcpFlags>,
    /// Flags of the reply direction.
    pub flags_reply: Option<TcpFlags>,
}

/// `CTA_PROTOINFO_SCTP`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Sctp {
    /// `enum sctp_conntrack`.
    pub state: Option<u8>,
    /// Verification tag of the original direction.
    pub vtag_orig: Option<u32>,
    /// Verification tag of the reply direction.
    pub vtag_reply: Option<u32>,
}

/// `CTA_PROTOINFO_DCCP` (kernels before 6.16).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Dccp {
    /// `enum ct_dccp_states`.
    pub state: Option<u8>,
    /// `enum ct_dccp_roles`.
    pub role: Option<u8>,
    /// Handshake sequence number.
    pub handshake_seq: Option<u64>,
}

/// `CTA_PROTOINFO`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ProtoInfo {
    /// The message has none.
    #[default]
    None,
    /// TCP.
    Tcp(Tcp),
    /// SCTP.
    Sctp(Sctp),
    /// DCCP.
    Dccp(Dccp),
}

/// `CTA_LABELS`: up to 128 connection labels.
///
/// Bytes as on the wire; label *n* is bit `n % 8` of byte `n / 8` on a little-endian kernel. The
/// kernel writes an array of `unsigned long`, so the bytes are the kernel's own order and are
/// carried as they came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Labels(pub [u8; 16]);

/// `CTA_HELP`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Helper<'a> {
    /// Name without its NUL, at most 15 bytes from a kernel.
    pub name: &'a [u8],
    /// `CTA_HELP_INFO`, private to the helper.
    pub info: Option<&'a [u8]>,
}

/// `CTA_NAT_SRC` or `CTA_NAT_DST`, in requests only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct NatRange {
    /// Lowest address.
    pub min: Option<core::net::IpAddr>,
    /// Highest address.
    pub max: Option<core::net::IpAddr>,
    /// Lowest and highest port.
    pub ports: Option<(u16, u16)>,
}

/// `CTA_SEQ_ADJ_*` of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SeqAdj {
    /// Sequence number of the last adjustment.
    pub correction_pos: u32,
    /// Offset before it.
    pub offset_before: u32,
    /// Offset after it.
    pub offset_after: u32,
}

/// `CTA_SYNPROXY`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SynProxy {
    /// Initial sequence number of the client.
    pub isn: u32,
    /// Initial timestamp.
    pub its: u32,
    /// Timestamp offset.
    pub tsoff: u32,
}

/// One conntrack entry, as far as a message tells of it.
///
/// Every field is absent unless the message carried it: events carry little, dumps more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conntrack<'a> {
    /// `nfgen_family`.
    pub family: Family,
    /// `CTA_TUPLE_ORIG`.
    pub orig: Option<Tuple>,
    /// `CTA_TUPLE_REPLY`.
    pub reply: Option<Tuple>,
    /// `CTA_TUPLE_MASTER`.
    pub master: Option<Tuple>,
    /// `CTA_ZONE`: the zone of both directions.
    pub zone: Option<u16>,
    /// `CTA_TUPLE_ZONE` in the original tuple: a zone for that direction alone.
    pub zone_orig: Option<u16>,
    /// `CTA_TUPLE_ZONE` in the reply tuple.
    pub zone_reply: Option<u16>,
    /// `CTA_STATUS`.
    pub status: Option<Status>,
    /// `CTA_STATUS_MASK`, in filters.
    pub status_mask: Option<u32>,
    /// `CTA_PROTOINFO`.
    pub protoinfo: ProtoInfo,
    /// `CTA_TIMEOUT`, seconds.
    pub timeout_s: Option<u32>,
    /// `CTA_MARK`.
    pub mark: Option<u32>,
    /// `CTA_MARK_MASK`, in requests.
    pub mark_mask: Option<u32>,
    /// `CTA_COUNTERS_ORIG`.
    pub counters_orig: Option<Counters>,
    /// `CTA_COUNTERS_REPLY`.
    pub counters_reply: Option<Counters>,
    /// `CTA_TIMESTAMP_START`, wall clock in nanoseconds.
    pub start_ns: Option<u64>,
    /// `CTA_TIMESTAMP_STOP`, wall clock in nanoseconds.
    pub stop_ns: Option<u64>,
    /// `CTA_TIMESTAMP_EVENT` (Linux 6.14 on), wall clock in nanoseconds.
    pub event_ns: Option<u64>,
    /// `CTA_ID`: neither stable over a boot nor unique in time.
    pub id: Option<u32>,
    /// `CTA_USE`.
    pub use_count: Option<u32>,
    /// `CTA_HELP`.
    pub helper: Option<Helper<'a>>,
    /// `CTA_LABELS`.
    pub labels: Option<Labels>,
    /// `CTA_LABELS_MASK`, in requests.
    pub labels_mask: Option<Labels>,
    /// `CTA_NAT_SRC`, in requests.
    pub nat_src: Option<NatRange>,
    /// `CTA_NAT_DST`, in requests.
    pub nat_dst: Option<NatRange>,
    /// `CTA_SEQ_ADJ_ORIG`.
    pub seqadj_orig: Option<SeqAdj>,
    /// `CTA_SEQ_ADJ_REPLY`.
    pub seqadj_reply: Option<SeqAdj>,
    /// `CTA_SYNPROXY`.
    pub synproxy: Option<SynProxy>,
    /// `CTA_SECCTX`: the name, without its NUL.
    pub secctx: Option<&'a [u8]>,
}

//! What a flow's protocol adds: `CTA_PROTOINFO`.
//!
//! Source: `enum ctattr_protoinfo`, `ctattr_protoinfo_tcp`, `_sctp`, `_dccp`;
//! `include/uapi/linux/netfilter/nf_conntrack_tcp.h`.

use super::error::{Error, Full};
use super::nla::{Attribute, AttributeWriter, Attributes};

/// `enum ctattr_protoinfo`.
mod cta {
    pub(super) const TCP: u16 = 1;
    pub(super) const DCCP: u16 = 2;
    pub(super) const SCTP: u16 = 3;
}

/// `enum ctattr_protoinfo_tcp`.
mod cta_tcp {
    pub(super) const STATE: u16 = 1;
    pub(super) const WSCALE_ORIGINAL: u16 = 2;
    pub(super) const WSCALE_REPLY: u16 = 3;
    pub(super) const FLAGS_ORIGINAL: u16 = 4;
    pub(super) const FLAGS_REPLY: u16 = 5;
}

/// `enum ctattr_protoinfo_dccp`.
mod cta_dccp {
    pub(super) const STATE: u16 = 1;
    pub(super) const ROLE: u16 = 2;
    pub(super) const HANDSHAKE_SEQ: u16 = 3;
}

/// `enum ctattr_protoinfo_sctp`.
mod cta_sctp {
    pub(super) const STATE: u16 = 1;
    pub(super) const VTAG_ORIGINAL: u16 = 2;
    pub(super) const VTAG_REPLY: u16 = 3;
}

/// `enum tcp_conntrack`, kept as the kernel's number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TcpState(pub u8);

impl TcpState {
    /// `TCP_CONNTRACK_ESTABLISHED`.
    pub const ESTABLISHED: Self = Self(3);
    /// `TCP_CONNTRACK_SYN_SENT`.
    pub const SYN_SENT: Self = Self(1);
}

/// `struct nf_ct_tcp_flags`: what is set, and in requests, what to change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TcpFlags {
    /// `IP_CT_TCP_FLAG_*`.
    pub flags: u8,
    /// Bits to take over in a request.
    pub mask: u8,
}

impl TcpFlags {
    /// The direction offered a window scale (`IP_CT_TCP_FLAG_WINDOW_SCALE`).
    pub const WINDOW_SCALE: u8 = 1;
    /// The direction may use selective acknowledgements.
    pub const SACK_PERM: u8 = 1 << 1;
    /// The direction sent the first FIN or RST.
    pub const CLOSE_INIT: u8 = 1 << 2;
    /// Packets outside of the window are let through.
    pub const BE_LIBERAL: u8 = 1 << 3;
    /// The direction sent data that are not acknowledged.
    pub const DATA_UNACKNOWLEDGED: u8 = 1 << 4;
    /// The highest acknowledgement of the direction is known.
    pub const MAXACK_SET: u8 = 1 << 5;
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

impl ProtoInfo {
    /// Reads what a `CTA_PROTOINFO` holds. Of several protocols the last one counts.
    pub(super) fn parse(nest: Attributes<'_>) -> Result<Self, Error> {
        let mut info = Self::None;
        for attribute in nest {
            let attribute = attribute?;
            match attribute.kind {
                cta::TCP => info = Self::Tcp(Tcp::parse(attribute.nested())?),
                cta::DCCP => info = Self::Dccp(Dccp::parse(attribute.nested())?),
                cta::SCTP => info = Self::Sctp(Sctp::parse(attribute.nested())?),
                _ => {}
            }
        }
        Ok(info)
    }

    /// Writes it as attribute `kind`, unless it is `None`.
    pub(super) fn emit(&self, w: &mut AttributeWriter<'_, '_>, kind: u16) -> Result<(), Full> {
        match self {
            Self::None => Ok(()),
            Self::Tcp(tcp) => w.nest(kind, |w| w.nest(cta::TCP, |w| tcp.emit(w))),
            Self::Dccp(dccp) => w.nest(kind, |w| w.nest(cta::DCCP, |w| dccp.emit(w))),
            Self::Sctp(sctp) => w.nest(kind, |w| w.nest(cta::SCTP, |w| sctp.emit(w))),
        }
    }
}

impl Tcp {
    fn parse(nest: Attributes<'_>) -> Result<Self, Error> {
        let mut tcp = Self::default();
        for attribute in nest {
            let attribute = attribute?;
            match attribute.kind {
                cta_tcp::STATE => tcp.state = Some(TcpState(attribute.u8()?)),
                cta_tcp::WSCALE_ORIGINAL => tcp.wscale_orig = Some(attribute.u8()?),
                cta_tcp::WSCALE_REPLY => tcp.wscale_reply = Some(attribute.u8()?),
                cta_tcp::FLAGS_ORIGINAL => tcp.flags_orig = Some(TcpFlags::parse(&attribute)?),
                cta_tcp::FLAGS_REPLY => tcp.flags_reply = Some(TcpFlags::parse(&attribute)?),
                _ => {}
            }
        }
        Ok(tcp)
    }

    fn emit(&self, w: &mut AttributeWriter<'_, '_>) -> Result<(), Full> {
        w.optional(self.state, |w, state| w.u8(cta_tcp::STATE, state.0))?;
        w.optional(self.wscale_orig, |w, scale| w.u8(cta_tcp::WSCALE_ORIGINAL, scale))?;
        w.optional(self.wscale_reply, |w, scale| w.u8(cta_tcp::WSCALE_REPLY, scale))?;
        w.optional(self.flags_orig, |w, flags| flags.emit(w, cta_tcp::FLAGS_ORIGINAL))?;
        w.optional(self.flags_reply, |w, flags| flags.emit(w, cta_tcp::FLAGS_REPLY))
    }
}

impl TcpFlags {
    fn parse(attribute: &Attribute<'_>) -> Result<Self, Error> {
        let [flags, mask] = attribute.array()?;
        Ok(Self { flags, mask })
    }

    fn emit(self, w: &mut AttributeWriter<'_, '_>, kind: u16) -> Result<(), Full> {
        w.bytes(kind, &[self.flags, self.mask])
    }
}

impl Sctp {
    fn parse(nest: Attributes<'_>) -> Result<Self, Error> {
        let mut sctp = Self::default();
        for attribute in nest {
            let attribute = attribute?;
            match attribute.kind {
                cta_sctp::STATE => sctp.state = Some(attribute.u8()?),
                cta_sctp::VTAG_ORIGINAL => sctp.vtag_orig = Some(attribute.be32()?),
                cta_sctp::VTAG_REPLY => sctp.vtag_reply = Some(attribute.be32()?),
                _ => {}
            }
        }
        Ok(sctp)
    }

    fn emit(&self, w: &mut AttributeWriter<'_, '_>) -> Result<(), Full> {
        w.optional(self.state, |w, state| w.u8(cta_sctp::STATE, state))?;
        w.optional(self.vtag_orig, |w, tag| w.be32(cta_sctp::VTAG_ORIGINAL, tag))?;
        w.optional(self.vtag_reply, |w, tag| w.be32(cta_sctp::VTAG_REPLY, tag))
    }
}

impl Dccp {
    fn parse(nest: Attributes<'_>) -> Result<Self, Error> {
        let mut dccp = Self::default();
        for attribute in nest {
            let attribute = attribute?;
            match attribute.kind {
                cta_dccp::STATE => dccp.state = Some(attribute.u8()?),
                cta_dccp::ROLE => dccp.role = Some(attribute.u8()?),
                cta_dccp::HANDSHAKE_SEQ => dccp.handshake_seq = Some(attribute.be64()?),
                _ => {}
            }
        }
        Ok(dccp)
    }

    fn emit(&self, w: &mut AttributeWriter<'_, '_>) -> Result<(), Full> {
        w.optional(self.state, |w, state| w.u8(cta_dccp::STATE, state))?;
        w.optional(self.role, |w, role| w.u8(cta_dccp::ROLE, role))?;
        w.optional(self.handshake_seq, |w, seq| w.be64(cta_dccp::HANDSHAKE_SEQ, seq))
    }
}

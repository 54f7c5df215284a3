//! How a request went: `NLMSG_ERROR`, and `NLMSG_DONE` at the end of a dump.
//!
//! Both may carry extended acknowledgements (`NLMSGERR_ATTR_*`, when the socket asked for them
//! with `NETLINK_EXT_ACK`). They are in host order, as all of netlink's own values. The request's
//! payload, which an uncapped error repeats, is skipped; so are the cookie and the policy.
//!
//! Source: `struct nlmsgerr`, `enum nlmsgerr_attrs` in `include/uapi/linux/netlink.h`;
//! `netlink_ack` and `netlink_dump_done` in `net/netlink/af_netlink.c`.

use super::bytes::{cut, head};
use super::error::{Error, Full};
use super::nla::{AttributeWriter, Attributes};
use super::nlmsg::{HEADER, Header, RawMessage, flags};

/// `enum nlmsgerr_attrs`.
mod attr {
    pub(super) const MSG: u16 = 1;
    pub(super) const OFFS: u16 = 2;
    pub(super) const MISS_TYPE: u16 = 5;
    pub(super) const MISS_NEST: u16 = 6;
}

/// `NLMSG_ERROR`: a refusal, or with errno 0 an acknowledgement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Response<'a> {
    /// The error number, positive; 0 for an acknowledgement.
    pub errno: i32,
    /// Header of the request that this answers.
    pub request: Header,
    /// What the kernel says of it.
    pub ext_msg: Option<&'a [u8]>,
    /// Which byte of the request is to blame, counted from its header on.
    pub ext_offset: Option<u32>,
    /// Kind of an attribute that the request lacks.
    pub missing_kind: Option<u32>,
    /// Where the attribute stands that should hold the missing one.
    pub missing_nest: Option<u32>,
}

/// `NLMSG_DONE`: the end of a dump.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done<'a> {
    /// Why the dump ended early, positive; 0 when it is complete.
    pub errno: i32,
    /// What the kernel says of it.
    pub ext_msg: Option<&'a [u8]>,
}

impl<'a> Response<'a> {
    /// Reads a `NLMSG_ERROR`.
    ///
    /// # Errors
    /// When it is cut short, or has a positive error number on the wire.
    pub fn parse(raw: &RawMessage<'a>) -> Result<Self, Error> {
        let (error, rest) = head(raw.payload)?;
        let (request, after) = Header::split(rest)?;
        let mut response = Self { errno: errno(error)?, request, ..Self::default() };
        if raw.header.has(flags::ACK_TLVS) {
            let capped = raw.header.has(flags::CAPPED);
            let tlvs = if capped { after } else { after_request(rest, &request)? };
            response.take_all(Attributes::new(tlvs))?;
        }
        Ok(response)
    }

    fn take_all(&mut self, tlvs: Attributes<'a>) -> Result<(), Error> {
        for attribute in tlvs {
            let attribute = attribute?;
            match attribute.kind {
                attr::MSG => self.ext_msg = Some(attribute.text()),
                attr::OFFS => self.ext_offset = Some(attribute.ne32()?),
                attr::MISS_TYPE => self.missing_kind = Some(attribute.ne32()?),
                attr::MISS_NEST => self.missing_nest = Some(attribute.ne32()?),
                _ => {}
            }
        }
        Ok(())
    }

    /// `NLM_F_ACK_TLVS`, if there is an extended acknowledgement.
    pub(super) const fn tlvs_flag(&self) -> u16 {
        let text = self.ext_msg.is_some() || self.ext_offset.is_some();
        tlvs_flag(text || self.missing_kind.is_some() || self.missing_nest.is_some())
    }

    /// The fixed part: error number and the request's header.
    pub(super) fn fixed(&self) -> [u8; 4 + HEADER] {
        let mut fixed = [0; 4 + HEADER];
        let bytes = wire_errno(self.errno).into_iter().chain(self.request.to_bytes());
        for (to, from) in fixed.iter_mut().zip(bytes) {
            *to = from;
        }
        fixed
    }

    /// Writes the extended acknowledgement.
    pub(super) fn emit(&self, w: &mut AttributeWriter<'_, '_>) -> Result<(), Full> {
        w.optional(self.ext_msg, |w, text| w.text(attr::MSG, text))?;
        w.optional(self.ext_offset, |w, value| w.ne32(attr::OFFS, value))?;
        w.optional(self.missing_kind, |w, value| w.ne32(attr::MISS_TYPE, value))?;
        w.optional(self.missing_nest, |w, value| w.ne32(attr::MISS_NEST, value))
    }
}

impl<'a> Done<'a> {
    /// Reads a `NLMSG_DONE`. One without a payload is a complete dump.
    ///
    /// # Errors
    /// When it is cut short, or has a positive error number on the wire.
    pub fn parse(raw: &RawMessage<'a>) -> Result<Self, Error> {
        if raw.payload.is_empty() {
            return Ok(Self::default());
        }
        let (error, rest) = head(raw.payload)?;
        let mut done = Self { errno: errno(error)?, ext_msg: None };
        if raw.header.has(flags::ACK_TLVS) {
            let mut tlvs = Response::default();
            tlvs.take_all(Attributes::new(rest))?;
            done.ext_msg = tlvs.ext_msg;
        }
        Ok(done)
    }

    /// `NLM_F_ACK_TLVS`, if there is an extended acknowledgement.
    pub(super) const fn tlvs_flag(&self) -> u16 {
        tlvs_flag(self.ext_msg.is_some())
    }

    /// The fixed part: the error number.
    pub(super) fn fixed(&self) -> [u8; 4] {
        wire_errno(self.errno)
    }

    /// Writes the extended acknowledgement.
    pub(super) fn emit(&self, w: &mut AttributeWriter<'_, '_>) -> Result<(), Full> {
        w.optional(self.ext_msg, |w, text| w.text(attr::MSG, text))
    }
}

const fn tlvs_flag(set: bool) -> u16 {
    if set { flags::ACK_TLVS } else { 0 }
}

/// What follows the copy of the request, which begins with its header.
fn after_request<'a>(copy: &'a [u8], request: &Header) -> Result<&'a [u8], Error> {
    let len = usize::try_from(request.len).map_err(|_| Error::Truncated)?;
    cut(copy, HEADER, len, Error::Truncated).map(|(_, rest)| rest)
}

/// The positive error number that a negative one on the wire stands for.
fn errno(bytes: [u8; 4]) -> Result<i32, Error> {
    let errno = i32::from_ne_bytes(bytes).checked_neg().ok_or(Error::BadValue)?;
    if errno < 0 { Err(Error::BadValue) } else { Ok(errno) }
}

fn wire_errno(errno: i32) -> [u8; 4] {
    errno.saturating_neg().to_ne_bytes()
}

//! Netlink messages: the header in host order, and what follows it.
//!
//! [`Messages`] cuts a datagram into messages; [`Writer`] puts several requests one after another
//! into one buffer, as one `sendmsg` takes them. What a message means is decided in
//! `message`.
//!
//! Source: `struct nlmsghdr` in `include/uapi/linux/netlink.h`, `struct nfgenmsg` in
//! `include/uapi/linux/netfilter/nfnetlink.h`.

use super::bytes::{Buffer, cut, head};
use super::conntrack::Family;
use super::error::{Error, Full};
use super::nla::{AttributeWriter, Attributes};

/// Bytes of a netlink header.
pub const HEADER: usize = 16;
/// Bytes of the netfilter header that follows it.
const NFGEN: usize = 4;

/// `NLM_F_*`: flags of a message.
pub mod flags {
    /// A request.
    pub const REQUEST: u16 = 0x1;
    /// One of several messages, ended by `NLMSG_DONE`.
    pub const MULTI: u16 = 0x2;
    /// Answer with an acknowledgement also when it went well.
    pub const ACK: u16 = 0x4;
    /// Send the requester what it changed.
    pub const ECHO: u16 = 0x8;
    /// The dump was not consistent.
    pub const DUMP_INTR: u16 = 0x10;
    /// The dump was filtered as asked.
    pub const DUMP_FILTERED: u16 = 0x20;
    /// In requests to get: all that match (`NLM_F_ROOT | NLM_F_MATCH`).
    pub const DUMP: u16 = 0x300;
    /// In requests to make: fail when it is there.
    pub const EXCL: u16 = 0x200;
    /// In requests to make: make it when it is not there.
    pub const CREATE: u16 = 0x400;
    /// In answers: the request's payload is left out.
    pub const CAPPED: u16 = 0x100;
    /// In answers: attributes follow.
    pub const ACK_TLVS: u16 = 0x200;
}

/// `struct nlmsghdr`, in host order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// `nlmsg_len`: bytes of the message, this header included, padding not.
    pub len: u32,
    /// `nlmsg_type`: for netfilter, the subsystem in the high byte.
    pub kind: u16,
    /// `nlmsg_flags`, see [`flags`].
    pub flags: u16,
    /// `nlmsg_seq`: the request's number; 0 in events.
    pub seq: u32,
    /// `nlmsg_pid`: port of the socket that asked; 0 from the kernel itself.
    pub port: u32,
}

impl Header {
    /// The header at the start of `bytes`, and what follows it.
    #[inline]
    pub(super) fn split(bytes: &[u8]) -> Result<(Self, &[u8]), Error> {
        let (raw, rest) = head::<HEADER>(bytes)?;
        let [l0, l1, l2, l3, k0, k1, f0, f1, s0, s1, s2, s3, p0, p1, p2, p3] = raw;
        let header = Self {
            len: u32::from_ne_bytes([l0, l1, l2, l3]),
            kind: u16::from_ne_bytes([k0, k1]),
            flags: u16::from_ne_bytes([f0, f1]),
            seq: u32::from_ne_bytes([s0, s1, s2, s3]),
            port: u32::from_ne_bytes([p0, p1, p2, p3]),
        };
        Ok((header, rest))
    }

    /// The bytes of this header.
    pub(super) fn to_bytes(self) -> [u8; HEADER] {
        let [l0, l1, l2, l3] = self.len.to_ne_bytes();
        let [k0, k1] = self.kind.to_ne_bytes();
        let [f0, f1] = self.flags.to_ne_bytes();
        let [s0, s1, s2, s3] = self.seq.to_ne_bytes();
        let [p0, p1, p2, p3] = self.port.to_ne_bytes();
        [l0, l1, l2, l3, k0, k1, f0, f1, s0, s1, s2, s3, p0, p1, p2, p3]
    }

    /// Whether all of `bits` are set in the flags.
    #[must_use]
    pub const fn has(&self, bits: u16) -> bool {
        self.flags & bits == bits
    }
}

/// One message of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawMessage<'a> {
    /// Its header.
    pub header: Header,
    /// What follows the header, padding left out.
    pub payload: &'a [u8],
}

/// The messages of one datagram. Ends after the first error: what follows cannot be told apart.
#[derive(Clone, Debug)]
pub struct Messages<'a> {
    rest: &'a [u8],
}

impl<'a> Messages<'a> {
    /// The messages of `datagram`.
    #[must_use]
    pub const fn new(datagram: &'a [u8]) -> Self {
        Self { rest: datagram }
    }

    #[inline]
    fn step(&mut self) -> Result<RawMessage<'a>, Error> {
        let bytes = core::mem::take(&mut self.rest);
        let (header, _) = Header::split(bytes)?;
        let len = usize::try_from(header.len).map_err(|_| Error::Truncated)?;
        let (payload, rest) = cut(bytes, HEADER, len, Error::Truncated)?;
        self.rest = rest;
        Ok(RawMessage { header, payload })
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Result<RawMessage<'a>, Error>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() { None } else { Some(self.step()) }
    }
}

/// `struct nfgenmsg` without its version, which has always been 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Nfgen {
    /// `nfgen_family`.
    pub(super) family: Family,
    /// `res_id`: in statistics, the CPU's number.
    pub(super) res_id: u16,
}

impl Nfgen {
    /// Of a message about flows of this family.
    pub(super) const fn of(family: Family) -> Self {
        Self { family, res_id: 0 }
    }

    /// Of the statistics of CPU `cpu`.
    pub(super) const fn of_cpu(cpu: u16) -> Self {
        Self { family: Family::Unspec, res_id: cpu }
    }

    /// The netfilter header at the start of a payload, and the attributes that follow it.
    #[inline]
    pub(super) fn split(payload: &[u8]) -> Result<(Self, Attributes<'_>), Error> {
        let ([family, _version, id0, id1], rest) = head::<NFGEN>(payload)?;
        let res_id = u16::from_be_bytes([id0, id1]);
        Ok((Self { family: Family::from_number(family), res_id }, Attributes::new(rest)))
    }

    fn to_bytes(self) -> [u8; NFGEN] {
        let [id0, id1] = self.res_id.to_be_bytes();
        [self.family.number(), 0, id0, id1]
    }
}

/// Requests, one after another in one buffer.
///
/// A message that does not fit gives [`Full`] and leaves [`Writer::as_bytes`] as it was.
#[derive(Debug)]
pub struct Writer<'b> {
    out: Buffer<'b>,
}

impl<'b> Writer<'b> {
    /// Writes from the start of `buffer`.
    #[must_use]
    pub const fn new(buffer: &'b mut [u8]) -> Self {
        Self { out: Buffer::new(buffer) }
    }

    /// Bytes written.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.out.len()
    }

    /// Whether nothing is written yet.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The messages written so far.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.out.filled()
    }

    /// Forgets all messages.
    pub fn clear(&mut self) {
        self.out.truncate(0);
    }

    /// A netfilter message: `header` (its length is filled in), `nfgen`, and what `body` writes.
    pub(super) fn netfilter<F>(&mut self, header: Header, nfgen: Nfgen, body: F) -> Result<(), Full>
    where
        F: FnOnce(&mut AttributeWriter<'_, 'b>) -> Result<(), Full>,
    {
        self.message(header, &nfgen.to_bytes(), body)
    }

    /// Any netlink message: `header` (its length is filled in), a `fixed` part whose length is
    /// a multiple of 4, and the attributes that `body` writes.
    ///
    /// The functions of [`super::request`] are what a program wants; this is for what they do not
    /// have.
    ///
    /// # Errors
    /// [`Full`] when it does not fit.
    pub fn message<F>(&mut self, header: Header, fixed: &[u8], body: F) -> Result<(), Full>
    where
        F: FnOnce(&mut AttributeWriter<'_, 'b>) -> Result<(), Full>,
    {
        let start = self.out.len();
        let written = self.try_message(header, fixed, body);
        if written.is_err() {
            self.out.truncate(start);
        }
        written
    }

    fn try_message<F>(&mut self, header: Header, fixed: &[u8], body: F) -> Result<(), Full>
    where
        F: FnOnce(&mut AttributeWriter<'_, 'b>) -> Result<(), Full>,
    {
        let start = self.out.len();
        self.out.put(&[0; HEADER])?;
        self.out.put(fixed)?;
        body(&mut AttributeWriter::new(&mut self.out))?;
        let len = u32::try_from(self.out.len().saturating_sub(start)).map_err(|_| Full)?;
        self.out.patch(start, &Header { len, ..header }.to_bytes())
    }
}

//! A netlink socket and a message emitter: enough for rtnetlink, nftables and ctnetlink.
//!
//! One emitter serves all three, since each takes only a handful of messages here; it also keeps
//! the lab independent of the codec under test. Decides nothing about content. Limits: requests
//! up to 64 KiB, one socket per use. Source: netlink(7), `linux/netlink.h`.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::sockopt::{RcvBuf, RcvBufForce};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send,
    setsockopt, socket,
};

use crate::error::{Context, LabError};

/// `NLM_F_REQUEST`.
pub const PLAIN: u16 = 0x1;
/// `NLM_F_REQUEST | NLM_F_ACK`.
pub const ACKED: u16 = 0x1 | 0x4;
/// `NLM_F_REQUEST | NLM_F_ACK | NLM_F_EXCL | NLM_F_CREATE`.
pub const CREATE: u16 = ACKED | 0x200 | 0x400;
/// `NLM_F_REQUEST | NLM_F_DUMP`.
pub const DUMP: u16 = 0x1 | 0x300;

/// Flags whose messages the kernel answers with a last word: `NLM_F_ACK | NLM_F_DUMP`.
const ANSWERED: u16 = 0x4 | 0x300;
const HEADER: usize = 16;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NESTED: u16 = 0x8000;

/// One or several netlink requests in the making.
#[derive(Debug, Default)]
pub struct Request {
    bytes: Vec<u8>,
    message: usize,
    sequence: u32,
    awaited: u32,
}

impl Request {
    /// Begins a message of type `kind`; the one before is finished.
    pub fn message(&mut self, kind: u16, flags: u16, fixed: &[u8]) -> &mut Self {
        self.message = self.bytes.len();
        self.sequence += 1;
        if flags & ANSWERED != 0 {
            self.awaited = self.sequence;
        }
        self.bytes.extend_from_slice(&0_u32.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&flags.to_ne_bytes());
        self.bytes.extend_from_slice(&self.sequence.to_ne_bytes());
        self.bytes.extend_from_slice(&0_u32.to_ne_bytes());
        self.raw(fixed)
    }

    /// Appends bytes as they are, padded to four.
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self.close(self.message, 4)
    }

    /// Appends one attribute.
    pub fn attr(&mut self, kind: u16, payload: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(&length(4 + payload.len()).to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.raw(payload)
    }

    /// Appends an attribute that holds what `inner` appends.
    pub fn nest(&mut self, kind: u16, inner: impl FnOnce(&mut Self)) -> &mut Self {
        let start = self.bytes.len();
        self.attr(kind | NESTED, &[]);
        inner(self);
        self.close(start, 2)
    }

    /// Appends a string attribute with its NUL.
    pub fn text(&mut self, kind: u16, text: &str) -> &mut Self {
        let mut bytes = text.as_bytes().to_vec();
        bytes.push(0);
        self.attr(kind, &bytes)
    }

    /// Writes the length of what began at `start`, in a field of `width` bytes.
    fn close(&mut self, start: usize, width: usize) -> &mut Self {
        let total = self.bytes.len() - start;
        let field = &mut self.bytes[start..start + width];
        match width {
            2 => field.copy_from_slice(&length(total).to_ne_bytes()),
            _ => field.copy_from_slice(&u32::from(length(total)).to_ne_bytes()),
        }
        self
    }
}

#[expect(clippy::expect_used, reason = "the lab's own requests are small")]
fn length(bytes: usize) -> u16 {
    u16::try_from(bytes).expect("a netlink request of the lab is below 64 KiB")
}

/// One message as received: its type, its flags and what follows the netlink header.
#[derive(Debug)]
pub struct Reply<'a> {
    /// Its type.
    pub kind: u16,
    /// Its flags.
    pub flags: u16,
    /// What follows the header.
    pub payload: &'a [u8],
}

/// A bound netlink socket of the namespace in which it was opened.
#[derive(Debug)]
pub struct Netlink {
    fd: OwnedFd,
    buffer: Vec<u8>,
}

impl Netlink {
    /// Opens a socket in the calling thread's namespace, joined to the group bits `groups`.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn open(protocol: SockProtocol, groups: u32) -> Result<Self, LabError> {
        let kind = SockType::Raw;
        let fd = socket(AddressFamily::Netlink, kind, SockFlag::SOCK_CLOEXEC, protocol)
            .context("opening a netlink socket")?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups)).context("binding a netlink socket")?;
        Ok(Self { fd, buffer: vec![0; 1 << 18] })
    }

    /// Asks for a receive buffer of `bytes`; the limit of the machine applies when not root.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn receive_buffer(&self, bytes: usize) -> Result<(), LabError> {
        setsockopt(&self.fd, RcvBufForce, &bytes)
            .or_else(|_| setsockopt(&self.fd, RcvBuf, &bytes))
            .context("sizing a netlink receive buffer")
    }

    /// Sends `request` and waits for its acknowledgement, or for the first refusal.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn ack(&mut self, request: &Request, doing: &str) -> Result<(), LabError> {
        self.talk(request, doing, |_| {})
    }

    /// Sends `request` and hands every answer to `each` until the end or the acknowledgement.
    ///
    /// For several messages in one request, the acknowledgement is that of the last that asks for one.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn talk(
        &mut self,
        request: &Request,
        doing: &str,
        mut each: impl FnMut(&Reply<'_>),
    ) -> Result<(), LabError> {
        send(self.fd.as_raw_fd(), &request.bytes, MsgFlags::empty()).context(doing)?;
        loop {
            let received = self.wait(Duration::from_secs(10)).context(doing)?;
            for (sequence, reply) in messages(&self.buffer[..received]) {
                match outcome(&reply) {
                    Some(Err(error)) => return Err(LabError::new(doing, error)),
                    Some(Ok(())) if sequence == request.awaited => return Ok(()),
                    Some(Ok(())) => {}
                    None => each(&reply),
                }
            }
        }
    }

    /// Hands every message that arrives within `patience` of the last to `each`, until `each`
    /// returns false; false when the patience ran out.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn listen(
        &mut self,
        patience: Duration,
        mut each: impl FnMut(&Reply<'_>) -> bool,
    ) -> io::Result<bool> {
        loop {
            let received = match self.wait(patience) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::TimedOut => return Ok(false),
                Err(error) => return Err(error),
            };
            let mut more = true;
            for (_, reply) in messages(&self.buffer[..received]) {
                more &= each(&reply);
            }
            if !more {
                return Ok(true);
            }
        }
    }

    fn wait(&mut self, patience: Duration) -> io::Result<usize> {
        use std::os::fd::AsFd;
        let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
        let mut fds = [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, timeout)? == 0 {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(recv(self.fd.as_raw_fd(), &mut self.buffer, MsgFlags::empty())?)
    }
}

impl AsRawFd for Netlink {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// The end of an answer: `Some` for an error, an acknowledgement or the end of a dump.
fn outcome(reply: &Reply<'_>) -> Option<io::Result<()>> {
    if reply.kind != NLMSG_ERROR && reply.kind != NLMSG_DONE {
        return None;
    }
    let code = i32::from_ne_bytes(head(reply.payload));
    Some(if code < 0 { Err(io::Error::from_raw_os_error(-code)) } else { Ok(()) })
}

/// The first `N` bytes, zeros for what is missing.
#[must_use]
pub fn head<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    for (to, from) in out.iter_mut().zip(bytes) {
        *to = *from;
    }
    out
}

fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (u32, Reply<'_>)> {
    std::iter::from_fn(move || {
        let total = u32::from_ne_bytes(head(bytes)) as usize;
        if bytes.len() < HEADER || total < HEADER || total > bytes.len() {
            return None;
        }
        let kind = u16::from_ne_bytes(head(&bytes[4..]));
        let flags = u16::from_ne_bytes(head(&bytes[6..]));
        let sequence = u32::from_ne_bytes(head(&bytes[8..]));
        let payload = &bytes[HEADER..total];
        bytes = &bytes[total.next_multiple_of(4).min(bytes.len())..];
        Some((sequence, Reply { kind, flags, payload }))
    })
}

/// The attributes in `bytes`, as (type without flags, payload).
pub fn attrs(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let total = usize::from(u16::from_ne_bytes(head(bytes)));
        if bytes.len() < 4 || total < 4 || total > bytes.len() {
            return None;
        }
        let kind = u16::from_ne_bytes(head(&bytes[2..])) & 0x3fff;
        let payload = &bytes[4..total];
        bytes = &bytes[total.next_multiple_of(4).min(bytes.len())..];
        Some((kind, payload))
    })
}

#[cfg(test)]
mod tests {
    use super::{ACKED, DUMP, PLAIN, Request, attrs, messages, outcome};

    #[test]
    fn what_is_emitted_reads_back() {
        let mut request = Request::default();
        request.message(10, PLAIN, &[1, 2, 3, 4]).attr(1, &[7]).nest(2, |inner| {
            inner.text(3, "abc").attr(4, &[1, 2, 3, 4, 5]);
        });
        request.message(11, ACKED, &[]).attr(5, &[]);
        request.message(12, PLAIN, &[9]);
        let read: Vec<_> = messages(&request.bytes).collect();
        assert_eq!(
            read.iter().map(|(n, r)| (*n, r.kind)).collect::<Vec<_>>(),
            [(1, 10), (2, 11), (3, 12)]
        );
        assert_eq!(request.awaited, 2, "the last that asks for an answer");
        let outer: Vec<_> = attrs(&read[0].1.payload[4..]).collect();
        assert_eq!(outer[0], (1, &[7][..]));
        let inner: Vec<_> = attrs(outer[1].1).collect();
        assert_eq!(inner, [(3, &b"abc\0"[..]), (4, &[1, 2, 3, 4, 5][..])]);
        assert_eq!(attrs(read[1].1.payload).collect::<Vec<_>>(), [(5, &[][..])]);
    }

    #[test]
    fn answers_end_with_an_error_or_an_acknowledgement() {
        let mut request = Request::default();
        request.message(2, DUMP, &(-17_i32).to_ne_bytes());
        request.message(2, PLAIN, &0_i32.to_ne_bytes());
        request.message(3, PLAIN, &0_i32.to_ne_bytes());
        request.message(20, PLAIN, &[]);
        let ends: Vec<_> = messages(&request.bytes).map(|(_, reply)| outcome(&reply)).collect();
        assert_eq!(ends[0].as_ref().unwrap().as_ref().unwrap_err().raw_os_error(), Some(17));
        assert!(matches!(ends[1..], [Some(Ok(())), Some(Ok(())), None]));
    }

    #[test]
    fn cut_messages_end_the_reading() {
        let mut request = Request::default();
        request.message(10, PLAIN, &[]).attr(1, &[1, 2, 3, 4]).attr(2, &[5]);
        for length in 0..request.bytes.len() {
            assert_eq!(messages(&request.bytes[..length]).count(), 0);
            let _ = attrs(request.bytes.get(16..length).unwrap_or_default()).count();
        }
    }
}

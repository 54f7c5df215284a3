//! What a netlink message means to a conntrack listener.
//!
//! Decides by message type and flags; the contents are read by the files of their kinds. Messages
//! of other subsystems, and requests, are [`Message::Other`].
//!
//! Source: `enum cntl_msg_types`, `ctnl_exp_msg_types`; `NLMSG_*` in
//! `include/uapi/linux/netlink.h`.

use super::conntrack::Conntrack;
use super::error::{Error, Full};
use super::expect::Expect;
use super::nlmsg::{Header, Nfgen, RawMessage, Writer, flags};
use super::response::{Done, Response};
use super::stats::{CpuStats, ExpectCpuStats, GlobalStats};

/// `nlmsg_type`: netlink's own below 16, netfilter's with the subsystem in the high byte.
pub(super) mod kind {
    pub(in crate::wire) const NOOP: u16 = 1;
    pub(in crate::wire) const ERROR: u16 = 2;
    pub(in crate::wire) const DONE: u16 = 3;
    pub(in crate::wire) const OVERRUN: u16 = 4;
    pub(in crate::wire) const CT_NEW: u16 = 0x0100;
    pub(in crate::wire) const CT_GET: u16 = 0x0101;
    pub(in crate::wire) const CT_DELETE: u16 = 0x0102;
    /// What kernels (seen in 6.18) send instead of [`EXP_GET_STATS_CPU`]: its number, but the
    /// subsystem of conntrack. As a request it is `IPCTNL_MSG_CT_GET_CTRZERO`, which has answers
    /// of type [`CT_NEW`]; so what is received is always the statistics.
    pub(in crate::wire) const EXP_STATS_CPU_ANSWER: u16 = 0x0103;
    pub(in crate::wire) const CT_GET_STATS_CPU: u16 = 0x0104;
    pub(in crate::wire) const CT_GET_STATS: u16 = 0x0105;
    pub(in crate::wire) const CT_GET_DYING: u16 = 0x0106;
    pub(in crate::wire) const CT_GET_UNCONFIRMED: u16 = 0x0107;
    pub(in crate::wire) const EXP_NEW: u16 = 0x0200;
    pub(in crate::wire) const EXP_GET: u16 = 0x0201;
    pub(in crate::wire) const EXP_DELETE: u16 = 0x0202;
    pub(in crate::wire) const EXP_GET_STATS_CPU: u16 = 0x0203;
}

/// What happened to an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// It was made (`NLM_F_CREATE | NLM_F_EXCL`).
    New,
    /// It changed, or a dump lists it.
    Update,
    /// It is gone.
    Destroy,
}

impl Event {
    /// The flags that tell a new entry.
    const NEW: u16 = flags::CREATE | flags::EXCL;

    /// What a message with this header tells of a conntrack entry, if that is what it is about:
    /// its payload can then be read by [`Conntrack::parse`] alone.
    #[inline]
    #[must_use]
    pub const fn of_conntrack(header: &Header) -> Option<Self> {
        match header.kind {
            kind::CT_NEW => Some(Self::of_new(header)),
            kind::CT_DELETE => Some(Self::Destroy),
            _ => None,
        }
    }

    const fn of_new(header: &Header) -> Self {
        if header.has(Self::NEW) { Self::New } else { Self::Update }
    }

    /// Type and flags of a message, of the types `new` and `delete`.
    const fn kind_and_flags(self, new: u16, delete: u16) -> (u16, u16) {
        match self {
            Self::New => (new, Self::NEW),
            Self::Update => (new, 0),
            Self::Destroy => (delete, 0),
        }
    }
}

/// One message, read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "the large one is the common one, and is borrowed")]
pub enum Message<'a> {
    /// A conntrack entry.
    Conntrack {
        /// What happened to it.
        event: Event,
        /// What the message tells of it.
        ct: Conntrack<'a>,
    },
    /// An expectation.
    Expect {
        /// What happened to it.
        event: Event,
        /// What the message tells of it.
        expect: Expect<'a>,
    },
    /// Counters of one CPU.
    CpuStats(CpuStats),
    /// Counters of one CPU, for expectations.
    ExpectCpuStats(ExpectCpuStats),
    /// The whole table.
    GlobalStats(GlobalStats),
    /// `NLMSG_ERROR`: a refusal or an acknowledgement.
    Response(Response<'a>),
    /// `NLMSG_DONE`: the end of a dump.
    Done(Done<'a>),
    /// `NLMSG_OVERRUN`: data were lost. No kernel sends it (an overrun is ENOBUFS).
    Overrun,
    /// `NLMSG_NOOP`: nothing.
    Noop,
    /// Not for a conntrack listener.
    Other {
        /// `nlmsg_type`.
        kind: u16,
    },
}

impl<'a> Message<'a> {
    /// Reads a message.
    ///
    /// # Errors
    /// What is wrong with it; the messages after it in the datagram can still be read.
    #[inline]
    pub fn parse(raw: &RawMessage<'a>) -> Result<Self, Error> {
        let payload = raw.payload;
        match raw.header.kind {
            kind::CT_NEW => Conntrack::parse(payload)
                .map(|ct| Self::Conntrack { event: Event::of_new(&raw.header), ct }),
            kind::CT_DELETE => {
                Conntrack::parse(payload).map(|ct| Self::Conntrack { event: Event::Destroy, ct })
            }
            _ => Self::parse_other(raw),
        }
    }

    /// The messages that come seldom.
    fn parse_other(raw: &RawMessage<'a>) -> Result<Self, Error> {
        let payload = raw.payload;
        match raw.header.kind {
            kind::EXP_NEW => Expect::parse(payload)
                .map(|expect| Self::Expect { event: Event::of_new(&raw.header), expect }),
            kind::EXP_DELETE => {
                Expect::parse(payload).map(|expect| Self::Expect { event: Event::Destroy, expect })
            }
            kind::CT_GET_STATS_CPU => CpuStats::parse(payload).map(Self::CpuStats),
            kind::CT_GET_STATS => GlobalStats::parse(payload).map(Self::GlobalStats),
            kind::EXP_STATS_CPU_ANSWER | kind::EXP_GET_STATS_CPU => {
                ExpectCpuStats::parse(payload).map(Self::ExpectCpuStats)
            }
            kind::ERROR => Response::parse(raw).map(Self::Response),
            kind::DONE => Done::parse(raw).map(Self::Done),
            kind::OVERRUN => Ok(Self::Overrun),
            kind::NOOP => Ok(Self::Noop),
            kind => Ok(Self::Other { kind }),
        }
    }

    /// Writes the message as a kernel would send it, with sequence number `seq` (0 in events).
    ///
    /// For simulations and tests; requests are written by [`super::request`].
    ///
    /// # Errors
    /// [`Full`] when it does not fit.
    pub fn emit(&self, w: &mut Writer<'_>, seq: u32) -> Result<(), Full> {
        let bare = |w: &mut Writer<'_>, kind| w.message(header(kind, 0, seq), &[], |_| Ok(()));
        match self {
            Self::Conntrack { event, ct } => {
                let (kind, flags) = event.kind_and_flags(kind::CT_NEW, kind::CT_DELETE);
                w.netfilter(header(kind, flags, seq), Nfgen::of(ct.family), |w| ct.emit(w))
            }
            Self::Expect { event, expect } => {
                let (kind, flags) = event.kind_and_flags(kind::EXP_NEW, kind::EXP_DELETE);
                w.netfilter(header(kind, flags, seq), Nfgen::of(expect.family), |w| expect.emit(w))
            }
            Self::CpuStats(stats) => {
                let header = header(kind::CT_GET_STATS_CPU, flags::MULTI, seq);
                w.netfilter(header, Nfgen::of_cpu(stats.cpu), |w| stats.emit(w))
            }
            Self::ExpectCpuStats(stats) => {
                let header = header(kind::EXP_STATS_CPU_ANSWER, flags::MULTI, seq);
                w.netfilter(header, Nfgen::of_cpu(stats.cpu), |w| stats.emit(w))
            }
            Self::GlobalStats(stats) => {
                let header = header(kind::CT_GET_STATS, 0, seq);
                w.netfilter(header, Nfgen::default(), |w| stats.emit(w))
            }
            Self::Response(response) => {
                let header = header(kind::ERROR, flags::CAPPED | response.tlvs_flag(), seq);
                w.message(header, &response.fixed(), |w| response.emit(w))
            }
            Self::Done(done) => {
                let header = header(kind::DONE, flags::MULTI | done.tlvs_flag(), seq);
                w.message(header, &done.fixed(), |w| done.emit(w))
            }
            Self::Overrun => bare(w, kind::OVERRUN),
            Self::Noop => bare(w, kind::NOOP),
            Self::Other { kind } => bare(w, *kind),
        }
    }
}

/// A header without length and port, which are filled in by the writer and the kernel.
pub(super) const fn header(kind: u16, flags: u16, seq: u32) -> Header {
    Header { len: 0, kind, flags, seq, port: 0 }
}

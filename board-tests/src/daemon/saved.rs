//! What a checkpoint would save of a namespace, read by dumps of ctnetlink.
//!
//! Nothing of the daemon's table is used: a message becomes a [`SavedFlow`] field by field.

use std::io;
use std::os::fd::OwnedFd;

use firmware_ctd::checkpoint::{SavedExpect, SavedFlow};
use firmware_ctd::restore::FlowSource;
use firmware_ctd::table::{Extension, L4State};
use firmware_ctd::wire::{
    Conntrack, Expect, Family, Full, Message, Messages, ProtoInfo, Writer, request,
};

use crate::lab::{Context, Netns};
use crate::load::sys;

/// Flows and expectations in memory.
#[derive(Clone, Debug, Default)]
pub struct Saved {
    /// Flows.
    pub flows: Vec<SavedFlow>,
    /// Expectations.
    pub expectations: Vec<SavedExpect>,
}

impl FlowSource for Saved {
    type Error = std::convert::Infallible;

    fn flows(&mut self, each: &mut dyn FnMut(&SavedFlow) -> bool) -> Result<(), Self::Error> {
        let _ = self.flows.iter().all(each);
        Ok(())
    }

    fn expectations(
        &mut self,
        each: &mut dyn FnMut(&SavedExpect) -> bool,
    ) -> Result<(), Self::Error> {
        let _ = self.expectations.iter().all(each);
        Ok(())
    }
}

/// Dumps the flows and the expectations of `netns`.
///
/// # Errors
/// When the kernel refuses, or a message is not understood.
pub fn dump(netns: &Netns) -> io::Result<Saved> {
    let mut saved = Saved::default();
    let socket = socket(netns)?;
    ask(
        &socket,
        |w| request::dump(w, 1, Family::Unspec),
        |message| {
            if let Message::Conntrack { ct, .. } = message {
                saved.flows.extend(flow(ct));
            }
        },
    )?;
    ask(
        &socket,
        |w| request::expect_dump(w, 1, Family::Unspec),
        |message| {
            if let Message::Expect { expect, .. } = message {
                saved.expectations.extend(expectation(expect));
            }
        },
    )?;
    Ok(saved)
}

fn socket(netns: &Netns) -> io::Result<OwnedFd> {
    let open = || -> io::Result<OwnedFd> {
        let socket = sys::netfilter_socket()?;
        sys::bind(&socket, 0)?;
        sys::receive_timeout(&socket, 10)?;
        Ok(socket)
    };
    netns.run(|| open().context("opening a netlink socket")).map_err(io::Error::other)
}

fn ask(
    socket: &OwnedFd,
    write: impl FnOnce(&mut Writer<'_>) -> Result<(), Full>,
    mut each: impl FnMut(&Message<'_>),
) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    let mut writer = Writer::new(&mut buffer);
    write(&mut writer).map_err(|full| io::Error::other(full.to_string()))?;
    sys::send(socket, writer.as_bytes())?;
    loop {
        let length = sys::receive(socket, &mut buffer)?;
        for raw in Messages::new(&buffer[..length]) {
            let message = raw.and_then(|raw| Message::parse(&raw)).map_err(io::Error::other)?;
            match message {
                Message::Done(done) if done.errno == 0 => return Ok(()),
                Message::Done(done) => return Err(io::Error::from_raw_os_error(done.errno)),
                Message::Response(no) => return Err(io::Error::from_raw_os_error(no.errno)),
                message => each(&message),
            }
        }
    }
}

/// The flow of a dump's message.
#[must_use]
pub fn flow(ct: &Conntrack<'_>) -> Option<SavedFlow> {
    Some(SavedFlow {
        orig: ct.orig?,
        reply: ct.reply?,
        zone: ct.zone.or(ct.zone_orig).unwrap_or(0),
        zone_orig_only: ct.zone_orig.is_some(),
        status: ct.status?,
        mark: ct.mark.unwrap_or(0),
        timeout_s: ct.timeout_s,
        l4_state: l4_state(&ct.protoinfo),
        counters: ct.counters_orig.zip(ct.counters_reply).map(|(orig, reply)| [orig, reply]),
        inexact: false,
        start_ms: ct.start_ns.map(|ns| ns / 1_000_000),
        rare: Extension {
            labels: told(ct.labels),
            seqadj_orig: told(ct.seqadj_orig),
            seqadj_reply: told(ct.seqadj_reply),
            helper: ct.helper.map(|helper| padded(helper.name)),
            master: ct.master,
            vtags: match ct.protoinfo {
                ProtoInfo::Sctp(sctp) => {
                    sctp.vtag_orig.zip(sctp.vtag_reply).map(|(orig, reply)| [orig, reply])
                }
                _ => None,
            },
            synproxy: told(ct.synproxy),
            zone_reply: ct.zone_reply,
        },
    })
}

/// What flows made through ctnetlink have room for is all zero there, and as good as none.
fn told<T: Default + PartialEq>(value: Option<T>) -> Option<T> {
    value.filter(|value| *value != T::default())
}

fn padded<const N: usize>(name: &[u8]) -> [u8; N] {
    let mut padded = [0; N];
    padded.iter_mut().take(N - 1).zip(name).for_each(|(to, from)| *to = *from);
    padded
}

fn l4_state(info: &ProtoInfo) -> Option<L4State> {
    match info {
        ProtoInfo::Tcp(tcp) => Some(L4State {
            state: tcp.state?.0,
            wscales: tcp.wscale_orig? | tcp.wscale_reply? << 4,
            flags_orig: tcp.flags_orig?.flags,
            flags_reply: tcp.flags_reply?.flags,
        }),
        ProtoInfo::Sctp(sctp) => Some(L4State { state: sctp.state?, ..L4State::default() }),
        ProtoInfo::Dccp(_) | ProtoInfo::None => None,
    }
}

fn expectation(expect: &Expect<'_>) -> Option<SavedExpect> {
    Some(SavedExpect {
        master: expect.master?,
        tuple: expect.tuple?,
        mask: expect.mask?,
        zone: expect.zone.unwrap_or(0),
        timeout_s: expect.timeout_s?,
        flags: expect.flags.unwrap_or(0),
        class: expect.class.unwrap_or(0),
        helper: expect.help_name.map(padded),
        function: expect.function.map(padded),
        nat: expect.nat.map(|nat| (nat.dir, nat.tuple)),
    })
}

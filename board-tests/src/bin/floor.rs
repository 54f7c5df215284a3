//! The bare receive loop: the lower bound of what any listener of conntrack events costs.
//!
//! Joins NEW, UPDATE and DESTROY reliably, receives with `recvmmsg` until the socket is empty,
//! naps, and does nothing but count messages by type. `ready` on stdout tells that it listens;
//! SIGTERM or SIGINT makes it print its counts and end.
#![expect(clippy::print_stdout, reason = "a program for the command line")]

use board_tests::load::sys;
use lexopt::{Arg, Parser, ValueExt};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::SignalFd;
use std::error::Error;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

const USAGE: &str = "\
Usage: floor [OPTIONS]
Receives conntrack events and only counts them, until SIGTERM.
  --nap-ms N      nap after the socket was empty (2; 0 for none)
  --one-by-one    one message a recv, no nap
  --split         DESTROY on one socket, NEW and UPDATE on a second one
  --buffer BYTES  receive buffer asked for, which the kernel doubles (4194304)
  --groups LIST   of new,update,destroy (all three)
  --help          this text";
/// Messages in one `recvmmsg`, and bytes for each.
const BATCH: (usize, usize) = (256, 4096);

struct Options {
    nap_ms: i32,
    one_by_one: bool,
    split: bool,
    buffer: usize,
    groups: Vec<u32>,
}

#[derive(Default)]
struct Counts {
    new: u64,
    update: u64,
    destroy: u64,
    other: u64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let Some(options) = options()? else {
        println!("{USAGE}");
        return Ok(());
    };
    let signals = signals()?;
    let sockets = sockets(&options)?;
    println!("ready");
    let mut counts = Counts::default();
    listen(&options, &sockets, &signals, &mut counts)?;
    let Counts { new, update, destroy, other } = counts;
    println!("new {new} update {update} destroy {destroy} other {other}");
    Ok(())
}

fn options() -> Result<Option<Options>, lexopt::Error> {
    let (new, update, destroy) = (sys::GROUP_NEW, sys::GROUP_UPDATE, sys::GROUP_DESTROY);
    let mut options = Options {
        nap_ms: 2,
        one_by_one: false,
        split: false,
        buffer: 4 << 20,
        groups: vec![new, update, destroy],
    };
    let mut parser = Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("nap-ms") => options.nap_ms = parser.value()?.parse()?,
            Arg::Long("one-by-one") => options.one_by_one = true,
            Arg::Long("split") => options.split = true,
            Arg::Long("buffer") => options.buffer = parser.value()?.parse()?,
            Arg::Long("groups") => {
                options.groups = parser
                    .value()?
                    .string()?
                    .split(',')
                    .map(|name| match name {
                        "new" => Ok(new),
                        "update" => Ok(update),
                        "destroy" => Ok(destroy),
                        other => Err(lexopt::Error::from(format!("no such group: {other}"))),
                    })
                    .collect::<Result<_, _>>()?;
            }
            Arg::Long("help") | Arg::Short('h') => return Ok(None),
            other => return Err(other.unexpected()),
        }
    }
    Ok(Some(options))
}

fn signals() -> nix::Result<SignalFd> {
    let mut set = SigSet::empty();
    set.add(Signal::SIGTERM);
    set.add(Signal::SIGINT);
    set.thread_block()?;
    SignalFd::new(&set)
}

fn sockets(options: &Options) -> std::io::Result<Vec<OwnedFd>> {
    let split: fn(&u32) -> bool = |group| *group == sys::GROUP_DESTROY;
    let (first, second): (Vec<u32>, Vec<u32>) = match options.split {
        true => options.groups.iter().partition(|group| split(group)),
        false => (options.groups.clone(), Vec::new()),
    };
    [first, second]
        .iter()
        .filter(|groups| !groups.is_empty())
        .map(|groups| {
            let socket = sys::netfilter_socket()?;
            sys::force_receive_buffer(&socket, options.buffer)?;
            sys::make_reliable(&socket)?;
            sys::bind(&socket, 0)?;
            groups.iter().try_for_each(|group| sys::join(&socket, *group))?;
            Ok(socket)
        })
        .collect()
}

fn listen(
    options: &Options,
    sockets: &[OwnedFd],
    signals: &SignalFd,
    counts: &mut Counts,
) -> std::io::Result<()> {
    let count = if options.one_by_one { 1 } else { BATCH.0 };
    let mut batch = sys::Batch::new(count, BATCH.1);
    let mut waiting: Vec<BorrowedFd<'_>> = sockets.iter().map(AsFd::as_fd).collect();
    waiting.push(signals.as_fd());
    let nap_ms = if options.one_by_one { 0 } else { options.nap_ms };
    loop {
        sys::readable(&waiting, -1)?;
        for socket in sockets {
            drain(socket, &mut batch, counts)?;
        }
        if sys::readable(&waiting[sockets.len()..], nap_ms)? {
            return Ok(());
        }
    }
}

fn drain(socket: &OwnedFd, batch: &mut sys::Batch, counts: &mut Counts) -> std::io::Result<()> {
    loop {
        let got = batch.receive(socket)?;
        for at in 0..got {
            counts.datagram(batch.datagram(at));
        }
        if got == 0 {
            return Ok(());
        }
    }
}

impl Counts {
    /// A datagram of the kernel's conntrack groups holds one message.
    fn datagram(&mut self, bytes: &[u8]) {
        const CREATE: u16 = 0x400;
        let Some(header) = bytes.first_chunk::<16>() else {
            self.other += 1;
            return;
        };
        let kind = u16::from_ne_bytes([header[4], header[5]]);
        let flags = u16::from_ne_bytes([header[6], header[7]]);
        match kind {
            0x0100 if flags & CREATE != 0 => self.new += 1,
            0x0100 => self.update += 1,
            0x0102 => self.destroy += 1,
            _ => self.other += 1,
        }
    }
}

//! The process that corrects timeouts: for each restored flow that has had no packet.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use super::super::load::Loaded;
use super::tell;
use crate::checkpoint::SavedFlow;
use crate::checkpoint::age::{Correction, correction};
use crate::daemon::netlink::RequestSocket;
use crate::daemon::sys::{self, Batch};
use crate::wire::nlmsg::Messages;
use crate::wire::{Conntrack, Message, Writer, request};

/// Room for an answer.
const ANSWER_BYTES: usize = 4 << 10;

/// Corrects all, tells the worker how many, and ends the process.
pub(super) fn run(loaded: &Loaded, down_s: u32, socket: UnixStream) -> ! {
    sys::close_all_but(socket.as_fd());
    if let Ok((corrected, dropped)) = correct(loaded, down_s) {
        tell(socket, corrected, dropped);
    }
    sys::exit_at_once(0)
}

fn correct(loaded: &Loaded, down_s: u32) -> io::Result<(u32, u32)> {
    let kernel = RequestSocket::open()?;
    let mut batch = Batch::new(1, ANSWER_BYTES)?;
    let (mut corrected, mut dropped, mut failed) = (0, 0, Ok(()));
    loaded
        .made(&mut |flow| {
            let since = crate::daemon::clock::now().boot.since(loaded.at.boot).as_secs();
            let since_s = u32::try_from(since).unwrap_or(u32::MAX);
            match correct_flow(&kernel, &mut batch, flow, down_s, since_s) {
                Ok(Some(Correction::Timeout(_))) => corrected += 1,
                Ok(Some(Correction::Drop)) => dropped += 1,
                Ok(None) => {}
                Err(error) => failed = Err(error),
            }
            failed.is_ok()
        })
        .map_err(io::Error::other)?;
    failed.map(|()| (corrected, dropped))
}

/// Corrects one flow, if it is there and has had no packet.
fn correct_flow(
    kernel: &RequestSocket,
    batch: &mut Batch,
    flow: &SavedFlow,
    down_s: u32,
    since_s: u32,
) -> io::Result<Option<Correction>> {
    let Some(timeout_s) = flow.timeout_s else { return Ok(None) };
    let zone = Some(flow.zone).filter(|&zone| zone != 0);
    let mut buffer = [0; 512];
    let mut writer = Writer::new(&mut buffer);
    let full = |_| io::Error::from(io::ErrorKind::InvalidInput);
    request::get(&mut writer, 1, &flow.orig, zone).map_err(full)?;
    kernel.send(&writer)?;
    if !is_untouched(kernel, batch)? {
        return Ok(None);
    }
    let what = correction(timeout_s, down_s, since_s);
    writer.clear();
    match what {
        Correction::Timeout(left_s) => {
            let zone_orig = zone.filter(|_| flow.zone_orig_only);
            let ct = Conntrack {
                orig: Some(flow.orig),
                zone: zone.filter(|_| !flow.zone_orig_only),
                zone_orig,
                timeout_s: Some(left_s),
                ..Conntrack::default()
            };
            request::update(&mut writer, 2, false, &ct).map_err(full)?;
        }
        Correction::Drop => {
            request::delete(&mut writer, 2, false, &flow.orig, zone, None).map_err(full)?;
        }
    }
    kernel.send(&writer)?;
    Ok(Some(what))
}

/// Reads the answer to a request for an entry: whether it is there and has counted nothing. The
/// kernel has answered by the time that the request is sent.
fn is_untouched(kernel: &RequestSocket, batch: &mut Batch) -> io::Result<bool> {
    let mut untouched = false;
    while kernel.receive(batch)? > 0 {
        for datagram in batch.datagrams().filter(|it| it.port == 0) {
            for raw in Messages::new(datagram.bytes).flatten() {
                if let Ok(Message::Conntrack { ct, .. }) = Message::parse(&raw) {
                    let counters = ct.counters_orig.zip(ct.counters_reply);
                    untouched = counters.is_some_and(|(a, b)| a.packets == 0 && b.packets == 0);
                }
            }
        }
    }
    Ok(untouched)
}

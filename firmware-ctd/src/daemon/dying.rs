//! Destroys that the kernel could not deliver and keeps: how many they are, and how many they may
//! be. The worker asks while sinks are behind, the supervisor while the worker does not read.

use std::io;
use std::os::fd::AsFd;

use super::netlink::{self, RequestSocket};
use super::sys::Batch;
use crate::config::{Config, WhenFull};
use crate::pressure::Policy;
use crate::wire::{Message, request};

/// Room for a part of a dump: the kernel makes them at most so large.
pub(super) const DUMP_BYTES: usize = 32 << 10;
/// Parts of a dump that are read before a measurement is given up.
const MOST_PARTS: u32 = 1 << 16;

/// What the configuration says of pressure.
pub(super) fn policy(config: &Config) -> Policy {
    Policy {
        hold: config.retry.when_full == WhenFull::Hold,
        budget_percent: config.retry.dying_budget_percent,
    }
}

/// Asks the kernel for its list of undelivered destroys (`IPCTNL_MSG_CT_GET_DYING`), on a socket of
/// its own, which ends the dump when it is closed.
///
/// # Errors
///
/// What the socket says, or the kernel.
pub(super) fn count_dying(batch: &mut Batch, enough: u32) -> io::Result<u32> {
    let socket = RequestSocket::open()?;
    socket.ask(|writer| request::get_dying(writer, 1))?;
    let mut count = 0;
    for _ in 0..MOST_PARTS {
        for raw in netlink::next_part(socket.as_fd(), batch)? {
            match Message::parse(&raw) {
                Ok(Message::Conntrack { .. }) => count += 1,
                Ok(Message::Done(_)) => return Ok(count),
                Ok(Message::Response(response)) if response.errno != 0 => {
                    return Err(io::Error::from_raw_os_error(response.errno));
                }
                _ => {}
            }
        }
        if count > enough {
            break;
        }
    }
    Ok(count)
}

//! Who else listens to destroys, and keeps the kernel repeating them.
//!
//! While any reliable listener's buffer is full, the kernel repeats a DESTROY to all of them: we
//! recognise the repeats, but the router pays for them, and its table fills with what the other one
//! does not take. `/proc/net/netlink` tells whose socket it is.
//!
//! Source: `net/netlink/af_netlink.c`, `netlink_native_seq_show`.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;

/// Another program's socket for destroys, with what waits in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Listener {
    /// Its netlink port: mostly the process id of its program.
    pub port: u32,
    /// Bytes that wait there, as the kernel counts them.
    pub waiting: u32,
    /// Deliveries that found no room there.
    pub drops: u32,
}

/// `NETLINK_NETFILTER`
const NETFILTER: u32 = 12;
/// `NFNLGRP_CONNTRACK_DESTROY` in the mask of groups.
const DESTROY: u32 = 1 << 2;
/// Longest line.
const LINE: usize = 256;

/// The listener that most waits for, if there is any beside the owner of `own`.
///
/// # Errors
///
/// What reading the file gives.
pub fn fullest(own: impl AsFd) -> io::Result<Option<Listener>> {
    let own = nix::sys::stat::fstat(own)?.st_ino;
    let mut file = File::open("/proc/net/netlink")?;
    let (mut line, mut len) = ([0; LINE], 0);
    let mut part = [0; 1024];
    let mut found: Option<Listener> = None;
    loop {
        let count = file.read(&mut part)?;
        if count == 0 {
            return Ok(found);
        }
        for &byte in &part[..count] {
            if byte != b'\n' {
                // What is longer is no line of that file.
                if let Some(place) = line.get_mut(len) {
                    *place = byte;
                    len += 1;
                }
                continue;
            }
            let other = parse(&line[..len], own).filter(|it| it.waiting > 0);
            if other.is_some_and(|it| found.is_none_or(|known| it.waiting > known.waiting)) {
                found = other;
            }
            len = 0;
        }
    }
}

/// Columns: address, protocol, port, groups, waiting, sent, dump, locks, drops, inode.
fn parse(line: &[u8], own: u64) -> Option<Listener> {
    let line = core::str::from_utf8(line).ok()?;
    let mut columns = line.split_ascii_whitespace().skip(1);
    let protocol: u32 = columns.next()?.parse().ok()?;
    let port = columns.next()?.parse().ok()?;
    let groups = u32::from_str_radix(columns.next()?, 16).ok()?;
    let waiting = columns.next()?.parse().ok()?;
    let drops = columns.nth(3)?.parse().ok()?;
    let inode: u64 = columns.next()?.parse().ok()?;
    let other = protocol == NETFILTER && groups & DESTROY != 0 && inode != own;
    other.then_some(Listener { port, waiting, drops })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_other_listeners_to_destroys_are_of_interest() {
        // `sk Eth Pid Groups Rmem Wmem Dump Locks Drops Inode`, as Linux 6.18 writes it.
        let line = |protocol: u32, groups: &str, inode: u64| {
            format!(
                "0000000000000000 {protocol:<3} 4242       {groups} 4352     0        0     2        17       {inode}"
            )
        };
        let listener = Listener { port: 4242, waiting: 4352, drops: 17 };
        assert_eq!(parse(line(12, "00000004", 9).as_bytes(), 8), Some(listener));
        assert_eq!(parse(line(12, "00000007", 9).as_bytes(), 8), Some(listener));
        assert_eq!(parse(line(12, "00000003", 9).as_bytes(), 8), None, "not to destroys");
        assert_eq!(parse(line(0, "00000004", 9).as_bytes(), 8), None, "another protocol");
        assert_eq!(parse(line(12, "00000004", 8).as_bytes(), 8), None, "ourselves");
        assert_eq!(parse(b"sk Eth Pid Groups Rmem Wmem Dump Locks Drops Inode", 8), None);
        assert_eq!(parse(b"\xff\xfe", 8), None);
    }
}

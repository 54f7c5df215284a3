//! Netlink messages that pretend to be the kernel's.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use firmware_ctd::wire::{Conntrack, Tuple, Writer, request};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, NetlinkAddr, sendto};

use crate::lab::{Context, Netns};
use crate::load::sys;

/// `NETLINK_NETFILTER`
const NETFILTER: &str = "12";

/// The netlink ports of a process that is alone in its network namespace with those that have
/// port numbers of other processes.
///
/// # Errors
/// When it has ended.
pub fn ports_of(pid: i32) -> io::Result<Vec<u32>> {
    let table = fs::read_to_string(format!("/proc/{pid}/net/netlink"))?;
    let inodes = sockets_of(pid)?;
    let own = table.lines().skip(1).filter_map(|line| {
        let field: Vec<&str> = line.split_whitespace().collect();
        let (protocol, port, inode) = (field.get(1)?, field.get(2)?, field.get(9)?);
        (*protocol == NETFILTER && inodes.iter().any(|own| own == inode))
            .then(|| port.parse().ok())?
    });
    Ok(own.collect())
}

fn sockets_of(pid: i32) -> io::Result<Vec<String>> {
    let files = fs::read_dir(format!("/proc/{pid}/fd"))?.flatten();
    let links = files.filter_map(|file| fs::read_link(file.path()).ok());
    let inode = |link: std::path::PathBuf| {
        Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())
    };
    Ok(links.filter_map(inode).collect())
}

/// A destroy of `orig`, a new flow, the end of a dump, and noise, as the kernel might send them.
#[must_use]
pub fn forged(orig: &Tuple) -> Vec<Vec<u8>> {
    let ct = Conntrack {
        orig: Some(*orig),
        reply: Some(orig.inverse()),
        timeout_s: Some(100),
        ..Conntrack::default()
    };
    let written = |write: &dyn Fn(&mut Writer<'_>) -> bool| {
        let mut buffer = [0; 1024];
        let mut writer = Writer::new(&mut buffer);
        if write(&mut writer) { writer.as_bytes().to_vec() } else { Vec::new() }
    };
    let flags = request::CreateFlags::default();
    let mut done = [0_u8; 20];
    done[..4].copy_from_slice(&20_u32.to_ne_bytes());
    done[4..6].copy_from_slice(&3_u16.to_ne_bytes());
    done[8..12].copy_from_slice(&1_u32.to_ne_bytes());
    vec![
        written(&|writer| request::delete(writer, 1, false, orig, None, None).is_ok()),
        written(&|writer| request::create(writer, 1, flags, &ct).is_ok()),
        done.to_vec(),
        (0..=255).collect(),
    ]
}

/// Sends `message` to a netlink port; false if there was no room for it.
///
/// # Errors
/// When the kernel refuses for another reason.
pub fn send_to(netns: &Netns, port: u32, message: &[u8]) -> io::Result<bool> {
    let socket: OwnedFd = netns
        .run(|| sys::netfilter_socket().context("opening a netlink socket"))
        .map_err(io::Error::other)?;
    let address = NetlinkAddr::new(port, 0);
    match sendto(socket.as_raw_fd(), message, &address, MsgFlags::MSG_DONTWAIT) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN | Errno::ENOBUFS) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

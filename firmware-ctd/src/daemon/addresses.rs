//! This machine's addresses, and whether there is a way out: rtnetlink.
//!
//! A socket hears of changes; what holds after one is asked for anew, so that nothing missed on it
//! matters. Lists are answered by the kernel at once.

use core::net::IpAddr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_sys::constants::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

use super::netlink;
use super::sys::Batch;
use crate::wire::route::{self, Route};
use crate::wire::{Family, Full, Writer};

/// Most addresses that are looked at.
pub const MOST: usize = 64;
/// Parts of a list that are read before it is given up.
const MOST_PARTS: u32 = 1 << 12;
/// Changes that are read in one go.
const MOST_CHANGES: u32 = 64;

/// Addresses of this machine, both families.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    known: heapless::Vec<IpAddr, MOST>,
    /// There are more than fit.
    pub cut: bool,
}

impl Addresses {
    /// Whether the machine has this one. With too many to know, any is.
    #[must_use]
    pub fn has(&self, address: IpAddr) -> bool {
        self.cut || self.known.contains(&address)
    }

    /// Those that are known.
    #[must_use]
    pub fn as_slice(&self) -> &[IpAddr] {
        &self.known
    }

    /// Notes one.
    pub fn add(&mut self, address: IpAddr) {
        if !self.known.contains(&address) {
            self.cut |= self.known.push(address).is_err();
        }
    }
}

/// Hears of changes to addresses and routes.
#[derive(Debug)]
pub struct Changes {
    socket: Socket,
}

impl Changes {
    /// Opens the socket.
    ///
    /// # Errors
    ///
    /// What the system calls say.
    pub fn open() -> io::Result<Self> {
        let socket = open()?;
        for group in route::GROUPS {
            socket.add_membership(group)?;
        }
        Ok(Self { socket })
    }

    /// Takes in what is there; whether anything was.
    pub fn take(&self, batch: &mut Batch) -> bool {
        let mut any = false;
        for _ in 0..MOST_CHANGES {
            match batch.receive(self.socket.as_fd()) {
                Ok(0) => break,
                // An error tells that changes were missed.
                Ok(_) | Err(_) => any = true,
            }
        }
        any
    }
}

impl AsFd for Changes {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The addresses of this machine.
///
/// # Errors
///
/// What the socket says, or the kernel.
pub fn addresses(batch: &mut Batch) -> io::Result<Addresses> {
    let mut found = Addresses::default();
    list(batch, route::dump_addresses, |told| {
        if let Route::Address(address, true) = told {
            found.add(address);
        }
    })?;
    Ok(found)
}

/// Whether there is a default route, for IPv4 and for IPv6.
///
/// # Errors
///
/// What the socket says, or the kernel.
pub fn default_routes(batch: &mut Batch) -> io::Result<[bool; 2]> {
    let mut found = [false; 2];
    list(batch, route::dump_routes, |told| match told {
        Route::Default(Family::Ipv4, true) => found[0] = true,
        Route::Default(Family::Ipv6, true) => found[1] = true,
        _ => {}
    })?;
    Ok(found)
}

fn open() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.set_non_blocking(true)?;
    socket.bind_auto()?;
    Ok(socket)
}

/// Asks on a socket of its own, and hands over every answer.
fn list(
    batch: &mut Batch,
    request: fn(&mut Writer<'_>, u32) -> Result<(), Full>,
    mut take: impl FnMut(Route),
) -> io::Result<()> {
    let socket = open()?;
    let mut buffer = [0; 64];
    let mut writer = Writer::new(&mut buffer);
    request(&mut writer, 1).map_err(|_| io::ErrorKind::InvalidInput)?;
    socket.send_to(writer.as_bytes(), &SocketAddr::new(0, 0), 0)?;
    for _ in 0..MOST_PARTS {
        for raw in netlink::next_part(socket.as_fd(), batch)? {
            match Route::parse(&raw) {
                Ok(Route::Done) => return Ok(()),
                Ok(Route::Refused(errno)) => return Err(io::Error::from_raw_os_error(errno)),
                Ok(told) => take(told),
                Err(_) => {}
            }
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

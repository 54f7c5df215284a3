//! rtnetlink: interfaces, addresses and neighbours of the lab.
//!
//! Every function works in the namespace in which its socket was opened. Neighbours are made
//! permanent, so that no packet ever waits, or is lost, for an ARP answer. Source:
//! rtnetlink(7), `linux/if_link.h`, `linux/if_addr.h`, `linux/neighbour.h`.

use std::net::IpAddr;
use std::os::fd::RawFd;

use nix::sys::socket::SockProtocol;

use crate::error::LabError;
use crate::netlink::{ACKED, CREATE, Netlink, Request, attrs, head};

const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWNEIGH: u16 = 28;

/// A hardware address.
pub type Mac = [u8; 6];

/// Packet counts of an interface of the router (`struct rtnl_link_stats64`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkStats {
    /// Frames that came in.
    pub received: u64,
    /// Frames that went out.
    pub sent: u64,
    /// Frames lost on the way in, before the router looked at them.
    pub receive_dropped: u64,
    /// Frames lost on the way out.
    pub send_dropped: u64,
}

/// The interfaces of one namespace.
#[derive(Debug)]
pub struct Links {
    netlink: Netlink,
}

impl Links {
    /// Those of the calling thread's namespace.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn open() -> Result<Self, LabError> {
        Ok(Self { netlink: Netlink::open(SockProtocol::NetlinkRoute, 0)? })
    }

    /// Makes the interface `name` here and its other end `peer` in the namespace behind `there`.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn veth(&mut self, name: &str, peer: &str, there: RawFd) -> Result<(), LabError> {
        let mut request = Request::default();
        request.message(RTM_NEWLINK, CREATE, &link_header(0)).text(3, name).nest(18, |info| {
            info.text(1, "veth").nest(2, |data| {
                data.nest(1, |end| {
                    end.raw(&link_header(0)).text(3, peer).attr(28, &there.to_ne_bytes());
                });
            });
        });
        self.netlink.ack(&request, &format!("making the veth pair {name}"))
    }

    /// Sets `name` up, with `mac` as its address when given.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn up(&mut self, name: &str, mac: Option<Mac>) -> Result<(), LabError> {
        let mut request = Request::default();
        if let Some(mac) = mac {
            request.message(RTM_NEWLINK, ACKED, &link_header(0)).text(3, name).attr(1, &mac);
        }
        request.message(RTM_NEWLINK, ACKED, &link_header(IFF_UP)).text(3, name);
        self.netlink.ack(&request, &format!("setting {name} up"))
    }

    /// Gives an interface that is down another name.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn rename(&mut self, from: &str, to: &str) -> Result<(), LabError> {
        let (index, _) = self.get(from)?;
        let mut header = link_header(0);
        header[4..8].copy_from_slice(&index.to_ne_bytes());
        let mut request = Request::default();
        request.message(RTM_NEWLINK, ACKED, &header).text(3, to);
        self.netlink.ack(&request, &format!("naming {from} {to}"))
    }

    /// Sets an interface down.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn down(&mut self, name: &str) -> Result<(), LabError> {
        let mut header = link_header(IFF_UP);
        header[8..12].copy_from_slice(&0_u32.to_ne_bytes());
        let mut request = Request::default();
        request.message(RTM_NEWLINK, ACKED, &header).text(3, name);
        self.netlink.ack(&request, &format!("setting {name} down"))
    }

    /// Gives `address`/`prefix` to the interface `index`; no duplicate address detection.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn address(&mut self, index: u32, address: IpAddr, prefix: u8) -> Result<(), LabError> {
        let mut header = vec![family(address), prefix, 0, 0];
        header.extend_from_slice(&index.to_ne_bytes());
        let bytes = octets(address);
        let mut request = Request::default();
        request.message(RTM_NEWADDR, CREATE, &header).attr(2, &bytes).attr(1, &bytes);
        request.attr(8, &IFA_F_NODAD.to_ne_bytes());
        self.netlink.ack(&request, &format!("adding the address {address}"))
    }

    /// Tells the interface `index` for good that `address` is at `mac`.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn neighbour(&mut self, index: u32, address: IpAddr, mac: Mac) -> Result<(), LabError> {
        let mut header = vec![family(address), 0, 0, 0];
        header.extend_from_slice(&index.to_ne_bytes());
        header.extend_from_slice(&NUD_PERMANENT.to_ne_bytes());
        header.extend_from_slice(&[0, 0]);
        let mut request = Request::default();
        request.message(RTM_NEWNEIGH, CREATE, &header).attr(1, &octets(address)).attr(2, &mac);
        self.netlink.ack(&request, &format!("adding the neighbour {address}"))
    }

    /// The index and the counters of the interface `name`.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn get(&mut self, name: &str) -> Result<(u32, LinkStats), LabError> {
        let mut request = Request::default();
        request.message(RTM_GETLINK, ACKED, &link_header(0)).text(3, name);
        let mut found = (0, LinkStats::default());
        self.netlink.talk(&request, &format!("looking at {name}"), |reply| {
            found.0 = u32::from_ne_bytes(head(&reply.payload[4..]));
            for (_, stats) in attrs(&reply.payload[16..]).filter(|(kind, _)| *kind == 23) {
                found.1 = parse_stats(stats);
            }
        })?;
        Ok(found)
    }
}

const IFF_UP: u32 = 1;
const IFA_F_NODAD: u32 = 2;
const NUD_PERMANENT: u16 = 0x80;

/// `struct ifinfomsg` with `flags` set.
fn link_header(flags: u32) -> [u8; 16] {
    let mut header = [0; 16];
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..].copy_from_slice(&flags.to_ne_bytes());
    header
}

/// `AF_INET` or `AF_INET6`.
const fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { 2 } else { 10 }
}

/// The bytes of an address in network order.
#[must_use]
pub fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

fn parse_stats(bytes: &[u8]) -> LinkStats {
    let field = |n: usize| u64::from_ne_bytes(head(bytes.get(8 * n..).unwrap_or_default()));
    LinkStats {
        received: field(0),
        sent: field(1),
        receive_dropped: field(6),
        send_dropped: field(7),
    }
}

//! The lab: a NAT router and whole hosts around it, made in this process and gone with it.
//!
//! A [`Lab`] is a router (a network namespace with the machine's real conntrack, ctnetlink and
//! nftables) between LAN and WAN hosts (smoltcp stacks, see [`topology`] for the addresses). No
//! program is called, no file is left, nothing of the machine's own network is touched. It runs as
//! root or, in a user namespace, as anybody: call [`enter`] first thing in `main`.
//!
//! ```no_run
//! use board_tests::lab::{Lab, Options, Plan, enter};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! enter()?;                                        // before any thread runs
//! let mut lab = Lab::new(&Options::default())?;
//! lab.router.account()?;                           // or leave it to the daemon
//! let plan = Plan { tcp_flows: 100, udp_flows: 100, icmp_flows: 10, ..Plan::seeded(7) };
//! let ledger = lab.hosts.run(&plan, |_progress| {})?;
//! let kernel = lab.router.dump()?;                 // the flows as the kernel counts them
//! assert!(ledger.check(&kernel).is_empty());
//! # Ok(())
//! # }
//! ```
//!
//! * [`Router`]: sysctls, timeouts, table, statistics, events; [`Router::spawn`] starts a program
//!   inside, which ends with the test.
//! * [`Hosts`]: driven by whoever holds them ([`Hosts::turn`], [`Hosts::drive_until`]); the value
//!   is `Send`, so that a thread can have the hosts while another watches the router.
//! * [`Plan`] and [`Hosts::run`]: thousands of random TCP, UDP and ICMP flows from one seed; the
//!   [`Ledger`] says for each what the hosts themselves sent and received.
//! * [`daemon::Daemon`]: the real daemon in the router, and [`records`] to read its sink.
//! * [`Path`] and the single steps ([`Hosts::open_udp`], [`Hosts::ping`], [`Hosts::open_tcp`], …).
//!
//! Every packet of a host passes its [`account::Account`], which is the truth that the kernel and
//! the daemon are compared with. Limits: one router, IPv4 and IPv6, no fragments, no IP options.

pub mod account;
mod cable;
pub mod clock;
pub mod ctnetlink;
pub mod daemon;
mod exchange;
pub mod host;
mod hosts;
pub mod ledger;
mod netns;
pub mod outlast;
pub mod plan;
mod port;
mod process;
pub mod reboot;
pub mod records;
mod router;
mod run;
mod steps;
pub mod stream;
mod sys;
mod tuple;

pub use board_guest::topology;
use board_guest::{error, link, netlink, nft};
use nix::net::if_::if_nametoindex;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

pub use error::{Context, LabError};
pub use hosts::{Hosts, Lost};
pub use ledger::{Difference, Ledger, Told};
pub use link::{LinkStats, Mac};
pub use netns::{Netns, enter};
pub use plan::{Plan, Random};
pub use process::Guarded;
pub use router::Router;
pub use run::{Progress, RunError};
pub use steps::{Path, TcpFlow, UdpFlow};
pub use topology::Side;
pub use tuple::{Count, Proto, Tuple};

use cable::Cable;
use hosts::Segment;
use link::Links;
use port::Port;
use sys::PacketSocket;

/// What the hosts are plugged in with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phy {
    /// A veth pair and a packet socket: works for anybody.
    #[default]
    Veth,
    /// A TAP interface: needs access to `/dev/net/tun`.
    Tap,
}

/// How a lab is made.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Hosts on the LAN, 1 to 250.
    pub lan_hosts: u8,
    /// Hosts on the WAN, 1 to 250.
    pub wan_hosts: u8,
    /// How they are plugged in.
    pub phy: Phy,
    /// What the hosts' random numbers start from.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { lan_hosts: 8, wan_hosts: 4, phy: Phy::Veth, seed: 1 }
    }
}

/// A router and the hosts around it.
#[derive(Debug)]
pub struct Lab {
    /// The router.
    pub router: Router,
    /// The hosts of both sides.
    pub hosts: Hosts,
}

impl Lab {
    /// Makes the namespaces, the wires, the firewall and the hosts.
    ///
    /// # Errors
    /// Where the machine forbids it; the message says what to allow.
    pub fn new(options: &Options) -> Result<Self, LabError> {
        let netns = Netns::new()?;
        let mut links = links_of(&netns)?;
        links.up("lo", None)?;
        quiet(&netns)?;
        let lan = plug(&netns, &mut links, Side::Lan, options)?;
        let wan = plug(&netns, &mut links, Side::Wan, options)?;
        firewall(&netns)?;
        let hosts = Hosts::new(
            Segment::new(Side::Lan, options.lan_hosts, lan, options.seed),
            Segment::new(Side::Wan, options.wan_hosts, wan, options.seed ^ 0xffff),
        );
        Ok(Self { router: Router::new(netns, links)?, hosts })
    }
}

/// The interfaces of a namespace.
fn links_of(netns: &Netns) -> Result<Links, LabError> {
    netns.run(Links::open)
}

/// Sets the loopback interface of `netns` up; a new namespace has it down.
///
/// # Errors
/// When the kernel refuses.
pub fn loopback_up(netns: &Netns) -> Result<(), LabError> {
    links_of(netns)?.up("lo", None)
}

/// Hosts around an emulated board: where the cables end is told by [`cable_ends`].
///
/// The emulator is to run in `netns`, whose sockets then hold as many frames as a network card.
///
/// # Errors
/// When the sockets cannot be made in `directory`.
pub fn board_hosts(
    options: &Options,
    directory: &std::path::Path,
    netns: &Netns,
) -> Result<Hosts, LabError> {
    netns.set_sysctl("net.unix.max_dgram_qlen", "512")?;
    let segment = |side, count, seed| {
        let (host, board) = cable_ends(directory, side);
        let cable = netns.run(|| Cable::new(&host, &board))?;
        Ok(Segment::new(side, count, Port::Cable(cable), seed))
    };
    Ok(Hosts::new(
        segment(Side::Lan, options.lan_hosts, options.seed)?,
        segment(Side::Wan, options.wan_hosts, options.seed ^ 0xffff)?,
    ))
}

/// The sockets of the hosts' and of the board's end of the cable on `side`.
#[must_use]
pub fn cable_ends(directory: &std::path::Path, side: Side) -> (PathBuf, PathBuf) {
    let name = side.interface();
    (directory.join(format!("{name}.hosts")), directory.join(format!("{name}.board")))
}

/// Has the kernel track connections in `netns`, which it does where some rule wants it.
///
/// # Errors
/// When the kernel refuses.
pub fn track(netns: &Netns) -> Result<(), LabError> {
    // No interface has that name: nothing is translated.
    netns.run(|| nft::masquerade("nowhere"))
}

/// Forwarding, and the masquerade of IPv4.
fn firewall(netns: &Netns) -> Result<(), LabError> {
    netns.run(|| nft::masquerade(Side::Wan.interface()))?;
    for key in ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"] {
        netns.set_sysctl(key, "1")?;
    }
    Ok(())
}

/// Settings that keep the router from talking or filtering on its own account.
fn quiet(netns: &Netns) -> Result<(), LabError> {
    for (key, value) in [
        ("net.ipv4.conf.all.rp_filter", "0"),
        ("net.ipv4.conf.default.rp_filter", "0"),
        ("net.ipv4.conf.all.send_redirects", "0"),
        ("net.ipv4.conf.default.send_redirects", "0"),
        ("net.ipv6.conf.default.accept_dad", "0"),
        ("net.ipv6.conf.default.accept_ra", "0"),
    ] {
        netns.set_sysctl(key, value)?;
    }
    Ok(())
}

/// Makes the router's interface of `side` and what the hosts are plugged in with.
fn plug(
    router: &Netns,
    links: &mut Links,
    side: Side,
    options: &Options,
) -> Result<Port, LabError> {
    let name = side.interface();
    let port = match options.phy {
        Phy::Veth => veth(links, name)?,
        Phy::Tap => {
            router.run(|| sys::open_tap(name).context("opening /dev/net/tun")).map(Port::Tap)?
        }
    };
    // A helper that changes text leaves its checksum to the hardware, and here is none.
    router.run(|| sys::fill_checksums(name).context("switching checksum offload off"))?;
    links.up(name, Some(side.router_mac()))?;
    let (index, _) = links.get(name)?;
    let (v4, v6) = side.gateway();
    links.address(index, v4.into(), 24)?;
    links.address(index, v6.into(), 64)?;
    let count = if side == Side::Lan { options.lan_hosts } else { options.wan_hosts };
    for place in (0..count).map(|n| side.place(n)) {
        for address in place.addresses() {
            links.neighbour(index, address, place.mac)?;
        }
    }
    Ok(port)
}

/// A veth pair into a namespace of its own, where the kernel stays silent.
fn veth(router: &mut Links, name: &str) -> Result<Port, LabError> {
    const FAR: &str = "host0";
    let netns = Netns::new()?;
    for scope in ["all", "default"] {
        netns.set_sysctl(&format!("net.ipv6.conf.{scope}.disable_ipv6"), "1")?;
    }
    router.veth(name, FAR, netns.as_raw_fd())?;
    // This end first: the router's end then comes up with a carrier, and with its queue on.
    links_of(&netns)?.up(FAR, None)?;
    let socket = netns.run(|| {
        let index = if_nametoindex(FAR).context("looking for the host's interface")?;
        PacketSocket::open(index).context("opening a packet socket")
    })?;
    Ok(Port::Packet(socket))
}

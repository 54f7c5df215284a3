//! One host: a whole smoltcp stack (IPv4, IPv6, ICMP, UDP, TCP) and its account.
//!
//! The kernel has no address on the host's side and takes no part. The host's [`Account`] sits
//! between the stack and the wire. The Ethernet header is put on here and always addresses the
//! router, as the router's neighbour table is fixed the other way round: no ARP and no neighbour
//! discovery, so that no packet waits or is lost for want of an answer. Limits: what smoltcp limits; no congestion control, no delayed
//! acknowledgements, so that runs of one seed make much the same packets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use smoltcp::iface::{Config, Interface, PollResult, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::{AnySocket, icmp, tcp, udp};
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpCidr};

use super::account::Account;
use super::port::{FRAME_MAX, HEADER, Port};
use super::topology::Place;

/// One host of the lab.
pub struct Host {
    place: Place,
    iface: Interface,
    sockets: SocketSet<'static>,
    account: Account,
    dirty: bool,
    send_errors: u64,
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host").field("place", &self.place).finish_non_exhaustive()
    }
}

impl Host {
    pub(super) fn new(place: Place, port: &mut Port, seed: u64, now: Instant) -> Self {
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut account = Account::default();
        let mut wire = Wire::new(&place, port, &mut account, None);
        let mut iface = Interface::new(config, &mut wire, now);
        configure(&mut iface, &place);
        let sockets = SocketSet::new(Vec::new());
        Self { place, iface, sockets, account, dirty: false, send_errors: 0 }
    }

    /// Its addresses.
    #[must_use]
    pub const fn place(&self) -> &Place {
        &self.place
    }

    /// Its address of the family asked for.
    #[must_use]
    pub const fn address(&self, ipv6: bool) -> IpAddr {
        if ipv6 { IpAddr::V6(self.place.ipv6) } else { IpAddr::V4(self.place.ipv4) }
    }

    /// Its books.
    #[must_use]
    pub const fn account(&self) -> &Account {
        &self.account
    }

    /// Its books, to take finished flows out of.
    pub const fn account_mut(&mut self) -> &mut Account {
        &mut self.account
    }

    /// Frames that the system refused to send (they are in no account).
    #[must_use]
    pub const fn send_errors(&self) -> u64 {
        self.send_errors
    }

    /// Adds a socket.
    pub(super) fn add<T: AnySocket<'static>>(&mut self, socket: T) -> SocketHandle {
        self.dirty = true;
        self.sockets.add(socket)
    }

    /// Removes a socket without a word on the wire.
    pub(super) fn remove(&mut self, handle: SocketHandle) {
        self.sockets.remove(handle);
    }

    /// A socket to work on; what it has to say is sent at the next turn.
    pub(super) fn socket<T: AnySocket<'static>>(&mut self, handle: SocketHandle) -> &mut T {
        self.dirty = true;
        self.sockets.get_mut(handle)
    }

    /// A socket to look at.
    pub(super) fn peek<T: AnySocket<'static>>(&self, handle: SocketHandle) -> &T {
        self.sockets.get(handle)
    }

    /// Opens a connection from the socket `handle`; false when smoltcp refuses the addresses.
    pub(super) fn connect(
        &mut self,
        handle: SocketHandle,
        remote: (IpAddr, u16),
        port: u16,
    ) -> bool {
        self.dirty = true;
        let socket: &mut tcp::Socket<'_> = self.sockets.get_mut(handle);
        socket.connect(self.iface.context(), remote, port).is_ok()
    }

    /// Takes an IP packet that arrived for this host.
    pub(super) fn ingress(&mut self, port: &mut Port, packet: &[u8], now: Instant) {
        self.account.received(packet);
        let mut wire = Wire::new(&self.place, port, &mut self.account, Some(packet));
        self.iface.poll_ingress_single(now, &mut wire, &mut self.sockets);
        self.send_errors += wire.errors;
        self.dirty = true;
    }

    /// Sends what the stack has to say; false when there was nothing to look at.
    pub(super) fn egress(&mut self, port: &mut Port, now: Instant) -> bool {
        if !std::mem::take(&mut self.dirty) {
            return false;
        }
        let mut wire = Wire::new(&self.place, port, &mut self.account, None);
        while self.iface.poll_egress(now, &mut wire, &mut self.sockets)
            == PollResult::SocketStateChanged
        {}
        self.send_errors += wire.errors;
        true
    }

    /// When the stack wants a turn although nothing arrives.
    pub(super) fn poll_at(&mut self, now: Instant) -> Option<Instant> {
        self.iface.poll_at(now, &self.sockets)
    }

    pub(super) const fn wake(&mut self) {
        self.dirty = true;
    }
}

#[expect(clippy::expect_used, reason = "two addresses and two routes fit smoltcp's tables")]
fn configure(iface: &mut Interface, place: &Place) {
    iface.update_ip_addrs(|addresses| {
        addresses.push(IpCidr::new(place.ipv4.into(), 24)).expect("room for IPv4");
        addresses.push(IpCidr::new(place.ipv6.into(), 64)).expect("room for IPv6");
    });
    let (v4, v6): (Ipv4Addr, Ipv6Addr) = place.gateway;
    iface.routes_mut().add_default_ipv4_route(v4).expect("room for a route");
    iface.routes_mut().add_default_ipv6_route(v6).expect("room for a route");
}

/// A TCP socket with buffers of `receive` and `send` bytes, without delays of its own.
pub(super) fn tcp_socket(receive: usize, send: usize) -> tcp::Socket<'static> {
    let mut socket = tcp::Socket::new(
        tcp::SocketBuffer::new(vec![0; receive]),
        tcp::SocketBuffer::new(vec![0; send]),
    );
    socket.set_ack_delay(None);
    socket.set_nagle_enabled(false);
    socket
}

/// A UDP socket for `packets` datagrams each way.
pub(super) fn udp_socket(packets: usize) -> udp::Socket<'static> {
    let buffer = || {
        udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; packets], vec![0; packets * 1500])
    };
    udp::Socket::new(buffer(), buffer())
}

/// An ICMP socket for a few echoes.
pub(super) fn icmp_socket() -> icmp::Socket<'static> {
    let buffer = || icmp::PacketBuffer::new(vec![icmp::PacketMetadata::EMPTY; 2], vec![0; 3000]);
    icmp::Socket::new(buffer(), buffer())
}

/// The device that smoltcp sees for one call: at most one packet in, any number out.
struct Wire<'a> {
    place: &'a Place,
    port: &'a mut Port,
    account: &'a mut Account,
    packet: Option<&'a [u8]>,
    errors: u64,
}

impl<'a> Wire<'a> {
    const fn new(
        place: &'a Place,
        port: &'a mut Port,
        account: &'a mut Account,
        packet: Option<&'a [u8]>,
    ) -> Self {
        Self { place, port, account, packet, errors: 0 }
    }
}

struct In<'a>(&'a [u8]);

struct Out<'a> {
    place: &'a Place,
    port: &'a mut Port,
    account: &'a mut Account,
    errors: &'a mut u64,
}

impl RxToken for In<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

impl TxToken for Out<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = [0; FRAME_MAX];
        let frame = &mut frame[..HEADER + len];
        let result = f(&mut frame[HEADER..]);
        let header = self.place.header(frame[HEADER] >> 4 == 6);
        frame[..HEADER].copy_from_slice(&header);
        match self.port.send(frame) {
            Ok(()) => self.account.sent(&frame[HEADER..]),
            Err(_) => *self.errors += 1,
        }
        result
    }
}

impl Wire<'_> {
    const fn out(&mut self) -> Out<'_> {
        let Self { place, port, account, errors, .. } = self;
        Out { place, port, account, errors }
    }
}

impl Device for Wire<'_> {
    type RxToken<'t>
        = In<'t>
    where
        Self: 't;
    type TxToken<'t>
        = Out<'t>
    where
        Self: 't;

    fn receive(&mut self, _: Instant) -> Option<(In<'_>, Out<'_>)> {
        let packet = self.packet.take()?;
        Some((In(packet), self.out()))
    }

    fn transmit(&mut self, _: Instant) -> Option<Out<'_>> {
        Some(self.out())
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = FRAME_MAX - HEADER;
        capabilities
    }
}

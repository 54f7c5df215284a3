//! Single steps on the hosts: one datagram, one echo, one connection, each driven to its end.
//!
//! For tests that need one exact flow rather than a [`Plan`](super::Plan). A step returns when the
//! packets it is about arrived, or fails after two seconds without progress. Limits: payloads
//! below 1,400 bytes for datagrams and echoes; from 16 bytes on they carry a stamp, which a reply
//! to a translated flow needs.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use smoltcp::iface::SocketHandle;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::socket::{icmp, tcp, udp};
use smoltcp::wire::{IcmpRepr, Icmpv4Packet, Icmpv4Repr, Icmpv6Packet, Icmpv6Repr, IpAddress};

use super::account::{Both, Stamp};
use super::error::LabError;
use super::host::{Host, icmp_socket, tcp_socket, udp_socket};
use super::hosts::Hosts;
use super::topology::Side;
use super::tuple::{Proto, Tuple};

const PATIENCE: Duration = Duration::from_secs(2);
const WINDOW: usize = 16 << 10;

/// From which LAN host and port to which WAN host and port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Path {
    /// IPv6 instead of IPv4.
    pub ipv6: bool,
    /// Number of the LAN host.
    pub lan: u8,
    /// Number of the WAN host.
    pub wan: u8,
    /// Port of the LAN host; the identifier of an echo.
    pub sport: u16,
    /// Port of the WAN host; unused by an echo.
    pub dport: u16,
}

impl Path {
    /// The original tuple of a flow on this path, as the router sees it.
    #[must_use]
    pub const fn tuple(&self, proto: Proto) -> Tuple {
        let dport = if proto.is_icmp() { self.sport } else { self.dport };
        let (lan, wan) = (Side::Lan.place(self.lan), Side::Wan.place(self.wan));
        if self.ipv6 {
            Tuple::new(proto, (IpAddr::V6(lan.ipv6), self.sport), (IpAddr::V6(wan.ipv6), dport))
        } else {
            Tuple::new(proto, (IpAddr::V4(lan.ipv4), self.sport), (IpAddr::V4(wan.ipv4), dport))
        }
    }

    /// ICMP or ICMPv6, by the family.
    #[must_use]
    pub const fn echo(&self) -> Proto {
        if self.ipv6 { Proto::Icmpv6 } else { Proto::Icmp }
    }
}

/// A UDP flow whose sockets are open at both hosts.
#[derive(Debug)]
pub struct UdpFlow {
    /// Its path.
    pub path: Path,
    stamp: Stamp,
    client: SocketHandle,
    server: SocketHandle,
}

/// A TCP connection that is established at both hosts.
#[derive(Debug)]
pub struct TcpFlow {
    /// Its path.
    pub path: Path,
    client: SocketHandle,
    server: SocketHandle,
}

impl Hosts {
    /// What the LAN host of `path` sent and received on the flow of `proto`.
    #[must_use]
    pub fn at_lan(&self, path: &Path, proto: Proto) -> Both {
        self.lan.hosts[usize::from(path.lan)].account().get(&path.tuple(proto))
    }

    /// What the WAN host of `path` sent and received on the flow of `proto`: with a translation, on
    /// the flow from the router's address and the same port.
    #[must_use]
    pub fn at_wan(&self, path: &Path, proto: Proto) -> Both {
        let account = self.wan.hosts[usize::from(path.wan)].account();
        let Tuple { src, dst, .. } = path.tuple(proto);
        let (router, _) = Side::Wan.gateway();
        let seen = if path.ipv6 { src } else { (router, src.port()).into() };
        account.get(&Tuple { proto, src: dst, dst: seen })
    }

    pub(super) fn lan_host(&mut self, path: &Path) -> &mut Host {
        &mut self.lan.hosts[usize::from(path.lan)]
    }

    pub(super) fn wan_host(&mut self, path: &Path) -> &mut Host {
        &mut self.wan.hosts[usize::from(path.wan)]
    }

    fn until(&mut self, doing: &str, done: impl FnMut(&mut Self) -> bool) -> Result<(), LabError> {
        if self.drive_until(PATIENCE, done) {
            return Ok(());
        }
        Err(LabError::new(doing, io::ErrorKind::TimedOut.into()))
    }

    /// Opens the sockets of a UDP flow; nothing is sent.
    ///
    /// # Errors
    /// When a port is 0.
    pub fn open_udp(&mut self, path: Path) -> Result<UdpFlow, LabError> {
        let client = bound(self.lan_host(&path), path.sport)?;
        let server = bound(self.wan_host(&path), path.dport)?;
        Ok(UdpFlow { path, stamp: self.next_stamp(), client, server })
    }

    /// Sends one datagram of `bytes` payload from the LAN host; returns when it arrived.
    ///
    /// # Errors
    /// When it does not arrive.
    pub fn udp_send(&mut self, flow: &UdpFlow, bytes: usize) -> Result<(), LabError> {
        let to = flow.path.tuple(Proto::Udp).dst;
        send_datagram(self.lan_host(&flow.path), flow.client, flow.stamp, bytes, to)?;
        self.arrive("sending a datagram")
    }

    /// Sends one datagram of `bytes` payload back to where the flow's first one came from.
    ///
    /// # Errors
    /// When none with a stamp (16 bytes at least) came before, or it does not arrive.
    pub fn udp_reply(&mut self, flow: &UdpFlow, bytes: usize) -> Result<(), LabError> {
        let host = self.wan_host(&flow.path);
        let seen = host.account().stamped(flow.stamp.0).ok_or_else(|| {
            LabError::new("answering a datagram", io::Error::other("none with a stamp came"))
        })?;
        send_datagram(host, flow.server, flow.stamp, bytes, seen.dst)?;
        self.arrive("answering a datagram")
    }

    /// Closes the sockets of a UDP flow; nothing is sent.
    #[expect(clippy::needless_pass_by_value, reason = "the flow cannot be used any more")]
    pub fn close_udp(&mut self, flow: UdpFlow) {
        let UdpFlow { path, client, server, .. } = flow;
        self.lan_host(&path).remove(client);
        self.wan_host(&path).remove(server);
    }

    /// One echo request with `bytes` of payload and its reply.
    ///
    /// # Errors
    /// When no reply comes.
    pub fn ping(&mut self, path: &Path, bytes: usize) -> Result<(), LabError> {
        let before = self.at_lan(path, path.echo()).received.packets;
        let stamp = self.next_stamp();
        let host = self.lan_host(path);
        let handle = host.add(icmp_socket());
        let sent = send_echo(host, handle, path, 0, &payload(stamp, bytes));
        let result = sent.and_then(|()| {
            self.until("waiting for an echo reply", |hosts| {
                hosts.at_lan(path, path.echo()).received.packets > before
            })
        });
        self.lan_host(path).remove(handle);
        result
    }

    /// Opens a connection; returns when both sides are established.
    ///
    /// # Errors
    /// When it is not established, or a port is 0.
    pub fn open_tcp(&mut self, path: Path) -> Result<TcpFlow, LabError> {
        let host = self.wan_host(&path);
        let server = host.add(tcp_socket(WINDOW, WINDOW));
        let listening = host.socket::<tcp::Socket<'_>>(server).listen(path.dport).is_ok();
        let remote = path.tuple(Proto::Tcp).dst;
        let host = self.lan_host(&path);
        let client = host.add(tcp_socket(WINDOW, WINDOW));
        if !listening || !host.connect(client, (remote.ip(), remote.port()), path.sport) {
            return Err(bad_port("opening a connection"));
        }
        let flow = TcpFlow { path, client, server };
        self.until("opening a connection", |hosts| {
            hosts.states(&flow) == [tcp::State::Established; 2]
        })?;
        Ok(flow)
    }

    /// Opens a connection from the WAN host of `path` to the router's own address and `port`, which
    /// the router must translate to the LAN host, as a helper does for one that was announced;
    /// returns when both sides are established. IPv4 only.
    ///
    /// # Errors
    /// When it is not established, or a port is 0.
    pub fn open_tcp_back(&mut self, path: Path, port: u16) -> Result<TcpFlow, LabError> {
        let host = self.lan_host(&path);
        let client = host.add(tcp_socket(WINDOW, WINDOW));
        let listening = host.socket::<tcp::Socket<'_>>(client).listen(path.sport).is_ok();
        let (router, _) = Side::Wan.gateway();
        let host = self.wan_host(&path);
        let server = host.add(tcp_socket(WINDOW, WINDOW));
        if !listening || !host.connect(server, (router.into(), port), path.dport) {
            return Err(bad_port("opening a connection from the WAN"));
        }
        let flow = TcpFlow { path, client, server };
        self.until("opening a connection from the WAN", |hosts| {
            hosts.states(&flow) == [tcp::State::Established; 2]
        })?;
        Ok(flow)
    }

    /// The socket of a connection at one of its hosts.
    pub(super) fn end_of(&mut self, flow: &TcpFlow, side: Side) -> &mut tcp::Socket<'static> {
        match side {
            Side::Lan => self.lan_host(&flow.path).socket(flow.client),
            Side::Wan => self.wan_host(&flow.path).socket(flow.server),
        }
    }

    fn states(&self, flow: &TcpFlow) -> [tcp::State; 2] {
        let lan = &self.lan.hosts[usize::from(flow.path.lan)];
        let wan = &self.wan.hosts[usize::from(flow.path.wan)];
        [
            lan.peek::<tcp::Socket<'_>>(flow.client).state(),
            wan.peek::<tcp::Socket<'_>>(flow.server).state(),
        ]
    }

    /// Sends `up` bytes from the LAN host, then `down` bytes back; returns when both arrived and
    /// are acknowledged.
    ///
    /// # Errors
    /// When they do not arrive.
    pub fn transfer(&mut self, flow: &TcpFlow, up: usize, down: usize) -> Result<(), LabError> {
        let (mut to_send, mut to_receive) = (up, up);
        self.until("transferring to the WAN", |hosts| {
            to_send -= push(hosts.lan_host(&flow.path), flow.client, to_send);
            to_receive -= pull(hosts.wan_host(&flow.path), flow.server);
            to_receive == 0
        })?;
        let (mut to_send, mut to_receive) = (down, down);
        self.until("transferring to the LAN", |hosts| {
            to_send -= push(hosts.wan_host(&flow.path), flow.server, to_send);
            to_receive -= pull(hosts.lan_host(&flow.path), flow.client);
            to_receive == 0
        })?;
        self.until("acknowledging", |hosts| hosts.unacknowledged(flow) == 0)?;
        self.arrive("acknowledging")
    }

    fn unacknowledged(&mut self, flow: &TcpFlow) -> usize {
        self.lan_host(&flow.path).socket::<tcp::Socket<'_>>(flow.client).send_queue()
            + self.wan_host(&flow.path).socket::<tcp::Socket<'_>>(flow.server).send_queue()
    }

    /// Closes both sides with FIN, the LAN host first; returns when all is acknowledged.
    ///
    /// # Errors
    /// When the far side does not finish.
    pub fn close_tcp(&mut self, flow: TcpFlow) -> Result<(), LabError> {
        self.lan_host(&flow.path).socket::<tcp::Socket<'_>>(flow.client).close();
        self.until("closing a connection", |hosts| {
            let server = hosts.wan_host(&flow.path).socket::<tcp::Socket<'_>>(flow.server);
            if server.state() == tcp::State::CloseWait {
                server.close();
            }
            hosts.states(&flow) == [tcp::State::TimeWait, tcp::State::Closed]
        })?;
        self.drop_tcp(flow);
        Ok(())
    }

    /// Ends a connection with one RST from the LAN host.
    ///
    /// # Errors
    /// When it does not arrive.
    pub fn abort_tcp(&mut self, flow: TcpFlow) -> Result<(), LabError> {
        self.lan_host(&flow.path).socket::<tcp::Socket<'_>>(flow.client).abort();
        self.until("aborting a connection", |hosts| hosts.states(&flow)[1] == tcp::State::Closed)?;
        self.drop_tcp(flow);
        Ok(())
    }

    /// Forgets a connection at both sides without a packet: the flow stays in the router.
    #[expect(clippy::needless_pass_by_value, reason = "the flow cannot be used any more")]
    pub fn drop_tcp(&mut self, flow: TcpFlow) {
        let TcpFlow { path, client, server } = flow;
        self.lan_host(&path).remove(client);
        self.wan_host(&path).remove(server);
    }

    fn arrive(&mut self, doing: &str) -> Result<(), LabError> {
        // One turn first: nothing is lost before it was sent.
        self.turn();
        self.settle().map_err(|lost| LabError::new(doing, io::Error::other(lost)))
    }
}

fn bad_port(doing: &str) -> LabError {
    LabError::new(doing, io::Error::other("a port is 0 or too many packets wait"))
}

pub(super) fn bound(host: &mut Host, port: u16) -> Result<SocketHandle, LabError> {
    let handle = host.add(udp_socket(4));
    let bound = host.socket::<udp::Socket<'_>>(handle).bind(port);
    bound.map(|()| handle).map_err(|_| bad_port("opening a UDP socket"))
}

/// A payload of `bytes`: the stamp if it fits, then filler.
pub(super) fn payload(Stamp(id): Stamp, bytes: usize) -> Vec<u8> {
    let mut payload = vec![id.to_be_bytes()[7]; bytes];
    if let Some(start) = payload.get_mut(..Stamp::LEN) {
        start.copy_from_slice(&Stamp(id).bytes());
    }
    payload
}

pub(super) fn send_datagram(
    host: &mut Host,
    handle: SocketHandle,
    stamp: Stamp,
    bytes: usize,
    to: std::net::SocketAddr,
) -> Result<(), LabError> {
    let socket = host.socket::<udp::Socket<'_>>(handle);
    while socket.recv().is_ok() {}
    socket.send_slice(&payload(stamp, bytes), to).map_err(|_| bad_port("sending a datagram"))
}

/// Queues one echo request on the ICMP socket `handle`.
pub(super) fn send_echo(
    host: &mut Host,
    handle: SocketHandle,
    path: &Path,
    seq_no: u16,
    data: &[u8],
) -> Result<(), LabError> {
    let ident = path.sport;
    let to = IpAddress::from(path.tuple(path.echo()).dst.ip());
    let from = host.address(path.ipv6);
    let socket = host.socket::<icmp::Socket<'_>>(handle);
    if !socket.is_open() && socket.bind(icmp::Endpoint::Ident(ident)).is_err() {
        return Err(bad_port("sending an echo request"));
    }
    let repr = if path.ipv6 {
        IcmpRepr::Ipv6(Icmpv6Repr::EchoRequest { ident, seq_no, data })
    } else {
        IcmpRepr::Ipv4(Icmpv4Repr::EchoRequest { ident, seq_no, data })
    };
    let checksums = ChecksumCapabilities::default();
    let size = match &repr {
        IcmpRepr::Ipv4(repr) => repr.buffer_len(),
        IcmpRepr::Ipv6(repr) => repr.buffer_len(),
    };
    let buffer = socket.send(size, to).map_err(|_| bad_port("sending an echo request"))?;
    match (&repr, from, to) {
        (IcmpRepr::Ipv4(repr), ..) => {
            repr.emit(&mut Icmpv4Packet::new_unchecked(buffer), &checksums);
        }
        (IcmpRepr::Ipv6(repr), IpAddr::V6(from), IpAddress::Ipv6(to)) => {
            repr.emit(&from, &to, &mut Icmpv6Packet::new_unchecked(buffer), &checksums);
        }
        _ => return Err(bad_port("sending an echo request")),
    }
    Ok(())
}

/// Queues up to `bytes` of filler; how many were taken.
pub(super) fn push(host: &mut Host, handle: SocketHandle, bytes: usize) -> usize {
    if bytes == 0 {
        return 0;
    }
    let socket = host.socket::<tcp::Socket<'_>>(handle);
    let filler = [0x55; 4096];
    socket.send_slice(&filler[..bytes.min(filler.len())]).unwrap_or(0)
}

/// Takes what arrived; how many bytes.
pub(super) fn pull(host: &mut Host, handle: SocketHandle) -> usize {
    let socket = host.socket::<tcp::Socket<'_>>(handle);
    let mut taken = 0;
    while let Ok(n @ 1..) = socket.recv(|bytes| (bytes.len(), bytes.len())) {
        taken += n;
    }
    taken
}

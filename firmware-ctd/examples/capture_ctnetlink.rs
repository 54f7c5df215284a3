//! Records what this machine's kernel says on ctnetlink, for the tests of the codec.
//!
//! In a network namespace of its own it makes flows of every protocol, by ctnetlink, by
//! `conntrack -I` and by real packets, and writes every datagram that it receives as a line of hex:
//!
//! ```text
//! cargo build --example capture_ctnetlink
//! unshare -n target/debug/examples/capture_ctnetlink firmware-ctd/tests/captures/linux-6.18-le
//! ```
//!
//! Wants root, `ip`, `nft` and `conntrack`. One file for each kind: `events.hex`, `dumps.hex`,
//! `responses.hex`. Netlink headers are in the byte order of the machine.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::{fmt::Write as _, fs, io};

use firmware_ctd::wire::nlmsg::flags;
use firmware_ctd::wire::{
    Conntrack, Expect, ExpectNat, Family, Filter, Full, Header, Helper, L4, Message, Messages,
    NatRange, ProtoInfo, Protocol, Sctp, SeqAdj, Status, SynProxy, Tcp, TcpFlags, TcpState, Tuple,
    TupleFilter, Writer, request,
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Rules that switch tracking on and give a label and a helper, so that their events come.
const RULES: &str = "table inet capture {
    ct helper ftp { type \"ftp\" protocol tcp; }
    chain output { type filter hook output priority 0;
        tcp dport 21 ct helper set \"ftp\"
        udp dport 5353 ct label set 5
        udp dport 5354 ct mark set 0x1234
        ct state new accept
    }
}
";

fn main() -> ExitCode {
    let directory = std::env::args().nth(1).unwrap_or_else(|| "captures".into());
    match run(Path::new(&directory)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "capture_ctnetlink: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(directory: &Path) -> Result<()> {
    prepare()?;
    let mut capture = Capture::open()?;
    created_flows(&mut capture)?;
    conntrack_tool(&mut capture)?;
    expectations(&mut capture)?;
    real_packets(&mut capture)?;
    dumps(&mut capture)?;
    refusals(&mut capture)?;
    ends(&mut capture)?;
    fs::create_dir_all(directory)?;
    for (name, text) in [
        ("events.hex", &capture.events),
        ("dumps.hex", &capture.dumps),
        ("responses.hex", &capture.responses),
    ] {
        fs::write(directory.join(name), format!("{}{text}", heading()?))?;
    }
    Ok(())
}

fn heading() -> Result<String> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let order = if cfg!(target_endian = "big") { "big" } else { "little" };
    Ok(format!(
        "# What Linux {} said on ctnetlink, recorded by examples/capture_ctnetlink.rs.\n\
         # Netlink headers are {order}-endian. One datagram a line.\n",
        release.split('-').next().unwrap_or_default().trim()
    ))
}

fn prepare() -> Result<()> {
    for name in ["acct", "timestamp", "events"] {
        fs::write(format!("/proc/sys/net/netfilter/nf_conntrack_{name}"), "1")?;
    }
    command("ip", &["link", "set", "lo", "up"], "")?;
    command("nft", &["-f", "-"], RULES)
}

fn command(program: &str, arguments: &[&str], input: &str) -> Result<()> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    child.stdin.take().ok_or("no stdin")?.write_all(input.as_bytes())?;
    let status = child.wait()?;
    if status.success() { Ok(()) } else { Err(format!("{program} {arguments:?}: {status}").into()) }
}

/// Three sockets, and what was received on them as text.
struct Capture {
    listener: Socket,
    requests: Socket,
    /// Like `requests`, with uncapped errors and no extended acknowledgements: the defaults.
    plain: Socket,
    events: String,
    dumps: String,
    responses: String,
    seq: u32,
}

impl Capture {
    fn open() -> Result<Self> {
        let listener = socket()?;
        for group in 1..=6 {
            listener.add_membership(group)?;
        }
        listener.set_non_blocking(true)?;
        let requests = socket()?;
        requests.set_cap_ack(true)?;
        requests.set_ext_ack(true)?;
        let text = String::new;
        let (events, dumps, responses) = (text(), text(), text());
        Ok(Self { listener, requests, plain: socket()?, events, dumps, responses, seq: 0 })
    }

    /// Sends the request that `write` writes and records the answers as `name`.
    fn ask<F>(&mut self, name: &str, write: F) -> Result<()>
    where
        F: FnOnce(&mut Writer<'_>, u32) -> std::result::Result<(), Full>,
    {
        self.seq += 1;
        let mut buffer = [0; 8192];
        let mut w = Writer::new(&mut buffer);
        write(&mut w, self.seq)?;
        self.requests.send(w.as_bytes(), 0)?;
        let asked = Messages::new(w.as_bytes()).next().ok_or("no request")??.header;
        let datagrams = answers(&self.requests, asked.has(flags::DUMP))?;
        let listed = datagrams.first().is_some_and(|first| !is_response(first));
        let text = if listed { &mut self.dumps } else { &mut self.responses };
        record(text, name, &datagrams)?;
        self.drain(name)
    }

    /// Records the events that have come, as `name`.
    fn drain(&mut self, name: &str) -> Result<()> {
        let mut datagrams = Vec::new();
        while let Some(datagram) = receive(&self.listener)? {
            datagrams.push(datagram);
        }
        record(&mut self.events, name, &datagrams)
    }

    fn create(&mut self, name: &str, ct: &Conntrack<'_>) -> Result<()> {
        let flags = request::CreateFlags { ack: true, exclusive: true };
        self.ask(name, |w, seq| request::create(w, seq, flags, ct))
    }
}

fn socket() -> Result<Socket> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    Ok(socket)
}

/// The next datagram; `None` when a socket that does not wait has none.
fn receive(socket: &Socket) -> Result<Option<Vec<u8>>> {
    let mut bytes = Vec::with_capacity(1 << 16);
    match socket.recv(&mut bytes, 0) {
        Ok(_) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// All datagrams of the answer: of a dump up to its end, else one. (`NLM_F_MULTI` does not tell:
/// the kernel sets it also in the answer to `IPCTNL_MSG_EXP_GET` of one expectation.)
fn answers(socket: &Socket, dump: bool) -> Result<Vec<Vec<u8>>> {
    let mut datagrams = Vec::new();
    loop {
        let datagram = receive(socket)?.ok_or("no answer")?;
        let last = Messages::new(&datagram).last().ok_or("empty datagram")??;
        let end = !dump || is_end(&Message::parse(&last)?);
        datagrams.push(datagram);
        if end {
            return Ok(datagrams);
        }
    }
}

fn is_end(message: &Message<'_>) -> bool {
    matches!(message, Message::Done(_) | Message::Response(_))
}

fn is_response(datagram: &[u8]) -> bool {
    let first = Messages::new(datagram).next().and_then(std::result::Result::ok);
    first.is_some_and(|raw| matches!(Message::parse(&raw), Ok(Message::Response(_))))
}

fn record(text: &mut String, name: &str, datagrams: &[Vec<u8>]) -> Result<()> {
    for datagram in datagrams {
        writeln!(text, "# {name}")?;
        for byte in datagram {
            write!(text, "{byte:02x}")?;
        }
        writeln!(text)?;
    }
    Ok(())
}

fn tuple(src: &str, dst: &str, proto: Protocol, l4: L4) -> Result<Tuple> {
    Ok(Tuple { src: src.parse()?, dst: dst.parse()?, proto, l4 })
}

const fn ports(src: u16, dst: u16) -> L4 {
    L4::Ports { src, dst }
}

/// A flow that the kernel takes: both tuples, a timeout, confirmed.
fn flow<'a>(orig: Tuple) -> Conntrack<'a> {
    Conntrack {
        orig: Some(orig),
        reply: Some(orig.inverse()),
        timeout_s: Some(600),
        status: Some(Status(Status::CONFIRMED)),
        ..Conntrack::default()
    }
}

const V4: (&str, &str) = ("192.0.2.2", "198.51.100.2");
const V6: (&str, &str) = ("2001:db8::2", "2001:db8:ffff::2");

/// Flows of every protocol in both families.
fn created_flows(capture: &mut Capture) -> Result<()> {
    for (family, (src, dst), icmp) in [
        ("ipv4", V4, (Protocol::ICMP, L4::Icmp { id: 0x1234, kind: 8, code: 0 })),
        ("ipv6", V6, (Protocol::ICMPV6, L4::Icmp { id: 0x1234, kind: 128, code: 0 })),
    ] {
        for (name, proto, l4) in [
            ("tcp", Protocol::TCP, ports(40001, 443)),
            ("udp", Protocol::UDP, ports(40002, 53)),
            ("udplite", Protocol::UDPLITE, ports(40003, 5004)),
            ("sctp", Protocol::SCTP, ports(40004, 2905)),
            ("gre", Protocol::GRE, ports(0x0101, 0x0202)),
            ("icmp", icmp.0, icmp.1),
            ("ospf", Protocol(89), L4::None),
        ] {
            let mut ct = flow(tuple(src, dst, proto, l4)?);
            ct.protoinfo = protoinfo(proto);
            capture.create(&format!("{family} {name}"), &ct)?;
        }
    }
    special_flows(capture)
}

fn protoinfo(proto: Protocol) -> ProtoInfo {
    let flags = TcpFlags { flags: 0x0b, mask: 0x0b };
    match proto {
        Protocol::TCP => ProtoInfo::Tcp(Tcp {
            state: Some(TcpState::ESTABLISHED),
            wscale_orig: Some(7),
            wscale_reply: Some(9),
            flags_orig: Some(flags),
            flags_reply: Some(flags),
        }),
        Protocol::SCTP => ProtoInfo::Sctp(Sctp {
            state: Some(4),
            vtag_orig: Some(0x0102_0304),
            vtag_reply: Some(0x0506_0708),
        }),
        _ => ProtoInfo::None,
    }
}

/// Flows with what few flows have.
fn special_flows(capture: &mut Capture) -> Result<()> {
    let port = |port| tuple(V4.0, V4.1, Protocol::TCP, ports(port, 80));
    let tcp = |number| {
        port(number).map(|orig| Conntrack { protoinfo: protoinfo(Protocol::TCP), ..flow(orig) })
    };
    let public: IpAddr = "203.0.113.1".parse()?;
    let inside: IpAddr = "10.0.0.7".parse()?;
    let snat = Some(NatRange::exactly(public, Some(50000)));
    let dnat = Some(NatRange::exactly(inside, Some(8080)));
    capture.create("snat", &Conntrack { nat_src: snat, ..tcp(41001)? })?;
    capture.create("dnat", &Conntrack { nat_dst: dnat, ..tcp(41002)? })?;
    let v6 = tuple(V6.0, V6.1, Protocol::UDP, ports(41003, 53))?;
    let snat6 = Some(NatRange::exactly("2001:db8:1::1".parse()?, Some(50001)));
    capture.create("snat ipv6", &Conntrack { nat_src: snat6, ..flow(v6) })?;
    capture.create("mark", &Conntrack { mark: Some(0xdead_beef), ..tcp(41004)? })?;
    capture.create("zone 7", &Conntrack { zone: Some(7), ..tcp(41005)? })?;
    capture.create("zone 8 original", &Conntrack { zone_orig: Some(8), ..tcp(41006)? })?;
    capture.create("zone 9 reply", &Conntrack { zone_reply: Some(9), ..tcp(41007)? })?;
    let seqadj = |n| Some(SeqAdj { correction_pos: n, offset_before: n + 1, offset_after: n + 2 });
    let adjusted =
        Conntrack { seqadj_orig: seqadj(0x1000), seqadj_reply: seqadj(0x2000), ..tcp(41008)? };
    capture.create("sequence adjustment", &adjusted)?;
    let synproxy = Some(SynProxy { isn: 0x1111_1111, its: 0x2222_2222, tsoff: 0x3333_3333 });
    capture.create("synproxy", &Conntrack { synproxy, ..tcp(41009)? })?;
    let status = Some(Status(Status::CONFIRMED | Status::SEEN_REPLY | Status::ASSURED));
    capture.create("assured", &Conntrack { status, ..tcp(41010)? })
}

/// Flows that another program asks for, as other programs do.
fn conntrack_tool(capture: &mut Capture) -> Result<()> {
    for (name, arguments) in [
        ("tcp", "-p tcp --sport 1 --dport 2 --state ESTABLISHED -u ASSURED,SEEN_REPLY -m 5"),
        ("udp", "-p udp --sport 3 --dport 4 -w 11"),
        ("sctp", "-p sctp --sport 5 --dport 6 --state ESTABLISHED --orig-vtag 5 --reply-vtag 6"),
        ("dccp", "-p dccp --sport 7 --dport 8 --state OPEN --role client"),
        ("gre", "-p gre --srckey 9 --dstkey 10"),
        ("icmp", "-p icmp --icmp-type 13 --icmp-code 0 --icmp-id 77"),
    ] {
        let common = "-I -s 10.9.0.1 -d 10.9.0.2 -t 300";
        let arguments: Vec<&str> = common.split(' ').chain(arguments.split(' ')).collect();
        command("conntrack", &arguments, "")?;
        capture.drain(&format!("conntrack -I {name}"))?;
    }
    Ok(())
}

/// A flow with a helper, what it expects, and a flow that belongs to it.
fn expectations(capture: &mut Capture) -> Result<()> {
    let master = tuple(V4.0, V4.1, Protocol::TCP, ports(42000, 21))?;
    let helper = Some(Helper { name: b"ftp", info: None });
    let ct = Conntrack { protoinfo: protoinfo(Protocol::TCP), helper, ..flow(master) };
    capture.create("helper ftp", &ct)?;
    let expect = Expect {
        master: Some(master),
        tuple: Some(tuple(V4.1, V4.0, Protocol::TCP, ports(0, 42001))?),
        mask: Some(tuple("255.255.255.255", "255.255.255.255", Protocol::TCP, ports(0, 0xffff))?),
        timeout_s: Some(300),
        flags: Some(Expect::PERMANENT),
        class: Some(0),
        nat: Some(ExpectNat {
            dir: 1,
            tuple: tuple("203.0.113.1", "0.0.0.0", Protocol::TCP, ports(42002, 0))?,
        }),
        function: Some(b"nat-follow-master"),
        ..Expect::default()
    };
    let flags = request::CreateFlags { ack: true, exclusive: true };
    capture.ask("expectation", |w, seq| request::expect_create(w, seq, flags, &expect))?;
    capture.ask("expectations", |w, seq| request::expect_dump(w, seq, Family::Unspec))?;
    capture.ask("expectation by tuple", |w, seq| request::expect_get(w, seq, &expect))?;
    capture.ask("expectation statistics", request::expect_get_cpu_stats)?;
    capture.ask("expectation", |w, seq| request::expect_delete(w, seq, true, &expect))?;
    let child = flow(tuple(V4.1, V4.0, Protocol::TCP, ports(20, 42001))?);
    let child = Conntrack { master: Some(master), protoinfo: protoinfo(Protocol::TCP), ..child };
    capture.create("flow of a master", &child)
}

/// TCP and UDP through the loopback.
fn real_packets(capture: &mut Capture) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut client = TcpStream::connect(listener.local_addr()?)?;
    let (mut server, _) = listener.accept()?;
    client.write_all(&[7; 5000])?;
    server.read_exact(&mut [0; 5000])?;
    drop(client);
    let _ = server.read(&mut [0; 1])?;
    drop(server);
    capture.drain("real tcp")?;
    for (name, port) in [("label", 5353), ("mark", 5354), ("plain", 5355)] {
        let server = UdpSocket::bind(("127.0.0.1", port))?;
        let client = UdpSocket::bind("127.0.0.1:0")?;
        client.send_to(b"question", server.local_addr()?)?;
        let (_, from) = server.recv_from(&mut [0; 64])?;
        server.send_to(b"answer", from)?;
        capture.drain(&format!("real udp, {name}"))?;
    }
    Ok(())
}

fn dumps(capture: &mut Capture) -> Result<()> {
    capture.ask("table", |w, seq| request::dump(w, seq, Family::Unspec))?;
    let filter = Filter { family: Family::Ipv4, mark: Some(0xdead_beef), ..Filter::default() };
    capture.ask("mark 0xdeadbeef", |w, seq| request::dump_filtered(w, seq, &filter))?;
    for (name, filter) in filters()? {
        capture.ask(&format!("filter {name}"), |w, seq| request::dump_filtered(w, seq, &filter))?;
    }
    let snat = tuple(V4.0, V4.1, Protocol::TCP, ports(41001, 80))?;
    capture.ask("one entry", |w, seq| request::get(w, seq, &snat, None))?;
    capture.ask("dying", request::get_dying)?;
    capture.ask("unconfirmed", request::get_unconfirmed)?;
    capture.ask("statistics", request::get_stats)?;
    capture.ask("cpu statistics", request::get_cpu_stats)
}

/// One filter for each flag that the codec has for `CTA_FILTER`, and for zone and status.
fn filters() -> Result<Vec<(&'static str, Filter)>> {
    let any = TupleFilter::default();
    let of = |proto, filter| TupleFilter { proto: Some(proto), ..filter };
    let tcp = |filter| of(Protocol::TCP, filter);
    let orig = |orig| Filter { family: Family::Ipv4, orig, ..Filter::default() };
    let orig_v6 = |filter| Filter { family: Family::Ipv6, ..orig(filter) };
    let reply = |reply| Filter { family: Family::Ipv4, reply, ..Filter::default() };
    let assured = Some(Status(Status::ASSURED));
    let ping = TupleFilter {
        icmp_id: Some(0x1234),
        icmp_kind: Some(8),
        icmp_code: Some(0),
        ..of(Protocol::ICMP, any)
    };
    let ping6 = TupleFilter { icmp_kind: Some(128), ..of(Protocol::ICMPV6, ping) };
    Ok(vec![
        ("source", orig(TupleFilter { src: Some("10.9.0.1".parse()?), ..any })),
        ("destination", orig(TupleFilter { dst: Some("10.9.0.2".parse()?), ..any })),
        ("source ipv6", orig_v6(TupleFilter { src: Some(V6.0.parse()?), ..any })),
        ("protocol", orig(of(Protocol::UDPLITE, any))),
        ("source port", orig(tcp(TupleFilter { src_port: Some(41004), ..any }))),
        ("destination port", orig(tcp(TupleFilter { dst_port: Some(443), ..any }))),
        ("icmp", orig(ping)),
        ("other icmp id", orig(TupleFilter { icmp_id: Some(1), ..ping })),
        ("other icmp type", orig(TupleFilter { icmp_kind: Some(1), ..ping })),
        ("other icmp code", orig(TupleFilter { icmp_code: Some(1), ..ping })),
        ("icmpv6", orig_v6(ping6)),
        ("other icmpv6 id", orig_v6(TupleFilter { icmp_id: Some(1), ..ping6 })),
        ("other icmpv6 type", orig_v6(TupleFilter { icmp_kind: Some(1), ..ping6 })),
        ("other icmpv6 code", orig_v6(TupleFilter { icmp_code: Some(1), ..ping6 })),
        ("original zone", orig(TupleFilter { zone: Some(8), ..any })),
        ("reply", reply(TupleFilter { dst: Some("203.0.113.1".parse()?), ..any })),
        ("reply port", reply(tcp(TupleFilter { dst_port: Some(50000), ..any }))),
        ("zone", Filter { zone: Some(7), ..Filter::default() }),
        ("status", Filter { status: assured, ..Filter::default() }),
        ("mark and mask", Filter { mark: Some(0xef), mark_mask: Some(0xff), ..Filter::default() }),
    ])
}

/// Requests that the kernel refuses, on sockets with and without capped and extended answers.
fn refusals(capture: &mut Capture) -> Result<()> {
    let unknown = tuple(V4.0, V4.1, Protocol::TCP, ports(1, 1))?;
    capture.ask("no such entry", |w, seq| request::delete(w, seq, true, &unknown, None, None))?;
    capture.create("exists", &flow(tuple(V4.0, V4.1, Protocol::UDP, ports(40002, 53))?))?;
    capture.ask("timeout of two bytes", bad_timeout)?;
    capture.ask("filter flags out of range", bad_filter)?;
    let mut buffer = [0; 512];
    let mut w = Writer::new(&mut buffer);
    request::delete(&mut w, 1000, true, &unknown, None, None)?;
    bad_timeout(&mut w, 1001)?;
    capture.plain.send(w.as_bytes(), 0)?;
    capture.plain.set_ext_ack(true)?;
    let mut uncapped = answers(&capture.plain, false)?;
    uncapped.extend(answers(&capture.plain, false)?);
    let mut w = Writer::new(&mut buffer);
    bad_timeout(&mut w, 1002)?;
    capture.plain.send(w.as_bytes(), 0)?;
    uncapped.extend(answers(&capture.plain, false)?);
    record(&mut capture.responses, "uncapped", &uncapped)
}

/// `IPCTNL_MSG_CT_NEW` with a `CTA_TIMEOUT` (7) that is too short.
fn bad_timeout(w: &mut Writer<'_>, seq: u32) -> std::result::Result<(), Full> {
    let flags = flags::REQUEST | flags::CREATE | flags::ACK;
    let header = Header { kind: 0x0100, flags, seq, ..Header::default() };
    w.message(header, &[2, 0, 0, 0], |w| w.bytes(7, &[0, 1]))
}

/// `IPCTNL_MSG_CT_GET` with a `CTA_FILTER` (25) of unknown flags.
fn bad_filter(w: &mut Writer<'_>, seq: u32) -> std::result::Result<(), Full> {
    let flags = flags::REQUEST | flags::DUMP;
    let header = Header { kind: 0x0101, flags, seq, ..Header::default() };
    w.message(header, &[2, 0, 0, 0], |w| w.nest(25, |w| w.ne32(1, 0xffff_ffff)))
}

/// The end of every flow.
fn ends(capture: &mut Capture) -> Result<()> {
    for (port, zone) in [(41005, Some(7)), (41006, Some(8)), (41007, None)] {
        let orig = tuple(V4.0, V4.1, Protocol::TCP, ports(port, 80))?;
        let name = format!("delete in zone {zone:?}");
        capture.ask(&name, |w, seq| request::get(w, seq, &orig, zone))?;
        capture.ask(&name, |w, seq| request::delete(w, seq, true, &orig, zone, None))?;
    }
    let filter = Filter { family: Family::Ipv4, mark: Some(0xdead_beef), ..Filter::default() };
    capture.ask("flush of one mark", |w, seq| request::flush(w, seq, Some(&filter)))?;
    capture.ask("flush", |w, seq| request::flush(w, seq, None))
}

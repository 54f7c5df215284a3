//! Each collector by itself, with messages written by hand: what it keeps, field by field, and
//! what happens when it is slow, is killed, or loses something.
//!
//! One test at a time, since several collectors share two cores. What a collector does not keep
//! is said in [`kept`], from its documentation and from what IPFIX says of the fields.

mod emitter;
mod harness;

use board_tests::collectors::{Collected, Collector, Kind, Setup};
use board_tests::lab::{Context, Netns, loopback_up};
use board_tests::load::Flows;
use board_tests::measure;
use board_tests::peers::bench;
use board_tests::peers::ulogd_ipfix::{self, FIRST_MESSAGE, NEXT_MESSAGE, Transport};
use emitter::{Emitter, Record, numbered, of_each_kind};
use harness::Outcome;
use libtest_mimic::{Failed, Trial};
use nix::sys::signal::Signal;
use std::io::{self, ErrorKind, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use tempfile::TempDir;

const PORT: u16 = 4739;
const DOMAIN: u32 = 7;

fn main() -> std::process::ExitCode {
    harness::run(vec![
        alone("nfcapd_keeps_these_fields", || keeps(Kind::Nfcapd)),
        alone("nfacctd_keeps_every_field_in_lines", || keeps(Kind::Nfacctd)),
        alone("nfacctd_keeps_every_field_in_a_table", || keeps(Kind::NfacctdSql)),
        alone("python_keeps_every_field_over_tcp", || keeps(Kind::PythonTcp)),
        alone("python_keeps_every_field_over_udp", || keeps(Kind::PythonUdp)),
        alone("python_keeps_options", python_keeps_options),
        alone("only_whole_messages_count", only_whole_messages_count),
        alone("a_stopped_collector_makes_tcp_wait", a_stopped_collector_makes_tcp_wait),
        alone("a_killed_collector_keeps_what_it_wrote", killed),
        alone("datagrams_that_do_not_fit_are_counted", datagrams_that_do_not_fit),
        alone("a_gap_is_told_by_nfcapd", || gap(Kind::Nfcapd, "Sequence Errors: 1")),
        alone("a_gap_is_told_by_nfacctd", || gap(Kind::Nfacctd, "expecting flow")),
        alone("thousands_of_records_a_second_over_tcp", || thousands(Kind::PythonTcp)),
        alone("thousands_of_records_a_second_of_nfcapd", || thousands(Kind::Nfcapd)),
        alone("thousands_of_records_a_second_of_nfacctd", || thousands(Kind::Nfacctd)),
        alone("thousands_of_records_a_second_of_sql", || thousands(Kind::NfacctdSql)),
        alone("ulogd2_sends_over_tcp", || ulogd(Kind::PythonTcp, Transport::Tcp)),
        alone("ulogd2_sends_over_udp", || ulogd(Kind::PythonUdp, Transport::Udp)),
    ])
}

/// A test that waits for its turn.
fn alone(name: &str, test: impl FnOnce() -> Outcome + Send + 'static) -> Trial {
    static TURN: Mutex<()> = Mutex::new(());
    Trial::test(name, move || {
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        test()
    })
}

/// A namespace with a collector in it.
struct Place {
    netns: Netns,
    collector: Collector,
    emitter: Emitter,
    _directory: TempDir,
}

/// How messages reach the collector.
enum Wire {
    Tcp(TcpStream),
    Udp(UdpSocket),
}

impl Wire {
    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.write_all(message),
            Self::Udp(socket) => socket.send(message).map(drop),
        }
    }
}

impl Place {
    fn new(kind: Kind, buffer: Option<u32>) -> Result<Self, Failed> {
        let netns = Netns::new()?;
        loopback_up(&netns)?;
        let directory = tempfile::Builder::new().prefix("collector-").tempdir()?;
        let setup = Setup { directory: directory.path().to_owned(), port: PORT, buffer };
        let collector = Collector::start(kind, &netns, setup)?;
        let emitter = Emitter { sequence: 0, domain: DOMAIN };
        Ok(Self { netns, collector, emitter, _directory: directory })
    }

    fn wire(&self) -> Result<Wire, Failed> {
        let to = SocketAddrV4::new(Ipv4Addr::LOCALHOST, PORT);
        let tcp = self.collector.kind().is_tcp();
        Ok(self.netns.run(|| {
            let wire = || -> io::Result<Wire> {
                if tcp {
                    return Ok(Wire::Tcp(TcpStream::connect(to)?));
                }
                let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
                socket.connect(to)?;
                Ok(Wire::Udp(socket))
            };
            wire().context("reaching the collector")
        })?)
    }

    /// Sends records, `batch` in a message, no faster than datagrams are read.
    fn send(&mut self, wire: &mut Wire, records: &[Record], batch: usize) -> Outcome {
        for part in records.chunks(batch) {
            wire.send(&self.emitter.data(part))?;
            if !self.collector.kind().is_tcp() {
                measure::wait_for("a collector to read", 20, || {
                    Ok((self.collector.udp()?.waiting < 100_000).then_some(()))
                })?;
            }
        }
        Ok(())
    }

    /// Waits until all of `count` records are where the collector's end does not lose them.
    fn settle(&self, count: usize) -> Outcome {
        match self.collector.kind() {
            Kind::PythonTcp => {}
            Kind::Nfcapd | Kind::PythonUdp => self.read()?,
            Kind::Nfacctd | Kind::NfacctdSql => {
                self.collector.wait(20, |it| it.len() == count)?;
            }
        }
        Ok(())
    }

    /// Waits until no datagram waits to be read.
    fn read(&self) -> Outcome {
        measure::wait_for("a collector to read everything", 20, || {
            Ok((self.collector.udp()?.waiting == 0).then_some(()))
        })?;
        Ok(())
    }
}

/// What a collector of `kind` keeps of `record`.
fn kept(kind: Kind, record: &Record) -> Collected {
    let all = Collected {
        key: Some(record.key),
        start_ms: record.start_ms,
        end_ms: record.end_ms,
        src: record.src,
        dst: record.dst,
        sport: Some(record.ports.0),
        dport: Some(record.ports.1),
        proto: record.proto,
        icmp: Some(record.icmp),
        bytes: record.count.0,
        packets: record.count.1,
        reverse_bytes: Some(record.reverse.0),
        reverse_packets: Some(record.reverse.1),
        nat_src: Some(record.nat.0),
        nat_dst: Some(record.nat.1),
        nat_sport: Some(record.nat_ports.0),
        nat_dport: Some(record.nat_ports.1),
        nat_event: Some(record.nat_event),
        end_reason: Some(record.end_reason),
        domain: Some(DOMAIN),
    };
    if kind != Kind::Nfcapd {
        return all;
    }
    let icmp = record.proto == 1 || record.proto == 58;
    let only = |ports: Option<u16>| if icmp { None } else { ports };
    let v4 = record.src.is_ipv4();
    Collected {
        key: None,
        sport: only(all.sport),
        dport: only(all.dport),
        icmp: all.icmp.filter(|_| icmp),
        nat_src: all.nat_src.filter(|_| v4),
        nat_dst: all.nat_dst.filter(|_| v4),
        end_reason: None,
        domain: None,
        ..all
    }
}

/// In the order of their sending, which no collector promises.
fn sorted(mut collected: Vec<Collected>) -> Vec<Collected> {
    let place = |it: &Collected| (it.key, it.src, it.start_ms, it.proto, it.nat_sport);
    collected.sort_by_key(place);
    collected
}

fn expected(kind: Kind, records: &[Record]) -> Vec<Collected> {
    sorted(records.iter().map(|record| kept(kind, record)).collect())
}

fn keeps(kind: Kind) -> Outcome {
    let mut place = Place::new(kind, None)?;
    let mut wire = place.wire()?;
    wire.send(&place.emitter.templates())?;
    place.send(&mut wire, &of_each_kind(), 3)?;
    place.settle(of_each_kind().len())?;
    place.collector.stop()?;
    assert_eq!(sorted(place.collector.collected()?), expected(kind, &of_each_kind()));
    Ok(())
}

fn python_keeps_options() -> Outcome {
    let mut place = Place::new(Kind::PythonTcp, None)?;
    let mut wire = place.wire()?;
    wire.send(&place.emitter.templates())?;
    wire.send(&place.emitter.options(41, 42))?;
    place.collector.stop()?;
    assert!(place.collector.collected()?.is_empty());
    let options = place.collector.options()?;
    assert_eq!(options.len(), 1);
    for (name, value) in [
        ("template", 258),
        ("observationDomainId", u64::from(DOMAIN)),
        ("exportedMessageTotalCount", 41),
        ("exportedFlowRecordTotalCount", 42),
    ] {
        assert_eq!(options[0][name], value, "{name}");
    }
    Ok(())
}

/// A connection that breaks within a message costs that message; the next needs its own templates.
fn only_whole_messages_count() -> Outcome {
    let mut place = Place::new(Kind::PythonTcp, None)?;
    let records = of_each_kind();
    let mut broken = place.wire()?;
    broken.send(&place.emitter.templates())?;
    broken.send(&place.emitter.data(&records[..2]))?;
    let message = place.emitter.data(&records[2..]);
    broken.send(&message[..message.len() - 1])?;
    drop(broken);
    let mut wire = place.wire()?;
    wire.send(&place.emitter.data(&records[..1]))?;
    wire.send(&place.emitter.templates())?;
    wire.send(&place.emitter.data(&records[5..]))?;
    place.collector.wait(10, |it| it.len() == 4)?;
    place.collector.stop()?;
    let whole: Vec<Record> = records[..2].iter().chain(&records[5..]).cloned().collect();
    assert_eq!(sorted(place.collector.collected()?), expected(Kind::PythonTcp, &whole));
    let said = place.collector.said();
    let left = format!("closed, {} bytes of no whole message", message.len() - 1);
    assert!(said.contains(&left) && said.contains("data before its template"), "{said}");
    Ok(())
}

/// Flow control: what does not fit waits at the sender, and is there after SIGCONT.
fn a_stopped_collector_makes_tcp_wait() -> Outcome {
    let mut place = Place::new(Kind::PythonTcp, Some(16_384))?;
    let mut wire = place.wire()?;
    wire.send(&place.emitter.templates())?;
    place.collector.signal(Signal::SIGSTOP)?;
    let Wire::Tcp(stream) = &mut wire else { return Err("no TCP".into()) };
    stream.set_nonblocking(true)?;
    let (mut count, mut rest) = (0, Vec::new());
    while rest.is_empty() {
        let message = place.emitter.data(&[numbered(count)]);
        count += 1;
        assert!(count < 1_000_000, "a stopped collector takes everything");
        match stream.write(&message) {
            Ok(sent) => rest = message[sent..].to_vec(),
            Err(error) if error.kind() == ErrorKind::WouldBlock => rest = message,
            Err(error) => return Err(error.into()),
        }
    }
    assert!(place.collector.collected()?.is_empty());
    place.collector.signal(Signal::SIGCONT)?;
    stream.set_nonblocking(false)?;
    stream.write_all(&rest)?;
    place.collector.stop()?;
    assert_eq!(place.collector.collected()?.len(), count as usize);
    Ok(())
}

/// Killed, started anew: what was written stays, what comes later is there. nfacctd has its
/// templates in a file, so it needs no new ones.
fn killed() -> Outcome {
    for kind in Kind::ALL {
        let mut place = Place::new(kind, None)?;
        let mut wire = place.wire()?;
        wire.send(&place.emitter.templates())?;
        place.send(&mut wire, &[numbered(1)], 1)?;
        place.collector.wait(10, |it| it.len() == 1)?;
        place.collector.kill()?;
        place.collector.start_anew(&place.netns)?;
        let mut wire = place.wire()?;
        if !matches!(kind, Kind::Nfacctd | Kind::NfacctdSql) {
            wire.send(&place.emitter.templates())?;
        }
        place.send(&mut wire, &[numbered(2)], 1)?;
        place.collector.wait(10, |it| it.len() == 2)?;
        place.collector.stop()?;
        let both = expected(kind, &[numbered(1), numbered(2)]);
        assert_eq!(sorted(place.collector.collected()?), both, "{}", kind.name());
    }
    Ok(())
}

/// UDP's loss is at the collector's socket, and the kernel counts it there.
fn datagrams_that_do_not_fit() -> Outcome {
    for kind in Kind::ALL.into_iter().filter(|kind| !kind.is_tcp()) {
        let mut place = Place::new(kind, Some(16_384))?;
        let mut wire = place.wire()?;
        wire.send(&place.emitter.templates())?;
        place.read()?;
        place.collector.signal(Signal::SIGSTOP)?;
        for n in 0..500 {
            wire.send(&place.emitter.data(&[numbered(n)]))?;
        }
        let drops = place.collector.udp()?.drops;
        assert!(drops > 0 && drops < 500, "{}: {drops} drops", kind.name());
        place.collector.signal(Signal::SIGCONT)?;
        place.settle(500 - usize::try_from(drops)?)?;
        place.collector.stop()?;
        let collected = place.collector.collected()?.len() as u64;
        assert_eq!(collected + drops, 500, "{}", kind.name());
    }
    Ok(())
}

/// A record that never came shows in the log, by the sequence numbers.
fn gap(kind: Kind, word: &str) -> Outcome {
    let mut place = Place::new(kind, None)?;
    let mut wire = place.wire()?;
    wire.send(&place.emitter.templates())?;
    place.send(&mut wire, &[numbered(1), numbered(2)], 1)?;
    place.read()?;
    place.emitter.data(&[numbered(3)]);
    place.send(&mut wire, &[numbered(4), numbered(5)], 1)?;
    place.settle(4)?;
    place.collector.stop()?;
    let said = place.collector.said();
    assert_eq!(said.matches(word).count(), 1, "{said}");
    assert_eq!(place.collector.collected()?.len(), 4);
    Ok(())
}

/// Fewer for SQLite, which has one writer at a time: nfacctd loses the rows of a second one.
fn thousands(kind: Kind) -> Outcome {
    let count = if kind == Kind::NfacctdSql { 5_000 } else { 20_000 };
    let mut place = Place::new(kind, None)?;
    let records: Vec<Record> = (0..count).map(numbered).collect();
    let mut wire = place.wire()?;
    wire.send(&place.emitter.templates())?;
    let start = measure::now();
    place.send(&mut wire, &records, 9)?;
    place.settle(count as usize)?;
    let sent = start.elapsed();
    place.collector.stop()?;
    let ended = start.elapsed();
    let collected = sorted(place.collector.collected()?);
    assert_eq!(collected.len(), count as usize, "{}", place.collector.said());
    assert!(collected == expected(kind, &records), "a record of {} is wrong", kind.name());
    let rate = f64::from(count) / sent.as_secs_f64();
    assert!(rate > 500.0, "{}: {rate} records/s, ended after {ended:?}", kind.name());
    Ok(())
}

/// ulogd2 sends full messages only: the flows of three arrive, those of the fourth need not.
fn ulogd(kind: Kind, transport: Transport) -> Outcome {
    const FULL: u32 = FIRST_MESSAGE + 2 * NEXT_MESSAGE;
    let (netns, mut loader) = bench::place()?;
    loopback_up(&netns)?;
    let directory = tempfile::Builder::new().prefix("collector-").tempdir()?;
    let setup = Setup { directory: directory.path().to_owned(), port: PORT, buffer: None };
    let mut collector = Collector::start(kind, &netns, setup)?;
    let own = tempfile::Builder::new().prefix("ulogd-").tempdir()?;
    let peer = board_tests::peers::Setup {
        netns: &netns,
        directory: own.path().to_owned(),
        programs: Path::new(""),
        buffer: None,
        capacity: None,
        collector: None,
        more: String::new(),
    };
    let to = SocketAddrV4::new(Ipv4Addr::LOCALHOST, PORT);
    let running = ulogd_ipfix::start(&peer, to, transport)?;
    let flows = Flows::default();
    let made = FULL + 10;
    assert!(loader.churn(&flows, 0..made, 50)?.complete());
    let collected = collector.wait(10, |it| it.len() >= FULL as usize)?;
    for (n, flow) in (0..made).zip(&collected) {
        let made = |n: u32| flows.orig(n).src == flow.src && flows.orig(n).dst == flow.dst;
        assert!(made(n) && flow.proto == 17 && flow.dport == Some(53), "{flow:?}");
        assert_eq!((flow.key, flow.reverse_bytes, flow.nat_src), (None, None, None));
    }
    running.stop()?;
    collector.stop()?;
    Ok(())
}

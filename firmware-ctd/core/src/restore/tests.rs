//! The kernel here is a simulation that knows masters, helpers and a maximum, and answers as
//! ctnetlink does.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use proptest::prelude::*;

use super::batch::{About, REQUEST_MOST};
use super::*;
use crate::table::{Extension, HelperName, L4State};
use crate::wire::{
    Conntrack, Counters, Event, Header, Helper, L4, Labels, NatRange, ProtoInfo, Protocol,
    RawMessage, Sctp, SeqAdj, Status, SynProxy, Tcp, TcpFlags, TcpState, Tuple,
};

const AS_SAVED: Timeouts = Timeouts { age_s: 0, cap_s: u32::MAX };

fn tuple(src: &str, dst: &str, proto: Protocol, l4: L4) -> Tuple {
    Tuple { src: src.parse().unwrap(), dst: dst.parse().unwrap(), proto, l4 }
}

fn ports(src: u16, dst: u16) -> L4 {
    L4::Ports { src, dst }
}

/// A flow that is not translated.
fn flow(orig: Tuple) -> SavedFlow {
    SavedFlow {
        orig,
        reply: orig.inverse(),
        zone: 0,
        zone_orig_only: false,
        status: Status(Status::CONFIRMED | Status::SEEN_REPLY | Status::ASSURED),
        mark: 0,
        timeout_s: Some(100),
        l4_state: None,
        counters: Some([Counters { packets: 1, bytes: 2 }; 2]),
        inexact: false,
        start_ms: Some(5),
        rare: Extension::default(),
    }
}

fn udp(n: u16) -> SavedFlow {
    flow(tuple("10.0.0.1", "192.0.2.1", Protocol::UDP, ports(n, 53)))
}

fn asked(flow: &SavedFlow) -> Conntrack<'_> {
    request(flow, &AS_SAVED, Without::default()).unwrap()
}

fn exactly(ip: &str, port: Option<u16>) -> Option<NatRange> {
    let ip: IpAddr = ip.parse().unwrap();
    Some(NatRange { min: Some(ip), max: Some(ip), ports: port.map(|port| (port, port)) })
}

#[test]
fn a_plain_flow_is_asked_for_plainly() {
    let mut saved = udp(1);
    saved.status.0 |= Status::SRC_NAT_DONE | Status::EXPECTED | Status::DYING | Status::OFFLOAD;
    let expected = Conntrack {
        orig: Some(saved.orig),
        reply: Some(saved.orig.inverse()),
        status: Some(Status(0xe)),
        timeout_s: Some(100),
        ..Conntrack::default()
    };
    assert_eq!(asked(&saved), expected);
    saved.status.0 = Status::FIXED_TIMEOUT | Status::HELPER;
    assert_eq!(asked(&saved).status, Some(Status(0x408)));
}

#[test]
fn translations_stand_beside_a_plain_inverse() {
    let orig = tuple("10.0.0.1", "192.0.2.1", Protocol::TCP, ports(1000, 80));
    for (reply, src, dst) in [
        // Source, destination, both, either port alone; the side that stays is pinned as well.
        (("192.0.2.1", 80, "198.51.100.1", 4000), ("198.51.100.1", 4000), ("192.0.2.1", 80)),
        (("10.9.9.9", 8080, "10.0.0.1", 1000), ("10.0.0.1", 1000), ("10.9.9.9", 8080)),
        (("10.9.9.9", 8080, "198.51.100.1", 4000), ("198.51.100.1", 4000), ("10.9.9.9", 8080)),
        (("192.0.2.1", 80, "10.0.0.1", 4000), ("10.0.0.1", 4000), ("192.0.2.1", 80)),
        (("192.0.2.1", 8080, "10.0.0.1", 1000), ("10.0.0.1", 1000), ("192.0.2.1", 8080)),
    ] {
        let reply = tuple(reply.0, reply.2, Protocol::TCP, ports(reply.1, reply.3));
        let saved = SavedFlow { reply, ..flow(orig) };
        let ct = asked(&saved);
        assert_eq!(ct.reply, Some(orig.inverse()));
        assert_eq!(ct.nat_src, exactly(src.0, Some(src.1)));
        assert_eq!(ct.nat_dst, exactly(dst.0, Some(dst.1)));
    }
}

#[test]
fn a_translated_identifier_belongs_to_who_changed_it() {
    let echo = |id, kind| L4::Icmp { id, kind, code: 0 };
    let orig = tuple("fd00::1", "2001:db8::1", Protocol::ICMPV6, echo(7, 128));
    let reply = tuple("2001:db8::1", "2001:db8::9", Protocol::ICMPV6, echo(70, 129));
    let mut saved = SavedFlow { reply, ..flow(orig) };
    for (bits, dst) in [
        (0, 7),
        (Status::SRC_NAT, 7),
        (Status::SRC_NAT | Status::DST_NAT, 7),
        (Status::DST_NAT, 70),
    ] {
        saved.status.0 = 0xe | bits;
        let ct = asked(&saved);
        assert_eq!(ct.nat_src, exactly("2001:db8::9", Some(70)));
        assert_eq!(ct.nat_dst, exactly("2001:db8::1", Some(dst)));
    }
}

#[test]
fn protocols_without_ports_are_translated_by_address() {
    let orig = tuple("10.0.0.1", "192.0.2.1", Protocol(99), L4::None);
    let reply = tuple("192.0.2.1", "198.51.100.1", Protocol(99), L4::None);
    let saved = SavedFlow { reply, ..flow(orig) };
    let ct = asked(&saved);
    assert_eq!(ct.nat_src, exactly("198.51.100.1", None));
    assert_eq!(ct.nat_dst, exactly("192.0.2.1", None));
}

/// An ICMP type without an answer of its own: the kernel's reply tuple may have another type, which
/// is no translation.
#[test]
fn other_types_of_icmp_are_no_translation() {
    let icmp = |kind| L4::Icmp { id: 0, kind, code: 0 };
    let orig = tuple("10.0.0.1", "192.0.2.1", Protocol::ICMP, icmp(3));
    let saved = SavedFlow { reply: Tuple { l4: icmp(4), ..orig.inverse() }, ..flow(orig) };
    assert_eq!((asked(&saved).nat_src, asked(&saved).nat_dst), (None, None));
}

fn tcp_of(saved: &SavedFlow) -> Tcp {
    match asked(saved).protoinfo {
        ProtoInfo::Tcp(tcp) => tcp,
        other => panic!("{other:?}"),
    }
}

#[test]
fn window_scales_need_both_flags_and_every_stream_is_liberal() {
    let mut saved = flow(tuple("10.0.0.1", "192.0.2.1", Protocol::TCP, ports(1, 80)));
    let flags = |flags| Some(TcpFlags { flags, mask: 0x0f });
    // 0x30: unacknowledged data and a highest acknowledgement, of which the kernel has no number.
    saved.l4_state = Some(L4State { state: 4, wscales: 0xe7, flags_orig: 0x33, flags_reply: 0x35 });
    let expected = Tcp {
        state: Some(TcpState(4)),
        wscale_orig: Some(7),
        wscale_reply: Some(14),
        flags_orig: flags(0x0b),
        flags_reply: flags(0x0d),
    };
    assert_eq!(tcp_of(&saved), expected);
    saved.l4_state = Some(L4State { state: 3, wscales: 0x07, flags_orig: 1, flags_reply: 2 });
    let unscaled = Tcp {
        state: Some(TcpState(3)),
        flags_orig: flags(0x09),
        flags_reply: flags(0x0a),
        ..Tcp::default()
    };
    assert_eq!(tcp_of(&saved), unscaled);
}

#[test]
fn a_stream_of_unknown_state_is_established_or_has_only_begun() {
    let mut saved = flow(tuple("10.0.0.1", "192.0.2.1", Protocol::TCP, ports(1, 80)));
    saved.timeout_s = None;
    assert_eq!(tcp_of(&saved).state, Some(TcpState(3)));
    assert_eq!(asked(&saved).timeout_s, Some(432_000));
    saved.status.0 = Status::CONFIRMED;
    assert_eq!(tcp_of(&saved).state, Some(TcpState(1)));
    assert_eq!(asked(&saved).timeout_s, Some(120));
}

#[test]
fn sctp_has_both_tags_or_nothing() {
    let mut saved = flow(tuple("10.0.0.1", "192.0.2.1", Protocol::SCTP, ports(1, 2)));
    assert_eq!(asked(&saved).protoinfo, ProtoInfo::None);
    saved.l4_state = Some(L4State { state: 4, ..L4State::default() });
    let sctp = |orig, reply| {
        let (vtag_orig, vtag_reply) = (Some(orig), Some(reply));
        ProtoInfo::Sctp(Sctp { state: Some(4), vtag_orig, vtag_reply })
    };
    assert_eq!(asked(&saved).protoinfo, sctp(0, 0));
    saved.rare.vtags = Some([1, 2]);
    assert_eq!(asked(&saved).protoinfo, sctp(1, 2));
}

#[test]
fn zones_are_of_both_directions_or_of_one() {
    let mut saved = udp(1);
    let zones = |saved: &SavedFlow| {
        let ct = asked(saved);
        (ct.zone, ct.zone_orig, ct.zone_reply)
    };
    saved.zone = 3;
    assert_eq!(zones(&saved), (Some(3), None, None));
    saved.zone_orig_only = true;
    assert_eq!(zones(&saved), (None, Some(3), None));
    saved.zone = 0;
    saved.zone_orig_only = false;
    saved.rare.zone_reply = Some(4);
    assert_eq!(zones(&saved), (None, None, Some(4)));
}

/// A flow that has everything, in the family with the longer addresses.
fn fullest() -> SavedFlow {
    let orig = tuple("fd00::1", "2001:db8::1", Protocol::TCP, ports(1, 2));
    let adjusted = Some(SeqAdj { correction_pos: 1, offset_before: 2, offset_after: 3 });
    SavedFlow {
        reply: tuple("2001:db8::7", "2001:db8::9", Protocol::TCP, ports(3, 4)),
        zone: 1,
        zone_orig_only: true,
        mark: 9,
        l4_state: Some(L4State { state: 3, wscales: 0x11, flags_orig: 1, flags_reply: 1 }),
        rare: Extension {
            labels: Some(Labels([1; 16])),
            seqadj_orig: adjusted,
            seqadj_reply: adjusted,
            helper: Some(*b"fifteen letters\0"),
            master: Some(orig),
            vtags: Some([1, 2]),
            synproxy: Some(SynProxy { isn: 1, its: 2, tsoff: 3 }),
            zone_reply: Some(2),
        },
        ..flow(orig)
    }
}

#[test]
fn the_fullest_request_fits() {
    let saved = fullest();
    let mut buffer = [0; REQUEST_MOST];
    let mut writer = Writer::new(&mut buffer);
    let ct = asked(&saved);
    create(&mut writer, 1, EXCLUSIVE, &ct).unwrap();
    let rare = &saved.rare;
    assert_eq!(
        (ct.labels, ct.seqadj_orig, ct.synproxy),
        (rare.labels, rare.seqadj_orig, rare.synproxy)
    );
    assert_eq!((ct.mark, ct.master), (Some(9), rare.master));
    assert_eq!(ct.helper, Some(Helper { name: b"fifteen letters", info: None }));
    let nat = Some((1, saved.orig));
    let expect = SavedExpect { nat, function: rare.helper, ..expectation(1) };
    writer.clear();
    expect_create(&mut writer, 1, EXCLUSIVE, &expect_request(&expect, &AS_SAVED).unwrap()).unwrap();
}

#[test]
fn timeouts_are_aged_then_capped_and_never_nothing() {
    let of = |saved_s, age_s, cap_s| {
        Timeouts { age_s, cap_s }.of(&SavedFlow { timeout_s: Some(saved_s), ..udp(1) })
    };
    assert_eq!(of(100, 0, u32::MAX), Some(100));
    assert_eq!(of(100, 30, u32::MAX), Some(70));
    assert_eq!(of(100, 30, 50), Some(50));
    assert_eq!(of(100, 99, 50), Some(1));
    assert_eq!(of(100, 100, 50), None);
    assert_eq!(of(0, 0, 50), None);
    assert_eq!(of(u32::MAX, u32::MAX, 50), None);
}

fn expectation(n: u16) -> SavedExpect {
    let tuple = udp(n).orig;
    SavedExpect {
        master: tuple,
        tuple: Tuple { l4: ports(0, n), ..tuple },
        mask: tuple,
        zone: 0,
        timeout_s: 100,
        flags: 1,
        class: 0,
        helper: Some(*b"ftp\0\0\0\0\0\0\0\0\0\0\0\0\0"),
        function: None,
        nat: None,
    }
}

/// With a name the expected flow would get the helper on older kernels.
#[test]
fn an_expectation_has_a_helper_only_for_its_class() {
    let mut saved = SavedExpect { zone: 7, ..expectation(1) };
    let name = |saved: &SavedExpect| expect_request(saved, &AS_SAVED).unwrap().help_name.is_some();
    assert!(!name(&saved));
    saved.class = 2;
    assert!(name(&saved));
    let request = expect_request(&saved, &AS_SAVED).unwrap();
    assert_eq!((request.class, request.flags, request.zone), (Some(2), Some(1), Some(7)));
    assert_eq!(request.help_name, Some(&b"ftp"[..]));
    assert_eq!(expect_request(&saved, &Timeouts { age_s: 100, cap_s: 9 }), None);
}

// --- the machine against a simulated kernel ------------------------------------------------------

#[derive(Debug)]
struct Kernel {
    flows: HashMap<Tuple, SavedRequest>,
    helpers: bool,
    room: usize,
    batches: usize,
}

/// What a flow was made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct SavedRequest {
    helper: bool,
    master: Option<Tuple>,
}

impl Kernel {
    fn new(helpers: bool, room: usize) -> Self {
        Self { flows: HashMap::new(), helpers, room, batches: 0 }
    }

    /// Carries a datagram out; its answers, one datagram each.
    fn serve(&mut self, requests: &[u8]) -> Vec<Vec<u8>> {
        self.batches += 1;
        let raws: Vec<RawMessage<'_>> = Messages::new(requests).map(Result::unwrap).collect();
        let (last, creates) = raws.split_last().unwrap();
        for pair in raws.windows(2) {
            assert_eq!(pair[1].header.seq, pair[0].header.seq.wrapping_add(1));
        }
        assert!(last.payload.is_empty() && last.header.flags & 4 != 0, "{last:?}");
        let mut answers = Vec::new();
        for raw in creates {
            assert_eq!(raw.header.flags, 0x601, "REQUEST, CREATE, EXCL, no ACK");
            let Ok(Message::Conntrack { event: Event::New, ct }) = Message::parse(raw) else {
                panic!("not a create: {raw:?}")
            };
            let errno = self.create(&ct);
            if errno != 0 {
                answers.push(answer(errno, raw.header));
            }
        }
        answers.push(answer(0, last.header));
        answers
    }

    fn create(&mut self, ct: &Conntrack<'_>) -> i32 {
        let orig = ct.orig.unwrap();
        if self.flows.len() >= self.room {
            return libc::ENOMEM;
        }
        if ct.helper.is_some() && !self.helpers {
            return libc::EOPNOTSUPP;
        }
        if ct.master.is_some_and(|master| !self.flows.contains_key(&master)) {
            return libc::ENOENT;
        }
        if self.flows.contains_key(&orig) {
            return libc::EEXIST;
        }
        self.flows.insert(orig, SavedRequest { helper: ct.helper.is_some(), master: ct.master });
        0
    }
}

fn answer(errno: i32, request: Header) -> Vec<u8> {
    let mut buffer = [0; 256];
    let mut writer = Writer::new(&mut buffer);
    let response = Response { errno, request, ..Response::default() };
    Message::Response(response).emit(&mut writer, request.seq).unwrap();
    writer.as_bytes().to_vec()
}

fn exchange(restore: &mut Restore<'_>, kernel: &mut Kernel) {
    let Some(requests) = restore.batch() else { return };
    let answers = kernel.serve(requests.as_bytes());
    let (barrier, refusals) = answers.split_last().unwrap();
    for answer in refusals {
        assert!(!restore.answer(answer), "done before the barrier");
    }
    assert!(restore.answer(barrier));
}

/// Drives a restore to its end; how many passes it took.
fn drive(restore: &mut Restore<'_>, kernel: &mut Kernel, flows: &[SavedFlow]) -> u32 {
    let mut passes = 0;
    loop {
        passes += 1;
        for flow in flows {
            if restore.flow(flow) == Room::None {
                exchange(restore, kernel);
            }
        }
        exchange(restore, kernel);
        if !restore.next_pass() {
            return passes;
        }
    }
}

fn capacity(flows: usize) -> Capacity {
    Capacity { flows: u32::try_from(flows).unwrap(), expectations: 4 }
}

fn refused(restore: &Restore<'_>, flows: usize) -> Vec<u32> {
    (0..u32::try_from(flows).unwrap()).filter(|&index| restore.was_refused(index)).collect()
}

const FTP: HelperName = *b"ftp\0\0\0\0\0\0\0\0\0\0\0\0\0";

#[test]
fn batches_hold_as_many_requests_as_they_may() {
    let flows: Vec<_> = (1..=100).map(udp).collect();
    for (requests, batches) in [(1, 100), (7, 15), (100, 1), (1000, 1)] {
        let mut buffer = vec![0; 64 << 10];
        let mut kernel = Kernel::new(true, usize::MAX);
        let mut restore = Restore::new(capacity(100), requests, &mut buffer, AS_SAVED).unwrap();
        assert_eq!(drive(&mut restore, &mut kernel, &flows), 1);
        assert_eq!((kernel.batches, kernel.flows.len()), (batches, 100));
        assert_eq!(restore.flow_tally(), &Tally { created: 100, ..Tally::default() });
    }
    assert!(Restore::new(capacity(1), 1, &mut [0; BUFFER_LEAST - 1], AS_SAVED).is_err());
}

#[test]
fn a_chain_of_masters_takes_a_pass_for_each_and_the_rest_go_alone() {
    let child = |n: u16, of: u16| {
        let mut child = udp(n);
        child.rare.master = Some(udp(of).orig);
        child
    };
    // 9 is the child of 8 ... of 1, the youngest first: passes 2, 3 and 4 make one each.
    let mut flows: Vec<_> = (2..=9).rev().map(|n| child(n, n - 1)).collect();
    flows.push(udp(1));
    let mut buffer = vec![0; BUFFER_LEAST];
    let mut kernel = Kernel::new(true, usize::MAX);
    let mut restore = Restore::new(capacity(9), 64, &mut buffer, AS_SAVED).unwrap();
    assert_eq!(drive(&mut restore, &mut kernel, &flows), PASSES);
    let tally = *restore.flow_tally();
    assert_eq!((tally.created, tally.refusals()), (9, 0));
    let alone = kernel.flows.values().filter(|made| made.master.is_none()).count();
    assert_eq!(alone, 1 + tally.without_master as usize);
    assert_eq!(tally.without_master, 5);

    // No master lives at all: one pass finds out, the next goes without.
    let orphans = [child(1, 100), child(2, 101)];
    let mut kernel = Kernel::new(true, usize::MAX);
    let mut restore = Restore::new(capacity(2), 64, &mut buffer, AS_SAVED).unwrap();
    assert_eq!(drive(&mut restore, &mut kernel, &orphans), 3);
    assert_eq!((restore.flow_tally().created, restore.flow_tally().without_master), (2, 2));
}

#[test]
fn what_the_source_has_too_many_is_counted() {
    let flows: Vec<_> = (1..=5).map(udp).collect();
    let mut buffer = vec![0; BUFFER_LEAST];
    let mut kernel = Kernel::new(true, usize::MAX);
    let mut restore = Restore::new(capacity(3), 64, &mut buffer, AS_SAVED).unwrap();
    drive(&mut restore, &mut kernel, &flows);
    assert_eq!((restore.flow_tally().created, restore.flow_tally().beyond_capacity), (3, 2));
    assert_eq!(refused(&restore, 5), [3, 4]);
}

#[test]
fn every_refusal_has_its_counter() {
    let errnos = [
        (libc::EEXIST, Refusal::Exists),
        (libc::EOPNOTSUPP, Refusal::NoHelper),
        (libc::ENOENT, Refusal::NoMaster),
        (libc::ENOMEM, Refusal::Full),
        (libc::ENOSPC, Refusal::Full),
        (libc::EPERM, Refusal::Denied),
        (libc::EINVAL, Refusal::Other),
        (libc::EBUSY, Refusal::Other),
        (libc::EBUSY, Refusal::Other),
        (libc::ERANGE, Refusal::Other),
    ];
    let mut buffer = vec![0; 64 << 10];
    let mut restore = Restore::new(capacity(11), 64, &mut buffer, AS_SAVED).unwrap();
    for n in 1..=11 {
        assert_eq!(restore.flow(&udp(n)), Room::Left);
    }
    let requests = restore.batch().unwrap().as_bytes().to_vec();
    let headers: Vec<_> = Messages::new(&requests).map(|raw| raw.unwrap().header).collect();
    for (header, (errno, _)) in headers.iter().zip(errnos) {
        assert!(!restore.answer(&answer(errno, *header)));
    }
    assert!(restore.was_denied());
    assert!(restore.answer(&answer(0, headers[11])));
    let tally = restore.flow_tally();
    for why in Refusal::ALL {
        let count = errnos.iter().filter(|(_, of)| *of == why).count();
        assert_eq!(tally.refused_as(why) as usize, count, "{why:?}");
    }
    assert_eq!((tally.created, tally.refusals()), (1, 10));
    assert_eq!(tally.others, [(libc::EINVAL, 1), (libc::EBUSY, 2), (libc::ERANGE, 1), (0, 0)]);
    assert_eq!(refused(&restore, 11), (0..10).collect::<Vec<_>>());
    let names: HashSet<_> = tally.all().map(|(name, _)| name).collect();
    assert_eq!(names.len(), 5 + Refusal::ALL.len());
    assert!(!restore.next_pass(), "none of them had a helper or a master");
}

#[test]
fn answers_to_other_requests_and_garbage_change_nothing() {
    let mut buffer = vec![0; BUFFER_LEAST];
    let mut restore = Restore::new(capacity(2), 64, &mut buffer, AS_SAVED).unwrap();
    let _ = restore.flow(&udp(1));
    let requests = restore.batch().unwrap().as_bytes().to_vec();
    let header = Messages::new(&requests).next().unwrap().unwrap().header;
    for seq in [0, 3, 4, u32::MAX] {
        assert!(!restore.answer(&answer(libc::EPERM, Header { seq, ..header })));
        assert!(!restore.answer(&answer(0, Header { seq, ..header })));
    }
    assert_eq!(restore.flow_tally(), &Tally::default());
    let refusal = answer(libc::EEXIST, header);
    for len in 1..refusal.len() {
        assert!(!restore.answer(&refusal[..len]));
    }
    assert_eq!(restore.flow_tally().refusals(), 0);
    assert_eq!(restore.flow_tally().malformed.iter().sum::<u32>() as usize, refusal.len() - 1);
}

#[test]
fn sequence_numbers_go_on_around_the_end() {
    let mut buffer = vec![0; 8 << 10];
    let mut batch = Batch::new(&mut buffer, 4);
    batch.close().unwrap();
    batch.start_at(u32::MAX - 1);
    for index in 0..4 {
        let item = Item { index, ..Item::default() };
        batch.put(item, |w, seq| crate::wire::request::get_stats(w, seq)).unwrap();
        assert_eq!(batch.about((u32::MAX - 1).wrapping_add(index)), About::Request(item));
    }
    assert!(batch.is_full());
    assert_eq!((batch.about(2), batch.about(3)), (About::Barrier, About::Nothing));
    batch.clear();
    assert_eq!(batch.about(3), About::Barrier, "of an empty batch");
}

#[test]
fn expectations_are_made_and_those_made_get_their_timeout() {
    let mut buffer = vec![0; BUFFER_LEAST];
    let mut restore =
        Restore::new(capacity(0), 64, &mut buffer, Timeouts { age_s: 10, cap_s: 50 }).unwrap();
    restore.expectations();
    let late = SavedExpect { timeout_s: 10, ..expectation(3) };
    for expect in [expectation(1), expectation(2), late, expectation(4), expectation(5)] {
        let _ = restore.expectation(&expect);
    }
    let requests = restore.batch().unwrap().as_bytes().to_vec();
    let headers: Vec<_> = Messages::new(&requests).map(|raw| raw.unwrap().header).collect();
    assert_eq!(headers.len(), 4, "two and the fourth, and the barrier; the fifth has no room");
    assert!(!restore.answer(&answer(libc::EEXIST, headers[1])));
    assert!(restore.answer(&answer(0, headers[3])));
    let tally = Tally { created: 2, timed_out: 1, beyond_capacity: 1, ..Tally::default() };
    let mut refused = tally.refused;
    refused[Refusal::Exists.index()] = 1;
    let tally = Tally { refused, ..tally };
    assert_eq!(restore.expectation_tally(), &tally);

    restore.expectation_timeouts();
    for expect in [expectation(1), expectation(2), late, expectation(4), expectation(5)] {
        let _ = restore.expectation(&expect);
    }
    let requests = restore.batch().unwrap().as_bytes().to_vec();
    let raws: Vec<_> = Messages::new(&requests).map(Result::unwrap).collect();
    let changed: Vec<_> = raws
        .iter()
        .filter_map(|raw| match Message::parse(raw) {
            Ok(Message::Expect { expect, .. }) => {
                Some((raw.header.flags, expect.timeout_s, expect.tuple))
            }
            _ => None,
        })
        .collect();
    let change = |n| (1, Some(50), Some(expectation(n).tuple));
    assert_eq!(changed, [change(1), change(4)], "REQUEST alone: nothing is made");
    // One was used up meanwhile.
    assert!(!restore.answer(&answer(libc::ENOENT, raws[0].header)));
    assert!(restore.answer(&answer(0, raws[2].header)));
    assert_eq!(restore.expectation_tally(), &tally);
    assert!(restore.batch().is_none());
}

fn any_flows() -> impl Strategy<Value = Vec<SavedFlow>> {
    let one = (1..40_u16, proptest::option::of(1..50_u16), any::<bool>(), 0..4_u32);
    proptest::collection::vec(one, 0..120).prop_map(|all| {
        let make = |(n, master, helper, timeout_s): (u16, Option<u16>, bool, u32)| {
            let mut flow = udp(n);
            flow.rare.master = master.map(|n| udp(n).orig);
            flow.rare.helper = Some(FTP).filter(|_| helper);
            flow.timeout_s = Some(timeout_s);
            flow
        };
        all.into_iter().map(make).collect()
    })
}

proptest! {
    /// Whatever the flows and the kernel are: each flow is created, refused, timed out, and known
    /// to be so; and the kernel has all that anything could be done for.
    #[test]
    fn every_flow_is_accounted_for(
        flows in any_flows(),
        helpers: bool,
        room in 0..60_usize,
        requests in 1..20_usize,
    ) {
        let mut buffer = vec![0; 4 << 10];
        let mut kernel = Kernel::new(helpers, room);
        let mut restore =
            Restore::new(capacity(flows.len()), requests, &mut buffer, AS_SAVED).unwrap();
        let passes = drive(&mut restore, &mut kernel, &flows);
        prop_assert!(passes <= PASSES);
        let tally = *restore.flow_tally();
        let missing = refused(&restore, flows.len());
        prop_assert_eq!(tally.created as usize, kernel.flows.len());
        prop_assert_eq!(tally.timed_out as usize, flows.iter().filter(|f| f.timeout_s == Some(0)).count());
        prop_assert_eq!((tally.timed_out + tally.refusals()) as usize, missing.len());
        prop_assert_eq!(tally.created as usize + missing.len(), flows.len());
        // Each tuple that the kernel has stands for one flow that is not said to be missing.
        let mut made = HashSet::new();
        for (index, flow) in (0..).zip(&flows) {
            if !missing.contains(&index) {
                prop_assert!(kernel.flows.contains_key(&flow.orig));
                prop_assert!(made.insert(flow.orig), "made twice");
            }
        }
        // Only what exists or has no room is missing at the end.
        let known = [Refusal::Exists, Refusal::Full].map(|why| tally.refused_as(why));
        prop_assert_eq!(known.iter().sum::<u32>(), tally.refusals());
        let wanted: HashSet<_> =
            flows.iter().filter(|f| f.timeout_s != Some(0)).map(|f| f.orig).collect();
        prop_assert_eq!(kernel.flows.len(), wanted.len().min(room));
        if !helpers {
            prop_assert!(kernel.flows.values().all(|made| !made.helper));
        }
    }
}

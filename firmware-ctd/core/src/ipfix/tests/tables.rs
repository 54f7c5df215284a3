//! Messages against byte tables that were written from RFC 7011 and the IANA registry by hand.

use super::*;

/// Bytes from hexadecimal digits; blanks are skipped, and so is a `|` and all until the line ends.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text
        .lines()
        .flat_map(|line| line.split('|').next().unwrap_or_default().chars())
        .filter_map(|c| c.to_digit(16))
        .collect();
    digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).unwrap()).collect()
}

/// Length, then the same header for all: time 1795289300, sequence 0x01020304, domain 7.
fn header(len: &str) -> String {
    format!("000a {len} 6b01f0d4 01020304 00000007 |\n")
}

const IPV4_FIELDS: &str = "
    0094 0008 | flowId
    0098 0008 | flowStartMilliseconds
    0099 0008 | flowEndMilliseconds
    0008 0004 | sourceIPv4Address
    000c 0004 | destinationIPv4Address
    0007 0002 | sourceTransportPort
    000b 0002 | destinationTransportPort
    0004 0001 | protocolIdentifier
    0020 0002 | icmpTypeCodeIPv4
    0088 0001 | flowEndReason
    00e6 0001 | natEvent
    0001 0008 | octetDeltaCount
    0002 0008 | packetDeltaCount
    8001 0008 00007279 | reverse octetDeltaCount
    8002 0008 00007279 | reverse packetDeltaCount
    00e1 0004 | postNATSourceIPv4Address
    00e2 0004 | postNATDestinationIPv4Address
    00e3 0002 | postNAPTSourceTransportPort
    00e4 0002 | postNAPTDestinationTransportPort
";

const IPV6_FIELDS: &str = "
    0094 0008 | flowId
    0098 0008 | flowStartMilliseconds
    0099 0008 | flowEndMilliseconds
    001b 0010 | sourceIPv6Address
    001c 0010 | destinationIPv6Address
    0007 0002 | sourceTransportPort
    000b 0002 | destinationTransportPort
    0004 0001 | protocolIdentifier
    008b 0002 | icmpTypeCodeIPv6
    0088 0001 | flowEndReason
    00e6 0001 | natEvent
    0001 0008 | octetDeltaCount
    0002 0008 | packetDeltaCount
    8001 0008 00007279 | reverse octetDeltaCount
    8002 0008 00007279 | reverse packetDeltaCount
    0119 0010 | postNATSourceIPv6Address
    011a 0010 | postNATDestinationIPv6Address
    00e3 0002 | postNAPTSourceTransportPort
    00e4 0002 | postNAPTDestinationTransportPort
";

const OWN_FIELDS: &str = "
    8001 0002 00007ed9 | zone, of enterprise 32473
    8002 0004 00007ed9 | mark
";

const OPTIONS_TEMPLATE: &str = "
    0003 0048 | set of options templates, 72 bytes
    0102 0007 0001 | template 258, 7 fields, the first is the scope
    0090 0004 | exportingProcessId
    0029 0008 | exportedMessageTotalCount
    002a 0008 | exportedFlowRecordTotalCount
    0028 0008 | exportedOctetTotalCount
    00a6 0008 | notSentFlowTotalCount
    00a7 0008 | notSentPacketTotalCount
    00a8 0008 | notSentOctetTotalCount
    0103 0007 0002 | template 259, 7 fields, two of them are the scope
    0090 0004 | exportingProcessId
    014f ffff | selectorName, with its length before it
    00a6 0008 | notSentFlowTotalCount
    00a7 0008 | notSentPacketTotalCount
    00a8 0008 | notSentOctetTotalCount
    0096 0004 | flowStartSeconds
    0097 0004 | flowEndSeconds
";

const IPV4_RECORD: &str = "
    9f0c000000000001 | key
    000001a1ff934dd6 | start, 1795289206230 ms
    000001a1ff943a54 | end, 1795289266772 ms
    c0000202 c6336402 | 192.0.2.2, 198.51.100.2
    8b2a 03e8 11 | 35626, 1000, UDP
    0000 01 05 | no ICMP, idle timeout, NAT44 session delete
    000000000000001d 0000000000000001 | 29 bytes, 1 packet
    ffffffffffffffff 0102030405060708 | back
    c6336401 c6336402 | post NAT: 198.51.100.1, 198.51.100.2
    8b2b 03e8 | post NAPT: 35627, 1000
";

const IPV6_RECORD: &str = "
    9f0c000000000001 | key
    000001a1ff934dd6 | start
    000001a1ff943a54 | end
    20010db8000000000000000000000001 | 2001:db8::1
    20010db8000100000000000000000002 | 2001:db8:1::2
    9c40 01bb 06 | 40000, 443, TCP
    0000 03 00 | no ICMP, end detected, no NAT
    000000000000001d 0000000000000001 | 29 bytes, 1 packet
    ffffffffffffffff 0102030405060708 | back
    20010db8000000000000000000000001 | post NAT: the same
    20010db8000100000000000000000002 |
    9c40 01bb |
";

#[test]
fn templates() {
    let table = header("010c")
        + "0002 00b4 | set of templates, 180 bytes\n"
        + "0100 0013 | template 256, 19 fields"
        + IPV4_FIELDS
        + "0101 0013 | template 257"
        + IPV6_FIELDS
        + OPTIONS_TEMPLATE;
    let (bytes, records) = message(PLAIN, |it| it.templates().unwrap());
    assert_eq!(bytes, hex(&table));
    assert_eq!(records, 0, "templates do not count");
}

#[test]
fn templates_with_zone_and_mark() {
    let table = header("012c")
        + "0002 00d4 | set of templates, 212 bytes\n"
        + "0100 0015 | template 256, 21 fields"
        + IPV4_FIELDS
        + OWN_FIELDS
        + "0101 0015 | template 257"
        + IPV6_FIELDS
        + OWN_FIELDS
        + OPTIONS_TEMPLATE;
    assert_eq!(message(OWN, |it| it.templates().unwrap()).0, hex(&table));
}

#[test]
fn a_flow_of_ipv4() {
    let table = header("0069") + "0100 0059 | set 256, 89 bytes" + IPV4_RECORD;
    assert_eq!(message(PLAIN, |it| it.push(&ipv4()).unwrap()), (hex(&table), 1));
}

#[test]
fn a_flow_of_ipv6() {
    let table = header("0099") + "0101 0089 | set 257, 137 bytes" + IPV6_RECORD;
    assert_eq!(message(PLAIN, |it| it.push(&ipv6()).unwrap()), (hex(&table), 1));
}

#[test]
fn a_flow_with_zone_and_mark() {
    let table = header("006f")
        + "0100 005f | set 256, 95 bytes"
        + IPV4_RECORD
        + "1234 89abcdef | zone, mark";
    assert_eq!(message(OWN, |it| it.push(&ipv4()).unwrap()).0, hex(&table));
}

#[test]
fn an_echo_has_its_identifier_as_source_port_before_and_after_nat() {
    let table = header("0069")
        + "0100 0059"
        + "9f0c000000000001 000001a1ff934dd6 000001a1ff943a54"
        + "c0000202 c6336402 |\n"
        + "004d 0803 01 | identifier 77, type 8 and code 3, ICMP\n"
        + "0803 01 05 |\n"
        + "000000000000001d 0000000000000001 ffffffffffffffff 0102030405060708"
        + "c6336401 c6336402 |\n"
        + "004e 0803 | identifier 78";
    assert_eq!(message(PLAIN, |it| it.push(&echo()).unwrap()).0, hex(&table));
}

#[test]
fn the_exporters_counters() {
    let counters = ExporterCounters {
        messages: 1,
        flow_records: 2,
        octets: 3,
        lost_flows: 4,
        lost_packets: 5,
        lost_octets: u64::MAX,
    };
    let table = header("0048")
        + "0102 0038 | set 258, 56 bytes\n"
        + "00000009 | exporting process 9\n"
        + "0000000000000001 0000000000000002 0000000000000003 |\n"
        + "0000000000000004 0000000000000005 ffffffffffffffff |";
    assert_eq!(message(PLAIN, |it| it.counters(&counters).unwrap()), (hex(&table), 1));
}

#[test]
fn what_was_lost_by_each_cause() {
    let mut losses = Losses::default();
    losses.set(LossCause::QueuePolicy, Lost { records: 1, packets: 2, bytes: 3 }, None);
    let span = Span { from_s: 0x6b01_0203, to_s: 0x6b01_0204 };
    losses.set_flows(LossCause::Valve, 7, Some(span));
    let table = header("007e")
        + "0103 006e | set 259, 110 bytes\n"
        + "00000009 | exporting process 9\n"
        + "12 71756575655f706f6c696379206578616374 | queue_policy exact\n"
        + "0000000000000001 0000000000000002 0000000000000003 00000000 00000000 |\n"
        + "00000009 |\n"
        + "0e 76616c76652061745f6c65617374 | valve at_least\n"
        + "0000000000000007 0000000000000000 0000000000000000 6b010203 6b010204 |";
    assert_eq!(message(PLAIN, |it| it.losses(&losses).unwrap()), (hex(&table), 2));
    let nothing = message(PLAIN, |it| it.losses(&Losses::default()).unwrap());
    assert_eq!(nothing, (hex(&header("0010")), 0));
}

/// The messages of the counters: by UDP with the templates, by TCP in the shortest one that there
/// is, of the smallest window.
#[test]
fn counters_and_all_losses_fit_into_one_message() {
    let mut losses = Losses::default();
    for cause in LossCause::ALL {
        losses.set_flows(cause, u64::MAX, Some(Span::default()));
    }
    for (room, templates) in [(super::UDP_MESSAGE, true), ((16 << 10) / 16, false)] {
        let mut buffer = vec![0; room];
        let mut it = Message::new(&mut buffer, OWN).unwrap();
        if templates {
            it.templates().unwrap();
        }
        it.counters(&ExporterCounters::default()).unwrap();
        it.losses(&losses).unwrap();
        assert_eq!(usize::from(it.records()), 1 + LossCause::ALL.len());
    }
}

#[test]
fn sets_change_with_the_family() {
    let table = header("0147")
        + "0100 00ae | two of IPv4, 174 bytes"
        + IPV4_RECORD
        + IPV4_RECORD
        + "0101 0089 | one of IPv6"
        + IPV6_RECORD;
    let done = message(PLAIN, |it| {
        [ipv4(), ipv4(), ipv6()].iter().for_each(|record| it.push(record).unwrap());
    });
    assert_eq!(done, (hex(&table), 3));
}

#[test]
fn what_does_not_fit_leaves_the_message_as_it_was() {
    let (whole, _) = message(PLAIN, |it| it.push(&ipv4()).unwrap());
    for room in whole.len()..whole.len() + 4 + 85 {
        let mut buffer = vec![0; room];
        let mut it = Message::new(&mut buffer, PLAIN).unwrap();
        it.push(&ipv4()).unwrap();
        assert_eq!(it.push(&ipv6()), Err(Full));
        assert_eq!(it.templates(), Err(Full));
        assert_eq!(it.counters(&ExporterCounters::default()).is_ok(), room >= whole.len() + 56);
        if it.records() == 1 {
            assert_eq!(it.push(&ipv4()).is_ok(), room >= whole.len() + 85, "the set goes on");
        }
        if it.records() == 1 {
            assert_eq!(it.finish(TIME, 0x0102_0304), (&whole[..], 1));
        }
    }
}

#[test]
fn a_buffer_without_room_for_the_header_is_refused() {
    assert!(Message::new(&mut [0; 15], PLAIN).is_err());
    assert!(Message::new(&mut [0; 16], PLAIN).is_ok_and(|it| it.is_empty() && it.len() == 16));
}

#[test]
fn a_message_is_never_longer_than_its_length_field_can_tell() {
    let mut buffer = vec![0; MAX_MESSAGE + 1000];
    let mut it = Message::new(&mut buffer, PLAIN).unwrap();
    while it.push(&ipv4()).is_ok() {}
    let (bytes, records) = it.finish(TIME, 0);
    assert_eq!((bytes.len(), records), (16 + 4 + 770 * 85, 770));
    assert_eq!(bytes[2..4], u16::try_from(bytes.len()).unwrap().to_be_bytes());
}

/// The two bytes of reason and NAT event, and the four of the ports.
fn cut(record: &Record) -> ([u8; 2], [u8; 4]) {
    let (bytes, _) = message(PLAIN, |it| it.push(record).unwrap());
    let addresses = if record.orig.src.is_ipv6() { 32 } else { 8 };
    let ports = 20 + 24 + addresses;
    let (_, rest) = bytes.split_at(ports);
    ([rest[7], rest[8]], *rest.first_chunk().unwrap())
}

#[test]
fn the_reason_of_the_end() {
    let (tcp, sctp, udp) = (Protocol::TCP, Protocol::SCTP, Protocol::UDP);
    let all = [
        (Cause::Event, udp, None, 1),
        (Cause::Event, tcp, None, 1),
        (Cause::Event, tcp, Some(1), 1),
        (Cause::Event, tcp, Some(3), 1),
        (Cause::Event, tcp, Some(4), 3),
        (Cause::Event, tcp, Some(8), 3),
        (Cause::Event, tcp, Some(9), 1),
        (Cause::Event, sctp, Some(1), 3),
        (Cause::Event, sctp, Some(4), 1),
        (Cause::Event, sctp, Some(5), 3),
        (Cause::Event, sctp, Some(7), 3),
        (Cause::Event, sctp, Some(8), 1),
        (Cause::Resync, udp, None, 5),
        (Cause::Resync, tcp, Some(7), 5),
    ];
    for (cause, proto, state, reason) in all {
        let mut record = ipv4();
        record.cause = cause;
        record.orig.proto = proto;
        record.l4_state = state.map(|state| L4State { state, ..L4State::default() });
        assert_eq!(cut(&record).0[0], reason, "{cause:?} {proto:?} {state:?}");
    }
}

#[test]
fn the_nat_event() {
    for (status, v4, v6) in [
        (Status::SEEN_REPLY, 0, 0),
        (Status::SRC_NAT, 5, 2),
        (Status::DST_NAT, 5, 2),
        (Status::SRC_NAT | Status::DST_NAT, 5, 2),
    ] {
        for (mut record, event) in [(ipv4(), v4), (ipv6(), v6)] {
            record.status = Status(status);
            assert_eq!(cut(&record).0[1], event);
        }
    }
}

#[test]
fn keys_of_gre_and_protocols_without_ports_have_no_ports() {
    let mut record = ipv4();
    record.orig.proto = Protocol::GRE;
    record.reply.proto = Protocol::GRE;
    assert_eq!(cut(&record).1, [0; 4]);
    (record.orig.proto, record.orig.l4) = (Protocol(50), L4::None);
    (record.reply.proto, record.reply.l4) = (Protocol(50), L4::None);
    assert_eq!(cut(&record).1, [0; 4]);
}

#[test]
fn a_missing_time_is_the_other_one_and_missing_counters_are_zero() {
    let times = |start_ns, end_ns| {
        let record = Record { start_ns, end_ns, counters: None, ..ipv4() };
        let (bytes, _) = message(PLAIN, |it| it.push(&record).unwrap());
        assert_eq!(bytes[61..93], [0; 32]);
        [28, 36].map(|at| u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap()))
    };
    assert_eq!(times(None, Some(5_999_999)), [5, 5]);
    assert_eq!(times(Some(4_000_000), None), [4, 4]);
    assert_eq!(times(None, None), [0, 0]);
}

#[test]
fn the_layout_tells_what_messages_take_for_granted() {
    let layouts = [
        PLAIN.layout(),
        OWN.layout(),
        Exporter { domain: 8, ..PLAIN }.layout(),
        Exporter { process: 8, ..PLAIN }.layout(),
    ];
    for (i, layout) in layouts.iter().enumerate() {
        assert!(!layouts[i + 1..].contains(layout));
    }
    assert!(!Exporter::is_usable_enterprise(0) && !Exporter::is_usable_enterprise(29_305));
    assert!(Exporter::is_usable_enterprise(32_473));
}

#[test]
fn export_time_is_seconds_modulo_2_to_the_32() {
    assert_eq!(export_seconds(WallTime::from_nanos(999_999_999)), 0);
    assert_eq!(export_seconds(WallTime::from_nanos(((1 << 32) + 5) * NANOS_PER_SEC)), 5);
}

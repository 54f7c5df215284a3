//! What another program makes of the messages: the crate `netflow_parser`, which shares nothing
//! with this one but the RFCs.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netflow_parser::variable_versions::ipfix::FlowSetBody;
use netflow_parser::{FieldValue, IpfixField, NetflowPacket, NetflowParser};
use proptest::prelude::*;

use super::*;

type Fields = Vec<(IpfixField, Vec<u8>)>;

/// A message as the other program sees it.
#[derive(Debug, Default, PartialEq)]
struct Read {
    /// Length, time, sequence number, domain.
    header: [u32; 4],
    /// Ids of templates with the number of their fields, and of scope fields.
    templates: Vec<(u16, u16, u16)>,
    /// Set ids and fields of data records.
    records: Vec<(u16, Fields)>,
}

fn bytes(value: &FieldValue) -> Vec<u8> {
    match value {
        FieldValue::Ip4Addr(address) => address.octets().to_vec(),
        FieldValue::Ip6Addr(address) => address.octets().to_vec(),
        other => {
            let mut bytes = Vec::new();
            other.write_be_bytes(&mut bytes).unwrap();
            bytes
        }
    }
}

fn read(parser: &mut NetflowParser, message: &[u8]) -> Read {
    let result = parser.parse_bytes(message);
    assert!(result.error.is_none(), "{:?}", result.error);
    let [NetflowPacket::IPFix(packet)] = &result.packets[..] else {
        panic!("{:?}", result.packets);
    };
    let h = packet.header;
    let header = [u32::from(h.length), h.export_time, h.sequence_number, h.observation_domain_id];
    let mut read = Read { header, ..Read::default() };
    for set in &packet.flowsets {
        let data = match &set.body {
            FlowSetBody::Templates(all) => {
                read.templates.extend(all.iter().map(|it| (it.template_id, it.field_count, 0)));
                continue;
            }
            FlowSetBody::OptionsTemplates(all) => {
                let ids =
                    all.iter().map(|it| (it.template_id, it.field_count, it.scope_field_count));
                read.templates.extend(ids);
                continue;
            }
            FlowSetBody::OptionsTemplate(it) => {
                read.templates.push((it.template_id, it.field_count, it.scope_field_count));
                continue;
            }
            FlowSetBody::Data(data) => &data.fields,
            FlowSetBody::OptionsData(data) => &data.fields,
            other => panic!("{other:?}"),
        };
        for record in data {
            let fields = record.iter().map(|(field, value)| (*field, bytes(value))).collect();
            read.records.push((set.header.header_id, fields));
        }
    }
    read
}

fn field(number: u16, enterprise: Option<u32>, bytes: &[u8]) -> (IpfixField, Vec<u8>) {
    (IpfixField::new(number, enterprise), bytes.to_vec())
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// What a record should be read as: set and fields.
fn expected(record: &Record, enterprise: Option<u32>) -> (u16, Fields) {
    let v6 = record.orig.src.is_ipv6();
    let by_family = |v4, number6| if v6 { number6 } else { v4 };
    let [there, back] = record.counters.unwrap_or_default();
    let end = record.end_ns.unwrap();
    let (mut icmp, mut ports, mut post) = (0, [0; 2], [0; 2]);
    match (record.orig.l4, record.reply.l4) {
        (L4::Icmp { id, kind, code }, L4::Icmp { id: after, .. }) => {
            icmp = u16::from(kind) << 8 | u16::from(code);
            (ports, post) = ([id, icmp], [after, icmp]);
        }
        (L4::Ports { src, dst }, L4::Ports { src: src_back, dst: dst_back })
            if record.orig.proto.0 != 47 =>
        {
            (ports, post) = ([src, dst], [dst_back, src_back]);
        }
        _ => {}
    }
    let nat = record.status.0 & (Status::SRC_NAT | Status::DST_NAT) != 0;
    let state = record.l4_state.map_or(0, |it| it.state);
    let reason = match record.cause {
        Cause::Resync | Cause::Restart => 5,
        Cause::Event if record.orig.proto.0 == 6 && (4..9).contains(&state) => 3,
        Cause::Event if record.orig.proto.0 == 132 && [1, 5, 6, 7].contains(&state) => 3,
        Cause::Event => 1,
    };
    let mut fields = vec![
        field(148, None, &record.key.value().to_be_bytes()),
        field(152, None, &(record.start_ns.unwrap_or(end) / 1_000_000).to_be_bytes()),
        field(153, None, &(end / 1_000_000).to_be_bytes()),
        field(by_family(8, 27), None, &octets(record.orig.src)),
        field(by_family(12, 28), None, &octets(record.orig.dst)),
        field(7, None, &ports[0].to_be_bytes()),
        field(11, None, &ports[1].to_be_bytes()),
        field(4, None, &[record.orig.proto.0]),
        field(by_family(32, 139), None, &icmp.to_be_bytes()),
        field(136, None, &[reason]),
        field(230, None, &[if nat { by_family(5, 2).to_be_bytes()[1] } else { 0 }]),
        field(1, None, &there.bytes.to_be_bytes()),
        field(2, None, &there.packets.to_be_bytes()),
        field(1, Some(29_305), &back.bytes.to_be_bytes()),
        field(2, Some(29_305), &back.packets.to_be_bytes()),
        field(by_family(225, 281), None, &octets(record.reply.dst)),
        field(by_family(226, 282), None, &octets(record.reply.src)),
        field(227, None, &post[0].to_be_bytes()),
        field(228, None, &post[1].to_be_bytes()),
    ];
    if enterprise.is_some() {
        fields.push(field(1, enterprise, &record.zone.to_be_bytes()));
        fields.push(field(2, enterprise, &record.mark.to_be_bytes()));
    }
    (by_family(256, 257), fields)
}

#[test]
fn every_field_is_read_back() {
    for exporter in [PLAIN, OWN] {
        let counters = ExporterCounters { messages: 1, lost_octets: 6, ..Default::default() };
        let mut losses = Losses::default();
        losses.set_flows(LossCause::Unheard, 0, Some(Span { from_s: 4, to_s: 5 }));
        losses.set_flows(LossCause::TableFull, 8, None);
        let (bytes, count) = message(exporter, |it| {
            it.templates().unwrap();
            [ipv4(), echo(), ipv6()].iter().for_each(|record| it.push(record).unwrap());
            it.counters(&counters).unwrap();
            it.losses(&losses).unwrap();
        });
        let seen = read(&mut NetflowParser::default(), &bytes);
        let fields = if exporter.enterprise.is_some() { 21 } else { 19 };
        assert_eq!(seen.header[1..], [1_795_289_300, 0x0102_0304, 7]);
        assert_eq!(seen.templates, [(256, fields, 0), (257, fields, 0), (258, 7, 1), (259, 7, 2)]);
        let mut all: Vec<_> = [ipv4(), echo(), ipv6()]
            .iter()
            .map(|record| expected(record, exporter.enterprise))
            .collect();
        let values: [(u16, u64); 6] = [(41, 1), (42, 0), (40, 0), (166, 0), (167, 0), (168, 6)];
        let mut options = vec![field(144, None, &9_u32.to_be_bytes())];
        options.extend(values.map(|(number, value)| field(number, None, &value.to_be_bytes())));
        all.push((258, options));
        for (name, flows, [from, to]) in
            [("unheard at_least", 0, [4, 5]), ("table_full at_most", 8, [0, 0])]
        {
            let mut loss = vec![field(144, None, &9_u32.to_be_bytes())];
            loss.push(field(335, None, name.as_bytes()));
            for (number, value) in [(166, flows), (167, 0), (168, 0)] {
                loss.push(field(number, None, &u64::to_be_bytes(value)));
            }
            for (number, value) in [(150, from), (151, to)] {
                loss.push(field(number, None, &u32::to_be_bytes(value)));
            }
            all.push((259, loss));
        }
        assert_eq!(seen.records, all);
        assert_eq!(usize::from(count), all.len());
    }
}

fn address(v6: bool) -> BoxedStrategy<IpAddr> {
    if v6 {
        any::<[u8; 16]>().prop_map(|it| Ipv6Addr::from(it).into()).boxed()
    } else {
        any::<[u8; 4]>().prop_map(|it| Ipv4Addr::from(it).into()).boxed()
    }
}

/// The tuples of a flow: protocol and identification are of one kind in both.
fn tuples() -> impl Strategy<Value = [Tuple; 2]> {
    let proto = prop::sample::select(vec![1, 6, 17, 33, 47, 50, 58, 132, 136, 255]);
    (any::<bool>(), proto, any::<[u16; 4]>(), any::<[u8; 4]>()).prop_flat_map(
        |(v6, proto, words, bytes)| {
            let l4 = move |i: usize| match proto {
                1 | 58 => L4::Icmp { id: words[i], kind: bytes[i], code: bytes[i + 1] },
                50 | 255 => L4::None,
                _ => L4::Ports { src: words[i], dst: words[i + 1] },
            };
            let proto = Protocol(proto);
            (address(v6), address(v6), address(v6), address(v6)).prop_map(move |(a, b, c, d)| {
                [
                    Tuple { src: a, dst: b, proto, l4: l4(0) },
                    Tuple { src: c, dst: d, proto, l4: l4(2) },
                ]
            })
        },
    )
}

fn records() -> impl Strategy<Value = Record> {
    let counters =
        prop::option::of(any::<[[u64; 2]; 2]>()).prop_map(|all: Option<[[u64; 2]; 2]>| {
            all.map(|all| all.map(|[packets, bytes]| Counters { packets, bytes }))
        });
    let times = (prop::option::of(any::<u64>()), any::<u64>());
    let rest = (any::<u64>(), any::<bool>(), any::<u16>(), any::<u32>(), any::<u32>());
    (tuples(), counters, times, rest, prop::option::of(0_u8..11)).prop_map(
        |([orig, reply], counters, (start_ns, end), (key, lost, zone, mark, status), state)| {
            Record {
                cause: if lost { Cause::Resync } else { Cause::Event },
                key: RecordKey::Weak(key),
                start_ns,
                end_ns: Some(end),
                orig,
                reply,
                counters,
                zone,
                mark,
                status: Status(status),
                l4_state: state.map(|state| L4State { state, ..L4State::default() }),
                ..ipv4()
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// As a UDP exporter sends them: templates in the first message, each as full as it may be.
    #[test]
    fn records_come_back_as_they_were(
        all in prop::collection::vec(records(), 1..60),
        own in any::<bool>(),
        limit in 600_usize..3000,
    ) {
        let exporter = if own { OWN } else { PLAIN };
        let mut parser = NetflowParser::default();
        let (mut left, mut sequence, mut seen) = (&all[..], 0_u32, Vec::new());
        while !left.is_empty() {
            let mut buffer = vec![0xee; limit];
            let mut message = Message::new(&mut buffer, exporter).unwrap();
            if sequence == 0 {
                message.templates().unwrap();
            }
            let mut taken = 0;
            while left.get(taken).is_some_and(|record| message.push(record).is_ok()) {
                taken += 1;
            }
            left = &left[taken..];
            let (bytes, count) = message.finish(TIME, sequence);
            prop_assert_eq!(usize::from(count), taken);
            prop_assert!(taken > 0 && bytes.len() <= limit);
            let read = read(&mut parser, bytes);
            let length = u32::try_from(bytes.len()).unwrap();
            prop_assert_eq!(read.header, [length, 1_795_289_300, sequence, 7]);
            seen.extend(read.records);
            sequence += u32::from(count);
        }
        let enterprise = exporter.enterprise;
        let all: Vec<_> = all.iter().map(|record| expected(record, enterprise)).collect();
        prop_assert_eq!(seen, all);
    }
}

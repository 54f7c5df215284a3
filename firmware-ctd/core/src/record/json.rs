//! Records as JSON, one object a line.

use super::text::Text;
use super::{Kind, Record};
use crate::wire::{Counters, L4, Protocol, Status, Tuple};

/// More bytes than the longest line of any record has, its newline included (tested).
pub const MAX_LINE: usize = 1536;

/// Appends the record and a newline.
pub fn line(out: &mut Text<'_>, record: &Record) {
    out.str("{\"type\":\"");
    out.str(record.kind.name());
    identity(out, record);
    if record.kind == Kind::Destroy {
        out.str("\",\"cause\":\"");
        out.str(record.cause.name());
    }
    out.byte(b'"');
    times(out, record);
    out.str(if record.orig.src.is_ipv6() {
        ",\"family\":\"ipv6\",\"proto\":\""
    } else {
        ",\"family\":\"ipv4\",\"proto\":\""
    });
    protocol(out, record.orig.proto);
    out.str("\",\"orig\":");
    let [orig, reply] = match &record.counters {
        Some([orig, reply]) => [Some(orig), Some(reply)],
        None => [None, None],
    };
    direction(out, &record.orig, orig);
    out.str(",\"reply\":");
    direction(out, &record.reply, reply);
    attributes(out, record);
    out.str("}\n");
}

/// The key, once the start is known; for what lives, the flow too; for what was carried over a
/// reboot, its account.
fn identity(out: &mut Text<'_>, record: &Record) {
    let destroy = record.kind == Kind::Destroy;
    if destroy || !record.key.is_weak() {
        out.str("\",\"key\":\"");
        out.hex64(record.key.value());
    }
    if !destroy {
        out.str("\",\"flow\":\"");
        out.hex64(record.flow);
    }
    if let Some(account) = record.account {
        out.str("\",\"account\":\"");
        out.hex64(account);
    }
}

fn times(out: &mut Text<'_>, record: &Record) {
    let times = [
        (",\"start\":", record.start_ns),
        (",\"end\":", record.end_ns),
        (",\"as_of\":", record.as_of_ns),
    ];
    for (name, time) in times {
        if let Some(ns) = time {
            out.str(name);
            out.seconds(ns);
        }
    }
}

/// Appends a protocol's name, or its number.
pub fn protocol(out: &mut Text<'_>, protocol: Protocol) {
    match protocol_name(protocol) {
        Some(name) => out.str(name),
        None => out.number(u64::from(protocol.0)),
    }
}

/// The usual name of a protocol that conntrack knows.
#[must_use]
pub const fn protocol_name(protocol: Protocol) -> Option<&'static str> {
    match protocol {
        Protocol::ICMP => Some("icmp"),
        Protocol::TCP => Some("tcp"),
        Protocol::UDP => Some("udp"),
        Protocol::DCCP => Some("dccp"),
        Protocol::GRE => Some("gre"),
        Protocol::ICMPV6 => Some("icmpv6"),
        Protocol::SCTP => Some("sctp"),
        Protocol::UDPLITE => Some("udplite"),
        _ => None,
    }
}

/// Appends one direction as an object.
pub fn direction(out: &mut Text<'_>, tuple: &Tuple, counters: Option<&Counters>) {
    out.str("{\"src\":\"");
    out.address(tuple.src);
    out.str("\",\"dst\":\"");
    out.address(tuple.dst);
    match tuple.l4 {
        L4::None => out.byte(b'"'),
        L4::Ports { src, dst } if tuple.proto == Protocol::GRE => {
            numbers(out, &[("\",\"srckey\":", u64::from(src)), (",\"dstkey\":", u64::from(dst))]);
        }
        L4::Ports { src, dst } => {
            numbers(out, &[("\",\"sport\":", u64::from(src)), (",\"dport\":", u64::from(dst))]);
        }
        L4::Icmp { id, kind, code } => numbers(
            out,
            &[
                ("\",\"icmp_id\":", u64::from(id)),
                (",\"icmp_type\":", u64::from(kind)),
                (",\"icmp_code\":", u64::from(code)),
            ],
        ),
    }
    if let Some(Counters { packets, bytes }) = counters {
        numbers(out, &[(",\"packets\":", *packets), (",\"bytes\":", *bytes)]);
    }
    out.byte(b'}');
}

fn numbers(out: &mut Text<'_>, fields: &[(&str, u64)]) {
    for &(name, value) in fields {
        out.str(name);
        out.number(value);
    }
}

fn attributes(out: &mut Text<'_>, record: &Record) {
    let fields = [
        (",\"zone\":", u64::from(record.zone)),
        (",\"mark\":", u64::from(record.mark)),
        (",\"id\":", u64::from(record.id)),
    ];
    numbers(out, &fields);
    if let Some(timeout_s) = record.timeout_s {
        numbers(out, &[(",\"timeout\":", u64::from(timeout_s))]);
    }
    out.str(",\"status\":[");
    status(out, record.status);
    out.byte(b']');
    if let Some(state) = record.l4_state {
        out.str(",\"state\":\"");
        l4_state(out, record.orig.proto, state.state);
        out.byte(b'"');
    }
    if let Some(helper) = &record.helper {
        out.str(",\"helper\":\"");
        out.escaped(helper.split(|&b| b == 0).next().unwrap_or_default());
        out.byte(b'"');
    }
    if let Some(labels) = &record.labels {
        out.str(",\"labels\":\"");
        out.hex_bytes(&labels.0);
        out.byte(b'"');
    }
    if record.inexact {
        out.str(",\"inexact\":true");
    }
    if record.key.is_weak() && record.kind == Kind::Destroy {
        out.str(",\"weak_key\":true");
    }
}

/// The bits of a status that tell something, with their names. Those that every flow has
/// (confirmed, NAT decided) are left out.
pub const STATUS_NAMES: [(u32, &str); 12] = [
    (Status::SRC_NAT, "snat"),
    (Status::DST_NAT, "dnat"),
    (Status::SEEN_REPLY, "seen-reply"),
    (Status::ASSURED, "assured"),
    (Status::EXPECTED, "expected"),
    (Status::SEQ_ADJUST, "seq-adjust"),
    (Status::FIXED_TIMEOUT, "fixed-timeout"),
    (Status::TEMPLATE, "template"),
    (Status::NAT_CLASH, "nat-clash"),
    (Status::HELPER, "helper"),
    (Status::OFFLOAD, "offload"),
    (Status::HW_OFFLOAD, "hw-offload"),
];

fn status(out: &mut Text<'_>, status: Status) {
    let mut first = true;
    for &(bits, name) in &STATUS_NAMES {
        if status.has(bits) {
            if !first {
                out.byte(b',');
            }
            out.byte(b'"');
            out.str(name);
            out.byte(b'"');
            first = false;
        }
    }
}

/// `enum tcp_conntrack`, in the words of conntrack(8), in lower case.
pub const TCP_STATES: [&str; 10] = [
    "none",
    "syn-sent",
    "syn-recv",
    "established",
    "fin-wait",
    "close-wait",
    "last-ack",
    "time-wait",
    "close",
    "syn-sent2",
];

/// `enum sctp_conntrack`.
const SCTP_STATES: [&str; 10] = [
    "none",
    "closed",
    "cookie-wait",
    "cookie-echoed",
    "established",
    "shutdown-sent",
    "shutdown-recd",
    "shutdown-ack-sent",
    "heartbeat-sent",
    "heartbeat-acked",
];

/// Appends the name of a TCP or SCTP state, or its number.
pub fn l4_state(out: &mut Text<'_>, protocol: Protocol, state: u8) {
    let names = if protocol == Protocol::SCTP { &SCTP_STATES } else { &TCP_STATES };
    match names.get(usize::from(state)) {
        Some(name) => out.str(name),
        None => out.number(u64::from(state)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Cause, RecordKey};
    use super::*;
    use crate::table::L4State;
    use crate::wire::Labels;

    fn written(record: &Record) -> String {
        let mut buffer = [0; MAX_LINE];
        let mut text = Text::new(&mut buffer);
        line(&mut text, record);
        assert!(!text.is_cut());
        String::from_utf8(text.as_bytes().to_vec()).unwrap()
    }

    fn tuple(src: &str, dst: &str, l4: L4) -> Tuple {
        Tuple { src: src.parse().unwrap(), dst: dst.parse().unwrap(), proto: Protocol::UDP, l4 }
    }

    fn example() -> Record {
        Record {
            kind: Kind::Destroy,
            cause: Cause::Event,
            key: RecordKey::Strong(0x9f0c_0000_0000_0001),
            flow: 7,
            account: None,
            start_ns: Some(1_795_289_206_230_000_000),
            end_ns: Some(1_795_289_266_772_000_000),
            as_of_ns: None,
            orig: tuple("192.0.2.2", "198.51.100.2", L4::Ports { src: 35626, dst: 1000 }),
            reply: tuple("198.51.100.2", "198.51.100.1", L4::Ports { src: 1000, dst: 35626 }),
            counters: Some([Counters { packets: 1, bytes: 29 }, Counters::default()]),
            inexact: false,
            zone: 0,
            mark: 0,
            id: 4_029_139_822,
            status: Status(Status::SRC_NAT | Status::SEEN_REPLY | Status::CONFIRMED),
            timeout_s: None,
            l4_state: None,
            helper: None,
            labels: None,
        }
    }

    #[test]
    fn a_destroyed_flow_has_the_promised_form() {
        let expected = concat!(
            r#"{"type":"destroy","key":"9f0c000000000001","cause":"event","#,
            r#""start":1795289206.230,"end":1795289266.772,"family":"ipv4","proto":"udp","#,
            r#""orig":{"src":"192.0.2.2","dst":"198.51.100.2","sport":35626,"dport":1000,"#,
            r#""packets":1,"bytes":29},"#,
            r#""reply":{"src":"198.51.100.2","dst":"198.51.100.1","sport":1000,"dport":35626,"#,
            r#""packets":0,"bytes":0},"#,
            r#""zone":0,"mark":0,"id":4029139822,"status":["snat","seen-reply"]}"#,
            "\n",
        );
        assert_eq!(written(&example()), expected);
    }

    #[test]
    fn what_was_carried_over_a_reboot_has_its_account_too() {
        let account = Some(0x0123_4567_89ab_cdef);
        let with = written(&Record { account, ..example() });
        let expected = r#","account":"0123456789abcdef""#;
        assert!(with.contains(&format!(r#""key":"9f0c000000000001"{expected},"cause""#)), "{with}");
        assert_eq!(with.replace(expected, ""), written(&example()), "and nothing else is changed");
    }

    #[test]
    fn without_counters_and_start_the_record_says_so() {
        let mut record = example();
        record.counters = None;
        record.start_ns = None;
        record.key = RecordKey::Weak(1);
        let line = written(&record);
        assert!(!line.contains("packets") && !line.contains("start"), "{line}");
        assert!(line.contains(r#""weak_key":true"#), "{line}");
    }

    #[test]
    fn the_longest_record_fits_a_line() {
        let long: core::net::IpAddr = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".parse().unwrap();
        let l4 = L4::Icmp { id: u16::MAX, kind: u8::MAX, code: u8::MAX };
        let tuple = Tuple { src: long, dst: long, proto: Protocol(255), l4 };
        let most = Counters { packets: u64::MAX, bytes: u64::MAX };
        let record = Record {
            kind: Kind::Destroy,
            cause: Cause::Resync,
            key: RecordKey::Weak(u64::MAX),
            flow: u64::MAX,
            account: Some(u64::MAX),
            start_ns: Some(u64::MAX),
            end_ns: Some(u64::MAX),
            as_of_ns: Some(u64::MAX),
            orig: tuple,
            reply: tuple,
            counters: Some([most, most]),
            inexact: true,
            zone: u16::MAX,
            mark: u32::MAX,
            id: u32::MAX,
            status: Status(u32::MAX),
            timeout_s: Some(u32::MAX),
            l4_state: Some(L4State { state: 255, ..L4State::default() }),
            helper: Some([0xff; 16]),
            labels: Some(Labels([0xff; 16])),
        };
        written(&record);
    }
}

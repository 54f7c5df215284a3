//! Tests of filters.

use core::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::wire::Protocol;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn tuple(src: &str, sport: u16, dst: &str, dport: u16, proto: Protocol) -> Tuple {
    Tuple { src: ip(src), dst: ip(dst), proto, l4: L4::Ports { src: sport, dst: dport } }
}

/// A masqueraded TCP flow: 192.168.1.7:40000 to 198.51.100.2:443, seen as 203.0.113.1:50000.
fn nated() -> (Tuple, Tuple) {
    (
        tuple("192.168.1.7", 40_000, "198.51.100.2", 443, Protocol::TCP),
        tuple("198.51.100.2", 443, "203.0.113.1", 50_000, Protocol::TCP),
    )
}

fn facts<'a>(orig: &'a Tuple, reply: &'a Tuple) -> FlowFacts<'a> {
    FlowFacts {
        family: if orig.src.is_ipv4() { 4 } else { 6 },
        orig,
        reply,
        zone: 5,
        mark: 0x102,
        status: Status(Status::SEEN_REPLY | Status::ASSURED | Status::SRC_NAT),
        tcp_state: Some(3),
        labels: Some(Labels::from_bits(1 << 3 | 1 << 127)),
    }
}

fn words(text: &str) -> Result<Filter, FilterError> {
    Filter::parse(text.split_whitespace())
}

fn meets(text: &str) -> bool {
    let (orig, reply) = nated();
    words(text).unwrap().matches(&facts(&orig, &reply))
}

#[test]
fn no_word_lets_every_flow_pass() {
    assert!(meets(""));
}

#[test]
fn each_word_looks_at_its_own_part_of_a_flow() {
    for (yes, no) in [
        ("family=ipv4", "family=ipv6"),
        ("proto=tcp", "proto=udp"),
        ("proto=6", "proto=7"),
        ("proto=TCP", "proto=0"),
        ("src=192.168.1.7", "src=198.51.100.2"),
        ("dst=198.51.100.2", "dst=203.0.113.1"),
        ("src=192.168.1.0/24", "src=192.168.0.0/24"),
        ("src=192.168.1.6/31", "src=192.168.1.8/31"),
        ("src=0.0.0.0/0", "src=::/0"),
        ("addr=192.168.1.7", "addr=192.168.1.8"),
        ("addr=203.0.113.1", "addr=203.0.113.2"),
        ("sport=40000", "sport=50000"),
        ("dport=443", "dport=40000"),
        ("dport=400-443", "dport=444-500"),
        ("port=50000", "port=50001"),
        ("port=443", "port=80"),
        ("zone=5", "zone=0"),
        ("mark=258", "mark=2"),
        ("mark=0x102", "mark=0x2"),
        ("label=3", "label=4"),
        ("label=127", "label=0"),
        ("mark=0x2/0xff", "mark=0x2/0xfff"),
        ("mark=0/0x1", "mark=1/0x1"),
        ("state=established", "state=syn-sent"),
        ("state=ESTABLISHED", "state=time_wait"),
        ("assured", "dnat"),
        ("snat", "offload"),
    ] {
        assert!(meets(yes), "{yes}");
        assert!(!meets(no), "{no}");
    }
}

#[test]
fn all_words_must_be_met() {
    assert!(meets("proto=tcp dport=443 assured addr=192.168.1.7 addr=203.0.113.1"));
    assert!(!meets("proto=tcp dport=443 assured addr=192.168.1.7 addr=203.0.113.9"));
}

#[test]
fn offload_is_by_software_or_hardware() {
    let (orig, reply) = nated();
    for bits in [Status::OFFLOAD, Status::HW_OFFLOAD] {
        let flow = FlowFacts { status: Status(bits), ..facts(&orig, &reply) };
        assert!(words("offload").unwrap().matches(&flow));
    }
}

#[test]
fn what_a_flow_does_not_have_meets_no_word() {
    let ping = Tuple {
        src: ip("2001:db8::1"),
        dst: ip("2001:db8::2"),
        proto: Protocol::ICMPV6,
        l4: L4::Icmp { id: 443, kind: 128, code: 0 },
    };
    let flow = FlowFacts { tcp_state: None, labels: None, ..facts(&ping, &ping) };
    for word in ["port=0-65535", "sport=443", "dport=443", "state=none", "label=0", "src=0.0.0.0/0"]
    {
        assert!(!words(word).unwrap().matches(&flow), "{word}");
    }
    for word in ["family=ipv6", "proto=icmpv6", "src=2001:db8::/127", "dst=2001:db8::2", "src=::/0"]
    {
        assert!(words(word).unwrap().matches(&flow), "{word}");
    }
    assert!(!words("dst=2001:db8::/127").unwrap().matches(&flow));
}

#[test]
fn wrong_words_are_named_with_what_is_allowed() {
    let values: [(&str, &[&str]); 12] = [
        ("family", &["", "inet", "5"]),
        ("proto", &["", "256", "-1", "+6", "tcpp"]),
        ("src", &["", "host", "1.2.3", "1.2.3.4/33", "1.2.3.4/", "1.2.3.4/-1", "::/129", "/8"]),
        ("dst", &["1.2.3.4/8/8", "::1%lo"]),
        ("addr", &["1.2.3.4:80"]),
        ("sport", &["65536", "5-4", "-", "1-", "-1", "+1", "a"]),
        ("dport", &[""]),
        ("port", &["1-2-3"]),
        ("zone", &["65536", ""]),
        ("mark", &["", "0x", "0x+1", "4294967296", "1/", "/1", "-1", "0x1/0x"]),
        ("label", &["", "128", "-1", "0x1"]),
        ("state", &["", "listening", "é"]),
    ];
    for (key, wrong) in values {
        for value in wrong {
            let word = format!("{key}={value}");
            let error = words(&format!("assured {word}")).unwrap_err();
            assert_eq!(error.index, 1, "{word}");
            assert!(matches!(error.cause, FilterFault::Value(_)), "{word}: {error}");
            assert!(error.to_string().contains("allowed: "), "{error}");
        }
    }
    for (word, meant) in [
        ("sprot=5", Some("sport=")),
        ("source=1.2.3.4", None),
        ("assured=1", Some("assured")),
        ("port", Some("port=")),
        ("Proto=tcp", Some("proto=")),
        ("=", None),
        ("", None),
    ] {
        let error = Filter::parse([word]).unwrap_err();
        assert_eq!(error, FilterError { index: 0, cause: FilterFault::Unknown(meant) }, "{word}");
    }
}

#[test]
fn sixteen_words_fit_and_one_more_is_refused() {
    assert!(Filter::parse(["snat"; MOST]).is_ok());
    let error = Filter::parse(["snat"; MOST + 1]).unwrap_err();
    assert_eq!(error, FilterError { index: MOST, cause: FilterFault::TooMany });
}

proptest! {
    #[test]
    fn a_prefix_holds_the_addresses_that_share_its_bits(a: u32, b: u32, prefix in 0u8..=32) {
        let [net, addr] = [a, b].map(|bits| IpAddr::V4(bits.into()));
        let flow = tuple("0.0.0.0", 1, "0.0.0.0", 1, Protocol::UDP);
        let orig = Tuple { src: addr, ..flow };
        let filter = words(&format!("src={net}/{prefix}")).unwrap();
        let shared = (0..u32::from(prefix)).all(|bit| (a ^ b) & (1 << (31 - bit)) == 0);
        prop_assert_eq!(filter.matches(&facts(&orig, &flow)), shared);
    }

    #[test]
    fn any_word_is_judged_without_panic(key in 0usize..17, value in "\\PC{0,30}") {
        let word = WORDS.get(key).map_or(value.clone(), |key| format!("{key}{value}"));
        if let Err(error) = Filter::parse([word.as_str()]) {
            prop_assert!(error.to_string().len() < 200);
        }
    }
}

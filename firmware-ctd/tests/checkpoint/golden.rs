//! An image that another program made from the documentation alone: `golden.py`.

use std::net::{IpAddr, Ipv4Addr};

use firmware_ctd::checkpoint::{Facts, SavedExpect, SavedFlow, Section};
use firmware_ctd::table::{Extension, L4State};
use firmware_ctd::wire::{Counters, L4, Labels, Protocol, SeqAdj, Status, SynProxy, Tuple};

use super::support::{Content, read};

const GOLDEN: &[u8] = include_bytes!("golden.ckpt");

fn tuple(src: &str, dst: &str, proto: u8, l4: L4) -> Tuple {
    let [src, dst] = [src, dst].map(|text| text.parse().unwrap());
    Tuple { src, dst, proto: Protocol(proto), l4 }
}

/// What no flow has, to begin with.
fn bare(orig: Tuple) -> SavedFlow {
    SavedFlow {
        orig,
        reply: orig.inverse(),
        zone: 0,
        zone_orig_only: false,
        status: Status(0),
        mark: 0,
        timeout_s: None,
        l4_state: None,
        counters: None,
        inexact: false,
        start_ms: None,
        rare: Extension::default(),
    }
}

/// TCP behind NAT, every third with its port changed.
fn tcp(n: u32) -> SavedFlow {
    let v4 = |first: [u8; 3], last: u32| {
        let [a, b, c] = first;
        IpAddr::V4(Ipv4Addr::new(a, b, c, u8::try_from(last).unwrap()))
    };
    let port = |n: u32| u16::try_from(n).unwrap();
    let (src, dst) = (v4([192, 168, 1], 10 + n % 7), v4([198, 51, 100], n * n % 11));
    let sport = port(40_000 + 977 * n % 20_000);
    let dport = port(if n % 5 != 0 { 443 } else { 1024 + n });
    let orig = Tuple { src, dst, proto: Protocol::TCP, l4: L4::Ports { src: sport, dst: dport } };
    let changed = if n % 3 != 0 { sport } else { port(1024 + 31 * n) };
    let reply = Tuple {
        src: dst,
        dst: v4([203, 0, 113], 1),
        proto: Protocol::TCP,
        l4: L4::Ports { src: dport, dst: changed },
    };
    let wide = u64::from(n);
    SavedFlow {
        reply,
        status: Status(0x19e),
        mark: n % 2,
        timeout_s: Some(432_000 - n * n),
        l4_state: Some(L4State { state: 3, wscales: 0x77, flags_orig: 0x23, flags_reply: 0x23 }),
        start_ms: Some(1_795_280_000_000 + 7_919 * wide % 1_000_000),
        counters: Some([
            Counters { packets: wide + 1, bytes: (wide + 1) * 777 + wide },
            Counters { packets: 3_u64.pow(n % 30), bytes: 1_000_000 * wide },
        ]),
        ..bare(orig)
    }
}

fn expected() -> Content {
    let mut flows: Vec<_> = (0..60).map(tcp).collect();
    let v6 = tuple("2001:db8::5", "2001:db8:ffff::1", 17, L4::Ports { src: 5353, dst: 53 });
    flows.push(SavedFlow {
        status: Status(0xe),
        timeout_s: Some(29),
        start_ms: Some(5),
        counters: Some([
            Counters { packets: u64::MAX, bytes: u64::MAX },
            Counters { packets: 0, bytes: 17 },
        ]),
        inexact: true,
        ..bare(v6)
    });
    let ping = tuple("192.0.2.1", "192.0.2.2", 1, L4::Icmp { id: 0x1234, kind: 8, code: 0 });
    flows.push(SavedFlow { status: Status(8), zone: 7, zone_orig_only: true, ..bare(ping) });
    let gre = tuple("192.0.2.1", "192.0.2.9", 47, L4::None);
    let mut labels = [0; 16];
    labels[..8].copy_from_slice(&[0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef]);
    labels[15] = 1;
    let seqadj = |[correction_pos, offset_before, offset_after]: [u32; 3]| {
        Some(SeqAdj { correction_pos, offset_before, offset_after })
    };
    flows.push(SavedFlow {
        reply: tuple("2001:db8::1", "192.0.2.3", 50, L4::None),
        rare: Extension {
            labels: Some(Labels(labels)),
            seqadj_orig: seqadj([1, 2, 3]),
            seqadj_reply: seqadj([4, 5, u32::MAX]),
            helper: Some(*b"ftp\0\0\0\0\0\0\0\0\0\0\0\0\0"),
            master: Some(ping),
            vtags: Some([6, 7]),
            synproxy: Some(SynProxy { isn: 8, its: 9, tsoff: 10 }),
            zone_reply: Some(11),
        },
        ..bare(gre)
    });
    let expectation = SavedExpect {
        master: ping,
        tuple: v6,
        mask: gre,
        zone: 1,
        timeout_s: 300,
        flags: 2,
        class: 3,
        helper: Some(*b"sip-5060\0\0\0\0\0\0\0\0"),
        function: Some(*b"nat-follow-master\0\0\0\0\0\0\0"),
        nat: Some((1, gre)),
    };
    Content {
        facts: Facts {
            generation: 42,
            boot_id: core::array::from_fn(|at| u8::try_from(at).unwrap()),
            wall_ns: 1_795_289_206_230_000_000,
            boot_ms: 86_400_123,
            synchronised: true,
            orderly: true,
        },
        flows,
        expectations: vec![expectation],
        words: vec![(Section::words(1), 2, vec![1, 0xdead_beef, 3])],
    }
}

#[test]
fn the_other_programs_image_is_read() {
    assert_eq!(read(GOLDEN).unwrap(), expected().sorted());
}

#[test]
fn the_same_content_gives_the_same_bytes() {
    assert!(expected().image() == GOLDEN);
}

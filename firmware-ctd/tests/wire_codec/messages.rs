//! Four fixed tests for every kind of message, on one array of bytes each: taken apart, built from
//! attributes, read, and emitted.
//!
//! The bytes are in the form of the captures (little-endian netlink headers, port 0).

use firmware_ctd::wire::nla::{Attribute, AttributeWriter, Attributes};
use firmware_ctd::wire::{
    Conntrack, CpuStats, Done, Event, Expect, ExpectCpuStats, ExpectNat, Family, Filter, Full,
    GlobalStats, Header, L4, Message, NatRange, ProtoInfo, Protocol, Response, Status, Tcp,
    TcpFlags, TcpState, Tuple, TupleFilter, Writer, request,
};

use crate::capture::native;
use crate::support::{only, parsed, written};

/// Attributes of some bytes.
fn attributes(bytes: &[u8]) -> Vec<Attribute<'_>> {
    Attributes::new(bytes).map(Result::unwrap).collect()
}

fn kinds(bytes: &[u8]) -> Vec<u16> {
    attributes(bytes).iter().map(|attribute| attribute.kind).collect()
}

/// The value of the attribute that is reached by these kinds.
fn at<'a>(bytes: &'a [u8], path: &[u16]) -> Attribute<'a> {
    let (first, rest) = path.split_first().unwrap();
    let found = attributes(bytes).into_iter().find(|attribute| attribute.kind == *first).unwrap();
    if rest.is_empty() { found } else { at(found.value, rest) }
}

/// A message of this header, fixed part and attributes.
fn built<F>(kind: u16, flags: u16, seq: u32, fixed: &[u8], body: F) -> Vec<u8>
where
    F: FnOnce(&mut AttributeWriter<'_, '_>) -> Result<(), Full>,
{
    let header = Header { kind, flags, seq, ..Header::default() };
    written(|w: &mut Writer<'_>| w.message(header, fixed, body))
}

/// `CTA_TUPLE_*` of IPv4 with ports, attribute by attribute.
fn build_tuple(
    w: &mut AttributeWriter<'_, '_>,
    kind: u16,
    [src, dst]: [[u8; 4]; 2],
    proto: u8,
    [src_port, dst_port]: [u16; 2],
) -> Result<(), Full> {
    w.nest(kind, |w| {
        w.nest(1, |w| {
            w.bytes(1, &src)?;
            w.bytes(2, &dst)
        })?;
        w.nest(2, |w| {
            w.u8(1, proto)?;
            w.be16(2, src_port)?;
            w.be16(3, dst_port)
        })
    })
}

const A: [u8; 4] = [192, 0, 2, 2];
const B: [u8; 4] = [198, 51, 100, 2];

fn tuple(src: [u8; 4], dst: [u8; 4], ports: [u16; 2]) -> Tuple {
    let l4 = L4::Ports { src: ports[0], dst: ports[1] };
    Tuple { src: src.into(), dst: dst.into(), proto: Protocol::TCP, l4 }
}

mod conntrack {
    use super::*;

    const BYTES: &str = "f4000000 0001 0006 00000000 00000000 02000000
        34000180 14000180 08000100c0000202 08000200c6336402
                 1c000280 0500010006000000 060002009c410000 0600030001bb0000
        34000280 14000180 08000100c6336402 08000200c0000202
                 1c000280 0500010006000000 0600020001bb0000 060003009c410000
        08000c00ee3fd41f 0800030000000008 0800070000000258
        30000480 2c000180 0500010003000000 0500020007000000 0500030009000000
                          060004000b000000 060005000b000000
        1c001880 0800010000000000 0800020000000000 0800030000000000
        0800080000000005 0c001b0018ea2dda3378f33d";

    fn value() -> Message<'static> {
        let flags = Some(TcpFlags { flags: 0x0b, mask: 0 });
        let ct = Conntrack {
            family: Family::Ipv4,
            orig: Some(tuple(A, B, [40001, 443])),
            reply: Some(tuple(B, A, [443, 40001])),
            id: Some(0xee3f_d41f),
            status: Some(Status(Status::CONFIRMED)),
            timeout_s: Some(600),
            protoinfo: ProtoInfo::Tcp(Tcp {
                state: Some(TcpState::ESTABLISHED),
                wscale_orig: Some(7),
                wscale_reply: Some(9),
                flags_orig: flags,
                flags_reply: flags,
            }),
            synproxy: Some(Default::default()),
            mark: Some(5),
            event_ns: Some(0x18ea_2dda_3378_f33d),
            ..Conntrack::default()
        };
        Message::Conntrack { event: Event::New, ct }
    }

    #[test]
    fn deconstruct() {
        let bytes = native(BYTES);
        let raw = only(&bytes);
        let header = Header { len: 244, kind: 0x0100, flags: 0x0600, seq: 0, port: 0 };
        assert_eq!(raw.header, header);
        let body = &raw.payload[4..];
        assert_eq!(kinds(body), [1, 2, 12, 3, 7, 4, 24, 8, 27]);
        assert_eq!(at(body, &[1, 1, 2]).array(), Ok(B));
        assert_eq!(at(body, &[1, 2, 1]).u8(), Ok(6));
        assert_eq!(at(body, &[2, 2, 3]).be16(), Ok(40001));
        assert_eq!(at(body, &[12]).be32(), Ok(0xee3f_d41f));
        assert_eq!(at(body, &[4, 1, 5]).value, [0x0b, 0]);
        assert_eq!(at(body, &[27]).be64(), Ok(0x18ea_2dda_3378_f33d));
    }

    #[test]
    fn construct() {
        let bytes = built(0x0100, 0x0600, 0, &[2, 0, 0, 0], |w| {
            build_tuple(w, 1, [A, B], 6, [40001, 443])?;
            build_tuple(w, 2, [B, A], 6, [443, 40001])?;
            w.be32(12, 0xee3f_d41f)?;
            w.be32(3, 8)?;
            w.be32(7, 600)?;
            w.nest(4, |w| {
                w.nest(1, |w| {
                    w.u8(1, 3)?;
                    w.u8(2, 7)?;
                    w.u8(3, 9)?;
                    w.bytes(4, &[0x0b, 0])?;
                    w.bytes(5, &[0x0b, 0])
                })
            })?;
            w.nest(24, |w| (1..=3).try_for_each(|kind| w.be32(kind, 0)))?;
            w.be32(8, 5)?;
            w.be64(27, 0x18ea_2dda_3378_f33d)
        });
        assert_eq!(bytes, native(BYTES));
    }

    #[test]
    fn parse() {
        assert_eq!(parsed(&native(BYTES)), Ok(value()));
    }

    #[test]
    fn emit() {
        assert_eq!(written(|w| value().emit(w, 0)), native(BYTES));
    }
}

mod conntrack_request {
    use super::*;

    /// What makes a translated flow: the plain inverse as reply, the translation beside it.
    const BYTES: &str = "b4000000 0001 0506 09000000 00000000 02000000
        34000180 14000180 08000100c0000202 08000200c6336402
                 1c000280 0500010006000000 060002009c410000 0600030001bb0000
        34000280 14000180 08000100c6336402 08000200c0000202
                 1c000280 0500010006000000 0600020001bb0000 060003009c410000
        0800030000000008 0800070000000258
        28000680 08000100cb007101 08000200cb007101 14000380 06000100c3500000 06000200c3500000";

    fn value() -> Conntrack<'static> {
        Conntrack {
            orig: Some(tuple(A, B, [40001, 443])),
            reply: Some(tuple(A, B, [40001, 443]).inverse()),
            status: Some(Status(Status::CONFIRMED)),
            timeout_s: Some(600),
            nat_src: Some(NatRange::exactly([203, 0, 113, 1].into(), Some(50000))),
            ..Conntrack::default()
        }
    }

    #[test]
    fn deconstruct() {
        let bytes = native(BYTES);
        let raw = only(&bytes);
        assert_eq!((raw.header.kind, raw.header.seq), (0x0100, 9));
        // NLM_F_REQUEST, NLM_F_ACK, NLM_F_EXCL and NLM_F_CREATE.
        assert_eq!(raw.header.flags, 0x1 | 0x4 | 0x200 | 0x400);
        let body = &raw.payload[4..];
        assert_eq!(kinds(body), [1, 2, 3, 7, 6]);
        assert_eq!(at(body, &[6, 1]).value, [203, 0, 113, 1]);
        assert_eq!(at(body, &[6, 3, 2]).be16(), Ok(50000));
    }

    #[test]
    fn construct() {
        let bytes = built(0x0100, 0x0605, 9, &[2, 0, 0, 0], |w| {
            build_tuple(w, 1, [A, B], 6, [40001, 443])?;
            build_tuple(w, 2, [B, A], 6, [443, 40001])?;
            w.be32(3, 8)?;
            w.be32(7, 600)?;
            w.nest(6, |w| {
                w.bytes(1, &[203, 0, 113, 1])?;
                w.bytes(2, &[203, 0, 113, 1])?;
                w.nest(3, |w| {
                    w.be16(1, 50000)?;
                    w.be16(2, 50000)
                })
            })
        });
        assert_eq!(bytes, native(BYTES));
    }

    #[test]
    fn parse() {
        let bytes = native(BYTES);
        // The header's family is that of the tuples.
        let value = Conntrack { family: Family::Ipv4, ..value() };
        assert_eq!(Conntrack::parse(only(&bytes).payload), Ok(value));
    }

    #[test]
    fn emit() {
        let flags = request::CreateFlags { ack: true, exclusive: true };
        assert_eq!(written(|w| request::create(w, 9, flags, &value())), native(BYTES));
    }
}

mod expect {
    use super::*;

    const BYTES: &str = "30010000 0002 0006 00000000 00000000 02000000
        34000280 14000180 08000100c6336402 08000200c0000202
                 1c000280 0500010006000000 0600020000000000 06000300a4110000
        34000380 14000180 08000100ffffffff 08000200ffffffff
                 1c000280 0500010006000000 0600020000000000 06000300ffff0000
        34000180 14000180 08000100c0000202 08000200c6336402
                 1c000280 0500010006000000 06000200a4100000 0600030000150000
        40000a80 0800010000000001
          34000280 14000180 08000100cb007101 0800020000000000
                 1c000280 0500010006000000 06000200a4120000 0600030000000000
        080004000000012c 08000500ac5968cc 0800080000000001 0800090000000000
        0800060066747000 16000b006e61742d666f6c6c6f772d6d61737465720000 00";

    fn value() -> Message<'static> {
        let expect = Expect {
            family: Family::Ipv4,
            master: Some(tuple(A, B, [42000, 21])),
            tuple: Some(tuple(B, A, [0, 42001])),
            mask: Some(tuple([255; 4], [255; 4], [0, 0xffff])),
            timeout_s: Some(300),
            id: Some(0xac59_68cc),
            help_name: Some(b"ftp"),
            zone: None,
            flags: Some(Expect::PERMANENT),
            class: Some(0),
            nat: Some(ExpectNat { dir: 1, tuple: tuple([203, 0, 113, 1], [0; 4], [42002, 0]) }),
            function: Some(b"nat-follow-master"),
        };
        Message::Expect { event: Event::New, expect }
    }

    #[test]
    fn deconstruct() {
        let bytes = native(BYTES);
        let raw = only(&bytes);
        assert_eq!((raw.header.kind, raw.header.flags), (0x0200, 0x0600));
        let body = &raw.payload[4..];
        assert_eq!(kinds(body), [2, 3, 1, 10, 4, 5, 8, 9, 6, 11]);
        assert_eq!(at(body, &[3, 2, 3]).be16(), Ok(0xffff));
        assert_eq!(at(body, &[10, 1]).be32(), Ok(1));
        assert_eq!(at(body, &[10, 2, 1, 1]).value, [203, 0, 113, 1]);
        assert_eq!(at(body, &[6]).text(), b"ftp");
        assert_eq!(at(body, &[11]).text(), b"nat-follow-master");
    }

    #[test]
    fn construct() {
        let bytes = built(0x0200, 0x0600, 0, &[2, 0, 0, 0], |w| {
            build_tuple(w, 2, [B, A], 6, [0, 42001])?;
            build_tuple(w, 3, [[255; 4]; 2], 6, [0, 0xffff])?;
            build_tuple(w, 1, [A, B], 6, [42000, 21])?;
            w.nest(10, |w| {
                w.be32(1, 1)?;
                build_tuple(w, 2, [[203, 0, 113, 1], [0; 4]], 6, [42002, 0])
            })?;
            w.be32(4, 300)?;
            w.be32(5, 0xac59_68cc)?;
            w.be32(8, 1)?;
            w.be32(9, 0)?;
            w.text(6, b"ftp")?;
            w.text(11, b"nat-follow-master")
        });
        assert_eq!(bytes, native(BYTES));
    }

    #[test]
    fn parse() {
        assert_eq!(parsed(&native(BYTES)), Ok(value()));
    }

    #[test]
    fn emit() {
        assert_eq!(written(|w| value().emit(w, 0)), native(BYTES));
    }
}

mod filter {
    use super::*;

    /// A dump of IPv4 flows: mark 0x10/0xf0, assured, zone 7, TCP to port 443 from one address.
    /// The flags of `CTA_FILTER` are in host order.
    const BYTES: &str = "7c000000 0101 0103 05000000 00000000 02000000
        0800080000000010 08001500000000f0 0800030000000004 08001a0000000004 0600120000070000
        2c000180 0c000180 08000100c0000202
                 1c000280 0500010006000000 0600030001bb0000 0600020030390000
        14001980 0800010029000000 0800020000000000";

    fn value() -> Filter {
        Filter {
            family: Family::Ipv4,
            mark: Some(0x10),
            mark_mask: Some(0xf0),
            status: Some(Status(Status::ASSURED)),
            status_mask: Some(Status::ASSURED),
            zone: Some(7),
            orig: TupleFilter {
                src: Some(A.into()),
                proto: Some(Protocol::TCP),
                dst_port: Some(443),
                ..TupleFilter::default()
            },
            reply: TupleFilter::default(),
        }
    }

    fn bytes() -> Vec<u8> {
        let mut bytes = native(BYTES);
        let at = bytes.len() - 12;
        bytes[at..at + 4].copy_from_slice(&0x29_u32.to_ne_bytes());
        bytes
    }

    #[test]
    fn deconstruct() {
        let bytes = bytes();
        let raw = only(&bytes);
        assert_eq!((raw.header.kind, raw.header.flags), (0x0101, 0x0301));
        let body = &raw.payload[4..];
        assert_eq!(kinds(body), [8, 21, 3, 26, 18, 1, 25]);
        assert_eq!(at(body, &[18]).be16(), Ok(7));
        assert_eq!(at(body, &[25, 1]).ne32(), Ok(1 | 1 << 3 | 1 << 5));
        assert_eq!(at(body, &[25, 2]).ne32(), Ok(0));
    }

    #[test]
    fn construct() {
        let bytes_built = built(0x0101, 0x0301, 5, &[2, 0, 0, 0], |w| {
            w.be32(8, 0x10)?;
            w.be32(21, 0xf0)?;
            w.be32(3, 4)?;
            w.be32(26, 4)?;
            w.be16(18, 7)?;
            w.nest(1, |w| {
                w.nest(1, |w| w.bytes(1, &A))?;
                w.nest(2, |w| {
                    w.u8(1, 6)?;
                    w.be16(3, 443)?;
                    w.be16(2, 12345)
                })
            })?;
            w.nest(25, |w| {
                w.ne32(1, 0x29)?;
                w.ne32(2, 0)
            })
        });
        assert_eq!(bytes_built, bytes());
    }

    /// The source port is there, but no flag asks for it.
    #[test]
    fn parse() {
        assert_eq!(Filter::parse(only(&bytes()).payload), Ok(value()));
    }

    #[test]
    fn emit() {
        let emitted = written(|w| request::dump_filtered(w, 5, &value()));
        let bytes = bytes();
        // As above without the source port: the message and two nests are shorter by 8 bytes.
        assert_eq!(emitted.len() + 8, bytes.len());
        let (mine, theirs) = (&only(&emitted).payload[4..], &only(&bytes).payload[4..]);
        assert_eq!(kinds(mine), kinds(theirs));
        assert_eq!(kinds(at(mine, &[1, 2]).value), [1, 3]);
        assert_eq!(at(mine, &[25]).value, at(theirs, &[25]).value);
        assert_eq!(Filter::parse(only(&emitted).payload), Ok(value()));
    }
}

mod cpu_stats {
    use super::*;

    const BYTES: &str = "64000000 0401 0200 26000000 00000000 00000001
        0800020000000001 0800040000000002 0800080000000003 0800090000000004 08000a0000000005
        08000b0000000006 08000c0000000007 08000d0000000008 08000e0000000009 08000f000000000a";
    const KINDS: [u16; 10] = [2, 4, 8, 9, 10, 11, 12, 13, 14, 15];

    fn value() -> Message<'static> {
        let mut stats = CpuStats { cpu: 1, ..CpuStats::default() };
        for (value, kind) in (1..).zip(KINDS) {
            stats.counters[usize::from(kind) - 1] = Some(value);
        }
        Message::CpuStats(stats)
    }

    #[test]
    fn deconstruct() {
        let bytes = native(BYTES);
        let raw = only(&bytes);
        assert_eq!((raw.header.kind, raw.header.flags, raw.header.seq), (0x0104, 2, 0x26));
        assert_eq!(raw.payload[..4], [0, 0, 0, 1]);
        assert_eq!(kinds(&raw.payload[4..]), KINDS);
    }

    #[test]
    fn construct() {
        let bytes = built(0x0104, 2, 0x26, &[0, 0, 0, 1], |w| {
            (1..).zip(KINDS).try_for_each(|(value, kind)| w.be32(kind, value))
        });
        assert_eq!(bytes, native(BYTES));
    }

    #[test]
    fn parse() {
        assert_eq!(parsed(&native(BYTES)), Ok(value()));
    }

    #[test]
    fn emit() {
        assert_eq!(written(|w| value().emit(w, 0x26)), native(BYTES));
    }
}

mod expect_cpu_stats {
    use super::*;

    /// The type is what Linux sends: the number of `IPCTNL_MSG_EXP_GET_STATS_CPU` in the
    /// subsystem of conntrack.
    const BYTES: &str = "2c000000 0301 0200 1d000000 00000000 00000102
        0800010000000001 0800020000000002 0800030000000003";

    fn value() -> Message<'static> {
        let stats = ExpectCpuStats { cpu: 0x0102, new: Some(1), create: Some(2), delete: Some(3) };
        Message::ExpectCpuStats(stats)
    }

    #[test]
    fn deconstruct() {
        let bytes = native(BYTES);
        let raw = only(&bytes);
        assert_eq!((raw.header.kind, raw.header.seq), (0x0103, 0x1d));
        assert_eq!(kinds(&raw.payload[4..]), [1, 2, 3]);
    }

    #[test]
    fn construct() {
        let bytes = built(0x0103, 2, 0x1d, &[0, 0, 1, 2], |w| {
            (1..=3).try_for_each(|kind| w.be32(kind, kind.into()))
        });
        assert_eq!(bytes, native(BYTES));
    }

    #[test]
    fn parse() {
        let bytes = native(BYTES);
        assert_eq!(parsed(&bytes), Ok(value()));
        let mut raw = only(&bytes);
        raw.header.kind = 0x0203;
        assert_eq!(Message::parse(&raw), Ok(value()));
    }

    #[test]
    fn emit() {
        assert_eq!(written(|w| value().emit(w, 0x1d)), native(BYTES));
    }
}

mod global_stats {
    use super::*;

    const BYTES: &str = "24000000 0501 0000 25000000 00000000 00000000
        0800010000000024 0800020000040000";

    fn value() -> Message<'static> {
        Message::GlobalStats(GlobalStats { entries: Some(36), max_entries: Some(262_144) })
    }

    #[test]
    fn deconstruct() {
        let bytes = native(BYTES);
        let raw = only(&bytes);
        assert_eq!((raw.header.kind, raw.header.flags), (0x0105, 0));
        assert_eq!(at(&raw.payload[4..], &[2]).be32(), Ok(262_144));
    }

    #[test]
    fn construct() {
        let bytes = built(0x0105, 0, 0x25, &[0; 4], |w| {
            w.be32(1, 36)?;
            w.be32(2, 262_144)
        });
        assert_eq!(bytes, native(BYTES));
    }

    #[test]
    fn parse() {
        assert_eq!(parsed(&native(BYTES)), Ok(value()));
    }

    #[test]
    fn emit() {
        assert_eq!(written(|w| value().emit(w, 0x25)), native(BYTES));
    }
}

mod response {
    use super::*;

    /// EINVAL, capped, with text and offset.
    const BYTES: &str = "38000000 0200 0003 29000000 00000000
        eaffffff 1c000000 0001 0506 29000000 00000000
        0c000100 6e6f207761790000 0800020014000000";

    /// The request's header, of 28 bytes.
    const REQUEST: Header = Header { len: 28, kind: 0x0100, flags: 0x0605, seq: 0x29, port: 0 };

    fn value() -> Message<'static> {
        Message::Response(Response {
            errno: libc::EINVAL,
            request: REQUEST,
            ext_msg: Some(b"no way"),
            ext_offset: Some(20),
            ..Response::default()
        })
    }

    fn bytes() -> Vec<u8> {
        native(BYTES)
    }

    #[test]
    fn deconstruct() {
        let bytes = bytes();
        let raw = only(&bytes);
        assert_eq!((raw.header.kind, raw.header.flags, raw.header.seq), (2, 0x0300, 0x29));
        assert_eq!(raw.payload[..4], (-libc::EINVAL).to_ne_bytes());
        let tlvs = &raw.payload[20..];
        assert_eq!(at(tlvs, &[1]).text(), b"no way");
        assert_eq!(at(tlvs, &[2]).ne32(), Ok(20));
    }

    #[test]
    fn construct() {
        let mut fixed = (-libc::EINVAL).to_ne_bytes().to_vec();
        fixed.extend(28_u32.to_ne_bytes());
        fixed.extend([0x0100_u16, 0x0605].into_iter().flat_map(u16::to_ne_bytes));
        fixed.extend([0x29_u32, 0].into_iter().flat_map(u32::to_ne_bytes));
        let bytes_built = built(2, 0x0300, 0x29, &fixed, |w| {
            w.bytes(1, b"no way\0\0")?;
            w.ne32(2, 20)
        });
        assert_eq!(bytes_built, bytes());
    }

    #[test]
    fn parse() {
        assert_eq!(parsed(&bytes()), Ok(value()));
    }

    #[test]
    fn emit() {
        let mut expected = bytes();
        // Text has one NUL; here the second one is padding instead of a part of the attribute.
        expected[36..38].copy_from_slice(&11_u16.to_ne_bytes());
        assert_eq!(written(|w| value().emit(w, 0x29)), expected);
    }
}

mod done {
    use super::*;

    const BYTES: &str = "14000000 0300 0200 09000000 00000000 fcffffff";

    fn value() -> Message<'static> {
        Message::Done(Done { errno: libc::EINTR, ext_msg: None })
    }

    #[test]
    fn deconstruct() {
        let bytes = native(BYTES);
        let raw = only(&bytes);
        assert_eq!((raw.header.kind, raw.header.flags, raw.header.len), (3, 2, 20));
        assert_eq!(raw.payload, (-libc::EINTR).to_ne_bytes());
    }

    #[test]
    fn construct() {
        let bytes = built(3, 2, 9, &(-libc::EINTR).to_ne_bytes(), |_| Ok(()));
        assert_eq!(bytes, native(BYTES));
    }

    #[test]
    fn parse() {
        assert_eq!(parsed(&native(BYTES)), Ok(value()));
        let text = written(|w| Message::Done(Done { errno: 4, ext_msg: Some(b"why") }).emit(w, 9));
        assert_eq!(parsed(&text), Ok(Message::Done(Done { errno: 4, ext_msg: Some(b"why") })));
    }

    #[test]
    fn emit() {
        assert_eq!(written(|w| value().emit(w, 9)), native(BYTES));
    }
}

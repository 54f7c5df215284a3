//! Flows and events as lines for people, 80 columns for the usual IPv4 flow.
//!
//! What does not fit there is told without the translated address: the word stays, and the JSON
//! form has it all. IPv6 flows, marks and zones may make a line longer.

use crate::record::text::Text;
use crate::record::{Cause, Kind, Record, json};
use crate::wire::{Counters, L4, Status, Tuple};

/// More bytes than the longest line has.
pub const MAX_LINE: usize = 400;

/// Columns of a terminal.
const COLUMNS: usize = 80;

/// Appends a flow or an event as one line.
pub fn line(out: &mut Text<'_>, record: &Record) {
    let from = out.len();
    whole(out, record, true);
    let translated = record.status.has(Status::SRC_NAT) || record.status.has(Status::DST_NAT);
    if translated && out.len() - from > COLUMNS + 1 {
        out.truncate(from);
        whole(out, record, false);
    }
}

fn whole(out: &mut Text<'_>, record: &Record, addresses: bool) {
    if record.kind != Kind::Flow {
        out.str(match record.kind {
            Kind::New => "new ",
            Kind::Update => "upd ",
            Kind::Destroy | Kind::Flow => "end ",
        });
    }
    json::protocol(out, record.orig.proto);
    if let Some(state) = record.l4_state.filter(|_| record.kind != Kind::Destroy) {
        out.byte(b' ');
        json::l4_state(out, record.orig.proto, state.state);
    }
    out.byte(b' ');
    ends(out, &record.orig);
    translation(out, record, addresses);
    if let Some([orig, reply]) = record.counters {
        out.byte(b' ');
        counters(out, orig);
        out.byte(b' ');
        counters(out, reply);
    }
    remarks(out, record);
    out.byte(b'\n');
}

pub(super) fn ends(out: &mut Text<'_>, tuple: &Tuple) {
    let (src, dst) = match tuple.l4 {
        L4::Ports { src, dst } => (Some(src), Some(dst)),
        L4::Icmp { id, .. } => (Some(id), None),
        L4::None => (None, None),
    };
    end(out, tuple.src, src);
    out.byte(b'>');
    end(out, tuple.dst, dst);
}

fn end(out: &mut Text<'_>, address: core::net::IpAddr, port: Option<u16>) {
    let brackets = address.is_ipv6() && port.is_some();
    if brackets {
        out.byte(b'[');
    }
    out.address(address);
    if brackets {
        out.byte(b']');
    }
    if let Some(port) = port {
        out.byte(b':');
        out.number(u64::from(port));
    }
}

/// Whether the addresses were translated, and to what.
fn translation(out: &mut Text<'_>, record: &Record, addresses: bool) {
    for (bits, word, to) in
        [(Status::SRC_NAT, " snat", record.reply.dst), (Status::DST_NAT, " dnat", record.reply.src)]
    {
        if record.status.has(bits) {
            out.str(word);
            if addresses {
                out.byte(b' ');
                out.address(to);
            }
        }
    }
}

/// Packets and bytes: `12/3.4K`.
fn counters(out: &mut Text<'_>, counters: Counters) {
    out.number(counters.packets);
    out.byte(b'/');
    bytes(out, counters.bytes);
}

/// Appends a number of bytes in three digits or so: `999`, `1.2K`, `34M`.
pub fn bytes(out: &mut Text<'_>, bytes: u64) {
    let mut rest = bytes;
    let mut tenths = 0;
    let mut unit = 0;
    while rest >= 1024 && unit < UNITS.len() {
        tenths = rest % 1024 * 10 / 1024;
        rest /= 1024;
        unit += 1;
    }
    out.number(rest);
    if let Some(&letter) = unit.checked_sub(1).and_then(|unit| UNITS.get(unit)) {
        if rest < 10 {
            out.byte(b'.');
            out.number(tenths);
        }
        out.byte(letter);
    }
}

const UNITS: [u8; 6] = *b"KMGTPE";

fn remarks(out: &mut Text<'_>, record: &Record) {
    if let Some(timeout_s) = record.timeout_s {
        out.byte(b' ');
        out.number(u64::from(timeout_s));
        out.byte(b's');
    }
    if let (Some(start), Some(end)) = (record.start_ns, record.end_ns) {
        out.byte(b' ');
        out.seconds(end.saturating_sub(start));
        out.byte(b's');
    }
    if record.zone != 0 {
        out.str(" zone=");
        out.number(u64::from(record.zone));
    }
    if record.mark != 0 {
        out.str(" mark=");
        out.number(u64::from(record.mark));
    }
    if let Some(helper) = &record.helper {
        out.byte(b' ');
        out.escaped(helper.split(|&b| b == 0).next().unwrap_or_default());
    }
    if let Some(account) = record.account {
        out.str(" account=");
        out.hex64(account);
    }
    for (set, word) in [
        (record.inexact, " inexact"),
        (record.status.has(Status::OFFLOAD), " offload"),
        (record.kind == Kind::Destroy && record.cause == Cause::Resync, " vanished"),
    ] {
        if set {
            out.str(word);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::RecordKey;
    use crate::table::L4State;
    use crate::wire::Protocol;

    /// A NATed TCP flow between these addresses, as a line, with counters or without.
    fn shown(src: &str, dst: &str, counted: bool) -> String {
        let address = |text: &str| text.parse().unwrap();
        let l4 = L4::Ports { src: 54_321, dst: 443 };
        let orig = Tuple { src: address(src), dst: address(dst), proto: Protocol::TCP, l4 };
        let record = Record {
            kind: Kind::Flow,
            cause: Cause::Event,
            key: RecordKey::Weak(0),
            flow: 0,
            account: None,
            start_ns: None,
            end_ns: None,
            as_of_ns: None,
            orig,
            reply: Tuple { dst: address("203.0.113.77"), ..orig.inverse() },
            counters: counted.then_some([Counters { packets: 123, bytes: 45_678 }; 2]),
            inexact: false,
            zone: 0,
            mark: 0,
            id: 1,
            status: Status(Status::SRC_NAT),
            timeout_s: Some(431_999),
            l4_state: Some(L4State { state: 3, ..L4State::default() }),
            helper: None,
            labels: None,
        };
        let mut buffer = [0; MAX_LINE];
        let mut text = Text::new(&mut buffer);
        line(&mut text, &record);
        assert!(!text.is_cut());
        String::from_utf8(text.as_bytes().to_vec()).unwrap()
    }

    #[test]
    fn the_translated_address_gives_way_to_the_width() {
        let short = shown("192.168.1.10", "192.0.2.1", false);
        assert!(short.contains(" snat 203.0.113.77 431999s"), "{short}");
        let long = shown("192.168.1.10", "198.51.100.1", true);
        assert!(long.contains(" snat 123/44K"), "{long}");
        for line in [short, long] {
            assert!(line.len() <= COLUMNS + 1 && line.ends_with("431999s\n"), "{line}");
        }
    }

    #[test]
    fn bytes_are_short() {
        let written = |value| {
            let mut buffer = [0; 32];
            let mut text = Text::new(&mut buffer);
            bytes(&mut text, value);
            String::from_utf8(text.as_bytes().to_vec()).unwrap()
        };
        assert_eq!(written(0), "0");
        assert_eq!(written(1023), "1023");
        assert_eq!(written(1024), "1.0K");
        assert_eq!(written(1536), "1.5K");
        assert_eq!(written(10 * 1024), "10K");
        assert_eq!(written(u64::MAX), "15E");
    }
}

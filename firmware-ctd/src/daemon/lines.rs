//! Flows and events as lines for people, 80 columns for IPv4.

use crate::record::text::Text;
use crate::record::{Cause, Kind, Record, json};
use crate::wire::{Counters, L4, Status, Tuple};

/// More bytes than the longest line has.
pub const MAX_LINE: usize = 320;

/// Appends a flow or an event as one line.
pub fn line(out: &mut Text<'_>, record: &Record) {
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
    translation(out, record);
    if let Some([orig, reply]) = record.counters {
        out.byte(b' ');
        counters(out, orig);
        out.byte(b' ');
        counters(out, reply);
    }
    remarks(out, record);
    out.byte(b'\n');
}

fn ends(out: &mut Text<'_>, tuple: &Tuple) {
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

/// What the addresses were translated to, if they were.
fn translation(out: &mut Text<'_>, record: &Record) {
    for (bits, word, to) in [
        (Status::SRC_NAT, " snat ", record.reply.dst),
        (Status::DST_NAT, " dnat ", record.reply.src),
    ] {
        if record.status.has(bits) {
            out.str(word);
            out.address(to);
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

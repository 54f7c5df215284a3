//! Captured datagrams, and the byte order that they were captured in.
//!
//! The files are text: a line of `# name`, a line of hex, one datagram each, after a heading of
//! two lines. `linux-6.18-le` was recorded by `examples/capture_ctnetlink.rs`, `hand-made` tells
//! how it was made. Their netlink headers are little-endian; on a big-endian machine they are
//! swapped when they are read, so that the same values come out everywhere.

use std::collections::HashMap;

/// What kernels say in events.
pub(crate) const EVENTS: &str = include_str!("../captures/linux-6.18-le/events.hex");
/// What kernels say in dumps, and in answer to a question for one entry or for statistics.
pub(crate) const DUMPS: &str = include_str!("../captures/linux-6.18-le/dumps.hex");
/// How kernels answer other requests.
pub(crate) const RESPONSES: &str = include_str!("../captures/linux-6.18-le/responses.hex");
/// What 6.18 does not say, but other kernels do.
pub(crate) const HAND_MADE: &str = include_str!("../captures/hand-made.hex");
/// All of them.
pub(crate) const ALL: [&str; 4] = [EVENTS, DUMPS, RESPONSES, HAND_MADE];

/// The datagrams of a file with their names, in the order of this machine.
pub(crate) fn datagrams(file: &str) -> Vec<(&str, Vec<u8>)> {
    let mut found = Vec::new();
    let mut name = "";
    for line in file.lines() {
        match line.strip_prefix("# ") {
            Some(text) => name = text,
            None => found.push((name, native(line))),
        }
    }
    found
}

/// The datagrams of a file by name.
pub(crate) fn by_name(file: &str) -> HashMap<&str, Vec<Vec<u8>>> {
    let mut found: HashMap<_, Vec<_>> = HashMap::new();
    for (name, datagram) in datagrams(file) {
        found.entry(name).or_default().push(datagram);
    }
    found
}

/// A little-endian datagram, given as hex, in the order of this machine.
pub(crate) fn native(hex: &str) -> Vec<u8> {
    let bytes = bytes(hex);
    if cfg!(target_endian = "big") { swapped(&bytes, Order::Little) } else { bytes }
}

/// Hex, spaces and line ends allowed, as bytes.
pub(crate) fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks_exact(2).map(pair).collect()
}

/// The byte order that bytes are in.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Order {
    Little,
    Big,
}

impl Order {
    fn u16(self, bytes: &[u8]) -> u16 {
        let bytes = bytes[..2].try_into().unwrap();
        if self == Self::Little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) }
    }

    fn u32(self, bytes: &[u8]) -> u32 {
        let bytes = bytes[..4].try_into().unwrap();
        if self == Self::Little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) }
    }
}

/// A well-formed datagram, which is in `order`, in the other one: headers of messages and
/// attributes, and the values that netlink itself has in host order.
pub(crate) fn swapped(datagram: &[u8], order: Order) -> Vec<u8> {
    let mut out = datagram.to_vec();
    let mut rest = &mut out[..];
    while !rest.is_empty() {
        let len = order.u32(rest) as usize;
        let (message, after) = rest.split_at_mut(len.next_multiple_of(4).min(rest.len()));
        swap_message(message, order);
        rest = after;
    }
    out
}

fn swap_message(message: &mut [u8], order: Order) {
    let (kind, flags) = (order.u16(&message[4..]), order.u16(&message[6..]));
    let (header, payload) = message.split_at_mut(16);
    swap_header(header);
    match kind {
        2 => swap_response(payload, flags, order),
        3 => payload[..4].reverse(),
        0..16 => {}
        _ => swap_attributes(&mut payload[4..], order),
    }
}

fn swap_header(header: &mut [u8]) {
    for field in [0..4, 4..6, 6..8, 8..12, 12..16] {
        header[field].reverse();
    }
}

/// `struct nlmsgerr`, the request's payload where it is not capped, extended acknowledgements.
fn swap_response(payload: &mut [u8], flags: u16, order: Order) {
    payload[..4].reverse();
    let request = if flags & 0x100 == 0 { order.u32(&payload[4..]) as usize } else { 16 };
    swap_header(&mut payload[4..20]);
    if request > 20 {
        swap_attributes(&mut payload[24..4 + request], order);
    }
    let tlvs = &mut payload[4 + request.next_multiple_of(4)..];
    let mut rest = &mut *tlvs;
    while !rest.is_empty() {
        let (kind, value, after) = swap_attribute(rest, order);
        if matches!(kind, 2 | 5 | 6) {
            value.reverse();
        }
        rest = after;
    }
}

fn swap_attributes(attributes: &mut [u8], order: Order) {
    let mut rest = attributes;
    while !rest.is_empty() {
        rest = swap_attribute(rest, order).2;
    }
}

/// Swaps the first attribute's header, and what is nested in it: its kind, its value, the rest.
fn swap_attribute(bytes: &mut [u8], order: Order) -> (u16, &mut [u8], &mut [u8]) {
    let (len, kind) = (order.u16(bytes) as usize, order.u16(&bytes[2..]));
    let (attribute, rest) = bytes.split_at_mut(len.next_multiple_of(4).min(bytes.len()));
    attribute[..2].reverse();
    attribute[2..4].reverse();
    let value = &mut attribute[4..len];
    if kind & 0x8000 != 0 {
        swap_attributes(value, order);
    }
    (kind, value, rest)
}

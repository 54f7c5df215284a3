//! Writing text into a fixed buffer: numbers and addresses by hand, since these are on the path
//! of every destroyed flow and `core::fmt` costs several times as much.

use core::fmt;
use core::mem::take;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::time::millis;
use crate::words::divide;

/// Text under construction in a buffer of the caller's.
///
/// What does not fit is cut off and remembered: [`Self::is_cut`].
#[derive(Debug)]
pub struct Text<'b> {
    buffer: &'b mut [u8],
    len: usize,
    cut: bool,
}

impl<'b> Text<'b> {
    /// Begins an empty text.
    #[must_use]
    pub fn new(buffer: &'b mut [u8]) -> Self {
        Self { buffer, len: 0, cut: false }
    }

    /// What has been written.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.buffer[..self.len]
    }

    /// How many bytes have been written.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing has been written.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether something did not fit.
    #[must_use]
    pub const fn is_cut(&self) -> bool {
        self.cut
    }

    /// Goes back to an earlier length, and forgets that something did not fit after it.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
        self.cut = false;
    }

    /// Appends bytes as they are, all or none.
    ///
    /// Texts here are short. `memcpy` takes twice as long for a few bytes: it is called, aligns
    /// them, and copies what is left byte by byte. It would be put in here again if the loop did
    /// not ask for room each time.
    pub fn bytes(&mut self, bytes: &[u8]) {
        if self.buffer.len() - self.len < bytes.len() {
            self.cut = true;
            return;
        }
        let (mut room, mut rest) = (&mut self.buffer[self.len..], bytes);
        while let Some((word, more)) = rest.split_first_chunk::<4>() {
            let Some((to, more_room)) = take(&mut room).split_first_chunk_mut() else { return };
            *to = *word;
            (rest, room) = (more, more_room);
        }
        while let Some((&byte, more)) = rest.split_first() {
            let Some((to, more_room)) = take(&mut room).split_first_mut() else { return };
            *to = byte;
            (rest, room) = (more, more_room);
        }
        self.len += bytes.len();
    }

    /// Appends what `write` puts into at most `N` bytes, all or none: in place where they are free.
    #[inline]
    fn put<const N: usize>(&mut self, write: impl Fn(&mut [u8; N]) -> usize) {
        let room = self.buffer.get_mut(self.len..).and_then(|it| it.first_chunk_mut());
        if let Some(room) = room {
            self.len += write(room);
        } else {
            let mut text = [0; N];
            let len = write(&mut text);
            self.bytes(&text[..len]);
        }
    }

    /// Appends text as it is.
    #[inline]
    pub fn str(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    /// Appends one byte.
    #[inline]
    pub fn byte(&mut self, byte: u8) {
        match self.buffer.get_mut(self.len) {
            Some(place) => {
                *place = byte;
                self.len += 1;
            }
            None => self.cut = true,
        }
    }

    /// Room for `len` more bytes, which the caller fills.
    #[inline]
    fn room(&mut self, len: usize) -> Option<&mut [u8]> {
        let room = self.buffer.get_mut(self.len..self.len + len);
        match room {
            Some(_) => self.len += len,
            None => self.cut = true,
        }
        room
    }

    /// Appends a number in decimal.
    pub fn number(&mut self, value: u64) {
        match u8::try_from(value) {
            Ok(digit @ 0..10) => self.byte(b'0' + digit),
            _ => self.digits(value, decimal_digits(value)),
        }
    }

    /// Appends the last `count` digits of a number, two at a time.
    fn digits(&mut self, value: u64, count: usize) {
        let Some(room) = self.room(count) else { return };
        let (mut rest, mut end) = (value, count);
        // Most numbers are short: 32 bits where they will do, for 32-bit boards.
        let mut short = loop {
            if let Ok(short) = u32::try_from(rest) {
                break short;
            }
            let (more, last) = divide(rest, 100);
            put_pair(room, end, last);
            (rest, end) = (more, end.saturating_sub(2));
        };
        while end > 0 {
            put_pair(room, end, short % 100);
            (short, end) = (short / 100, end.saturating_sub(2));
        }
    }

    /// Appends a number in decimal with zeros in front, `width` digits wide, at most 20.
    pub fn padded(&mut self, value: u64, width: usize) {
        self.digits(value, decimal_digits(value).max(width.min(20)));
    }

    /// Appends 16 hexadecimal digits.
    pub fn hex64(&mut self, value: u64) {
        let Some(room) = self.room(16) else { return };
        for (pair, byte) in room.chunks_exact_mut(2).zip(value.to_be_bytes()) {
            pair.copy_from_slice(&hex(byte));
        }
    }

    /// Appends two hexadecimal digits for each byte.
    pub fn hex_bytes(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.bytes(&hex(byte));
        }
    }

    /// Appends an address in its usual form (RFC 5952 for IPv6).
    pub fn address(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(v4) => self.ipv4(v4),
            IpAddr::V6(v6) => self.ipv6(v6),
        }
    }

    fn ipv4(&mut self, address: Ipv4Addr) {
        self.put(|room| put_ipv4(address, room));
    }

    fn ipv6(&mut self, address: Ipv6Addr) {
        if let Some(v4) = address.to_ipv4_mapped() {
            self.str("::ffff:");
            return self.ipv4(v4);
        }
        self.put(|room| put_ipv6(address, room));
    }

    /// Appends a group of an IPv6 address, without zeros in front.
    #[inline]
    fn group(&mut self, group: u16) {
        let [high, low] = group.to_be_bytes();
        let [[a, b], [c, d]] = [hex(high), hex(low)];
        if high != 0 {
            if a != b'0' {
                self.byte(a);
            }
            self.byte(b);
        }
        if high != 0 || c != b'0' {
            self.byte(c);
        }
        self.byte(d);
    }

    /// Appends seconds with three decimals, from nanoseconds.
    pub fn seconds(&mut self, ns: u64) {
        let (seconds, millis) = divide(millis(ns), 1_000);
        self.number(seconds);
        self.byte(b'.');
        self.padded(u64::from(millis), 3);
    }

    /// Appends the inside of a JSON string: quotes, backslashes and control characters escaped,
    /// bytes that are not ASCII as U+FFFD.
    pub fn escaped(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            match byte {
                b'"' | b'\\' => self.bytes(&[b'\\', byte]),
                b' '..=b'~' => self.byte(byte),
                0x80.. => self.str("\\ufffd"),
                _ => {
                    self.str("\\u00");
                    self.bytes(&hex(byte));
                }
            }
        }
    }
}

/// For what is rare enough for `write!`.
impl fmt::Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.str(text);
        if self.cut { Err(fmt::Error) } else { Ok(()) }
    }
}

/// Room for an IPv4 address, each number with a point behind it.
const IPV4_LEN: usize = 16;
/// Room for an IPv6 address, each group with a colon behind it.
const IPV6_LEN: usize = 40;

/// Puts an address at the beginning of `text`; how long it is there.
fn put_ipv4(address: Ipv4Addr, text: &mut [u8; IPV4_LEN]) -> usize {
    let mut at = 0;
    for octet in address.octets() {
        let [tens, ones] = PAIRS[usize::from(octet % 100)];
        if octet >= 100 {
            text[at] = b'0' + octet / 100;
            at += 1;
        }
        if octet >= 10 {
            text[at] = tens;
            at += 1;
        }
        [text[at], text[at + 1]] = [ones, b'.'];
        at += 2;
    }
    at - 1
}

/// Puts an address at the beginning of `text`; how long it is there.
fn put_ipv6(address: Ipv6Addr, text: &mut [u8; IPV6_LEN]) -> usize {
    let groups = address.segments();
    let zeros = longest_zeros(&groups);
    let mut text = Text::new(text);
    for (at, &group) in groups.iter().enumerate() {
        if !zeros.contains(&at) {
            text.group(group);
            text.byte(b':');
        } else if at == zeros.start {
            text.byte(b':');
            if at == 0 {
                text.byte(b':');
            }
        }
    }
    let last_colon = zeros.is_empty() || zeros.end < groups.len();
    text.len() - usize::from(last_colon)
}

/// The longest run of two or more zero groups, the first of equals; empty at the end if none.
fn longest_zeros(groups: &[u16; 8]) -> core::ops::Range<usize> {
    let mut best = 8..8;
    let mut at = 0;
    while at < 8 {
        let run = groups[at..].iter().take_while(|&&g| g == 0).count();
        if run >= 2 && run > best.len() {
            best = at..at + run;
        }
        at += run.max(1);
    }
    best
}

/// How many digits a number has.
#[inline]
fn decimal_digits(value: u64) -> usize {
    let log = match u32::try_from(value) {
        Ok(small) => small.checked_ilog10(),
        Err(_) => value.checked_ilog10(),
    };
    log.map_or(1, |log| log as usize + 1)
}

/// Puts two digits before `end`, or, where there is room for one, the last of them.
#[inline]
fn put_pair(digits: &mut [u8], end: usize, pair: u32) {
    let [tens, ones] = PAIRS[pair as usize];
    digits[end - 1] = ones;
    if end > 1 {
        digits[end - 2] = tens;
    }
}

/// `00` to `99`.
static PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[b'0'; 2]; 100];
    let mut n = 0_u8;
    while n < 100 {
        pairs[n as usize] = [b'0' + n / 10, b'0' + n % 10];
        n += 1;
    }
    pairs
};

const fn hex(byte: u8) -> [u8; 2] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    [DIGITS[(byte >> 4) as usize], DIGITS[(byte & 15) as usize]]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(write: impl FnOnce(&mut Text<'_>)) -> String {
        let mut buffer = [0; 128];
        let mut text = Text::new(&mut buffer);
        write(&mut text);
        assert!(!text.is_cut());
        String::from_utf8(text.as_bytes().to_vec()).unwrap()
    }

    proptest! {
        #[test]
        fn numbers_are_as_fmt_writes_them(value: u64, shift in 0..64_u32) {
            let value = value >> shift;
            prop_assert_eq!(written(|t| t.number(value)), value.to_string());
            prop_assert_eq!(written(|t| t.padded(value % 1000, 3)), format!("{:03}", value % 1000));
            prop_assert_eq!(written(|t| t.padded(value, 20)), format!("{value:020}"));
            prop_assert_eq!(written(|t| t.hex64(value)), format!("{value:016x}"));
        }

        #[test]
        fn addresses_are_as_fmt_writes_them(v4: u32, groups: [u16; 8], zeros: u8) {
            let v4 = Ipv4Addr::from_bits(v4);
            prop_assert_eq!(written(|t| t.address(v4.into())), v4.to_string());
            let mut groups = groups;
            for (bit, group) in groups.iter_mut().enumerate() {
                if zeros >> bit & 1 == 1 {
                    *group = 0;
                }
            }
            let v6 = Ipv6Addr::from(groups);
            prop_assert_eq!(written(|t| t.address(v6.into())), v6.to_string());
            let mapped = v4.to_ipv6_mapped();
            prop_assert_eq!(written(|t| t.address(mapped.into())), mapped.to_string());
        }
    }

    #[test]
    fn what_does_not_fit_is_cut_and_told() {
        let mut buffer = [0; 4];
        let mut text = Text::new(&mut buffer);
        text.str("abc");
        text.str("de");
        assert!(text.is_cut());
        assert_eq!(text.as_bytes(), b"abc");
        text.truncate(1);
        text.str("x");
        assert!(!text.is_cut());
        assert_eq!(text.as_bytes(), b"ax");
    }

    /// All kinds of parts, each by itself.
    fn parts(text: &mut Text<'_>, end: &mut Vec<usize>) {
        let parts: [&dyn Fn(&mut Text<'_>); 8] = [
            &|t| t.str("{\"a\":"),
            &|t| t.number(7),
            &|t| t.str("\"src\":\""),
            &|t| t.address(Ipv4Addr::new(192, 0, 2, 255).into()),
            &|t| t.hex64(u64::MAX - 1),
            &|t| t.str("12345678"),
            &|t| t.address(Ipv6Addr::new(0x2001, 0xdb8, 1, 2, 3, 4, 5, 6).into()),
            &|t| t.number(u64::MAX),
        ];
        for part in parts {
            part(text);
            end.push(text.len());
        }
    }

    #[test]
    fn a_part_that_does_not_fit_is_left_out_whole_in_a_buffer_of_any_size() {
        let (mut room, mut ends) = ([0; 256], Vec::new());
        let mut all = Text::new(&mut room);
        parts(&mut all, &mut ends);
        let expected = "{\"a\":7\"src\":\"192.0.2.255fffffffffffffffe123456782001:db8:1:2:3:4:5:6\
                        18446744073709551615";
        assert_eq!(all.as_bytes(), expected.as_bytes());
        for size in 0..=expected.len() {
            let mut small = vec![b'!'; size];
            let mut text = Text::new(&mut small);
            let mut reached = Vec::new();
            parts(&mut text, &mut reached);
            // Up to the first that does not fit they are what they are with room.
            let first = ends.iter().position(|&end| end > size).unwrap_or(ends.len());
            assert_eq!(reached[..first], ends[..first], "{size} bytes");
            let len = first.checked_sub(1).map_or(0, |last| ends[last]);
            assert_eq!(text.as_bytes()[..len], expected.as_bytes()[..len], "{size} bytes");
            assert_eq!(text.is_cut(), size < expected.len());
            if let Some(&after) = reached.get(first) {
                assert_eq!(after, len, "{size} bytes: nothing of the part that does not fit");
            }
        }
    }

    #[test]
    fn json_strings_are_escaped() {
        assert_eq!(written(|t| t.escaped(b"a\"\\\n\x7f\xff")), "a\\\"\\\\\\u000a\\u007f\\ufffd");
    }
}

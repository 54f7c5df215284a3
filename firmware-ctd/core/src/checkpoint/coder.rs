//! How values become bits: an adaptive range coder for what can be guessed, plain bits for what
//! cannot.
//!
//! A number's length in bits is guessed well and its bits are noise, so each goes where it is
//! cheap: the length through the range coder, as one symbol of an alphabet whose frequencies are
//! learned, the bits below the leading one as they are. An exp-Golomb code with an adaptive
//! parameter wastes two bits on each counter that spans orders of magnitude and one on most other
//! numbers, together more than a byte a flow; binary decisions in place of symbols take as many
//! bytes and twice the time.
//!
//! The codec of flows is written once, over [`Stream`], and so reads and writes the same by
//! construction. [`image`](super::image) has the exact arithmetic.

use crate::words;

/// Nobody has written this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unsound;

/// One side of a conversation in symbols and plain bits. Writing tells the values and is given
/// them back; reading is told anything and gives what was written.
pub(super) trait Stream {
    /// Whether this side tells.
    const WRITES: bool;

    /// A symbol, at most 31.
    fn symbol(&mut self, alphabet: &mut Alphabet, symbol: usize) -> usize;

    /// Plain bits, at most 32: the lowest of `value`.
    fn raw(&mut self, bits: u32, value: u32) -> u32;
}

const SYMBOLS: usize = 32;
const SCALE_BITS: u32 = 12;
/// What is left of the scale when every symbol has one.
const SHARED: u32 = (1 << SCALE_BITS) - 32;
/// What a symbol counts when it comes.
const COUNT: u16 = 4;
/// Symbols until frequencies are first made of counts; twice as many the next time, up to the most.
const FIRST_PERIOD: u16 = 16;
const LAST_PERIOD: u16 = 1024;
const TOP: u32 = 1 << 24;

/// How frequent each of 32 symbols is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Alphabet {
    /// Where each symbol's share of the scale begins; a symbol more, to end the last one's.
    starts: [u16; SYMBOLS + 1],
    counts: [u16; SYMBOLS],
    period: u16,
    /// Symbols until frequencies are made anew.
    left: u16,
}

impl Alphabet {
    /// All symbols are equally frequent.
    pub(super) const EVEN: Self = {
        let mut starts = [0; SYMBOLS + 1];
        let mut symbol = 0;
        while symbol < SYMBOLS {
            starts[symbol + 1] = starts[symbol] + 128;
            symbol += 1;
        }
        Self { starts, counts: [1; SYMBOLS], period: FIRST_PERIOD, left: FIRST_PERIOD }
    };

    /// Begin and width of a symbol's share of the scale.
    #[inline]
    fn share(&self, symbol: usize) -> (u32, u32) {
        let (start, end) = (self.starts[symbol], self.starts[symbol + 1]);
        (start.into(), (end - start).into())
    }

    /// The symbol in whose share `at` lies.
    #[inline]
    fn symbol_at(&self, at: u32) -> usize {
        let step = |symbol: usize, step: usize| {
            symbol + if u32::from(self.starts[symbol + step]) <= at { step } else { 0 }
        };
        step(step(step(step(step(0, 16), 8), 4), 2), 1)
    }

    #[inline]
    fn learn(&mut self, symbol: usize) {
        self.counts[symbol] += COUNT;
        self.left -= 1;
        if self.left == 0 {
            self.renew();
        }
    }

    /// Makes frequencies of counts. Counts are halved once the period is at its longest, so they
    /// never exceed 2 x 4 x 1,024.
    #[cold]
    fn renew(&mut self) {
        let total = self.counts.iter().fold(0, |sum, &count| sum + u32::from(count));
        let mut sum = 0;
        for ((start, place), count) in self.starts.iter_mut().zip(0..).zip(&self.counts) {
            *start = words::low_half(place + sum * SHARED / total.max(1));
            sum += u32::from(*count);
        }
        if self.period == LAST_PERIOD {
            self.counts.iter_mut().for_each(|count| *count /= 2);
        } else {
            self.period *= 2;
        }
        self.left = self.period;
    }
}

/// The lengths that a number may have, or that there is none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lengths(Alphabet);

impl Lengths {
    pub(super) const EVEN: Self = Self(Alphabet::EVEN);
    /// Stands for every length above 29: the number follows in all its width.
    const LONG: usize = 30;
    /// There is no number.
    const NONE: usize = 31;

    /// A number of at most `width` bits, if there is one.
    #[inline]
    pub(super) fn optional<S: Stream>(
        &mut self,
        s: &mut S,
        width: u32,
        value: Option<u64>,
    ) -> Option<u64> {
        let symbol = match value {
            Some(value) => ((u64::BITS - value.leading_zeros()) as usize).min(Self::LONG),
            None => Self::NONE,
        };
        let value = value.unwrap_or(0);
        Some(match s.symbol(&mut self.0, symbol) {
            0 => 0,
            Self::LONG => raw(s, width, value),
            Self::NONE => return None,
            length => {
                1 << (length - 1)
                    | u64::from(s.raw(u32::try_from(length).unwrap_or(0) - 1, low_word(value)))
            }
        })
    }

    /// A number of at most `width` bits.
    #[inline]
    pub(super) fn number<S: Stream>(
        &mut self,
        s: &mut S,
        width: u32,
        value: u64,
    ) -> Result<u64, Unsound> {
        self.optional(s, width, Some(value)).ok_or(Unsound)
    }

    /// A number of at most 32 bits.
    #[inline]
    pub(super) fn word<S: Stream>(&mut self, s: &mut S, value: u32) -> Result<u32, Unsound> {
        self.number(s, 32, value.into()).map(low_word)
    }

    /// A number of at most 16 bits, if there is one. Longer ones are cut.
    #[inline]
    pub(super) fn half<S: Stream>(&mut self, s: &mut S, value: Option<u16>) -> Option<u16> {
        self.optional(s, 16, value.map(u64::from)).map(|value| words::low_half(low_word(value)))
    }
}

/// Plain bits, at most 64.
#[inline]
pub(super) fn raw<S: Stream>(s: &mut S, bits: u32, value: u64) -> u64 {
    if bits <= 32 {
        return s.raw(bits, low_word(value)).into();
    }
    let high = s.raw(bits - 32, low_word(value >> 32));
    u64::from(high) << 32 | u64::from(s.raw(32, low_word(value)))
}

/// A number below `bound`, each as probable as the others: truncated binary. A bound of 0 or 1
/// takes no bits. What is read may be `bound` or above only if `bound` is 0.
#[inline]
pub(super) fn below<S: Stream>(s: &mut S, bound: u64, value: u64) -> u64 {
    let Some(most) = bound.checked_sub(1).filter(|&most| most > 0) else { return 0 };
    let bits = most.ilog2();
    // The first `short` values take `bits` bits, the others one more.
    let short = (2_u64 << bits).wrapping_sub(bound);
    if value < short || !S::WRITES {
        let value = raw(s, bits, value);
        if S::WRITES || value < short {
            return value;
        }
        return (value << 1 | u64::from(s.raw(1, 0))).wrapping_sub(short);
    }
    let shifted = value.wrapping_add(short);
    raw(s, bits, shifted >> 1);
    s.raw(1, low_word(shifted) & 1);
    value
}

#[inline]
#[expect(clippy::cast_possible_truncation, reason = "takes the lower half")]
pub(super) const fn low_word(value: u64) -> u32 {
    value as u32
}

/// Bytes under construction; the writer's user takes care that they fit.
#[derive(Debug)]
struct Buffer {
    bytes: Box<[u8]>,
    len: usize,
}

impl Buffer {
    fn new(capacity: usize) -> Self {
        Self { bytes: vec![0; capacity].into(), len: 0 }
    }

    #[inline]
    fn push<const N: usize>(&mut self, bytes: [u8; N]) {
        if let Some(room) = self.bytes.get_mut(self.len..self.len + N) {
            room.copy_from_slice(&bytes);
            self.len += N;
        }
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Writes the two streams of a block.
#[derive(Debug)]
pub(super) struct Writer {
    plain: Buffer,
    /// Plain bits that are not yet in the buffer, the last lowest; less than 32.
    bits: u64,
    count: u32,
    coded: Buffer,
    low: u32,
    range: u32,
}

impl Writer {
    /// A writer of blocks of at most `capacity` bytes.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            plain: Buffer::new(capacity),
            bits: 0,
            count: 0,
            coded: Buffer::new(capacity),
            low: 0,
            range: u32::MAX,
        }
    }

    /// Begins a block.
    pub(super) fn clear(&mut self) {
        (self.bits, self.count) = (0, 0);
        (self.low, self.range) = (0, u32::MAX);
        (self.plain.len, self.coded.len) = (0, 0);
    }

    /// The bytes so far; eight more at most when the block ends.
    pub(super) const fn len(&self) -> usize {
        self.plain.len + self.coded.len
    }

    /// Ends the block: its plain bits and its coded decisions.
    pub(super) fn finish(&mut self) -> (&[u8], &[u8]) {
        while self.count > 0 {
            let [.., byte] = (self.bits << 8 >> self.count).to_be_bytes();
            self.plain.push([byte]);
            self.count = self.count.saturating_sub(8);
        }
        self.coded.push(self.low.to_be_bytes());
        (self.plain.as_bytes(), self.coded.as_bytes())
    }

    /// The range has moved beyond 2^32: adds one to what is in the buffer.
    #[cold]
    fn carry(&mut self) {
        for byte in self.coded.bytes[..self.coded.len].iter_mut().rev() {
            *byte = byte.wrapping_add(1);
            if *byte != 0 {
                return;
            }
        }
    }
}

impl Stream for Writer {
    const WRITES: bool = true;

    #[inline]
    fn symbol(&mut self, alphabet: &mut Alphabet, symbol: usize) -> usize {
        let (start, width) = alphabet.share(symbol);
        let unit = self.range >> SCALE_BITS;
        let (low, over) = self.low.overflowing_add(unit * start);
        self.low = low;
        self.range = unit * width;
        if over {
            self.carry();
        }
        while self.range < TOP {
            let [byte, ..] = self.low.to_be_bytes();
            self.coded.push([byte]);
            self.low <<= 8;
            self.range <<= 8;
        }
        alphabet.learn(symbol);
        symbol
    }

    #[inline]
    fn raw(&mut self, bits: u32, value: u32) -> u32 {
        let value = u64::from(value) & ((1 << bits) - 1);
        self.bits = self.bits << bits | value;
        self.count += bits;
        if self.count >= 32 {
            self.count -= 32;
            let word = low_word(self.bits >> self.count);
            self.plain.push(word.to_be_bytes());
        }
        low_word(value)
    }
}

/// Reads the two streams of a block. Beyond the end of either it reads zeros, and remembers.
#[derive(Debug)]
pub(super) struct Reader<'b> {
    plain: &'b [u8],
    bits: u64,
    count: u32,
    coded: &'b [u8],
    code: u32,
    range: u32,
    beyond: bool,
}

impl<'b> Reader<'b> {
    pub(super) fn new(plain: &'b [u8], coded: &'b [u8]) -> Self {
        let mut reader = Self { coded, ..Self::plain(plain) };
        for _ in 0..4 {
            reader.code = reader.code << 8 | reader.byte();
        }
        reader
    }

    /// A reader of plain bits alone.
    pub(super) const fn plain(plain: &'b [u8]) -> Self {
        Self { plain, bits: 0, count: 0, coded: &[], code: 0, range: u32::MAX, beyond: false }
    }

    /// Whether something was read beyond the end.
    pub(super) const fn is_beyond(&self) -> bool {
        self.beyond
    }

    /// Whether everything was read and the bits left over of the last byte are zeros.
    pub(super) const fn is_at_end(&self) -> bool {
        !self.beyond
            && self.plain.is_empty()
            && self.coded.is_empty()
            && self.count < 8
            && self.bits & ((1 << self.count) - 1) == 0
    }

    #[inline]
    fn byte(&mut self) -> u32 {
        match self.coded.split_first() {
            Some((&byte, rest)) => {
                self.coded = rest;
                byte.into()
            }
            None => {
                self.beyond = true;
                0
            }
        }
    }

    #[cold]
    fn last_bits(&mut self, bits: u32) {
        while self.count < bits {
            let byte = match self.plain.split_first() {
                Some((&byte, rest)) => {
                    self.plain = rest;
                    byte
                }
                None => {
                    self.beyond = true;
                    0
                }
            };
            self.bits = self.bits << 8 | u64::from(byte);
            self.count += 8;
        }
    }
}

impl Stream for Reader<'_> {
    const WRITES: bool = false;

    #[inline]
    fn symbol(&mut self, alphabet: &mut Alphabet, _: usize) -> usize {
        let unit = self.range >> SCALE_BITS;
        let symbol = alphabet.symbol_at(self.code / unit.max(1));
        let (start, width) = alphabet.share(symbol);
        self.code -= unit * start;
        self.range = unit * width;
        while self.range < TOP {
            self.code = self.code << 8 | self.byte();
            self.range <<= 8;
        }
        alphabet.learn(symbol);
        symbol
    }

    #[inline]
    fn raw(&mut self, bits: u32, _: u32) -> u32 {
        if self.count < bits {
            match self.plain.split_first_chunk::<4>() {
                Some((word, rest)) => {
                    self.plain = rest;
                    self.bits = self.bits << 32 | u64::from(u32::from_be_bytes(*word));
                    self.count += 32;
                }
                None => self.last_bits(bits),
            }
        }
        self.count -= bits;
        low_word(self.bits >> self.count & ((1 << bits) - 1))
    }
}

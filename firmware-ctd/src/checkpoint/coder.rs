//! How values become bits: an adaptive binary range coder for what can be guessed, plain bits for
//! what cannot.
//!
//! A number's length in bits is guessed well and its bits are noise, so each goes where it is
//! cheap: the length, as five binary decisions with learned probabilities, through the range coder;
//! the bits below the leading one as they are. An exp-Golomb code with an adaptive parameter was
//! tried on paper: it wastes about two bits on each counter that spans orders of magnitude and one
//! on most others, together more than a byte a flow.
//!
//! The codec of flows is written once, over [`Stream`], and so reads and writes the same by
//! construction. [`image`](super::image) has the exact arithmetic.

/// One side of a conversation in binary decisions and plain bits. Writing tells the values and is
/// given them back; reading is told anything and gives what was written.
pub(super) trait Stream {
    /// Whether this side tells.
    const WRITES: bool;

    /// A decision whose probability `model` learns.
    fn bit(&mut self, model: &mut Probability, bit: bool) -> bool;

    /// Plain bits, at most 32: the lowest of `value`.
    fn raw(&mut self, bits: u32, value: u32) -> u32;
}

/// How probable it is that a decision is `false`, in 1/2048; between 31 and 2,017.
#[derive(Clone, Copy, Debug)]
pub(super) struct Probability(u16);

const SCALE_BITS: u32 = 11;
const LEARNING: u32 = 5;
const TOP: u32 = 1 << 24;

impl Probability {
    pub(super) const EVEN: Self = Self(1 << (SCALE_BITS - 1));

    #[inline]
    fn learn(&mut self, bit: bool) {
        if bit {
            self.0 -= self.0 >> LEARNING;
        } else {
            self.0 += ((1 << SCALE_BITS) - self.0) >> LEARNING;
        }
    }

    /// The part of `range` that stands for `false`.
    #[inline]
    fn share(self, range: u32) -> u32 {
        (range >> SCALE_BITS) * u32::from(self.0)
    }
}

/// The lengths that a number may have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lengths([Probability; 32]);

impl Lengths {
    pub(super) const EVEN: Self = Self([Probability::EVEN; 32]);
    /// Stands for every length above 30: the number follows in all its width.
    const LONG: u32 = 31;

    /// A number of at most `width` bits.
    #[inline]
    pub(super) fn number<S: Stream>(&mut self, s: &mut S, width: u32, value: u64) -> u64 {
        let length = (u64::BITS - value.leading_zeros()).min(Self::LONG);
        match tree(s, &mut self.0, 5, length) {
            0 => 0,
            Self::LONG => raw(s, width, value),
            length => 1 << (length - 1) | u64::from(s.raw(length - 1, low_word(value))),
        }
    }

    /// A number of at most 32 bits.
    #[inline]
    pub(super) fn word<S: Stream>(&mut self, s: &mut S, value: u32) -> u32 {
        low_word(self.number(s, 32, value.into()))
    }

    /// A number of at most 16 bits.
    #[inline]
    pub(super) fn half<S: Stream>(&mut self, s: &mut S, value: u16) -> u16 {
        crate::words::low_half(low_word(self.number(s, 16, value.into())))
    }
}

/// The lowest `depth` bits of `value`, highest first, each guessed from those before it. `models`
/// has 2^`depth` entries, of which the first is not used.
#[inline]
pub(super) fn tree<S: Stream>(
    s: &mut S,
    models: &mut [Probability],
    depth: u32,
    value: u32,
) -> u32 {
    let mut node = 1;
    for shift in (0..depth).rev() {
        let bit = s.bit(&mut models[node as usize], value >> shift & 1 == 1);
        node = node << 1 | u32::from(bit);
    }
    node & !(1 << depth)
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
    fn bit(&mut self, model: &mut Probability, bit: bool) -> bool {
        let share = model.share(self.range);
        if bit {
            let (low, over) = self.low.overflowing_add(share);
            self.low = low;
            self.range -= share;
            if over {
                self.carry();
            }
        } else {
            self.range = share;
        }
        model.learn(bit);
        while self.range < TOP {
            let [byte, ..] = self.low.to_be_bytes();
            self.coded.push([byte]);
            self.low <<= 8;
            self.range <<= 8;
        }
        bit
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
    fn bit(&mut self, model: &mut Probability, _: bool) -> bool {
        let share = model.share(self.range);
        let bit = self.code >= share;
        if bit {
            self.code -= share;
            self.range -= share;
        } else {
            self.range = share;
        }
        model.learn(bit);
        while self.range < TOP {
            self.code = self.code << 8 | self.byte();
            self.range <<= 8;
        }
        bit
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

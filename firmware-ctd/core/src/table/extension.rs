//! What few flows have: labels, a helper, a master, adjusted sequence numbers and the like.
//!
//! An extension is read and written whole; it is on no hot path.

use super::layout::EXTENSION;
use crate::wire::{Labels, Protocol, SeqAdj, SynProxy, Tuple};
use crate::words;

/// The name of a helper, NUL padded: `NF_CT_HELPER_NAME_LEN` is 16.
pub type HelperName = [u8; 16];

/// The first 15 bytes of a name, NUL padded.
#[must_use]
pub fn helper_name(name: &[u8]) -> HelperName {
    let mut padded = HelperName::default();
    for (to, from) in padded.iter_mut().take(15).zip(name) {
        *to = *from;
    }
    padded
}

/// The rare attributes of one flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extension {
    /// Connection labels.
    pub labels: Option<Labels>,
    /// Adjusted sequence numbers, original direction.
    pub seqadj_orig: Option<SeqAdj>,
    /// Adjusted sequence numbers, reply direction.
    pub seqadj_reply: Option<SeqAdj>,
    /// The helper attached.
    pub helper: Option<HelperName>,
    /// Original tuple of the flow that expected this one.
    pub master: Option<Tuple>,
    /// SCTP verification tags, original and reply.
    pub vtags: Option<[u32; 2]>,
    /// SYN proxy state.
    pub synproxy: Option<SynProxy>,
    /// A zone of the reply direction alone.
    pub zone_reply: Option<u16>,
}

const LABELS: u32 = 1;
const SEQADJ_ORIG: u32 = 1 << 1;
const SEQADJ_REPLY: u32 = 1 << 2;
const HELPER: u32 = 1 << 3;
const MASTER: u32 = 1 << 4;
const VTAGS: u32 = 1 << 5;
const SYNPROXY: u32 = 1 << 6;
const ZONE_REPLY: u32 = 1 << 7;
const MASTER_IPV6: u32 = 1 << 8;
const MASTER_L4_SHIFT: u32 = 9; // two bits

impl Extension {
    /// Words of one.
    pub(crate) const WORDS: usize = EXTENSION;

    /// Whether there is anything to store.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Writes the extension into its words.
    pub(crate) fn store(&self, words: &mut [u32]) {
        let mut out = Cursor { words, at: 1, present: 0 };
        out.put(LABELS, self.labels.map(|l| words::of_bytes(l.0)));
        out.put(SEQADJ_ORIG, self.seqadj_orig.map(seqadj_words));
        out.put(SEQADJ_REPLY, self.seqadj_reply.map(seqadj_words));
        out.put(HELPER, self.helper.map(words::of_bytes));
        out.put(MASTER, self.master.map(|m| tuple_words(&m)));
        out.put(VTAGS, self.vtags);
        out.put(SYNPROXY, self.synproxy.map(|s| [s.isn, s.its, s.tsoff]));
        out.put(ZONE_REPLY, self.zone_reply.map(|z| [u32::from(z)]));
        let master_kind = self.master.map_or(0, |m| {
            words::of_l4(m.l4).0 << MASTER_L4_SHIFT | if m.src.is_ipv6() { MASTER_IPV6 } else { 0 }
        });
        let present = out.present | master_kind;
        words[0] = present;
    }

    /// Reads an extension from its words.
    pub(crate) fn load(words: &[u32]) -> Self {
        let mut input = Reader { words, at: 1, present: words[0] };
        let present = words[0];
        Self {
            labels: input.take(LABELS).map(|w| Labels(words::to_bytes(w))),
            seqadj_orig: input.take(SEQADJ_ORIG).map(seqadj),
            seqadj_reply: input.take(SEQADJ_REPLY).map(seqadj),
            helper: input.take(HELPER).map(words::to_bytes),
            master: input.take(MASTER).map(|w| tuple(present, w)),
            vtags: input.take(VTAGS),
            synproxy: input.take(SYNPROXY).map(|[isn, its, tsoff]| SynProxy { isn, its, tsoff }),
            zone_reply: input.take(ZONE_REPLY).map(|[z]| words::low_half(z)),
        }
    }
}

/// Appends parts at fixed places: a part that is absent leaves its place unused.
struct Cursor<'a> {
    words: &'a mut [u32],
    at: usize,
    present: u32,
}

impl Cursor<'_> {
    fn put<const N: usize>(&mut self, bit: u32, part: Option<[u32; N]>) {
        if let Some(part) = part {
            self.words[self.at..self.at + N].copy_from_slice(&part);
            self.present |= bit;
        }
        self.at += N;
    }
}

struct Reader<'a> {
    words: &'a [u32],
    at: usize,
    present: u32,
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self, bit: u32) -> Option<[u32; N]> {
        let from = self.at;
        self.at += N;
        if self.present & bit == 0 {
            return None;
        }
        self.words.get(from..from + N)?.try_into().ok()
    }
}

fn seqadj_words(adj: SeqAdj) -> [u32; 3] {
    [adj.correction_pos, adj.offset_before, adj.offset_after]
}

fn seqadj([correction_pos, offset_before, offset_after]: [u32; 3]) -> SeqAdj {
    SeqAdj { correction_pos, offset_before, offset_after }
}

fn tuple_words(tuple: &Tuple) -> [u32; 10] {
    let (src, [a, b, c]) = words::of_address(tuple.src);
    let (dst, [d, e, f]) = words::of_address(tuple.dst);
    [src, a, b, c, dst, d, e, f, words::of_l4(tuple.l4).1, u32::from(tuple.proto.0)]
}

fn tuple(present: u32, words: [u32; 10]) -> Tuple {
    let [src, a, b, c, dst, d, e, f, l4_word, proto] = words;
    let ipv6 = present & MASTER_IPV6 != 0;
    Tuple {
        src: words::to_address(ipv6, src, [a, b, c]),
        dst: words::to_address(ipv6, dst, [d, e, f]),
        proto: Protocol(proto.to_be_bytes()[3]),
        l4: words::to_l4(present >> MASTER_L4_SHIFT, l4_word),
    }
}

const _: () = assert!(1 + 4 + 3 + 3 + 4 + 10 + 2 + 3 < EXTENSION);

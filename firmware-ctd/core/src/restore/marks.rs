//! What became of each flow: two bits for each.

/// What became of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// Asked for and not refused.
    Made,
    /// Still to be asked for.
    Waiting,
    /// Still to be asked for, without its helper.
    WithoutHelper,
    /// Not made: refused, or timed out before.
    Refused,
}

/// A mark for each of a fixed number of flows.
#[derive(Debug)]
pub(super) struct Marks {
    words: Box<[u32]>,
    flows: u32,
}

const PER_WORD: u32 = 16;

impl Marks {
    /// For flows 0 to `flows` - 1, all [`Mark::Made`].
    pub(super) fn new(flows: u32) -> Self {
        let words = usize::try_from(flows.div_ceil(PER_WORD)).unwrap_or(usize::MAX);
        Self { words: vec![0; words].into_boxed_slice(), flows }
    }

    /// The mark of flow `index`; beyond the last one, [`Mark::Refused`].
    pub(super) fn get(&self, index: u32) -> Mark {
        let word = self.words.get(word_of(index)).filter(|_| index < self.flows);
        match word.map(|word| word >> shift_of(index) & 3) {
            Some(0) => Mark::Made,
            Some(1) => Mark::Waiting,
            Some(2) => Mark::WithoutHelper,
            _ => Mark::Refused,
        }
    }

    /// Marks flow `index`; one beyond the last is left.
    pub(super) fn set(&mut self, index: u32, mark: Mark) {
        let bits = match mark {
            Mark::Made => 0,
            Mark::Waiting => 1,
            Mark::WithoutHelper => 2,
            Mark::Refused => 3,
        };
        if let Some(word) = self.words.get_mut(word_of(index)).filter(|_| index < self.flows) {
            *word = *word & !(3 << shift_of(index)) | bits << shift_of(index);
        }
    }

    /// How many flows there is a mark for.
    pub(super) const fn flows(&self) -> u32 {
        self.flows
    }
}

fn word_of(index: u32) -> usize {
    usize::try_from(index / PER_WORD).unwrap_or(usize::MAX)
}

const fn shift_of(index: u32) -> u32 {
    index % PER_WORD * 2
}

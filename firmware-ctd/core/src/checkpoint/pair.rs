//! Two images take turns, so that one is always whole: which of them is loaded, and which is
//! written next.
//!
//! Decisions only; the files are the edge's.

use super::image::{Facts, Fault, FaultKind};

/// One of the two files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// The first.
    A,
    /// The second.
    B,
}

impl Slot {
    /// Both.
    pub const ALL: [Self; 2] = [Self::A, Self::B];

    /// The other one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

/// What was found in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// There is no file.
    Missing,
    /// It is no image that can be loaded.
    Faulty(Fault),
    /// A good image.
    Good(Facts),
}

impl Found {
    /// How much would be lost with it. An image that another version of this program may load, or
    /// that could not be read just now, is worth more than one that is certainly damaged.
    const fn worth(&self) -> (u8, u64) {
        match self {
            Self::Missing => (0, 0),
            Self::Faulty(Fault { what: FaultKind::Version(_) | FaultKind::Io(_), .. }) => (2, 0),
            Self::Faulty(_) => (1, 0),
            Self::Good(facts) => (3, facts.generation),
        }
    }
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Which image to load: the latest of those that are good.
    pub load: Option<Slot>,
    /// Where the next image goes: never over one that is worth more than the other.
    pub write: Slot,
    /// The generation of the next image.
    pub generation: u64,
}

/// Decides by what is in the slots, A and B.
#[must_use]
pub fn choose([a, b]: &[Found; 2]) -> Choice {
    let better = if a.worth() >= b.worth() { Slot::A } else { Slot::B };
    let generation = [a, b].into_iter().filter_map(|found| match found {
        Found::Good(facts) => Some(facts.generation),
        _ => None,
    });
    // Nobody counts so far as to come to the end.
    let latest = generation.max();
    Choice {
        load: latest.map(|_| better),
        write: better.other(),
        generation: latest.unwrap_or(0).saturating_add(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good(generation: u64) -> Found {
        Found::Good(Facts { generation, ..Facts::default() })
    }

    fn faulty(what: FaultKind) -> Found {
        Found::Faulty(Fault { offset: 0, what })
    }

    #[test]
    fn the_latest_good_image_is_loaded_and_never_overwritten() {
        let cut = faulty(FaultKind::Cut);
        let newer = faulty(FaultKind::Version(2));
        for (a, b, load, write, generation) in [
            (Found::Missing, Found::Missing, None, Slot::B, 1),
            (good(7), Found::Missing, Some(Slot::A), Slot::B, 8),
            (Found::Missing, good(7), Some(Slot::B), Slot::A, 8),
            (good(7), good(8), Some(Slot::B), Slot::A, 9),
            (good(8), good(7), Some(Slot::A), Slot::B, 9),
            (good(8), cut, Some(Slot::A), Slot::B, 9),
            (cut, good(8), Some(Slot::B), Slot::A, 9),
            (cut, newer, None, Slot::A, 1),
            (newer, cut, None, Slot::B, 1),
            (newer, Found::Missing, None, Slot::B, 1),
            (newer, good(3), Some(Slot::B), Slot::A, 4),
            (good(u64::MAX), good(0), Some(Slot::A), Slot::B, u64::MAX),
        ] {
            assert_eq!(choose(&[a, b]), Choice { load, write, generation }, "{a:?} {b:?}");
        }
    }
}

//! The known name that a mistyped one was perhaps meant to be.
//!
//! Edit distance with one fixed row: no allocation. Names longer than [`LONGEST`] have no
//! neighbour. At most a third of the letters may
//! differ, rounded up.

/// Longest name, in bytes, that is compared.
pub const LONGEST: usize = 31;

/// The name among `names` that is nearest to `word`, if one is near enough; the first of equals.
///
/// Upper and lower case, and `-` and `_`, count as the same letter.
#[must_use]
pub fn nearest<'a>(word: &str, names: &mut dyn Iterator<Item = &'a str>) -> Option<&'a str> {
    let limit = word.len().div_ceil(3);
    let mut best = None;
    for name in names {
        let far = distance(word.as_bytes(), name.as_bytes());
        if far <= limit && best.is_none_or(|(least, _)| far < least) {
            best = Some((far, name));
        }
    }
    best.map(|(_, name)| name)
}

/// Insertions, deletions and replacements that turn `a` into `b`; `usize::MAX` if one is too long.
fn distance(a: &[u8], b: &[u8]) -> usize {
    if a.len() > LONGEST || b.len() > LONGEST {
        return usize::MAX;
    }
    let mut row = [0usize; LONGEST + 1];
    for (i, cell) in row.iter_mut().enumerate() {
        *cell = i;
    }
    for (i, &x) in a.iter().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, &y) in row.iter_mut().skip(1).zip(b) {
            let replaced = diagonal + usize::from(fold(x) != fold(y));
            diagonal = *cell;
            left = replaced.min(left + 1).min(*cell + 1);
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.get(b.len()).copied().unwrap_or(usize::MAX)
}

fn fold(letter: u8) -> u8 {
    if letter == b'-' { b'_' } else { letter.to_ascii_lowercase() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 4] = ["capacity", "refresh_s", "path", "max_bytes"];

    fn near(word: &str) -> Option<&'static str> {
        nearest(word, &mut NAMES.into_iter())
    }

    #[test]
    fn slips_of_the_finger_find_their_name() {
        assert_eq!(near("capasity"), Some("capacity"));
        assert_eq!(near("refresh-s"), Some("refresh_s"));
        assert_eq!(near("Capacity"), Some("capacity"));
        assert_eq!(near("maxbytes"), Some("max_bytes"));
        assert_eq!(near("paht"), Some("path"));
    }

    #[test]
    fn what_is_far_from_all_finds_none() {
        assert_eq!(near("x"), None);
        assert_eq!(near("interval"), None);
        assert_eq!(near("bath_"), Some("path"));
        assert_eq!(near("math_x"), None);
        assert_eq!(near(&"capacity".repeat(9)), None);
        assert_eq!(near(""), None);
    }

    #[test]
    fn the_distance_is_the_textbook_one() {
        assert_eq!(distance(b"kitten", b"sitting"), 3);
        assert_eq!(distance(b"", b"abc"), 3);
        assert_eq!(distance(b"abc", b""), 3);
        assert_eq!(distance(b"same", b"same"), 0);
    }
}

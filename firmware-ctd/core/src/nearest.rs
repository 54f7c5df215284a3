//! The known name that a mistyped one was perhaps meant to be.
//!
//! Edit distance in fixed rows: no allocation. Names longer than [`LONGEST`] have no
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

/// Insertions, deletions, replacements and swaps of neighbours that turn `a` into `b` (optimal
/// string alignment); `usize::MAX` if one is too long.
fn distance(a: &[u8], b: &[u8]) -> usize {
    if a.len() > LONGEST || b.len() > LONGEST {
        return usize::MAX;
    }
    let mut before: Row = [0; LONGEST + 1];
    let mut above: Row = core::array::from_fn(|j| j);
    for (i, &x) in a.iter().enumerate() {
        let swapped_x = i.checked_sub(1).and_then(|i| a.get(i).copied());
        let row = next_row(x, swapped_x, b, (&before, &above));
        before = above;
        above = row;
    }
    above.get(b.len()).copied().unwrap_or(usize::MAX)
}

/// The distances of a beginning of one name to every beginning of the other.
type Row = [usize; LONGEST + 1];

/// The row of letter `x`, which `x_before` precedes, under the rows `(two above, above)`.
#[expect(clippy::indexing_slicing, reason = "j + 1 <= b.len() <= LONGEST, checked by the caller")]
fn next_row(x: u8, x_before: Option<u8>, b: &[u8], (before, above): (&Row, &Row)) -> Row {
    let mut row = [above[0] + 1; LONGEST + 1];
    let mut y_before = None;
    for (j, &y) in b.iter().enumerate() {
        let replaced = above[j] + usize::from(fold(x) != fold(y));
        row[j + 1] = replaced.min(row[j] + 1).min(above[j + 1] + 1);
        if j > 0 && x_before == Some(y) && y_before == Some(x) {
            row[j + 1] = row[j + 1].min(before[j - 1] + 1);
        }
        y_before = Some(y);
    }
    row
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
        assert_eq!(distance(b"sprot", b"sport"), 1);
        assert_eq!(distance(b"ca", b"abc"), 3, "no edits between swapped letters");
    }
}

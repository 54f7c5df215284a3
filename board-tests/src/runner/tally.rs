//! Counts of tests, read from what test programs print.
//!
//! Understands the closing line of Rust's test harness, which libtest-mimic prints as well:
//! `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; …`.

use std::fmt;
use std::ops::Add;

/// How many tests there were of each result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) passed: usize,
    pub(super) failed: usize,
    /// Ignored tests, and steps left out on request.
    pub(super) skipped: usize,
}

impl Tally {
    /// The sum over all closing lines in `text`.
    pub(super) fn read(text: &str) -> Self {
        text.lines().filter_map(closing_line).fold(Self::default(), Self::add)
    }

    /// All tests.
    pub(super) const fn total(self) -> usize {
        self.passed + self.failed + self.skipped
    }
}

fn closing_line(line: &str) -> Option<Tally> {
    let counts = line.strip_prefix("test result: ")?.split_once(". ")?.1;
    let count = |name| {
        let part = counts.split("; ").find_map(|part| part.trim().strip_suffix(name))?;
        part.trim().parse().ok()
    };
    Some(Tally { passed: count("passed")?, failed: count("failed")?, skipped: count("ignored")? })
}

impl Add for Tally {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            passed: self.passed + other.passed,
            failed: self.failed + other.failed,
            skipped: self.skipped + other.skipped,
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        match self.skipped {
            0 => Ok(()),
            skipped => write!(f, ", {skipped} skipped"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Tally;

    #[test]
    fn closing_lines_are_summed() {
        let text = "running 3 tests\ntest a ... ok\n\
            test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s\n\
            warning: test result: ok. 9 passed; 0 failed; 0 ignored\n\
            test result: FAILED. 40 passed; 2 failed; 0 ignored; 0 measured; 7 filtered out; finished in 1.2s\n";
        assert_eq!(Tally::read(text), Tally { passed: 43, failed: 2, skipped: 1 });
        assert_eq!(Tally::read("error: could not compile\n"), Tally::default());
    }

    #[test]
    fn the_plain_line_names_skipped_tests_when_there_are_any() {
        let tally = Tally { passed: 5, failed: 1, skipped: 0 };
        assert_eq!(tally.to_string(), "5 passed, 1 failed");
        assert_eq!(Tally { skipped: 2, ..tally }.to_string(), "5 passed, 1 failed, 2 skipped");
    }
}

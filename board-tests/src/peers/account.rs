//! What a listener accounted, and how it compares with what was made.

use firmware_ctd::wire::{L4, Protocol, Tuple};
use std::collections::HashSet;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::net::IpAddr;
use std::path::Path;

/// What a listener accounted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Events that it received, where it tells.
    pub events: Option<u64>,
    /// Destroys that it wrote down or, for the floor, counted; repeats included.
    pub destroys: u64,
    /// Original tuples of the flows written down; `None` for who writes none.
    pub tuples: Option<HashSet<Tuple>>,
    /// Distinct keys of the records; `None` for who has no keys.
    pub keys: Option<u64>,
}

impl Account {
    /// How many of the flows `made` (their original tuples, all distinct) are accounted; for who
    /// writes no tuples, how many distinct flows it told, at most as many as were made.
    pub fn of_made(&self, made: impl ExactSizeIterator<Item = Tuple>) -> u64 {
        match &self.tuples {
            Some(tuples) => made.filter(|tuple| tuples.contains(tuple)).count() as u64,
            None => self.distinct().min(made.len() as u64),
        }
    }

    /// How many distinct flows are accounted, by key where there is one, else by tuple.
    #[must_use]
    pub fn distinct(&self) -> u64 {
        let tuples = self.tuples.as_ref().map_or(self.destroys, |it| it.len() as u64);
        self.keys.unwrap_or(tuples)
    }
}

/// Calls `line` for every line of a file; a file that is not there has none.
pub(super) fn each_line(path: &Path, mut line: impl FnMut(&str)) -> io::Result<()> {
    let file = match fs::File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let mut text = String::new();
    while reader.read_line(&mut text)? > 0 {
        line(text.trim_end());
        text.clear();
    }
    Ok(())
}

/// What stands between `name` and the next of `ends`.
pub(super) fn value<'a>(line: &'a str, name: &str, ends: &[char]) -> Option<&'a str> {
    line.split_once(name)?.1.split(ends).next()
}

/// A tuple from its parts as text.
pub(super) fn tuple(src: &str, dst: &str, proto: Protocol, ports: (&str, &str)) -> Option<Tuple> {
    let (src, dst): (IpAddr, IpAddr) = (src.parse().ok()?, dst.parse().ok()?);
    let l4 = match (ports.0.parse(), ports.1.parse()) {
        (Ok(src), Ok(dst)) => L4::Ports { src, dst },
        _ => L4::None,
    };
    Some(Tuple { src, dst, proto, l4 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Flows;

    fn made(count: u16) -> impl ExactSizeIterator<Item = Tuple> {
        (0..count).map(|n| Flows::default().orig(n.into()))
    }

    #[test]
    fn repeats_and_strangers_do_not_stand_for_what_is_missing() {
        let flows = Flows::default();
        let mut tuples: HashSet<Tuple> = (0..9).map(|n| flows.orig(n)).collect();
        tuples.insert(flows.orig(1_000_000));
        let account = Account { destroys: 12, tuples: Some(tuples), ..Account::default() };
        assert_eq!(account.of_made(made(10)), 9);
        assert_eq!(account.distinct(), 10);
    }

    #[test]
    fn the_floor_is_counted_by_number() {
        let account = Account { destroys: 12, ..Account::default() };
        assert_eq!(account.of_made(made(10)), 10);
        assert_eq!(account.of_made(made(20)), 12);
    }
}

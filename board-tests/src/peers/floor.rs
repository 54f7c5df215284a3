//! The bare receive loop: program `floor` of this crate.

use super::{Account, Setup};
use std::process::Command;

/// A buffer that a burst fills while the listener naps.
const SMALL: u32 = 64 << 10;

pub(super) fn configure(command: &mut Command, setup: &Setup<'_>) {
    command.args(["--buffer", &setup.buffer().to_string()]);
    if setup.buffer() <= SMALL {
        // A nap would let it run over.
        command.args(["--nap-ms", "0"]);
    }
}

/// Its last line: `new N update N destroy N other N`.
pub(super) fn account(said: &str) -> Account {
    let words: Vec<&str> = said.lines().last().unwrap_or_default().split(' ').collect();
    let count = |name: &str| {
        let at = words.iter().position(|word| *word == name);
        at.and_then(|at| words.get(at + 1)?.parse().ok()).unwrap_or(0u64)
    };
    Account {
        events: Some(count("new") + count("update") + count("destroy")),
        destroys: count("destroy"),
        tuples: None,
        keys: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_last_line_is_read() {
        let account = account("ready\nnew 7 update 2 destroy 5 other 0\n");
        assert_eq!((account.events, account.destroys), (Some(14), 5));
    }
}

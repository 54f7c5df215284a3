//! Every flow that crosses the board is accounted as the hosts made it.

use std::time::Duration;

use board_tests::board::{Model, Options};
use board_tests::lab::Plan;

use crate::{Outcome, SINK, booted, records};

pub(crate) fn equal(model: &'static Model) -> Outcome {
    let (mut board, mut hosts) = booted(model, "small-64mb", &Options::default())?;
    let ledger = hosts.run(&Plan::of(300, 11), |_| {})?;
    let inner = ledger.inner_differences();
    assert!(inner.is_empty(), "{inner:?}");
    let seen = board.status_until("the flows to be seen", |status| status.flows() >= 300)?;
    assert_eq!(seen.flows(), board.flows()?.len() as u64);

    // A person at the console sees the same flows.
    let limit = Duration::from_secs(20);
    let shown = board.console.type_line("status", "router# ", limit)?;
    assert!(shown.contains(&format!("{}", seen.flows())), "{shown}");

    board.ask("flush")?;
    board.status_until("every record to be written", |status| {
        status.flows() == 0 && status.sink("owed") == 0 && status.stat("events_destroy") >= 300
    })?;
    let records = records(&board, SINK)?;
    let wrong = ledger.check(&records);
    assert!(wrong.is_empty(), "{wrong:?}");
    Ok(())
}

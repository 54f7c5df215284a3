//! The loss ledger of this daemon: puts together what queue, engine and processes count.

use super::shared::{Word, Words};
use crate::engine::Engine;
use crate::losses::{Cause, Losses, Span, of_queue};
use crate::retry::Loss;
use crate::time::Now;

/// All that was lost, as it stands now.
pub(super) fn collect(engine: &Engine<'_>, words: Words, now: Now) -> Losses {
    let mut losses = Losses::default();
    let (queue, ledger) = (engine.queue(), engine.ledger());
    for loss in Loss::ALL {
        losses.set(of_queue(loss), queue.lost(loss), None);
    }
    losses.set(Cause::SinkRemoved, queue.removed(), None);
    let span = |from, to| Span::since_boot(now, words.get(from), words.get(to));
    let valve = span(Word::ValveFrom, Word::ValveTo);
    losses.set_flows(Cause::Valve, u64::from(words.get(Word::ValveLost)), valve);
    losses.set_flows(Cause::Unheard, 0, span(Word::TakeoverFrom, Word::TakeoverTo));
    let power_cut = Span::until_boot(now, words.get(Word::UnknownSince));
    losses.set_flows(Cause::PowerCut, 0, power_cut);
    let vanished = span(Word::VanishedFrom, Word::VanishedTo);
    losses.set_flows(Cause::VanishedUnseen, ledger.vanished_unseen, vanished);
    losses.set_flows(Cause::Malformed, ledger.malformed, None);
    losses.set_flows(Cause::Truncated, ledger.truncated, None);
    losses.set_flows(Cause::TableFull, ledger.table_full, None);
    losses
}

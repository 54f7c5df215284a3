//! Flows that ended since a save began, by their accounts: what is in the image but lives no more,
//! should the daemon end before the next one.
//!
//! Only so many are known by name; with more, the image is not taken for the last one. Flows whose
//! start is not known have no account and are not noted.

use super::Engine;
use crate::checkpoint::account;
use crate::record::Record;
use crate::time::millis;

/// So many at most.
const MOST: usize = 64;

/// The accounts, while they are noted.
#[derive(Debug, Default)]
pub(super) struct Ended {
    accounts: heapless::Vec<u64, MOST>,
    noted: bool,
    /// Flows that had begun before.
    begun: u64,
}

impl Ended {
    pub(super) fn note(&mut self, record: &Record) {
        if !self.noted {
            return;
        }
        let Some(start_ns) = record.start_ns else { return };
        let account = account(&record.orig, record.zone, millis(start_ns));
        self.noted = self.accounts.push(account).is_ok();
    }
}

impl Engine<'_> {
    /// From here on the accounts of flows that end are noted, for [`Self::ended`].
    pub fn note_ended(&mut self) {
        let begun = self.stats.events_new;
        self.ended = Ended { noted: true, begun, ..Ended::default() };
    }

    /// Whether flows have begun since [`Self::note_ended`].
    #[must_use]
    pub fn has_begun_others(&self) -> bool {
        self.stats.events_new != self.ended.begun
    }

    /// The accounts of all flows that were reported as ended since [`Self::note_ended`]; none if
    /// they are too many.
    #[must_use]
    pub fn ended(&self) -> Option<&[u64]> {
        self.ended.noted.then_some(&self.ended.accounts)
    }
}

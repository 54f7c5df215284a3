//! How a saved expectation is asked for.

use super::recipe::text;
use super::timeouts::Timeouts;
use crate::checkpoint::SavedExpect;
use crate::wire::{Expect, ExpectNat};

/// The request ([`expect_create`](crate::wire::request::expect_create)) that makes a saved
/// expectation; none if it timed out meanwhile.
#[must_use]
pub fn expect_request<'a>(expect: &'a SavedExpect, timeouts: &Timeouts) -> Option<Expect<'a>> {
    Some(Expect {
        master: Some(expect.master),
        tuple: Some(expect.tuple),
        mask: Some(expect.mask),
        timeout_s: Some(timeouts.remaining(expect.timeout_s)?),
        help_name: expect.helper.as_ref().map(text),
        zone: Some(expect.zone).filter(|&zone| zone != 0),
        flags: Some(expect.flags),
        class: Some(expect.class),
        nat: expect.nat.map(|(dir, tuple)| ExpectNat { dir, tuple }),
        function: expect.function.as_ref().map(text),
        ..Expect::default()
    })
}

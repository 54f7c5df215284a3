//! How a saved expectation is asked for.
//!
//! What Linux 6.18 does, seen by requests after real ones of FTP:
//!
//! * The master must be there (ENOENT) and have a helper (EOPNOTSUPP); a class that the master's
//!   helper does not have, and a function that is not known, are EINVAL.
//! * `CTA_EXPECT_TIMEOUT` is left unread in a create: the expectation gets the time of its helper's
//!   policy (300 s for FTP). A second request without `NLM_F_CREATE` sets it.
//! * `CTA_EXPECT_HELP_NAME` tells the master's helper in a dump, and is left unread in a create; so
//!   is a name that there is not. Older kernels read it, and differently: it is the helper that the
//!   *expected* flow will get, which for data connections of FTP is none; but without it they leave
//!   the class unread. So it is given where the class is not the first.

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
        help_name: expect.helper.as_ref().map(text).filter(|_| expect.class != 0),
        zone: Some(expect.zone).filter(|&zone| zone != 0),
        flags: Some(expect.flags),
        class: Some(expect.class),
        nat: expect.nat.map(|(dir, tuple)| ExpectNat { dir, tuple }),
        function: expect.function.as_ref().map(text),
        ..Expect::default()
    })
}

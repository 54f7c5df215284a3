//! Tests of the ctnetlink codec: `firmware_ctd::wire`.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod capture;
mod captures;
mod differential;
mod hostile;
mod messages;
mod requests;
mod roundtrip;
mod support;
mod values;

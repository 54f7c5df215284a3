//! Tests of the ctnetlink codec: `firmware_ctd::wire`.

mod capture;
mod captures;
mod differential;
mod hostile;
mod messages;
mod roundtrip;
mod support;
mod values;

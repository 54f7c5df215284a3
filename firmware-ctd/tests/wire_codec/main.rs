//! Tests of the ctnetlink codec: `firmware_ctd::wire`.

mod capture;
mod captures;
mod hostile;
mod roundtrip;
mod support;
mod values;

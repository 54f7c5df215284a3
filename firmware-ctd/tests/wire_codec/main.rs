//! Tests of the ctnetlink codec: `firmware_ctd::wire`.

mod roundtrip;
mod support;
mod values;

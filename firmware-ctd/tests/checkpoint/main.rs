//! The checkpoint image: what goes in comes out, and what is damaged is refused.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod arbitrary;
mod damage;
mod golden;
mod roundtrip;
mod size;
mod support;
mod traffic;

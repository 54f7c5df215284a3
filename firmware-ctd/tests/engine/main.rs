//! The engine against a simulated kernel.
//!
//! [`kernel`] keeps the truth and speaks ctnetlink: bounded sockets, repeated destroys, missed
//! NEWs, dumps whose parts are made before they are read, clocks that are stepped. [`edge`] drives
//! the engine as the daemon does. [`truth`] compares what was reported with what happened.
//! [`scenario`] has one test for each case that has a name, [`random`] runs whatever chance gives.
#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod carry;
mod edge;
mod kernel;
mod random;
mod reboot;
mod scenario;
mod truth;

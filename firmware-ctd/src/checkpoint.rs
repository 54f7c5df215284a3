//! Checkpoints: the flows that live, carried over a reboot.
//!
//! Sans-IO: what is saved ([`SavedFlow`], [`SavedExpect`]) and how it is written down. Where the
//! bytes go, and how flows come back into the kernel, is the business of the edge.

pub mod frame;
pub mod keep;
pub mod plan;
mod saved;

pub use keep::Keep;
pub use saved::{SavedExpect, SavedFlow, account};

//! Checkpoints: the flows that live, carried over a reboot.
//!
//! Sans-IO: what is saved ([`SavedFlow`], [`SavedExpect`]), which flows ([`keep`]) and when
//! ([`plan`]), and how it is written down ([`image`]). Where the bytes go, and how flows come back
//! into the kernel, is the business of the edge.

mod addresses;
pub mod age;
mod coder;
mod crc;
mod decode;
mod encode;
mod flow;
pub mod frame;
pub mod image;
pub mod keep;
mod kind;
pub mod pair;
pub mod plan;
mod saved;

pub use decode::Reader;
pub use encode::{EncodeError, Encoder, EncoderMemory, Limit};
pub use image::{Facts, Fault, FaultKind, Section, SectionSummary, Summary};
pub use keep::Keep;
pub use saved::{SavedExpect, SavedFlow, account};

//! The core of `firmware-ctd`: all that it does, and no input or output.
//!
//! Sans-IO: nothing here opens, receives, sleeps, logs or asks for the time. Time and randomness are
//! parameters; the same inputs give the same outputs. (A checkpoint is read from and written to
//! whatever its caller gives it.) There is no `unsafe`.
//!
//! It is a crate of its own because its code runs for every event and is compiled for speed and
//! size, even where the rest is compiled for size alone.

pub mod checkpoint;
pub mod engine;
pub mod filter;
pub mod hash;
pub mod ipfix;
pub mod losses;
pub mod nearest;
pub mod pressure;
pub mod probe;
pub mod record;
pub mod restore;
pub mod retry;
pub mod stats;
pub mod table;
pub mod time;
pub mod wire;
pub mod words;

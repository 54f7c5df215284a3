//! `firmware-ctd` makes a router's connection tracking dependable.
//!
//! The core is sans-IO: [`wire`], [`table`] and [`engine`] never open, read, sleep, log or ask
//! for the time. Time and randomness are parameters; the same inputs give the same outputs. The
//! edge ([`daemon`]) is one thread around one epoll and does all the input and output.
//!
//! `unsafe` stands in one file only, `daemon/sys.rs`.

pub mod checkpoint;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod engine;
pub mod exit;
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
mod words;

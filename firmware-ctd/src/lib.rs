//! `firmware-ctd` makes a router's connection tracking dependable.
//!
//! The core is sans-IO and a crate of its own, `firmware_ctd_core`; its modules are found here too:
//! [`wire`], [`table`] and [`engine`] never open, read, sleep, log or ask for the time. The
//! edge ([`daemon`]) is one thread around one epoll and does all the input and output.
//!
//! `unsafe` stands in one file only, `daemon/sys.rs`.

pub mod cli;
pub mod config;
pub mod daemon;
pub mod exit;

pub use firmware_ctd_core::{
    checkpoint, engine, filter, hash, ipfix, losses, nearest, pressure, probe, record, restore,
    retry, stats, table, time, wire, words,
};

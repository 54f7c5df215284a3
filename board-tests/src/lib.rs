//! The lab of `firmware-ctd`.

pub mod board;
pub mod collectors;
pub mod daemon;
pub mod demo;
pub mod lab;
pub mod load;
pub mod measure;
pub mod peers;
pub mod runner;

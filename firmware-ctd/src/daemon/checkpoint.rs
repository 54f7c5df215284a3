//! Checkpoints on the edge: the files.

pub mod files;
pub mod show;

//! Tests of the configuration inside the crate.

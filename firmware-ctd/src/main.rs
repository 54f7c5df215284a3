//! The `firmware-ctd` program.

fn main() {}

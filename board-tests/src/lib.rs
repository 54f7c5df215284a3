//! The lab of `firmware-ctd`.

pub mod load;

//! The lab of `firmware-ctd`.

pub mod lab;
pub mod load;

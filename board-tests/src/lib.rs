//! The lab of `firmware-ctd`.

//! Exit codes, named after `sysexits.h`.
//!
//! A script can rely on them: 0 and these are the only codes that the program ends with.

/// Success.
pub const OK: u8 = 0;
/// The command line is wrong.
pub const USAGE: u8 = 64;
/// The data in a file is wrong.
pub const DATA: u8 = 65;
/// The daemon does not answer, or the kernel lacks what is asked for.
pub const UNAVAILABLE: u8 = 69;
/// A fault of the program itself.
pub const SOFTWARE: u8 = 70;
/// Reading or writing failed.
pub const IO: u8 = 74;
/// It is not done yet; trying again may help.
pub const TRY_AGAIN: u8 = 75;
/// A privilege is missing.
pub const NO_PERMISSION: u8 = 77;
/// The configuration is wrong.
pub const CONFIG: u8 = 78;

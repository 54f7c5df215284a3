//! What a router of the tests is made of, in a network namespace as on an emulated board:
//! interfaces, neighbours, firewall, who has which address; and the words in which a board and its
//! tests talk.
//!
//! Decides nothing about what is tested.

pub mod channel;
pub mod error;
pub mod link;
pub mod netlink;
pub mod nft;
pub mod topology;

//! Who calls, and what they may do.

pub mod jwt;
pub mod keyring;
pub mod link;
pub mod principal;

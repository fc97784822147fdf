//! Who calls, and what they may do.

pub mod api_key;
pub mod digest;
pub mod jwks;
pub mod jwt;
pub mod keyring;
pub mod link;
pub mod network;
pub mod principal;
pub mod signature;
pub mod webhook;

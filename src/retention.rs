//! What leaves: conversions that have expired, bytes whose rows are gone, and bytes that never had a row.
//!
//! Rows go first, and with them, in one transaction, the keys of their bytes into the table `erasure`. So nothing is forgotten
//! wherever a node dies: before the commit nothing has happened, after it any node erases what the table says.

pub mod eraser;
pub mod expiry;
pub mod orphans;

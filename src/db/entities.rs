//! The tables, one module each. Constraints and triggers are in the `migrations` crate.

pub mod api_key;
pub mod asset;
pub mod batch;
pub mod conversion;
pub mod event;
pub mod node;
pub mod webhook_delivery;

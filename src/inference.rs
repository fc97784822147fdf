//! Models in this process: what a model is, which conversions share a GPU batch, and the threads
//! that own the devices. Imports nothing else of this crate.
//!
//! The way of a picture: [`engine::Engine::enqueue`] puts it into the queue; when a device is free its
//! [`executor::Executor`] asks the [`batcher::Batcher`] who goes together, encodes them, and hands each
//! caller its [`handle::Codes`]; the caller then asks the field by [`engine::Engine::query`] as often as it needs.
//!
//! What a model must keep is listed in [`contract`].
//!
//! - Only the pure modules decide: `batcher` (who goes together), `memory` (how many may).
//! - `torch` is the sole user of `tch`, `cuda` of `libloading` and NVML. All else builds without libtorch.
//! - A row of a batch never depends on its neighbours on a CPU: rows are encoded one by one, and a
//!   query's passes are cut by its own points alone.

pub mod backend;
pub mod batcher;
pub mod catalog;
pub mod contract;
#[cfg(feature = "torch")]
pub mod cuda;
pub mod device;
pub mod engine;
pub mod error;
pub mod executor;
pub mod handle;
pub mod limits;
pub mod load;
pub mod manifest;
pub mod measurements;
pub mod memory;
pub mod packing;
pub mod queue;
pub mod sampling;
pub mod staging;
pub mod starting;
#[cfg(feature = "torch")]
pub mod torch;

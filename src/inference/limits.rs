//! What a device can do with a model when nothing else is in the way: its methods in a loop, for benchmarks.

#[cfg(not(feature = "torch"))]
use std::time::Instant;
use std::{path::PathBuf, time::Duration};

use super::{device::DeviceChoice, error::EngineError};

/// What to measure.
#[derive(Debug, Clone)]
pub struct LimitsOptions {
    pub models_dir: PathBuf,
    pub model: String,
    /// The first of these.
    pub device: DeviceChoice,
    pub cpu_threads: Option<usize>,
}

/// One kind of pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Pictures, or rows of codes.
    pub rows: usize,
    /// Points of each row; 0 for an encode or a denoising step.
    pub points: usize,
    /// Time of one of many, one begun while the one before is computed.
    pub pass: Duration,
}

/// What was measured.
#[derive(Debug, Clone)]
pub struct Limits {
    /// The maker's name.
    pub device: String,
    pub encode: Vec<Limit>,
    /// One denoising step; empty of a model that does not iterate.
    pub denoise: Vec<Limit>,
    pub query: Vec<Limit>,
}

#[cfg(feature = "torch")]
pub use super::cuda::kernels::KernelWatch;

/// Without libtorch there are no kernels to watch.
#[cfg(not(feature = "torch"))]
#[derive(Debug, Clone, Copy)]
pub enum KernelWatch {}

#[cfg(not(feature = "torch"))]
impl KernelWatch {
    /// Begins to watch.
    ///
    /// # Errors
    /// Always.
    pub fn begin() -> Result<Self, String> {
        Err(EngineError::NoTorch.to_string())
    }

    /// The share of the time in which a kernel ran.
    ///
    /// # Errors
    /// Never: there is no such watch.
    pub fn share(&self, _from: Instant, _to: Instant) -> Result<f64, String> {
        match *self {}
    }
}

/// Measures a model's methods. Blocks for seconds.
///
/// # Errors
/// [`EngineError`] if there is no such device or model, or a pass fails.
#[cfg(feature = "torch")]
pub fn measure(options: LimitsOptions) -> Result<Limits, EngineError> {
    super::torch::measure_limits(options)
}

/// Without libtorch there is nothing to measure.
///
/// # Errors
/// Always [`EngineError::NoTorch`].
#[cfg(not(feature = "torch"))]
pub fn measure(_options: LimitsOptions) -> Result<Limits, EngineError> {
    Err(EngineError::NoTorch)
}

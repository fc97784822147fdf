//! What can go wrong in the engine, as its callers see it.

use std::{fmt, sync::Arc};

use super::{device::DeviceId, manifest::ModelError, sampling::OutOfSpan};

/// The model's methods, as errors and metrics name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    Encode,
    Begin,
    Denoise,
    Query,
    Matte,
}

impl Operation {
    /// The method's name in the contract.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Encode => "encode",
            Self::Begin => "begin",
            Self::Denoise => "denoise",
            Self::Query => "query",
            Self::Matte => "matte",
        }
    }

    /// Whether a pass takes milliseconds even where many share it, where the others take tens of them.
    #[must_use]
    pub fn is_short(self) -> bool {
        matches!(self, Self::Query | Self::Matte)
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// Why the engine did not start, or did not answer. Cheap to clone: one failed pass may concern several callers.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EngineError {
    /// As many wait as may.
    #[error("the engine is full: {pending_max} conversions wait already")]
    Overloaded { pending_max: usize },
    /// No such model here, or one that was refused at the start.
    #[error("the model `{model}` is not available")]
    ModelUnavailable {
        model: String,
        source: Option<Arc<ModelError>>,
    },
    /// The models folder cannot be listed.
    #[error("the models cannot be looked for")]
    Models { source: Arc<ModelError> },
    /// There is a models folder and nothing in it that can be served.
    #[error("no usable model in {folder}; found: {found}")]
    NoModel { folder: String, found: String },
    /// The model has no method `matte`.
    #[error("the model `{model}` cannot separate an object from its background")]
    NoMatte { model: String },
    /// The image has not the number of values that the model's manifest says.
    #[error("an image for `{model}` has {expected} values, not {actual}")]
    ImageSize {
        model: String,
        expected: usize,
        actual: usize,
    },
    /// An option of the denoising is outside of what the model allows.
    #[error(transparent)]
    Sampling(#[from] OutOfSpan),
    /// Not even a single image fits.
    #[error("{device} has not enough memory for {operation}")]
    OutOfMemory {
        device: DeviceId,
        operation: Operation,
    },
    /// The model gave a NaN or an infinity.
    #[error("{operation} gave values that are not finite")]
    NonFinite { operation: Operation },
    /// The device failed for good; its conversions must start again elsewhere.
    #[error("{device} is lost: {reason}")]
    DeviceLost {
        device: DeviceId,
        reason: String,
        /// Whether this conversion was in a pass on the device then: it may be the cause.
        took_part: bool,
    },
    /// libtorch refused or failed.
    #[error("{operation} failed on {device}: {reason}")]
    Torch {
        device: DeviceId,
        operation: Operation,
        reason: String,
    },
    /// A bug: the code around the model panicked. The engine goes on.
    #[error("{operation} panicked on {device}")]
    Panicked {
        device: DeviceId,
        operation: Operation,
    },
    /// The engine is stopping or has stopped.
    #[error("the engine has stopped")]
    Stopped,
    /// A device was asked for that is not there.
    #[error("{wanted} cannot be used: {reason}")]
    NoDevice { wanted: String, reason: String },
    /// The system gave no thread for a device.
    #[error("no thread could be started for {device}")]
    Thread {
        device: DeviceId,
        source: Arc<std::io::Error>,
    },
    /// This build has no libtorch.
    #[error("this build has no libtorch (cargo feature `torch`): it can only serve the role `api`")]
    NoTorch,
}

impl EngineError {
    /// Whether the same conversion may succeed later or on another node.
    #[must_use]
    pub fn retryable(&self) -> bool {
        match self {
            // Another node may have the model, or a rolling update will bring it here.
            Self::Overloaded { .. }
            | Self::ModelUnavailable { .. }
            | Self::OutOfMemory { .. }
            | Self::DeviceLost { .. }
            | Self::Stopped => true,
            // The same input through the same model will do the same again; settings stay as they are.
            Self::Models { .. }
            | Self::NoModel { .. }
            | Self::NoMatte { .. }
            | Self::ImageSize { .. }
            | Self::Sampling(_)
            | Self::NonFinite { .. }
            | Self::Torch { .. }
            | Self::Panicked { .. }
            | Self::NoDevice { .. }
            | Self::Thread { .. }
            | Self::NoTorch => false,
        }
    }
}

//! Why a conversion ended without a mesh.

use super::stage::Interrupt;
use crate::{
    conversion::Failure,
    decoder::error::DecodeError,
    image::{error::ImageError, frame::FrameError},
    inference::error::EngineError,
    mesh::{MeshError, WriteError},
};

/// What stopped a conversion.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// Not a failure: somebody wants it to stop.
    #[error("the conversion was interrupted")]
    Interrupted(#[from] Interrupt),
    #[error("the picture can't be read")]
    Image(#[from] ImageError),
    #[error("the picture can't be decoded")]
    Decode(#[from] DecodeError),
    #[error("the picture can't be framed")]
    Frame(#[from] FrameError),
    #[error("the engine could not do its part")]
    Engine(#[from] EngineError),
    #[error("there is no usable surface")]
    Mesh(#[from] MeshError),
    #[error("a mesh file can't be written")]
    Write(#[from] WriteError),
    /// The mesh doesn't look like the picture, by the option `minSilhouetteAgreement`.
    #[error("the outlines agree by {agreement:.3}, less than {least}")]
    Unlike { agreement: f64, least: f64 },
    /// The option `removeBackground` and the model don't fit.
    #[error("the model {model} can't remove backgrounds")]
    NoMatte { model: String },
    /// A bug, caught.
    #[error("a step panicked: {reason}")]
    Panicked { reason: String },
}

impl PipelineError {
    /// The failure as the owner will read it. Causes of the server's own are not told, only logged.
    #[must_use]
    pub fn failure(&self) -> Failure {
        let ours = |retryable| {
            Failure {
            code: "INTERNAL",
            message: "The server could not finish this conversion. Retry it, or report it if that fails too.".into(),
            retryable,
        }
        };
        let lasting = |code, message| Failure {
            code,
            message,
            retryable: false,
        };
        match self {
            Self::Image(error) => lasting(error.code().as_str(), error.to_string()),
            Self::Decode(DecodeError::Image(error)) => lasting(error.code().as_str(), error.to_string()),
            Self::Decode(error @ DecodeError::Forbidden { .. }) => lasting("INVALID_IMAGE", error.to_string()),
            // A crash or a timeout may have been the picture's doing: a few tries tell.
            Self::Decode(_) => ours(true),
            Self::Frame(FrameError::Nothing) => lasting(
                "CONVERSION_FAILED",
                "There is nothing in the picture: send one that shows an object clearly.".into(),
            ),
            Self::Mesh(MeshError::Empty) => lasting(
                "CONVERSION_FAILED",
                "The model saw no solid object in the picture: send one that shows a single object clearly.".into(),
            ),
            Self::Mesh(MeshError::TooComplex { .. }) => lasting(
                "CONVERSION_FAILED",
                "The surface would be too intricate: ask for a lower resolution, or send a clearer picture.".into(),
            ),
            Self::Unlike { agreement, least } => lasting(
                "CONVERSION_FAILED",
                format!(
                    "The mesh's outline agrees with the picture's by {agreement:.2}, and minSilhouetteAgreement asks for {least}: send a clearer picture, or ask for less."
                ),
            ),
            Self::NoMatte { .. } => lasting("INVALID_INPUT", self.to_string()),
            Self::Engine(EngineError::Sampling(error)) => lasting("INVALID_INPUT", error.to_string()),
            Self::Engine(EngineError::ModelUnavailable { .. }) => Failure {
                code: "MODEL_UNAVAILABLE",
                message: "The model is not available on the server now. Retry later, or choose another.".into(),
                retryable: true,
            },
            Self::Engine(EngineError::NonFinite { .. }) | Self::Mesh(MeshError::NonFinite { .. }) => lasting(
                "CONVERSION_FAILED",
                "The model could not make sense of this picture: try another one, or another model.".into(),
            ),
            Self::Engine(error) => ours(error.retryable()),
            Self::Interrupted(_) => ours(true),
            Self::Frame(_) | Self::Mesh(_) | Self::Write(_) | Self::Panicked { .. } => ours(false),
        }
    }
}

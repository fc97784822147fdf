//! Why a picture did not get decoded.

use std::{io, time::Duration};

use crate::image::{
    ImageFormat,
    error::{ImageError, ImageErrorCode},
};

/// How a child ended, or why it had to be ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// Killed by this signal.
    Signal(i32),
    /// It exited by itself with this status.
    Exit(i32),
    /// It is alive but answered what nobody asked for.
    OutOfTurn,
    /// How is not known.
    Unknown,
}

impl std::fmt::Display for Ending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Signal(signal) => write!(f, "killed by signal {signal}"),
            Self::Exit(status) => write!(f, "exit status {status}"),
            Self::OutOfTurn => write!(f, "an answer out of turn"),
            Self::Unknown => write!(f, "cause unknown"),
        }
    }
}

/// Why there are no pixels.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The picture is at fault. A child that ran out of its own memory limit counts as
    /// [`ImageError::TooMuchMemory`].
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The kernel stopped the decoder at a system call that no picture needs.
    #[error("this {} made its decoder do what no picture needs: save or export it again", .format.name())]
    Forbidden { format: ImageFormat },
    #[error("no decoder was free within {wait_max:?}")]
    Busy { wait_max: Duration },
    #[error("the decoder did not finish within {time_max:?}")]
    TimedOut { time_max: Duration },
    #[error("the decoder ended before its answer: {ending}")]
    Crashed { ending: Ending },
    #[error("could not start a decoder")]
    Spawn { source: io::Error },
}

impl DecodeError {
    /// Whether the same picture may fare better later. A picture that crashes or outlasts every decoder is told
    /// from a machine in trouble by the number of attempts alone.
    #[must_use]
    pub fn retryable(&self) -> bool {
        match self {
            Self::Image(_) | Self::Forbidden { .. } => false,
            Self::Busy { .. }
            | Self::TimedOut { .. }
            | Self::Crashed { .. }
            | Self::Spawn { .. } => true,
        }
    }

    /// The contract's code if the picture is at fault; the others are the server's own troubles.
    #[must_use]
    pub fn image_code(&self) -> Option<ImageErrorCode> {
        match self {
            Self::Image(error) => Some(error.code()),
            Self::Forbidden { .. } => Some(ImageErrorCode::Invalid),
            Self::Busy { .. }
            | Self::TimedOut { .. }
            | Self::Crashed { .. }
            | Self::Spawn { .. } => None,
        }
    }
}

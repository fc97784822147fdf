//! Why a picture is refused, in words for whoever sent it.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::ImageFormat;

/// What is wrong with a picture. Each sentence says what to do; none names a path or holds the file's bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum ImageError {
    #[error("the file is empty: send the bytes of a PNG, JPEG or WebP picture")]
    Empty,
    #[error("this is {found}, not a picture: send a PNG, JPEG or WebP file")]
    NotAPicture { found: Cow<'static, str> },
    #[error("{found} isn't supported: convert it to PNG, JPEG or WebP")]
    OtherFormat { found: Cow<'static, str> },
    #[error("this {} is animated: send a single frame as a still picture", .format.name())]
    Animated { format: ImageFormat },
    #[error("this {} uses {feature}, which isn't supported: save it again as an ordinary PNG or JPEG", .format.name())]
    Feature {
        format: ImageFormat,
        feature: Cow<'static, str>,
    },
    #[error(
        "the file has {bytes} bytes where {bytes_max} are allowed: send a smaller or more compressed picture"
    )]
    TooManyBytes { bytes: u64, bytes_max: u64 },
    #[error(
        "the picture has {width} × {height} pixels where {pixels_max} pixels in all are allowed: scale it down first"
    )]
    TooManyPixels {
        width: u32,
        height: u32,
        pixels_max: u64,
    },
    #[error(
        "the picture has {width} × {height} pixels where a side may have {side_max}: scale it down first"
    )]
    SideTooLong {
        width: u32,
        height: u32,
        side_max: u32,
    },
    #[error("the picture needs more memory to decode than is allowed: scale it down first")]
    TooMuchMemory,
    #[error("the picture has {width} × {height} pixels: send one with at least one pixel")]
    NoPixels { width: u32, height: u32 },
    #[error("the colour profile of this {} {reason}: save it again in sRGB", .format.name())]
    Profile {
        format: ImageFormat,
        reason: Cow<'static, str>,
    },
    #[error("this {} is {other} as well: send the picture alone", .format.name())]
    Polyglot {
        format: ImageFormat,
        other: Cow<'static, str>,
    },
    #[error("this is a {} and was sent as {declared}: name it rightly, or not at all", .format.name())]
    Mislabelled {
        format: ImageFormat,
        declared: Cow<'static, str>,
    },
    #[error("the {} ends before its picture does: send the whole file", .format.name())]
    Truncated { format: ImageFormat },
    #[error("the {} is damaged ({reason}): save or export it again", .format.name())]
    Damaged {
        format: ImageFormat,
        reason: Cow<'static, str>,
    },
}

/// The contract's code for a refused picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ImageErrorCode {
    /// `INVALID_IMAGE`: no picture, or a broken one.
    Invalid,
    /// `IMAGE_TOO_LARGE`: over a limit on bytes, pixels or memory.
    TooLarge,
    /// `UNSUPPORTED_IMAGE`: a picture of a kind that isn't taken.
    Unsupported,
}

impl ImageErrorCode {
    /// The name in the contract.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "INVALID_IMAGE",
            Self::TooLarge => "IMAGE_TOO_LARGE",
            Self::Unsupported => "UNSUPPORTED_IMAGE",
        }
    }
}

impl ImageError {
    /// Which of the contract's codes tells this to a client.
    #[must_use]
    pub fn code(&self) -> ImageErrorCode {
        match self {
            Self::Empty
            | Self::NotAPicture { .. }
            | Self::NoPixels { .. }
            | Self::Polyglot { .. }
            | Self::Mislabelled { .. }
            | Self::Truncated { .. }
            | Self::Damaged { .. } => ImageErrorCode::Invalid,
            Self::OtherFormat { .. }
            | Self::Animated { .. }
            | Self::Feature { .. }
            | Self::Profile { .. } => ImageErrorCode::Unsupported,
            Self::TooManyBytes { .. }
            | Self::TooManyPixels { .. }
            | Self::SideTooLong { .. }
            | Self::TooMuchMemory => ImageErrorCode::TooLarge,
        }
    }

    pub(super) fn profile(format: ImageFormat, reason: &'static str) -> Self {
        Self::Profile {
            format,
            reason: reason.into(),
        }
    }

    pub(super) fn damaged(format: ImageFormat, reason: &'static str) -> Self {
        Self::Damaged {
            format,
            reason: reason.into(),
        }
    }
}

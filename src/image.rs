//! Pictures: bytes of strangers become an [`InputImage`], whose container was checked without decoding a pixel;
//! an `InputImage` becomes [`pixels::Pixels`]; and those are framed for the model. Pure.
//!
//! Decoding itself ([`decode`]) runs codecs on hostile bytes: servers do it in the processes of
//! [`crate::decoder`], never in their own.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use self::{error::ImageError, sniff::Kind};

mod content;
pub mod declared;
pub mod decode;
pub mod error;
pub mod frame;
mod jpeg;
pub mod matte;
mod object;
mod orientation;
pub mod pixels;
mod png;
mod profile;
mod sniff;
mod webp;

/// The longest side that any of the formats can express without extensions (JPEG's 16 bits). It keeps
/// every product of two sides and a pixel's bytes far inside 64 bits.
pub const SIDE_MAX: u32 = 65_535;

/// What a picture may cost before anybody decodes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageLimits {
    /// Size of the file, in bytes.
    pub bytes_max: u64,
    /// Width times height.
    pub pixels_max: u64,
}

/// The containers that are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ImageFormat {
    Png,
    Jpeg,
    WebP,
}

impl ImageFormat {
    /// As people write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Png => "PNG",
            Self::Jpeg => "JPEG",
            Self::WebP => "WebP",
        }
    }

    /// As HTTP writes it.
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Png => "image/png",
            Self::Jpeg => "image/jpeg",
            Self::WebP => "image/webp",
        }
    }
}

/// Sides in pixels, as a container's header claims them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sides {
    width: u32,
    height: u32,
}

/// What a look at a container has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Container {
    sides: Sides,
    /// Where the picture ends; what follows is none of it.
    end: usize,
}

/// The bytes of one still picture: a PNG, JPEG or WebP within the limits, whose container is whole, and which is nothing
/// else besides. Its pixels may still turn out to be damaged when they are decoded.
#[derive(Debug, Clone)]
pub struct InputImage {
    bytes: Bytes,
    format: ImageFormat,
    sides: Sides,
}

impl InputImage {
    /// Checks a file without decoding it; takes at most a pass over the bytes.
    ///
    /// # Errors
    /// Any [`ImageError`] but `Damaged` pixels, `Profile` and `TooMuchMemory`, which only decoding finds out.
    pub fn parse(bytes: Bytes, limits: &ImageLimits) -> Result<Self, ImageError> {
        let ImageLimits {
            bytes_max,
            pixels_max,
        } = *limits;
        if bytes.is_empty() {
            return Err(ImageError::Empty);
        }
        let size = bytes.len() as u64;
        if size > bytes_max {
            return Err(ImageError::TooManyBytes {
                bytes: size,
                bytes_max,
            });
        }
        let format = match sniff::kind(&bytes) {
            Kind::Accepted(format) => format,
            Kind::Broken(format) => {
                return Err(ImageError::damaged(format, "its signature is incomplete"));
            }
            Kind::OtherPicture(found) => {
                return Err(ImageError::OtherFormat {
                    found: found.into(),
                });
            }
            Kind::NoPicture(found) => {
                return Err(ImageError::NotAPicture {
                    found: found.into(),
                });
            }
        };
        let Container { sides, end } = match format {
            ImageFormat::Png => png::container(&bytes),
            ImageFormat::Jpeg => jpeg::container(&bytes),
            ImageFormat::WebP => webp::container(&bytes),
        }?;
        let Sides { width, height } = sides;
        if width == 0 || height == 0 {
            return Err(ImageError::NoPixels { width, height });
        }
        if width.max(height) > SIDE_MAX {
            return Err(ImageError::SideTooLong {
                width,
                height,
                side_max: SIDE_MAX,
            });
        }
        if u64::from(width) * u64::from(height) > pixels_max {
            return Err(ImageError::TooManyPixels {
                width,
                height,
                pixels_max,
            });
        }
        if let Some(other) = content::besides(&bytes, end) {
            return Err(ImageError::Polyglot {
                format,
                other: other.into(),
            });
        }
        Ok(Self {
            bytes,
            format,
            sides,
        })
    }

    /// The same picture without what it isn't shown by: of metadata, only orientation and colour space are left, and
    /// nothing of what follows or lies between. Pixels are not touched; decoded, both are the same.
    #[must_use]
    pub fn essential(&self) -> Self {
        let kept = match self.format {
            ImageFormat::Png => png::essential(&self.bytes),
            ImageFormat::Jpeg => jpeg::essential(&self.bytes),
            ImageFormat::WebP => webp::essential(&self.bytes),
        };
        Self {
            bytes: if kept == self.bytes {
                self.bytes.clone()
            } else {
                kept.into()
            },
            ..*self
        }
    }

    /// The colour space that the file names, if it does.
    fn profile(&self) -> Result<Option<profile::Profile>, ImageError> {
        match self.format {
            ImageFormat::Png => png::profile(&self.bytes),
            ImageFormat::Jpeg => jpeg::profile(&self.bytes),
            ImageFormat::WebP => webp::profile(&self.bytes),
        }
    }

    /// The file as it came.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Which container it is.
    #[must_use]
    pub fn format(&self) -> ImageFormat {
        self.format
    }

    /// The media type of its bytes, by their content and not by what the sender called them.
    #[must_use]
    pub fn media_type(&self) -> &'static str {
        self.format.media_type()
    }

    /// Width in pixels as stored: an EXIF orientation may swap it with the height when decoding.
    #[must_use]
    pub fn width(&self) -> u32 {
        self.sides.width
    }

    /// Height in pixels as stored.
    #[must_use]
    pub fn height(&self) -> u32 {
        self.sides.height
    }
}

#[cfg(test)]
mod tests;

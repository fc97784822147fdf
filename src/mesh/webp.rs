//! WebP with losses that can't be seen on small pictures: a few kilobytes where a PNG takes tens.

use webp::{Encoder, PixelLayout, WebPConfig, WebPMemory};

use super::WriteError;

/// How true colours are, 0 to 100: blocks begin to show below.
const QUALITY: f32 = 80.0;
/// The least effort, 0 to 6: the file is small enough.
const METHOD: i32 = 0;

/// Encodes rows of RGBA pixels, from the top, as a file.
///
/// # Errors
/// [`WriteError::WebP`].
pub(super) fn encode(rgba: &[u8], width: u32, height: u32) -> Result<WebPMemory, WriteError> {
    let mut config = WebPConfig::new().map_err(|()| WriteError::WebP("the settings"))?;
    config.quality = QUALITY;
    config.method = METHOD;
    Encoder::new(rgba, PixelLayout::Rgba, width, height)
        .encode_advanced(&config)
        .map_err(|_| WriteError::WebP("a picture"))
}

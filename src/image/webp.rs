//! A WebP's chunks: sides, animation and wholeness without decoding.

use super::{ImageFormat, Sides, error::ImageError};

const FORMAT: ImageFormat = ImageFormat::WebP;
/// `RIFF`, the size of what follows, `WEBP`.
const FILE_HEADER_BYTES: usize = 12;
/// In the flags of the extended header.
const ANIMATION: u8 = 0x02;

/// The sides of the canvas, if the file is as long as it says and the picture is a still one.
pub(super) fn sides(bytes: &[u8]) -> Result<Sides, ImageError> {
    let truncated = ImageError::Truncated { format: FORMAT };
    let size = u32_at(bytes, 4).ok_or(truncated.clone())?;
    let content = usize::try_from(size)
        .ok()
        .and_then(|size| size.checked_add(8))
        .and_then(|end| bytes.get(FILE_HEADER_BYTES..end))
        .ok_or(truncated.clone())?;

    let mut canvas = None;
    let mut at = 0;
    while at + 8 <= content.len() {
        let length = usize::try_from(u32_at(content, at + 4).ok_or(truncated.clone())?)
            .map_err(|_| ImageError::damaged(FORMAT, "a chunk is too long"))?;
        let data = content[at + 8..].get(..length).ok_or(truncated.clone())?;
        match &content[at..at + 4] {
            b"ANIM" | b"ANMF" => return Err(ImageError::Animated { format: FORMAT }),
            b"VP8X" if canvas.is_none() => canvas = Some(extended(data)?),
            b"VP8X" => {
                return Err(ImageError::damaged(
                    FORMAT,
                    "its extended header doesn't come first",
                ));
            }
            b"VP8 " => return agreed(canvas, lossy(data)?),
            b"VP8L" => return agreed(canvas, lossless(data)?),
            _ => {}
        }
        // Chunks are padded to an even length.
        at += 8 + length + length % 2;
    }
    Err(ImageError::damaged(FORMAT, "it has no picture data"))
}

/// The frame fills the canvas of a still picture; anything else is an attempt to be decoded larger than checked.
fn agreed(canvas: Option<Sides>, frame: Sides) -> Result<Sides, ImageError> {
    match canvas {
        Some(canvas) if canvas != frame => Err(ImageError::damaged(
            FORMAT,
            "its headers disagree about its size",
        )),
        _ => Ok(frame),
    }
}

fn extended(data: &[u8]) -> Result<Sides, ImageError> {
    let [flags, _, _, _, w0, w1, w2, h0, h1, h2, ..] = *data else {
        return Err(ImageError::damaged(
            FORMAT,
            "its extended header is too short",
        ));
    };
    if flags & ANIMATION != 0 {
        return Err(ImageError::Animated { format: FORMAT });
    }
    Ok(Sides {
        width: u32::from_le_bytes([w0, w1, w2, 0]) + 1,
        height: u32::from_le_bytes([h0, h1, h2, 0]) + 1,
    })
}

fn lossy(data: &[u8]) -> Result<Sides, ImageError> {
    // Three bytes of frame tag, three of start code, then 14 bits a side; the upper two ask for upscaling, which
    // decoders ignore.
    let [tag, _, _, 0x9d, 0x01, 0x2a, w0, w1, h0, h1, ..] = *data else {
        return Err(ImageError::damaged(FORMAT, "its frame header is broken"));
    };
    if tag & 1 != 0 {
        return Err(ImageError::damaged(
            FORMAT,
            "it doesn't start with a key frame",
        ));
    }
    Ok(Sides {
        width: u32::from(u16::from_le_bytes([w0, w1]) & 0x3fff),
        height: u32::from(u16::from_le_bytes([h0, h1]) & 0x3fff),
    })
}

fn lossless(data: &[u8]) -> Result<Sides, ImageError> {
    let [0x2f, b0, b1, b2, b3, ..] = *data else {
        return Err(ImageError::damaged(FORMAT, "its frame header is broken"));
    };
    let bits = u32::from_le_bytes([b0, b1, b2, b3]);
    Ok(Sides {
        width: (bits & 0x3fff) + 1,
        height: (bits >> 14 & 0x3fff) + 1,
    })
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let (value, _) = bytes.get(at..)?.split_first_chunk::<4>()?;
    Some(u32::from_le_bytes(*value))
}

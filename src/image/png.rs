//! A PNG's chunks: sides, animation and wholeness without inflating a byte.

use std::ops::Range;

use super::{ImageFormat, Sides, error::ImageError};

const SIGNATURE_BYTES: usize = 8;

/// A chunk's place in the file.
struct Chunk {
    kind: [u8; 4],
    data: Range<usize>,
    /// Length, kind, data and checksum together.
    whole: Range<usize>,
}

impl Chunk {
    /// The chunk that starts at `at`, if all of it is there.
    fn at(bytes: &[u8], at: usize) -> Option<Self> {
        let (length, rest) = bytes.get(at..)?.split_first_chunk::<4>()?;
        let (kind, rest) = rest.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        // Four bytes of checksum follow the data.
        if rest.len() < length.checked_add(4)? {
            return None;
        }
        let start = at + 8;
        Some(Self {
            kind: *kind,
            data: start..start + length,
            whole: at..start + length + 4,
        })
    }

    /// A decoder that doesn't know this kind can't show the picture (the specification's "critical" bit).
    fn is_critical(&self) -> bool {
        self.kind[0] & 0x20 == 0
    }
}

/// The header's sides, if every chunk up to the end mark is there and the picture is a still one.
pub(super) fn sides(bytes: &[u8]) -> Result<Sides, ImageError> {
    const FORMAT: ImageFormat = ImageFormat::Png;
    let mut sides = None;
    let mut data_seen = false;
    let mut at = SIGNATURE_BYTES;
    loop {
        let chunk = Chunk::at(bytes, at).ok_or(ImageError::Truncated { format: FORMAT })?;
        at = chunk.whole.end;
        match &chunk.kind {
            b"CgBI" => {
                return Err(ImageError::Feature {
                    format: FORMAT,
                    feature: "Apple's private PNG variant".into(),
                });
            }
            b"IHDR" if sides.is_none() => sides = Some(header(&bytes[chunk.data])?),
            b"IHDR" => return Err(ImageError::damaged(FORMAT, "it has two headers")),
            _ if sides.is_none() => {
                return Err(ImageError::damaged(FORMAT, "its header doesn't come first"));
            }
            b"acTL" => return Err(ImageError::Animated { format: FORMAT }),
            b"IDAT" => data_seen = true,
            b"PLTE" => {}
            b"IEND" if data_seen => return sides.ok_or(ImageError::Truncated { format: FORMAT }),
            b"IEND" => return Err(ImageError::damaged(FORMAT, "it has no picture data")),
            _ if chunk.is_critical() => {
                return Err(ImageError::Feature {
                    format: FORMAT,
                    feature: "an extension of the format".into(),
                });
            }
            _ => {}
        }
    }
}

fn header(data: &[u8]) -> Result<Sides, ImageError> {
    let [w0, w1, w2, w3, h0, h1, h2, h3, ..] = *data else {
        return Err(ImageError::damaged(
            ImageFormat::Png,
            "its header is too short",
        ));
    };
    Ok(Sides {
        width: u32::from_be_bytes([w0, w1, w2, w3]),
        height: u32::from_be_bytes([h0, h1, h2, h3]),
    })
}

/// The file without the chunks that pixels don't depend on. A profile or a text of a few hundred kilobytes can
/// inflate to gigabytes; what the decoder never sees can't.
///
/// `bytes` has passed [`sides`].
pub(super) fn essential(bytes: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(bytes.len());
    kept.extend_from_slice(&bytes[..SIGNATURE_BYTES]);
    let mut at = SIGNATURE_BYTES;
    while let Some(chunk) = Chunk::at(bytes, at) {
        at = chunk.whole.end;
        if matches!(
            &chunk.kind,
            b"IHDR" | b"PLTE" | b"tRNS" | b"eXIf" | b"IDAT" | b"IEND"
        ) {
            kept.extend_from_slice(&bytes[chunk.whole]);
        }
        if &chunk.kind == b"IEND" {
            break;
        }
    }
    kept
}

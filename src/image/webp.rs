//! A WebP's chunks: sides, animation and wholeness without decoding; and what of them its picture needs.

use super::{Container, ImageFormat, Sides, error::ImageError, orientation, profile::Profile};

const FORMAT: ImageFormat = ImageFormat::WebP;
/// `RIFF`, the size of what follows, `WEBP`.
const FILE_HEADER_BYTES: usize = 12;
/// In the flags of the extended header.
const ANIMATION: u8 = 0x02;
const EXIF: u8 = 0x08;
const ALPHA: u8 = 0x10;
const ICC: u8 = 0x20;

/// The sides of the canvas and where the file ends by its own word, if it is as long as that and the picture is a still
/// one.
pub(super) fn container(bytes: &[u8]) -> Result<Container, ImageError> {
    let end = end(bytes).ok_or(ImageError::Truncated { format: FORMAT })?;
    let sides = sides(&bytes[FILE_HEADER_BYTES..end])?;
    Ok(Container { sides, end })
}

/// The end of the file by its header, if there are as many bytes.
fn end(bytes: &[u8]) -> Option<usize> {
    let end = usize::try_from(u32_at(bytes, 4)?).ok()?.checked_add(8)?;
    (FILE_HEADER_BYTES..=bytes.len())
        .contains(&end)
        .then_some(end)
}

fn sides(content: &[u8]) -> Result<Sides, ImageError> {
    let truncated = ImageError::Truncated { format: FORMAT };
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

/// The chunks of a file that has passed [`container`], as far as they are whole.
fn chunks(bytes: &[u8]) -> impl Iterator<Item = ([u8; 4], &[u8])> {
    let content = &bytes[FILE_HEADER_BYTES..end(bytes).expect("the container was checked")];
    let mut at = 0;
    std::iter::from_fn(move || {
        let (kind, rest) = content.get(at..)?.split_first_chunk::<4>()?;
        let length = usize::try_from(u32_at(rest, 0)?).ok()?;
        let data = rest[4..].get(..length)?;
        at += 8 + length + length % 2;
        Some((*kind, data))
    })
}

/// The first chunk of a kind.
fn chunk<'a>(bytes: &'a [u8], kind: &[u8; 4]) -> Option<&'a [u8]> {
    let (_, data) = chunks(bytes).find(|(found, _)| found == kind)?;
    Some(data)
}

/// The file with what its picture is shown by alone: pixels, colour space, orientation.
///
/// `bytes` has passed [`container`].
pub(super) fn essential(bytes: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(bytes.len());
    kept.extend_from_slice(&bytes[..FILE_HEADER_BYTES]);
    let icc = chunk(bytes, b"ICCP");
    let turned = chunk(bytes, b"EXIF").and_then(orientation::of_exif);
    let mut is_extended = false;
    let mut is_shown = false;
    for (kind, data) in chunks(bytes) {
        match &kind {
            b"VP8X" if !is_extended && !is_shown => {
                is_extended = true;
                let mut header = data.to_vec();
                header[0] &= ALPHA;
                header[0] |= if icc.is_some() { ICC } else { 0 };
                header[0] |= if turned.is_some() { EXIF } else { 0 };
                push(&mut kept, kind, &header);
                if let Some(icc) = icc {
                    push(&mut kept, *b"ICCP", icc);
                }
            }
            b"ALPH" if is_extended && !is_shown => push(&mut kept, kind, data),
            b"VP8 " | b"VP8L" if !is_shown => {
                is_shown = true;
                push(&mut kept, kind, data);
            }
            _ => {}
        }
    }
    if is_extended && let Some(turned) = turned {
        push(&mut kept, *b"EXIF", &orientation::exif(turned));
    }
    let size =
        u32::try_from(kept.len() - 8).expect("it is no longer than the file was, but for a tag");
    kept[4..8].copy_from_slice(&size.to_le_bytes());
    kept
}

fn push(kept: &mut Vec<u8>, kind: [u8; 4], data: &[u8]) {
    let length = u32::try_from(data.len()).expect("it came out of a file whose length has 32 bits");
    kept.extend_from_slice(&kind);
    kept.extend_from_slice(&length.to_le_bytes());
    kept.extend_from_slice(data);
    if data.len() % 2 == 1 {
        kept.push(0);
    }
}

/// The colour profile in the file.
///
/// # Errors
/// [`ImageError::Profile`] if it can't be made out.
pub(super) fn profile(bytes: &[u8]) -> Result<Option<Profile>, ImageError> {
    chunk(bytes, b"ICCP")
        .map(|icc| Profile::embedded(FORMAT, icc))
        .transpose()
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

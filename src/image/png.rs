//! A PNG's chunks: sides, animation and wholeness without inflating a byte; and what of them its picture needs.

use std::{io::Read, ops::Range};

use ::image::metadata::Orientation;
use flate2::{Crc, read::ZlibDecoder};

use super::{
    Container, ImageFormat, Sides,
    error::ImageError,
    orientation,
    profile::{PROFILE_BYTES_MAX, Profile},
};

const FORMAT: ImageFormat = ImageFormat::Png;
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

/// The header's sides and where the end mark ends, if every chunk up to there is there and the picture is a still one.
pub(super) fn container(bytes: &[u8]) -> Result<Container, ImageError> {
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
            b"IEND" if data_seen => {
                let sides = sides.ok_or(ImageError::Truncated { format: FORMAT })?;
                return Ok(Container { sides, end: at });
            }
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

/// The chunks of a file that has passed [`container`], the end mark included.
fn chunks(bytes: &[u8]) -> impl Iterator<Item = Chunk> {
    let mut at = Some(SIGNATURE_BYTES);
    std::iter::from_fn(move || {
        let chunk = Chunk::at(bytes, at?)?;
        at = (&chunk.kind != b"IEND").then_some(chunk.whole.end);
        Some(chunk)
    })
}

/// The chunks of these kinds, and the orientation.
fn with_chunks(bytes: &[u8], kinds: &[&[u8; 4]]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(bytes.len());
    kept.extend_from_slice(&bytes[..SIGNATURE_BYTES]);
    let turned = turned(bytes);
    for chunk in chunks(bytes) {
        if kinds.contains(&&chunk.kind) {
            kept.extend_from_slice(&bytes[chunk.whole]);
        }
        if &chunk.kind == b"IHDR"
            && let Some(turned) = turned
        {
            let exif = orientation::exif(turned);
            let length = u32::try_from(exif.len()).expect("one tag is short");
            let mut sum = Crc::new();
            sum.update(b"eXIf");
            sum.update(&exif);
            kept.extend_from_slice(&length.to_be_bytes());
            kept.extend_from_slice(b"eXIf");
            kept.extend_from_slice(&exif);
            kept.extend_from_slice(&sum.sum().to_be_bytes());
        }
    }
    kept
}

/// How the picture is to be turned, if it is.
fn turned(bytes: &[u8]) -> Option<Orientation> {
    let exif = chunks(bytes).find(|chunk| &chunk.kind == b"eXIf")?;
    orientation::of_exif(&bytes[exif.data])
}

/// The file with what its picture is shown by alone: pixels, colour space, orientation.
///
/// `bytes` has passed [`container`].
pub(super) fn essential(bytes: &[u8]) -> Vec<u8> {
    with_chunks(
        bytes,
        &[
            b"IHDR", b"cICP", b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"PLTE", b"tRNS", b"IDAT",
            b"IEND",
        ],
    )
}

/// The file as its decoder gets it, without the chunks that pixels don't depend on. A profile or a text of a few
/// hundred kilobytes can inflate to gigabytes; what the decoder never sees can't.
///
/// `bytes` has passed [`container`].
pub(super) fn for_decoder(bytes: &[u8]) -> Vec<u8> {
    with_chunks(bytes, &[b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"])
}

/// The colour space that the file names, if it does. Inflates a profile as far as one may be long.
///
/// # Errors
/// [`ImageError::Profile`] if it can't be made out.
pub(super) fn profile(bytes: &[u8]) -> Result<Option<Profile>, ImageError> {
    let of_kind = |kind: &[u8; 4]| chunks(bytes).find(|chunk| &chunk.kind == kind);
    if let Some(chunk) = of_kind(b"cICP") {
        let [primaries, transfer, matrix, full_range] = bytes[chunk.data] else {
            return Err(ImageError::profile(FORMAT, "is broken"));
        };
        return Profile::coded(FORMAT, [primaries, transfer, matrix, full_range]).map(Some);
    }
    let Some(chunk) = of_kind(b"iCCP") else {
        return Ok(None);
    };
    let data = &bytes[chunk.data];
    // A name of at most 79 bytes, a zero, the method (0: zlib), and the compressed profile.
    let start = data.iter().take(80).position(|&byte| byte == 0);
    let Some((&0, packed)) = start.and_then(|start| data[start + 1..].split_first()) else {
        return Err(ImageError::profile(FORMAT, "is broken"));
    };
    let mut icc = Vec::new();
    ZlibDecoder::new(packed)
        .take(PROFILE_BYTES_MAX as u64 + 1)
        .read_to_end(&mut icc)
        .map_err(|_| ImageError::profile(FORMAT, "is broken"))?;
    Profile::embedded(FORMAT, &icc).map(Some)
}

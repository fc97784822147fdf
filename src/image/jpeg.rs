//! A JPEG's segments: sides, coding process and wholeness without decoding a coefficient; and what of them its picture
//! needs.

use ::image::metadata::Orientation;

use super::{
    Container, ImageFormat, Sides,
    error::ImageError,
    orientation,
    profile::{PROFILE_BYTES_MAX, Profile},
};

const FORMAT: ImageFormat = ImageFormat::Jpeg;

/// Markers (the byte after `0xff`) that the walk has to tell apart; names of the specification's table B.1.
mod marker {
    pub(super) const TEM: u8 = 0x01;
    pub(super) const SOF0: u8 = 0xc0;
    pub(super) const SOF2: u8 = 0xc2;
    pub(super) const SOF3: u8 = 0xc3;
    pub(super) const DHT: u8 = 0xc4;
    pub(super) const JPG: u8 = 0xc8;
    pub(super) const DAC: u8 = 0xcc;
    pub(super) const SOF15: u8 = 0xcf;
    pub(super) const RST0: u8 = 0xd0;
    pub(super) const SOI: u8 = 0xd8;
    pub(super) const EOI: u8 = 0xd9;
    pub(super) const SOS: u8 = 0xda;
    pub(super) const DQT: u8 = 0xdb;
    pub(super) const DNL: u8 = 0xdc;
    pub(super) const DRI: u8 = 0xdd;
    pub(super) const APP0: u8 = 0xe0;
    pub(super) const APP1: u8 = 0xe1;
    pub(super) const APP2: u8 = 0xe2;
    pub(super) const APP14: u8 = 0xee;
}

/// How segments say whose they are.
const EXIF: &[u8] = b"Exif\0\0";
const ICC: &[u8] = b"ICC_PROFILE\0";
const JFIF: &[u8] = b"JFIF\0";
const ADOBE: &[u8] = b"Adobe";
/// A JFIF segment without its thumbnail; the last two bytes are the thumbnail's sides.
const JFIF_BYTES: usize = 14;

/// The frame header's sides and where the end mark ends, if the file goes on to there.
pub(super) fn container(bytes: &[u8]) -> Result<Container, ImageError> {
    let mut sides = None;
    let mut scanned = false;
    let mut at = 2;
    loop {
        let (found, next) =
            next_marker(bytes, at).ok_or(ImageError::Truncated { format: FORMAT })?;
        at = next;
        match found {
            marker::EOI if scanned => {
                let sides = sides.ok_or(ImageError::damaged(FORMAT, "it has no frame header"))?;
                return Ok(Container { sides, end: at });
            }
            marker::EOI => return Err(ImageError::damaged(FORMAT, "it has no picture data")),
            marker::TEM | marker::RST0..=marker::SOI => continue,
            _ => {}
        }
        let segment = segment(bytes, at).ok_or(ImageError::Truncated { format: FORMAT })?;
        at += segment.len() + 2;
        match found {
            marker::DHT | marker::JPG | marker::DAC => {}
            marker::SOF0..=marker::SOF2 if sides.is_none() => sides = Some(frame(segment)?),
            marker::SOF0..=marker::SOF2 => {
                return Err(ImageError::damaged(FORMAT, "it has two frames"));
            }
            marker::SOF3..=marker::SOF15 => {
                let feature = "lossless, hierarchical or arithmetic coding".into();
                return Err(ImageError::Feature {
                    format: FORMAT,
                    feature,
                });
            }
            marker::SOS if sides.is_none() => {
                return Err(ImageError::damaged(
                    FORMAT,
                    "its picture data comes before its header",
                ));
            }
            marker::SOS => scanned = true,
            _ => {}
        }
    }
}

/// The next marker at or after `at` and the place behind it. Bytes between segments and entropy-coded data are
/// passed over; in the latter `ff 00` is a byte and not a marker.
fn next_marker(bytes: &[u8], mut at: usize) -> Option<(u8, usize)> {
    loop {
        at += bytes.get(at..)?.iter().position(|&byte| byte == 0xff)? + 1;
        match *bytes.get(at)? {
            0x00 => at += 1,
            // Fill bytes; the marker comes after the last of them.
            0xff => {}
            found => return Some((found, at + 1)),
        }
    }
}

/// A segment's data, without the two bytes of its length.
fn segment(bytes: &[u8], at: usize) -> Option<&[u8]> {
    let (length, rest) = bytes.get(at..)?.split_first_chunk::<2>()?;
    rest.get(..usize::from(u16::from_be_bytes(*length)).checked_sub(2)?)
}

fn frame(segment: &[u8]) -> Result<Sides, ImageError> {
    let [precision, h0, h1, w0, w1, components, ..] = *segment else {
        return Err(ImageError::damaged(FORMAT, "its frame header is too short"));
    };
    if precision != 8 {
        return Err(ImageError::Feature {
            format: FORMAT,
            feature: format!("{precision} bits a sample").into(),
        });
    }
    if !matches!(components, 1 | 3 | 4) {
        return Err(ImageError::Feature {
            format: FORMAT,
            feature: format!("{components} colour channels").into(),
        });
    }
    Ok(Sides {
        width: u16::from_be_bytes([w0, w1]).into(),
        height: u16::from_be_bytes([h0, h1]).into(),
    })
}

/// A segment, or a scan's data.
struct Part<'a> {
    marker: u8,
    /// Without marker and length.
    data: &'a [u8],
    /// Behind a scan's header: its entropy-coded bytes, restart marks included.
    coded: &'a [u8],
}

/// The segments of a file that has passed [`container`], without what lies between them, up to its end mark.
fn parts(bytes: &[u8]) -> impl Iterator<Item = Part<'_>> {
    let mut at = 2;
    std::iter::from_fn(move || {
        loop {
            let (found, next) = next_marker(bytes, at)?;
            match found {
                marker::EOI => return None,
                marker::TEM | marker::RST0..=marker::SOI => at = next,
                _ => {
                    let data = segment(bytes, next)?;
                    let start = next + 2 + data.len();
                    at = start;
                    if found == marker::SOS {
                        at = coded_end(bytes, start)?;
                    }
                    return Some(Part {
                        marker: found,
                        data,
                        coded: &bytes[start..at],
                    });
                }
            }
        }
    })
}

/// Where the first marker at or after `at` begins that doesn't belong to a scan's data.
fn coded_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let (found, next) = next_marker(bytes, at)?;
        if !matches!(found, marker::TEM | marker::RST0..=marker::SOI) {
            return Some(next - 2);
        }
        at = next;
    }
}

/// How the picture is to be turned, if it is. The codec reads the last of several segments.
fn turned(bytes: &[u8]) -> Option<Orientation> {
    let exif = |part: Part<'_>| {
        let is_exif = part.marker == marker::APP1 && part.data.starts_with(EXIF);
        is_exif.then(|| orientation::of_exif(&part.data[EXIF.len()..]))
    };
    parts(bytes).filter_map(exif).last().flatten()
}

/// The file with what its picture is shown by alone: tables, scans, colour space, orientation.
///
/// `bytes` has passed [`container`].
pub(super) fn essential(bytes: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(bytes.len());
    kept.extend_from_slice(&[0xff, marker::SOI]);
    let mut turned = turned(bytes);
    for part in parts(bytes) {
        let is_jfif = part.marker == marker::APP0
            && part.data.starts_with(JFIF)
            && part.data.len() >= JFIF_BYTES;
        // JFIF wants its segment first, Exif its own right after.
        if !is_jfif && let Some(turned) = turned.take() {
            let data = [EXIF, &orientation::exif(turned)].concat();
            push(&mut kept, marker::APP1, &data);
        }
        match part.marker {
            marker::APP0 if is_jfif => {
                let mut plain: [u8; JFIF_BYTES] = std::array::from_fn(|index| part.data[index]);
                plain[JFIF_BYTES - 2..].fill(0);
                push(&mut kept, part.marker, &plain);
            }
            marker::APP2 if part.data.starts_with(ICC) => push(&mut kept, part.marker, part.data),
            marker::APP14 if part.data.starts_with(ADOBE) => {
                push(&mut kept, part.marker, part.data);
            }
            marker::SOF0..=marker::SOF15
            | marker::SOS
            | marker::DQT
            | marker::DNL
            | marker::DRI => {
                push(&mut kept, part.marker, part.data);
                kept.extend_from_slice(part.coded);
            }
            _ => {}
        }
    }
    kept.extend_from_slice(&[0xff, marker::EOI]);
    kept
}

fn push(kept: &mut Vec<u8>, marker: u8, data: &[u8]) {
    let length = u16::try_from(data.len() + 2).expect("it is no longer than a segment was");
    kept.extend_from_slice(&[0xff, marker]);
    kept.extend_from_slice(&length.to_be_bytes());
    kept.extend_from_slice(data);
}

/// The colour profile in the file, put together from its segments.
///
/// # Errors
/// [`ImageError::Profile`] if it can't be made out.
pub(super) fn profile(bytes: &[u8]) -> Result<Option<Profile>, ImageError> {
    let broken = || ImageError::profile(FORMAT, "is broken");
    let mut pieces = Vec::new();
    for part in parts(bytes) {
        if part.marker == marker::APP2
            && let Some(rest) = part.data.strip_prefix(ICC)
        {
            let (&[number, count], piece) = rest.split_first_chunk().ok_or_else(broken)?;
            pieces.push((number, count, piece));
        }
    }
    if pieces.is_empty() {
        return Ok(None);
    }
    pieces.sort_by_key(|&(number, ..)| number);
    let total: usize = pieces.iter().map(|(.., piece)| piece.len()).sum();
    let are_all_there = (1..=u8::MAX)
        .zip(&pieces)
        .all(|(expected, &(number, count, _))| {
            number == expected && usize::from(count) == pieces.len()
        });
    if !are_all_there || pieces.len() > usize::from(u8::MAX) {
        return Err(broken());
    }
    if total > PROFILE_BYTES_MAX {
        return Err(ImageError::profile(FORMAT, "is too large"));
    }
    let icc: Vec<u8> = pieces
        .iter()
        .flat_map(|(.., piece)| *piece)
        .copied()
        .collect();
    Profile::embedded(FORMAT, &icc).map(Some)
}

//! A JPEG's segments: sides, coding process and wholeness without decoding a coefficient.

use super::{ImageFormat, Sides, error::ImageError};

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
}

/// The frame header's sides, if the file goes on to its end mark. What follows the end mark (other pictures of
/// phones' formats, padding) is none of our business.
pub(super) fn sides(bytes: &[u8]) -> Result<Sides, ImageError> {
    let mut sides = None;
    let mut scanned = false;
    let mut at = 2;
    loop {
        let (found, next) =
            next_marker(bytes, at).ok_or(ImageError::Truncated { format: FORMAT })?;
        at = next;
        match found {
            marker::EOI if scanned => {
                return sides.ok_or(ImageError::damaged(FORMAT, "it has no frame header"));
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

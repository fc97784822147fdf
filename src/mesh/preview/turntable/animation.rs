//! The container of an animated WebP file (RFC 9649) around frames that libwebp encodes.

use crate::mesh::{WriteError, webp};

/// Bytes of an RGBA pixel.
const PIXEL: usize = 4;

/// The part of the canvas that frames fill, in pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Area {
    /// Even, as the format wants it.
    x: u32,
    /// Even.
    y: u32,
    width: u32,
    height: u32,
}

impl Area {
    /// The smallest area outside of which all pictures are transparent; a corner if they are so all over.
    pub(super) fn covered(pictures: &[Vec<u8>], side_px: u32) -> Self {
        let side = side_px as usize;
        let (mut left, mut right, mut top, mut bottom) = (side, 0, side, 0);
        for picture in pictures {
            for (y, row) in picture.chunks_exact(PIXEL * side).enumerate() {
                let (pixels, _) = row.as_chunks::<PIXEL>();
                let opaque = |[.., alpha]: &[u8; PIXEL]| *alpha > 0;
                let Some(first) = pixels.iter().position(opaque) else {
                    continue;
                };
                let last = pixels.iter().rposition(opaque).unwrap_or(first);
                left = left.min(first);
                right = right.max(last + 1);
                top = top.min(y);
                bottom = bottom.max(y + 1);
            }
        }
        let span = |start: usize, end: usize| {
            let start = if start < end { start / 2 * 2 } else { 0 };
            (start as u32, end.saturating_sub(start).max(1) as u32)
        };
        let ((x, width), (y, height)) = (span(left, right), span(top, bottom));
        Self {
            x,
            y,
            width,
            height,
        }
    }

    /// The area's pixels of a picture.
    fn cut(&self, picture: &[u8], side_px: u32) -> Vec<u8> {
        let [x, y, width, height, side] =
            [self.x, self.y, self.width, self.height, side_px].map(|along| along as usize);
        let rows = picture.chunks_exact(PIXEL * side).skip(y).take(height);
        let mut pixels = Vec::with_capacity(PIXEL * width * height);
        rows.for_each(|row| pixels.extend_from_slice(&row[PIXEL * x..PIXEL * (x + width)]));
        pixels
    }
}

/// The chunks of one frame: its transparency, if it has any, and its colours.
pub(super) fn encoded(picture: &[u8], side_px: u32, area: Area) -> Result<Vec<u8>, WriteError> {
    let pixels = area.cut(picture, side_px);
    let file = webp::encode(&pixels, area.width, area.height)?;
    let mut frame = Vec::with_capacity(file.len());
    for (name, chunk) in chunks(&file[12..]) {
        if matches!(name, b"ALPH" | b"VP8 " | b"VP8L") {
            frame.extend_from_slice(chunk);
        }
    }
    Ok(frame)
}

/// The names of the chunks of a file, and the chunks with their names, lengths and padding.
fn chunks(mut file: &[u8]) -> impl Iterator<Item = (&[u8; 4], &[u8])> {
    std::iter::from_fn(move || {
        let (name, rest) = file.split_first_chunk::<4>()?;
        let length = u32::from_le_bytes(*rest.first_chunk::<4>()?) as usize;
        let (chunk, rest) = file.split_at_checked(8 + length.next_multiple_of(2))?;
        file = rest;
        Some((name, chunk))
    })
}

/// How frames are shown.
pub(super) struct Animation {
    pub(super) side_px: u32,
    /// All frames fill it.
    pub(super) area: Area,
    pub(super) frame_ms: u32,
}

impl Animation {
    /// The file of an endless loop of `frames`, each as [`encoded`] gives it.
    pub(super) fn file(&self, frames: &[Vec<u8>]) -> Vec<u8> {
        const ALPHA_AND_ANIMATION: u32 = 0x12;
        const TRANSPARENT: u32 = 0;
        const ENDLESS: u16 = 0;
        /// A frame takes the place of what was there; blending would show one through the other.
        const NOT_BLENDED: u8 = 2;
        let &Self {
            side_px,
            area,
            frame_ms,
        } = self;
        let last = three(side_px - 1);
        let header = [&ALPHA_AND_ANIMATION.to_le_bytes()[..], &last, &last];
        let looping = [&TRANSPARENT.to_le_bytes()[..], &ENDLESS.to_le_bytes()];
        let mut body = b"WEBP".to_vec();
        push_chunk(&mut body, *b"VP8X", &header);
        push_chunk(&mut body, *b"ANIM", &looping);
        for frame in frames {
            let place = [
                area.x / 2,
                area.y / 2,
                area.width - 1,
                area.height - 1,
                frame_ms,
            ]
            .map(three);
            push_chunk(
                &mut body,
                *b"ANMF",
                &[place.as_flattened(), &[NOT_BLENDED], frame],
            );
        }
        let mut file = Vec::with_capacity(body.len() + 8);
        push_chunk(&mut file, *b"RIFF", &[&body]);
        file
    }
}

/// The three bytes in which the format counts pixels and milliseconds.
fn three(count: u32) -> [u8; 3] {
    let [low, middle, high, _] = count.to_le_bytes();
    [low, middle, high]
}

/// All chunks here have an even length, so none needs padding.
fn push_chunk(file: &mut Vec<u8>, name: [u8; 4], parts: &[&[u8]]) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    debug_assert!(length.is_multiple_of(2), "an even length");
    file.extend_from_slice(&name);
    file.extend_from_slice(&(length as u32).to_le_bytes());
    parts.iter().for_each(|part| file.extend_from_slice(part));
}

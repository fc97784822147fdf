//! Faults on purpose: a model that runs out of memory, gives nonsense, or takes its device with it, when a picture tells it
//! to. Whoever shares a pass with such a picture gets what it gets alone.

use std::path::{Path, PathBuf};

use image::{Rgba, RgbaImage};

use crate::harness::pictures::png;

mod engine;
mod server;

/// What the model in `tests/fixtures/faults` does to a picture whose middle has the colour. Listed there, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    EncodeMemory,
    EncodeNan,
    EncodeError,
    QueryMemory,
    QueryNan,
    QueryError,
    EncodeLost,
    QueryLost,
    /// More than two in one encode or matte are too many for the memory.
    Crowd,
    /// More than 8,192 points of these in one query are.
    Heavy,
}

impl Fault {
    /// Those that concern a picture alone.
    const ALONE: [Self; 6] = [
        Self::EncodeMemory,
        Self::EncodeNan,
        Self::EncodeError,
        Self::QueryMemory,
        Self::QueryNan,
        Self::QueryError,
    ];

    fn colour(self) -> [u8; 3] {
        match self {
            Self::EncodeMemory => [255, 0, 0],
            Self::EncodeNan => [0, 255, 0],
            Self::EncodeError => [0, 0, 255],
            Self::QueryMemory => [255, 255, 0],
            Self::QueryNan => [0, 255, 255],
            Self::QueryError => [255, 0, 255],
            Self::EncodeLost => [255, 255, 255],
            Self::QueryLost => [0, 128, 255],
            Self::Crowd => [255, 128, 0],
            Self::Heavy => [128, 0, 255],
        }
    }
}

/// Colours that ask for nothing.
const GOOD: [[u8; 3]; 4] = [[230, 77, 51], [51, 180, 77], [77, 77, 230], [204, 180, 51]];
/// The model's pictures are squares of so many pixels.
const SIDE: u8 = 16;

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/faults")
}

/// A square of a colour as the model gets it: planes of sRGB on its grey, `half` pixels from the middle to each side.
fn planes(colour: [u8; 3], half: u8) -> Vec<f32> {
    let middle = SIDE / 2;
    let pixels = (0..SIDE).flat_map(|row| (0..SIDE).map(move |column| (row, column)));
    let inside: Vec<bool> = pixels
        .map(|(row, column)| row.abs_diff(middle) <= half && column.abs_diff(middle) <= half)
        .collect();
    colour
        .iter()
        .flat_map(|&value| {
            let value = f32::from(value) / 255.0;
            inside
                .iter()
                .map(move |&inside| if inside { value } else { 0.5 })
        })
        .collect()
}

/// A picture file of a cut-out ellipse of a colour, `wide` of 64 pixels in width.
fn picture(colour: [u8; 3], wide: u8) -> Vec<u8> {
    let [red, green, blue] = colour;
    let image = RgbaImage::from_fn(64, 64, |x, y| {
        let along = |at: u32, half: f32| ((at as f32 + 0.5) - 32.0) / half;
        let across = along(x, f32::from(wide) / 2.0).powi(2) + along(y, 30.0).powi(2);
        Rgba([red, green, blue, if across < 1.0 { 255 } else { 0 }])
    });
    png(&image)
}

//! Pictures to convert.

use std::io::Cursor;

use image::{ImageFormat, Rgba, RgbaImage};

/// Renders of real artists' models, shipped with the project.
pub const CHAIR: &[u8] = include_bytes!("../../../examples/pictures/chair.png");
pub const CHEST: &[u8] = include_bytes!("../../../examples/pictures/chest.png");
pub const DINNER: &[u8] = include_bytes!("../../../examples/pictures/dinner.png");
pub const HOUSE: &[u8] = include_bytes!("../../../examples/pictures/house.png");
pub const TRUCK: &[u8] = include_bytes!("../../../examples/pictures/truck.png");

/// All of them.
pub const ALL: [&[u8]; 5] = [CHAIR, CHEST, DINNER, HOUSE, TRUCK];

pub fn png(image: &RgbaImage) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, ImageFormat::Png).unwrap();
    bytes.into_inner()
}

/// A picture with nothing in it.
pub fn empty() -> Vec<u8> {
    png(&RgbaImage::from_pixel(64, 64, Rgba([0, 0, 0, 0])))
}

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

/// A picture over grey, without transparency.
pub fn over_grey(picture: &[u8]) -> Vec<u8> {
    let mut image = image::load_from_memory(picture).unwrap().into_rgba8();
    for pixel in image.pixels_mut() {
        let alpha = u32::from(pixel.0[3]);
        for channel in &mut pixel.0[..3] {
            let over = (u32::from(*channel) * alpha + 128 * (255 - alpha)) / 255;
            *channel = u8::try_from(over).unwrap();
        }
        pixel.0[3] = 255;
    }
    png(&image)
}

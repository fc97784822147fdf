//! Pictures without transparency: what the model's matte sees, and its answer as the picture's alpha.
//!
//! The matte sees the whole picture, scaled into the middle of a square whose rest repeats the picture's edge,
//! so that no made-up outline misleads it.

use fast_image_resize::{
    FilterType, ResizeAlg, ResizeOptions, Resizer,
    images::{TypedImage, TypedImageRef},
    pixels::{F32, F32x3},
};

use super::{frame::FrameError, pixels::Pixels};

/// Where a picture lies in its square, in the square's pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Letterbox {
    left: u32,
    top: u32,
    width: u32,
    height: u32,
}

impl Letterbox {
    fn new(pixels: &Pixels, side: u32) -> Self {
        let longest = f64::from(pixels.width().max(pixels.height()));
        let scaled = |length: u32| {
            ((f64::from(length) * f64::from(side) / longest).round() as u32).clamp(1, side)
        };
        let (width, height) = (scaled(pixels.width()), scaled(pixels.height()));
        Self {
            left: (side - width) / 2,
            top: (side - height) / 2,
            width,
            height,
        }
    }
}

fn antialiased() -> ResizeOptions {
    ResizeOptions::new()
        .resize_alg(ResizeAlg::Convolution(FilterType::Hamming))
        .use_alpha(false)
}

/// The whole picture as the matte's input: planar `f32 [3, side, side]`, sRGB in 0..=1, its alpha ignored.
///
/// # Panics
/// If `side` is 0.
#[must_use]
pub fn matte_input(pixels: &Pixels, side: u32) -> Vec<f32> {
    assert!(side > 0, "a model's input has at least one pixel");
    let scale = 1.0 / 255.0;
    let colours = pixels
        .iter()
        .map(|[r, g, b, _]| {
            F32x3::new([
                f32::from(r) * scale,
                f32::from(g) * scale,
                f32::from(b) * scale,
            ])
        })
        .collect::<Vec<_>>();
    let source = TypedImageRef::new(pixels.width(), pixels.height(), &colours)
        .expect("one colour for each pixel");
    let Letterbox {
        left,
        top,
        width,
        height,
    } = Letterbox::new(pixels, side);
    let mut scaled = TypedImage::<F32x3>::new(width, height);
    Resizer::new()
        .resize_typed(&source, &mut scaled, &antialiased())
        .expect("the whole source is resized");

    let plane = side as usize * side as usize;
    let mut planar = vec![0.0; 3 * plane];
    for y in 0..side {
        let source_y = y.saturating_sub(top).min(height - 1);
        for x in 0..side {
            let source_x = x.saturating_sub(left).min(width - 1);
            let colour = scaled.pixels()[(source_y * width + source_x) as usize];
            for (channel, value) in colour.0.into_iter().enumerate() {
                planar[channel * plane + (y * side + x) as usize] = value.clamp(0.0, 1.0);
            }
        }
    }
    planar
}

/// The model's matte of [`matte_input`] (`f32 [side, side]`, coverage 0..=1; beyond is clamped) as the picture's
/// alpha: `f32 [height, width]`.
///
/// # Errors
/// [`FrameError::MatteShape`] or [`FrameError::MatteNotFinite`]: the model broke its contract.
pub fn matte_alpha(pixels: &Pixels, matte: &[f32], side: u32) -> Result<Vec<f32>, FrameError> {
    let expected = side as usize * side as usize;
    if matte.len() != expected || expected == 0 {
        return Err(FrameError::MatteShape {
            expected,
            found: matte.len(),
        });
    }
    if !matte.iter().all(|value| value.is_finite()) {
        return Err(FrameError::MatteNotFinite);
    }
    let coverage = matte
        .iter()
        .map(|value| F32::new(value.clamp(0.0, 1.0)))
        .collect::<Vec<_>>();
    let source = TypedImageRef::new(side, side, &coverage).expect("its length was checked");
    let Letterbox {
        left,
        top,
        width,
        height,
    } = Letterbox::new(pixels, side);
    let options = antialiased().crop(left.into(), top.into(), width.into(), height.into());
    let mut alpha = TypedImage::<F32>::new(pixels.width(), pixels.height());
    Resizer::new()
        .resize_typed(&source, &mut alpha, &options)
        .expect("the letterbox lies in its square");
    Ok(alpha
        .pixels()
        .iter()
        .map(|value| value.0.clamp(0.0, 1.0))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Red left half, blue right half.
    fn halves(width: u32, height: u32) -> Pixels {
        let pixel = |index: u32| {
            if index % width < width / 2 {
                [255, 0, 0, 255]
            } else {
                [0, 0, 255, 255]
            }
        };
        let rgba = (0..width * height).flat_map(pixel).collect();
        Pixels::new(width, height, rgba).expect("the length fits")
    }

    #[test]
    fn the_input_is_the_picture_with_its_edges_drawn_out() {
        let side = 64;
        let input = matte_input(&halves(400, 100), side);
        let at = |channel: usize, x: usize, y: usize| input[channel * 64 * 64 + y * 64 + x];
        for y in [0, 20, 32, 63] {
            assert!((at(0, 5, y) - 1.0).abs() < 1e-3, "left is red in row {y}");
            assert!(at(2, 5, y) < 1e-3);
            assert!(
                (at(2, 60, y) - 1.0).abs() < 1e-3,
                "right is blue in row {y}"
            );
        }
    }

    #[test]
    fn the_answer_returns_to_where_it_came_from() {
        let side = 64;
        for (width, height) in [(400, 100), (100, 400), (300, 300), (20, 30), (1000, 3)] {
            let pixels = halves(width, height);
            // A matte that simply says how blue its input is.
            let input = matte_input(&pixels, side);
            let alpha =
                matte_alpha(&pixels, &input[2 * 64 * 64..], side).expect("the matte is right");
            assert_eq!(alpha.len(), (width * height) as usize);
            let at = |x: u32, y: u32| alpha[(y * width + x) as usize];
            for y in [0, height / 2, height - 1] {
                assert!(
                    at(width / 10, y) < 0.02,
                    "{width}×{height}: left is free in row {y}"
                );
                assert!(
                    at(width * 9 / 10, y) > 0.98,
                    "{width}×{height}: right is covered in row {y}"
                );
            }
        }
    }

    #[test]
    fn a_broken_matte_is_refused() {
        let pixels = halves(10, 10);
        assert!(matches!(
            matte_alpha(&pixels, &[0.0; 15], 4),
            Err(FrameError::MatteShape {
                expected: 16,
                found: 15
            })
        ));
        let mut matte = [0.5; 16];
        matte[7] = f32::NAN;
        assert!(matches!(
            matte_alpha(&pixels, &matte, 4),
            Err(FrameError::MatteNotFinite)
        ));
    }
}

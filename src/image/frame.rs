//! Framing for the model: the object in the middle of a square on a plain background.

use std::ops::{Range, RangeInclusive};

use fast_image_resize::{
    FilterType, ResizeAlg, ResizeOptions, Resizer,
    images::{TypedImage, TypedImageRef},
    pixels::F32x4,
};
use rayon::prelude::*;

use super::{
    object::{Bounds, Coverage, keep_object},
    pixels::Pixels,
};

/// Coverage above which a pixel of the picture's own alpha belongs to the object: under it lie the leftovers of
/// soft shadows and lossy compression.
const ALPHA_THRESHOLD: f32 = 0.05;
/// The same for a model's matte, which is seldom sure enough of the background to say 0.
const MATTE_THRESHOLD: f32 = 0.25;

/// The shares that a model may ask to be filled; much less would waste its pixels, and memory here.
pub const FILL: RangeInclusive<f32> = 0.1..=1.0;

/// How a model wants its pictures (see its manifest).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FrameOptions {
    /// Width and height of the model's input, in pixels, at least 1.
    pub side: u32,
    /// What the picture is composited over: sRGB, 0..=1.
    pub background: [f32; 3],
    /// The share of the square's side that the object's longest side fills, in [`FILL`].
    pub fill: f32,
}

/// What tells the object from its background.
#[derive(Debug, Clone, Copy)]
pub enum AlphaSource<'a> {
    /// The picture's own alpha: see [`Pixels::has_transparency`].
    Picture,
    /// A model's matte for an opaque picture, `f32 [height, width]`: see [`super::matte::matte_alpha`].
    Matte(&'a [f32]),
    /// Nothing does: the whole picture is the object.
    Whole,
}

impl AlphaSource<'_> {
    /// What tells it where there is no matte; see [`Pixels::has_transparency`].
    #[must_use]
    pub fn without_matte(has_transparency: bool) -> Self {
        if has_transparency {
            Self::Picture
        } else {
            Self::Whole
        }
    }
}

/// A square in the picture's pixels, from its left upper corner; it may leave the picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Crop {
    pub left: f32,
    pub top: f32,
    pub side: f32,
}

/// A picture as the model wants it.
#[derive(Debug, Clone, PartialEq)]
pub struct Framed {
    /// Width and height.
    pub side: u32,
    /// Planar `f32 [3, side, side]`: sRGB in 0..=1 over the background.
    pub rgb: Vec<f32>,
    /// `f32 [side, side]`: coverage in 0..=1, specks removed.
    pub alpha: Vec<f32>,
    /// Where in the picture it was taken from.
    pub crop: Crop,
    /// The object reaches the picture's border, so some of it may be missing. Never set for
    /// [`AlphaSource::Whole`].
    pub touches_border: bool,
}

/// Why a picture can't be framed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("there is nothing in the picture: send one that shows an object")]
    Nothing,
    #[error("the matte has {found} values where {expected} belong")]
    MatteShape { expected: usize, found: usize },
    #[error("the matte holds values that are not finite")]
    MatteNotFinite,
}

/// Rows that one thread takes at a time.
const BAND: usize = 32;

/// How far from its middle Hamming's filter looks, in pixels of the larger of the two sizes.
const REACH: f64 = 1.0;

/// Composites over the background by alpha (in sRGB, as models are trained), and crops a square round the
/// object's bounding box.
///
/// # Errors
/// [`FrameError::Nothing`] when the alpha covers nothing but specks and haze; the others when a matte doesn't
/// fit the picture.
///
/// # Panics
/// If the options are out of their ranges.
pub fn frame(
    pixels: &Pixels,
    alpha: AlphaSource<'_>,
    options: &FrameOptions,
) -> Result<Framed, FrameError> {
    let FrameOptions {
        side,
        background,
        fill,
    } = *options;
    assert!(
        side > 0 && FILL.contains(&fill),
        "the manifest's framing was checked when it was read"
    );
    let (width, height) = (pixels.width() as usize, pixels.height() as usize);
    let mut coverage = coverage(pixels, alpha)?;
    let (bounds, touches_border) = match alpha {
        AlphaSource::Whole => (
            Bounds {
                left: 0,
                top: 0,
                right: width,
                bottom: height,
            },
            false,
        ),
        AlphaSource::Picture | AlphaSource::Matte(_) => {
            let threshold = if matches!(alpha, AlphaSource::Picture) {
                ALPHA_THRESHOLD
            } else {
                MATTE_THRESHOLD
            };
            let place = keep_object(
                &mut Coverage {
                    width,
                    height,
                    alpha: &mut coverage,
                },
                threshold,
            )
            .ok_or(FrameError::Nothing)?;
            (place.bounds, place.touches_border)
        }
    };
    let crop = square(bounds, fill);
    let colour = |index: usize| {
        let pixel = pixels.rgba().as_chunks::<4>().0[index];
        let [r, g, b, a] = pixel.map(|value| f32::from(value) / 255.0);
        let rgb = [r, g, b];
        match alpha {
            // What shines through the object is the background, for nothing else is known of it.
            AlphaSource::Whole => over(rgb, a, background),
            AlphaSource::Picture | AlphaSource::Matte(_) => rgb,
        }
    };
    let canvas = Canvas {
        crop,
        picture: (width, height),
        pixel: |index: usize| {
            let covered = coverage[index];
            let [r, g, b] = colour(index);
            F32x4::new([r * covered, g * covered, b * covered, covered])
        },
    };
    let (rgb, alpha) = canvas.resample(side, background);
    Ok(Framed {
        side,
        rgb,
        alpha,
        crop,
        touches_border,
    })
}

/// Coverage of each pixel before anything is sorted out.
fn coverage(pixels: &Pixels, alpha: AlphaSource<'_>) -> Result<Vec<f32>, FrameError> {
    let own = pixels.iter().map(|pixel| f32::from(pixel[3]) / 255.0);
    match alpha {
        AlphaSource::Picture => Ok(own.collect()),
        AlphaSource::Whole => Ok(vec![1.0; own.len()]),
        AlphaSource::Matte(matte) if matte.len() != own.len() => Err(FrameError::MatteShape {
            expected: own.len(),
            found: matte.len(),
        }),
        AlphaSource::Matte(matte) if !matte.iter().all(|value| value.is_finite()) => {
            Err(FrameError::MatteNotFinite)
        }
        AlphaSource::Matte(matte) => Ok(own
            .zip(matte)
            .map(|(own, matte)| own * matte.clamp(0.0, 1.0))
            .collect()),
    }
}

fn over(rgb: [f32; 3], alpha: f32, background: [f32; 3]) -> [f32; 3] {
    std::array::from_fn(|channel| rgb[channel] * alpha + background[channel] * (1.0 - alpha))
}

/// The square round `bounds` of which its longest side fills the share `fill`.
fn square(bounds: Bounds, fill: f32) -> Crop {
    let side = bounds.longest_side() as f32 / fill;
    let centre = |from: usize, to: usize| (from + to) as f32 / 2.0;
    Crop {
        left: centre(bounds.left, bounds.right) - side / 2.0,
        top: centre(bounds.top, bounds.bottom) - side / 2.0,
        side,
    }
}

/// The whole pixels that a crop touches, premultiplied, free where it leaves the picture.
struct Canvas<F> {
    crop: Crop,
    /// Width and height.
    picture: (usize, usize),
    /// Gives a picture's pixel by its index.
    pixel: F,
}

impl<F: Fn(usize) -> F32x4 + Sync> Canvas<F> {
    /// The column and row of the picture where it begins.
    fn corner(&self) -> [i64; 2] {
        [self.crop.left, self.crop.top].map(|along| along.floor() as i64)
    }

    /// Its width and height, in pixels: one more for the fraction at either end.
    fn side(&self) -> usize {
        self.crop.side.ceil() as usize + 2
    }

    /// Some of its rows.
    fn rows(&self, rows: &Range<usize>) -> Vec<F32x4> {
        let [left, top] = self.corner();
        let ((width, height), side) = (self.picture, self.side());
        let mut pixels = vec![F32x4::new([0.0; 4]); side * rows.len()];
        // The columns and rows of the canvas that lie in the picture.
        let within = |from: i64, of: usize| {
            let place = |along: i64| usize::try_from(along).map_or(0, |along| along.min(side));
            place(-from)..place(of as i64 - from)
        };
        let (columns, inside) = (within(left, width), within(top, height));
        for (line, row) in pixels.chunks_exact_mut(side).zip(rows.clone()) {
            if inside.contains(&row) && !columns.is_empty() {
                let first =
                    (top + row as i64) as usize * width + (left + columns.start as i64) as usize;
                for (target, index) in line[columns.clone()].iter_mut().zip(first..) {
                    *target = (self.pixel)(index);
                }
            }
        }
        pixels
    }

    /// Antialiased to `side` × `side`: planar colours over the background, and coverage. Resampling is linear, so
    /// compositing after it equals compositing before it, and outside the picture it is all background.
    fn resample(&self, side: u32, background: [f32; 3]) -> (Vec<f32>, Vec<f32>) {
        let width = side as usize;
        let (mut rgb, mut alpha) = (vec![0.0; 3 * width * width], vec![0.0; width * width]);
        let (red, rest) = rgb.split_at_mut(width * width);
        let (green, blue) = rest.split_at_mut(width * width);
        let [red, green, blue, covered] =
            [red, green, blue, &mut alpha[..]].map(|plane| plane.par_chunks_mut(BAND * width));
        // Side by side where threads are free.
        let bands = (red, green, blue, covered).into_par_iter().enumerate();
        bands.for_each(|(band, (red, green, blue, covered))| {
            let pixels = self.band(side, band * BAND, covered.len() / width);
            for (covered, pixel) in covered.iter_mut().zip(pixels.pixels()) {
                *covered = pixel.0[3].clamp(0.0, 1.0);
            }
            for (channel, plane) in [red, green, blue].into_iter().enumerate() {
                let background = background[channel];
                for ((value, pixel), covered) in
                    plane.iter_mut().zip(pixels.pixels()).zip(&*covered)
                {
                    let over = pixel.0[channel] + background * (1.0 - covered);
                    *value = over.clamp(0.0, 1.0);
                }
            }
        });
        (rgb, alpha)
    }

    /// So many rows of the crop at `side` × `side`, from the `first` on. They have those of the canvas that they are made of to
    /// themselves: these lie in the cache, while a whole canvas would be new pages.
    fn band(&self, side: u32, first: usize, count: usize) -> TypedImage<'static, F32x4> {
        let [left, top] = self.corner();
        let (left, top) = (
            f64::from(self.crop.left) - left as f64,
            f64::from(self.crop.top) - top as f64,
        );
        let crop_side = f64::from(self.crop.side);
        let row = crop_side / f64::from(side);
        let (top, height) = (top + first as f64 * row, count as f64 * row);
        let reach = REACH * row.max(1.0);
        let rows = (top - reach).floor().max(0.0) as usize
            ..self.side().min((top + height + reach).ceil() as usize);
        let pixels = self.rows(&rows);
        let width = u32::try_from(self.side()).expect("a picture's side divided by its fill fits");
        let height_px = u32::try_from(rows.len()).expect("no more than the width");
        let source =
            TypedImageRef::new(width, height_px, &pixels).expect("as many as the rows have");
        let options = ResizeOptions::new()
            .resize_alg(ResizeAlg::Convolution(FilterType::Hamming))
            .use_alpha(false)
            .crop(left, top - rows.start as f64, crop_side, height);
        let mut target =
            TypedImage::new(side, u32::try_from(count).expect("no more than the side"));
        Resizer::new()
            .resize_typed(&source, &mut target, &options)
            .expect("the crop lies in its canvas");
        target
    }
}

#[cfg(test)]
mod tests;

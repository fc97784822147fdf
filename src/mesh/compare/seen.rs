//! What a picture's camera sees of a mesh's samples, without light: a silhouette and colours.
//!
//! The camera looks along -z and sees the object fill its picture, as a picture for the model is cut out: the object is
//! turned up by the elevation, and moved and scaled until its outline's longer side takes 0.86 of the picture. A point
//! at depth z (towards the camera) is seen at (x, y) / (1 - s z), with s = tan(fov / 2) and 1 half of the picture.

use super::{
    super::vector::{self, Vector},
    sample::Samples,
};

/// Pixels along a side.
const SIDE: usize = 96;
/// The share of the picture's side that the object's longer side takes.
const FILL: f64 = 0.86;
/// The camera keeps clear of long things that point at it: the share of its distance that half of their depth may take.
const NEAREST: f64 = 0.55;
/// Rounds of moving and scaling, each of which brings the outline nearer to its place.
const ROUNDS: usize = 6;
/// The least that a depth divides by.
const DIVISOR_MIN: f64 = 0.2;

/// How a picture was taken.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Camera {
    elevation_rad: f64,
    slope: f64,
}

impl Camera {
    /// A camera by its elevation and its full vertical angle, in degrees.
    #[must_use]
    pub fn new(elevation: f64, fov: f64) -> Self {
        Self {
            elevation_rad: elevation.to_radians(),
            slope: (fov.to_radians() / 2.0).tan(),
        }
    }

    /// The nearest sample in each pixel.
    #[must_use]
    pub fn see(self, samples: &Samples) -> Seen {
        let (sin, cos) = self.elevation_rad.sin_cos();
        let mut points: Vec<Vector> = samples
            .points
            .iter()
            .map(|&[x, y, z]| [x, y * cos - z * sin, y * sin + z * cos])
            .collect();
        let slope = fit(&mut points, self.slope);
        let mut depths = vec![f64::NEG_INFINITY; SIDE * SIDE];
        let mut pixels = vec![None; SIDE * SIDE];
        for (point, &color) in points.iter().zip(&samples.colors) {
            let [u, v] = projected(*point, slope);
            let at = pixel(-v) * SIDE + pixel(u);
            if point[2] >= depths[at] {
                depths[at] = point[2];
                pixels[at] = Some(color);
            }
        }
        Seen { pixels }
    }
}

/// What a camera sees: a colour in sRGB 0..1 wherever the object is.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    pixels: Vec<Option<[f32; 3]>>,
}

impl Seen {
    /// Pixels that both cover over pixels that either covers, 0..=1.
    #[must_use]
    pub fn silhouette_iou(&self, other: &Self) -> f64 {
        let (mut both, mut either) = (0_u32, 0_u32);
        for (one, other) in self.pixels.iter().zip(&other.pixels) {
            both += u32::from(one.is_some() && other.is_some());
            either += u32::from(one.is_some() || other.is_some());
        }
        f64::from(both) / f64::from(either.max(1))
    }

    /// The mean difference of a channel, 0..=1, over the pixels that both cover, if there are any.
    #[must_use]
    pub fn color_error(&self, other: &Self) -> Option<f64> {
        let (mut sum, mut channels) = (0.0, 0_u32);
        for (one, other) in self.pixels.iter().zip(&other.pixels) {
            if let (Some(one), Some(other)) = (one, other) {
                for (one, other) in one.iter().zip(other) {
                    sum += f64::from((one - other).abs());
                    channels += 1;
                }
            }
        }
        (channels > 0).then(|| sum / f64::from(channels))
    }
}

/// Moves and scales the points until their outline fills the picture; the slope that the camera ends with.
fn fit(points: &mut [Vector], wanted: f64) -> f64 {
    let (low, high) = bounds(points.iter().copied());
    let center = vector::scale(vector::add(low, high), 0.5);
    let reach = points
        .iter()
        .map(|&point| {
            let [x, y, _] = vector::sub(point, center);
            x.abs().max(y.abs())
        })
        .fold(0.0, f64::max);
    for point in &mut *points {
        *point = vector::scale(vector::sub(*point, center), FILL / reach);
    }
    let mut slope = wanted;
    for _ in 0..ROUNDS {
        let (low, high) = bounds(points.iter().copied());
        slope = wanted.min(NEAREST / ((high[2] - low[2]) / 2.0).max(1e-6));
        let outline = points.iter().map(|&point| {
            let [u, v] = projected(point, slope);
            [u, v, 0.0]
        });
        let (low, high) = bounds(outline);
        let size = vector::sub(high, low);
        let scale = FILL * 2.0 / size[0].max(size[1]);
        let middle = vector::scale(vector::add(low, high), 0.5);
        for point in &mut *points {
            *point = vector::scale(vector::sub(*point, middle), scale);
        }
    }
    slope
}

fn bounds(points: impl Iterator<Item = Vector>) -> (Vector, Vector) {
    let mut low = [f64::INFINITY; 3];
    let mut high = [f64::NEG_INFINITY; 3];
    for point in points {
        for axis in 0..3 {
            low[axis] = low[axis].min(point[axis]);
            high[axis] = high[axis].max(point[axis]);
        }
    }
    (low, high)
}

fn projected([x, y, z]: Vector, slope: f64) -> [f64; 2] {
    let divisor = (1.0 - slope * z).max(DIVISOR_MIN);
    [x / divisor, y / divisor]
}

/// The row or column of a coordinate in -1..=1.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float is cut off at the integer's bounds, and then at the picture's"
)]
fn pixel(coordinate: f64) -> usize {
    (((coordinate + 1.0) * (SIDE as f64 / 2.0)) as usize).min(SIDE - 1)
}

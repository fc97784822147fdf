//! Three-component vectors, mostly in `f64`, so that sums over a million triangles keep their precision.

use std::ops::{Add, Mul, Sub};

pub(super) type Vector = [f64; 3];

/// What the coordinates of a vector are.
pub(super) trait Scalar:
    Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self>
{
}

impl Scalar for f32 {}
impl Scalar for f64 {}

pub(super) fn wide(v: [f32; 3]) -> Vector {
    // Spelled out, as the compiler does not always see through `map` over arrays, here and below.
    [f64::from(v[0]), f64::from(v[1]), f64::from(v[2])]
}

pub(super) fn narrow(v: Vector) -> [f32; 3] {
    [v[0] as f32, v[1] as f32, v[2] as f32]
}

/// As `f32::min`, but of one instruction, since it needn't look for what is not a number.
pub(super) fn lesser(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

/// As `f32::max`, likewise.
pub(super) fn greater(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

pub(super) fn is_finite(v: [f32; 3]) -> bool {
    v.iter().all(|coordinate| coordinate.is_finite())
}

pub(super) fn add(a: Vector, b: Vector) -> Vector {
    [a[0] + b[0], a[1] + b[1], a[2] + b[2]]
}

pub(super) fn sub<S: Scalar>(a: [S; 3], b: [S; 3]) -> [S; 3] {
    [a[0] - b[0], a[1] - b[1], a[2] - b[2]]
}

pub(super) fn scale(a: Vector, factor: f64) -> Vector {
    [a[0] * factor, a[1] * factor, a[2] * factor]
}

pub(super) fn dot<S: Scalar>(a: [S; 3], b: [S; 3]) -> S {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

pub(super) fn cross<S: Scalar>(a: [S; 3], b: [S; 3]) -> [S; 3] {
    [
        a[1] * b[2] - a[2] * b[1],
        a[2] * b[0] - a[0] * b[2],
        a[0] * b[1] - a[1] * b[0],
    ]
}

pub(super) fn length(a: Vector) -> f64 {
    dot(a, a).sqrt()
}

/// The unit vector along `a`, or none if `a` is too short to have a direction.
pub(super) fn unit(a: Vector) -> Option<Vector> {
    let length = length(a);
    // Below this the square of the length is a denormal number and the direction is noise.
    (length > 1e-150 && length.is_finite()).then(|| scale(a, 1.0 / length))
}

/// The corners of a triangle.
pub(super) fn corners(positions: &[[f32; 3]], triangle: [u32; 3]) -> [Vector; 3] {
    let [a, b, c] = triangle;
    [
        wide(positions[a as usize]),
        wide(positions[b as usize]),
        wide(positions[c as usize]),
    ]
}

/// Normal to a triangle, counter-clockwise side, as long as twice its area.
pub(super) fn twice_area(corners: [Vector; 3]) -> Vector {
    let [a, b, c] = corners;
    cross(sub(b, a), sub(c, a))
}

//! Three-component vectors in `f64`, so that sums over a million triangles keep their precision.

pub(super) type Vector = [f64; 3];

pub(super) fn wide(v: [f32; 3]) -> Vector {
    v.map(f64::from)
}

pub(super) fn narrow(v: Vector) -> [f32; 3] {
    v.map(|coordinate| coordinate as f32)
}

pub(super) fn is_finite(v: [f32; 3]) -> bool {
    v.iter().all(|coordinate| coordinate.is_finite())
}

pub(super) fn add(a: Vector, b: Vector) -> Vector {
    [a[0] + b[0], a[1] + b[1], a[2] + b[2]]
}

pub(super) fn sub(a: Vector, b: Vector) -> Vector {
    [a[0] - b[0], a[1] - b[1], a[2] - b[2]]
}

pub(super) fn scale(a: Vector, factor: f64) -> Vector {
    a.map(|coordinate| coordinate * factor)
}

pub(super) fn dot(a: Vector, b: Vector) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

pub(super) fn cross(a: Vector, b: Vector) -> Vector {
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
    triangle.map(|vertex| wide(positions[vertex as usize]))
}

/// Normal to a triangle, counter-clockwise side, as long as twice its area.
pub(super) fn twice_area(corners: [Vector; 3]) -> Vector {
    let [a, b, c] = corners;
    cross(sub(b, a), sub(c, a))
}

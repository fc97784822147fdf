//! Normals from positions and triangles: of vertices, and of corners where edges are sharp.

use std::f32::consts::{FRAC_PI_2, PI};

use super::vector::{self, cross, dot, sub};

mod crease;

pub use crease::{CREASE_DEG, crease_normals};

/// One unit normal for each vertex: the mean of the normals of the triangles around it, weighted by their angle at the
/// vertex, so that a face cut in two counts once, and by their area, so that the slivers of an iso-surface, whose own
/// normals are noise, count for nothing.
///
/// A vertex without any triangle of positive area gets +Y, so that every normal is finite and of length 1.
#[must_use]
pub fn vertex_normals(positions: &[[f32; 3]], triangles: &[[u32; 3]]) -> Vec<[f32; 3]> {
    // In single precision, as positions are: a sum over a dozen of triangles loses next to nothing.
    let mut sums = vec![[0.0; 3]; positions.len()];
    for &triangle in triangles {
        for (vertex, normal) in triangle
            .into_iter()
            .zip(weighted_corners(positions, triangle))
        {
            let sum = &mut sums[vertex as usize];
            for (sum, along) in sum.iter_mut().zip(normal) {
                *sum += along;
            }
        }
    }
    sums.into_iter()
        .map(|sum| vector::narrow(vector::unit(vector::wide(sum)).unwrap_or([0.0, 1.0, 0.0])))
        .collect()
}

/// What a triangle adds to the normal at each of its corners: its own, as long as twice its area times the angle there.
fn weighted_corners(positions: &[[f32; 3]], triangle: [u32; 3]) -> [[f32; 3]; 3] {
    let [a, b, c] = triangle.map(|vertex| positions[vertex as usize]);
    let (to_b, to_c) = (sub(b, a), sub(c, a));
    // As long as twice the area, which is the sine of each angle times the lengths of the sides beside it.
    let normal = cross(to_b, to_c);
    let area = dot(normal, normal).sqrt();
    let at_a = angle(area, dot(to_b, to_c));
    let at_b = angle(area, dot(to_b, sub(b, c)));
    [at_a, at_b, PI - at_a - at_b].map(|angle| normal.map(|along| along * angle))
}

/// The arc tangent of 0 to 1 over its argument, in even powers: Abramowitz and Stegun, 4.4.49.
const ARC_TANGENT: [f32; 9] = [
    1.0,
    -0.333_331_45,
    0.199_935_51,
    -0.142_089,
    0.106_562_64,
    -0.075_289_64,
    0.042_909_614,
    -0.016_165_737,
    0.002_866_225_7,
];

/// The angle, 0 to π, with a sine and a cosine in this ratio: `sine.atan2(cosine)` but for 1e-6, which is
/// enough for a weight.
fn angle(sine: f32, cosine: f32) -> f32 {
    let size = cosine.abs();
    let (least, greatest) = if sine < size {
        (sine, size)
    } else {
        (size, sine)
    };
    // A triangle without area or length.
    let ratio = if greatest > 0.0 {
        least / greatest
    } else {
        0.0
    };
    let square = ratio * ratio;
    let small = ratio
        * ARC_TANGENT
            .iter()
            .rev()
            .fold(0.0, |sum, coefficient| sum * square + coefficient);
    let acute = if sine > size {
        FRAC_PI_2 - small
    } else {
        small
    };
    if cosine < 0.0 { PI - acute } else { acute }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn angles_are_near_enough() {
        for degrees in 0..=180 {
            let expected = (degrees as f32).to_radians();
            let (sine, cosine) = expected.sin_cos();
            assert!((angle(7.0 * sine, 7.0 * cosine) - expected).abs() < 1e-6);
        }
        assert_eq!(angle(0.0, 0.0), 0.0);
    }

    fn length(normal: [f32; 3]) -> f64 {
        vector::length(vector::wide(normal))
    }

    #[test]
    fn the_corner_of_a_cube_points_along_its_diagonal_however_its_faces_are_cut() {
        // Three faces around the origin, one of them cut so that two of its triangles meet there.
        let positions = [
            [0.0, 0.0, 0.0],
            [-1.0, 0.0, 0.0],
            [0.0, -1.0, 0.0],
            [0.0, 0.0, -1.0],
            [-1.0, -1.0, 0.0],
        ];
        let triangles = [[0, 1, 4], [0, 4, 2], [0, 2, 3], [0, 3, 1]];
        let [x, y, z] = vertex_normals(&positions, &triangles)[0];
        let expected = 1.0 / 3f32.sqrt();
        for coordinate in [x, y, z] {
            assert!((coordinate - expected).abs() < 1e-6, "{x} {y} {z}");
        }
    }

    #[test]
    fn vertices_without_area_get_a_unit_normal() {
        let positions = [[0.0; 3], [1.0, 0.0, 0.0], [2.0, 0.0, 0.0], [5.0; 3]];
        assert_eq!(
            vertex_normals(&positions, &[[0, 1, 2]]),
            [[0.0, 1.0, 0.0]; 4]
        );
    }

    proptest! {
        #[test]
        fn normals_are_always_of_length_one(
            positions in prop::collection::vec(prop::array::uniform3(-1e3f32..1e3), 3..12),
            picks in prop::collection::vec(prop::array::uniform3(0u32..12), 0..30),
        ) {
            let count = positions.len() as u32;
            let triangles: Vec<_> = picks.into_iter().map(|pick| pick.map(|vertex| vertex % count)).collect();
            for normal in vertex_normals(&positions, &triangles) {
                prop_assert!((length(normal) - 1.0).abs() < 1e-5, "{normal:?}");
            }
        }
    }
}

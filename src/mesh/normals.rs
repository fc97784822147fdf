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
    // In single precision, as positions are: a sum over a dozen of triangles loses next to nothing. The fourth number
    // makes each sum one register.
    let mut sums = vec![[0.0; 4]; positions.len()];
    let mut block = Block::new();
    let (blocks, rest) = triangles.as_chunks::<BLOCK>();
    for triangles in blocks {
        block.add(positions, triangles, &mut sums);
    }
    block.add(positions, rest, &mut sums);
    sums.into_iter().map(direction).collect()
}

/// The unit vector along a sum of normals; +Y if it has no direction.
fn direction([x, y, z, _]: [f32; 4]) -> [f32; 3] {
    let sum = [x, y, z];
    let square = dot(sum, sum);
    // Beyond, single precision can't hold the square.
    if (1e-30..1e30).contains(&square) {
        let factor = 1.0 / square.sqrt();
        [x * factor, y * factor, z * factor]
    } else {
        vector::narrow(vector::unit(vector::wide(sum)).unwrap_or([0.0, 1.0, 0.0]))
    }
}

/// Triangles whose angles are computed side by side.
const BLOCK: usize = 64;

/// What is known of each triangle of a block.
struct Block {
    /// As long as twice the area, which is the sine of each angle times the lengths of the sides beside it.
    normals: [[f32; 4]; BLOCK],
    areas: [f32; BLOCK],
    /// The cosine of the first and second angle, times the lengths of the sides beside it; then the angle.
    first: [f32; BLOCK],
    second: [f32; BLOCK],
}

impl Block {
    fn new() -> Self {
        Self {
            normals: [[0.0; 4]; BLOCK],
            areas: [0.0; BLOCK],
            first: [0.0; BLOCK],
            second: [0.0; BLOCK],
        }
    }

    /// Adds the weighted normals of up to a block of triangles to the sums at their vertices.
    fn add(&mut self, positions: &[[f32; 3]], triangles: &[[u32; 3]], sums: &mut [[f32; 4]]) {
        for (index, &[a, b, c]) in triangles.iter().enumerate().take(BLOCK) {
            let [a, b, c] = [
                positions[a as usize],
                positions[b as usize],
                positions[c as usize],
            ];
            let (to_b, to_c, from_c) = (sub(b, a), sub(c, a), sub(b, c));
            let normal @ [x, y, z] = cross(to_b, to_c);
            self.normals[index] = [x, y, z, 0.0];
            self.areas[index] = dot(normal, normal);
            self.first[index] = dot(to_b, to_c);
            self.second[index] = dot(to_b, from_c);
        }
        for index in 0..BLOCK {
            let area = self.areas[index].sqrt();
            self.first[index] = angle(area, self.first[index]);
            self.second[index] = angle(area, self.second[index]);
        }
        for (index, triangle) in triangles.iter().enumerate().take(BLOCK) {
            let (normal, first, second) =
                (self.normals[index], self.first[index], self.second[index]);
            for (&vertex, angle) in triangle.iter().zip([first, second, PI - first - second]) {
                let sum = &mut sums[vertex as usize];
                for (sum, along) in sum.iter_mut().zip(normal) {
                    *sum += along * angle;
                }
            }
        }
    }
}

/// What a triangle adds to the normal at each of its corners: its own, as long as twice its area times the angle there.
fn weighted_corners(positions: &[[f32; 3]], triangle: [u32; 3]) -> [[f32; 3]; 3] {
    let [a, b, c] = triangle.map(|vertex| positions[vertex as usize]);
    let (to_b, to_c) = (sub(b, a), sub(c, a));
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
// Only where it is inlined are many computed side by side.
#[inline(always)]
fn angle(sine: f32, cosine: f32) -> f32 {
    let size = cosine.abs();
    let (least, greatest) = if sine < size {
        (sine, size)
    } else {
        (size, sine)
    };
    // The least number there is, for a triangle without area or length.
    let ratio = least / greatest.max(f32::MIN_POSITIVE);
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

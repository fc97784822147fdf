//! Vertex normals from positions and triangles.

use std::f64::consts::PI;

use super::vector::{self, Vector};

/// One unit normal for each vertex: the mean of the normals of the triangles around it, weighted by their angle at the
/// vertex, so that a face cut in two counts once, and by their area, so that the slivers of an iso-surface, whose own
/// normals are noise, count for nothing.
///
/// A vertex without any triangle of positive area gets +Y, so that every normal is finite and of length 1.
#[must_use]
pub fn vertex_normals(positions: &[[f32; 3]], triangles: &[[u32; 3]]) -> Vec<[f32; 3]> {
    let mut sums = vec![[0.0; 3]; positions.len()];
    for &triangle in triangles {
        let [a, b, c] = vector::corners(positions, triangle);
        // As long as twice the area.
        let normal = vector::twice_area([a, b, c]);
        let angles = [angle_at(a, b, c), angle_at(b, c, a)];
        for (vertex, angle) in
            triangle
                .into_iter()
                .zip([angles[0], angles[1], PI - angles[0] - angles[1]])
        {
            let sum = &mut sums[vertex as usize];
            *sum = vector::add(*sum, vector::scale(normal, angle));
        }
    }
    sums.into_iter()
        .map(|sum| vector::narrow(vector::unit(sum).unwrap_or([0.0, 1.0, 0.0])))
        .collect()
}

fn angle_at(apex: Vector, a: Vector, b: Vector) -> f64 {
    let (a, b) = (vector::sub(a, apex), vector::sub(b, apex));
    vector::length(vector::cross(a, b)).atan2(vector::dot(a, b))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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

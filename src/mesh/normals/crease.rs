//! Normals of corners, so that edges between flat faces look sharp.

use super::{
    super::{topology::Forest, vector},
    weighted_corners,
};

/// Faces that meet at more than this many degrees meet at an edge. The edge of a box turns by 90° or, where sampling has
/// cut it off, twice by 45°. Of the edges of spheres and tori that were simplified to 500 to 4,000 triangles, at most 2 in
/// 100 turned by more than this, where a sliver or a fold was left.
pub const CREASE_DEG: f32 = 40.0;

/// A triangle of less than this share of the mean area has no direction: its corners lie within what sampling leaves to
/// chance.
const AREA_SHARE_MIN: f64 = 1e-4;

/// One unit normal for each corner of each triangle. Around a vertex, triangles that are joined by edges of at most
/// `angle_deg` share the mean of their normals, weighted as in [`super::vertex_normals`]; none if no edge is sharper than
/// that. Edges of one triangle, or of more than two, join nothing.
#[must_use]
pub fn crease_normals(
    positions: &[[f32; 3]],
    triangles: &[[u32; 3]],
    angle_deg: f32,
) -> Option<Vec<[[f32; 3]; 3]>> {
    let directions = directions(positions, triangles);
    let cosine_min = f64::from(angle_deg).to_radians().cos();
    let mut groups = Forest::new(3 * triangles.len());
    let mut has_crease = false;
    for pair in shared_edges(triangles) {
        let [one, other] = pair.map(|side| directions[side[0] as usize / 3]);
        let is_smooth = match (one, other) {
            (Some(one), Some(other)) => vector::dot(one, other) >= cosine_min,
            _ => true,
        };
        if is_smooth {
            // The edge runs one way in the one triangle and the other way in the other.
            let [one, other] = pair;
            groups.join(one[0], other[1]);
            groups.join(one[1], other[0]);
        } else {
            has_crease = true;
        }
    }
    has_crease.then(|| means(positions, triangles, &mut groups))
}

/// The unit normal of each triangle that is large enough to have one.
fn directions(positions: &[[f32; 3]], triangles: &[[u32; 3]]) -> Vec<Option<vector::Vector>> {
    let normal = |&triangle| vector::twice_area(vector::corners(positions, triangle));
    let normals: Vec<_> = triangles.iter().map(normal).collect();
    let sum: f64 = normals.iter().map(|&normal| vector::length(normal)).sum();
    let least = AREA_SHARE_MIN * sum / triangles.len() as f64;
    let directed = normals.into_iter().map(|normal| {
        let is_large = vector::length(normal) > least;
        vector::unit(normal).filter(|_| is_large)
    });
    directed.collect()
}

/// The edges that exactly two triangles have, one each way: the corners (three for each triangle) at its start and end,
/// for the one triangle and for the other.
fn shared_edges(triangles: &[[u32; 3]]) -> Vec<[[u32; 2]; 2]> {
    let mut edges = Vec::with_capacity(3 * triangles.len());
    for (first, triangle) in (0..).step_by(3).zip(triangles) {
        for side in 0..3 {
            let next = (side + 1) % 3;
            let (start, end) = (triangle[side], triangle[next]);
            let ends = [start.min(end), start.max(end)];
            edges.push((
                ends,
                start > end,
                [first + side as u32, first + next as u32],
            ));
        }
    }
    edges.sort_unstable();
    let alike = edges.chunk_by(|one, other| one.0 == other.0);
    let pairs = alike.filter_map(|edges| match *edges {
        [(_, false, one), (_, true, other)] => Some([one, other]),
        _ => None,
    });
    pairs.collect()
}

/// The normal of each corner: the mean over its group.
fn means(
    positions: &[[f32; 3]],
    triangles: &[[u32; 3]],
    groups: &mut Forest,
) -> Vec<[[f32; 3]; 3]> {
    let mut sums = vec![[0.0f64; 3]; 3 * triangles.len()];
    for (first, &triangle) in (0..).step_by(3).zip(triangles) {
        for (corner, weighted) in (first..).zip(weighted_corners(positions, triangle)) {
            let sum = &mut sums[groups.root(corner) as usize];
            *sum = vector::add(*sum, vector::wide(weighted));
        }
    }
    let corners = (0..).step_by(3).take(triangles.len()).map(|first: u32| {
        std::array::from_fn(|at| {
            let sum = sums[groups.root(first + at as u32) as usize];
            vector::narrow(vector::unit(sum).unwrap_or([0.0, 1.0, 0.0]))
        })
    });
    corners.collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mesh::{Mesh, corners::Corners, fixtures, simplify::simplify_surface};

    #[test]
    fn each_face_of_a_cube_has_the_normal_of_its_own() {
        let cube = fixtures::cube();
        let normals = crease_normals(cube.positions(), cube.triangles(), CREASE_DEG);
        for (corners, &triangle) in normals
            .expect("a cube has creases")
            .iter()
            .zip(cube.triangles())
        {
            let face = vector::twice_area(vector::corners(cube.positions(), triangle));
            assert_eq!(*corners, [vector::narrow(face); 3]);
        }
        assert_eq!(
            crease_normals(cube.positions(), cube.triangles(), 91.0),
            None
        );
    }

    #[test]
    fn a_sphere_has_no_crease_and_hardly_any_when_simplified() {
        let sphere = fixtures::surface(48, fixtures::sphere(0.7));
        let normals = crease_normals(sphere.positions(), sphere.triangles(), CREASE_DEG);
        assert_eq!(normals, None);
        let (simplified, _) = simplify_surface(sphere, 1000);
        let mesh = Mesh::from_surface(simplified, None).expect("the parts fit");
        let vertices = mesh.positions().len();
        let corners = Corners::of(&mesh.with_creases(CREASE_DEG)).len();
        assert!(
            corners <= vertices + vertices / 20,
            "{vertices} vertices became {corners}"
        );
    }

    proptest! {
        #[test]
        fn corner_normals_are_always_of_length_one(
            positions in prop::collection::vec(prop::array::uniform3(-1e3f32..1e3), 3..12),
            picks in prop::collection::vec(prop::array::uniform3(0u32..12), 1..30),
        ) {
            let count = positions.len() as u32;
            let triangles: Vec<_> = picks.into_iter().map(|pick| pick.map(|vertex| vertex % count)).collect();
            for normal in crease_normals(&positions, &triangles, CREASE_DEG).iter().flatten().flatten() {
                prop_assert!((vector::length(vector::wide(*normal)) - 1.0).abs() < 1e-5, "{normal:?}");
            }
        }
    }
}

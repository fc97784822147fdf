//! The pieces that a surface is made of, each by itself.

use super::{topology::Topology, vector};

/// What one component encloses and how far it reaches.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Part {
    /// Enclosed volume, the cube of the unit; below zero for what faces inward, as a hollow does.
    pub(super) volume: f64,
    /// The longest side of the box around it.
    pub(super) longest_side: f64,
}

/// The components of a closed surface, as `topology` numbers them.
pub(super) fn parts(
    positions: &[[f32; 3]],
    triangles: &[[u32; 3]],
    topology: &Topology,
) -> Vec<Part> {
    /// A component of which some triangles have been seen.
    #[derive(Clone, Copy)]
    struct Seen {
        apex: vector::Vector,
        min: vector::Vector,
        max: vector::Vector,
        volume: f64,
    }
    let mut seen: Vec<Option<Seen>> = vec![None; topology.components];
    for (index, &triangle) in triangles.iter().enumerate() {
        let corners = vector::corners(positions, triangle);
        let seen = seen[topology.component_of(index)].get_or_insert(Seen {
            // Tetrahedra over a point of its own: over a far one the volumes of a small part would cancel out badly.
            apex: corners[0],
            min: corners[0],
            max: corners[0],
            volume: 0.0,
        });
        for corner in corners {
            for (axis, along) in corner.into_iter().enumerate() {
                seen.min[axis] = seen.min[axis].min(along);
                seen.max[axis] = seen.max[axis].max(along);
            }
        }
        let [a, b, c] = corners.map(|corner| vector::sub(corner, seen.apex));
        seen.volume += vector::dot(a, vector::cross(b, c)) / 6.0;
    }
    seen.into_iter()
        .flatten()
        .map(|seen| Part {
            volume: seen.volume,
            longest_side: vector::sub(seen.max, seen.min)
                .into_iter()
                .fold(0.0, f64::max),
        })
        .collect()
}

//! The pieces that a surface is made of, each by itself.

use super::{
    topology::Topology,
    vector::{self, greater, lesser},
};

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
        min: [f32; 3],
        max: [f32; 3],
        /// Six times as much.
        volume: f64,
    }
    let mut seen: Vec<Option<Seen>> = vec![None; topology.components];
    let mut begin = 0;
    while begin < triangles.len() {
        // Triangles that lie near each other come one after another, mostly of one component: what is known of it stays
        // in registers.
        let component = topology.component_of(begin);
        let own = (begin..triangles.len()).take_while(|&at| topology.component_of(at) == component);
        let end = begin + own.count();
        let first = positions[triangles[begin][0] as usize];
        let mut part = seen[component].unwrap_or(Seen {
            // Tetrahedra over a point of its own: over a far one the volumes of a small part would cancel out badly.
            apex: vector::wide(first),
            min: first,
            max: first,
            volume: 0.0,
        });
        for triangle in &triangles[begin..end] {
            let corners = triangle.map(|vertex| positions[vertex as usize]);
            for corner in corners {
                let [x, y, z] = corner;
                let ([left, bottom, back], [right, top, front]) = (part.min, part.max);
                part.min = [lesser(x, left), lesser(y, bottom), lesser(z, back)];
                part.max = [greater(x, right), greater(y, top), greater(z, front)];
            }
            let corners = corners.map(|corner| vector::sub(vector::wide(corner), part.apex));
            let [a, b, c] = corners;
            part.volume += vector::dot(a, vector::cross(b, c));
        }
        seen[component] = Some(part);
        begin = end;
    }
    seen.into_iter()
        .flatten()
        .map(|seen| Part {
            volume: seen.volume / 6.0,
            longest_side: vector::sub(vector::wide(seen.max), vector::wide(seen.min))
                .into_iter()
                .fold(0.0, f64::max),
        })
        .collect()
}

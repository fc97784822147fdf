//! The pieces that a surface is made of, each by itself.

use super::{
    BoundingBox,
    topology::Topology,
    vector::{self, Vector, greater, lesser},
};

/// What each component of a closed surface encloses, as `topology` numbers them: a volume in the cube of the unit, below zero
/// for what faces inward, as a hollow does.
pub(super) fn volumes(
    positions: &[[f32; 3]],
    triangles: &[[u32; 3]],
    topology: &Topology,
) -> Vec<f64> {
    /// A component of which some triangles have been seen.
    #[derive(Clone, Copy)]
    struct Seen {
        apex: Vector,
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
        let Seen { apex, mut volume } = seen[component].unwrap_or(Seen {
            // Tetrahedra over a point of its own: over a far one the volumes of a small part would cancel out badly.
            apex: vector::wide(positions[triangles[begin][0] as usize]),
            volume: 0.0,
        });
        for &triangle in &triangles[begin..end] {
            let [a, b, c] = vector::corners(positions, triangle);
            let [a, b, c] = [
                vector::sub(a, apex),
                vector::sub(b, apex),
                vector::sub(c, apex),
            ];
            volume += vector::dot(a, vector::cross(b, c));
        }
        seen[component] = Some(Seen { apex, volume });
        begin = end;
    }
    let volumes = seen.into_iter().flatten().map(|seen| seen.volume / 6.0);
    volumes.collect()
}

/// The longest side of any box around one of the components that are asked for, as `topology` numbers them, in the unit.
pub(super) fn longest_side(
    positions: &[[f32; 3]],
    triangles: &[[u32; 3]],
    topology: &Topology,
    is_asked: impl Fn(usize) -> bool,
) -> f64 {
    let nothing = BoundingBox {
        min: [f32::INFINITY; 3],
        max: [f32::NEG_INFINITY; 3],
    };
    let mut boxes = vec![nothing; topology.components];
    for (index, triangle) in triangles.iter().enumerate() {
        let component = topology.component_of(index);
        if is_asked(component) {
            let BoundingBox { min, max } = &mut boxes[component];
            for position in triangle.map(|vertex| positions[vertex as usize]) {
                for axis in 0..3 {
                    min[axis] = lesser(position[axis], min[axis]);
                    max[axis] = greater(position[axis], max[axis]);
                }
            }
        }
    }
    let longest = boxes.iter().map(BoundingBox::longest_side);
    longest.fold(0.0, f64::max)
}

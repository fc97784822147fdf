//! The pieces that a surface is made of, each by itself.

use super::{
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

/// The longest side of the box around each component that is asked for, as `topology` numbers them, in the unit; of the
/// others zero.
pub(super) fn longest_sides(
    positions: &[[f32; 3]],
    triangles: &[[u32; 3]],
    topology: &Topology,
    is_asked: impl Fn(usize) -> bool,
) -> Vec<f64> {
    let nothing = ([f32::INFINITY; 3], [f32::NEG_INFINITY; 3]);
    let mut boxes = vec![nothing; topology.components];
    for (index, triangle) in triangles.iter().enumerate() {
        let component = topology.component_of(index);
        if is_asked(component) {
            let (least, greatest) = &mut boxes[component];
            for position in triangle.map(|vertex| positions[vertex as usize]) {
                for axis in 0..3 {
                    least[axis] = lesser(position[axis], least[axis]);
                    greatest[axis] = greater(position[axis], greatest[axis]);
                }
            }
        }
    }
    let longest = boxes.into_iter().map(|(least, greatest)| {
        let sides = vector::sub(vector::wide(greatest), vector::wide(least));
        sides.into_iter().fold(0.0, f64::max)
    });
    longest.collect()
}

//! The pieces that a surface is made of, each by itself.

use rayon::prelude::*;

use super::{
    BoundingBox,
    topology::Run,
    vector::{self, greater, lesser},
};

/// What each component of a closed surface encloses, by its `runs`: a volume in the cube of the unit, below zero for what
/// faces inward, as a hollow does.
pub(super) fn volumes(positions: &[[f32; 3]], triangles: &[[u32; 3]], runs: &[Run]) -> Vec<f64> {
    // Tetrahedra over a point of its own: over a far one the volumes of a small part would cancel out badly.
    let mut apexes = vec![None; components_of(runs)];
    for run in runs {
        let [first, _, _] = triangles[run.triangles.start];
        apexes[run.component].get_or_insert(vector::wide(positions[first as usize]));
    }
    let six_times = |run: &Run| {
        let apex = apexes[run.component].expect("each component of a run has a first triangle");
        let over_apex = |&triangle: &[u32; 3]| {
            let [a, b, c] = vector::corners(positions, triangle);
            let [a, b, c] = [
                vector::sub(a, apex),
                vector::sub(b, apex),
                vector::sub(c, apex),
            ];
            vector::dot(a, vector::cross(b, c))
        };
        let of_run = triangles[run.triangles.clone()].iter();
        of_run.map(over_apex).sum::<f64>()
    };
    let of_runs: Vec<f64> = runs.par_iter().map(six_times).collect();
    let mut volumes = vec![0.0; apexes.len()];
    for (run, of_run) in runs.iter().zip(of_runs) {
        volumes[run.component] += of_run / 6.0;
    }
    volumes
}

/// How many components there are: each has a run.
fn components_of(runs: &[Run]) -> usize {
    let numbers = runs.iter().map(|run| run.component + 1);
    numbers.max().unwrap_or(0)
}

/// The longest side of any box around one of the components that are asked for, by their `runs`, in the unit.
pub(super) fn longest_side(
    positions: &[[f32; 3]],
    triangles: &[[u32; 3]],
    runs: &[Run],
    is_asked: impl Fn(usize) -> bool,
) -> f64 {
    let nothing = BoundingBox {
        min: [f32::INFINITY; 3],
        max: [f32::NEG_INFINITY; 3],
    };
    let asked = runs.iter().filter(|run| is_asked(run.component));
    let asked: Vec<&Run> = asked.collect();
    let around = |run: &&Run| {
        let mut bounds = nothing;
        for triangle in &triangles[run.triangles.clone()] {
            for position in triangle.map(|vertex| positions[vertex as usize]) {
                bounds = joined(bounds, position, position);
            }
        }
        bounds
    };
    let of_runs: Vec<BoundingBox> = asked.par_iter().map(around).collect();
    let mut boxes = vec![nothing; components_of(runs)];
    for (run, BoundingBox { min, max }) in asked.iter().zip(of_runs) {
        let bounds = &mut boxes[run.component];
        *bounds = joined(*bounds, min, max);
    }
    let longest = boxes.iter().map(BoundingBox::longest_side);
    longest.fold(0.0, f64::max)
}

/// The box around another one and what lies between two corners.
fn joined(bounds: BoundingBox, least: [f32; 3], greatest: [f32; 3]) -> BoundingBox {
    let BoundingBox { mut min, mut max } = bounds;
    for axis in 0..3 {
        min[axis] = lesser(least[axis], min[axis]);
        max[axis] = greater(greatest[axis], max[axis]);
    }
    BoundingBox { min, max }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mesh::topology::Topology;

    const TETRAHEDRON: [[u32; 3]; 4] = [[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]];

    proptest! {
        /// Tetrahedra, one or more of them, whose triangles come in any order: the parts of a component lie far apart.
        #[test]
        fn components_are_measured_as_each_by_itself(
            corners in prop::collection::vec(
                prop::array::uniform4(prop::array::uniform3(-1.0f32..1.0)),
                1..6,
            ),
            order in Just((0..24usize).collect::<Vec<_>>()).prop_shuffle(),
        ) {
            let positions = corners.as_flattened();
            let all: Vec<[u32; 3]> = (0..corners.len() as u32)
                .flat_map(|body| TETRAHEDRON.map(|side| side.map(|corner| 4 * body + corner)))
                .collect();
            let order = order.into_iter().filter(|&triangle| triangle < all.len());
            let triangles: Vec<_> = order.map(|triangle| all[triangle]).collect();
            let topology = Topology::of(positions.len(), &triangles);
            let runs = topology.runs(triangles.len());
            let volumes = volumes(positions, &triangles, &runs);
            for (&[first, _, _], component) in triangles.iter().zip((0..).map(|at| topology.component_of(at))) {
                let body = corners[first as usize / 4];
                let [a, b, c, d] = body.map(vector::wide);
                let [b, c, d] = [b, c, d].map(|corner| vector::sub(corner, a));
                let volume = vector::dot(b, vector::cross(c, d)) / 6.0;
                prop_assert!((volumes[component] - volume).abs() < 1e-12, "{volumes:?} {volume}");
                let longest = longest_side(positions, &triangles, &runs, |asked| asked == component);
                prop_assert_eq!(longest, BoundingBox::around(&body).longest_side());
            }
        }
    }
}

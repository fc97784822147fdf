//! Fewer triangles for the same shape.

use meshopt::{SimplifyOptions, VertexDataAdapter};

use super::{
    intersections::{self, Intersections},
    surface::{Surface, compact},
    topology::Topology,
    triangle_grid::TriangleGrid,
};

/// How a simplification went.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SimplifyReport {
    /// Triangles before.
    pub triangles_before: usize,
    /// Triangles after. More than asked for if no closed mesh with fewer was found that comes near enough to the shape.
    pub triangles_after: usize,
    /// How far the surface moved, as a share of the mesh's longest side, at most a twentieth: the simplifier's own
    /// estimate, summed over its stages.
    pub error: f32,
    /// Where the result cuts through itself; none if nothing was simplified, and nothing counted.
    pub self_intersections: Option<Intersections>,
}

impl SimplifyReport {
    /// What a person should know of it: nothing, unless the shape has suffered.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        let moved = self.error * 100.0;
        (self.error > ERROR_TOLD).then(|| {
            format!(
                "Having fewer triangles moved the surface by about {moved:.1}% of the longest side: more triangles keep the shape better."
            )
        })
    }
}

/// The surface may move so far, as a share of the longest side and in all stages together, by the simplifier's estimate;
/// where that is not enough for the target, the mesh keeps more triangles. A twentieth is as thick as a chair's leg: what
/// moves farther is another shape. meshopt measures by the longest side of the box around the vertices, which stays the
/// same in every stage because the outermost vertices are held.
const ERROR_MAX: f32 = 0.05;

/// From here on a person is told.
const ERROR_TOLD: f32 = 0.02;

/// Tries to get an undamaged mesh in each stage.
const TRIES: usize = 8;

/// Stages beyond those that lead down to the target, in which a target that was missed is gone for again: each takes as
/// long as a stage, and what the first ones leave can hardly be had.
const STAGES_MORE: usize = 4;

/// Triangles of a stage for each one of the next: what is far too fine is simplified in stages, so that most of the
/// faults are mended on a mesh that is quickly done anew.
const STAGE_FACTOR: usize = 16;

/// Around each fault of a try, so many rings of vertices of the mesh at hand are held fast in the next one: about as
/// far as a triangle of the simplified mesh reaches.
const HELD_RINGS: usize = 3;

/// Simplifies a surface to at most `target_triangles`.
///
/// The result is as closed and as manifold as the input, has the same parts and the same bounding box, and lies within a
/// twentieth of its longest side; if that can't be had with so few triangles it has more, at worst as many as before. It
/// cuts through itself only where that can't be helped; the report says in how many places.
#[must_use]
pub fn simplify_surface(surface: Surface, target_triangles: usize) -> (Surface, SimplifyReport) {
    let (positions, triangles) = surface.into_parts();
    let (simplified, report) = simplify_triangles(&positions, triangles, target_triangles);
    let compacted = compact(positions.len(), &simplified);
    let positions = compacted.of_kept(&positions);
    let surface = Surface::new(positions, compacted.triangles)
        .expect("a part of the triangles of a surface is one");
    (surface, report)
}

fn simplify_triangles(
    positions: &[[f32; 3]],
    mut triangles: Vec<[u32; 3]>,
    target_triangles: usize,
) -> (Vec<[u32; 3]>, SimplifyReport) {
    let mut report = SimplifyReport {
        triangles_before: triangles.len(),
        triangles_after: triangles.len(),
        error: 0.0,
        self_intersections: None,
    };
    let mut stages_more = STAGES_MORE;
    // After a stage that came to nothing the next one asks for less, half-way in proportion.
    let mut least = target_triangles;
    while triangles.len() > target_triangles && stages_more > 0 && report.error < ERROR_MAX {
        let target = least.max(triangles.len() / STAGE_FACTOR);
        let stage = simplify_soundly(positions, &triangles, target, ERROR_MAX - report.error);
        let is_short = stage
            .as_ref()
            .is_some_and(|stage| stage.triangles.len() > target);
        if target == least || is_short {
            stages_more -= 1;
        }
        match stage {
            Some(stage) if stage.triangles.len() < triangles.len() => {
                triangles = stage.triangles;
                report.error += stage.error;
                report.self_intersections = Some(Intersections {
                    pairs: stage.cuts.len(),
                    is_complete: true,
                });
                // What was held fast in this stage need not be in the next.
                least = target_triangles;
            }
            _ => least = (target as f64 * triangles.len() as f64).sqrt() as usize,
        }
    }
    report.triangles_after = triangles.len();
    (triangles, report)
}

/// What a stage yields.
struct Stage {
    triangles: Vec<[u32; 3]>,
    /// The simplifier's estimate.
    error: f32,
    /// Pairs of triangles that cut each other.
    cuts: Vec<[u32; 2]>,
}

/// Simplified triangles that are as closed and manifold as before, of as many parts, and moved by `error_max` at most; none
/// if there are no such ones to be had. Of several they are those that come nearest to the target, and then those that cut
/// through themselves least.
fn simplify_soundly(
    positions: &[[f32; 3]],
    triangles: &[[u32; 3]],
    target_triangles: usize,
    error_max: f32,
) -> Option<Stage> {
    let before = Topology::of(positions.len(), triangles);
    let mut held = hold_extremes(positions, triangles, &before);
    let rank = |stage: &Stage| {
        (
            stage.triangles.len().max(target_triangles),
            stage.cuts.len(),
        )
    };
    let mut best: Option<Stage> = None;
    for _ in 0..TRIES {
        let (simplified, error) = attempt(positions, triangles, &held, target_triangles, error_max);
        // meshopt does not look at what a collapse does to the sheet on the other side, so thin walls come back
        // with flaps or edges of four triangles, or cut through each other. There the surface is held fast, and all is
        // done anew.
        let after = Topology::of(positions.len(), &simplified);
        let is_sound = after.faulty_vertices.len() <= before.faulty_vertices.len();
        if !is_sound || after.components != before.components {
            hold_around(&mut held, &after.faulty_vertices, triangles);
            continue;
        }
        if simplified.is_empty() {
            break;
        }
        let cuts = intersections::pairs(&TriangleGrid::new(positions, &simplified));
        let at_cuts: Vec<u32> = cuts
            .as_flattened()
            .iter()
            .flat_map(|&triangle| simplified[triangle as usize])
            .collect();
        let stage = Stage {
            triangles: simplified,
            error,
            cuts,
        };
        let is_better = best.as_ref().is_none_or(|best| rank(&stage) < rank(best));
        // More that is held leads farther from the target, and what brought nothing brings nothing more.
        let is_last = at_cuts.is_empty() || stage.triangles.len() > target_triangles || !is_better;
        if is_better {
            best = Some(stage);
        }
        if is_last {
            break;
        }
        hold_around(&mut held, &at_cuts, triangles);
    }
    best
}

/// Marks the outermost vertices of each component along each axis: a small part does not vanish then, and the mesh
/// keeps its bounding box.
fn hold_extremes(positions: &[[f32; 3]], triangles: &[[u32; 3]], topology: &Topology) -> Vec<bool> {
    // Outermost vertices of each component: the least and the greatest along x, y and z.
    let mut extremes: Vec<Option<[[u32; 2]; 3]>> = vec![None; topology.components];
    for (index, triangle) in triangles.iter().enumerate() {
        let extremes = &mut extremes[topology.component_of(index)];
        for &vertex in triangle {
            let extremes = extremes.get_or_insert([[vertex; 2]; 3]);
            for (axis, [least, greatest]) in extremes.iter_mut().enumerate() {
                let along = |vertex: u32| positions[vertex as usize][axis];
                if along(vertex) < along(*least) {
                    *least = vertex;
                }
                if along(vertex) > along(*greatest) {
                    *greatest = vertex;
                }
            }
        }
    }
    let mut held = vec![false; positions.len()];
    for vertex in extremes.into_iter().flatten().flatten().flatten() {
        held[vertex as usize] = true;
    }
    held
}

/// Marks `faulty` vertices and those within [`HELD_RINGS`] edges of them.
fn hold_around(held: &mut [bool], faulty: &[u32], triangles: &[[u32; 3]]) {
    let mut reached = vec![false; held.len()];
    faulty
        .iter()
        .for_each(|&vertex| reached[vertex as usize] = true);
    for _ in 0..HELD_RINGS {
        let inner = reached.clone();
        for triangle in triangles {
            if triangle.iter().any(|&vertex| inner[vertex as usize]) {
                triangle
                    .iter()
                    .for_each(|&vertex| reached[vertex as usize] = true);
            }
        }
    }
    held.iter_mut()
        .zip(reached)
        .for_each(|(held, reached)| *held |= reached);
}

fn attempt(
    positions: &[[f32; 3]],
    triangles: &[[u32; 3]],
    held: &[bool],
    target_triangles: usize,
    error_max: f32,
) -> (Vec<[u32; 3]>, f32) {
    let stride = 3 * size_of::<f32>();
    let vertices = VertexDataAdapter::new(meshopt::typed_to_bytes(positions), stride, 0)
        .expect("three coordinates for each vertex");
    // Vertices that an earlier stage left unused would take time otherwise.
    let options = if triangles.len() < positions.len() {
        SimplifyOptions::Sparse
    } else {
        SimplifyOptions::None
    };
    let mut error = 0.0;
    let simplified = meshopt::simplify_with_locks(
        triangles.as_flattened(),
        &vertices,
        held,
        3 * target_triangles,
        error_max,
        options,
        Some(&mut error),
    );
    let (triangles, rest) = simplified.as_chunks::<3>();
    debug_assert!(rest.is_empty(), "the simplifier yields whole triangles");
    (triangles.to_vec(), error)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::mesh::fixtures;

    fn assert_closed(vertices: usize, triangles: &[[u32; 3]]) {
        let topology = Topology::of(vertices, triangles);
        assert!(
            topology.is_watertight() && topology.is_manifold(),
            "{topology:?}"
        );
    }

    fn cube() -> Surface {
        let cube = fixtures::cube();
        Surface::new(cube.positions().to_vec(), cube.triangles().to_vec()).expect("valid")
    }

    #[test]
    fn a_surface_keeps_its_shape_and_vertices_with_a_tenth_of_the_triangles() {
        let surface = fixtures::surface(96, fixtures::torus());
        let (before, bounds) = (surface.triangles().len(), surface.bounding_box());
        let bits = |position: &[f32; 3]| position.map(f32::to_bits);
        let old: HashSet<[u32; 3]> = surface.positions().iter().map(bits).collect();
        let target = before / 10;
        let (simplified, report) = simplify_surface(surface, target);
        assert!(simplified.triangles().len() <= target);
        assert_eq!(
            (report.triangles_before, report.triangles_after),
            (before, simplified.triangles().len())
        );
        assert_eq!(report.warning(), None, "{report:?}");
        assert_closed(simplified.positions().len(), simplified.triangles());
        assert_eq!(simplified.bounding_box(), bounds);
        let mut positions = simplified.positions().iter();
        assert!(positions.all(|position| old.contains(&bits(position))));
    }

    #[test]
    fn a_shape_that_so_few_triangles_can_not_show_keeps_more() {
        let ball = fixtures::surface(48, fixtures::sphere(0.65));
        // Eight would be an octahedron, whose faces lie a fifth of the diameter below the ball.
        let (simplified, report) = simplify_surface(ball.clone(), 8);
        assert!(report.triangles_after > 20, "{report:?}");
        assert!(report.triangles_after < ball.triangles().len() / 4);
        assert!(
            report.error > 0.0 && report.error < 1.001 * ERROR_MAX,
            "{report:?}"
        );
        assert_closed(simplified.positions().len(), simplified.triangles());
    }

    #[test]
    fn a_person_is_told_from_two_hundredths_of_the_longest_side_on() {
        let report = |error| SimplifyReport {
            triangles_before: 1_000,
            triangles_after: 100,
            error,
            self_intersections: Some(Intersections::NONE),
        };
        assert_eq!(report(0.019).warning(), None);
        assert_eq!(
            report(0.034).warning().as_deref(),
            Some(
                "Having fewer triangles moved the surface by about 3.4% of the longest side: more triangles keep the shape better."
            )
        );
    }

    #[test]
    fn thin_walls_and_small_parts_stay_closed_and_stay() {
        let surface = fixtures::surface(96, fixtures::gyroid_in_sphere());
        let (target, bounds) = (surface.triangles().len() / 8, surface.bounding_box());
        let parts = Topology::of(surface.positions().len(), surface.triangles()).components;
        assert!(parts > 1, "the field has crumbs at its rim");
        let (simplified, report) = simplify_surface(surface, target);
        assert_eq!(report.triangles_after, simplified.triangles().len());
        assert!(report.triangles_after <= target);
        assert_eq!(report.self_intersections, Some(Intersections::NONE));
        assert_closed(simplified.positions().len(), simplified.triangles());
        assert_eq!(
            Topology::of(simplified.positions().len(), simplified.triangles()).components,
            parts
        );
        assert_eq!(simplified.bounding_box(), bounds);
        assert_eq!(
            compact(simplified.positions().len(), simplified.triangles())
                .kept
                .len(),
            simplified.positions().len()
        );
    }

    #[test]
    fn a_target_that_is_met_already_changes_nothing() {
        let (same, report) = simplify_surface(cube(), 12);
        assert_eq!(same, cube());
        assert_eq!(
            (
                report.triangles_before,
                report.triangles_after,
                report.error
            ),
            (12, 12, 0.0)
        );
    }

    #[test]
    fn what_cannot_be_had_leaves_a_closed_mesh() {
        let (simplified, report) = simplify_surface(cube(), 1);
        assert!(report.triangles_after >= 4);
        assert_closed(simplified.positions().len(), simplified.triangles());
    }
}

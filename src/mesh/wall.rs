//! How thin the walls of a body are.

use rayon::prelude::*;

use super::vector::{self, Vector};

use box_tree::BoxTree;

mod box_tree;

/// Places at which the wall is measured.
const SAMPLES: usize = 1_500;

/// Rays that are worth a thread of their own.
const RAYS_AT_ONCE: usize = 128;

/// The share of the places that may lie on a thinner wall than the one reported: a few of them always fall next to a
/// sharp edge, or on a sliver that faces anywhere.
const THINNER_SHARE: f64 = 0.01;

/// Two sides make a wall if their outward normals have at most this cosine, 120 degrees apart or more. The sides of a
/// right-angled edge come near each other, too, but nothing is thin there.
pub(super) const OPPOSITE_COSINE_MAX: f64 = -0.5;

/// Hits nearer than this share of the greatest coordinate are the surface that the ray starts from.
const DISTANCE_MIN: f64 = 1e-6;

/// The thickness of the thinnest wall, in the unit of the mesh; 0 if it has no inside.
///
/// From 1,500 places, spread evenly over the surface and the same for the same mesh, it is measured straight inward how
/// far the other side is. Of the places with another side about opposite, a hundredth may lie on less than is reported:
/// so what is reported is a wall and no single point. If hardly any place has one (a tetrahedron), all count.
///
/// There is at least one triangle, corners are finite and in range.
pub(super) fn thinnest(positions: &[[f32; 3]], triangles: &[[u32; 3]]) -> f64 {
    let body = Body {
        positions,
        triangles,
        tree: BoxTree::new(positions, triangles),
    };
    let distance_min = DISTANCE_MIN * reach(positions);
    let measured: Vec<Measured> = body
        .places()
        .into_par_iter()
        .with_min_len(RAYS_AT_ONCE)
        .filter_map(|place| body.measure(place, distance_min))
        .collect();
    of_measured(measured, SAMPLES)
}

/// The thickness that a hundredth of what was measured lies below, of opposite sides alone if at least a hundredth of the
/// `places` has one; 0 if there is none.
pub(super) fn of_measured(mut measured: Vec<Measured>, places: usize) -> f64 {
    let opposite = measured.iter().filter(|measured| measured.is_opposite);
    if opposite.count() as f64 >= THINNER_SHARE * places as f64 {
        measured.retain(|measured| measured.is_opposite);
    }
    measured.sort_unstable_by(|a, b| a.distance.total_cmp(&b.distance));
    let weights = measured.iter().map(|measured| measured.weight);
    let thinner = THINNER_SHARE * weights.sum::<f64>();
    let mut upto = 0.0;
    let reached = measured.iter().find(|measured| {
        upto += measured.weight;
        upto > thinner
    });
    reached.map_or(0.0, |measured| measured.distance)
}

/// A point of the surface and where it faces.
#[derive(Debug, Clone, Copy)]
struct Place {
    point: Vector,
    outward: Vector,
}

/// What lies behind a place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Measured {
    pub(super) distance: f64,
    /// Whether the other side is about opposite.
    pub(super) is_opposite: bool,
    /// How much of the surface the place stands for, beside others.
    pub(super) weight: f64,
}

/// The greatest coordinate, whatever its sign.
fn reach(positions: &[[f32; 3]]) -> f64 {
    let greatest = |reach: f32, along: &f32| reach.max(along.abs());
    f64::from(positions.as_flattened().iter().fold(0.0, greatest))
}

/// What is measured.
struct Body<'a> {
    positions: &'a [[f32; 3]],
    triangles: &'a [[u32; 3]],
    tree: BoxTree,
}

impl Body<'_> {
    #[inline]
    fn corners(&self, triangle: u32) -> [Vector; 3] {
        let [a, b, c] = self.triangles[triangle as usize];
        let corner = |vertex: u32| vector::wide(self.positions[vertex as usize]);
        [corner(a), corner(b), corner(c)]
    }

    /// Places at even steps of the area, triangle after triangle; within a triangle they follow the additive sequence of
    /// the plastic number, which fills the plane evenly.
    fn places(&self) -> Vec<Place> {
        /// 1/p and 1/p² for the real root p of p³ = p + 1: Roberts, "The unreasonable effectiveness of quasirandom
        /// sequences", 2018.
        const STEPS: [f64; 2] = [0.754_877_666_246_692_8, 0.569_840_290_998_053_3];
        let areas = self.tree.areas();
        let step = areas.iter().map(|&area| f64::from(area)).sum::<f64>() / SAMPLES as f64;
        let mut places = Vec::with_capacity(SAMPLES);
        let (mut upto, mut next) = (0.0, 0.5 * step);
        for (triangle, &area) in areas.iter().enumerate() {
            upto += f64::from(area);
            if upto <= next {
                continue;
            }
            let corners = self.corners(triangle as u32);
            let Some(outward) = vector::unit(vector::twice_area(corners)) else {
                continue;
            };
            let [a, b, c] = corners;
            while places.len() < SAMPLES && upto > next {
                let [mut u, mut v] = STEPS.map(|step| (step * (places.len() as f64 + 0.5)).fract());
                // Half of the square is folded onto the other.
                if u + v > 1.0 {
                    (u, v) = (1.0 - u, 1.0 - v);
                }
                let to_b = vector::scale(vector::sub(b, a), u);
                let to_c = vector::scale(vector::sub(c, a), v);
                places.push(Place {
                    point: vector::add(a, vector::add(to_b, to_c)),
                    outward,
                });
                next = (places.len() as f64 + 0.5) * step;
            }
        }
        places
    }

    /// How far the surface is left again straight inward, if it is.
    fn measure(&self, place: Place, distance_min: f64) -> Option<Measured> {
        let inward = vector::scale(place.outward, -1.0);
        let mut nearest: Option<Measured> = None;
        self.tree.walk(place.point, inward, |leaf| {
            for &triangle in leaf {
                let corners = self.corners(triangle);
                let Some(distance) = leaves(place.point, inward, corners) else {
                    continue;
                };
                if distance > distance_min
                    && nearest.is_none_or(|nearest| distance < nearest.distance)
                {
                    let cosine = vector::unit(vector::twice_area(corners))
                        .map_or(0.0, |normal| vector::dot(normal, place.outward));
                    nearest = Some(Measured {
                        distance,
                        is_opposite: cosine <= OPPOSITE_COSINE_MAX,
                        weight: 1.0,
                    });
                }
            }
            nearest.map(|nearest| nearest.distance)
        });
        nearest
    }
}

/// How far along a ray it leaves the body through a triangle: Möller and Trumbore, "Fast, minimum storage ray/triangle
/// intersection", 1997. Edges belong to both of their triangles, so that no ray slips through between.
#[inline]
fn leaves(start: Vector, direction: Vector, [a, b, c]: [Vector; 3]) -> Option<f64> {
    const SLACK: f64 = 1e-9;
    let (to_b, to_c) = (vector::sub(b, a), vector::sub(c, a));
    let across = vector::cross(direction, to_c);
    // Positive where the ray comes from outside.
    let determinant = vector::dot(to_b, across);
    if determinant >= 0.0 {
        return None;
    }
    let from_a = vector::sub(start, a);
    let u = vector::dot(from_a, across) / determinant;
    if !(-SLACK..=1.0 + SLACK).contains(&u) {
        return None;
    }
    let up = vector::cross(from_a, to_b);
    let v = vector::dot(direction, up) / determinant;
    (v >= -SLACK && u + v <= 1.0 + SLACK).then(|| vector::dot(to_c, up) / determinant)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::{Mesh, fixtures};

    fn of(mesh: &Mesh) -> f64 {
        thinnest(mesh.positions(), mesh.triangles())
    }

    fn assert_near(value: f64, expected: f64, share: f64) {
        assert!(
            (value / expected - 1.0).abs() < share,
            "{value}, expected {expected}"
        );
    }

    /// A cube about the origin, scaled along the axes.
    fn slab(sides: [f32; 3]) -> Mesh {
        fixtures::moved_cube(|position| std::array::from_fn(|axis| position[axis] * sides[axis]))
    }

    #[test]
    fn a_slab_is_as_thick_as_its_least_side() {
        assert_near(of(&slab([1.0, 0.02, 0.7])), 0.02, 1e-5);
        assert_near(of(&slab([3.0, 2.0, 2.5])), 2.0, 1e-5);
    }

    #[test]
    fn a_hollow_sphere_is_as_thick_as_its_shell() {
        let shell = fixtures::colored(96, |p| {
            let distance = fixtures::distance(p, [0.0; 3]);
            50.0 * (0.8 - distance).min(distance - 0.7)
        });
        assert_near(of(&shell), 0.1, 0.02);
    }

    #[test]
    fn a_ball_and_a_ring_are_as_thick_as_they_are_round() {
        assert_near(of(&fixtures::colored(64, fixtures::sphere(0.6))), 1.2, 0.03);
        assert_near(of(&fixtures::colored(96, fixtures::torus())), 0.4, 0.03);
    }

    #[test]
    fn a_rod_on_a_ball_is_found() {
        // About a thirtieth of the surface.
        let mesh = fixtures::colored(128, |[x, y, z]| {
            let ball = 0.5 - fixtures::distance([x, y, z], [-0.3, 0.0, 0.0]);
            let rod = (0.03 - (y * y + z * z).sqrt()).min(0.8 - x.abs());
            50.0 * ball.max(rod)
        });
        assert_near(of(&mesh), 0.06, 0.1);
    }

    #[test]
    fn without_opposite_sides_all_count() {
        let positions = vec![
            [1.0, 1.0, 1.0],
            [1.0, -1.0, -1.0],
            [-1.0, 1.0, -1.0],
            [-1.0, -1.0, 1.0],
        ];
        let triangles = [[0, 1, 2], [0, 3, 1], [0, 2, 3], [1, 3, 2]];
        let thinnest = thinnest(&positions, &triangles);
        assert!(thinnest > 0.01 && thinnest < 1.0, "{thinnest}");
    }

    #[test]
    fn what_has_no_inside_has_no_wall() {
        let positions = [[0.0; 3], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]];
        assert_eq!(thinnest(&positions, &[[0, 1, 2]]), 0.0);
        // Without any area either.
        assert_eq!(thinnest(&positions, &[[0, 0, 1]]), 0.0);
    }
}

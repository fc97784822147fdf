use proptest::prelude::*;

use super::*;
use crate::mesh::{fixtures, surface::Surface};

const ALL: usize = usize::MAX;

const TETRAHEDRON: [[u32; 3]; 4] = [[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]];

fn counted(positions: &[[f32; 3]], triangles: &[[u32; 3]]) -> Intersections {
    count(&TriangleGrid::new(positions, triangles), ALL)
}

fn complete(pairs: usize) -> Intersections {
    Intersections {
        pairs,
        is_complete: true,
    }
}

/// Two tetrahedra, the second one moved.
fn two(by: [f32; 3]) -> (Vec<[f32; 3]>, Vec<[u32; 3]>) {
    let first = [[0.0; 3], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
    let second = first.map(|corner| std::array::from_fn(|axis| corner[axis] + by[axis]));
    let triangles = TETRAHEDRON
        .into_iter()
        .chain(TETRAHEDRON.map(|triangle| triangle.map(|vertex| vertex + 4)));
    ([first, second].concat(), triangles.collect())
}

#[test]
fn crossing_tetrahedra_cut_each_other() {
    let (positions, triangles) = two([0.2, 0.2, 0.2]);
    // The corner of the second one sticks in through the slope of the first one: three faces cut one.
    assert_eq!(counted(&positions, &triangles), complete(3));
    let grid = TriangleGrid::new(&positions, &triangles);
    let mut pairs = pairs(&grid);
    pairs.sort_unstable();
    assert_eq!(pairs, [[2, 4], [2, 5], [2, 7]]);
}

#[test]
fn what_touches_does_not_cut() {
    for by in [
        // A corner at a corner, at an edge, at a face; all on each other; within a rounding.
        [1.0, 0.0, 0.0],
        [0.5, 0.5, 0.0],
        [0.25, 0.25, -1.0],
        [0.0, 0.0, 0.0],
        [1.0 - f32::EPSILON, 0.0, 0.0],
    ] {
        let (positions, triangles) = two(by);
        assert_eq!(counted(&positions, &triangles), complete(0), "{by:?}");
    }
    let (positions, triangles) = two([1.0 - 1e-5, 0.0, 0.0]);
    assert!(
        counted(&positions, &triangles).pairs > 0,
        "deeper than rounding"
    );
}

#[test]
fn a_sheet_that_is_folded_through_itself_cuts_itself() {
    // A strip along x that comes back and dips through its beginning, between z = 0 and z = 1.
    let line = [[0.0, 0.0], [3.0, 0.0], [3.0, 2.0], [1.0, 2.0], [1.5, -1.0]];
    let positions: Vec<[f32; 3]> = line
        .into_iter()
        .flat_map(|[x, y]| [[x, y, 0.0], [x, y, 1.0]])
        .collect();
    let triangles: Vec<[u32; 3]> = (0..4)
        .map(|step| 2 * step)
        .flat_map(|at| [[at, at + 2, at + 3], [at, at + 3, at + 1]])
        .collect();
    assert_eq!(counted(&positions[..8], &triangles[..6]), complete(0));
    let through = counted(&positions, &triangles).pairs;
    assert!((2..=4).contains(&through), "{through}");
}

#[test]
fn neighbours_at_a_vertex_cut_each_other_if_they_overlap_away_from_it() {
    let fan = |tip: [f32; 3]| {
        let positions = [
            [0.0; 3],
            [2.0, -1.0, 0.0],
            [2.0, 1.0, 0.0],
            tip,
            [2.0, 0.0, -1.0],
        ];
        counted(&positions, &[[0, 1, 2], [0, 3, 4]])
    };
    assert_eq!(fan([2.0, 0.0, 1.0]), complete(1));
    assert_eq!(fan([2.0, 0.0, -2.0]), complete(0));
    // Beyond the vertex, on the other side.
    let positions = [
        [0.0; 3],
        [2.0, -1.0, 0.0],
        [2.0, 1.0, 0.0],
        [-2.0, 0.0, 1.0],
        [-2.0, 0.0, -1.0],
    ];
    assert_eq!(counted(&positions, &[[0, 1, 2], [0, 3, 4]]), complete(0));
}

#[test]
fn counting_ends_at_the_most() {
    let (positions, triangles) = two([0.2, 0.2, 0.2]);
    let grid = TriangleGrid::new(&positions, &triangles);
    let at_least = Intersections {
        pairs: 2,
        is_complete: false,
    };
    assert_eq!(count(&grid, 2), at_least);
    assert_eq!(count(&grid, 3), complete(3));
}

#[test]
fn an_unsimplified_surface_has_none() {
    for field in [
        fixtures::gyroid_in_sphere(),
        fixtures::noise(),
        fixtures::torus(),
    ] {
        let surface = fixtures::surface(64, field);
        assert_eq!(
            counted(surface.positions(), surface.triangles()),
            Intersections::NONE
        );
    }
}

/// Corners on a small grid of whole numbers, exact in any arithmetic.
type Whole = [[i64; 3]; 3];

/// As [`Cutter::cut`], without rounding.
fn cut_exactly(a: Whole, b: Whole) -> bool {
    let sub =
        |p: [i64; 3], q: [i64; 3]| -> [i64; 3] { std::array::from_fn(|axis| p[axis] - q[axis]) };
    let dot = |p: [i64; 3], q: [i64; 3]| p.iter().zip(q).map(|(p, q)| p * q).sum::<i64>();
    let cross = |p: [i64; 3], q: [i64; 3]| {
        [
            p[1] * q[2] - p[2] * q[1],
            p[2] * q[0] - p[0] * q[2],
            p[0] * q[1] - p[1] * q[0],
        ]
    };
    let normal = |t: Whole| cross(sub(t[1], t[0]), sub(t[2], t[0]));
    let line = cross(normal(a), normal(b));
    // The ends of what is covered of the line, as fractions.
    let covered = |t: Whole, other: Whole| {
        let above = t.map(|corner| dot(normal(other), sub(corner, other[0])));
        let straddles =
            above.iter().any(|&above| above < 0) && above.iter().any(|&above| above > 0);
        let mut ends: Vec<[i64; 2]> = [(0, 1), (1, 2), (2, 0)]
            .into_iter()
            .filter(|&(i, j)| (above[i] < 0) != (above[j] < 0))
            .map(|(i, j)| {
                let below = above[j] - above[i];
                let at = dot(line, t[i]) * above[j] - dot(line, t[j]) * above[i];
                [at * below.signum(), below.abs()]
            })
            .collect();
        ends.sort_by(|p, q| (p[0] * q[1]).cmp(&(q[0] * p[1])));
        straddles.then(|| [ends[0], ends[1]])
    };
    let (Some([from_a, to_a]), Some([from_b, to_b])) = (covered(a, b), covered(b, a)) else {
        return false;
    };
    let before = |p: [i64; 2], q: [i64; 2]| p[0] * q[1] < q[0] * p[1];
    before(from_a, to_b) && before(from_b, to_a) && before(from_a, to_a) && before(from_b, to_b)
}

proptest! {
    /// Soups with many touching, crossing and degenerate pairs.
    #[test]
    fn the_count_is_that_of_all_pairs_looked_at_exactly(
        soup in prop::collection::vec(prop::array::uniform3(prop::array::uniform3(-3i64..4)), 2..24),
    ) {
        let positions: Vec<[f32; 3]> = soup.as_flattened().iter().map(|corner| corner.map(|along| along as f32)).collect();
        let triangles: Vec<[u32; 3]> = (0..soup.len() as u32).map(|at| [3 * at, 3 * at + 1, 3 * at + 2]).collect();
        let expected = (0..soup.len())
            .flat_map(|a| (0..a).map(move |b| (a, b)))
            .filter(|&(a, b)| cut_exactly(soup[a], soup[b]))
            .count();
        prop_assume!(Surface::new(positions.clone(), triangles.clone()).is_ok());
        prop_assert_eq!(counted(&positions, &triangles), complete(expected));
    }
}

use proptest::prelude::*;

use super::*;
use crate::mesh::{
    fixtures,
    intersections::{self, Intersections},
    lattice::on_border,
    quality,
    topology::Topology,
    triangle_grid::TriangleGrid,
    vector,
};

/// A lattice of a few samples with every cell in it; the border is set outside as the sampler does.
fn lattice(samples: usize, iso: f32, values: impl Fn(Index3) -> f32) -> Lattice {
    let mut lattice = Lattice::new(samples, 1);
    for key in 0..samples.pow(3) {
        let sample = [
            key % samples,
            key / samples % samples,
            key / (samples * samples),
        ];
        let value = values(sample);
        let outside = if on_border(sample, lattice.cells()) {
            value.min(iso)
        } else {
            value
        };
        let slot = lattice.ask(sample).expect("each sample is asked for once");
        lattice.set(slot, outside);
        if sample.iter().all(|&along| along < samples - 1) {
            lattice.add_cell(sample);
        }
    }
    lattice
}

fn axis(samples: usize) -> Vec<f32> {
    (0..samples).map(|index| index as f32).collect()
}

fn assert_closed_and_outward(surface: &Surface) {
    let topology = Topology::of(surface.positions().len(), surface.triangles());
    assert!(
        topology.is_watertight() && topology.is_manifold(),
        "{topology:?}"
    );
    for &triangle in surface.triangles() {
        let area = vector::length(vector::twice_area(vector::corners(
            surface.positions(),
            triangle,
        )));
        assert!(area > 0.0, "a triangle without area");
    }
}

#[test]
fn every_cell_beside_any_neighbours_is_closed() {
    // Blocks of 3³ samples, each inside or outside, show all 256 cells in all positions and many neighbourhoods.
    let mut seen = [false; 256];
    let mut state = 1u64;
    for _ in 0..3_000 {
        // Knuth's multiplier; the high bits are the good ones.
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let bits = state >> 37;
        let block = lattice(5, 0.0, |sample| {
            let in_block = sample.iter().all(|along| (1..4).contains(along));
            let inside = in_block
                && bits >> ((sample[0] - 1) + 3 * (sample[1] - 1) + 9 * (sample[2] - 1)) & 1 == 1;
            if inside { 1.0 } else { -1.0 }
        });
        let inside = block.samples(|value| value > 0.0);
        for brick in block.bricks_in_order() {
            let inside = Corners::of(&inside, &block.behind(brick));
            for cell in slots(brick, block.cells_of(brick)) {
                let case = inside.of_cell(cell);
                let corners = block.corner_values(cell).into_iter().enumerate();
                let expected = corners.fold(0, |case, (corner, value)| {
                    case | u8::from(value > 0.0) << corner
                });
                assert_eq!(case, expected, "bit by bit and corner by corner");
                seen[usize::from(case)] = true;
            }
        }
        assert_closed_and_outward(&extract(&block, &axis(5), 0.0).expect("something is inside"));
    }
    assert!(seen.iter().all(|&seen| seen), "every case occurs");
}

#[test]
fn a_single_inside_sample_becomes_an_octahedron_facing_outward() {
    let lattice = lattice(
        5,
        0.0,
        |sample| if sample == [2, 2, 2] { 1.0 } else { -1.0 },
    );
    let surface = extract(&lattice, &axis(5), 0.0).expect("has a surface");
    assert_eq!(
        (surface.positions().len(), surface.triangles().len()),
        (6, 8)
    );
    let mesh = crate::mesh::Mesh::from_surface(surface, None).expect("valid");
    // An octahedron that reaches half a cell from its centre: 4/3 · r³.
    assert!((quality::assess(&mesh).volume - 4.0 / 3.0 * 0.125).abs() < 1e-9);
}

#[test]
fn vertices_keep_clear_of_the_samples() {
    // The iso level almost meets the inside sample, so that all its vertices would fall onto it.
    let lattice = lattice(
        5,
        0.0,
        |sample| if sample == [2, 2, 2] { 1e-30 } else { -1.0 },
    );
    let surface = extract(&lattice, &axis(5), 0.0).expect("has a surface");
    assert_closed_and_outward(&surface);
    for position in surface.positions() {
        assert!((fixtures::distance(*position, [2.0; 3]) - CLEARANCE as f32).abs() < 1e-6);
    }
}

#[test]
fn huge_values_are_interpolated_without_overflow() {
    let lattice = lattice(4, 0.0, |sample| {
        if sample == [1, 1, 1] {
            f32::MAX
        } else {
            f32::MIN
        }
    });
    let surface = extract(&lattice, &axis(4), 0.0).expect("has a surface");
    assert!(surface.positions().contains(&[1.5, 1.0, 1.0]));
}

#[test]
fn a_sphere_has_its_vertices_on_it() {
    let surface = fixtures::surface(64, fixtures::sphere(0.6));
    assert_closed_and_outward(&surface);
    for position in surface.positions() {
        assert!((fixtures::distance(*position, [0.0; 3]) - 0.6).abs() < 1e-3);
    }
}

#[test]
fn nothing_inside_is_no_surface() {
    assert_eq!(
        extract(&lattice(4, 0.0, |_| -1.0), &axis(4), 0.0),
        Err(MeshError::Empty)
    );
}

#[test]
fn the_triangles_of_a_cell_never_cut_each_other() {
    let mut state = 1u64;
    let mut random = || {
        // Knuth's multiplier; the high bits are the good ones.
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32
    };
    let table = CaseTable::get();
    for case in 0..=255 {
        let triangles: Vec<[u32; 3]> = table
            .triangles(case)
            .iter()
            .map(|corners| corners.map(u32::from))
            .collect();
        if triangles.is_empty() {
            continue;
        }
        for round in 0..40 {
            // First near the ends of the edges, as far as vertices go, then anywhere between.
            let positions = EDGES.map(|edge| {
                let mut point = std::array::from_fn(|axis| (edge.start >> axis & 1) as f32);
                let share = random();
                let share = if round < 20 { share.round() } else { share };
                point[edge.axis] = share.clamp(CLEARANCE as f32, 1.0 - CLEARANCE as f32);
                point
            });
            let grid = TriangleGrid::new(&positions, &triangles);
            let found = intersections::count(&grid, usize::MAX);
            assert_eq!(found, Intersections::NONE, "case {case}: {positions:?}");
        }
    }
}

proptest! {
    #[test]
    fn any_field_is_closed_or_empty(
        values in prop::collection::vec(-1.0f32..1.0, 6 * 6 * 6),
        iso in -1.5f32..1.5,
        coarse in any::<bool>(),
    ) {
        // Coarse values hit the iso level exactly, and each other.
        let value = |[x, y, z]: Index3| {
            let value = values[x + 6 * (y + 6 * z)];
            if coarse { (2.0 * value).round() / 2.0 } else { value }
        };
        let iso = if coarse { (2.0 * iso).round() / 2.0 } else { iso };
        match extract(&lattice(6, iso, value), &axis(6), iso) {
            Ok(surface) => {
                assert_closed_and_outward(&surface);
                let mesh = crate::mesh::Mesh::from_surface(surface, None).expect("valid");
                prop_assert!(quality::assess(&mesh).volume > 0.0);
            }
            Err(error) => prop_assert_eq!(error, MeshError::Empty),
        }
    }
}

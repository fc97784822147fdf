use super::*;
use crate::mesh::{compare::nearest, fixtures, topology::Topology, vector};

mod properties;

/// What a dense evaluation of the same grid gives.
fn dense(options: FieldOptions, field: &dyn Fn([f32; 3]) -> f32) -> Result<Surface, MeshError> {
    let samples = options.resolution.samples() as usize;
    let mut sampler = FieldSampler::new(options);
    sampler.lattice = Lattice::new(samples, 1);
    for key in 0..(samples - 1).pow(3) {
        let side = samples - 1;
        let cell = [key % side, key / side % side, key / (side * side)];
        sampler.lattice.add_cell(cell);
    }
    sampler.ask_corners_of_level(None);
    let points = sampler.request().expect("asks for all points");
    assert_eq!(points.len(), samples.pow(3));
    let logits: Vec<f32> = points.into_iter().map(field).collect();
    sampler.supply(&logits)?;
    assert_eq!(sampler.request(), None);
    sampler.into_surface()
}

fn assert_same_as_dense(samples: u32, field: &dyn Fn([f32; 3]) -> f32) -> usize {
    let options = fixtures::options(samples);
    let (surface, points) = fixtures::sample(options, field).expect("has a surface");
    let expected = dense(options, field).expect("has a surface");
    assert_eq!(surface.triangles().len(), expected.triangles().len());
    assert!(surface == expected, "other positions or another order");
    let topology = Topology::of(surface.positions().len(), surface.triangles());
    assert!(
        topology.is_watertight() && topology.is_manifold(),
        "{topology:?}"
    );
    points
}

#[test]
fn coarse_to_fine_gives_the_dense_surface_bit_for_bit() {
    let fields: [(&str, fixtures::Field, f64); 5] = [
        ("sphere", fixtures::sphere(0.65), 0.09),
        ("torus", fixtures::torus(), 0.09),
        ("gyroid in sphere", fixtures::gyroid_in_sphere(), 0.5),
        ("two spheres", fixtures::two_spheres(), 0.09),
        ("noise", fixtures::noise(), 0.25),
    ];
    for (name, field, share_max) in fields {
        let points = assert_same_as_dense(128, &field);
        let share = points as f64 / 128f64.powi(3);
        assert!(
            share < share_max,
            "{name}: {points} points, {share:.3} of the dense grid"
        );
    }
}

#[test]
fn odd_resolutions_give_the_dense_surface_too() {
    for samples in [32, 33, 47, 64, 77, 100] {
        assert_same_as_dense(samples, &fixtures::torus());
        assert_same_as_dense(samples, &fixtures::two_spheres());
    }
}

#[test]
fn thin_parts_that_no_coarse_sample_meets_are_followed_from_the_body() {
    // A needle, a third of a coarse cell thick, that leaves a ball through a coarse cell's face.
    let needle = |[x, y, z]: [f32; 3]| {
        let ball = 0.25 - fixtures::distance([x, y, z], [-0.5, 0.03, 0.03]);
        let off_axis = ((y - 0.03).powi(2) + (z - 0.03).powi(2)).sqrt();
        let rod = (0.012 - off_axis).min(0.8 - x.abs());
        // Steeper than any margin: signs alone lead on.
        5_000.0 * ball.max(rod)
    };
    let (surface, _) = fixtures::sample(
        FieldOptions {
            logit_slope: 0.0,
            ..fixtures::options(128)
        },
        &needle,
    )
    .expect("has a surface");
    assert!(
        surface.bounding_box().max[0] > 0.78,
        "the needle ends at 0.8"
    );
    assert_same_as_dense(128, &needle);
}

#[test]
fn the_border_of_the_volume_closes_a_body_that_fills_it() {
    for field in [
        (|_| 7.0) as fn([f32; 3]) -> f32,
        |[x, _, _]| 3.0 + x,
        |[x, y, z]| x + y + z,
    ] {
        let (surface, _) = fixtures::sample(fixtures::options(64), &field).expect("has a surface");
        let topology = Topology::of(surface.positions().len(), surface.triangles());
        assert!(
            topology.is_watertight() && topology.is_manifold(),
            "{topology:?}"
        );
        let bounds = surface.bounding_box();
        assert!(
            bounds.min.iter().all(|&along| along > -1.0)
                && bounds.max.iter().all(|&along| along < 1.0)
        );
        assert!(bounds.max[0] > 0.95);
        assert_same_as_dense(64, &field);
    }
}

#[test]
fn a_field_without_an_inside_is_empty() {
    for field in [(|_| -3.0) as fn([f32; 3]) -> f32, |_| 0.0] {
        let result = fixtures::sample(fixtures::options(64), &field);
        assert_eq!(result.map(|_| ()), Err(MeshError::Empty));
    }
}

#[test]
fn the_iso_level_moves_the_surface() {
    let options = FieldOptions {
        iso: 5.0,
        ..fixtures::options(64)
    };
    let (surface, _) = fixtures::sample(options, &fixtures::sphere(0.6)).expect("has a surface");
    // Logits are distances over 0.02, so 5 lies 0.1 deeper.
    assert!((surface.bounding_box().max[1] - 0.5).abs() < 2e-3);
}

#[test]
fn a_value_that_is_not_finite_is_named() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut sampler = FieldSampler::new(fixtures::options(32));
        let count = sampler.request().expect("asks for the coarse grid").len();
        let mut logits = vec![-1.0; count];
        logits[17] = bad;
        assert_eq!(
            sampler.supply(&logits),
            Err(MeshError::NonFinite { index: 17 })
        );
    }
}

#[test]
#[should_panic(expected = "one logit for each point")]
fn a_wrong_number_of_logits_is_a_programming_error() {
    let mut sampler = FieldSampler::new(fixtures::options(32));
    let _ = sampler.request();
    let _ = sampler.supply(&[1.0]);
}

#[test]
#[should_panic(expected = "must be supplied first")]
fn extracting_too_early_is_a_programming_error() {
    let _ = FieldSampler::new(fixtures::options(32)).into_surface();
}

#[test]
fn a_request_can_be_repeated_and_the_fraction_never_falls() {
    let field = fixtures::gyroid_in_sphere();
    let mut sampler = FieldSampler::new(fixtures::options(128));
    let mut fractions = vec![sampler.fraction()];
    while let Some(points) = sampler.request() {
        assert!(!points.is_empty());
        assert_eq!(sampler.request().as_ref(), Some(&points));
        assert!(
            points
                .as_flattened()
                .iter()
                .all(|along| (-1.0..=1.0).contains(along))
        );
        let logits: Vec<f32> = points.into_iter().map(&field).collect();
        sampler.supply(&logits).expect("finite");
        fractions.push(sampler.fraction());
    }
    assert!(fractions.is_sorted(), "{fractions:?}");
    assert_eq!(
        (fractions.first(), fractions.last()),
        (Some(&0.0), Some(&1.0))
    );
    assert!(fractions.len() >= 4);
}

#[test]
fn hardly_a_point_is_asked_for_twice() {
    // What a coarser level knew is forgotten with it; only where the surface is followed may it be asked for again.
    let field = fixtures::noise();
    let (mut seen, mut again, mut follows) = (std::collections::HashSet::new(), 0, false);
    let mut sampler = FieldSampler::new(fixtures::options(64));
    while let Some(points) = sampler.request() {
        let before = again;
        for point in &points {
            again += usize::from(!seen.insert(point.map(f32::to_bits)));
        }
        assert!(
            again == before || follows,
            "asked again outside of following"
        );
        let logits: Vec<f32> = points.into_iter().map(&field).collect();
        sampler.supply(&logits).expect("finite");
        follows = matches!(sampler.phase, Phase::Follow(_));
    }
    assert!(again * 100 < seen.len(), "{again} of {} again", seen.len());
}

/// The greatest distance from a vertex of one surface to the nearest of the other.
fn hausdorff(one: &Surface, other: &Surface) -> f64 {
    let points = |surface: &Surface| -> Vec<[f64; 3]> {
        let positions = surface.positions().iter();
        positions.map(|&position| vector::wide(position)).collect()
    };
    let (one, other) = (points(one), points(other));
    let farthest = |from, to| nearest::distances(from, to).into_iter().fold(0.0, f64::max);
    f64::max(farthest(&one, &other), farthest(&other, &one))
}

#[test]
fn the_shape_shows_before_the_last_level_and_looking_changes_nothing() {
    for field in [fixtures::sphere(0.65), fixtures::torus()] {
        let options = fixtures::options(128);
        let mut sampler = FieldSampler::new(options);
        let mut coarse = Vec::new();
        while let Some(points) = sampler.request() {
            let logits: Vec<f32> = points.into_iter().map(&field).collect();
            sampler.supply(&logits).expect("finite");
            if matches!(sampler.phase, Phase::Level) {
                coarse.push(sampler.coarse_surface().expect("the level shows it"));
            }
        }
        assert_eq!(coarse.len(), 2, "of levels 4 and 2 of 4, 2 and 1");
        let surface = sampler.into_surface().expect("has a surface");
        let (expected, _) = fixtures::sample(options, &field).expect("has a surface");
        assert!(surface == expected, "looking changed the surface");
        for (level, coarse) in coarse.iter().enumerate() {
            let cell = 2.0 / f64::from(32 << level);
            let apart = hausdorff(coarse, &surface);
            assert!(apart < 2.0 * cell, "level {level}: {apart}");
        }
        let first = Topology::of(coarse[0].positions().len(), coarse[0].triangles());
        assert!(first.is_watertight() && first.is_manifold(), "{first:?}");
    }
}

#[test]
fn nothing_shows_before_a_level_is_complete_or_without_a_surface_or_levels() {
    let fields: [(u32, fixtures::Field); 2] = [
        // All of the coarse samples are outside, and near enough to look on.
        (128, Box::new(|_| -0.01)),
        (32, fixtures::sphere(0.65)),
    ];
    for (samples, field) in fields {
        let mut sampler = FieldSampler::new(fixtures::options(samples));
        assert_eq!(sampler.coarse_surface(), None);
        while let Some(points) = sampler.request() {
            let logits: Vec<f32> = points.into_iter().map(&field).collect();
            sampler.supply(&logits).expect("finite");
            assert_eq!(sampler.coarse_surface(), None, "{samples} samples");
        }
    }
}

#[test]
fn noise_that_would_fill_the_memory_is_refused() {
    let mut state = 1u32;
    let samples_max = 100_000;
    let mut sampler = FieldSampler::new(FieldOptions {
        samples_max,
        ..fixtures::options(128)
    });
    let result = loop {
        let Some(points) = sampler.request() else {
            panic!("noise has no end")
        };
        let logits: Vec<f32> = points
            .iter()
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                if state >> 31 == 0 { 1.0 } else { -1.0 }
            })
            .collect();
        if let Err(error) = sampler.supply(&logits) {
            break error;
        }
    };
    let MeshError::TooComplex {
        what: "samples",
        needed,
        allowed,
    } = result
    else {
        panic!("{result:?}")
    };
    assert!(needed > allowed && allowed == samples_max);
}

#[test]
fn resolutions_are_checked() {
    for samples in [0, 31, 513] {
        assert_eq!(
            Resolution::new(samples),
            Err(MeshError::Resolution {
                samples,
                min: 32,
                max: 512
            })
        );
    }
    assert_eq!(Resolution::new(512).map(Resolution::samples), Ok(512));
}

#[test]
fn coarse_grids_have_about_32_cells() {
    for samples in 32..=512 {
        let cells = (samples - 1usize).div_ceil(coarse_step(samples));
        assert!(
            (23..=46).contains(&cells),
            "{samples} samples: {cells} cells"
        );
    }
    assert_eq!([32, 64, 128, 256, 512].map(coarse_step), [1, 2, 4, 8, 16]);
}

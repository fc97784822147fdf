use super::*;
use crate::mesh::fixtures::{self, Field};

fn sampled(samples: u32, field: &dyn Fn([f32; 3]) -> f32) -> FieldSampler {
    let mut sampler = FieldSampler::new(fixtures::options(samples));
    while let Some(points) = sampler.request() {
        let logits: Vec<f32> = points.into_iter().map(field).collect();
        sampler.supply(&logits).expect("takes them");
    }
    sampler
}

/// What the field says and what the triangles of its surface say.
fn measured(samples: u32, field: &dyn Fn([f32; 3]) -> f32) -> [f64; 2] {
    let sampler = sampled(samples, field);
    let surface = sampler.surface().expect("has a surface");
    let walls = sampler.into_walls(&surface);
    let by_field = walls.thinnest();
    assert_eq!(by_field, walls.thinnest(), "not the same");
    [
        by_field,
        wall::thinnest(surface.positions(), surface.triangles()),
    ]
}

fn boxed([x, y, z]: [f32; 3], center: [f32; 3], half: [f32; 3]) -> f32 {
    let beyond = |axis: usize| half[axis] - ([x, y, z][axis] - center[axis]).abs();
    beyond(0).min(beyond(1)).min(beyond(2))
}

fn slab(half: [f32; 3]) -> Field {
    Box::new(move |[x, y, z]| {
        // Turned, so that it lies along no axis.
        let (sin, cos) = 0.4f32.sin_cos();
        let turned = [cos * x - sin * y, sin * x + cos * y, z];
        50.0 * boxed(turned, [0.01, 0.02, 0.0], half)
    })
}

fn shell() -> Field {
    Box::new(|p| {
        let distance = fixtures::distance(p, [0.0; 3]);
        50.0 * (0.8 - distance).min(distance - 0.7)
    })
}

fn chair() -> Field {
    Box::new(|p| {
        let seat = boxed(p, [0.0, 0.0, 0.0], [0.42, 0.05, 0.4]);
        let back = boxed(p, [0.0, 0.4, -0.36], [0.42, 0.4, 0.045]);
        let legs = [[-0.36, -0.34], [0.36, -0.34], [-0.36, 0.34], [0.36, 0.34]];
        let legs = legs.map(|[x, z]| boxed(p, [x, -0.4, z], [0.035, 0.4, 0.035]));
        10.0 * legs.into_iter().fold(seat.max(back), f32::max)
    })
}

#[test]
fn field_and_triangles_agree() {
    let fields: [(&str, Field); 7] = [
        ("sphere", fixtures::sphere(0.6)),
        ("torus", fixtures::torus()),
        ("shell", shell()),
        ("slab", slab([0.6, 0.05, 0.5])),
        ("gyroid", fixtures::gyroid_in_sphere()),
        ("noise", fixtures::noise()),
        ("chair", chair()),
    ];
    for (name, field) in fields {
        for samples in [96, 160] {
            let [by_field, by_triangles] = measured(samples, &field);
            let half_cell = 1.0 / f64::from(samples - 1);
            let off = (by_field - by_triangles).abs();
            assert!(
                off <= half_cell.max(0.03 * by_triangles),
                "{name} at {samples}: {by_field}, by the triangles {by_triangles}"
            );
        }
    }
}

#[test]
fn a_card_of_about_a_cell_has_its_own_thickness() {
    for samples in [96, 160] {
        // The triangles at its rim are slivers that face anywhere: they are no measure here.
        let [by_field, _] = measured(samples, &slab([0.6, 0.012, 0.5]));
        let half_cell = 1.0 / f64::from(samples - 1);
        assert!(
            (by_field - 0.024).abs() < half_cell,
            "{by_field} at {samples}"
        );
    }
}

#[test]
fn what_touches_the_border_ends_there() {
    // All of the volume but for a slit.
    let [by_field, by_triangles] = measured(64, &|[_, y, _]| 10.0 * (y.abs() - 0.3));
    assert!((by_field - 0.7).abs() < 0.03, "{by_field}");
    assert!((by_field - by_triangles).abs() < 0.03, "{by_triangles}");
}

#[test]
fn a_hollow_is_measured_from_both_sides() {
    let [by_field, _] = measured(128, &shell());
    assert!((by_field - 0.1).abs() < 0.003, "{by_field}");
}

#[test]
fn a_component_is_measured_by_itself() {
    let field = fixtures::two_spheres();
    let thinnest = |surface: &Surface| sampled(96, &field).into_walls(surface).thinnest();
    let surface = sampled(96, &field).surface().expect("has a surface");
    assert!((thinnest(&surface) - 0.3).abs() < 0.015);
    let options = crate::mesh::clean::CleanOptions { speck_share: 0.5 };
    let (large, _, _) = crate::mesh::clean::drop_specks(surface, options);
    assert!((thinnest(&large) - 0.6).abs() < 0.02);
}

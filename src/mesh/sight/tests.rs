use proptest::prelude::*;

use super::*;
use crate::mesh::{Mesh, fixtures, sight::camera::Pose};

const SIDE: usize = 192;

impl Sight {
    /// Through the camera that is found for the mesh itself.
    pub(super) fn fit(mesh: &Mesh, picture: &Picture<'_>) -> Option<Self> {
        Self::fit_surface(mesh.positions(), mesh.triangles(), picture)
    }

    pub(super) fn fit_surface(
        positions: &[[f32; 3]],
        triangles: &[[u32; 3]],
        picture: &Picture<'_>,
    ) -> Option<Self> {
        let guess = Guess::of(positions, triangles, picture)?;
        Some(Self::fit_from(guess, positions, triangles, picture))
    }
}

/// The alpha of a mesh as a known camera sees it, its outline filling 0.86 of the picture.
fn seen(mesh: &Mesh, elevation_deg: f32, perspective: f32) -> Vec<f32> {
    let bounds = mesh.bounding_box();
    let mut pose = Pose {
        elevation: elevation_deg.to_radians(),
        perspective,
        shift: [0.0; 2],
        zoom: 1.0,
    };
    for _ in 0..6 {
        let camera = Camera::new(pose, &bounds);
        let places = mesh.positions().iter().map(|&at| camera.project(at));
        let (mut low, mut high) = ([f32::MAX; 2], [f32::MIN; 2]);
        for place in places {
            for axis in 0..2 {
                low[axis] = low[axis].min(place[axis]);
                high[axis] = high[axis].max(place[axis]);
            }
        }
        let size = (high[0] - low[0]).max(high[1] - low[1]);
        pose.shift[0] += (low[0] + high[0]) / 2.0 / pose.zoom;
        pose.shift[1] -= (low[1] + high[1]) / 2.0 / pose.zoom;
        pose.zoom *= 1.72 / size;
    }
    let camera = Camera::new(pose, &bounds);
    DepthMap::drawn(mesh.positions(), mesh.triangles(), &camera, SIDE)
        .covers()
        .map(f32::from)
        .collect()
}

/// A box with a bump towards the camera, off the middle, and a mast.
fn body() -> Mesh {
    fixtures::colored(72, bodys_field())
}

fn bodys_field() -> impl Fn([f32; 3]) -> f32 {
    let inside = |p: [f32; 3], half: [f32; 3]| {
        p.iter()
            .zip(half)
            .map(|(along, half)| half - along.abs())
            .fold(f32::MAX, f32::min)
    };
    move |[x, y, z]| {
        let slab = inside([x, y + 0.2, z], [0.6, 0.2, 0.4]);
        let bump = inside([x - 0.3, y + 0.2, z - 0.5], [0.15, 0.15, 0.25]);
        let mast = inside([x + 0.3, y - 0.2, z + 0.1], [0.08, 0.5, 0.08]);
        50.0 * slab.max(bump).max(mast)
    }
}

fn fitted(mesh: &Mesh, alpha: &[f32]) -> Sight {
    let rgb = vec![0.5; 3 * SIDE * SIDE];
    Sight::fit(mesh, &Picture::new(SIDE, alpha, &rgb)).expect("the alpha covers something")
}

#[test]
fn the_camera_of_a_silhouette_is_found() {
    let bodies = [body(), fixtures::colored(72, fixtures::torus())];
    for mesh in &bodies {
        for (elevation, perspective) in [(-7.0, 0.2), (12.5, 0.4), (23.0, 0.3), (41.0, 0.25)] {
            let sight = fitted(mesh, &seen(mesh, elevation, perspective));
            let found = sight.elevation_deg() as f32;
            // A ring looks the same from below.
            assert!(
                (found - elevation).abs() < 3.0 || (found + elevation).abs() < 3.0,
                "{found} is not {elevation}"
            );
            let agreement = sight.silhouette_agreement();
            assert!(agreement > 0.97, "{agreement} at {elevation}");
        }
    }
}

#[test]
fn a_coarse_surface_is_enough_to_look_for_the_camera_from_everywhere() {
    let (fine, rgb) = (body(), vec![0.5; 3 * SIDE * SIDE]);
    for elevation in [-7.0, 12.5, 41.0] {
        let alpha = seen(&fine, elevation, 0.3);
        let picture = Picture::new(SIDE, &alpha, &rgb);
        let coarse = fixtures::surface(36, bodys_field());
        let guess = Guess::of(coarse.positions(), coarse.triangles(), &picture);
        let guess = guess.expect("the alpha covers something");
        let sight = Sight::fit_from(guess, fine.positions(), fine.triangles(), &picture);
        let found = sight.elevation_deg() as f32;
        assert!(
            (found - elevation).abs() < 3.0,
            "{found} is not {elevation}"
        );
        let agreement = sight.silhouette_agreement();
        assert!(agreement > 0.97, "{agreement} at {elevation}");
    }
}

#[test]
fn thin_and_pierced_things_agree_with_themselves() {
    let mesh = fixtures::colored(64, fixtures::gyroid_in_sphere());
    let sight = fitted(&mesh, &seen(&mesh, 20.0, 0.3));
    assert!(sight.silhouette_agreement() > 0.97);
}

#[test]
fn the_same_pair_gets_the_same_camera_wherever_the_mesh_lies() {
    let mesh = body();
    let alpha = seen(&mesh, 17.0, 0.3);
    assert_eq!(fitted(&mesh, &alpha), fitted(&mesh, &alpha));
    let moved = |at: &[f32; 3]| [40.0 * at[0] + 9.0, 40.0 * at[1] - 5.0, 40.0 * at[2] + 2.0];
    let other = Mesh::new(
        mesh.positions().iter().map(moved).collect(),
        mesh.normals().to_vec(),
        None,
        mesh.triangles().to_vec(),
    )
    .expect("the parts fit");
    let (here, there) = (fitted(&mesh, &alpha), fitted(&other, &alpha));
    for at in mesh.positions().iter().step_by(97) {
        let (one, other) = (here.project(*at), there.project(moved(at)));
        assert!((one[0] - other[0]).abs() < 1.0 && (one[1] - other[1]).abs() < 1.0);
    }
}

#[test]
fn points_are_seen_where_they_are_drawn() {
    let mesh = body();
    let alpha = seen(&mesh, 30.0, 0.35);
    let sight = fitted(&mesh, &alpha);
    let (mut low, mut high) = ([f32::MAX; 2], [f32::MIN; 2]);
    for at in mesh.positions() {
        let place = sight.project(*at);
        for axis in 0..2 {
            low[axis] = low[axis].min(place[axis]);
            high[axis] = high[axis].max(place[axis]);
        }
    }
    // The outline's longer side fills 0.86 of 192 pixels, in the middle.
    let longer = (high[0] - low[0]).max(high[1] - low[1]);
    assert!((longer - 165.1).abs() < 3.0, "{longer}");
    for axis in 0..2 {
        assert!(((low[axis] + high[axis]) / 2.0 - 96.0).abs() < 2.0);
    }
    // Up in the mesh is up in the picture.
    assert!(sight.project([0.0, 0.5, 0.0])[1] < sight.project([0.0, -0.5, 0.0])[1]);
}

#[test]
fn another_thing_agrees_less() {
    let (mesh, other) = (body(), fixtures::colored(72, fixtures::two_spheres()));
    let alpha = seen(&mesh, 20.0, 0.3);
    let agreement = fitted(&other, &alpha).silhouette_agreement();
    assert!(agreement < 0.75, "{agreement}");
}

#[test]
fn nothing_has_no_camera() {
    let (alpha, rgb) = (vec![0.0; SIDE * SIDE], vec![0.0; 3 * SIDE * SIDE]);
    let mesh = fixtures::cube();
    assert!(Sight::fit(&mesh, &Picture::new(SIDE, &alpha, &rgb)).is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    #[test]
    fn any_alpha_gets_a_camera_that_works(
        blocks in prop::collection::vec(0_f32..=1.0, 36),
        thickness in 1e-4_f32..=2.0,
    ) {
        let alpha: Vec<f32> = (0..48 * 48).map(|at| blocks[at / 48 / 8 * 6 + at % 48 / 8]).collect();
        let rgb = [alpha.clone(), alpha.clone(), alpha.clone()].concat();
        let cube = fixtures::cube();
        let positions: Vec<_> = cube.positions().iter().map(|at| [at[0], at[1], at[2] * thickness]).collect();
        let picture = Picture::new(48, &alpha, &rgb);
        if let Some(sight) = Sight::fit_surface(&positions, cube.triangles(), &picture) {
            prop_assert!((0.0..=1.0).contains(&sight.silhouette_agreement()));
            for at in &positions {
                prop_assert!(sight.project(*at).iter().all(|along| along.is_finite()));
            }
        }
    }
}

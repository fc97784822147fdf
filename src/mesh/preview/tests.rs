use std::collections::BTreeSet;

use super::{camera::FILL, *};
use crate::mesh::{
    Mesh, fixtures,
    normals::CREASE_DEG,
    placement::{Frame, Placement, place},
    surface::Surface,
};

fn pixel(pixels: &[u8], side: usize, column: usize, row: usize) -> [u8; 4] {
    let at = 4 * (row * side + column);
    [pixels[at], pixels[at + 1], pixels[at + 2], pixels[at + 3]]
}

fn front(side_px: u32) -> PreviewOptions {
    PreviewOptions {
        side_px,
        azimuth_deg: 0.0,
        elevation_deg: 0.0,
    }
}

/// A mesh whose colour at each vertex says where it lies: red to the right, green up, blue to the front.
fn compass() -> Mesh {
    let surface = fixtures::surface(64, fixtures::sphere(0.6));
    let colors = surface
        .positions()
        .iter()
        .map(|position| position.map(|along| if along > 0.0 { 255 } else { 0 }));
    let colors = colors.collect();
    Mesh::from_surface(surface, Some(colors)).expect("valid")
}

#[test]
fn a_sphere_is_a_disc_on_a_transparent_ground() {
    let pixels = render(&fixtures::colored(64, fixtures::sphere(0.6)), &front(100));
    assert_eq!(pixels.len(), 100 * 100 * 4);
    for corner in [(0, 0), (99, 0), (0, 99), (99, 99), (12, 12)] {
        assert_eq!(pixel(&pixels, 100, corner.0, corner.1), [0; 4]);
    }
    assert_eq!(pixel(&pixels, 100, 50, 50)[3], 255);
    let covered: f64 = pixels
        .as_chunks::<4>()
        .0
        .iter()
        .map(|pixel| f64::from(pixel[3]) / 255.0)
        .sum();
    let disc = std::f64::consts::PI * (FILL * 50.0).powi(2);
    assert!(
        (covered / disc - 1.0).abs() < 0.01,
        "{covered} pixels, a disc has {disc}"
    );
    assert!(
        pixels
            .as_chunks::<4>()
            .0
            .iter()
            .any(|pixel| (1..255).contains(&pixel[3])),
        "edges are smooth"
    );
}

#[test]
fn up_is_up_and_right_is_right() {
    let pixels = render(&compass(), &front(64));
    let at = |column, row| pixel(&pixels, 64, column, row);
    let [red, green, blue, _] = at(42, 22);
    assert!(
        red > 60 && green > 60 && blue > 60,
        "upper right: {:?}",
        at(42, 22)
    );
    let [red, green, blue, _] = at(22, 42);
    assert!(
        red == 0 && green == 0 && blue > 40,
        "lower left: {:?}",
        at(22, 42)
    );
}

#[test]
fn azimuth_turns_the_camera_towards_x_and_elevation_lifts_it() {
    let side = render(
        &compass(),
        &PreviewOptions {
            side_px: 64,
            azimuth_deg: 90.0,
            elevation_deg: 0.0,
        },
    );
    // Seen from +X everything is red, and the front (blue) is at the left.
    assert!(pixel(&side, 64, 22, 22)[0] > 60 && pixel(&side, 64, 22, 22)[2] > 60);
    assert!(pixel(&side, 64, 42, 22)[0] > 60 && pixel(&side, 64, 42, 22)[2] == 0);
    let top = render(
        &compass(),
        &PreviewOptions {
            side_px: 64,
            azimuth_deg: 0.0,
            elevation_deg: 90.0,
        },
    );
    // Seen from above everything is green, and the front (blue) is below.
    assert!(pixel(&top, 64, 32, 22)[1] > 60 && pixel(&top, 64, 32, 22)[2] == 0);
    assert!(pixel(&top, 64, 32, 42)[1] > 60 && pixel(&top, 64, 32, 42)[2] > 60);
}

#[test]
fn what_is_nearer_hides_what_is_behind_in_any_order() {
    let quad = |z: f32, first: u32| {
        let positions = [
            [-1.0, -1.0, z],
            [1.0, -1.0, z],
            [1.0, 1.0, z],
            [-1.0, 1.0, z],
        ];
        (
            positions,
            [[first, first + 1, first + 2], [first, first + 2, first + 3]],
        )
    };
    for (first, second) in [(0.2, -0.2), (-0.2, 0.2)] {
        let (a, b) = (quad(first, 0), quad(second, 4));
        let surface = Surface::new([a.0, b.0].concat(), [a.1, b.1].concat()).expect("valid");
        let color = |z: f32| if z > 0.0 { [255, 0, 0] } else { [0, 255, 0] };
        let colors = [[color(first); 4], [color(second); 4]].concat();
        let pixels = render(
            &Mesh::from_surface(surface, Some(colors)).expect("valid"),
            &front(32),
        );
        let [red, green, ..] = pixel(&pixels, 32, 16, 16);
        assert!(
            red > 100 && green == 0,
            "the red one at +Z is nearer: {red} {green}"
        );
    }
}

#[test]
fn the_lit_side_is_brighter() {
    let mesh =
        Mesh::from_surface(fixtures::surface(64, fixtures::sphere(0.6)), None).expect("valid");
    let pixels = render(&mesh, &front(64));
    let brightness = |column, row| pixel(&pixels, 64, column, row)[0];
    let (lit, shaded) = (brightness(24, 22), brightness(40, 46));
    assert!(lit > shaded + 40, "{lit} {shaded}");
}

#[test]
fn what_is_seen_of_a_surface_is_seen_of_it_elsewhere() {
    let mesh = fixtures::colored(96, fixtures::torus());
    let placement = Placement {
        frame: Frame::Scene,
        size_mm: 250.0,
    };
    let placed = place(&mesh, placement);
    let options = PreviewOptions {
        side_px: 128,
        ..PreviewOptions::default()
    };
    let visible = Visible::of(mesh.positions(), mesh.triangles(), &options);
    let (there, here) = (visible.render(&placed), render(&placed, &options));
    // Rounding moves an edge over a sample here and there.
    let differ = there
        .iter()
        .zip(&here)
        .filter(|(there, here)| there.abs_diff(**here) > 1);
    assert!(differ.count() <= here.len() / 1000);
    assert!(here.iter().any(|&byte| byte > 0));
}

#[test]
fn light_breaks_at_creases() {
    let shades = |mesh: &Mesh| {
        let pixels = render(mesh, &front(64));
        let opaque = pixels.as_chunks::<4>().0.iter();
        let shades = opaque.filter(|pixel| pixel[3] == 255);
        shades.map(|pixel| pixel[0]).collect::<BTreeSet<_>>()
    };
    let cube = fixtures::cube();
    let smooth = shades(&cube);
    assert!(smooth.len() > 10, "{smooth:?}");
    // One flat face is seen; rounding may make it two shades.
    let creased = shades(&cube.with_creases(CREASE_DEG));
    assert!((1..=2).contains(&creased.len()), "{creased:?}");
}

#[test]
fn the_png_reads_back_as_the_pixels() {
    let mesh = fixtures::colored(48, fixtures::torus());
    let options = PreviewOptions {
        side_px: 96,
        ..PreviewOptions::default()
    };
    let file = png(&mesh, &options).expect("encodes");
    let read = image::load_from_memory(&file)
        .expect("decodes")
        .into_rgba8();
    assert_eq!(read.dimensions(), (96, 96));
    assert_eq!(read.into_raw(), render(&mesh, &options));
}

#[test]
fn a_sketch_is_the_small_grey_preview() {
    let surface = fixtures::surface(32, fixtures::torus());
    let file = sketch(surface.clone()).expect("encodes");
    let read = image::load_from_memory(&file)
        .expect("decodes")
        .into_rgba8();
    let options = PreviewOptions {
        side_px: 192,
        ..PreviewOptions::default()
    };
    let mesh = Mesh::from_surface(surface, None).expect("valid");
    assert_eq!(read.dimensions(), (192, 192));
    // Told in a notification, in base64.
    assert!(file.len() < 5_700, "{} bytes", file.len());
    let exact = render(&mesh, &options);
    let pairs = exact
        .as_chunks::<4>()
        .0
        .iter()
        .zip(read.as_raw().as_chunks::<4>().0);
    let solid: Vec<u8> = pairs
        .filter(|(exact, _)| exact[3] == 255)
        .map(|(exact, read)| exact[0].abs_diff(read[0]))
        .collect();
    let mean = solid.iter().map(|&apart| f64::from(apart)).sum::<f64>() / solid.len() as f64;
    assert!(mean < 4.0, "off by {mean} on average");
}

#[test]
#[should_panic(expected = "a preview of 4096 pixels")]
fn a_side_out_of_range_is_a_programming_error() {
    let _ = render(&fixtures::cube(), &front(4096));
}

#[test]
fn a_picture_is_the_same_however_many_threads_draw_it() {
    let bumpy = |p: [f32; 3]| fixtures::sphere(0.6 + 0.05 * (20.0 * p[0]).sin())(p);
    let mesh = fixtures::colored(128, bumpy);
    assert!(mesh.triangles().len() > 2 * canvas::PART);
    let options = PreviewOptions {
        side_px: 256,
        ..PreviewOptions::default()
    };
    let drawn = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        pool.unwrap().install(|| render(&mesh, &options))
    };
    assert!(drawn(1) == drawn(3));
}

use std::{borrow::Cow, io::Cursor};

use image::{AnimationDecoder, Frame, codecs::webp::WebPDecoder};

use super::*;
use crate::mesh::{
    fixtures,
    preview::{PreviewOptions, render},
    surface::Surface,
};

fn decoded(file: &[u8]) -> Vec<Frame> {
    let decoder = WebPDecoder::new(Cursor::new(file)).expect("is a WebP file");
    assert!(decoder.has_animation());
    let frames = decoder.into_frames().collect_frames();
    frames.expect("every frame decodes")
}

fn options(side_px: u32, frames: u32) -> TurntableOptions {
    TurntableOptions {
        side_px,
        frames,
        ..TurntableOptions::default()
    }
}

/// The mean difference of a channel, over all pixels that either picture covers; colours count by their alpha.
fn difference(one: &[u8], other: &[u8]) -> f64 {
    let (mut sum, mut covered) = (0.0, 0);
    let pixels = |picture: &[u8]| picture.as_chunks::<4>().0.to_vec();
    for (one, other) in pixels(one).into_iter().zip(pixels(other)) {
        if one[3] == 0 && other[3] == 0 {
            continue;
        }
        covered += 1;
        let premultiplied =
            |[.., alpha]: [u8; 4], channel: u8| f64::from(channel) * f64::from(alpha) / 255.0;
        for channel in 0..3 {
            sum += (premultiplied(one, one[channel]) - premultiplied(other, other[channel])).abs();
        }
        sum += f64::from(one[3].abs_diff(other[3]));
    }
    sum / 4.0 / f64::from(covered)
}

/// A ball that stands off the axis of the whole, and a small one.
fn lopsided() -> Mesh {
    fixtures::colored(64, fixtures::two_spheres())
}

/// A body of revolution, without colours.
fn ring() -> Mesh {
    Mesh::from_surface(fixtures::surface(64, fixtures::torus()), None).expect("valid")
}

#[test]
fn the_file_is_a_loop_of_transparent_frames() {
    let file = turntable(&lopsided(), &options(96, 10)).expect("encodes");
    let frames = decoded(&file);
    assert_eq!(frames.len(), 10);
    for frame in &frames {
        assert_eq!(frame.delay().numer_denom_ms(), (83, 1));
        let picture = frame.buffer();
        assert_eq!(picture.dimensions(), (96, 96));
        let alphas: Vec<u8> = picture.pixels().map(|pixel| pixel[3]).collect();
        assert_eq!(alphas[0], 0, "nothing in the corner");
        assert!(alphas.contains(&255), "something in the middle");
        assert!(
            alphas.iter().any(|alpha| (1..255).contains(alpha)),
            "edges are smooth"
        );
    }
    // The loop count, after RIFF (12 bytes), VP8X (18) and ANIM's head and background (12): zero is without end.
    assert_eq!((&file[30..34], &file[42..44]), (&b"ANIM"[..], &[0, 0][..]));
}

#[test]
fn the_first_frame_is_the_front_and_the_frame_at_a_quarter_is_seen_from_x() {
    let mesh = lopsided();
    let frames = decoded(&turntable(&mesh, &options(128, 4)).expect("encodes"));
    let stage = Stage::around(&mesh, 20.0, 128);
    for (frame, azimuth_deg) in frames.iter().zip([0.0, 90.0, 180.0, 270.0]) {
        let drawn = stage.picture(&mesh, azimuth_deg);
        let error = difference(frame.buffer(), &drawn);
        assert!(
            error < 6.0,
            "at {azimuth_deg}: {error} of 255 lost by encoding"
        );
    }
    // A body that fills its cylinder is seen as the preview shows it.
    let column = |[x, y, z]: [f32; 3]| (0.4 - x.hypot(z)).min(0.6 - y.abs()) / 0.02;
    let column = Mesh::from_surface(fixtures::surface(64, column), None).expect("valid");
    let preview = render(
        &column,
        &PreviewOptions {
            side_px: 128,
            azimuth_deg: 0.0,
            elevation_deg: 20.0,
        },
    );
    let front = Stage::around(&column, 20.0, 128).picture(&column, 0.0);
    let error = difference(&front, &preview);
    assert!(error < 6.0, "{error} of 255");
}

#[test]
fn opposite_frames_differ_unless_the_body_is_round() {
    let opposites = |mesh: &Mesh| {
        let frames = decoded(&turntable(mesh, &options(96, 2)).expect("encodes"));
        difference(frames[0].buffer(), frames[1].buffer())
    };
    let (lopsided, round) = (opposites(&lopsided()), opposites(&ring()));
    assert!(
        lopsided > 40.0 && round < 4.0,
        "{lopsided} and {round} of 255"
    );
}

#[test]
fn the_mesh_stays_in_the_picture_and_keeps_its_size_all_the_way_round() {
    // A long beam across the axis is nearest to the camera, and largest, when it points there.
    let beam = |[x, y, z]: [f32; 3]| (0.9 - x.abs()).min(0.05 - y.abs().max(z.abs())) / 0.02;
    let mesh = Mesh::from_surface(fixtures::surface(128, beam), None).expect("valid");
    let side = 128;
    for elevation_deg in [-70.0, 0.0, 20.0, 90.0] {
        let stage = Stage::around(&mesh, elevation_deg, side);
        let mut widest = 0.0f32;
        for azimuth in 0..36 {
            let camera = Camera::turned(10.0 * f64::from(azimuth), elevation_deg);
            let mut vertices = stage.lens.see(&camera, mesh.positions());
            stage.frame.place(&mut vertices);
            let margin = side as f32 * 0.049;
            for vertex in &vertices {
                for along in [vertex.x, vertex.y] {
                    assert!(
                        (margin..=side as f32 - margin).contains(&along),
                        "{along} at {elevation_deg}, {azimuth}0"
                    );
                }
                widest = widest.max((vertex.x - side as f32 / 2.0).abs());
            }
        }
        assert!(widest > 0.4 * side as f32, "fills the picture: {widest}");
    }
}

#[test]
fn a_fine_mesh_is_drawn_with_fewer_triangles_that_look_the_same() {
    let mesh = fixtures::colored(192, fixtures::gyroid_in_sphere());
    let light = figure(&mesh);
    assert!(mesh.triangles().len() > 2 * light.triangles().len());
    let stage = Stage::around(&mesh, 20.0, 256);
    for azimuth_deg in [0.0, 130.0] {
        let error = difference(
            &stage.picture(&mesh, azimuth_deg),
            &stage.picture(&light, azimuth_deg),
        );
        assert!(error < 12.0, "{error} of 255");
    }
}

#[test]
fn what_leaves_nothing_when_made_lighter_is_drawn_as_it_is() {
    // Crumbs, each within one vertex of what would be left, and one far away, so that all of them look small.
    let crumbs = 40_000u32;
    let mut positions = vec![[1e6, 0.0, 0.0]; 1];
    let mut triangles = Vec::new();
    for crumb in 0..crumbs {
        let (row, column) = (crumb / 200, crumb % 200);
        let first = positions.len() as u32;
        let [x, y] = [column as f32, row as f32];
        positions.extend([[x, y, 0.0], [x + 0.5, y, 0.0], [x, y + 0.5, 0.0]]);
        triangles.push([first, first + 1, first + 2]);
    }
    triangles.push([0, 1, 2]);
    let surface = Surface::new(positions, triangles).expect("valid");
    let mesh = Mesh::from_surface(surface, None).expect("valid");
    assert!(matches!(figure(&mesh), Cow::Borrowed(_)));
    let file = turntable(&mesh, &options(32, 2)).expect("encodes");
    assert_eq!(decoded(&file).len(), 2);
}

#[test]
#[should_panic(expected = "a turntable of 0 frames")]
fn a_loop_without_frames_is_a_programming_error() {
    let _ = turntable(&fixtures::cube(), &options(64, 0));
}

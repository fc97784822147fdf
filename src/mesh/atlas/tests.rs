use std::f32::consts::PI;

use image::{ImageFormat, RgbImage};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::*;
use crate::mesh::{fixtures, simplify::simplify_surface};

const SIDE: u32 = 256;

fn color(point: [f32; 3]) -> [u8; 3] {
    point.map(|along| (127.5 + 127.5 * (along * PI / 2.0).sin()).round() as u8)
}

/// The texture, and by how much a channel may be off: by what it changes over two texels, since filtering mixes in
/// texels of the rim, which show a point up to one and a half texels away, and by rounding.
fn painted(surface: &Surface) -> (TextureMap, f32) {
    let atlas = Atlas::of(surface, SIDE).expect("in range");
    let area = |triangle: &[u32; 3]| {
        let corners = vector::corners(surface.positions(), *triangle);
        vector::length(vector::twice_area(corners)) as f32
    };
    let flat_area = |[a, b, c]: &[[f32; 2]; 3]| {
        ((b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])).abs()
    };
    let covered: f32 = atlas.places.iter().map(flat_area).sum();
    let texel = (surface.triangles().iter().map(area).sum::<f32>() / covered).sqrt();
    let steepest = 127.5 * PI / 2.0;
    let colors: Vec<_> = atlas.points().into_iter().map(color).collect();
    let map = atlas.paint(&colors).expect("paints");
    (map, 2.0 * texel * steepest + 1.0)
}

fn bodies() -> Vec<(&'static str, Surface)> {
    let simplified =
        |field: fixtures::Field| simplify_surface(fixtures::surface(48, field), 1500).0;
    vec![
        ("torus", simplified(fixtures::torus())),
        ("two spheres", simplified(fixtures::two_spheres())),
    ]
}

/// As a graphics device filters it.
fn sample(picture: &RgbImage, uv: [f32; 2]) -> [f32; 3] {
    let side = picture.width() as f32;
    let [x, y] = uv.map(|along| (along * side - 0.5).clamp(0.0, side - 1.0));
    let mut mixed = [0.0; 3];
    for (dx, across) in [(0, 1.0 - x.fract()), (1, x.fract())] {
        for (dy, down) in [(0, 1.0 - y.fract()), (1, y.fract())] {
            let last = picture.width() - 1;
            let texel = picture.get_pixel((x as u32 + dx).min(last), (y as u32 + dy).min(last));
            for (mixed, channel) in mixed.iter_mut().zip(texel.0) {
                *mixed += across * down * f32::from(channel);
            }
        }
    }
    mixed
}

fn mix<const N: usize>(corners: [[f32; N]; 3], weights: [f32; 3]) -> [f32; N] {
    std::array::from_fn(|axis| (0..3).map(|at| corners[at][axis] * weights[at]).sum())
}

fn difference(a: [f32; 3], b: [f32; 3]) -> f32 {
    a.iter()
        .zip(b)
        .fold(0.0, |most, (a, b)| most.max((a - b).abs()))
}

fn decode(map: &TextureMap) -> RgbImage {
    let picture = image::load_from_memory_with_format(&map.png, ImageFormat::Png).expect("a PNG");
    picture.to_rgb8()
}

#[test]
fn a_sampled_texture_shows_the_colors_of_the_surface() {
    for (name, surface) in bodies() {
        let (map, tolerance) = painted(&surface);
        let picture = decode(&map);
        assert_eq!((picture.width(), map.side_px), (SIDE, SIDE));
        let mut random = StdRng::seed_from_u64(7);
        for (triangle, uvs) in surface.triangles().iter().zip(&map.uvs) {
            let (a, b): (f32, f32) = (random.random(), random.random());
            let (a, b) = if a + b > 1.0 {
                (1.0 - a, 1.0 - b)
            } else {
                (a, b)
            };
            let weights = [a, b, 1.0 - a - b];
            let corners = triangle.map(|vertex| surface.positions()[vertex as usize]);
            let wanted = color(mix(corners, weights)).map(f32::from);
            let found = sample(&picture, mix(*uvs, weights));
            assert!(
                difference(found, wanted) < tolerance,
                "{name}: {found:?} {wanted:?}"
            );
        }
    }
}

#[test]
fn both_sides_of_a_seam_look_alike() {
    for (name, surface) in bodies() {
        let (map, tolerance) = painted(&surface);
        let picture = decode(&map);
        let mut edges = Vec::new();
        for (triangle, uvs) in surface.triangles().iter().zip(&map.uvs) {
            for side in 0..3 {
                let (start, end) = (triangle[side], triangle[(side + 1) % 3]);
                let (from, to) = (uvs[side], uvs[(side + 1) % 3]);
                let uvs = if start < end { [from, to] } else { [to, from] };
                edges.push(([start.min(end), start.max(end)], uvs));
            }
        }
        edges.sort_by_key(|edge| edge.0);
        let mut seams = 0;
        for pair in edges.chunk_by(|a, b| a.0 == b.0) {
            let [(_, one), (_, other)] = pair else {
                panic!("{name} is closed")
            };
            seams += usize::from(one != other);
            for share in [0.0, 0.3, 0.5, 0.9] {
                let at = |[from, to]: [[f32; 2]; 2]| {
                    sample(&picture, mix([from, to, to], [1.0 - share, share, 0.0]))
                };
                let (one, other) = (at(*one), at(*other));
                assert!(
                    difference(one, other) < tolerance,
                    "{name}: {one:?} {other:?}"
                );
            }
        }
        assert!(
            seams > 0,
            "a closed surface cannot be flattened without a cut"
        );
    }
}

#[test]
fn no_two_triangles_claim_a_texel() {
    for (name, surface) in bodies() {
        let atlas = Atlas::of(&surface, SIDE).expect("in range");
        let mut owners = vec![0; (SIDE * SIDE) as usize];
        for corners in &atlas.places {
            let low = |axis: usize| corners.iter().fold(f32::MAX, |low, at| low.min(at[axis]));
            let high = |axis: usize| corners.iter().fold(0f32, |high, at| high.max(at[axis]));
            assert!((0..2).all(|axis| low(axis) >= 0.0 && high(axis) <= SIDE as f32));
            for y in low(1) as u32..(high(1).ceil() as u32).min(SIDE) {
                for x in low(0) as u32..(high(0).ceil() as u32).min(SIDE) {
                    let center = [x as f32 + 0.5, y as f32 + 0.5];
                    let is_within = texels::is_within(center, *corners, 0.01);
                    owners[(y * SIDE + x) as usize] += u32::from(is_within);
                }
            }
        }
        assert!(owners.iter().all(|&owners| owners <= 1), "{name}");
        let used = owners.iter().sum::<u32>();
        assert!(used > SIDE * SIDE / 4, "{name} uses {used} texels");
    }
}

#[test]
fn normals_are_those_of_the_surface() {
    let (_, torus) = bodies().swap_remove(0);
    let atlas = Atlas::of(&torus, SIDE).expect("in range");
    for ([x, y, z], normal) in atlas.points().into_iter().zip(atlas.normals()) {
        let ring = 0.5 / (x * x + z * z).sqrt();
        let outward = [x - ring * x, y, z - ring * z].map(|along| along / 0.2);
        assert!(
            fixtures::distance(outward, normal) < 0.25,
            "{outward:?} {normal:?}"
        );
    }
}

#[test]
fn slivers_and_crumbs_do_no_harm() {
    let mut positions = vec![
        [0.0, 0.0, 0.0],
        [1.0, 0.0, 0.0],
        [0.5, 0.0, 0.0],
        [0.0, 1.0, 0.0],
    ];
    let mut triangles = vec![[0, 1, 3], [0, 2, 1], [3, 3, 3], [0, 1, 0]];
    // Three thousand crumbs that touch nobody.
    for crumb in 0..3000u32 {
        let first = positions.len() as u32;
        let [x, y, z] = [crumb % 20, crumb / 20 % 20, crumb / 400].map(|along| along as f32 / 20.0);
        positions.extend([[x, y, z], [x + 0.01, y, z], [x, y + 0.01, z + 0.01]]);
        triangles.push([first, first + 1, first + 2]);
    }
    let surface = Surface::new(positions, triangles).expect("a surface");
    let (map, _) = painted(&surface);
    assert_eq!(map.check(surface.triangles().len()), Ok(()));
}

#[test]
fn sides_and_colors_are_checked() {
    let surface = fixtures::surface(32, fixtures::sphere(0.6));
    for side_px in [0, 255, 4097] {
        let refused = Atlas::of(&surface, side_px).expect_err("out of range");
        assert_eq!(
            refused,
            MeshError::TextureSide {
                side_px,
                min: 256,
                max: 4096
            }
        );
    }
    let atlas = Atlas::of(&surface, 256).expect("in range");
    assert!(matches!(
        atlas.paint(&[[0; 3]]),
        Err(WriteError::TexelColors { count: 1, .. })
    ));
}

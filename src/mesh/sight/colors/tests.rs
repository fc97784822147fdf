use super::*;
use crate::mesh::{Mesh, fixtures, normals};

const SIDE: usize = 192;

/// A box and its picture from the front, dimly lit, over pure green. (Its outline lies in a plane, so that every camera in
/// front of it shows that side alike.)
struct Scene {
    mesh: Mesh,
    alpha: Vec<f32>,
    rgb: Vec<f32>,
}

/// The true colour of a place of the box, sRGB in 0..=1.
fn painted([x, _, _]: [f32; 3]) -> [f32; 3] {
    if (x * 6.0).rem_euclid(1.0) < 0.5 {
        [0.7, 0.25, 0.2]
    } else {
        [0.3, 0.35, 0.6]
    }
}

impl Scene {
    fn new() -> Self {
        const HALF: f32 = 0.6;
        const LIGHT: f32 = 0.6;
        let mesh = fixtures::colored(64, |at| {
            50.0 * at
                .map(|along| HALF - along.abs())
                .into_iter()
                .fold(1.0, f32::min)
        });
        let (decoder, encoder) = (Decoder(linear_of_srgb()), SrgbEncoder::get());
        let (alpha, mut rgb) = framed_square();
        for at in 0..SIDE * SIDE {
            let x = (at % SIDE) as f32 + 0.5 - SIDE as f32 / 2.0;
            let background = [0.0, 1.0, 0.0];
            let color = painted([x * HALF / (0.43 * SIDE as f32), 0.0, HALF]);
            let lit = color.map(|channel| encoder.byte(decoder.linear(channel) * LIGHT));
            for channel in 0..3 {
                rgb[channel * SIDE * SIDE + at] = if alpha[at] > 0.0 {
                    f32::from(lit[channel]) / 255.0
                } else {
                    background[channel]
                };
            }
        }
        Self { mesh, alpha, rgb }
    }

    fn picture(&self) -> Picture<'_> {
        Picture::new(SIDE, &self.alpha, &self.rgb)
    }

    /// What a model would say: the right colours, washed out.
    fn washed_out(&self) -> Vec<[u8; 3]> {
        let positions = self.mesh.positions().iter();
        positions
            .map(|&at| painted(at).map(|channel| (255.0 * (0.5 * channel + 0.2)) as u8))
            .collect()
    }

    fn blended(&self, colors: &mut [[u8; 3]]) -> Blend {
        let sight = Sight::fit(&self.mesh, &self.picture()).expect("a box is seen");
        let (points, normals) = (self.mesh.positions(), self.mesh.normals());
        sight.blend(points, normals, colors, &self.picture())
    }
}

#[test]
fn the_side_seen_gets_the_pictures_colours_and_no_other_does() {
    let scene = Scene::new();
    let before = scene.washed_out();
    let mut after = before.clone();
    let blend = scene.blended(&mut after);
    let Blend::Mixed { points } = blend else {
        panic!("a box that agrees is blended, not {blend:?}");
    };
    let changed = before.iter().zip(&after).filter(|(a, b)| a != b).count();
    assert!(
        changed <= points && points < after.len() / 2,
        "{changed} {points}"
    );
    let normals = scene.mesh.normals();
    for ((normal, before), after) in normals.iter().zip(&before).zip(&after) {
        if normal[2] < -0.2 {
            assert_eq!(before, after, "behind");
        }
        assert!(after[1] < 140, "background: {after:?}");
    }
    let front = |colors: &[[u8; 3]]| {
        let points = scene.mesh.positions().iter().zip(normals).zip(colors);
        let seen: Vec<f32> = points
            .filter(|((_, normal), _)| normal[2] > 0.85)
            .map(|((at, _), color)| {
                f32::from(color[0]) / 255.0
                    - f32::from(color[2]) / 255.0
                    - (painted(*at)[0] - painted(*at)[2])
            })
            .collect();
        seen.iter().map(|error| error.abs()).sum::<f32>() / seen.len() as f32
    };
    assert!(
        front(&after) < 0.65 * front(&before),
        "{} {}",
        front(&before),
        front(&after)
    );
}

#[test]
fn colours_of_another_thing_are_left_alone() {
    let scene = Scene::new();
    let mut colors = vec![[10, 240, 20]; scene.mesh.positions().len()];
    assert_eq!(scene.blended(&mut colors), Blend::Contradiction);
    assert!(colors.iter().all(|&color| color == [10, 240, 20]));
}

#[test]
fn a_thing_of_another_shape_is_left_alone() {
    let scene = Scene::new();
    let mesh = fixtures::colored(48, fixtures::two_spheres());
    let sight = Sight::fit(&mesh, &scene.picture()).expect("the alpha covers something");
    let mut colors = vec![[9; 3]; mesh.positions().len()];
    let blend = sight.blend(
        mesh.positions(),
        mesh.normals(),
        &mut colors,
        &scene.picture(),
    );
    assert_eq!(blend, Blend::Misfit);
    assert!(colors.iter().all(|&color| color == [9; 3]));
}

#[test]
fn what_something_hides_is_not_seen() {
    // Two walls, one behind the other, that both face the camera.
    let wall = |z: f32, half: f32| {
        [
            [-half, -half, z],
            [half, -half, z],
            [half, half, z],
            [-half, half, z],
        ]
    };
    let positions = [wall(0.5, 0.5), wall(-0.5, 0.4)].concat();
    let triangles = vec![[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]];
    let (alpha, rgb) = framed_square();
    let picture = Picture::new(SIDE, &alpha, &rgb);
    let sight = Sight::fit_surface(&positions, &triangles, &picture).expect("a square is seen");
    let points = [
        [0.0, 0.0, 0.5],
        [0.05, 0.0, 0.5],
        [0.0, 0.0, -0.5],
        [0.05, 0.0, -0.5],
    ];
    let mut colors = [[100; 3]; 4];
    let blend = sight.blend(&points, &[[0.0, 0.0, 1.0]; 4], &mut colors, &picture);
    assert_eq!(blend, Blend::Mixed { points: 2 });
    assert_eq!(colors[2..], [[100; 3]; 2]);
    let turned = normals::vertex_normals(&positions, &triangles);
    assert!(
        turned.iter().all(|normal| normal[2] > 0.9),
        "both face the camera"
    );
}

/// What the picture shows of a thing of one colour, and what the model says of it: as far apart as may be without being
/// taken for two things.
const SEEN: [f32; 3] = [0.7, 0.43, 0.43];
const SAID: [u8; 3] = [128; 3];

/// A picture of something in the colour of [`SEEN`], over pure green.
fn plain(alpha: &[f32]) -> Vec<f32> {
    let background = [0.0, 1.0, 0.0];
    let planes = SEEN.into_iter().zip(background);
    planes
        .flat_map(|(seen, behind)| {
            let pixels = alpha.iter();
            pixels.map(move |&covered| if covered > 0.0 { seen } else { behind })
        })
        .collect()
}

/// The greatest difference of a channel.
fn apart(one: [u8; 3], other: [u8; 3]) -> u8 {
    let channels = one.into_iter().zip(other);
    channels.fold(0, |most, (one, other)| most.max(one.abs_diff(other)))
}

/// How far the picture has changed what the model said, where it did so most.
fn change(colors: &[[u8; 3]]) -> u8 {
    let changes = colors.iter().map(|&color| apart(color, SAID));
    changes.fold(0, u8::max)
}

#[test]
fn no_seam_shows_where_the_surface_turns_away() {
    let mesh = fixtures::colored(96, fixtures::sphere(0.65));
    let from_middle = |along: usize| along as f32 + 0.5 - SIDE as f32 / 2.0;
    let radius = 0.43 * SIDE as f32;
    let alpha: Vec<f32> = (0..SIDE * SIDE)
        .map(|at| from_middle(at % SIDE).hypot(from_middle(at / SIDE)))
        .map(|distance| f32::from(distance < radius))
        .collect();
    let rgb = plain(&alpha);
    let picture = Picture::new(SIDE, &alpha, &rgb);
    let sight = Sight::fit(&mesh, &picture).expect("a ball is seen");
    let mut colors = vec![SAID; mesh.positions().len()];
    let blend = sight.blend(mesh.positions(), mesh.normals(), &mut colors, &picture);
    assert!(matches!(blend, Blend::Mixed { .. }), "{blend:?}");
    let change = change(&colors);
    assert!(change >= 25, "the colours are far apart: {change}");
    for &[a, b, c] in mesh.triangles() {
        let [a, b, c] = [a, b, c].map(|vertex| colors[vertex as usize]);
        let step = apart(a, b).max(apart(b, c)).max(apart(c, a));
        assert!(step <= change / 2, "a step of {step} of {change}");
    }
}

#[test]
fn no_seam_shows_along_a_sharp_outline() {
    const HALF: f32 = 0.6;
    const POINTS: usize = 401;
    let mesh = Scene::new().mesh;
    let (alpha, _) = framed_square();
    let rgb = plain(&alpha);
    let picture = Picture::new(SIDE, &alpha, &rgb);
    let sight = Sight::fit(&mesh, &picture).expect("a box is seen");
    // From side to side of the front, more than two in a pixel, as a texture's texels may lie.
    let points: Vec<[f32; 3]> = (0..POINTS)
        .map(|at| 2.0 * at as f32 / (POINTS - 1) as f32 - 1.0)
        .map(|along| [HALF * along, 0.05, HALF])
        .collect();
    let mut colors = [SAID; POINTS];
    let blend = sight.blend(&points, &[[0.0, 0.0, 1.0]; POINTS], &mut colors, &picture);
    assert!(matches!(blend, Blend::Mixed { .. }), "{blend:?}");
    assert_eq!((colors[0], colors[POINTS - 1]), (SAID, SAID));
    let change = change(&colors);
    assert!(change >= 25, "the colours are far apart: {change}");
    for pair in colors.windows(2) {
        let step = apart(pair[0], pair[1]);
        assert!(step <= change / 4, "a step of {step} of {change}");
    }
}

fn framed_square() -> (Vec<f32>, Vec<f32>) {
    let inside = |at: usize| (13..179).contains(&at);
    let alpha: Vec<f32> = (0..SIDE * SIDE)
        .map(|at| f32::from(inside(at % SIDE) && inside(at / SIDE)))
        .collect();
    (alpha, vec![0.4; 3 * SIDE * SIDE])
}

//! Fields and meshes that tests share.

use super::{
    Mesh, MeshError,
    field::{FieldOptions, FieldSampler, Resolution},
    surface::Surface,
    texture::TextureMap,
};

pub(super) type Field = Box<dyn Fn([f32; 3]) -> f32>;

pub(super) fn distance(a: [f32; 3], b: [f32; 3]) -> f32 {
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b).powi(2))
        .sum::<f32>()
        .sqrt()
}

/// Logits like the seed model's: a signed distance over 0.02.
fn logit(inside_by: f32) -> f32 {
    inside_by / 0.02
}

pub(super) fn sphere(radius: f32) -> Field {
    Box::new(move |p| logit(radius - distance(p, [0.0; 3])))
}

pub(super) fn torus() -> Field {
    Box::new(|[x, y, z]| {
        let ring = (x * x + z * z).sqrt() - 0.5;
        logit(0.2 - (ring * ring + y * y).sqrt())
    })
}

pub(super) fn gyroid_in_sphere() -> Field {
    Box::new(|p| {
        let [x, y, z] = p.map(|along| along * 9.0);
        let gyroid = x.sin() * y.cos() + y.sin() * z.cos() + z.sin() * x.cos();
        logit((0.75 - distance(p, [0.0; 3])).min((0.5 - gyroid.abs()) / 14.0))
    })
}

pub(super) fn two_spheres() -> Field {
    Box::new(|p| {
        logit((0.3 - distance(p, [-0.5, 0.1, 0.0])).max(0.15 - distance(p, [0.5, -0.3, 0.2])))
    })
}

/// Smooth noise with features of about a sixth of the volume, outside towards the border.
pub(super) fn noise() -> Field {
    Box::new(|p| {
        let [x, y, z] = p;
        let waves = (7.1 * x + 3.0 * y * z).sin()
            + (6.3 * y - 2.0 * x * z).cos()
            + (8.2 * z + 1.7 * x).sin();
        logit(0.1 * waves.min(4.0 * (0.85 - distance(p, [0.0; 3]))))
    })
}

/// Samples a field as a caller would and counts the points.
pub(super) fn sample(
    options: FieldOptions,
    field: &dyn Fn([f32; 3]) -> f32,
) -> Result<(Surface, usize), MeshError> {
    let mut sampler = FieldSampler::new(options);
    while let Some(points) = sampler.request() {
        let logits: Vec<f32> = points.into_iter().map(field).collect();
        sampler.supply(&logits)?;
    }
    let points = sampler.points_supplied();
    Ok((sampler.into_surface()?, points))
}

pub(super) fn options(samples: u32) -> FieldOptions {
    FieldOptions::new(
        Resolution::new(samples).expect("tests use resolutions in range"),
        0.0,
    )
}

pub(super) fn surface(samples: u32, field: impl Fn([f32; 3]) -> f32) -> Surface {
    sample(options(samples), &field)
        .expect("the field has a surface")
        .0
}

/// A mesh with colours that vary over it.
pub(super) fn colored(samples: u32, field: impl Fn([f32; 3]) -> f32) -> Mesh {
    let surface = surface(samples, field);
    let colors = surface
        .positions()
        .iter()
        .map(|position| position.map(|along| (127.5 + 127.5 * (3.0 * along).sin()) as u8))
        .collect();
    Mesh::from_surface(surface, Some(colors)).expect("the parts fit")
}

/// The cube with its corners moved; its normals stay.
pub(super) fn moved_cube(change: impl Fn([f32; 3]) -> [f32; 3]) -> Mesh {
    let cube = cube();
    let positions = cube.positions().iter().copied().map(change).collect();
    Mesh::new(
        positions,
        cube.normals().to_vec(),
        None,
        cube.triangles().to_vec(),
    )
    .expect("a cube with other corners")
}

/// A unit cube about the origin, without colours.
pub(super) fn cube() -> Mesh {
    let positions = (0..8)
        .map(|corner| std::array::from_fn(|axis| if corner >> axis & 1 == 1 { 0.5 } else { -0.5 }))
        .collect();
    let quads = [
        [0, 4, 6, 2],
        [1, 3, 7, 5],
        [0, 1, 5, 4],
        [2, 6, 7, 3],
        [0, 2, 3, 1],
        [4, 5, 7, 6],
    ];
    let triangles = quads
        .into_iter()
        .flat_map(|[a, b, c, d]| [[a, b, c], [a, c, d]])
        .collect();
    let surface = Surface::new(positions, triangles).expect("a cube is a surface");
    Mesh::from_surface(surface, None).expect("the parts fit")
}

/// A grey texture of one texel, all of whose corners are at different places.
pub(super) fn texture(triangles: usize) -> TextureMap {
    let step = 1.0 / (3 * triangles) as f32;
    let uv = |corner: usize| [corner as f32 * step, 1.0 - corner as f32 * step];
    let mut png = std::io::Cursor::new(Vec::new());
    image::RgbImage::from_pixel(1, 1, image::Rgb([128; 3]))
        .write_to(&mut png, image::ImageFormat::Png)
        .expect("encodes");
    TextureMap {
        uvs: (0..triangles)
            .map(|triangle| std::array::from_fn(|corner| uv(3 * triangle + corner)))
            .collect(),
        side_px: 1,
        png: png.into_inner().into(),
    }
}

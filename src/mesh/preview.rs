//! A picture of a mesh, drawn on the CPU: perspective, z-buffered, lit, on a transparent background.

use std::io::Cursor;

use image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};

use super::{
    Mesh, WriteError,
    color::{SrgbEncoder, linear_of_srgb},
    vector::{self, Vector},
};

use canvas::{Canvas, NO_TRIANGLE, Projected, weights};

mod canvas;

/// How to look at a mesh.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PreviewOptions {
    /// Width and height in pixels, 16 to [`PreviewOptions::SIDE_PX_MAX`].
    pub side_px: u32,
    /// Degrees from +Z towards +X at which the camera stands; 0 is where the picture was taken from.
    pub azimuth_deg: f32,
    /// Degrees above the horizon at which the camera stands.
    pub elevation_deg: f32,
}

impl PreviewOptions {
    /// The largest picture; drawing it takes 300 MB.
    pub const SIDE_PX_MAX: u32 = 2048;
    const SIDE_PX_MIN: u32 = 16;
}

impl Default for PreviewOptions {
    /// The three-quarter view in which people draw things: both front and side are seen.
    fn default() -> Self {
        Self {
            side_px: 512,
            azimuth_deg: 35.0,
            elevation_deg: 20.0,
        }
    }
}

/// Samples along each side of a pixel.
const SAMPLES: usize = 3;

/// Half of the camera's field of view: a long lens, as for a portrait of a thing.
const HALF_VIEW_DEG: f64 = 14.0;

/// The mesh fills this share of the picture.
const FILL: f64 = 0.9;

/// A mesh without colours is drawn in this linear grey, the sRGB byte 204.
const BARE_COLOR: [f32; 3] = [0.604; 3];

/// Draws a mesh: RGBA, 8 bits a channel, sRGB, straight alpha, rows from the top, `side_px² · 4` bytes.
///
/// # Panics
/// If the side is out of range or an angle is not a number.
#[must_use]
pub fn render(mesh: &Mesh, options: &PreviewOptions) -> Vec<u8> {
    let &PreviewOptions {
        side_px,
        azimuth_deg,
        elevation_deg,
    } = options;
    assert!(
        (PreviewOptions::SIDE_PX_MIN..=PreviewOptions::SIDE_PX_MAX).contains(&side_px),
        "a preview of {side_px} pixels"
    );
    assert!(
        azimuth_deg.is_finite() && elevation_deg.is_finite(),
        "angles are numbers"
    );
    let camera = Camera::turned(f64::from(azimuth_deg), f64::from(elevation_deg));
    let side = side_px as usize * SAMPLES;
    let projected = camera.project(mesh, side as f64);
    let mut canvas = Canvas::new(side);
    for (index, &triangle) in mesh.triangles().iter().enumerate() {
        canvas.draw(
            triangle.map(|vertex| projected[vertex as usize]),
            index as u32,
        );
    }
    let shader = Shader {
        mesh,
        projected: &projected,
        light: &Light::of(&camera),
        linear: linear_of_srgb(),
    };
    shader.pixels(&canvas)
}

/// Draws a mesh as a PNG file.
///
/// # Errors
/// [`WriteError::Png`] if encoding fails.
///
/// # Panics
/// As [`render`].
pub fn png(mesh: &Mesh, options: &PreviewOptions) -> Result<Vec<u8>, WriteError> {
    let pixels = render(mesh, options);
    let mut file = Cursor::new(Vec::new());
    let encoder = PngEncoder::new(&mut file);
    encoder.write_image(
        &pixels,
        options.side_px,
        options.side_px,
        ExtendedColorType::Rgba8,
    )?;
    Ok(file.into_inner())
}

/// Unit vectors of the camera in the frame of the mesh.
struct Camera {
    right: Vector,
    up: Vector,
    /// From the mesh to the camera.
    back: Vector,
}

impl Camera {
    fn turned(azimuth_deg: f64, elevation_deg: f64) -> Self {
        let (azimuth, elevation) = (azimuth_deg.to_radians(), elevation_deg.to_radians());
        let back = [
            azimuth.sin() * elevation.cos(),
            elevation.sin(),
            azimuth.cos() * elevation.cos(),
        ];
        let right = [azimuth.cos(), 0.0, -azimuth.sin()];
        Self {
            right,
            up: vector::cross(back, right),
            back,
        }
    }

    /// Projects the vertices so that they fill a square canvas of `side` samples.
    fn project(&self, mesh: &Mesh, side: f64) -> Vec<Projected> {
        let center = mesh.bounding_box().center();
        let centered = || {
            mesh.positions()
                .iter()
                .map(|&position| vector::sub(vector::wide(position), center))
        };
        let radius = centered().map(vector::length).fold(0.0, f64::max);
        let distance = radius / HALF_VIEW_DEG.to_radians().sin();
        let project = |position: Vector| {
            let depth = distance - vector::dot(position, self.back);
            [
                vector::dot(position, self.right) / depth,
                -vector::dot(position, self.up) / depth,
                1.0 / depth,
            ]
        };
        let (mut min, mut max) = ([f64::INFINITY; 2], [f64::NEG_INFINITY; 2]);
        for point in centered().map(project) {
            for axis in 0..2 {
                min[axis] = min[axis].min(point[axis]);
                max[axis] = max[axis].max(point[axis]);
            }
        }
        let scale = FILL * side / (max[0] - min[0]).max(max[1] - min[1]);
        let place = |along: f64, axis: usize| {
            (side / 2.0 + scale * (along - (min[axis] + max[axis]) / 2.0)) as f32
        };
        centered()
            .map(project)
            .map(|[x, y, nearness]| Projected {
                x: place(x, 0),
                y: place(y, 1),
                nearness: (nearness * distance) as f32,
            })
            .collect()
    }
}

/// A soft studio: a key light above and left of the camera, a fill light at its right, light from the sky.
struct Light {
    key: [f32; 3],
    fill: [f32; 3],
}

impl Light {
    const KEY: f32 = 0.72;
    const FILL: f32 = 0.22;
    const SKY: f32 = 0.30;
    const GROUND: f32 = 0.12;

    fn of(camera: &Camera) -> Self {
        let towards = |right: f64, up: f64, back: f64| {
            let sum = vector::add(
                vector::add(
                    vector::scale(camera.right, right),
                    vector::scale(camera.up, up),
                ),
                vector::scale(camera.back, back),
            );
            vector::narrow(vector::unit(sum).unwrap_or(camera.back))
        };
        Self {
            key: towards(-0.5, 0.7, 0.8),
            fill: towards(0.9, 0.1, 0.5),
        }
    }

    /// How much light falls on a surface facing `normal`.
    fn on(&self, normal: [f32; 3]) -> f32 {
        let towards = |light: [f32; 3]| dot(light, normal).max(0.0);
        let sky = (1.0 + normal[1]) / 2.0;
        Self::KEY * towards(self.key)
            + Self::FILL * towards(self.fill)
            + Self::GROUND
            + (Self::SKY - Self::GROUND) * sky
    }
}

struct Shader<'a> {
    mesh: &'a Mesh,
    projected: &'a [Projected],
    light: &'a Light,
    linear: [f32; 256],
}

impl Shader<'_> {
    /// Lights the samples and averages those of each pixel.
    fn pixels(&self, canvas: &Canvas) -> Vec<u8> {
        let side_px = canvas.side() / SAMPLES;
        let encode = SrgbEncoder::new();
        let mut pixels = vec![0; 4 * side_px * side_px];
        for (index, pixel) in pixels.as_chunks_mut::<4>().0.iter_mut().enumerate() {
            let (row, column) = (SAMPLES * (index / side_px), SAMPLES * (index % side_px));
            let (mut sum, mut covered) = ([0.0; 3], 0u32);
            // The samples of one triangle within a pixel look alike, so it is lit once.
            let mut lit = (NO_TRIANGLE, [0.0; 3]);
            for offset in 0..SAMPLES * SAMPLES {
                let (row, column) = (row + offset / SAMPLES, column + offset % SAMPLES);
                let triangle = canvas.triangle(column, row);
                if triangle != NO_TRIANGLE {
                    if triangle != lit.0 {
                        let (x, y) = (column as f32 + 0.5, row as f32 + 0.5);
                        lit = (triangle, self.color(triangle as usize, x, y));
                    }
                    sum.iter_mut()
                        .zip(lit.1)
                        .for_each(|(sum, channel)| *sum += channel);
                    covered += 1;
                }
            }
            if covered > 0 {
                let [red, green, blue] =
                    sum.map(|channel: f32| encode.byte(channel / covered as f32));
                let alpha = (255 * covered as usize / (SAMPLES * SAMPLES)) as u8;
                *pixel = [red, green, blue, alpha];
            }
        }
        pixels
    }

    /// The linear colour of a triangle at a point of the canvas.
    fn color(&self, triangle: usize, x: f32, y: f32) -> [f32; 3] {
        let vertices = self.mesh.triangles()[triangle].map(|vertex| vertex as usize);
        let corners = vertices.map(|vertex| self.projected[vertex]);
        // Weights on the canvas times nearness are weights on the triangle in space.
        let mut weights = weights(corners, x, y);
        weights
            .iter_mut()
            .zip(corners)
            .for_each(|(weight, corner)| *weight *= corner.nearness);
        let total: f32 = weights.iter().sum();
        let mix = |attribute: &dyn Fn(usize) -> [f32; 3]| {
            let mut sum = [0.0; 3];
            for (vertex, weight) in vertices.into_iter().zip(weights) {
                sum.iter_mut()
                    .zip(attribute(vertex))
                    .for_each(|(sum, along)| *sum += weight / total * along);
            }
            sum
        };
        let normal = mix(&|vertex| self.mesh.normals()[vertex]);
        let length = dot(normal, normal).sqrt().max(f32::MIN_POSITIVE);
        let light = self.light.on(normal.map(|along| along / length));
        let color = match self.mesh.colors() {
            Some(colors) => {
                mix(&|vertex| colors[vertex].map(|channel| self.linear[channel as usize]))
            }
            None => BARE_COLOR,
        };
        color.map(|channel| (channel * light).min(1.0))
    }
}

fn dot(a: [f32; 3], b: [f32; 3]) -> f32 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

#[cfg(test)]
mod tests;

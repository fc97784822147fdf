//! A picture of a mesh, drawn on the CPU: perspective, z-buffered, lit, on a transparent background.

use std::io::Cursor;

use image::{
    ExtendedColorType, ImageEncoder,
    codecs::png::{CompressionType, FilterType, PngEncoder},
};
use rayon::prelude::*;

use super::{
    Mesh, WriteError,
    color::{SrgbEncoder, linear_of_srgb},
    surface::Surface,
    vector::{self, dot},
    webp,
};

use camera::Camera;
use canvas::{Canvas, NO_TRIANGLE, OFFSETS, Pixel, Projected, SAMPLES, weights};

mod camera;
mod canvas;
pub mod turntable;

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
    /// The largest picture; drawing it takes 70 MB, and up to 270 MB more the more outlines it has.
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

/// Six pixels for each cell of the coarsest grid: a larger sketch shows no more.
const SKETCH_SIDE_PX: u32 = 192;

/// With a vertex for so many pixels, of the mesh's both sides and the whole canvas, light between vertices is even: of a bumpy
/// ball's pixels no channel differs by more than 3 of 255.
const VERTEX_PX: usize = 8;

/// Vertices that one thread lights or places, at least.
const PART: usize = 1 << 13;

/// A mesh without colours is drawn in this linear grey, the sRGB byte 204.
const BARE_COLOR: [f32; 3] = [0.604; 3];

/// Which triangle of a surface is seen in each pixel: what takes longest of a preview, and needs neither normals nor colours
/// (a visibility buffer, as in Burns and Hunt, 2013).
#[derive(Debug)]
pub struct Visible {
    camera: Camera,
    vertices: Vec<Projected>,
    canvas: Canvas,
}

impl Visible {
    /// Looks at a surface. Where it stands and how large it is makes no difference.
    ///
    /// # Panics
    /// If the side is out of range or an angle is not a number.
    #[must_use]
    pub fn of(positions: &[[f32; 3]], triangles: &[[u32; 3]], options: &PreviewOptions) -> Self {
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
        let vertices = camera.fill(positions, side_px);
        let canvas = Canvas::drawn(side_px as usize, &vertices, triangles);
        Self {
            camera,
            vertices,
            canvas,
        }
    }

    /// Draws the mesh whose surface it is, as [`render`].
    ///
    /// # Panics
    /// If it has fewer vertices or triangles.
    #[must_use]
    pub fn render(&self, mesh: &Mesh) -> Vec<u8> {
        let mut shader = Shader::new(mesh, &self.vertices, &self.camera);
        if self.vertices.len() * VERTEX_PX >= self.canvas.side * self.canvas.side {
            shader = shader.with_lit_vertices();
        }
        shaded(&shader, &self.canvas)
    }

    /// Encodes what [`Self::render`] has drawn as a PNG file, which one thread does.
    ///
    /// # Errors
    /// [`WriteError::Png`] if encoding fails.
    pub fn encoded(&self, pixels: &[u8]) -> Result<Vec<u8>, WriteError> {
        let mut file = Cursor::new(Vec::new());
        // Paeth's filter on all rows makes such smooth pictures smaller than the choice of one for each row, which takes longer.
        let encoder =
            PngEncoder::new_with_quality(&mut file, CompressionType::Fast, FilterType::Paeth);
        let side = self.canvas.side as u32;
        encoder.write_image(pixels, side, side, ExtendedColorType::Rgba8)?;
        Ok(file.into_inner())
    }
}

/// Draws a mesh: RGBA, 8 bits a channel, sRGB, straight alpha, rows from the top, `side_px² · 4` bytes.
///
/// # Panics
/// If the side is out of range or an angle is not a number.
#[must_use]
pub fn render(mesh: &Mesh, options: &PreviewOptions) -> Vec<u8> {
    Visible::of(mesh.positions(), mesh.triangles(), options).render(mesh)
}

/// Colours what is seen on a canvas; as [`render`].
fn shaded(shader: &Shader, canvas: &Canvas) -> Vec<u8> {
    let side = canvas.side;
    let mut pixels = vec![0; 4 * side * side];
    let (bands, bytes) = canvas.bands();
    let parts = pixels.par_chunks_mut(bytes).zip(bands);
    parts.for_each(|(pixels, band)| {
        let places = pixels.as_chunks_mut::<4>().0.iter_mut().enumerate();
        for ((index, bytes), pixel) in places.zip(band.pixels()) {
            let row = band.top() + index / side;
            let (x, y) = ((index % side) as f32 + 0.5, row as f32 + 0.5);
            *bytes = match pixel {
                Pixel::Middle(NO_TRIANGLE) => continue,
                Pixel::Middle(triangle) => shader.bytes(shader.color(triangle, x, y), u8::MAX),
                Pixel::Samples(triangles) => shader.average(triangles, x, y),
            };
        }
    });
    pixels
}

/// Draws a mesh as a PNG file.
///
/// # Errors
/// [`WriteError::Png`] if encoding fails.
///
/// # Panics
/// As [`render`].
pub fn png(mesh: &Mesh, options: &PreviewOptions) -> Result<Vec<u8>, WriteError> {
    let visible = Visible::of(mesh.positions(), mesh.triangles(), options);
    visible.encoded(&visible.render(mesh))
}

/// Draws a surface that is still coarse as a WebP file of two or three kilobytes, in grey and from where
/// [`PreviewOptions::default`] looks.
///
/// # Errors
/// [`WriteError::WebP`] if encoding fails.
pub fn sketch(surface: Surface) -> Result<Vec<u8>, WriteError> {
    let mesh = Mesh::from_surface(surface, None).expect("a surface without colours is a mesh");
    let options = PreviewOptions {
        side_px: SKETCH_SIDE_PX,
        ..PreviewOptions::default()
    };
    let pixels = render(&mesh, &options);
    Ok(webp::encode(&pixels, SKETCH_SIDE_PX, SKETCH_SIDE_PX)?.to_vec())
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
    vertices: &'a [Projected],
    light: Light,
    linear: [f32; 256],
    encoder: &'static SrgbEncoder,
    /// The linear colour of each vertex in this light, or none if every pixel is lit by itself.
    lit: Option<Vec<[f32; 3]>>,
}

impl<'a> Shader<'a> {
    fn new(mesh: &'a Mesh, vertices: &'a [Projected], camera: &Camera) -> Self {
        Self {
            mesh,
            vertices,
            light: Light::of(camera),
            linear: linear_of_srgb(),
            encoder: SrgbEncoder::get(),
            lit: None,
        }
    }

    /// Lights the vertices and mixes their colours (Gouraud, 1971): less work where triangles are of few pixels. Not where
    /// the light breaks at edges, as vertices have no light of their own there.
    fn with_lit_vertices(mut self) -> Self {
        if self.mesh.corner_normals().is_some() {
            return self;
        }
        let normals = self.mesh.normals().par_iter().with_min_len(PART);
        let lit = normals.enumerate().map(|(vertex, &normal)| {
            let light = self.light.on(normal);
            self.color_of_vertex(vertex)
                .map(|channel| (channel * light).min(1.0))
        });
        self.lit = Some(lit.collect());
        self
    }

    /// The linear colour of a vertex.
    fn color_of_vertex(&self, vertex: usize) -> [f32; 3] {
        self.mesh.colors().map_or(BARE_COLOR, |colors| {
            let [red, green, blue] = colors[vertex];
            let linear = |byte: u8| self.linear[usize::from(byte)];
            [linear(red), linear(green), linear(blue)]
        })
    }

    /// The normals of a triangle's corners.
    fn normals_of(&self, triangle: usize) -> [[f32; 3]; 3] {
        match self.mesh.corner_normals() {
            Some(normals) => normals[triangle],
            None => {
                let corners = self.mesh.triangles()[triangle];
                corners.map(|vertex| self.mesh.normals()[vertex as usize])
            }
        }
    }

    /// The pixel of a linear colour.
    fn bytes(&self, [red, green, blue]: [f32; 3], alpha: u8) -> [u8; 4] {
        let byte = |channel| self.encoder.byte(channel);
        [byte(red), byte(green), byte(blue), alpha]
    }

    /// The pixel around a point of the canvas, from the triangles at its samples.
    fn average(&self, triangles: &[u32; SAMPLES], x: f32, y: f32) -> [u8; 4] {
        let (mut sum, mut covered) = ([0.0; 3], 0u8);
        // The samples of one triangle within a pixel look alike, so it is lit once.
        let mut lit = (NO_TRIANGLE, [0.0; 3]);
        for (sample, &triangle) in triangles.iter().enumerate() {
            if triangle == NO_TRIANGLE {
                continue;
            }
            if triangle != lit.0 {
                let (x, y) = (x + OFFSETS[0][sample], y + OFFSETS[1][sample]);
                lit = (triangle, self.color(triangle, x, y));
            }
            sum.iter_mut()
                .zip(lit.1)
                .for_each(|(sum, channel)| *sum += channel);
            covered += 1;
        }
        if covered == 0 {
            return [0; 4];
        }
        let alpha = 255 * usize::from(covered) / SAMPLES;
        let mean = sum.map(|channel| channel / f32::from(covered));
        self.bytes(mean, alpha as u8)
    }

    /// The linear colour of a triangle at a point of the canvas.
    fn color(&self, triangle: u32, x: f32, y: f32) -> [f32; 3] {
        let [a, b, c] = self.mesh.triangles()[triangle as usize];
        let [a, b, c] = [a as usize, b as usize, c as usize];
        let corners = [self.vertices[a], self.vertices[b], self.vertices[c]];
        // Weights on the canvas times nearness are weights on the triangle in space. A point that the triangle reaches
        // by its overlap alone is taken to its side: a sliver's colours lead anywhere beyond.
        let [u, v, w] = weights(corners, x, y);
        let [u, v, w] = [
            u.max(0.0) * corners[0].nearness,
            v.max(0.0) * corners[1].nearness,
            w.max(0.0) * corners[2].nearness,
        ];
        let share = 1.0 / (u + v + w);
        let mix = |a: [f32; 3], b: [f32; 3], c: [f32; 3]| {
            let along = |axis: usize| (u * a[axis] + v * b[axis] + w * c[axis]) * share;
            [along(0), along(1), along(2)]
        };
        if let Some(lit) = &self.lit {
            return mix(lit[a], lit[b], lit[c]);
        }
        let [at_a, at_b, at_c] = self.normals_of(triangle as usize);
        let [x, y, z] = mix(at_a, at_b, at_c);
        let unit = 1.0 / (x * x + y * y + z * z).sqrt().max(f32::MIN_POSITIVE);
        let light = self.light.on([x * unit, y * unit, z * unit]);
        let [red, green, blue] = if self.mesh.colors().is_some() {
            mix(
                self.color_of_vertex(a),
                self.color_of_vertex(b),
                self.color_of_vertex(c),
            )
        } else {
            BARE_COLOR
        };
        [
            (red * light).min(1.0),
            (green * light).min(1.0),
            (blue * light).min(1.0),
        ]
    }
}

#[cfg(test)]
mod tests;

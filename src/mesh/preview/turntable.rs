//! A short loop of a mesh that turns once about its upright axis, as an animated WebP file.
//!
//! WebP rather than APNG: with losses that can't be seen on a moving picture it is a fraction of the size, and every
//! browser shows it. Frames are drawn and encoded side by side, each by itself.

use rayon::prelude::*;

use super::{
    Shader,
    camera::{Camera, Frame, Lens},
    canvas::Canvas,
    shaded,
};
use crate::mesh::{Mesh, WriteError, vector};

use animation::{Animation, Area};
use figure::figure;

mod animation;
mod figure;

#[cfg(test)]
mod tests;

/// How to show a mesh all round.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TurntableOptions {
    /// Width and height in pixels, 16 to [`TurntableOptions::SIDE_PX_MAX`].
    pub side_px: u32,
    /// Pictures in a turn, 1 to [`TurntableOptions::FRAMES_MAX`].
    pub frames: u32,
    /// Degrees above the horizon at which the camera stands.
    pub elevation_deg: f32,
    /// Pictures shown in a second, 1 to 60.
    pub frames_per_second: u32,
}

impl TurntableOptions {
    /// The largest loop: a viewer takes over where more is to be seen.
    pub const SIDE_PX_MAX: u32 = 512;
    /// The longest loop.
    pub const FRAMES_MAX: u32 = 120;
    const SIDE_PX_MIN: u32 = 16;
}

impl Default for TurntableOptions {
    /// A turn in two seconds: about 70 kB for most meshes.
    fn default() -> Self {
        Self {
            side_px: 224,
            frames: 24,
            elevation_deg: 20.0,
            frames_per_second: 12,
        }
    }
}

/// Draws a mesh from all sides: an animated WebP file that loops for ever, on a transparent background and lit as a
/// preview. It begins with the front, at azimuth 0, and the camera goes round towards +X. The scale is the same all the
/// way round.
///
/// # Errors
/// [`WriteError::WebP`] if encoding fails.
///
/// # Panics
/// If an option is out of range or the elevation not a number.
pub fn turntable(mesh: &Mesh, options: &TurntableOptions) -> Result<Vec<u8>, WriteError> {
    let &TurntableOptions {
        side_px,
        frames,
        elevation_deg,
        frames_per_second,
    } = options;
    assert!(
        (TurntableOptions::SIDE_PX_MIN..=TurntableOptions::SIDE_PX_MAX).contains(&side_px),
        "a turntable of {side_px} pixels"
    );
    assert!(
        (1..=TurntableOptions::FRAMES_MAX).contains(&frames),
        "a turntable of {frames} frames"
    );
    assert!(
        (1..=60).contains(&frames_per_second),
        "{frames_per_second} frames per second"
    );
    assert!(elevation_deg.is_finite(), "angles are numbers");
    let mesh = figure(mesh);
    let stage = Stage::around(&mesh, f64::from(elevation_deg), side_px);
    let pictures: Vec<_> = (0..frames)
        .into_par_iter()
        .map(|frame| stage.picture(&mesh, 360.0 * f64::from(frame) / f64::from(frames)))
        .collect();
    // All frames have the same area, so each one replaces the last without a trace.
    let area = Area::covered(&pictures, side_px);
    let files = pictures
        .par_iter()
        .map(|picture| animation::encoded(picture, side_px, area))
        .collect::<Result<Vec<_>, _>>()?;
    let animation = Animation {
        side_px,
        area,
        frame_ms: 1000 / frames_per_second,
    };
    Ok(animation.file(&files))
}

/// Where the mesh turns: one camera height, distance and scale for all sides.
struct Stage {
    elevation_deg: f64,
    lens: Lens,
    frame: Frame,
    side_px: u32,
}

impl Stage {
    /// Points on each rim of the cylinder around the mesh; between two of them the rim lies a ten-thousandth farther out.
    const RIM_POINTS: u32 = 256;

    /// Frames the upright cylinder about the middle of the mesh in which it turns.
    fn around(mesh: &Mesh, elevation_deg: f64, side_px: u32) -> Self {
        let bounds = mesh.bounding_box();
        let center = vector::narrow(bounds.center());
        let squares = mesh.positions().iter().map(|&[x, _, z]| {
            let [x, z] = [x - center[0], z - center[2]];
            x * x + z * z
        });
        let radius = squares.fold(0.0, f32::max).sqrt();
        let rims: Vec<_> = (0..Self::RIM_POINTS)
            .flat_map(|point| {
                let turn = point as f32 / Self::RIM_POINTS as f32;
                let (sin, cos) = (turn * std::f32::consts::TAU).sin_cos();
                [bounds.min[1], bounds.max[1]]
                    .map(|y| [center[0] + radius * cos, y, center[2] + radius * sin])
            })
            .collect();
        let lens = Lens::on(&rims, center);
        // A cylinder looks the same from all sides.
        let camera = Camera::turned(0.0, elevation_deg);
        let frame = Frame::around(&lens.see(&camera, &rims), side_px);
        Self {
            elevation_deg,
            lens,
            frame,
            side_px,
        }
    }

    /// The mesh from one side, as [`super::render`].
    fn picture(&self, mesh: &Mesh, azimuth_deg: f64) -> Vec<u8> {
        let camera = Camera::turned(azimuth_deg, self.elevation_deg);
        let mut vertices = self.lens.see(&camera, mesh.positions());
        self.frame.place(&mut vertices);
        let shader = Shader::new(mesh, &vertices, &camera).with_lit_vertices();
        let canvas = Canvas::drawn(self.side_px as usize, &vertices, mesh.triangles());
        shaded(&shader, &canvas)
    }
}

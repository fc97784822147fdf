//! Where a mesh is seen from, and where its vertices then lie on the canvas.

use rayon::prelude::*;

use super::{PART, canvas::Projected};
use crate::mesh::{
    BoundingBox,
    vector::{self, Vector, dot},
};

/// Half of the camera's field of view: a long lens, as for a portrait of a thing.
const HALF_VIEW_DEG: f64 = 14.0;

/// The mesh fills this share of the picture.
pub(super) const FILL: f64 = 0.9;

/// Unit vectors of the camera in the frame of the mesh.
#[derive(Debug)]
pub(super) struct Camera {
    pub(super) right: Vector,
    pub(super) up: Vector,
    /// From the mesh to the camera.
    pub(super) back: Vector,
}

impl Camera {
    pub(super) fn turned(azimuth_deg: f64, elevation_deg: f64) -> Self {
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

    /// Projects the vertices so that they fill a square canvas.
    pub(super) fn fill(&self, positions: &[[f32; 3]], side_px: u32) -> Vec<Projected> {
        let center = BoundingBox::around(positions).center();
        let lens = Lens::on(positions, vector::narrow(center));
        let mut vertices = lens.see(self, positions);
        Frame::around(&vertices, side_px).place(&mut vertices);
        vertices
    }
}

/// What the camera looks at, and from how far.
pub(super) struct Lens {
    center: [f32; 3],
    distance: f32,
}

impl Lens {
    /// Takes in a sphere about `center` that all positions lie in.
    pub(super) fn on(positions: &[[f32; 3]], center: [f32; 3]) -> Self {
        let squares = positions.iter().map(|&position| {
            let from_center = vector::sub(position, center);
            dot(from_center, from_center)
        });
        let radius = squares.fold(0.0, f32::max).sqrt();
        Self {
            center,
            distance: radius / HALF_VIEW_DEG.to_radians().sin() as f32,
        }
    }

    /// Projects points onto a plane through the center, in units of the mesh.
    pub(super) fn see(&self, camera: &Camera, positions: &[[f32; 3]]) -> Vec<Projected> {
        let [right, up, back] = [camera.right, camera.up, camera.back].map(vector::narrow);
        let distance = self.distance;
        let positions = positions.par_iter().with_min_len(PART);
        let projected = positions.map(|&position| {
            let from_center = vector::sub(position, self.center);
            let nearness = distance / (distance - dot(from_center, back));
            Projected {
                x: dot(from_center, right) * nearness,
                y: -dot(from_center, up) * nearness,
                nearness,
            }
        });
        projected.collect()
    }
}

/// Which part of that plane the canvas shows.
pub(super) struct Frame {
    /// Pixels in a unit of the mesh.
    scale: f32,
    /// Where the center lies, in pixels.
    middle: [f32; 2],
}

impl Frame {
    /// The frame that `vertices` fill.
    pub(super) fn around(vertices: &[Projected], side_px: u32) -> Self {
        let (mut min, mut max) = ([f32::INFINITY; 2], [f32::NEG_INFINITY; 2]);
        for &Projected { x, y, .. } in vertices {
            min = [min[0].min(x), min[1].min(y)];
            max = [max[0].max(x), max[1].max(y)];
        }
        let side = side_px as f32;
        let scale = (FILL * f64::from(side_px)) as f32 / (max[0] - min[0]).max(max[1] - min[1]);
        let middle = [0, 1].map(|axis| side / 2.0 - scale * (min[axis] + max[axis]) / 2.0);
        Self { scale, middle }
    }

    /// Moves vertices to their pixels.
    pub(super) fn place(&self, vertices: &mut [Projected]) {
        for vertex in vertices {
            vertex.x = self.middle[0] + self.scale * vertex.x;
            vertex.y = self.middle[1] + self.scale * vertex.y;
        }
    }
}

//! The camera of a picture: from points of the mesh to places in the picture.

use super::super::{BoundingBox, vector};

/// Where a camera stands, for a mesh whose bounding box lies about the origin with a longest side of 2.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Pose {
    /// Above the horizon, in radians.
    pub(super) elevation: f32,
    /// How fast things grow as they come nearer: one over the camera's distance.
    pub(super) perspective: f32,
    /// Where the camera's axis passes the origin, to the right and up.
    pub(super) shift: [f32; 2],
    /// Halves of the picture for a unit at the origin's depth.
    pub(super) zoom: f32,
}

impl Pose {
    /// The least that a depth divides by: what comes nearer is seen as from here.
    pub(super) const DIVISOR_MIN: f32 = 0.2;
}

/// A pose for a mesh where it lies.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Camera {
    pub(super) pose: Pose,
    center: [f32; 3],
    unit: f32,
    sin: f32,
    cos: f32,
}

impl Camera {
    pub(super) fn new(pose: Pose, bounds: &BoundingBox) -> Self {
        let (sin, cos) = pose.elevation.sin_cos();
        Self {
            pose,
            center: vector::narrow(bounds.center()),
            unit: (2.0 / bounds.longest_side()) as f32,
            sin,
            cos,
        }
    }

    /// Right and down in halves of the picture from its middle, and nearness, which is linear over the picture.
    pub(super) fn project(&self, point: [f32; 3]) -> [f32; 3] {
        let [x, y, z] = self.placed(point);
        let depth = y * self.sin + z * self.cos;
        let nearness = 1.0 / (1.0 - self.pose.perspective * depth).max(Pose::DIVISOR_MIN);
        let grown = self.pose.zoom * nearness;
        [
            grown * (x - self.pose.shift[0]),
            -grown * (y * self.cos - z * self.sin - self.pose.shift[1]),
            nearness,
        ]
    }

    /// A point about the origin, in the unit of the pose.
    fn placed(&self, point: [f32; 3]) -> [f32; 3] {
        let [x, y, z] = vector::sub(point, self.center);
        [x * self.unit, y * self.unit, z * self.unit]
    }

    /// Whether the camera is on the side of the surface that `normal` leads to.
    pub(super) fn is_before(&self, point: [f32; 3], normal: [f32; 3]) -> bool {
        vector::dot(normal, self.along(point)) > 0.0
    }

    /// The unit vector from a point of the mesh to the camera.
    pub(super) fn towards(&self, point: [f32; 3]) -> [f32; 3] {
        let [x, y, z] = self.along(point);
        let length = vector::dot([x, y, z], [x, y, z])
            .sqrt()
            .max(f32::MIN_POSITIVE);
        [x / length, y / length, z / length]
    }

    /// From a point of the mesh to the camera.
    fn along(&self, point: [f32; 3]) -> [f32; 3] {
        let [x, y, z] = self.placed(point);
        // Scaled by the perspective, so that a camera at infinity needs no case of its own.
        let perspective = self.pose.perspective;
        let right = perspective * (self.pose.shift[0] - x);
        let up = perspective * (self.pose.shift[1] - (y * self.cos - z * self.sin));
        let back = 1.0 - perspective * (y * self.sin + z * self.cos);
        [
            right,
            up * self.cos + back * self.sin,
            back * self.cos - up * self.sin,
        ]
    }

    /// By how much nearness grows along one pixel's width of depth, for a picture of `side` pixels.
    pub(super) fn nearness_per_pixel(&self, side: usize) -> f32 {
        self.pose.perspective * 2.0 / (self.pose.zoom * side as f32)
    }
}

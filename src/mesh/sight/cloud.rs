//! Points spread over a surface by area: its silhouette from anywhere, for less than its triangles cost.

use super::{
    super::{BoundingBox, vector},
    camera::Pose,
    mask::Mask,
};

/// Points of a surface, in units of half the longest side of its bounding box, from that box's centre.
pub(super) struct Cloud {
    x: Vec<f32>,
    y: Vec<f32>,
    z: Vec<f32>,
}

/// What `f32::min` and `f32::max` do, in one instruction each.
fn lesser(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

fn greater(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// A point of the unit square turned into weights of a triangle's corners; even over the triangle.
fn weights([s, t]: [f32; 2]) -> [f32; 3] {
    let [s, t] = if s + t > 1.0 {
        [1.0 - s, 1.0 - t]
    } else {
        [s, t]
    };
    [1.0 - s - t, s, t]
}

impl Cloud {
    /// `count` points (a triangle counts by its area), the same ones each time.
    ///
    /// Triangles are walked through in their order, and every equal step of area sets a point. Where in its triangle
    /// follows the additive sequence of the plastic number (M. Roberts, "The unreasonable effectiveness of quasirandom
    /// sequences", 2018), which leaves no clusters or gaps where triangles are large.
    pub(super) fn spread(positions: &[[f32; 3]], triangles: &[[u32; 3]], count: usize) -> Self {
        const STEP: [f64; 2] = [0.754_877_666_246_692_8, 0.569_840_290_998_053_3];
        let bounds = BoundingBox::around(positions);
        let (center, unit) = (bounds.center(), 2.0 / bounds.longest_side());
        let corners = |triangle: [u32; 3]| triangle.map(|vertex| positions[vertex as usize]);
        let area = |triangle: [u32; 3]| {
            let [a, b, c] = corners(triangle);
            let cross = vector::cross(vector::sub(b, a), vector::sub(c, a));
            f64::from(vector::dot(cross, cross).sqrt())
        };
        let areas: Vec<f64> = triangles.iter().map(|&triangle| area(triangle)).collect();
        let step = areas.iter().sum::<f64>() / count as f64;
        let mut cloud = Self {
            x: Vec::with_capacity(count + 1),
            y: Vec::with_capacity(count + 1),
            z: Vec::with_capacity(count + 1),
        };
        let mut passed = 0.0;
        let mut next = 0.5 * step;
        for (&triangle, area) in triangles.iter().zip(areas) {
            passed += area;
            if passed <= next || step <= 0.0 {
                continue;
            }
            let [a, b, c] = corners(triangle);
            while passed > next && cloud.x.len() < count {
                let index = cloud.x.len() as f64;
                let [u, v, w] = weights(STEP.map(|step| (index * step).fract() as f32));
                let along = |axis: usize| {
                    let mixed = u * a[axis] + v * b[axis] + w * c[axis];
                    ((f64::from(mixed) - center[axis]) * unit) as f32
                };
                cloud.x.push(along(0));
                cloud.y.push(along(1));
                cloud.z.push(along(2));
                next += step;
            }
        }
        cloud
    }

    /// Every `nth` point.
    pub(super) fn thinned(&self, nth: usize) -> Self {
        let some = |along: &[f32]| along.iter().copied().step_by(nth).collect();
        Self {
            x: some(&self.x),
            y: some(&self.y),
            z: some(&self.z),
        }
    }

    /// The points that a turned camera sees: right and up, before any shift, and the nearness that both grow by.
    fn turned(&self, pose: &Pose, turned: &mut Turned) {
        let (sin, cos) = pose.elevation.sin_cos();
        let perspective = pose.perspective;
        let points = self.x.iter().zip(&self.y).zip(&self.z);
        turned.points.clear();
        turned.points.extend(points.map(|((&x, &y), &z)| {
            let depth = y * sin + z * cos;
            [
                x,
                y * cos - z * sin,
                1.0 / greater(1.0 - perspective * depth, Pose::DIVISOR_MIN),
            ]
        }));
    }

    /// Half of the depth that the cloud takes up at an elevation, in its units.
    pub(super) fn half_depth(&self, elevation: f32) -> f32 {
        let (sin, cos) = elevation.sin_cos();
        let (mut low, mut high) = (f32::MAX, f32::MIN);
        for (&y, &z) in self.y.iter().zip(&self.z) {
            let depth = y * sin + z * cos;
            low = lesser(low, depth);
            high = greater(high, depth);
        }
        (high - low) / 2.0
    }

    /// Shifts and zooms so that the outline's box has a middle and a longer side as asked, in halves of the picture.
    pub(super) fn center(
        &self,
        pose: &mut Pose,
        middle: [f32; 2],
        longer: f32,
        turned: &mut Turned,
    ) {
        /// The camera's axis moves with the shift, by which the outline changes a little again.
        const ROUNDS: usize = 2;
        self.turned(pose, turned);
        for _ in 0..ROUNDS {
            let [right, up] = pose.shift;
            let mut low = [f32::MAX; 2];
            let mut high = [f32::MIN; 2];
            for &[x, y, nearness] in &turned.points {
                let at = [(x - right) * nearness, (y - up) * nearness];
                for axis in 0..2 {
                    low[axis] = lesser(low[axis], at[axis]);
                    high[axis] = greater(high[axis], at[axis]);
                }
            }
            let size = greater(high[0] - low[0], high[1] - low[1]);
            pose.zoom = longer / greater(size, 1e-6);
            for axis in 0..2 {
                pose.shift[axis] += (low[axis] + high[axis]) / 2.0 - middle[axis] / pose.zoom;
            }
        }
    }

    /// The silhouette on a square of `side` pixels. Gaps between points are closed.
    pub(super) fn silhouette(&self, pose: &Pose, side: usize, turned: &mut Turned) -> Mask {
        self.turned(pose, turned);
        turned.bytes.clear();
        turned.bytes.resize(side * side, 0);
        let half = side as f32 / 2.0;
        let last = (side - 1) as f32;
        let zoom = pose.zoom * half;
        let [right, up] = pose.shift;
        for &[x, y, nearness] in &turned.points {
            let column = half + zoom * (x - right) * nearness;
            let row = half - zoom * (y - up) * nearness;
            let within = |along: f32| greater(lesser(along, last), 0.0) as i32 as usize;
            turned.bytes[within(row) * side + within(column)] = 1;
        }
        let mut mask = Mask::packed(&turned.bytes, side);
        mask.close();
        mask
    }
}

/// Room to work in, kept from one pose to the next.
#[derive(Default)]
pub(super) struct Turned {
    points: Vec<[f32; 3]>,
    bytes: Vec<u8>,
}

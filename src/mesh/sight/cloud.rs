//! Points spread over a surface by area: its silhouette from anywhere, for less than its triangles cost.

use rayon::prelude::*;

use super::{
    super::{
        BoundingBox,
        vector::{self, greater, lesser},
    },
    camera::Pose,
    mask::Mask,
};

/// Points of a surface, in units of half the longest side of its bounding box, from that box's centre.
pub(super) struct Cloud {
    x: Vec<f32>,
    y: Vec<f32>,
    z: Vec<f32>,
}

/// Triangles that one thread takes at a time.
const PART: usize = if cfg!(test) { 64 } else { 1 << 13 };

/// Points that are looked at together.
const LANES: usize = 8;

/// Takes in some points, shifted and grown.
fn widen(
    low: &mut [f32; LANES],
    high: &mut [f32; LANES],
    along: &[f32; LANES],
    shift: f32,
    nearness: &[f32; LANES],
) {
    for lane in 0..LANES {
        let at = (along[lane] - shift) * nearness[lane];
        low[lane] = lesser(low[lane], at);
        high[lane] = greater(high[lane], at);
    }
}

/// A square of pixels that points are seen on.
#[derive(Clone, Copy)]
struct Onto {
    zoom: f32,
    shift: [f32; 2],
    middle: f32,
    last: f32,
    wide: f32,
}

impl Onto {
    /// The pixels of some points, counted row by row; the nearest one of those outside.
    #[inline]
    fn places(self, x: &[f32; LANES], y: &[f32; LANES], nearness: &[f32; LANES]) -> [u32; LANES] {
        /// Where single precision has whole numbers only: adding rounds, and the number is in the lowest bits.
        const WHOLE: f32 = (1 << 23) as f32;
        let Self {
            zoom,
            shift: [right, up],
            middle,
            last,
            wide,
        } = self;
        let mut places = [0; LANES];
        for lane in 0..LANES {
            let grown = zoom * nearness[lane];
            let column = greater(lesser(middle + grown * (x[lane] - right), last), 0.0);
            let row = greater(lesser(middle - grown * (y[lane] - up), last), 0.0);
            let row = row + WHOLE - WHOLE;
            places[lane] = (row * wide + column + WHOLE).to_bits() - WHOLE.to_bits();
        }
        places
    }
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
        let corners = |[a, b, c]: [u32; 3]| {
            [
                positions[a as usize],
                positions[b as usize],
                positions[c as usize],
            ]
        };
        let area = |triangle: [u32; 3]| {
            let [a, b, c] = corners(triangle);
            let cross = vector::cross(vector::sub(b, a), vector::sub(c, a));
            vector::dot(cross, cross).sqrt()
        };
        // By parts, side by side where threads are free; the same ones however many there are.
        let of_part = |triangles: &[[u32; 3]]| -> Vec<f32> {
            triangles.iter().map(|&triangle| area(triangle)).collect()
        };
        let areas: Vec<Vec<f32>> = triangles.par_chunks(PART).map(of_part).collect();
        let sum = |areas: &Vec<f32>| areas.iter().copied().map(f64::from).sum::<f64>();
        let mut before: Vec<f64> = areas.par_iter().map(sum).collect();
        let mut total = 0.0;
        for passed in &mut before {
            total += std::mem::replace(passed, total);
        }
        let step = total / count as f64;
        let reached_at = |index: f64| (index + 0.5) * step;
        let points_of = |((triangles, areas), before): ((&[[u32; 3]], Vec<f32>), f64)| {
            let mut points = Vec::new();
            // The first point that the parts before have not passed, as they would tell it.
            let mut index = (before / step - 0.5).floor().max(0.0);
            while reached_at(index) < before {
                index += 1.0;
            }
            let mut passed = 0.0;
            for (&triangle, area) in triangles.iter().zip(areas) {
                passed += f64::from(area);
                while before + passed > reached_at(index) && index < count as f64 {
                    let [a, b, c] = corners(triangle);
                    let [u, v, w] = weights(STEP.map(|step| (index * step).fract() as f32));
                    points.push([0, 1, 2].map(|axis: usize| {
                        let mixed = u * a[axis] + v * b[axis] + w * c[axis];
                        ((f64::from(mixed) - center[axis]) * unit) as f32
                    }));
                    index += 1.0;
                }
            }
            points
        };
        let parts = triangles.par_chunks(PART).zip(areas).zip(before);
        let points: Vec<Vec<[f32; 3]>> = parts.map(points_of).collect();
        let points = points.as_slice().concat();
        let along = |axis: usize| points.iter().map(|point| point[axis]).collect();
        Self {
            x: along(0),
            y: along(1),
            z: along(2),
        }
        .padded()
    }

    /// Repeats the last point until the points fill rows of lanes.
    fn padded(mut self) -> Self {
        for along in [&mut self.x, &mut self.y, &mut self.z] {
            if let Some(&last) = along.last() {
                along.resize(along.len().next_multiple_of(LANES), last);
            }
        }
        self
    }

    /// The points that a turned camera sees: up, before any shift (right is x), and the nearness that both grow by.
    fn turned(&self, pose: &Pose, turned: &mut Turned) {
        let by = [pose.elevation, pose.perspective];
        if turned.by == Some(by) {
            return;
        }
        turned.by = Some(by);
        let (sin, cos) = pose.elevation.sin_cos();
        let perspective = pose.perspective;
        let points = || self.y.iter().zip(&self.z);
        turned.up.clear();
        turned.up.extend(points().map(|(&y, &z)| y * cos - z * sin));
        turned.nearness.clear();
        turned.nearness.extend(points().map(|(&y, &z)| {
            let depth = y * sin + z * cos;
            1.0 / greater(1.0 - perspective * depth, Pose::DIVISOR_MIN)
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
            let mut low = [[f32::MAX; LANES]; 2];
            let mut high = [[f32::MIN; LANES]; 2];
            let points = self.x.as_chunks().0.iter().zip(turned.up.as_chunks().0);
            for ((x, y), nearness) in points.zip(turned.nearness.as_chunks().0) {
                widen(&mut low[0], &mut high[0], x, right, nearness);
                widen(&mut low[1], &mut high[1], y, up, nearness);
            }
            let (low, high) = (
                low.map(|lanes| lanes.into_iter().fold(f32::MAX, lesser)),
                high.map(|lanes| lanes.into_iter().fold(f32::MIN, greater)),
            );
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
        let wide = side as f32;
        let onto = Onto {
            zoom: pose.zoom * wide / 2.0,
            shift: pose.shift,
            // Pixels by their middles, which are rounded to.
            middle: wide / 2.0 - 0.5,
            last: wide - 1.0,
            wide,
        };
        turned.places.resize(self.x.len(), 0);
        let places = turned.places.as_chunks_mut().0.iter_mut();
        let points = self.x.as_chunks().0.iter().zip(turned.up.as_chunks().0);
        // First all places, several at once, then the marks.
        for ((places, (x, y)), nearness) in places.zip(points).zip(turned.nearness.as_chunks().0) {
            *places = onto.places(x, y, nearness);
        }
        for &place in &turned.places {
            turned.bytes[place as usize] = 1;
        }
        let mut mask = Mask::packed(&turned.bytes, side);
        mask.close();
        mask
    }
}

/// Room to work in, of one cloud, and what is kept from one pose to the next: a step that only shifts or zooms turns
/// nothing.
#[derive(Default)]
pub(super) struct Turned {
    /// The elevation and perspective that the points are turned by.
    by: Option<[f32; 2]>,
    up: Vec<f32>,
    nearness: Vec<f32>,
    places: Vec<u32>,
    bytes: Vec<u8>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::fixtures;

    #[test]
    fn parts_spread_the_points_that_one_walk_would() {
        const COUNT: usize = 1000;
        let surface = fixtures::surface(32, fixtures::torus());
        let (positions, triangles) = (surface.positions(), surface.triangles());
        assert!(triangles.len() > 8 * PART, "{} triangles", triangles.len());
        let cloud = Cloud::spread(positions, triangles, COUNT);
        assert_eq!(cloud.x.len(), COUNT.next_multiple_of(LANES));

        let area = |&triangle: &[u32; 3]| {
            let [a, b, c] = vector::corners(positions, triangle);
            let cross = vector::cross(vector::sub(b, a), vector::sub(c, a));
            vector::dot(cross, cross).sqrt()
        };
        let step = triangles.iter().map(area).sum::<f64>() / COUNT as f64;
        let (mut passed, mut index) = (0.0, 0);
        for triangle in triangles {
            passed += area(triangle);
            while index < COUNT && passed > (index as f64 + 0.5) * step {
                // It lies in the plane of its triangle.
                let point = [cloud.x[index], cloud.y[index], cloud.z[index]];
                let bounds = surface.bounding_box();
                let half = bounds.longest_side() / 2.0;
                let at = vector::add(vector::scale(vector::wide(point), half), bounds.center());
                let [a, b, c] = vector::corners(positions, *triangle);
                let normal = vector::cross(vector::sub(b, a), vector::sub(c, a));
                let off = vector::dot(vector::unit(normal).unwrap(), vector::sub(at, a));
                assert!(off.abs() < 1e-5, "point {index} is {off} off its triangle");
                index += 1;
            }
        }
        assert_eq!(index, COUNT);
    }
}

//! What of a mesh is nearest to the camera in each pixel.

use rayon::prelude::*;

use super::{
    super::vector::{greater, lesser},
    camera::Camera,
};

/// How near the mesh is at the middle of each pixel, 0 where it isn't.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct DepthMap {
    side: usize,
    nearness: Vec<f32>,
}

/// Triangles reach this far over their sides, in pixels, so that no middle of a pixel falls between two neighbours.
const OVERLAP: f32 = 1e-3;

/// Triangles, or positions, that one thread takes at a time.
const PART: usize = 1 << 14;

/// The whole number of pixels that a coordinate is nearest to, from 0 to `side`: the first pixel whose middle lies
/// beyond it.
fn nearest_whole(along: f32, side: usize) -> usize {
    /// Where single precision has whole numbers only, so that adding rounds and the number is in the lowest bits.
    const WHOLE: f32 = (1 << 23) as f32;
    let along = lesser(greater(along, 0.0), side as f32);
    ((along + WHOLE).to_bits() - WHOLE.to_bits()) as usize
}

impl DepthMap {
    /// Draws the triangles that face the camera on a square of `side` pixels. (Of a closed mesh these are its silhouette.)
    pub(super) fn drawn(
        positions: &[[f32; 3]],
        triangles: &[[u32; 3]],
        camera: &Camera,
        side: usize,
    ) -> Self {
        let half = side as f32 / 2.0;
        let projected: Vec<[f32; 3]> = positions
            .par_iter()
            .with_min_len(PART)
            .map(|&position| {
                let [right, down, nearness] = camera.project(position);
                [half + half * right, half + half * down, nearness]
            })
            .collect();
        let nothing = || Self {
            side,
            nearness: vec![0.0; side * side],
        };
        let drawn = |mut map: Self, triangles: &[[u32; 3]]| {
            for &[a, b, c] in triangles {
                map.draw([
                    projected[a as usize],
                    projected[b as usize],
                    projected[c as usize],
                ]);
            }
            map
        };
        // Side by side where threads are free, each on a map of its own.
        let maps = triangles.par_chunks(PART).fold(nothing, drawn);
        maps.reduce_with(Self::nearest).unwrap_or_else(nothing)
    }

    /// What is nearest in either.
    fn nearest(mut self, other: Self) -> Self {
        for (nearness, other) in self.nearness.iter_mut().zip(other.nearness) {
            *nearness = greater(*nearness, other);
        }
        self
    }

    fn draw(&mut self, [a, b, c]: [[f32; 3]; 3]) {
        let area = (c[0] - a[0]) * (b[1] - a[1]) - (b[0] - a[0]) * (c[1] - a[1]);
        if area <= 0.0 {
            return;
        }
        let span = |axis: usize| {
            let low = lesser(lesser(a[axis], b[axis]), c[axis]) - OVERLAP;
            let high = greater(greater(a[axis], b[axis]), c[axis]) + OVERLAP;
            // The pixels whose middles may lie between, of those that there are: most triangles of a fine mesh lie
            // between two middles.
            nearest_whole(low, self.side)..nearest_whole(high, self.side)
        };
        let (columns, rows) = (span(0), span(1));
        if columns.is_empty() || rows.is_empty() {
            return;
        }
        let scale = 1.0 / area;
        let right = [c[1] - b[1], a[1] - c[1], b[1] - a[1]];
        let down = [b[0] - c[0], c[0] - a[0], a[0] - b[0]];
        let allowance = [0, 1, 2].map(|at: usize| -OVERLAP * (right[at].abs() + down[at].abs()));
        let nearest = a[2].max(b[2]).max(c[2]);
        for row in rows {
            let y = row as f32 + 0.5;
            let pixels = &mut self.nearness[row * self.side..][columns.clone()];
            for (pixel, column) in pixels.iter_mut().zip(columns.clone()) {
                let x = column as f32 + 0.5;
                let u = (x - b[0]) * right[0] + (y - b[1]) * down[0];
                let v = (x - c[0]) * right[1] + (y - c[1]) * down[1];
                let w = (x - a[0]) * right[2] + (y - a[1]) * down[2];
                if u >= allowance[0] && v >= allowance[1] && w >= allowance[2] {
                    let nearness = ((u * a[2] + v * b[2] + w * c[2]) * scale).min(nearest);
                    *pixel = pixel.max(nearness);
                }
            }
        }
    }

    /// Width and height in pixels.
    pub(super) fn side(&self) -> usize {
        self.side
    }

    /// Row by row from the top.
    pub(super) fn nearness(&self) -> &[f32] {
        &self.nearness
    }

    /// Whether the mesh covers the middle of each pixel.
    #[cfg(test)]
    pub(super) fn covers(&self) -> impl Iterator<Item = bool> {
        self.nearness.iter().map(|&nearness| nearness > 0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            super::BoundingBox,
            camera::{Camera, Pose},
        },
        *,
    };

    /// A square on the picture's plane, two of its halves wide from the left upper corner `from`.
    fn square(from: [f32; 2], shift: [f32; 2]) -> DepthMap {
        let [x, y] = from;
        let positions = [
            [x, y - 2.0, 0.0],
            [x + 2.0, y - 2.0, 0.0],
            [x + 2.0, y, 0.0],
            [x, y, 0.0],
        ];
        let pose = Pose {
            elevation: 0.0,
            perspective: 0.3,
            shift,
            zoom: 0.5,
        };
        let camera = Camera::new(pose, &BoundingBox::around(&positions));
        DepthMap::drawn(&positions, &[[0, 1, 2], [0, 2, 3]], &camera, 16)
    }

    #[test]
    fn every_pixel_whose_middle_is_covered_is_drawn_and_no_other() {
        // The mesh's middle is the picture's, less the shift; a pixel is an eighth of half the picture.
        for (shift, columns, rows) in [
            ([0.0, 0.0], 4..12, 4..12),
            ([0.25, 0.0], 3..11, 4..12),
            ([0.0, 0.5], 4..12, 6..14),
            // Over two borders.
            ([1.5, -1.75], 0..6, 0..5),
        ] {
            let map = square([-1.0, 1.0], shift);
            for (at, covered) in map.covers().enumerate() {
                let inside = columns.contains(&(at % 16)) && rows.contains(&(at / 16));
                assert_eq!(covered, inside, "{shift:?} {} {}", at % 16, at / 16);
            }
        }
    }

    #[test]
    fn the_nearest_wins_in_either_order() {
        let wall = |z: f32| [[-1.0, -1.0, z], [1.0, -1.0, z], [0.0, 1.0, z]];
        let positions = [wall(0.5), wall(-0.5)].concat();
        let pose = Pose {
            elevation: 0.0,
            perspective: 0.3,
            shift: [0.0; 2],
            zoom: 0.5,
        };
        let camera = Camera::new(pose, &BoundingBox::around(&positions));
        let drawn = |triangles: [[u32; 3]; 2]| DepthMap::drawn(&positions, &triangles, &camera, 16);
        let map = drawn([[0, 1, 2], [3, 4, 5]]);
        assert_eq!(map, drawn([[3, 4, 5], [0, 1, 2]]));
        let [_, _, front] = camera.project([0.0, 0.0, 0.5]);
        assert!((map.nearness()[8 * 16 + 8] - front).abs() < 1e-6);
    }

    #[test]
    fn many_triangles_are_drawn_in_parts_as_they_are_one_after_another() {
        const SIDE: u32 = 150;
        let along = |at: u32| at as f32 / SIDE as f32 * 2.0 - 1.0;
        let vertex = |at: u32| {
            let [x, y] = [at % (SIDE + 1), at / (SIDE + 1)].map(along);
            [x, y, 0.4 * (7.0 * x).sin() * (5.0 * y).cos()]
        };
        let positions: Vec<_> = (0..(SIDE + 1) * (SIDE + 1)).map(vertex).collect();
        let square = |at: u32| {
            let first = at % SIDE + at / SIDE * (SIDE + 1);
            let above = first + SIDE + 1;
            [[first, first + 1, above + 1], [first, above + 1, above]]
        };
        let triangles: Vec<_> = (0..SIDE * SIDE).flat_map(square).collect();
        assert!(triangles.len() > 2 * PART);
        let pose = Pose {
            elevation: 0.7,
            perspective: 0.4,
            shift: [0.0; 2],
            zoom: 0.8,
        };
        let camera = Camera::new(pose, &BoundingBox::around(&positions));
        let drawn = |triangles: &[[u32; 3]]| DepthMap::drawn(&positions, triangles, &camera, 64);
        let few = triangles.chunks(1000).map(drawn);
        assert_eq!(Some(drawn(&triangles)), few.reduce(DepthMap::nearest));
    }
}

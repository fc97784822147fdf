//! The z-buffer of a preview: which triangle is nearest at each sample.

/// A vertex on the canvas.
#[derive(Debug, Clone, Copy)]
pub(super) struct Projected {
    /// To the right, in samples.
    pub(super) x: f32,
    /// Down, in samples.
    pub(super) y: f32,
    /// One over the distance along the camera's axis: greater is nearer, and linear over the canvas.
    pub(super) nearness: f32,
}

/// What is nearest at each sample.
pub(super) struct Canvas {
    side: usize,
    nearness: Vec<f32>,
    triangle: Vec<u32>,
}

/// Nothing covers the sample.
pub(super) const NO_TRIANGLE: u32 = u32::MAX;

/// Twice the signed area of a triangle on the canvas, positive if it faces the camera (y points down).
fn signed_area(a: Projected, b: Projected, c: Projected) -> f32 {
    (c.x - a.x) * (b.y - a.y) - (b.x - a.x) * (c.y - a.y)
}

/// The weights of a triangle's corners at a point of the canvas, unnormalised.
pub(super) fn weights(corners: [Projected; 3], x: f32, y: f32) -> [f32; 3] {
    let at = Projected {
        x,
        y,
        nearness: 0.0,
    };
    let [a, b, c] = corners;
    [
        signed_area(at, b, c),
        signed_area(a, at, c),
        signed_area(a, b, at),
    ]
}

impl Canvas {
    /// An empty canvas of `side` by `side` samples.
    pub(super) fn new(side: usize) -> Self {
        Self {
            side,
            nearness: vec![0.0; side * side],
            triangle: vec![NO_TRIANGLE; side * side],
        }
    }

    /// Draws a triangle, if it faces the camera, where nothing is nearer.
    pub(super) fn draw(&mut self, corners: [Projected; 3], index: u32) {
        let [a, b, c] = corners;
        let area = signed_area(a, b, c);
        if area <= 0.0 {
            return;
        }
        // Samples lie in the middle of their squares.
        let range = |least: f32, greatest: f32| {
            let first = (least - 0.5).ceil().max(0.0) as usize;
            let end = (greatest - 0.5).floor() + 1.0;
            first..(end.max(0.0) as usize).min(self.side)
        };
        let columns = range(a.x.min(b.x).min(c.x), a.x.max(b.x).max(c.x));
        let rows = range(a.y.min(b.y).min(c.y), a.y.max(b.y).max(c.y));
        // From one sample to the next in a row, each weight changes by the height of the side it is taken over.
        let steps = [c.y - b.y, a.y - c.y, b.y - a.y];
        let nearness_of =
            |[u, v, w]: [f32; 3]| (u * a.nearness + v * b.nearness + w * c.nearness) / area;
        let nearness_step = nearness_of(steps);
        for row in rows {
            let start = weights(corners, columns.start as f32 + 0.5, row as f32 + 0.5);
            let nearness_start = nearness_of(start);
            for column in columns.clone() {
                let along = (column - columns.start) as f32;
                if (0..3).any(|side| start[side] + along * steps[side] < 0.0) {
                    continue;
                }
                let nearness = nearness_start + along * nearness_step;
                let sample = row * self.side + column;
                if nearness > self.nearness[sample] {
                    self.nearness[sample] = nearness;
                    self.triangle[sample] = index;
                }
            }
        }
    }

    /// Samples along a side.
    pub(super) fn side(&self) -> usize {
        self.side
    }

    /// The triangle at a sample, or [`NO_TRIANGLE`].
    pub(super) fn triangle(&self, column: usize, row: usize) -> u32 {
        self.triangle[row * self.side + column]
    }
}

//! The z-buffer of a preview: which triangle is nearest at the middle of each pixel and, where an outline passes, at
//! several samples of the pixel.

use std::{
    ops::Range,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use rayon::prelude::*;

use super::super::vector::{greater, lesser};

/// A vertex on the canvas.
#[derive(Debug, Clone, Copy)]
pub(super) struct Projected {
    /// To the right, in pixels.
    pub(super) x: f32,
    /// Down, in pixels.
    pub(super) y: f32,
    /// One over the distance along the camera's axis: greater is nearer, and linear over the canvas.
    pub(super) nearness: f32,
}

/// Samples of a pixel on an outline.
pub(super) const SAMPLES: usize = 8;

/// Where these samples lie, from the middle of the pixel: no two in a row or column, so that an edge at any angle has
/// nine shades.
pub(super) const OFFSETS: [[f32; SAMPLES]; 2] = [
    [
        0.0625, -0.0625, 0.3125, -0.1875, -0.3125, -0.4375, 0.1875, 0.4375,
    ],
    [
        -0.1875, 0.1875, 0.0625, -0.3125, 0.3125, -0.0625, 0.4375, -0.4375,
    ],
];

/// No sample is nearer to the side of its pixel than this.
const INSET: f32 = 0.0625;

/// Triangles reach this far over their sides, in pixels: rounding on a canvas of 2048 pixels moves a side by less, so
/// that no sample falls through between two neighbours.
const OVERLAP: f32 = 1e-3;

/// Nothing covers a place.
pub(super) const NO_TRIANGLE: u32 = u32::MAX;

/// What is nearest at the middle of a pixel: the nearness above the complement of the triangle, so that the greater of
/// two numbers is the nearer one's, and of equals the first one's.
#[derive(Debug, Clone, Copy)]
struct Middle(u64);

impl Middle {
    const NOTHING: Self = Self(0);

    fn triangle(self) -> u32 {
        !(self.0 as u32)
    }
}

/// What is nearest at each of a pixel's samples.
#[derive(Debug, Clone, Copy)]
struct Nearest {
    nearness: [f32; SAMPLES],
    triangle: [u32; SAMPLES],
}

impl Nearest {
    const NOTHING: Self = Self {
        nearness: [0.0; SAMPLES],
        triangle: [NO_TRIANGLE; SAMPLES],
    };
}

/// Rows that are drawn by one thread, side by side with the others: whole tiles.
const BAND_ROWS: usize = 8 * TILE;

/// Triangles that one thread sorts.
pub(super) const PART: usize = 1 << 14;

/// What is nearest in each pixel.
#[derive(Debug)]
pub(super) struct Canvas {
    /// Its width and height.
    pub(super) side: usize,
    /// From the top, of [`BAND_ROWS`] rows each, the last of what is left.
    bands: Vec<Band>,
}

/// What is nearest in each pixel of some rows.
#[derive(Debug)]
pub(super) struct Band {
    side: usize,
    rows: Range<usize>,
    /// At the middle of each pixel.
    middles: Vec<Middle>,
    /// For each pixel its place in `samples` plus one, if an outline passes it; else zero.
    outlined: Vec<u32>,
    /// Whether there are such pixels in each tile.
    tiles: Vec<bool>,
    samples: Vec<Nearest>,
}

/// What is to be drawn in a band, of some triangles.
#[derive(Default)]
struct Part {
    /// The ends of edges along an outline.
    outlines: Vec<[Projected; 2]>,
    /// Triangles that face the camera, ascending.
    front: Vec<u32>,
}

/// Triangles at these places of a pixel; [`NO_TRIANGLE`] where there is none.
pub(super) enum Pixel<'a> {
    Middle(u32),
    Samples(&'a [u32; SAMPLES]),
}

/// Twice the signed area of a triangle on the canvas, positive if it faces the camera (y points down).
fn signed_area([a, b, c]: [Projected; 3]) -> f32 {
    (c.x - a.x) * (b.y - a.y) - (b.x - a.x) * (c.y - a.y)
}

/// The weights of a triangle's corners at a point of the canvas, unnormalised.
pub(super) fn weights([a, b, c]: [Projected; 3], x: f32, y: f32) -> [f32; 3] {
    let at = Projected {
        x,
        y,
        nearness: 0.0,
    };
    [
        signed_area([at, b, c]),
        signed_area([a, at, c]),
        signed_area([a, b, at]),
    ]
}

/// The whole number from 0 to `side` that is nearest.
fn nearest_whole(along: f32, side: usize) -> usize {
    /// Where single precision has whole numbers only: adding rounds, and the number is in the lowest bits.
    const WHOLE: f32 = (1 << 23) as f32;
    let along = lesser(greater(along, 0.0), side as i32 as f32);
    ((along + WHOLE).to_bits() - WHOLE.to_bits()) as usize
}

/// A whole number that fits, converted in one instruction.
fn float(count: usize) -> f32 {
    count as i32 as f32
}

/// Half of a pixel, from its side to its middle.
const MIDDLE: f32 = 0.5;

/// The side of a square of pixels of which it is known whether any is outlined.
const TILE: usize = 8;

/// The columns and rows of pixels whose places, no nearer than `inset` to their sides, a triangle can cover.
#[inline]
fn reach([a, b, c]: [Projected; 3], inset: f32, side: usize) -> [Range<usize>; 2] {
    let range = |a: f32, b: f32, c: f32| {
        let (least, greatest) = (lesser(lesser(a, b), c), greater(greater(a, b), c));
        let start = nearest_whole(least - OVERLAP + (inset - MIDDLE), side);
        start..nearest_whole(greatest + OVERLAP + (MIDDLE - inset), side)
    };
    [range(a.x, b.x, c.x), range(a.y, b.y, c.y)]
}

/// A quantity that is linear over the canvas.
#[derive(Clone, Copy)]
struct Linear {
    /// At the middle of the pixel where the triangle's reach starts.
    start: f32,
    /// Its change from a pixel to the next one to the right and to the one below.
    right: f32,
    down: f32,
}

impl Linear {
    fn at(self, column: f32, row: f32) -> f32 {
        self.start + column * self.right + row * self.down
    }

    /// By how much it differs from the middle of a pixel at each sample.
    fn offsets(self) -> [f32; SAMPLES] {
        let mut offsets = [0.0; SAMPLES];
        for (sample, offset) in offsets.iter_mut().enumerate() {
            *offset = self.right * OFFSETS[0][sample] + self.down * OFFSETS[1][sample];
        }
        offsets
    }
}

/// A triangle ready to be drawn.
struct Plane {
    /// None is below zero where the triangle is.
    weights: [Linear; 3],
    nearness: Linear,
    /// Beyond its corners the plane of a triangle seen from its edge leads anywhere.
    nearest: f32,
}

impl Plane {
    fn new(corners: [Projected; 3], area: f32, column: usize, row: usize) -> Self {
        let [a, b, c] = corners;
        let at_start = weights(corners, float(column) + 0.5, float(row) + 0.5);
        let right = [c.y - b.y, a.y - c.y, b.y - a.y];
        let down = [b.x - c.x, c.x - a.x, a.x - b.x];
        let scale = 1.0 / area;
        let nearness =
            |[u, v, w]: [f32; 3]| (u * a.nearness + v * b.nearness + w * c.nearness) * scale;
        let weight = |corner: usize| Linear {
            start: at_start[corner] + OVERLAP * (right[corner].abs() + down[corner].abs()),
            right: right[corner],
            down: down[corner],
        };
        Self {
            weights: [weight(0), weight(1), weight(2)],
            nearness: Linear {
                start: nearness(at_start),
                right: nearness(right),
                down: nearness(down),
            },
            nearest: greater(greater(a.nearness, b.nearness), c.nearness),
        }
    }
}

impl Canvas {
    /// Draws what faces the camera, each triangle where nothing is nearer, on a canvas of `side` by `side` pixels.
    pub(super) fn drawn(side: usize, vertices: &[Projected], triangles: &[[u32; 3]]) -> Self {
        let at = |vertex: u32| vertices[vertex as usize];
        let corners = |[a, b, c]: [u32; 3]| [at(a), at(b), at(c)];
        // Side by side where threads are free: which triangles face the camera, and the vertices of those that don't.
        let turned: Vec<_> = vertices.iter().map(|_| AtomicBool::new(false)).collect();
        let facing = |(number, some): (usize, &[[u32; 3]])| {
            let mut front = Vec::with_capacity(some.len());
            for (index, &triangle) in (number * PART..).zip(some) {
                if signed_area(corners(triangle)) > 0.0 {
                    front.push(index as u32);
                } else {
                    for vertex in triangle {
                        turned[vertex as usize].store(true, Relaxed);
                    }
                }
            }
            front
        };
        let parts = triangles.par_chunks(PART).enumerate();
        let fronts: Vec<_> = parts.map(facing).collect();
        let is_turned = |vertex: u32| turned[vertex as usize].load(Relaxed);
        let count = side.div_ceil(BAND_ROWS);
        // A surface turns away from the camera along its outlines, and nowhere else does one thing begin to hide
        // another. (The border of an open mesh is not an outline; conversions make closed ones.)
        let shared_out = |front: Vec<u32>| {
            let mut parts: Vec<_> = (0..count).map(|_| Part::default()).collect();
            for index in front {
                let triangle @ [a, b, c] = triangles[index as usize];
                for band in bands_of(corners(triangle), side) {
                    parts[band].front.push(index);
                }
                for [start, end] in [[a, b], [b, c], [c, a]] {
                    // Both ends of an edge between front and back have both on their sides.
                    if is_turned(start) && is_turned(end) {
                        let ends @ [from, to] = [at(start), at(end)];
                        for band in bands_of([from, from, to], side) {
                            parts[band].outlines.push(ends);
                        }
                    }
                }
            }
            parts
        };
        let shares: Vec<_> = fronts.into_par_iter().map(shared_out).collect();
        let drawn = |number: usize| {
            let first = number * BAND_ROWS;
            let mut band = Band::new(side, first..side.min(first + BAND_ROWS));
            let parts = || shares.iter().map(|parts| &parts[number]);
            for &[start, end] in parts().flat_map(|part| &part.outlines) {
                band.outline(start, end);
            }
            for part in parts() {
                for &index in &part.front {
                    band.draw(corners(triangles[index as usize]), index);
                }
            }
            band
        };
        let bands = (0..count).into_par_iter().map(drawn).collect();
        Self { side, bands }
    }

    /// The bands from the top, and how many bytes of an RGBA picture each but the last has.
    pub(super) fn bands(&self) -> (&[Band], usize) {
        (&self.bands, 4 * self.side * BAND_ROWS)
    }
}

/// The bands that a triangle reaches.
fn bands_of(corners: [Projected; 3], side: usize) -> Range<usize> {
    let [_, rows] = reach(corners, INSET, side);
    rows.start / BAND_ROWS..rows.end.div_ceil(BAND_ROWS)
}

impl Band {
    fn new(side: usize, rows: Range<usize>) -> Self {
        let pixels = side * rows.len();
        Self {
            side,
            middles: vec![Middle::NOTHING; pixels],
            outlined: vec![0; pixels],
            tiles: vec![false; side.div_ceil(TILE) * rows.len().div_ceil(TILE)],
            samples: Vec::new(),
            rows,
        }
    }

    /// The rows of the band among `rows` of the canvas, counted from the band's first.
    fn own(&self, rows: &Range<usize>) -> Range<usize> {
        let [start, end] =
            [rows.start, rows.end].map(|row| row.clamp(self.rows.start, self.rows.end));
        start - self.rows.start..end - self.rows.start
    }

    /// Takes samples of the pixels in reach of an edge.
    fn outline(&mut self, start: Projected, end: Projected) {
        let [columns, rows] = reach([start, start, end], INSET, self.side);
        for row in self.own(&rows) {
            for column in columns.clone() {
                let place = &mut self.outlined[row * self.side + column];
                if *place == 0 {
                    self.samples.push(Nearest::NOTHING);
                    *place = self.samples.len() as u32;
                    let tiles = self.side.div_ceil(TILE);
                    self.tiles[row / TILE * tiles + column / TILE] = true;
                }
            }
        }
    }

    /// Whether a tile in reach has outlined pixels. There is a pixel in reach.
    fn is_outlined(&self, columns: &Range<usize>, rows: &Range<usize>) -> bool {
        let tiles = self.side.div_ceil(TILE);
        let columns = columns.start / TILE..(columns.end - 1) / TILE + 1;
        (rows.start / TILE..(rows.end - 1) / TILE + 1)
            .any(|row| self.tiles[row * tiles..][columns.clone()].contains(&true))
    }

    fn draw(&mut self, corners: [Projected; 3], index: u32) {
        let [mut columns, mut rows] = reach(corners, INSET, self.side);
        let mut own = self.own(&rows);
        if columns.is_empty() || own.is_empty() {
            return;
        }
        let is_outlined = self.is_outlined(&columns, &own);
        if !is_outlined {
            // Most triangles of a fine mesh are smaller than a pixel, and many reach no middle of one.
            [columns, rows] = reach(corners, MIDDLE, self.side);
            own = self.own(&rows);
            if columns.is_empty() || own.is_empty() {
                return;
            }
        }
        let plane = Plane::new(corners, signed_area(corners), columns.start, rows.start);
        for row in own {
            let down = float(self.rows.start + row - rows.start);
            let pixels = row * self.side + columns.start..row * self.side + columns.end;
            let outlined = self.outlined[pixels.clone()].iter();
            for (right, (middle, &place)) in
                self.middles[pixels].iter_mut().zip(outlined).enumerate()
            {
                let right = float(right);
                if is_outlined && place != 0 {
                    self.samples[place as usize - 1].draw(&plane, right, down, index);
                } else {
                    middle.draw(&plane, right, down, index);
                }
            }
        }
    }

    /// What each pixel shows, row by row.
    pub(super) fn pixels(&self) -> impl Iterator<Item = Pixel<'_>> {
        self.middles
            .iter()
            .zip(&self.outlined)
            .map(|(middle, &place)| match place {
                0 => Pixel::Middle(middle.triangle()),
                place => Pixel::Samples(&self.samples[place as usize - 1].triangle),
            })
    }

    /// Its first row.
    pub(super) fn top(&self) -> usize {
        self.rows.start
    }
}

impl Middle {
    /// Draws a triangle at the middle of a pixel, so far right of and below the start of its reach.
    #[inline]
    fn draw(&mut self, plane: &Plane, right: f32, down: f32, index: u32) {
        let [u, v, w] = plane.weights;
        let weight = lesser(
            lesser(u.at(right, down), v.at(right, down)),
            w.at(right, down),
        );
        let near = lesser(plane.nearness.at(right, down), plane.nearest);
        // No branches: of a small triangle no one can foretell which middles it covers.
        let covers = u64::from(weight >= 0.0).wrapping_neg();
        let here = u64::from(greater(near, 0.0).to_bits()) << 32 | u64::from(!index);
        self.0 = self.0.max(covers & here);
    }
}

impl Nearest {
    /// Draws a triangle at the samples of a pixel, so far right of and below the start of its reach.
    fn draw(&mut self, plane: &Plane, right: f32, down: f32, index: u32) {
        let [u, v, w] = plane.weights.map(|weight| weight.offsets());
        let [u_here, v_here, w_here] = plane.weights.map(|weight| weight.at(right, down));
        let (near, here) = (plane.nearness.offsets(), plane.nearness.at(right, down));
        // Small arrays and no branches: the samples are compared all at once.
        let (mut nears, mut wins) = ([0.0; SAMPLES], [0; SAMPLES]);
        for sample in 0..SAMPLES {
            nears[sample] = lesser(here + near[sample], plane.nearest);
        }
        for sample in 0..SAMPLES {
            let weight = lesser(
                lesser(u_here + u[sample], v_here + v[sample]),
                w_here + w[sample],
            );
            let covers = if weight >= 0.0 { u32::MAX } else { 0 };
            let nearer = if nears[sample] > self.nearness[sample] {
                u32::MAX
            } else {
                0
            };
            wins[sample] = covers & nearer;
        }
        if wins == [0; SAMPLES] {
            return;
        }
        for sample in 0..SAMPLES {
            if wins[sample] != 0 {
                self.nearness[sample] = nears[sample];
                self.triangle[sample] = index;
            }
        }
    }
}

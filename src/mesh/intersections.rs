//! Where a surface cuts through itself.
//!
//! Two triangles cut each other if each has corners on both sides of the other's plane, and the pieces of the line of
//! both planes that they cover overlap. All of this must be deeper than coordinates are rounded in single precision:
//! what touches, or lies within a hair, does not count, however the mesh was moved and scaled. So neighbours at an edge
//! never cut each other; neighbours at a vertex do if they overlap away from it. Sheets that lie flat on each other do
//! not count.
//!
//! A surface from the sampled field can have none, see [`Intersections::NONE`]; simplification may make some.

use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

use super::{
    triangle_grid::TriangleGrid,
    vector::{self, Vector},
};

/// How deep a cut must be, as a share of the greatest coordinate: four times what rounding to single precision moves.
const DEPTH_MIN: f64 = 4.0 / (1u32 << 24) as f64;

/// How many pairs of triangles cut each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Intersections {
    /// Pairs found.
    pub pairs: usize,
    /// Whether these are all. If not there are at least so many, and counting was given up.
    pub is_complete: bool,
}

impl Intersections {
    /// What an unsimplified surface of a field has: the triangles of a cell stay within it and don't cut each other,
    /// whichever way its corners lie (there is a test for each), and those of different cells meet in the lines that
    /// both have on the face between.
    pub const NONE: Self = Self {
        pairs: 0,
        is_complete: true,
    };
}

/// Counts the pairs of triangles that cut each other, up to `pairs_max`.
pub(super) fn count(grid: &TriangleGrid, pairs_max: usize) -> Intersections {
    let found = AtomicUsize::new(0);
    Cutter::new(grid).for_each_pair(|_| found.fetch_add(1, Ordering::Relaxed) < pairs_max);
    let found = found.into_inner();
    Intersections {
        pairs: found.min(pairs_max),
        is_complete: found <= pairs_max,
    }
}

/// All pairs of triangles that cut each other.
pub(super) fn pairs(grid: &TriangleGrid) -> Vec<[u32; 2]> {
    let cutter = Cutter::new(grid);
    let of_row = |row| {
        let mut pairs = Vec::new();
        cutter.for_each_pair_in_row(row, |pair| {
            pairs.push(pair);
            true
        });
        pairs
    };
    (0..grid.rows())
        .into_par_iter()
        .flat_map_iter(of_row)
        .collect()
}

/// The points at a distance of `offset` along `normal`.
#[derive(Debug, Clone, Copy)]
struct Plane {
    normal: Vector,
    offset: f64,
}

impl Plane {
    /// The plane of a triangle. One without area gets no normal; all points lie in it.
    fn of(corners: [Vector; 3]) -> Self {
        let normal = vector::unit(vector::twice_area(corners)).unwrap_or_default();
        Self {
            normal,
            offset: vector::dot(normal, corners[0]),
        }
    }

    fn above(&self, point: Vector) -> f64 {
        vector::dot(self.normal, point) - self.offset
    }
}

/// What is known of a mesh when its pairs are looked at.
struct Cutter<'a> {
    grid: &'a TriangleGrid<'a>,
    planes: Vec<Plane>,
    depth_min: f64,
}

impl<'a> Cutter<'a> {
    fn new(grid: &'a TriangleGrid<'a>) -> Self {
        Self {
            grid,
            planes: (0..grid.triangle_count() as u32)
                .into_par_iter()
                .map(|triangle| Plane::of(grid.corners(triangle)))
                .collect(),
            depth_min: DEPTH_MIN * grid.reach(),
        }
    }

    /// Visits pairs that cut each other, until a visit says that it is enough.
    fn for_each_pair(&self, visit: impl Fn([u32; 2]) -> bool + Sync) {
        (0..self.grid.rows())
            .into_par_iter()
            .map(|row| self.for_each_pair_in_row(row, &visit))
            // Rows that run already come to their end.
            .all(|goes_on| goes_on);
    }

    /// Whether all visits wanted more.
    fn for_each_pair_in_row(&self, row: usize, mut visit: impl FnMut([u32; 2]) -> bool) -> bool {
        let mut goes_on = true;
        self.grid.for_each_pair_in_row(row, |a, b| {
            goes_on = goes_on && (!self.cut(a, b) || visit([a, b]));
        });
        goes_on
    }

    fn cut(&self, a: u32, b: u32) -> bool {
        if self.grid.share_an_edge(a, b) {
            return false;
        }
        let [plane_a, plane_b] = [a, b].map(|triangle| &self.planes[triangle as usize]);
        let corners_a = self.grid.corners(a);
        let above_b = corners_a.map(|corner| plane_b.above(corner));
        if !self.straddles(above_b) {
            return false;
        }
        let corners_b = self.grid.corners(b);
        let above_a = corners_b.map(|corner| plane_a.above(corner));
        if !self.straddles(above_a) {
            return false;
        }
        // Planes that are straddled both ways and yet have no line are one plane but for rounding.
        let Some(line) = vector::unit(vector::cross(plane_a.normal, plane_b.normal)) else {
            return false;
        };
        let [from_a, to_a] = covered(line, corners_a, above_b);
        let [from_b, to_b] = covered(line, corners_b, above_a);
        to_a.min(to_b) - from_a.max(from_b) > self.depth_min
    }

    fn straddles(&self, [a, b, c]: Vector) -> bool {
        a.min(b).min(c) < -self.depth_min && a.max(b).max(c) > self.depth_min
    }
}

/// The part of the line along `line` that a triangle covers, whose corners lie so far above a plane through that line.
fn covered(line: Vector, corners: [Vector; 3], above: Vector) -> [f64; 2] {
    let along = corners.map(|corner| vector::dot(line, corner));
    let (mut from, mut to) = (f64::INFINITY, f64::NEG_INFINITY);
    for (start, end) in [(0, 1), (1, 2), (2, 0)] {
        if (above[start] < 0.0) != (above[end] < 0.0) {
            let share = above[start] / (above[start] - above[end]);
            let at = along[start] + share * (along[end] - along[start]);
            (from, to) = (from.min(at), to.max(at));
        }
    }
    [from, to]
}

#[cfg(test)]
mod tests;

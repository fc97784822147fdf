//! The triangles of a mesh by the cells of a regular grid, to find those that are near each other.
//!
//! A surface's triangles are small beside it and of about one size, so that a grid as fine as they are finds the few in
//! any place at once, and is made in two passes over them.

use std::ops::Range;

use super::vector::{self, Vector};

/// Cells along an axis for each mean side of a triangle's box: with larger cells there are more pairs to look at, with
/// smaller ones each triangle lies in more of them.
const CELL_SIDES: f32 = 1.5;

/// Cells for each triangle at most, so that the grid's own size stays that of the mesh.
const CELLS_PER_TRIANGLE: f32 = 8.0;

/// A box along the axes.
#[derive(Debug, Clone, Copy)]
struct Extent {
    min: [f32; 3],
    max: [f32; 3],
}

impl Extent {
    const NONE: Self = Self {
        min: [f32::INFINITY; 3],
        max: [f32::NEG_INFINITY; 3],
    };

    fn with(self, other: Self) -> Self {
        Self {
            min: std::array::from_fn(|axis| self.min[axis].min(other.min[axis])),
            max: std::array::from_fn(|axis| self.max[axis].max(other.max[axis])),
        }
    }

    fn around(corners: [[f32; 3]; 3]) -> Self {
        corners.into_iter().fold(Self::NONE, |extent, corner| {
            extent.with(Self {
                min: corner,
                max: corner,
            })
        })
    }

    fn sides(self) -> [f32; 3] {
        vector::sub(self.max, self.min)
    }

    fn meets(&self, other: &Self) -> bool {
        (0..3).all(|axis| self.min[axis] <= other.max[axis] && other.min[axis] <= self.max[axis])
    }
}

/// Triangles by the cells that their boxes reach into.
#[derive(Debug)]
pub(super) struct TriangleGrid<'a> {
    positions: &'a [[f32; 3]],
    triangles: &'a [[u32; 3]],
    boxes: Vec<Extent>,
    origin: [f32; 3],
    /// Side of a cell.
    side: f32,
    /// Cells along x, y and z.
    cells: [usize; 3],
    /// Where the triangles of each cell begin in `members`, x fastest; they end where those of the next one begin.
    first: Vec<u32>,
    members: Vec<u32>,
}

impl<'a> TriangleGrid<'a> {
    /// The grid of at least one triangle, whose corners are finite and in range.
    pub(super) fn new(positions: &'a [[f32; 3]], triangles: &'a [[u32; 3]]) -> Self {
        let boxes: Vec<Extent> = triangles
            .iter()
            .map(|triangle| Extent::around(triangle.map(|vertex| positions[vertex as usize])))
            .collect();
        let bounds = boxes.iter().copied().fold(Extent::NONE, Extent::with);
        let side = cell_side(&boxes, bounds.sides());
        let mut grid = Self {
            positions,
            triangles,
            origin: bounds.min,
            side,
            cells: bounds.sides().map(|along| (along / side) as usize + 1),
            first: Vec::new(),
            members: Vec::new(),
            boxes,
        };
        grid.sort_in();
        grid
    }

    /// Counts the triangles of each cell and puts them there.
    fn sort_in(&mut self) {
        let mut ends = vec![0u32; self.cells.iter().product::<usize>() + 1];
        for extent in &self.boxes {
            self.for_each_cell(extent, |cell| ends[cell + 1] += 1);
        }
        for cell in 1..ends.len() {
            ends[cell] += ends[cell - 1];
        }
        self.first = ends.clone();
        let mut members = vec![0; ends[ends.len() - 1] as usize];
        for (triangle, extent) in self.boxes.iter().enumerate() {
            self.for_each_cell(extent, |cell| {
                members[ends[cell] as usize] = triangle as u32;
                ends[cell] += 1;
            });
        }
        self.members = members;
    }

    pub(super) fn triangle_count(&self) -> usize {
        self.triangles.len()
    }

    /// The corners of a triangle.
    pub(super) fn corners(&self, triangle: u32) -> [Vector; 3] {
        vector::corners(self.positions, self.triangles[triangle as usize])
    }

    /// The greatest coordinate, whatever its sign.
    pub(super) fn reach(&self) -> f64 {
        let cells = self.cells.map(|cells| cells as f32 * self.side);
        self.origin
            .iter()
            .zip(cells)
            .map(|(&origin, along)| f64::from(origin.abs().max((origin + along).abs())))
            .fold(0.0, f64::max)
    }

    /// Rows of cells along x.
    pub(super) fn rows(&self) -> usize {
        self.cells[1] * self.cells[2]
    }

    /// Each pair of triangles whose boxes meet, once over all rows: in the first cell that both reach.
    pub(super) fn for_each_pair_in_row(&self, row: usize, mut visit: impl FnMut(u32, u32)) {
        let (y, z) = (row % self.cells[1], row / self.cells[1]);
        // What is looked at again and again, side by side.
        let mut near: Vec<(u32, Extent, [usize; 3])> = Vec::new();
        for x in 0..self.cells[0] {
            let members = self.members_of(row * self.cells[0] + x);
            near.clear();
            near.extend(members.iter().map(|&triangle| {
                let extent = self.boxes[triangle as usize];
                let first = std::array::from_fn(|axis| self.cell_along(axis, extent.min[axis]));
                (triangle, extent, first)
            }));
            for (at, (a, box_a, first_a)) in near.iter().enumerate() {
                for (b, box_b, first_b) in &near[at + 1..] {
                    let is_first = first_a[0].max(first_b[0]) == x
                        && first_a[1].max(first_b[1]) == y
                        && first_a[2].max(first_b[2]) == z;
                    if is_first && box_a.meets(box_b) {
                        visit(*a, *b);
                    }
                }
            }
        }
    }

    /// Whether two triangles share two vertices.
    pub(super) fn share_an_edge(&self, a: u32, b: u32) -> bool {
        let [a, b] = [a, b].map(|triangle| self.triangles[triangle as usize]);
        a.iter().filter(|vertex| b.contains(vertex)).count() >= 2
    }

    fn members_of(&self, cell: usize) -> &[u32] {
        &self.members[self.first[cell] as usize..self.first[cell + 1] as usize]
    }

    fn cell_along(&self, axis: usize, coordinate: f32) -> usize {
        // Rounding may lead one beyond the last.
        (((coordinate - self.origin[axis]) / self.side) as usize).min(self.cells[axis] - 1)
    }

    fn for_each_cell(&self, extent: &Extent, mut visit: impl FnMut(usize)) {
        let [x, y, z]: [Range<usize>; 3] = std::array::from_fn(|axis| {
            self.cell_along(axis, extent.min[axis])..self.cell_along(axis, extent.max[axis]) + 1
        });
        for z in z {
            for y in y.clone() {
                let row = self.cells[0] * (y + self.cells[1] * z);
                x.clone().for_each(|x| visit(row + x));
            }
        }
    }
}

/// The side of the cells for triangles with these boxes in a space with these sides.
fn cell_side(boxes: &[Extent], space: [f32; 3]) -> f32 {
    let count = boxes.len() as f32;
    let longest = |sides: [f32; 3]| sides.into_iter().fold(0.0, f32::max);
    let sum: f32 = boxes.iter().map(|extent| longest(extent.sides())).sum();
    let wanted = CELL_SIDES * sum / count;
    // The cells that this makes, in single precision: there may be more than can be counted.
    let cells: f32 = space.iter().map(|along| along / wanted + 1.0).product();
    let allowed = CELLS_PER_TRIANGLE * count + 64.0;
    let side = wanted * (cells / allowed).cbrt().max(1.0);
    // Flat spaces need more than the cube root; a side of nothing is that of a single point.
    let side = side.max(longest(space) / 1024.0);
    if side > 0.0 { side } else { 1.0 }
}

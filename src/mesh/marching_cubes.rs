//! Iso-surface of the cells of a lattice: closed, two-manifold, outward, free of degenerate triangles, deterministic.
//!
//! Each cell cuts its corners off by the table of [`table`]; each crossed edge of the grid has one vertex, shared by the
//! four cells around it. If the cells hold every cell that the surface enters, the result is closed.

use super::{
    MeshError,
    lattice::{
        BRICK_SIDE, BrickMask, Index3, Lattice, Slot, bits,
        block::{BLOCK_SIDE, Corners, FIRST_COLUMN, edges_of_cells},
        corner, slots,
    },
    surface::Surface,
};
use table::{CaseTable, EDGES, Edge};

mod table;

/// Vertices keep this share of an edge's length away from its ends. Without it a sample near the iso level draws the
/// vertices of its edges into one point, and triangles degenerate. The surface moves by at most this share of a cell.
const CLEARANCE: f64 = 1.0 / 64.0;

/// Triangles that one surface may have: eight times a round body's at a resolution of 512.
const TRIANGLES_MAX: usize = 8_000_000;

/// Which edges that start in a brick are crossed, and how many vertices come before them.
#[derive(Clone)]
struct BrickEdges {
    /// By axis.
    crossed: [BrickMask; 3],
    /// Number of the vertex of the first crossed edge counted in each word.
    first: [[u32; BRICK_SIDE]; 3],
}

impl BrickEdges {
    const NONE: Self = Self {
        crossed: [[0; BRICK_SIDE]; 3],
        first: [[0; BRICK_SIDE]; 3],
    };
}

/// The cells that the surface passes.
struct Crossings {
    /// By brick.
    cells: Vec<BrickMask>,
    /// Of each cell, in order.
    cases: Vec<u8>,
}

/// Extracts the surface. `axis` holds the coordinates of the finest grid; samples above `iso` are inside.
pub(super) fn extract(lattice: &Lattice, axis: &[f32], iso: f32) -> Result<Surface, MeshError> {
    let table = CaseTable::get();
    let inside = lattice.samples(|value| value > iso);
    let crossings = find_crossings(lattice, &inside);
    let counts = crossings.cases.iter();
    let triangle_count = counts.map(|&case| table.triangles(case).len()).sum();
    if triangle_count > TRIANGLES_MAX {
        return Err(MeshError::TooComplex {
            what: "triangles",
            needed: triangle_count,
            allowed: TRIANGLES_MAX,
        });
    }
    let mut edges = vec![BrickEdges::NONE; lattice.brick_count()];
    // A closed surface has about half as many vertices as triangles.
    let mut positions = Vec::with_capacity(triangle_count / 2 + 2);
    for brick in lattice.bricks_in_order() {
        let around = edges_of_cells(&crossings.cells, &lattice.before(brick));
        if around == BrickEdges::NONE.crossed {
            continue;
        }
        let behind = lattice.behind(brick);
        let divided = Corners::of(&inside, &behind).divided_edges();
        edges[brick].crossed =
            std::array::from_fn(|axis| std::array::from_fn(|z| around[axis][z] & divided[axis][z]));
        let grid = Grid { lattice, axis, iso };
        grid.place_vertices(brick, &behind, &mut edges[brick], &mut positions);
    }
    let mut triangles = Vec::with_capacity(triangle_count);
    let mut numbers = Numbers::new();
    let mut cases = crossings.cases.iter();
    for brick in lattice.bricks_in_order() {
        let cells = crossings.cells[brick];
        if cells == [0; BRICK_SIDE] {
            continue;
        }
        numbers.look_up(&edges, &lattice.behind(brick));
        for (cell, &case) in slots(brick, cells).zip(&mut cases) {
            let of_cell = numbers.of_cell(cell);
            let number = |edge: u8| of_cell[OFFSETS[edge as usize]];
            let filling = table.triangles(case).iter();
            triangles.extend(filling.map(|&[a, b, c]| [number(a), number(b), number(c)]));
        }
    }
    Surface::new(positions, triangles)
}

fn find_crossings(lattice: &Lattice, inside: &[BrickMask]) -> Crossings {
    let mut cells = vec![[0; BRICK_SIDE]; lattice.brick_count()];
    let mut cases = Vec::new();
    for brick in lattice.bricks_in_order() {
        let of_level = lattice.cells_of(brick);
        if of_level == [0; BRICK_SIDE] {
            continue;
        }
        let corners = Corners::of(inside, &lattice.behind(brick));
        let divided = corners.divided();
        cells[brick] = std::array::from_fn(|z| of_level[z] & divided[z]);
        cases.extend(slots(brick, cells[brick]).map(|cell| corners.of_cell(cell)));
    }
    Crossings { cells, cases }
}

/// The numbers of the vertices on the edges that start in a brick or behind it.
struct Numbers {
    /// By axis, z, y and x.
    of_edges: Vec<u32>,
}

/// How far apart the numbers of edges along different axes are kept.
const AXIS_STRIDE: usize = BLOCK_SIDE * BLOCK_SIDE * BLOCK_SIDE;

/// Where the number of each edge of a cell is kept, from where that of its first is.
const OFFSETS: [usize; EDGES.len()] = offsets();

const fn place_of([x, y, z]: Index3) -> usize {
    x + BLOCK_SIDE * (y + BLOCK_SIDE * z)
}

const fn offsets() -> [usize; EDGES.len()] {
    let mut offsets = [0; EDGES.len()];
    let mut edge = 0;
    while edge < EDGES.len() {
        let Edge { start, axis } = EDGES[edge];
        offsets[edge] = AXIS_STRIDE * axis + place_of([start & 1, start >> 1 & 1, start >> 2 & 1]);
        edge += 1;
    }
    offsets
}

impl Numbers {
    fn new() -> Self {
        Self {
            of_edges: vec![0; 3 * AXIS_STRIDE],
        }
    }

    /// Writes the numbers of crossed edges; those of others are left as they are.
    fn look_up(&mut self, edges: &[BrickEdges], behind: &[Option<usize>; 8]) {
        for (position, &brick) in behind.iter().enumerate() {
            let Some(brick) = brick else { continue };
            let BrickEdges { crossed, first } = &edges[brick];
            let [x, y, z] = corner([0; 3], position);
            // The brick itself whole, of those behind it the first layer, row or column.
            let mask = if x == 1 { FIRST_COLUMN } else { !0 } & if y == 1 { 0xff } else { !0 };
            let layers = if z == 1 { 1 } else { BRICK_SIDE };
            let origin = BRICK_SIDE * place_of([x, y, z]);
            for axis in 0..3 {
                for layer in 0..layers {
                    let word = crossed[axis][layer];
                    let origin = origin + AXIS_STRIDE * axis + place_of([0, 0, layer]);
                    for bit in bits(word & mask) {
                        let before = (word & ((1 << bit) - 1)).count_ones();
                        self.of_edges[origin + place_of([bit % BRICK_SIDE, bit / BRICK_SIDE, 0])] =
                            first[axis][layer] + before;
                    }
                }
            }
        }
    }

    /// Those of a cell of the brick, by [`OFFSETS`].
    fn of_cell(&self, cell: Slot) -> &[u32] {
        &self.of_edges[place_of(cell.in_brick())..]
    }
}

/// Samples with their places.
struct Grid<'a> {
    lattice: &'a Lattice,
    /// Coordinates of the finest grid.
    axis: &'a [f32],
    iso: f32,
}

impl Grid<'_> {
    /// Numbers the crossed edges of a brick and places a vertex on each.
    fn place_vertices(
        &self,
        brick: usize,
        behind: &[Option<usize>; 8],
        edges: &mut BrickEdges,
        positions: &mut Vec<[f32; 3]>,
    ) {
        let BrickEdges { crossed, first } = edges;
        let coordinates = self.lattice.coordinates(brick, self.axis);
        let values = self.lattice.values(brick);
        for along in 0..3 {
            let next = behind[1 << along].map(|brick| self.lattice.values(brick));
            let stride = [1, BRICK_SIDE, BRICK_SIDE * BRICK_SIDE][along];
            for (z, &word) in crossed[along].iter().enumerate() {
                first[along][z] = positions.len() as u32;
                for bit in bits(word) {
                    let offset = bit + BRICK_SIDE * BRICK_SIDE * z;
                    let start = [bit % BRICK_SIDE, bit / BRICK_SIDE, z];
                    let to = if start[along] + 1 < BRICK_SIDE {
                        values[offset + stride]
                    } else {
                        next.expect("both ends of a crossed edge have bricks")
                            [offset + stride - BRICK_SIDE * stride]
                    };
                    let share = self.share(values[offset], to);
                    let mut point = std::array::from_fn(|axis| coordinates[axis][start[axis]]);
                    let near = f64::from(point[along]);
                    let far = f64::from(coordinates[along][start[along] + 1]);
                    point[along] = (near + share * (far - near)) as f32;
                    positions.push(point);
                }
            }
        }
    }

    /// Where the surface crosses an edge with these values at its ends, as a share of its length.
    fn share(&self, from: f32, to: f32) -> f64 {
        debug_assert!(
            from.is_finite() && to.is_finite(),
            "both ends of a crossed edge are known"
        );
        let (from, to) = (f64::from(from), f64::from(to));
        ((f64::from(self.iso) - from) / (to - from)).clamp(CLEARANCE, 1.0 - CLEARANCE)
    }
}

#[cfg(test)]
mod tests;

//! Iso-surface of the cells of a lattice: closed, two-manifold, outward, free of degenerate triangles, deterministic.
//!
//! Each cell cuts its corners off by the table of [`table`]; each crossed edge of the grid has one vertex, shared by the
//! four cells around it. If the cells hold every cell that the surface enters, the result is closed.

use rayon::prelude::*;

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

/// Bricks that a thread takes up at once, side by side with others where threads are free.
const BRICKS_AT_ONCE: usize = 256;

/// The cells that the surface passes in some bricks.
struct Crossings {
    /// Of each brick.
    cells: Vec<BrickMask>,
    /// Of each cell, in order.
    cases: Vec<u8>,
}

/// Extracts the surface. `axis` holds the coordinates of the finest grid; samples above `iso` are inside.
pub(super) fn extract(lattice: &Lattice, axis: &[f32], iso: f32) -> Result<Surface, MeshError> {
    let table = CaseTable::get();
    let grid = Grid { lattice, axis, iso };
    let inside = lattice.samples(|value| value > iso);
    let bricks: Vec<usize> = lattice.bricks_in_order().collect();
    let parts = || bricks.par_chunks(BRICKS_AT_ONCE);

    let crossings: Vec<_> = parts()
        .map(|bricks| find_crossings(lattice, &inside, bricks))
        .collect();
    let of_cases = |crossings: &Crossings| {
        let cases = crossings.cases.iter();
        cases.map(|&case| table.triangles(case).len()).sum()
    };
    let triangle_counts: Vec<usize> = crossings.iter().map(of_cases).collect();
    let triangle_count = triangle_counts.iter().sum();
    if triangle_count > TRIANGLES_MAX {
        return Err(MeshError::TooComplex {
            what: "triangles",
            needed: triangle_count,
            allowed: TRIANGLES_MAX,
        });
    }
    let mut cells = vec![[0; BRICK_SIDE]; lattice.brick_count()];
    let masks = crossings.iter().flat_map(|crossings| &crossings.cells);
    for (&brick, &mask) in bricks.iter().zip(masks) {
        cells[brick] = mask;
    }

    let crossed: Vec<(Vec<_>, bool)> = parts()
        .map(|bricks| {
            let mut is_closed = true;
            let of_brick = |&brick| {
                let (crossed, closed) = crossed_edges(lattice, &inside, &cells, brick);
                is_closed &= closed;
                crossed
            };
            (bricks.iter().map(of_brick).collect(), is_closed)
        })
        .collect();
    let (crossed, are_closed): (Vec<Vec<_>>, Vec<_>) = crossed.into_iter().unzip();
    let vertex_counts: Vec<usize> = crossed.iter().map(|crossed| ones(crossed)).collect();
    let mut positions = vec![[0.0; 3]; vertex_counts.iter().sum()];
    let firsts = vertex_counts.iter().scan(0, |next, count| {
        let first = *next;
        *next += count;
        Some(first)
    });
    let numbered: Vec<Vec<BrickEdges>> = parts()
        .zip(crossed)
        .zip(shares(&mut positions, &vertex_counts))
        .zip(firsts.collect::<Vec<_>>())
        .map(|(((bricks, crossed), positions), first)| {
            let mut vertices = Vertices { positions, first };
            let edges = bricks.iter().zip(crossed);
            let of_brick = |(&brick, crossed)| grid.place_vertices(brick, crossed, &mut vertices);
            edges.map(of_brick).collect()
        })
        .collect();
    let mut edges = vec![BrickEdges::NONE; lattice.brick_count()];
    for (&brick, numbered) in bricks.iter().zip(numbered.into_iter().flatten()) {
        edges[brick] = numbered;
    }

    let mut triangles = vec![[0; 3]; triangle_count];
    parts()
        .zip(crossings)
        .zip(shares(&mut triangles, &triangle_counts))
        .for_each(|((bricks, crossings), triangles)| {
            let mut places = triangles.iter_mut();
            let mut numbers = Numbers::new();
            let mut cases = crossings.cases.into_iter();
            for (&brick, cells) in bricks.iter().zip(crossings.cells) {
                if cells == [0; BRICK_SIDE] {
                    continue;
                }
                numbers.look_up(&edges, &lattice.behind(brick));
                for (cell, case) in slots(brick, cells).zip(&mut cases) {
                    let of_cell = numbers.of_cell(cell);
                    let number = |edge: u8| of_cell[OFFSETS[edge as usize]];
                    let filling = table.triangles(case).iter();
                    for (&[a, b, c], place) in filling.zip(&mut places) {
                        *place = [number(a), number(b), number(c)];
                    }
                }
            }
        });
    let surface = Surface::new(positions, triangles)?;
    // The table fills each cell so that it meets its neighbours; only where one is missing does the surface end.
    let is_closed = are_closed.into_iter().all(|closed| closed);
    Ok(if is_closed {
        surface.known_faultless()
    } else {
        surface
    })
}

/// Cuts a whole into pieces of these lengths, one after another.
fn shares<'a, T>(mut whole: &'a mut [T], lengths: &[usize]) -> Vec<&'a mut [T]> {
    let cut = |&length: &usize| whole.split_off_mut(..length).expect("lengths add up to it");
    lengths.iter().map(cut).collect()
}

fn find_crossings(lattice: &Lattice, inside: &[BrickMask], bricks: &[usize]) -> Crossings {
    let mut cases = Vec::new();
    let of_brick = |&brick: &usize| {
        let of_level = lattice.cells_of(brick);
        if of_level == [0; BRICK_SIDE] {
            return of_level;
        }
        let corners = Corners::of(inside, &lattice.behind(brick));
        let divided = corners.divided();
        let cells = std::array::from_fn(|z| of_level[z] & divided[z]);
        cases.extend(slots(brick, cells).map(|cell| corners.of_cell(cell)));
        cells
    };
    let cells = bricks.iter().map(of_brick).collect();
    Crossings { cells, cases }
}

/// The edges that start in a brick, are crossed and belong to a cell of those that the surface passes, by axis; and whether
/// all four cells around each of them do.
fn crossed_edges(
    lattice: &Lattice,
    inside: &[BrickMask],
    cells: &[BrickMask],
    brick: usize,
) -> ([BrickMask; 3], bool) {
    let before = lattice.before(brick);
    let of_any = edges_of_cells(cells, &before, |a, b| a | b);
    if of_any == BrickEdges::NONE.crossed {
        return (of_any, true);
    }
    let of_all = edges_of_cells(cells, &before, |a, b| a & b);
    let divided = Corners::of(inside, &lattice.behind(brick)).divided_edges();
    let both = |some: [BrickMask; 3]| {
        std::array::from_fn(|axis| std::array::from_fn(|z| some[axis][z] & divided[axis][z]))
    };
    let crossed = both(of_any);
    (crossed, crossed == both(of_all))
}

fn ones(crossed: &[[BrickMask; 3]]) -> usize {
    let words = crossed.as_flattened().as_flattened().iter();
    words.map(|word| word.count_ones() as usize).sum()
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

/// Where the vertices of some bricks go.
struct Vertices<'a> {
    /// Those that are still to be placed.
    positions: &'a mut [[f32; 3]],
    /// The number of the first of them.
    first: usize,
}

impl Vertices<'_> {
    fn place(&mut self, point: [f32; 3]) {
        let place = self.positions.split_off_first_mut();
        *place.expect("there is a place for each crossed edge") = point;
        self.first += 1;
    }
}

impl Grid<'_> {
    /// Numbers the crossed edges of a brick and places a vertex on each.
    fn place_vertices(
        &self,
        brick: usize,
        crossed: [BrickMask; 3],
        vertices: &mut Vertices<'_>,
    ) -> BrickEdges {
        let mut edges = BrickEdges {
            crossed,
            ..BrickEdges::NONE
        };
        if crossed == BrickEdges::NONE.crossed {
            return edges;
        }
        let behind = self.lattice.behind(brick);
        let coordinates = self.lattice.coordinates(brick, self.axis);
        let values = self.lattice.values(brick);
        for along in 0..3 {
            let next = behind[1 << along].map(|brick| self.lattice.values(brick));
            let stride = [1, BRICK_SIDE, BRICK_SIDE * BRICK_SIDE][along];
            for (z, &word) in crossed[along].iter().enumerate() {
                edges.first[along][z] = vertices.first as u32;
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
                    vertices.place(point);
                }
            }
        }
        edges
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

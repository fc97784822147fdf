//! Iso-surface of the cells of a lattice: closed, two-manifold, outward, free of degenerate triangles, deterministic.
//!
//! Each cell cuts its corners off by the table of [`table`]; each crossed edge of the grid has one vertex, shared by the
//! four cells around it. If the cells hold every cell that the surface enters, the result is closed.

use super::{
    MeshError,
    lattice::{
        BrickMask, Index3, Lattice, Slot, bits,
        block::{BLOCK_SIDE, Block, BlockMask, divided, row},
        corner, slots,
    },
    surface::Surface,
};
use table::{CaseTable, EDGES};

mod table;

/// Vertices keep this share of an edge's length away from its ends. Without it a sample near the iso level draws the
/// vertices of its edges into one point, and triangles degenerate. The surface moves by at most this share of a cell.
const CLEARANCE: f64 = 1.0 / 64.0;

/// Triangles that one surface may have: eight times a round body's at a resolution of 512.
const TRIANGLES_MAX: usize = 8_000_000;

/// Which edges that start in a brick are crossed, and how many vertices come before them.
#[derive(Clone)]
struct BrickEdges {
    /// Axis by axis, one bit for each sample of the brick.
    crossed: [[u64; 8]; 3],
    /// Number of the vertex of the first crossed edge counted in each word.
    first: [[u32; 8]; 3],
}

impl BrickEdges {
    const NONE: Self = Self {
        crossed: [[0; 8]; 3],
        first: [[0; 8]; 3],
    };
}

/// A cell that the surface passes.
struct Crossing {
    cell: Slot,
    case: u8,
}

/// Extracts the surface. `axis` holds the coordinates of the finest grid; samples above `iso` are inside.
pub(super) fn extract(lattice: &Lattice, axis: &[f32], iso: f32) -> Result<Surface, MeshError> {
    let table = CaseTable::get();
    let mut edges = vec![BrickEdges::NONE; lattice.brick_count()];
    let mut crossings = Vec::new();
    let mut triangle_count = 0;
    for brick in lattice.bricks_in_order() {
        let inside = lattice.block(brick).samples(|value| value > iso);
        let (cells, divided) = (lattice.cells_of(brick), divided(&inside));
        let crossed: BrickMask = std::array::from_fn(|z| cells[z] & divided[z]);
        if crossed == [0; 8] {
            continue;
        }
        for cell in slots(brick, crossed) {
            let case = case_of(&inside, cell);
            triangle_count += table.triangles(case).len();
            crossings.push(Crossing { cell, case });
        }
        mark_edges(&inside, crossed, &lattice.behind(brick), &mut edges);
    }
    if triangle_count > TRIANGLES_MAX {
        return Err(MeshError::TooComplex {
            what: "triangles",
            needed: triangle_count,
            allowed: TRIANGLES_MAX,
        });
    }
    let positions = place_vertices(lattice, axis, iso, &mut edges);
    let mut triangles = Vec::with_capacity(triangle_count);
    for of_brick in crossings.chunk_by(|a, b| a.cell.brick() == b.cell.brick()) {
        let behind = lattice.behind(of_brick[0].cell.brick());
        for &Crossing { cell, case } in of_brick {
            let mut vertices = [0; EDGES.len()];
            for edge in bits(u64::from(table.crossed_edges(case))) {
                vertices[edge] = vertex_of(&edges, &behind, cell, edge);
            }
            let of_cell = table.triangles(case).iter();
            triangles.extend(of_cell.map(|corners| corners.map(|edge| vertices[edge as usize])));
        }
    }
    Surface::new(positions, triangles)
}

/// One bit for each corner of a cell that is inside.
fn case_of(inside: &BlockMask, cell: Slot) -> u8 {
    let [x, y, z] = cell.in_brick();
    let two = |y: usize, z: usize| (inside[z][y] >> x & 3) as u8;
    two(y, z) | two(y + 1, z) << 2 | two(y, z + 1) << 4 | two(y + 1, z + 1) << 6
}

/// Marks the edges that the surface crosses in the cells of a brick. An edge belongs to the brick of its start, which
/// may be one behind.
fn mark_edges(
    inside: &BlockMask,
    crossed: BrickMask,
    behind: &[Option<usize>; 8],
    edges: &mut [BrickEdges],
) {
    // Whether a cell is there and passed; none lies beyond the ends.
    let cells = |y: Option<usize>, z: Option<usize>| match (y, z) {
        (Some(y), Some(z)) if y < 8 && z < 8 => row(crossed[z], y),
        _ => 0,
    };
    for z in 0..BLOCK_SIDE {
        for y in 0..BLOCK_SIDE {
            let (y_before, z_before) = (y.checked_sub(1), z.checked_sub(1));
            // The cells around an edge that starts in this row: along x four, along y and z two in each of two columns.
            let beside_z = cells(Some(y), Some(z)) | cells(Some(y), z_before);
            let beside_x = beside_z | cells(y_before, Some(z)) | cells(y_before, z_before);
            let beside_y = cells(Some(y), Some(z)) | cells(y_before, Some(z));
            let here = inside[z][y];
            let next_y = if y < 8 { inside[z][y + 1] } else { here };
            let next_z = if z < 8 { inside[z + 1][y] } else { here };
            let along = [
                beside_x & (here ^ here >> 1),
                (beside_z | beside_z << 1) & (here ^ next_y),
                (beside_y | beside_y << 1) & (here ^ next_z),
            ];
            for (axis, marked) in along.into_iter().enumerate() {
                for (x, marked) in [(0, marked & 0xff), (1, marked >> 8)] {
                    if marked != 0 {
                        let brick = behind[x + 2 * (y / 8) + 4 * (z / 8)];
                        let brick = brick.expect("the corners of a cell of this level have bricks");
                        edges[brick].crossed[axis][z % 8] |= u64::from(marked) << (8 * (y % 8));
                    }
                }
            }
        }
    }
}

/// The number of the vertex on a crossed edge of a cell.
fn vertex_of(edges: &[BrickEdges], behind: &[Option<usize>; 8], cell: Slot, edge: usize) -> u32 {
    let edge = EDGES[edge];
    let [x, y, z] = corner(cell.in_brick(), edge.start);
    let brick = behind[x / 8 + 2 * (y / 8) + 4 * (z / 8)];
    let brick = &edges[brick.expect("the corners of a cell of this level have bricks")];
    let before = (1 << (x % 8 + 8 * (y % 8))) - 1;
    brick.first[edge.axis][z % 8] + (brick.crossed[edge.axis][z % 8] & before).count_ones()
}

/// Numbers the crossed edges brick by brick and places a vertex on each.
fn place_vertices(
    lattice: &Lattice,
    axis: &[f32],
    iso: f32,
    edges: &mut [BrickEdges],
) -> Vec<[f32; 3]> {
    let mut positions = Vec::new();
    for brick in lattice.bricks_in_order() {
        let BrickEdges { crossed, first } = &mut edges[brick];
        if *crossed == BrickEdges::NONE.crossed {
            continue;
        }
        let block = lattice.block(brick);
        let origin = lattice.origin(brick);
        // The last sample is moved onto the border.
        let coordinates: [[f32; BLOCK_SIDE]; 3] = std::array::from_fn(|along| {
            std::array::from_fn(|sample| axis[lattice.finest(origin[along] + sample)])
        });
        for along in 0..3 {
            for (z, &word) in crossed[along].iter().enumerate() {
                first[along][z] = positions.len() as u32;
                positions.extend(bits(word).map(|bit| {
                    crossing_point(&block, &coordinates, iso, [bit % 8, bit / 8, z], along)
                }));
            }
        }
    }
    positions
}

/// Where the surface crosses the edge that leaves `start` in the direction `along`.
fn crossing_point(
    block: &Block,
    coordinates: &[[f32; BLOCK_SIDE]; 3],
    iso: f32,
    start: Index3,
    along: usize,
) -> [f32; 3] {
    let mut end = start;
    end[along] += 1;
    let [from, to] = [start, end].map(|sample| f64::from(block.value(sample)));
    debug_assert!(
        from.is_finite() && to.is_finite(),
        "both ends of a crossed edge are known"
    );
    let share = ((f64::from(iso) - from) / (to - from)).clamp(CLEARANCE, 1.0 - CLEARANCE);
    let mut point = std::array::from_fn(|axis| coordinates[axis][start[axis]]);
    let (near, far) = (
        f64::from(point[along]),
        f64::from(coordinates[along][end[along]]),
    );
    point[along] = (near + share * (far - near)) as f32;
    point
}

#[cfg(test)]
mod tests;

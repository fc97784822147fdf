//! Iso-surface of the cells of a lattice: closed, two-manifold, outward, free of degenerate triangles, deterministic.
//!
//! Each cell cuts its corners off by the table of [`table`]; each crossed edge of the grid has one vertex, shared by the
//! four cells around it. If the cells hold every cell that the surface enters, the result is closed.

use super::{
    MeshError,
    lattice::{Index3, Lattice, Slot, bits, corner},
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

/// A cell that the surface passes.
struct Crossing {
    cell: Slot,
    case: u8,
}

/// Extracts the surface. `axis` holds the coordinates of the finest grid; samples above `iso` are inside.
pub(super) fn extract(lattice: &Lattice, axis: &[f32], iso: f32) -> Result<Surface, MeshError> {
    let table = CaseTable::get();
    let mut edges = vec![
        BrickEdges {
            crossed: [[0; 8]; 3],
            first: [[0; 8]; 3]
        };
        lattice.brick_count()
    ];
    let mut crossings = Vec::new();
    let mut triangle_count = 0;
    for cell in lattice.cells_in_order() {
        let case = case_of(&lattice.corner_values(cell), iso);
        if case == 0 || case == u8::MAX {
            continue;
        }
        crossings.push(Crossing { cell, case });
        triangle_count += table.triangles(case).len();
        for edge in bits(u64::from(table.crossed_edges(case))) {
            let (word, bit) = edge_bit(lattice, cell, edge);
            edges[word.brick].crossed[word.axis][word.index] |= bit;
        }
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
    for Crossing { cell, case } in crossings {
        for triangle in table.triangles(case) {
            triangles.push(triangle.map(|edge| {
                let (word, bit) = edge_bit(lattice, cell, edge as usize);
                let brick = &edges[word.brick];
                let before = brick.crossed[word.axis][word.index] & (bit - 1);
                brick.first[word.axis][word.index] + before.count_ones()
            }));
        }
    }
    Surface::new(positions, triangles)
}

/// One bit for each corner that is inside.
fn case_of(values: &[f32; 8], iso: f32) -> u8 {
    values.iter().enumerate().fold(0, |case, (index, &value)| {
        case | u8::from(value > iso) << index
    })
}

/// A word of [`BrickEdges::crossed`].
struct EdgeWord {
    brick: usize,
    axis: usize,
    index: usize,
}

/// Where the bit of an edge of a cell is kept.
fn edge_bit(lattice: &Lattice, cell: Slot, edge: usize) -> (EdgeWord, u64) {
    let edge = EDGES[edge];
    let start = corner(lattice.at(cell), edge.start);
    let slot = lattice
        .slot(start)
        .expect("the corners of a cell of this level have bricks");
    (
        EdgeWord {
            brick: slot.brick(),
            axis: edge.axis,
            index: slot.offset() / 64,
        },
        1 << (slot.offset() % 64),
    )
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
        for along in 0..3 {
            for (index, &word) in crossed[along].iter().enumerate() {
                first[along][index] = positions.len() as u32;
                for bit in bits(word) {
                    positions.push(crossing_point(
                        lattice,
                        axis,
                        iso,
                        lattice.at(Slot::new(brick, 64 * index + bit)),
                        along,
                    ));
                }
            }
        }
    }
    positions
}

/// Where the surface crosses the edge that leaves `start` in the direction `along`.
fn crossing_point(
    lattice: &Lattice,
    axis: &[f32],
    iso: f32,
    start: Index3,
    along: usize,
) -> [f32; 3] {
    let mut end = start;
    end[along] += 1;
    let value = |sample| {
        f64::from(
            lattice
                .value(sample)
                .expect("both ends of a crossed edge are known"),
        )
    };
    let (from, to) = (value(start), value(end));
    let share = ((f64::from(iso) - from) / (to - from)).clamp(CLEARANCE, 1.0 - CLEARANCE);
    let coordinate = |sample: Index3, axis_index: usize| axis[lattice.finest(sample[axis_index])];
    let mut point = std::array::from_fn(|axis_index| coordinate(start, axis_index));
    let (near, far) = (
        f64::from(coordinate(start, along)),
        f64::from(coordinate(end, along)),
    );
    point[along] = (near + share * (far - near)) as f32;
    point
}

#[cfg(test)]
mod tests;

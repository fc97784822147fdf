//! How the surface passes a cell, for each of the 256 ways its corners can lie inside or outside.
//!
//! Derived, not listed. On each face of the cell, each run of inside corners is cut off by a line of its own. The rule
//! looks at the four signs of that face only, so two cells that share a face always agree on it. The lines of the six
//! faces join to closed loops, and each loop is filled with triangles of which no inner edge lies in a face: a
//! neighbour could have the same edge there, and four triangles would meet in it.

use std::sync::LazyLock;

/// An edge of a cell: from the corner `start` along `axis`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::mesh) struct Edge {
    /// Bit 0 is x, bit 1 is y, bit 2 is z; the bit of `axis` is zero.
    pub(in crate::mesh) start: usize,
    /// 0 is x, 1 is y, 2 is z.
    pub(in crate::mesh) axis: usize,
}

/// The twelve edges, four along each axis.
pub(in crate::mesh) const EDGES: [Edge; 12] = edges();

const fn edges() -> [Edge; 12] {
    let mut edges = [Edge { start: 0, axis: 0 }; 12];
    let (mut axis, mut count) = (0, 0);
    while axis < 3 {
        let mut start = 0;
        while start < 8 {
            if start >> axis & 1 == 0 {
                edges[count] = Edge { start, axis };
                count += 1;
            }
            start += 1;
        }
        axis += 1;
    }
    edges
}

/// Triangles for each case, as numbers of [`EDGES`]; bit `c` of a case says that corner `c` is inside.
pub(in crate::mesh) struct CaseTable {
    /// Where the triangles of a case begin; they end where those of the next one begin.
    first: [u16; 257],
    triangles: Vec<[u8; 3]>,
}

impl CaseTable {
    /// The table, derived on first use.
    pub(in crate::mesh) fn get() -> &'static Self {
        static TABLE: LazyLock<CaseTable> = LazyLock::new(CaseTable::derive);
        &TABLE
    }

    /// The triangles of a case, counter-clockwise from outside.
    pub(in crate::mesh) fn triangles(&self, case: u8) -> &[[u8; 3]] {
        &self.triangles[self.first[case as usize] as usize..self.first[case as usize + 1] as usize]
    }

    fn derive() -> Self {
        let mut table = Self {
            first: [0; 257],
            triangles: Vec::new(),
        };
        for case in 0..256 {
            for cycle in loops(case) {
                fill(&cycle, &mut table.triangles);
            }
            table.first[case + 1] = table.triangles.len() as u16;
        }
        table
    }
}

/// The corners of the face at `side` (0 or 1) of `axis`, counter-clockwise seen from outside the cell.
fn face_corners(axis: usize, side: usize) -> [usize; 4] {
    let (u, v) = (1 << ((axis + 1) % 3), 1 << ((axis + 2) % 3));
    let base = side << axis;
    if side == 1 {
        [base, base | u, base | u | v, base | v]
    } else {
        [base, base | v, base | u | v, base | u]
    }
}

fn edge_between(a: usize, b: usize) -> u8 {
    let edge = Edge {
        start: a.min(b),
        axis: (a ^ b).trailing_zeros() as usize,
    };
    EDGES
        .iter()
        .position(|&other| other == edge)
        .expect("neighbours on a face share an edge") as u8
}

/// The closed loops of crossed edges in which the surface meets the faces of the cell.
fn loops(case: usize) -> Vec<Vec<u8>> {
    // Going around a face counter-clockwise, a run of inside corners is entered over one edge and left over another.
    // The surface runs from the first to the second; every crossed edge is entered on one of its two faces and left on
    // the other, so following these links leads around a loop, counter-clockwise seen from outside of the body.
    let mut next = [None; 12];
    let inside = |corner: usize| case >> corner & 1 == 1;
    for face in 0..6 {
        let corners = face_corners(face / 2, face % 2);
        for (index, &corner) in corners.iter().enumerate() {
            let before = corners[(index + 3) % 4];
            if !inside(corner) || inside(before) {
                continue;
            }
            let last = (index..index + 4)
                .take_while(|&at| inside(corners[at % 4]))
                .last()
                .expect("the first is inside");
            let leave = edge_between(corners[last % 4], corners[(last + 1) % 4]);
            next[edge_between(before, corner) as usize] = Some(leave);
        }
    }
    let mut found = Vec::new();
    for start in 0..12 {
        let mut cycle = Vec::new();
        let mut edge = start;
        while let Some(following) = next[edge].take() {
            cycle.push(edge as u8);
            edge = following as usize;
        }
        if !cycle.is_empty() {
            found.push(cycle);
        }
    }
    found
}

/// Cost of an inner edge of a filled loop: its squared length with vertices at the middle of the cell's edges, and far
/// more than any sum of lengths if both ends lie on one face.
fn chord_cost(a: u8, b: u8) -> u32 {
    const IN_A_FACE: u32 = 1_000;
    let (a, b) = (EDGES[a as usize], EDGES[b as usize]);
    // In half cells.
    let middle = |edge: Edge| -> [i32; 3] {
        std::array::from_fn(|axis| {
            if axis == edge.axis {
                1
            } else {
                2 * (edge.start as i32 >> axis & 1)
            }
        })
    };
    let (a, b) = (middle(a), middle(b));
    let length: u32 = a.iter().zip(b).map(|(a, b)| a.abs_diff(b).pow(2)).sum();
    let shares_face = a.iter().zip(b).any(|(&a, b)| a == b && a != 1);
    if shares_face {
        length + IN_A_FACE
    } else {
        length
    }
}

/// Fills a loop with the triangles whose inner edges cost least.
fn fill(cycle: &[u8], triangles: &mut Vec<[u8; 3]>) {
    let count = cycle.len();
    // Cost and apex of the cheapest filling of the part of the loop from `first` to `last`.
    let mut cost = vec![vec![0; count]; count];
    let mut apex = vec![vec![0; count]; count];
    for span in 2..count {
        for first in 0..count - span {
            let last = first + span;
            let chord = |a: usize, b: usize| {
                if b - a > 1 && b - a < count - 1 {
                    chord_cost(cycle[a], cycle[b])
                } else {
                    0
                }
            };
            let best = (first + 1..last)
                .map(|at| {
                    (
                        cost[first][at] + cost[at][last] + chord(first, at) + chord(at, last),
                        at,
                    )
                })
                .min()
                .expect("a span of two has a corner between");
            (cost[first][last], apex[first][last]) = best;
        }
    }
    let mut open = vec![(0, count - 1)];
    while let Some((first, last)) = open.pop() {
        if last - first >= 2 {
            let at = apex[first][last];
            triangles.push([cycle[first], cycle[at], cycle[last]]);
            open.extend([(first, at), (at, last)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_loop_uses_each_crossed_edge_once() {
        for case in 0..256 {
            let mut seen = 0u16;
            for edge in loops(case).into_iter().flatten() {
                assert_eq!(seen >> edge & 1, 0, "case {case} passes edge {edge} twice");
                seen |= 1 << edge;
            }
            for (index, edge) in EDGES.iter().enumerate() {
                let ends =
                    [edge.start, edge.start | 1 << edge.axis].map(|corner| case >> corner & 1);
                assert_eq!(
                    seen >> index & 1 == 1,
                    ends[0] != ends[1],
                    "case {case}, edge {index}"
                );
            }
        }
    }

    #[test]
    fn no_inner_edge_of_a_filling_lies_in_a_face() {
        for case in 0..=255 {
            let on_loops: Vec<[u8; 2]> = loops(case as usize)
                .iter()
                .flat_map(|cycle| {
                    (0..cycle.len()).map(|at| [cycle[at], cycle[(at + 1) % cycle.len()]])
                })
                .collect();
            for &[a, b, c] in CaseTable::get().triangles(case) {
                for [from, to] in [[a, b], [b, c], [c, a]] {
                    if !on_loops.contains(&[from, to]) {
                        assert!(
                            chord_cost(from, to) < 1_000,
                            "case {case}: {from} to {to} lies in a face"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn one_inside_corner_is_cut_off_facing_away_from_it() {
        // Corner 0 inside: its edges along x, y, z in this order turn counter-clockwise seen from (1, 1, 1).
        let [triangle] = CaseTable::get().triangles(1) else {
            panic!("one triangle")
        };
        let axes = triangle.map(|edge| EDGES[edge as usize].axis);
        assert!(
            [[0, 1, 2], [1, 2, 0], [2, 0, 1]].contains(&axes),
            "{axes:?}"
        );
    }
}

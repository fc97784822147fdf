//! The triangles of a mesh in a tree of boxes, to find those on a ray.
//!
//! Rays are few beside triangles, so what counts is how soon the tree stands: triangles are sorted once along a Z-order
//! curve (G. Morton, 1966), as in a linear bounding volume hierarchy (C. Lauterbach et al., "Fast BVH construction on
//! GPUs", 2009), and every eight in a row are a leaf, every eight leaves or nodes in a row a node. No tree is built
//! from top to bottom, and there are no pointers.

use super::super::{
    BoundingBox,
    vector::{self, Vector, greater, lesser},
};

/// Cells along the longest side, by which triangles are sorted: of a mesh at the highest resolution a cell has about as
/// many triangles as a few leaves.
const CELLS: usize = 64;
const LEAF: usize = 8;
const CHILDREN: usize = 8;
/// Levels of a tree of 2³² triangles.
const LEVELS_MAX: usize = 10;

/// How far boxes are moved out, in cells: more than single precision moves anything.
const SLACK: f32 = 1e-3;

/// Where the cells lie.
#[derive(Debug, Clone, Copy)]
struct Frame {
    /// Half of the least coordinates: the difference of two coordinates may be out of range, that of their halves isn't.
    half_min: Vector,
    /// Cells for half a unit of the mesh.
    cells: f64,
}

impl Frame {
    fn around(bounds: &BoundingBox) -> Self {
        let half = bounds.longest_side() / 2.0;
        let cells = CELLS as f64 / half;
        Self {
            half_min: vector::scale(vector::wide(bounds.min), 0.5),
            // All lies in one point, or within what single precision can tell apart.
            cells: if cells < f64::from(f32::MAX) {
                cells
            } else {
                0.0
            },
        }
    }

    fn place(&self, positions: &[[f32; 3]]) -> Vec<[f32; 3]> {
        let half_min = vector::narrow(self.half_min);
        let cells = self.cells as f32;
        let place = |&[x, y, z]: &[f32; 3]| {
            [
                (0.5 * x - half_min[0]) * cells,
                (0.5 * y - half_min[1]) * cells,
                (0.5 * z - half_min[2]) * cells,
            ]
        };
        positions.iter().map(place).collect()
    }
}

/// Boxes along the axes, side by side.
#[derive(Debug, Clone)]
struct Node {
    min: [[f32; CHILDREN]; 3],
    max: [[f32; CHILDREN]; 3],
}

impl Node {
    const EMPTY: Self = Self {
        min: [[f32::INFINITY; CHILDREN]; 3],
        max: [[f32::NEG_INFINITY; CHILDREN]; 3],
    };

    /// The box around all of them.
    fn extent(&self) -> [[f32; 3]; 2] {
        let min =
            [0, 1, 2].map(|axis: usize| self.min[axis].into_iter().fold(f32::INFINITY, lesser));
        let max = [0, 1, 2]
            .map(|axis: usize| self.max[axis].into_iter().fold(f32::NEG_INFINITY, greater));
        [min, max]
    }

    fn set(&mut self, child: usize, [min, max]: [[f32; 3]; 2]) {
        for axis in 0..3 {
            self.min[axis][child] = min[axis];
            self.max[axis][child] = max[axis];
        }
    }

    /// How far along the ray each box begins and ends.
    fn passed(&self, ray: &Ray) -> [[f32; CHILDREN]; 2] {
        let (mut from, mut to) = ([0.0; CHILDREN], [f32::INFINITY; CHILDREN]);
        for axis in 0..3 {
            let (start, per_cell) = (ray.start[axis], ray.per_cell[axis]);
            for child in 0..CHILDREN {
                let one = (self.min[axis][child] - start) * per_cell;
                let other = (self.max[axis][child] - start) * per_cell;
                from[child] = greater(from[child], lesser(one, other));
                to[child] = lesser(to[child], greater(one, other));
            }
        }
        [from, to]
    }
}

/// A ray in the frame of the cells.
struct Ray {
    start: [f32; 3],
    /// How much longer it is when it has come a cell farther along each axis.
    per_cell: [f32; 3],
}

/// Triangles by where they lie.
#[derive(Debug)]
pub(super) struct BoxTree {
    frame: Frame,
    /// Triangles along the curve.
    order: Vec<u32>,
    /// The nodes of leaves, then those of such nodes, and so on up to a single one.
    nodes: Vec<Node>,
    /// Where each of these levels begins, and how many children it has.
    levels: Vec<(usize, usize)>,
    /// The area of each triangle, by its index in the mesh, in a unit that is as good as any.
    areas: Vec<f32>,
}

impl BoxTree {
    /// The tree of at least one triangle, whose corners are finite and in range.
    pub(super) fn new(positions: &[[f32; 3]], triangles: &[[u32; 3]]) -> Self {
        let frame = Frame::around(&BoundingBox::around(positions));
        let placed = frame.place(positions);
        let (order, areas) = sorted(&placed, triangles);
        let mut tree = Self {
            frame,
            order,
            nodes: Vec::with_capacity(triangles.len().div_ceil(LEAF * (CHILDREN - 1)) + LEVELS_MAX),
            levels: Vec::with_capacity(LEVELS_MAX),
            areas,
        };
        tree.box_leaves(&placed, triangles);
        tree.box_nodes();
        tree
    }

    /// Boxes the leaves, in the nodes of the lowest level.
    fn box_leaves(&mut self, placed: &[[f32; 3]], triangles: &[[u32; 3]]) {
        self.levels.push((0, self.order.len().div_ceil(LEAF)));
        for leaves in self.order.chunks(LEAF * CHILDREN) {
            let mut node = Node::EMPTY;
            for (child, leaf) in leaves.chunks(LEAF).enumerate() {
                let (mut min, mut max) = ([f32::INFINITY; 3], [f32::NEG_INFINITY; 3]);
                for &triangle in leaf {
                    for vertex in triangles[triangle as usize] {
                        let corner = placed[vertex as usize];
                        for axis in 0..3 {
                            min[axis] = lesser(min[axis], corner[axis]);
                            max[axis] = greater(max[axis], corner[axis]);
                        }
                    }
                }
                for axis in 0..3 {
                    min[axis] -= SLACK;
                    max[axis] += SLACK;
                }
                node.set(child, [min, max]);
            }
            self.nodes.push(node);
        }
    }

    /// Boxes the nodes, level after level.
    fn box_nodes(&mut self) {
        let mut start = 0;
        while self.nodes.len() - start > 1 {
            let below = start..self.nodes.len();
            start = below.end;
            self.levels.push((start, below.len()));
            for first in below.clone().step_by(CHILDREN) {
                let mut node = Node::EMPTY;
                for (child, at) in (first..below.end).take(CHILDREN).enumerate() {
                    node.set(child, self.nodes[at].extent());
                }
                self.nodes.push(node);
            }
        }
    }

    /// The area of each triangle, in a unit of its own.
    pub(super) fn areas(&self) -> &[f32] {
        &self.areas
    }

    /// Follows a ray through the tree; the direction is a unit vector. `visit` gets the triangles of each leaf whose box
    /// the ray passes, about the nearest first, and says how far along the ray something is found; boxes behind that are
    /// left out.
    pub(super) fn walk(
        &self,
        start: Vector,
        direction: Vector,
        mut visit: impl FnMut(&[u32]) -> Option<f64>,
    ) {
        /// Along an axis across the ray it never comes farther, so that it's within a box all the way or not at all.
        const ACROSS: f32 = 1e-12;
        let Frame { half_min, cells } = self.frame;
        let ray = Ray {
            start: vector::narrow(vector::scale(
                vector::sub(vector::scale(start, 0.5), half_min),
                cells,
            )),
            per_cell: vector::narrow(direction)
                .map(|along| 1.0 / along.abs().max(ACROSS).copysign(along)),
        };
        // What is still to be looked at, the nearest last: how far it is, its level and its place there.
        let mut rest = [(0.0, 0, 0); LEVELS_MAX * (CHILDREN - 1) + 1];
        rest[0] = (0.0, self.levels.len(), 0);
        let mut count = 1;
        let mut end = f32::INFINITY;
        while count > 0 {
            count -= 1;
            let (from, level, at) = rest[count];
            if from > end {
                continue;
            }
            if level == 0 {
                let leaf = &self.order[at * LEAF..];
                if let Some(found) = visit(&leaf[..leaf.len().min(LEAF)]) {
                    end = (0.5 * found * cells) as f32 + SLACK;
                }
                continue;
            }
            let (first, children) = self.levels[level - 1];
            let [from, to] = self.nodes[first + at].passed(&ray);
            let bottom = count;
            for child in 0..CHILDREN.min(children - at * CHILDREN) {
                if from[child] > lesser(to[child], end) {
                    continue;
                }
                let mut place = count;
                while place > bottom && rest[place - 1].0 < from[child] {
                    rest[place] = rest[place - 1];
                    place -= 1;
                }
                rest[place] = (from[child], level - 1, at * CHILDREN + child);
                count += 1;
            }
        }
    }
}

/// The triangles along the curve through the cells of their middles, and the area of each.
fn sorted(placed: &[[f32; 3]], triangles: &[[u32; 3]]) -> (Vec<u32>, Vec<f32>) {
    // The bits of a number with two others' between them.
    let spread: [u32; CELLS] = std::array::from_fn(|cell| {
        (0..CELLS.ilog2()).fold(0, |spread, bit| {
            spread | (cell as u32 >> bit & 1) << (3 * bit)
        })
    });
    let mut areas = Vec::with_capacity(triangles.len());
    let mut cells = Vec::with_capacity(triangles.len());
    let mut ends = vec![0u32; CELLS * CELLS * CELLS];
    for &[a, b, c] in triangles {
        let [a, b, c] = [placed[a as usize], placed[b as usize], placed[c as usize]];
        let along = |axis: usize| {
            let middle = (a[axis] + b[axis] + c[axis]) * (1.0 / 3.0);
            spread[(middle as i32 as usize).min(CELLS - 1)]
        };
        let cell = along(0) | along(1) << 1 | along(2) << 2;
        let normal = vector::cross(vector::sub(b, a), vector::sub(c, a));
        areas.push(vector::dot(normal, normal).sqrt());
        cells.push(cell);
        ends[cell as usize] += 1;
    }
    let mut before = 0;
    for end in &mut ends {
        before += std::mem::replace(end, before);
    }
    let mut order = vec![0; triangles.len()];
    for (triangle, &cell) in cells.iter().enumerate() {
        let end = &mut ends[cell as usize];
        order[*end as usize] = triangle as u32;
        *end += 1;
    }
    (order, areas)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::fixtures;

    /// Whether a ray passes within a hair of a triangle's box.
    fn passes(start: Vector, direction: Vector, corners: [Vector; 3]) -> bool {
        let (mut from, mut to) = (0.0_f64, f64::INFINITY);
        for axis in 0..3 {
            let along = corners.map(|corner| (corner[axis] - start[axis]) / direction[axis]);
            from = from.max(along.into_iter().fold(f64::INFINITY, f64::min));
            to = to.min(along.into_iter().fold(f64::NEG_INFINITY, f64::max));
        }
        from <= to
    }

    #[test]
    fn every_triangle_is_once_in_a_leaf() {
        let mesh = fixtures::colored(48, fixtures::noise());
        let tree = BoxTree::new(mesh.positions(), mesh.triangles());
        let mut order = tree.order.clone();
        order.sort_unstable();
        assert!(order.into_iter().eq(0..mesh.triangles().len() as u32));
        assert_eq!(
            tree.levels.last().map(|&(first, _)| first + 1),
            Some(tree.nodes.len())
        );
    }

    #[test]
    fn no_triangle_on_a_ray_is_left_out() {
        let mesh = fixtures::colored(40, fixtures::gyroid_in_sphere());
        let tree = BoxTree::new(mesh.positions(), mesh.triangles());
        for turn in 0..40 {
            let turn = f64::from(turn);
            let direction = [(turn * 2.4).cos(), (turn * 1.7).sin(), (turn * 0.9).cos()];
            let direction = vector::unit(direction).expect("no two are zero at once");
            let start = vector::scale(direction, -1.5 + 0.03 * turn);
            let mut visited = vec![false; mesh.triangles().len()];
            tree.walk(start, direction, |leaf| {
                leaf.iter()
                    .for_each(|&triangle| visited[triangle as usize] = true);
                None
            });
            for (&triangle, visited) in mesh.triangles().iter().zip(visited) {
                let corners = vector::corners(mesh.positions(), triangle);
                assert!(visited || !passes(start, direction, corners));
            }
        }
    }

    #[test]
    fn a_mesh_of_any_size_has_its_rays() {
        for size in [1e-37_f32, 1.0, 3e38] {
            let positions = [[-size; 3], [size, -size, -size], [-size, size, size]];
            let tree = BoxTree::new(&positions, &[[0, 1, 2], [0, 2, 1]]);
            let mut found = 0;
            let start = [-0.5 * f64::from(size), 0.0, -f64::from(size)];
            tree.walk(start, [0.0, 0.0, 1.0], |leaf| {
                found += leaf.len();
                None
            });
            assert_eq!(found, 2, "{size}");
        }
    }
}

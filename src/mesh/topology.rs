//! How the triangles of a mesh hang together: open edges, edges and vertices shared too often, components.
//!
//! Nearly every mesh is faultless, which a look around each vertex shows; only what fails there is taken apart edge by
//! edge to count the faults.

use fans::one_fan_each;
use forest::roots_of_vertices;

mod components;
mod fans;
mod forest;
mod shares;

pub(super) use components::Run;
pub(super) use forest::Forest;

/// What was found; all counts are zero for a closed, consistently wound two-manifold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    /// Edges with a triangle on one side only.
    pub open_edges: usize,
    /// Edges whose two triangles run along them in the same direction: one of the two faces the wrong way.
    pub misoriented_edges: usize,
    /// Edges of more than two triangles.
    pub crowded_edges: usize,
    /// Vertices at which separate parts of the surface touch.
    pub pinched_vertices: usize,
    /// Triangles that name a vertex twice.
    pub collapsed_triangles: usize,
    /// Edges whose two triangles have the same three vertices, back to back: a flap without an inside.
    pub folded_edges: usize,
    /// Every vertex that has to do with any of the above, ascending.
    pub faulty_vertices: Vec<u32>,
    /// How many components there are: triangles that share an edge are of one.
    pub components: usize,
    /// The component of each triangle; empty unless there are several.
    component_of_triangle: Vec<u32>,
}

impl Topology {
    /// Examines triangles over `vertices` vertices.
    ///
    /// # Panics
    /// If a triangle names a vertex out of range.
    #[must_use]
    pub fn of(vertices: usize, triangles: &[[u32; 3]]) -> Self {
        if one_fan_each(vertices, triangles) {
            Self::faultless(vertices, triangles)
        } else {
            Self::examined(vertices, triangles)
        }
    }

    /// Of triangles that are known to form a single closed fan around each vertex.
    pub(super) fn faultless(vertices: usize, triangles: &[[u32; 3]]) -> Self {
        // Around a fan one gets from each triangle to the next over an edge, so a shared vertex joins as an edge does.
        let joined = roots_of_vertices(vertices, triangles);
        let mut topology = Self::without_faults();
        // Without stopping at each root, which is done many at a time.
        let differ = |seen: u32, root: &u32| seen | (root ^ joined[0]);
        if joined.iter().fold(0, differ) == 0 && !triangles.is_empty() {
            topology.components = 1;
            return topology;
        }
        let root_of = |&[a, _, _]: &[u32; 3]| joined[a as usize];
        topology.number_components(triangles, root_of, vertices);
        topology
    }

    fn without_faults() -> Self {
        Self {
            open_edges: 0,
            misoriented_edges: 0,
            crowded_edges: 0,
            pinched_vertices: 0,
            collapsed_triangles: 0,
            folded_edges: 0,
            faulty_vertices: Vec::new(),
            components: 0,
            component_of_triangle: Vec::new(),
        }
    }

    /// Of any triangles.
    fn examined(vertices: usize, triangles: &[[u32; 3]]) -> Self {
        let sides = Sides::grouped(vertices, triangles);
        let mut topology = Self::without_faults();
        let mut joined_triangles = Forest::new(triangles.len());
        // Corners of triangles at one vertex, joined across the edges that leave it.
        let mut joined_corners = Forest::new(3 * triangles.len());
        let mut is_faulty = vec![false; vertices];
        for triangle @ [a, b, c] in triangles {
            if a == b || b == c || c == a {
                topology.collapsed_triangles += 1;
                triangle
                    .iter()
                    .for_each(|&vertex| is_faulty[vertex as usize] = true);
            }
        }
        sides.for_each_edge(|low, edge| {
            for side in &edge[1..] {
                joined_triangles.join(edge[0].triangle(), side.triangle());
            }
            let faults = topology.count_edge(edge, triangles, &mut joined_corners);
            if faults > 0 {
                is_faulty[low] = true;
                is_faulty[edge[0].high as usize] = true;
            }
        });
        topology.pinched_vertices = mark_pinched(triangles, &mut joined_corners, &mut is_faulty);
        topology.faulty_vertices = (0..vertices as u32)
            .filter(|&vertex| is_faulty[vertex as usize])
            .collect();
        let roots = joined_triangles.into_roots();
        topology.number_components(&roots, |&root| root, triangles.len());
        topology
    }

    /// How the triangles of some of its components hang together by themselves, if that can be told without a look at
    /// them: whole components of a faultless mesh are a faultless mesh. `is_kept` has a word for each component; `runs` are
    /// its own.
    pub(super) fn of_components(&self, is_kept: &[bool], runs: &[Run]) -> Option<Self> {
        if !self.is_watertight() || !self.is_manifold() {
            return None;
        }
        let mut kept = Self::without_faults();
        // Triangles stay in their order, and so do the first ones of components.
        let number = |&is_kept: &bool| {
            let before = kept.components as u32;
            kept.components += usize::from(is_kept);
            before
        };
        let numbers: Vec<u32> = is_kept.iter().map(number).collect();
        if kept.components > 1 {
            let of_triangles = &mut kept.component_of_triangle;
            for run in runs.iter().filter(|run| is_kept[run.component]) {
                let length = of_triangles.len() + run.triangles.len();
                of_triangles.resize(length, numbers[run.component]);
            }
        }
        Some(kept)
    }

    /// No edge is open and all triangles face the same way: the mesh has an inside.
    #[must_use]
    pub fn is_watertight(&self) -> bool {
        self.open_edges == 0 && self.misoriented_edges == 0 && self.crowded_edges == 0
    }

    /// Around each edge there are at most two triangles and around each vertex one fan of them.
    #[must_use]
    pub fn is_manifold(&self) -> bool {
        self.crowded_edges + self.pinched_vertices + self.collapsed_triangles + self.folded_edges
            == 0
    }

    /// Counts the faults of one edge, joins the corners of its two triangles and says how many faults there were.
    fn count_edge(
        &mut self,
        edge: &[Side],
        triangles: &[[u32; 3]],
        joined_corners: &mut Forest,
    ) -> usize {
        match edge {
            [_] => {
                self.open_edges += 1;
                1
            }
            [a, b] => {
                for end in 0..2 {
                    joined_corners.join(a.corner_at_end(end), b.corner_at_end(end));
                }
                let misoriented = usize::from(a.ascends() == b.ascends());
                let folded = usize::from(a.apex(triangles) == b.apex(triangles));
                self.misoriented_edges += misoriented;
                self.folded_edges += folded;
                misoriented + folded
            }
            _ => {
                self.crowded_edges += 1;
                1
            }
        }
    }
}

/// Counts and marks the vertices whose triangles form more than one fan.
fn mark_pinched(triangles: &[[u32; 3]], joined: &mut Forest, is_faulty: &mut [bool]) -> usize {
    const NONE: u32 = u32::MAX;
    let mut fan_of_vertex = vec![NONE; is_faulty.len()];
    let mut is_pinched = vec![false; is_faulty.len()];
    for (corner, &vertex) in triangles.iter().flatten().enumerate() {
        let fan = joined.root(corner as u32);
        let first = &mut fan_of_vertex[vertex as usize];
        if *first == NONE {
            *first = fan;
        } else if *first != fan {
            is_pinched[vertex as usize] = true;
            is_faulty[vertex as usize] = true;
        }
    }
    is_pinched.into_iter().filter(|&pinched| pinched).count()
}

/// One side of a triangle, which runs from one of its corners to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Side {
    /// The greater one of its two vertices.
    high: u32,
    /// Twice the corner it starts from, plus one if it runs from the lesser to the greater vertex.
    start: u32,
}

impl Side {
    fn ascends(self) -> bool {
        self.start & 1 == 1
    }

    fn corner(self) -> u32 {
        self.start >> 1
    }

    fn triangle(self) -> u32 {
        self.corner() / 3
    }

    /// The vertex of the triangle that is not on this side.
    fn apex(self, triangles: &[[u32; 3]]) -> u32 {
        triangles[self.triangle() as usize][(self.corner() as usize + 2) % 3]
    }

    /// The triangle's corner at the lesser (0) or greater (1) vertex of the side.
    fn corner_at_end(self, end: usize) -> u32 {
        let at_start = (end == 0) == self.ascends();
        let (triangle, corner) = (self.corner() / 3, self.corner() % 3);
        if at_start {
            self.corner()
        } else {
            3 * triangle + (corner + 1) % 3
        }
    }
}

/// The sides of all triangles, grouped by their lesser vertex.
struct Sides {
    first: Vec<u32>,
    sides: Vec<Side>,
}

impl Sides {
    fn grouped(vertices: usize, triangles: &[[u32; 3]]) -> Self {
        let sides = || {
            triangles
                .iter()
                .enumerate()
                .flat_map(|(triangle, corners)| {
                    (0..3).map(move |corner| {
                        let (from, to) = (corners[corner], corners[(corner + 1) % 3]);
                        let start = 2 * (3 * triangle + corner) as u32 + u32::from(from < to);
                        (
                            from.min(to),
                            Side {
                                high: from.max(to),
                                start,
                            },
                        )
                    })
                })
        };
        let mut first = vec![0; vertices + 1];
        for (low, _) in sides() {
            first[low as usize + 1] += 1;
        }
        for vertex in 0..vertices {
            first[vertex + 1] += first[vertex];
        }
        let mut free = first.clone();
        let mut grouped = vec![Side { high: 0, start: 0 }; 3 * triangles.len()];
        for (low, side) in sides() {
            grouped[free[low as usize] as usize] = side;
            free[low as usize] += 1;
        }
        for range in first.windows(2) {
            grouped[range[0] as usize..range[1] as usize].sort_unstable();
        }
        Self {
            first,
            sides: grouped,
        }
    }

    fn for_each_edge(&self, mut visit: impl FnMut(usize, &[Side])) {
        for (low, range) in self.first.windows(2).enumerate() {
            for edge in
                self.sides[range[0] as usize..range[1] as usize].chunk_by(|a, b| a.high == b.high)
            {
                visit(low, edge);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TETRAHEDRON: [[u32; 3]; 4] = [[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]];

    fn shifted(triangles: &[[u32; 3]], by: u32) -> Vec<[u32; 3]> {
        triangles
            .iter()
            .map(|triangle| triangle.map(|vertex| vertex + by))
            .collect()
    }

    #[test]
    fn a_tetrahedron_is_closed() {
        let topology = Topology::of(4, &TETRAHEDRON);
        assert!(topology.is_watertight() && topology.is_manifold());
        assert_eq!(topology.components, 1);
        assert!(topology.faulty_vertices.is_empty());
    }

    proptest! {
        /// Soups of few triangles over few vertices, with and without closed bodies in them: most are faulty, some not.
        #[test]
        fn the_look_around_vertices_agrees_with_the_look_at_edges(
            bodies in 0u32..4,
            apart in 2u32..5,
            loose in prop::collection::vec(prop::array::uniform3(0u32..14), 0..3),
            turned in prop::option::of(0usize..16),
        ) {
            let mut triangles: Vec<_> = (0..bodies).flat_map(|body| shifted(&TETRAHEDRON, body * apart)).collect();
            triangles.extend(loose);
            if let Some(turned) = turned.filter(|&turned| turned < triangles.len()) {
                triangles[turned].swap(0, 1);
            }
            let vertices = 20;
            let examined = Topology::examined(vertices, &triangles);
            let faultless = examined.is_watertight() && examined.is_manifold();
            prop_assert_eq!(one_fan_each(vertices, &triangles), faultless, "{:?}", triangles);
            if faultless {
                prop_assert_eq!(Topology::faultless(vertices, &triangles), examined);
            }
        }
    }

    #[test]
    fn a_missing_triangle_leaves_three_open_edges() {
        let topology = Topology::of(4, &TETRAHEDRON[1..]);
        assert_eq!(topology.open_edges, 3);
        assert!(!topology.is_watertight() && topology.is_manifold());
    }

    #[test]
    fn a_turned_triangle_is_found_on_its_three_edges() {
        let mut triangles = TETRAHEDRON;
        triangles[2].swap(0, 1);
        let topology = Topology::of(4, &triangles);
        assert_eq!(topology.misoriented_edges, 3);
        assert!(!topology.is_watertight());
    }

    #[test]
    fn tetrahedra_that_touch_in_a_vertex_are_two_components_and_pinched() {
        let mut triangles = TETRAHEDRON.to_vec();
        // The second one shares vertex 3 alone.
        triangles.extend(shifted(&TETRAHEDRON, 3));
        let topology = Topology::of(7, &triangles);
        assert_eq!((topology.components, topology.pinched_vertices), (2, 1));
        assert_eq!(topology.faulty_vertices, [3]);
        assert!(topology.is_watertight() && !topology.is_manifold());
        let component_of = |triangle| topology.component_of(triangle);
        assert!((0..4).map(component_of).all(|component| component == 0));
        assert!((4..8).map(component_of).all(|component| component == 1));
    }

    #[test]
    fn tetrahedra_that_share_an_edge_crowd_it() {
        let mut triangles = TETRAHEDRON.to_vec();
        triangles.extend(shifted(&TETRAHEDRON, 2));
        let topology = Topology::of(6, &triangles);
        assert_eq!((topology.components, topology.crowded_edges), (1, 1));
        assert_eq!(topology.faulty_vertices, [2, 3]);
        assert!(!topology.is_manifold());
    }

    #[test]
    fn two_triangles_back_to_back_have_no_inside() {
        let topology = Topology::of(3, &[[0, 1, 2], [0, 2, 1]]);
        assert_eq!((topology.folded_edges, topology.open_edges), (3, 0));
        assert!(!topology.is_manifold());
    }

    #[test]
    fn a_triangle_that_names_a_vertex_twice_is_not_manifold() {
        let mut triangles = TETRAHEDRON.to_vec();
        triangles.push([0, 0, 1]);
        assert_eq!(Topology::of(4, &triangles).collapsed_triangles, 1);
        assert!(!Topology::of(4, &triangles).is_manifold());
    }
}

//! Which of many things belong together.

use std::ops::Range;

use rayon::prelude::*;

use super::shares::{self, parts_for};

/// The root of each vertex, where a triangle's corners belong together.
pub(super) fn roots_of_vertices(vertices: usize, triangles: &[[u32; 3]]) -> Vec<u32> {
    Forest::of_triangles(vertices, triangles, parts_for(triangles.len())).into_roots()
}

/// Disjoint sets.
pub(in crate::mesh) struct Forest {
    parent: Vec<u32>,
}

impl Forest {
    pub(in crate::mesh) fn new(count: usize) -> Self {
        Self {
            parent: (0..count as u32).collect(),
        }
    }

    pub(in crate::mesh) fn root(&mut self, mut item: u32) -> u32 {
        while self.parent[item as usize] != item {
            let grandparent = self.parent[self.parent[item as usize] as usize];
            self.parent[item as usize] = grandparent;
            item = grandparent;
        }
        item
    }

    pub(in crate::mesh) fn join(&mut self, a: u32, b: u32) {
        let (a, b) = (self.root(a), self.root(b));
        // The lesser index becomes the root, so that numbering follows the order of the triangles.
        self.parent[a.max(b) as usize] = a.min(b);
    }

    /// Joins the corners of each triangle, parts of the triangles side by side.
    fn of_triangles(vertices: usize, triangles: &[[u32; 3]], parts: usize) -> Self {
        let joined: Vec<(Self, Vec<[u32; 3]>)> = shares::parts(vertices, triangles, parts)
            .into_par_iter()
            .map(|(triangles, own)| Self::of_range(triangles, own))
            .collect();
        let (forests, left): (Vec<_>, Vec<_>) = joined.into_iter().unzip();
        let mut whole = Self::side_by_side(forests, vertices);
        let pairs: Vec<Vec<[u32; 2]>> = left
            .par_iter()
            .map(|triangles| whole.roots_to_join(triangles))
            .collect();
        for &[a, b] in pairs.iter().flatten() {
            whole.join(a, b);
        }
        whole
    }

    /// Of a range of vertices alone; and the triangles that have other ones.
    fn of_range(triangles: &[[u32; 3]], Range { start, end }: Range<u32>) -> (Self, Vec<[u32; 3]>) {
        let mut own = Self::new((end - start) as usize);
        let mut left = Vec::new();
        for &triangle in triangles {
            let [a, b, c] = triangle.map(|vertex| vertex.wrapping_sub(start));
            // What comes before the range has wrapped around, beyond its end.
            if a.max(b).max(c) < end - start {
                own.join_three([a, b, c]);
            } else {
                left.push(triangle);
            }
        }
        (own, left)
    }

    /// Which roots triangles are yet to join, two and two. Where two parts meet these are the same for nearly all triangles,
    /// and are left out where they have just been there.
    fn roots_to_join(&self, triangles: &[[u32; 3]]) -> Vec<[u32; 2]> {
        let mut pairs = Vec::new();
        for triangle in triangles {
            let roots @ [a, b, c] = triangle.map(|vertex| self.root_as_is(vertex));
            let least = a.min(b).min(c);
            for root in roots {
                if root != least && pairs.last() != Some(&[least, root]) {
                    pairs.push([least, root]);
                }
            }
        }
        pairs
    }

    /// The root of an item, without a shorter way to it for the next time.
    fn root_as_is(&self, mut item: u32) -> u32 {
        while self.parent[item as usize] != item {
            item = self.parent[item as usize];
        }
        item
    }

    /// Forests one after another as one of `count` items.
    fn side_by_side(mut forests: Vec<Self>, count: usize) -> Self {
        if forests.len() == 1 {
            return forests.remove(0);
        }
        let mut parent = Vec::with_capacity(count);
        for forest in forests {
            let begin = parent.len() as u32;
            parent.extend(forest.parent.iter().map(|parent| parent + begin));
        }
        Self { parent }
    }

    /// Joins the corners of a triangle.
    // By itself the compiler leaves a call in the loop over all triangles, a tenth of its time.
    #[inline(always)]
    fn join_three(&mut self, triangle: [u32; 3]) {
        let [a, b, c] = triangle;
        let parent = &self.parent;
        let mut roots = [parent[a as usize], parent[b as usize], parent[c as usize]];
        let [one, two, three] = roots;
        // Near what has just been joined, parents are roots mostly, and nothing is left to be decided.
        let are_roots = parent[one as usize] == one
            && parent[two as usize] == two
            && parent[three as usize] == three;
        if !are_roots {
            roots = [self.root(one), self.root(two), self.root(three)];
        }
        let [one, two, three] = roots;
        let root = one.min(two).min(three);
        for item in [one, two, three, a, b, c] {
            self.parent[item as usize] = root;
        }
    }

    /// The root of each item.
    pub(super) fn into_roots(self) -> Vec<u32> {
        let mut roots = self.parent;
        // A root is the least of its set, and no parent greater than its child.
        for item in 0..roots.len() {
            roots[item] = roots[roots[item] as usize];
        }
        roots
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn three_at_a_time_are_joined_as_two_and_two(
            triangles in prop::collection::vec(prop::array::uniform3(0u32..40), 0..30),
        ) {
            let (mut threes, mut twos) = (Forest::new(40), Forest::new(40));
            for &[a, b, c] in &triangles {
                threes.join_three([a, b, c]);
                twos.join(a, b);
                twos.join(b, c);
            }
            let expected: Vec<_> = (0..40).map(|item| twos.root(item)).collect();
            prop_assert_eq!(&threes.into_roots(), &expected);
            prop_assert_eq!(twos.into_roots(), expected);
        }

        #[test]
        fn parts_side_by_side_are_joined_as_one_after_another(
            mut triangles in prop::collection::vec(prop::array::uniform3(0u32..40), 0..30),
            is_sorted: bool,
            parts in 1usize..9,
        ) {
            if is_sorted {
                triangles.sort_unstable();
            }
            let mut serial = Forest::new(40);
            for &triangle in &triangles {
                serial.join_three(triangle);
            }
            let parallel = Forest::of_triangles(40, &triangles, parts);
            prop_assert_eq!(parallel.into_roots(), serial.into_roots());
        }
    }
}

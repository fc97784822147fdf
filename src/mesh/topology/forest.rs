//! Which of many things belong together.

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

    /// Joins the corners of a triangle.
    pub(super) fn join_three(&mut self, triangle: [u32; 3]) {
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
    }
}

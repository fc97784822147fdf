//! Which component each triangle is of.

use std::ops::Range;

use rayon::prelude::*;

use super::Topology;

/// Triangles that are numbered, or summed up, by one task.
const PART: usize = if cfg!(test) { 4 } else { 1 << 13 };

/// Triangles one after another that are of one component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::mesh) struct Run {
    pub(in crate::mesh) component: usize,
    pub(in crate::mesh) triangles: Range<usize>,
}

impl Topology {
    /// The component of a triangle. They are numbered from 0 in the order of their first triangle.
    #[must_use]
    pub fn component_of(&self, triangle: usize) -> usize {
        self.component_of_triangle
            .get(triangle)
            .map_or(0, |&component| component as usize)
    }

    /// All of its `triangles` triangles by runs, none so long that it would keep one thread busy while others wait. They
    /// are the same for any number of threads, and so is what is summed up over each of them.
    pub(in crate::mesh) fn runs(&self, triangles: usize) -> Vec<Run> {
        if self.component_of_triangle.is_empty() {
            let begins = (0..triangles).step_by(PART);
            let run = |begin| Run {
                component: 0,
                triangles: begin..triangles.min(begin + PART),
            };
            return begins.map(run).collect();
        }
        let parts = self.component_of_triangle.par_chunks(PART).enumerate();
        let runs: Vec<Vec<Run>> = parts
            .map(|(part, components)| runs_of_part(part * PART, components))
            .collect();
        runs.concat()
    }

    /// Numbers the components of things that are listed in the order of the triangles, from what names the component of
    /// each: a number under `names`.
    pub(super) fn number_components<T: Sync>(
        &mut self,
        triangles: &[T],
        root_of: impl Fn(&T) -> u32 + Sync,
        names: usize,
    ) {
        let parts = triangles.par_chunks(PART);
        let changes: Vec<Vec<u32>> = parts
            .map(|triangles| changes_of(triangles.iter().map(&root_of)))
            .collect();
        let numbers = Numbers::in_order(changes.iter().flatten(), names);
        self.components = numbers.count as usize;
        if self.components < 2 {
            return;
        }
        self.component_of_triangle = vec![0; triangles.len()];
        let parts = self.component_of_triangle.par_chunks_mut(PART);
        let parts = parts.zip(triangles.par_chunks(PART)).zip(changes);
        parts.for_each(|((components, triangles), changes)| {
            if let [name] = changes[..] {
                components.fill(numbers.of(name));
                return;
            }
            for (component, triangle) in components.iter_mut().zip(triangles) {
                *component = numbers.of(root_of(triangle));
            }
        });
    }
}

/// Numbers in the order in which names come first.
struct Numbers {
    count: u32,
    /// One more than the number of each name; zero is free to get, however many names there could be.
    after: Vec<u32>,
}

impl Numbers {
    fn in_order<'a>(coming: impl Iterator<Item = &'a u32>, names: usize) -> Self {
        let (mut count, mut after) = (0, vec![0; names]);
        for &name in coming {
            let after = &mut after[name as usize];
            if *after == 0 {
                count += 1;
                *after = count;
            }
        }
        Self { count, after }
    }

    fn of(&self, name: u32) -> u32 {
        self.after[name as usize] - 1
    }
}

/// What there is one after another, without what has just been there.
fn changes_of(names: impl Iterator<Item = u32>) -> Vec<u32> {
    let mut changes = Vec::new();
    for name in names {
        if changes.last() != Some(&name) {
            changes.push(name);
        }
    }
    changes
}

/// The runs of triangles from `begin` on, by their components.
fn runs_of_part(mut begin: usize, components: &[u32]) -> Vec<Run> {
    let run = |alike: &[u32]| {
        let triangles = begin..begin + alike.len();
        begin = triangles.end;
        Run {
            component: alike[0] as usize,
            triangles,
        }
    };
    // That all are of one is told without stopping at each, which is done many at a time.
    let differ = |seen, component| seen | (component ^ components[0]);
    if components.iter().fold(0, differ) == 0 {
        return [components].map(run).into();
    }
    components.chunk_by(|a, b| a == b).map(run).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Several parts, even of few triangles: see [`PART`].
        #[test]
        fn components_are_numbered_and_run_as_one_after_another(
            lengths in prop::collection::vec((0u32..6, 1usize..12), 0..8),
        ) {
            let named = |&(root, length)| std::iter::repeat_n(root, length);
            let roots: Vec<u32> = lengths.iter().flat_map(named).collect();
            let mut topology = Topology::without_faults();
            topology.number_components(&roots, |&root| root, 6);
            let mut order: Vec<u32> = Vec::new();
            for root in &roots {
                if !order.contains(root) {
                    order.push(*root);
                }
            }
            prop_assert_eq!(topology.components, order.len());
            for (triangle, &root) in roots.iter().enumerate() {
                prop_assert_eq!(order[topology.component_of(triangle)], root);
            }

            let runs = topology.runs(roots.len());
            let mut next = 0;
            for Run { component, triangles } in &runs {
                prop_assert_eq!(triangles.start, next);
                next = triangles.end;
                prop_assert!(triangles.clone().all(|triangle| topology.component_of(triangle) == *component));
            }
            prop_assert_eq!(next, roots.len());
            prop_assert!(runs.iter().all(|run| run.triangles.len() <= PART));
        }
    }
}

//! Keeps some of a surface's triangles, and the vertices that they use; or of all triangles just these vertices.

use std::{
    ops::Range,
    sync::atomic::{AtomicBool, Ordering},
};

use rayon::prelude::*;

/// Vertices, or triangles, that are renumbered by one task.
const PART: usize = if cfg!(test) { 8 } else { 1 << 12 };

/// Keeps the triangles in `kept`, which are ascending ranges of them, and the vertices that they use; all in their order,
/// and where they lie: mostly there is little to drop, and a new place would have to be got for nearly as much as there is.
pub(super) fn retain(
    positions: &mut Vec<[f32; 3]>,
    triangles: &mut Vec<[u32; 3]>,
    kept: &[Range<usize>],
) {
    let numbering = Numbering::of(positions.len(), triangles, kept);
    rayon::join(
        || move_down(positions, &numbering.used),
        || {
            move_down(triangles, kept);
            numbering.renumber(triangles);
        },
    );
}

/// The vertices that triangles use, in their old order, and the triangles renumbered to them.
pub(in crate::mesh) struct Compaction {
    /// Old index of each kept vertex.
    pub(in crate::mesh) kept: Vec<u32>,
    /// Over the kept vertices.
    pub(in crate::mesh) triangles: Vec<[u32; 3]>,
}

impl Compaction {
    /// The values of the kept vertices, of those of all.
    pub(in crate::mesh) fn of_kept<T: Copy>(&self, values: &[T]) -> Vec<T> {
        let kept = self.kept.iter();
        kept.map(|&vertex| values[vertex as usize]).collect()
    }
}

/// Drops vertices that no triangle uses.
pub(in crate::mesh) fn compact(vertices: usize, triangles: &[[u32; 3]]) -> Compaction {
    let all = 0..triangles.len();
    let numbering = Numbering::of(vertices, triangles, std::slice::from_ref(&all));
    let mut triangles = triangles.to_vec();
    numbering.renumber(&mut triangles);
    let kept = numbering.used.into_iter().flatten();
    Compaction {
        kept: kept.map(|vertex| vertex as u32).collect(),
        triangles,
    }
}

/// Whether a triangle in `kept` uses each vertex.
fn used_vertices(vertices: usize, triangles: &[[u32; 3]], kept: &[Range<usize>]) -> Vec<bool> {
    let is_used: Vec<AtomicBool> = (0..vertices).map(|_| AtomicBool::new(false)).collect();
    kept.par_iter().for_each(|kept| {
        for &vertex in triangles[kept.clone()].as_flattened() {
            // Threads write the same word only, and nobody reads it before they have all come back.
            is_used[vertex as usize].store(true, Ordering::Relaxed);
        }
    });
    is_used.into_iter().map(AtomicBool::into_inner).collect()
}

/// The used vertices numbered by themselves.
struct Numbering {
    /// The number of each used vertex; of the other ones there is no telling.
    new_of_old: Vec<u32>,
    /// The used vertices, by ascending ranges.
    used: Vec<Range<usize>>,
}

impl Numbering {
    /// Of those that triangles in `kept` use.
    fn of(vertices: usize, triangles: &[[u32; 3]], kept: &[Range<usize>]) -> Self {
        let is_used = &used_vertices(vertices, triangles, kept)[..];
        let count = |is_used: &[bool]| is_used.iter().map(|&is_used| u32::from(is_used)).sum();
        let counts: Vec<u32> = is_used.par_chunks(PART).map(count).collect();
        let firsts = counts.iter().scan(0, |next, count| {
            let first = *next;
            *next += count;
            Some(first)
        });
        let mut new_of_old = vec![0; is_used.len()];
        let parts = new_of_old
            .par_chunks_mut(PART)
            .zip(is_used.par_chunks(PART));
        let used: Vec<Vec<Range<usize>>> = parts
            .zip(firsts.collect::<Vec<u32>>())
            .enumerate()
            .map(|(part, ((new_of_old, is_used), first))| {
                number(new_of_old, is_used, first);
                used_ranges(part * PART, is_used)
            })
            .collect();
        Self {
            new_of_old,
            used: used.concat(),
        }
    }

    /// Gives triangles the numbers of their vertices.
    fn renumber(&self, triangles: &mut [[u32; 3]]) {
        triangles.par_chunks_mut(PART).for_each(|triangles| {
            for vertex in triangles.as_flattened_mut() {
                *vertex = self.new_of_old[*vertex as usize];
            }
        });
    }
}

fn number(new_of_old: &mut [u32], is_used: &[bool], first: u32) {
    let mut next = first;
    for (new, &is_used) in new_of_old.iter_mut().zip(is_used) {
        *new = next;
        next += u32::from(is_used);
    }
}

/// The used ones of the vertices from `begin` on.
fn used_ranges(mut begin: usize, is_used: &[bool]) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    for alike in is_used.chunk_by(|a, b| a == b) {
        let end = begin + alike.len();
        if alike[0] {
            ranges.push(begin..end);
        }
        begin = end;
    }
    ranges
}

/// Moves what lies in `kept`, ascending ranges, to the front and drops the rest.
fn move_down<T: Copy>(whole: &mut Vec<T>, kept: &[Range<usize>]) {
    let mut end = 0;
    for kept in kept {
        if kept.start != end {
            whole.copy_within(kept.clone(), end);
        }
        end += kept.len();
    }
    whole.truncate(end);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_kept_is_kept_as_by_the_one(
            mut triangles in prop::collection::vec(prop::array::uniform3(0u32..40), 1..60),
            is_kept in prop::collection::vec(prop::bool::weighted(0.8), 60),
        ) {
            let mut positions: Vec<_> = (0..40).map(|vertex| [vertex as f32; 3]).collect();
            let corners = |positions: &[[f32; 3]], triangle: [u32; 3]| {
                triangle.map(|vertex| positions[vertex as usize])
            };
            let kept = || (0..triangles.len()).filter(|&triangle| is_kept[triangle]);
            let expected: Vec<_> = kept().map(|triangle| corners(&positions, triangles[triangle])).collect();
            let mut used: Vec<u32> = kept().flat_map(|triangle| triangles[triangle]).collect();
            used.sort_unstable();
            used.dedup();
            let used: Vec<_> = used.into_iter().map(|vertex| positions[vertex as usize]).collect();

            let kept: Vec<_> = kept().map(|triangle| triangle..triangle + 1).collect();
            retain(&mut positions, &mut triangles, &kept);
            let found: Vec<_> = triangles.iter().map(|&triangle| corners(&positions, triangle)).collect();
            prop_assert_eq!(found, expected);
            prop_assert_eq!(positions, used);
        }
    }
}

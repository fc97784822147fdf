//! A mesh in parts that threads look at side by side.

use std::ops::Range;

use rayon::prelude::*;

/// Triangles from which it is told where the vertices of a part begin; the first one alone may lie far from it.
const TRIANGLES_AT_BEGIN: usize = 64;

/// Triangles that are worth another thread.
const TRIANGLES_MIN: usize = 1 << 12;

/// Into how many parts so many triangles are best cut: one for each thread, if there is enough for each to do. What is told
/// by parts must not depend on it.
pub(super) fn parts_for(triangles: usize) -> usize {
    rayon::current_num_threads().min(triangles / TRIANGLES_MIN)
}

/// Ranges of the triangles, each with a range of the vertices that it has to see to.
pub(super) struct Parts<'a> {
    triangles: &'a [[u32; 3]],
    /// Triangles of a part.
    length: usize,
    /// The ranges of vertices, one after another, which together have all of them. Few triangles have vertices of two,
    /// if vertices are numbered about as the triangles are.
    pub(super) vertices: Vec<Range<u32>>,
}

impl<'a> Parts<'a> {
    /// About `count` parts, one at least.
    pub(super) fn of(vertices: usize, triangles: &'a [[u32; 3]], count: usize) -> Self {
        let length = triangles.len().div_ceil(count.max(1)).max(1);
        let mut begins = vec![0];
        for triangles in triangles.chunks(length).skip(1) {
            let first = &triangles[..triangles.len().min(TRIANGLES_AT_BEGIN)];
            let least = first.as_flattened().iter().copied().min();
            let before = begins[begins.len() - 1];
            begins.push(least.map_or(before, |least| least.clamp(before, vertices as u32)));
        }
        let ends = begins.iter().skip(1).copied().chain([vertices as u32]);
        Self {
            triangles,
            length,
            vertices: begins
                .iter()
                .zip(ends)
                .map(|(&begin, end)| begin..end)
                .collect(),
        }
    }

    /// The triangles and the vertices of each part.
    pub(super) fn par_iter(
        &self,
    ) -> impl IndexedParallelIterator<Item = (&'a [[u32; 3]], Range<u32>)> {
        let (triangles, length) = (self.triangles, self.length);
        let parts = self.vertices.par_iter().enumerate();
        parts.map(move |(part, vertices)| {
            let begin = part * length;
            let end = triangles.len().min(begin + length);
            (&triangles[begin..end], vertices.clone())
        })
    }
}

//! A mesh in parts that threads look at side by side.

use std::ops::Range;

/// Triangles from which it is told where the vertices of a part begin; the first one alone may lie far from it.
const TRIANGLES_AT_BEGIN: usize = 64;

/// Triangles that are worth another thread.
const TRIANGLES_MIN: usize = 1 << 12;

/// Into how many parts so many triangles are best cut: one for each thread, if there is enough for each to do. What is told
/// by parts must not depend on it.
pub(super) fn parts_for(triangles: usize) -> usize {
    rayon::current_num_threads().min(triangles / TRIANGLES_MIN)
}

/// Some of the triangles, and the vertices that they have to see to.
pub(super) type Part<'a> = (&'a [[u32; 3]], Range<u32>);

/// About `count` parts, one at least. Their ranges of vertices come one after another, and together have all of them; few
/// triangles have vertices of two, if vertices are numbered about as the triangles are.
pub(super) fn parts(vertices: usize, triangles: &[[u32; 3]], count: usize) -> Vec<Part<'_>> {
    let vertices = vertices as u32;
    let length = triangles.len().div_ceil(count.max(1)).max(1);
    let (first, rest) = triangles.split_at(length.min(triangles.len()));
    let mut parts = vec![(first, 0..vertices)];
    for triangles in rest.chunks(length) {
        let at_begin = &triangles[..triangles.len().min(TRIANGLES_AT_BEGIN)];
        let least = at_begin.as_flattened().iter().copied();
        let least = least.fold(vertices, u32::min);
        let (_, before) = parts.last_mut().expect("there is the first one");
        before.end = least.max(before.start);
        let begin = before.end;
        parts.push((triangles, begin..vertices));
    }
    parts
}

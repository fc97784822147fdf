//! The triangles around each vertex.

/// The corner of a triangle at a vertex: the vertices that follow it and come before it around the triangle.
type Corner = [u32; 2];

/// Whether the triangles around each vertex that has any form one closed fan, of three at least, all facing the same
/// way. Then no edge is open, turned, crowded or folded, no vertex pinched, and no triangle collapsed; and the other
/// way round.
///
/// # Panics
/// If a triangle names a vertex out of range.
pub(super) fn one_fan_each(vertices: usize, triangles: &[[u32; 3]]) -> bool {
    // Where the corners at each vertex end; while they are put there, where the next one goes.
    let mut ends = vec![0u32; vertices];
    for &vertex in triangles.as_flattened() {
        ends[vertex as usize] += 1;
    }
    let mut begin = 0;
    for end in &mut ends {
        begin += std::mem::replace(end, begin);
    }
    let mut corners: Vec<Corner> = vec![[0; 2]; 3 * triangles.len()];
    for &[a, b, c] in triangles {
        if a == b || b == c || c == a {
            return false;
        }
        for (vertex, next, last) in [(a, b, c), (b, c, a), (c, a, b)] {
            let place = &mut ends[vertex as usize];
            corners[*place as usize] = [next, last];
            *place += 1;
        }
    }
    let mut rest = corners.as_slice();
    let mut begin = 0;
    ends.iter().all(|&end| {
        let (around, others) = rest.split_at((end - begin) as usize);
        (rest, begin) = (others, end);
        is_one_fan(around)
    })
}

/// Whether the triangles around a vertex form one closed fan, or there are none.
fn is_one_fan(around: &[Corner]) -> bool {
    // Of most vertices' number of triangles the compiler makes code without branches.
    match *around {
        [] => true,
        [a, b, c] => goes_round(&[a, b, c]),
        [a, b, c, d] => goes_round(&[a, b, c, d]),
        [a, b, c, d, e] => goes_round(&[a, b, c, d, e]),
        [a, b, c, d, e, f] => goes_round(&[a, b, c, d, e, f]),
        [a, b, c, d, e, f, g] => goes_round(&[a, b, c, d, e, f, g]),
        [a, b, c, d, e, f, g, h] => goes_round(&[a, b, c, d, e, f, g, h]),
        _ => around.len() >= 3 && goes_round(around),
    }
}

/// Whether one gets around a vertex from each triangle to the only one that begins where it ends, and so to all of them.
#[inline(always)]
fn goes_round(around: &[Corner]) -> bool {
    let [start, mut at] = around[0];
    let mut goes_on = true;
    for _ in 1..around.len() {
        let (mut found, mut beyond) = (0, 0);
        for &[next, last] in around {
            let follows = u32::from(next == at);
            found += follows;
            beyond |= last & follows.wrapping_neg();
        }
        // Without a way back to the first one goes round elsewhere, and longer than there are triangles.
        goes_on &= found == 1 && at != start;
        at = beyond;
    }
    goes_on && at == start
}

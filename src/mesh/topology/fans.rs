//! The triangles around each vertex.

/// The corner of a triangle at a vertex, by what follows it around the triangle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Corner {
    next: u32,
    last: u32,
}

/// Whether the triangles around each vertex that has any form one closed fan, of three at least, all facing the same
/// way. Then no edge is open, turned, crowded or folded, no vertex pinched, and no triangle collapsed; and the other
/// way round.
///
/// # Panics
/// If a triangle names a vertex out of range.
pub(super) fn one_fan_each(vertices: usize, triangles: &[[u32; 3]]) -> bool {
    // Where the corners at each vertex end; while they are put there, where the next one goes.
    let mut ends = vec![0u32; vertices + 1];
    for &vertex in triangles.as_flattened() {
        ends[vertex as usize + 1] += 1;
    }
    for vertex in 0..vertices {
        ends[vertex + 1] += ends[vertex];
    }
    let mut corners = vec![Corner { next: 0, last: 0 }; 3 * triangles.len()];
    for &[a, b, c] in triangles {
        if a == b || b == c || c == a {
            return false;
        }
        for (vertex, next, last) in [(a, b, c), (b, c, a), (c, a, b)] {
            let place = &mut ends[vertex as usize];
            corners[*place as usize] = Corner { next, last };
            *place += 1;
        }
    }
    let mut rest = corners.as_slice();
    let mut begin = 0;
    ends[..vertices].iter().all(|&end| {
        let (around, others) = rest.split_at((end - begin) as usize);
        (rest, begin) = (others, end);
        around.is_empty() || is_one_fan(around)
    })
}

/// Whether one gets around a vertex from each triangle to the one that begins where it ends, and so to all of them.
fn is_one_fan(around: &[Corner]) -> bool {
    if around.len() < 3 {
        return false;
    }
    // If two began alike, the second would never be come by; if none does, the fan is open. Without a way back to the
    // first one goes round elsewhere, and longer than there are triangles.
    let mut at = around[0];
    for _ in 1..around.len() {
        match around.iter().find(|corner| corner.next == at.last) {
            Some(&corner) if corner.next != around[0].next => at = corner,
            _ => return false,
        }
    }
    at.last == around[0].next
}

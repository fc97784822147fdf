//! The triangles around each vertex.

/// Whether the triangles around each vertex that has any form one closed fan, of three at least, all facing the same
/// way. Then no edge is open, turned, crowded or folded, no vertex pinched, and no triangle collapsed; and the other
/// way round.
///
/// # Panics
/// If a triangle names a vertex out of range.
pub(super) fn one_fan_each(vertices: usize, triangles: &[[u32; 3]]) -> bool {
    // Where the triangles at each vertex end; while they are put there, where the next one goes.
    let mut ends = vec![0u32; vertices];
    for &[a, b, c] in triangles {
        if a == b || b == c || c == a {
            return false;
        }
        for vertex in [a, b, c] {
            ends[vertex as usize] += 1;
        }
    }
    let mut begin = 0;
    for end in &mut ends {
        begin += std::mem::replace(end, begin);
    }
    let mut grouped = vec![0u32; 3 * triangles.len()];
    for (index, triangle) in (0..).zip(triangles) {
        for &vertex in triangle {
            let place = &mut ends[vertex as usize];
            grouped[*place as usize] = index;
            *place += 1;
        }
    }
    let mut alike = [const { Alike::NONE }; ALIKE_MAX + 1];
    let mut rest = grouped.as_slice();
    let mut begin = 0;
    for (vertex, &end) in (0..).zip(&ends) {
        let (around, others) = rest.split_at((end - begin) as usize);
        (rest, begin) = (others, end);
        let corners = around
            .iter()
            .map(|&triangle| Corner::at(vertex, triangles[triangle as usize]));
        let is_sound = match around.len() {
            0 => true,
            1 | 2 => false,
            count @ ..=ALIKE_MAX => alike[count].take(count, corners),
            _ => goes_round(&corners.collect::<Vec<_>>()),
        };
        if !is_sound {
            return false;
        }
    }
    let mut left = alike.iter().enumerate();
    left.all(|(count, alike)| alike.go_round(count))
}

/// The corner of a triangle at a vertex: the vertices that follow it and come before it around the triangle.
#[derive(Debug, Clone, Copy)]
struct Corner {
    next: u32,
    last: u32,
}

impl Corner {
    fn at(vertex: u32, [a, b, c]: [u32; 3]) -> Self {
        // Chosen without branches: which corner it is can't be foreseen.
        let next = if vertex == c { a } else { c };
        let last = if vertex == a { c } else { a };
        Self {
            next: if vertex == a { b } else { next },
            last: if vertex == c { b } else { last },
        }
    }
}

/// Whether one gets around a vertex from each triangle to the one that begins where it ends, and so to all of them.
fn goes_round(around: &[Corner]) -> bool {
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

/// Vertices that are looked at side by side.
const LANES: usize = 16;

/// The most triangles around such a vertex; there are few with more.
const ALIKE_MAX: usize = 8;

/// Vertices with the same number of triangles around them, gathered so that [`goes_round`] is told of all of them by the
/// same steps: one by one, half the time goes by in steps that the processor expected otherwise.
struct Alike {
    vertices: usize,
    /// Of the corners around each vertex.
    next: [[u32; LANES]; ALIKE_MAX],
    last: [[u32; LANES]; ALIKE_MAX],
}

impl Alike {
    const NONE: Self = Self {
        vertices: 0,
        next: [[0; LANES]; ALIKE_MAX],
        last: [[0; LANES]; ALIKE_MAX],
    };

    /// Takes in a vertex by the `count` corners around it. When there are enough it looks at them, and says whether it
    /// found no fault.
    fn take(&mut self, count: usize, corners: impl Iterator<Item = Corner>) -> bool {
        let lane = self.vertices;
        let places = self.next[..count].iter_mut().zip(&mut self.last[..count]);
        for ((next, last), corner) in places.zip(corners) {
            (next[lane], last[lane]) = (corner.next, corner.last);
        }
        self.vertices += 1;
        if self.vertices < LANES {
            return true;
        }
        let is_sound = self.go_round(count);
        self.vertices = 0;
        is_sound
    }

    /// Whether one gets around all vertices taken in, of `count` triangles each.
    fn go_round(&self, count: usize) -> bool {
        let (next, last) = (&self.next[..count], &self.last[..count]);
        let Some((&start, &first_last)) = next.first().zip(last.first()) else {
            return true;
        };
        let mut at = first_last;
        // Zero as long as all is well.
        let mut faults = [0; LANES];
        for _ in 1..count {
            let (mut found, mut beyond) = ([0u32; LANES], [0; LANES]);
            for (next, last) in next.iter().zip(last) {
                for lane in 0..LANES {
                    let follows = if next[lane] == at[lane] { u32::MAX } else { 0 };
                    found[lane] = found[lane].wrapping_sub(follows);
                    beyond[lane] |= last[lane] & follows;
                }
            }
            for lane in 0..LANES {
                faults[lane] |= found[lane] ^ 1 | u32::from(at[lane] == start[lane]);
            }
            at = beyond;
        }
        let lanes = (0..self.vertices).map(|lane| faults[lane] | (at[lane] ^ start[lane]));
        lanes.fold(0, |faults, fault| faults | fault) == 0
    }
}

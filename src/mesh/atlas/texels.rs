//! Which texels triangles need, and where in a triangle each one lies.

/// One texel and the triangle that it shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Texel {
    /// Its index in rows from the upper left.
    pub(super) place: u32,
    pub(super) triangle: u32,
}

impl Texel {
    /// The middle of the texel.
    pub(super) fn center(self, side_px: u32) -> [f32; 2] {
        [self.place % side_px, self.place / side_px].map(|along| along as f32 + 0.5)
    }
}

/// No triangle has come near.
const NOBODY: u32 = u32::MAX;

/// The texels whose centres lie in a triangle or so near that filtering between centres looks at them: within one texel
/// along both axes. Each goes to the triangle that it is in, or to the nearest.
pub(super) fn needed(places: &[[[f32; 2]; 3]], side_px: u32) -> Vec<Texel> {
    let side = side_px as usize;
    let mut owners = vec![NOBODY; side * side];
    let mut distances = vec![f32::INFINITY; side * side];
    let last = side as f32 - 1.0;
    for (triangle, corners) in places.iter().enumerate() {
        // Texels whose centres are within one texel of the triangle's box.
        let range = |axis: usize| {
            let along = corners.map(|corner| corner[axis]);
            let (low, high) = along
                .iter()
                .fold((f32::MAX, f32::MIN), |(low, high), &along| {
                    (low.min(along), high.max(along))
                });
            let first = (low - 1.5).ceil().clamp(0.0, last) as usize;
            first..=(high + 0.5).floor().clamp(0.0, last) as usize
        };
        for y in range(1) {
            for x in range(0) {
                let place = y * side + x;
                if distances[place] <= 0.0 {
                    continue;
                }
                let center = [x as f32 + 0.5, y as f32 + 0.5];
                let distance = distance_squared(center, *corners);
                // A texel diagonally beside a corner is the farthest that is looked at.
                if distance < distances[place].min(2.0) {
                    distances[place] = distance;
                    owners[place] = triangle as u32;
                }
            }
        }
    }
    let owned = (0..).zip(owners).filter(|(_, owner)| *owner != NOBODY);
    owned
        .map(|(place, triangle)| Texel { place, triangle })
        .collect()
}

/// The square of the distance from a point to a triangle, 0 inside.
fn distance_squared(point: [f32; 2], corners: [[f32; 2]; 3]) -> f32 {
    if inner_weights(point, corners).is_some() {
        return 0.0;
    }
    nearest_on_sides(point, corners).0
}

/// How much each corner counts at the point of a triangle that is nearest to `point`; together 1.
pub(super) fn weights(point: [f32; 2], corners: [[f32; 2]; 3]) -> [f32; 3] {
    inner_weights(point, corners).unwrap_or_else(|| nearest_on_sides(point, corners).1)
}

/// The weights of the corners if the point lies in the triangle, whichever way it is turned.
fn inner_weights(point: [f32; 2], [a, b, c]: [[f32; 2]; 3]) -> Option<[f32; 3]> {
    let area = cross(sub(b, a), sub(c, a));
    let (at_b, at_c) = (
        cross(sub(point, a), sub(c, a)) / area,
        cross(sub(b, a), sub(point, a)) / area,
    );
    let at_a = 1.0 - at_b - at_c;
    // Without area these are not numbers, and so not greater.
    (at_a >= 0.0 && at_b >= 0.0 && at_c >= 0.0).then_some([at_a, at_b, at_c])
}

/// The square of the distance to the nearest point of the three sides, and the weights of the corners there.
fn nearest_on_sides(point: [f32; 2], corners: [[f32; 2]; 3]) -> (f32, [f32; 3]) {
    let mut best = (f32::INFINITY, [1.0, 0.0, 0.0]);
    for side in 0..3 {
        let next = (side + 1) % 3;
        let (start, along) = (corners[side], sub(corners[next], corners[side]));
        let length = dot(along, along);
        let share = if length > 0.0 {
            (dot(sub(point, start), along) / length).clamp(0.0, 1.0)
        } else {
            0.0
        };
        let off = sub(
            point,
            [start[0] + share * along[0], start[1] + share * along[1]],
        );
        let distance = dot(off, off);
        if distance < best.0 {
            let mut weights = [0.0; 3];
            weights[side] = 1.0 - share;
            weights[next] = share;
            best = (distance, weights);
        }
    }
    best
}

fn sub(a: [f32; 2], b: [f32; 2]) -> [f32; 2] {
    [a[0] - b[0], a[1] - b[1]]
}

fn dot(a: [f32; 2], b: [f32; 2]) -> f32 {
    a[0] * b[0] + a[1] * b[1]
}

fn cross(a: [f32; 2], b: [f32; 2]) -> f32 {
    a[0] * b[1] - a[1] * b[0]
}

/// Whether a point lies in a triangle, farther than `margin` from its sides.
#[cfg(test)]
pub(super) fn is_within(point: [f32; 2], corners: [[f32; 2]; 3], margin: f32) -> bool {
    inner_weights(point, corners).is_some() && nearest_on_sides(point, corners).0 > margin * margin
}

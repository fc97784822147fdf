//! What a surface fills, in cells: itself, and all that the outside can't reach.

/// Cells along an axis.
const CELLS: usize = 64;
/// Cells along an axis with one free layer around them, through which the outside is reached.
const PADDED: usize = CELLS + 2;
/// The share of the grid's side that the mesh's longest side takes.
const SCALE: f64 = 0.94;

/// The filled cells of a cube of 64³.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Solid {
    /// With the free layer; x slowest, z fastest.
    filled: Vec<bool>,
}

impl Solid {
    /// The cells that `points` lie in, each coordinate in -0.5..=0.5, and those that they shut off from the border:
    /// the outside is flooded through the cells' faces.
    #[must_use]
    pub fn around(points: &[[f64; 3]]) -> Self {
        let mut filled = vec![false; PADDED.pow(3)];
        for point in points {
            let [x, y, z] = point.map(cell);
            filled[index(x, y, z)] = true;
        }
        Self {
            filled: flooded(&filled)
                .into_iter()
                .map(|is_outside| !is_outside)
                .collect(),
        }
    }

    /// Filled cells.
    #[must_use]
    pub fn cells(&self) -> usize {
        self.filled.iter().filter(|&&is_filled| is_filled).count()
    }

    /// Cells that both fill over cells that either fills, 0..=1.
    #[must_use]
    pub fn iou(&self, other: &Self) -> f64 {
        let (mut both, mut either) = (0_u32, 0_u32);
        for (&one, &other) in self.filled.iter().zip(&other.filled) {
            both += u32::from(one && other);
            either += u32::from(one || other);
        }
        f64::from(both) / f64::from(either.max(1))
    }
}

/// The padded cell that holds a coordinate.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float is cut off at the integer's bounds, and then at the grid's"
)]
fn cell(coordinate: f64) -> usize {
    let along = (coordinate * SCALE + 0.5) * CELLS as f64;
    (along as usize).min(CELLS - 1) + 1
}

fn index(x: usize, y: usize, z: usize) -> usize {
    (x * PADDED + y) * PADDED + z
}

/// The free cells that hang together with the first corner.
fn flooded(filled: &[bool]) -> Vec<bool> {
    let mut outside = vec![false; filled.len()];
    let mut open = vec![[0_usize; 3]];
    outside[0] = true;
    while let Some(cell) = open.pop() {
        for axis in 0..3 {
            for step in [cell[axis].checked_sub(1), Some(cell[axis] + 1)] {
                let Some(along) = step.filter(|&along| along < PADDED) else {
                    continue;
                };
                let mut next = cell;
                next[axis] = along;
                let at = index(next[0], next[1], next[2]);
                if !filled[at] && !outside[at] {
                    outside[at] = true;
                    open.push(next);
                }
            }
        }
    }
    outside
}

//! Where in a picture the object is, by its alpha, without being fooled by specks.

/// The picture is looked at in at most this many cells along its longest side: specks are told from parts by
/// connection, and a gap of less than a cell (four pixels in a thousand) doesn't disconnect a part.
const CELLS_MAX: usize = 256;
/// A connected group of less than this share of the largest group's coverage is a speck: a ball of a fifteenth
/// of the object's diameter is still kept.
const SPECK_SHARE: f64 = 0.004;
/// Less coverage than this share of the picture is nothing: a dot of 10 × 10 pixels in a picture of 1024².
const NOTHING_SHARE: f64 = 1e-4;
/// Coverage from which a pixel on the picture's border counts as cut by it.
const SOLID_FROM: f32 = 0.5;
/// The object touches the border when this share of its own longest side lies on it; antialiasing and single
/// stray pixels stay below.
const CONTACT_SHARE: f64 = 0.02;

/// Pixel bounds: `left` and `top` inside, `right` and `bottom` just outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) left: usize,
    pub(super) top: usize,
    pub(super) right: usize,
    pub(super) bottom: usize,
}

impl Bounds {
    fn of_pixel(x: usize, y: usize) -> Self {
        Self {
            left: x,
            top: y,
            right: x + 1,
            bottom: y + 1,
        }
    }

    fn union(self, other: Self) -> Self {
        Self {
            left: self.left.min(other.left),
            top: self.top.min(other.top),
            right: self.right.max(other.right),
            bottom: self.bottom.max(other.bottom),
        }
    }

    pub(super) fn longest_side(self) -> usize {
        (self.right - self.left).max(self.bottom - self.top)
    }
}

/// The object's place, after [`keep_object`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) bounds: Bounds,
    pub(super) touches_border: bool,
}

/// Coverage of a whole picture: rows from the top, 0..=1.
pub(super) struct Coverage<'a> {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) alpha: &'a mut [f32],
}

#[derive(Clone, Copy, Default)]
struct Cell {
    /// Of the pixels above the threshold.
    bounds: Option<Bounds>,
    /// Sum of the coverage of all its pixels.
    mass: f64,
    /// Index of its connected group.
    group: Option<usize>,
}

/// Finds what is above `threshold` and connected enough to matter, and clears the specks from the coverage.
/// `None` when nothing is there.
pub(super) fn keep_object(coverage: &mut Coverage<'_>, threshold: f32) -> Option<Place> {
    let Coverage { width, height, .. } = *coverage;
    assert_eq!(
        coverage.alpha.len(),
        width * height,
        "one value covers each pixel"
    );
    let cell_side = width.max(height).div_ceil(CELLS_MAX).max(1);
    let columns = width.div_ceil(cell_side);
    let mut cells = survey(coverage, threshold, cell_side);
    let masses = group(&mut cells, columns);

    let largest = masses.iter().copied().fold(0.0, f64::max);
    let is_kept = |cell: &Cell| {
        cell.group
            .is_some_and(|group| masses[group] >= SPECK_SHARE * largest)
    };
    let kept = cells.iter().filter(|cell| is_kept(cell));
    let mass: f64 = kept.clone().map(|cell| cell.mass).sum();
    if mass < NOTHING_SHARE * (width * height) as f64 {
        return None;
    }
    let bounds = kept.filter_map(|cell| cell.bounds).reduce(Bounds::union)?;

    let specks = cells.iter().enumerate();
    for (index, _) in specks.filter(|(_, cell)| cell.group.is_some() && !is_kept(cell)) {
        let (left, top) = (index % columns * cell_side, index / columns * cell_side);
        for y in top..height.min(top + cell_side) {
            coverage.alpha[y * width..][left..width.min(left + cell_side)].fill(0.0);
        }
    }
    Some(Place {
        bounds,
        touches_border: touches_border(coverage, bounds),
    })
}

fn survey(coverage: &Coverage<'_>, threshold: f32, cell_side: usize) -> Vec<Cell> {
    let columns = coverage.width.div_ceil(cell_side);
    let mut cells = vec![Cell::default(); columns * coverage.height.div_ceil(cell_side)];
    for (y, row) in coverage.alpha.chunks_exact(coverage.width).enumerate() {
        let cells = &mut cells[y / cell_side * columns..][..columns];
        for (column, (cell, values)) in cells.iter_mut().zip(row.chunks(cell_side)).enumerate() {
            cell.mass += values.iter().map(|&value| f64::from(value)).sum::<f64>();
            let is_occupied = |&value: &f32| value > threshold;
            let Some(first) = values.iter().position(is_occupied) else {
                continue;
            };
            let last = values.iter().rposition(is_occupied).unwrap_or(first);
            let left = column * cell_side;
            let ends = Bounds::of_pixel(left + first, y).union(Bounds::of_pixel(left + last, y));
            cell.bounds = Some(cell.bounds.map_or(ends, |bounds| bounds.union(ends)));
        }
    }
    cells
}

/// Gives each occupied cell the group it is connected with (corners count) and returns the groups' masses.
fn group(cells: &mut [Cell], columns: usize) -> Vec<f64> {
    let rows = cells.len() / columns;
    let mut masses = Vec::new();
    let mut open = Vec::new();
    for start in 0..cells.len() {
        if cells[start].bounds.is_none() || cells[start].group.is_some() {
            continue;
        }
        let group = masses.len();
        let mut mass = 0.0;
        cells[start].group = Some(group);
        open.push(start);
        while let Some(at) = open.pop() {
            mass += cells[at].mass;
            let (column, row) = (at % columns, at / columns);
            for row in row.saturating_sub(1)..=(row + 1).min(rows - 1) {
                for column in column.saturating_sub(1)..=(column + 1).min(columns - 1) {
                    let next = row * columns + column;
                    if cells[next].bounds.is_some() && cells[next].group.is_none() {
                        cells[next].group = Some(group);
                        open.push(next);
                    }
                }
            }
        }
        masses.push(mass);
    }
    masses
}

fn touches_border(coverage: &Coverage<'_>, bounds: Bounds) -> bool {
    let Coverage { width, height, .. } = *coverage;
    let solid = |x: usize, y: usize| coverage.alpha[y * width + x] >= SOLID_FROM;
    let contacts = [
        (0..width).filter(|&x| solid(x, 0)).count(),
        (0..width).filter(|&x| solid(x, height - 1)).count(),
        (0..height).filter(|&y| solid(0, y)).count(),
        (0..height).filter(|&y| solid(width - 1, y)).count(),
    ];
    let longest = contacts.into_iter().max().unwrap_or(0);
    longest > 1 && longest as f64 >= CONTACT_SHARE * bounds.longest_side() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disc(alpha: &mut [f32], width: usize, centre: (f32, f32), radius: f32) {
        for (index, value) in alpha.iter_mut().enumerate() {
            let (x, y) = ((index % width) as f32 + 0.5, (index / width) as f32 + 0.5);
            if (x - centre.0).hypot(y - centre.1) < radius {
                *value = 1.0;
            }
        }
    }

    fn place(alpha: &mut [f32], width: usize) -> Option<Place> {
        let height = alpha.len() / width;
        keep_object(
            &mut Coverage {
                width,
                height,
                alpha,
            },
            0.05,
        )
    }

    #[test]
    fn bounds_are_the_object_s_to_the_pixel() {
        let mut alpha = vec![0.0; 1000 * 600];
        for y in 101..350 {
            for x in 203..417 {
                alpha[y * 1000 + x] = 1.0;
            }
        }
        let place = place(&mut alpha, 1000).expect("there is an object");
        assert_eq!(
            place.bounds,
            Bounds {
                left: 203,
                top: 101,
                right: 417,
                bottom: 350
            }
        );
        assert!(!place.touches_border);
    }

    #[test]
    fn specks_are_cleared_and_parts_are_kept() {
        let mut alpha = vec![0.0; 512 * 512];
        disc(&mut alpha, 512, (200.0, 200.0), 100.0);
        disc(&mut alpha, 512, (400.0, 200.0), 12.0);
        disc(&mut alpha, 512, (500.0, 500.0), 2.0);
        let place = place(&mut alpha, 512).expect("there is an object");
        assert_eq!(
            place.bounds,
            Bounds {
                left: 100,
                top: 100,
                right: 412,
                bottom: 300
            }
        );
        assert!(
            alpha[500 * 512 + 500].abs() < f32::EPSILON,
            "the speck is gone"
        );
        assert!(alpha[200 * 512 + 400] > 0.9, "the ball is still there");
    }

    #[test]
    fn haze_and_dots_are_nothing() {
        assert_eq!(place(&mut vec![0.04; 300 * 200], 300), None);
        let mut dot = vec![0.0; 1024 * 1024];
        disc(&mut dot, 1024, (500.0, 500.0), 3.0);
        assert_eq!(place(&mut dot, 1024), None);
        assert_eq!(place(&mut [0.0], 1), None);
    }

    #[test]
    fn one_full_pixel_is_an_object_of_its_own_picture() {
        let place = place(&mut [1.0], 1).expect("the picture is full");
        assert_eq!(
            place.bounds,
            Bounds {
                left: 0,
                top: 0,
                right: 1,
                bottom: 1
            }
        );
    }

    #[test]
    fn an_object_cut_by_the_border_is_noticed() {
        let mut alpha = vec![0.0; 256 * 256];
        disc(&mut alpha, 256, (128.0, 230.0), 60.0);
        assert!(
            place(&mut alpha, 256)
                .expect("there is an object")
                .touches_border
        );
        let mut inside = vec![0.0; 256 * 256];
        disc(&mut inside, 256, (128.0, 128.0), 120.0);
        assert!(
            !place(&mut inside, 256)
                .expect("there is an object")
                .touches_border
        );
    }
}

//! Where in a picture the object is, by its alpha, without being fooled by specks.

use std::ops::Range;

use rayon::prelude::*;

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

/// Cells side by side in a row of them, each with pixels above the threshold.
struct Run {
    row: usize,
    columns: Range<usize>,
    /// Sum of the coverage of all their pixels.
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
    let mut runs = survey(coverage, threshold, cell_side);
    let masses = group(&mut runs, height.div_ceil(cell_side));

    let largest = masses.iter().copied().fold(0.0, f64::max);
    let is_kept = |run: &&Run| {
        run.group
            .is_some_and(|group| masses[group] >= SPECK_SHARE * largest)
    };
    let (kept, specks): (Vec<&Run>, Vec<&Run>) = runs.iter().partition(is_kept);
    let mass: f64 = kept.iter().map(|run| run.mass).sum();
    if mass < NOTHING_SHARE * (width * height) as f64 {
        return None;
    }
    let rows = |run: &Run| run.row * cell_side..height.min((run.row + 1) * cell_side);
    let columns = |run: &Run| run.columns.start * cell_side..width.min(run.columns.end * cell_side);
    let bounds = kept.into_iter().filter_map(|run| {
        let rows = rows(run).filter_map(|y| {
            let values = &coverage.alpha[y * width..][columns(run)];
            let is_occupied = |&value: &f32| value > threshold;
            let (first, last) = (
                values.iter().position(is_occupied)?,
                values.iter().rposition(is_occupied)?,
            );
            let left = columns(run).start;
            Some(Bounds::of_pixel(left + first, y).union(Bounds::of_pixel(left + last, y)))
        });
        rows.reduce(Bounds::union)
    });
    let bounds = bounds.reduce(Bounds::union)?;
    for run in specks {
        for y in rows(run) {
            coverage.alpha[y * width..][columns(run)].fill(0.0);
        }
    }
    Some(Place {
        bounds,
        touches_border: touches_border(coverage, bounds),
    })
}

/// Rows of cells that one thread looks at.
const BAND: usize = 16;

/// The runs of occupied cells, row by row.
fn survey(coverage: &Coverage<'_>, threshold: f32, cell_side: usize) -> Vec<Run> {
    let width = coverage.width;
    let bands = coverage.alpha.par_chunks(width * cell_side * BAND);
    let runs = bands.enumerate().map(|(band, lines)| {
        let mut runs = Vec::new();
        // Of each column of a row of cells.
        let (mut sums, mut greatest) = (vec![0.0_f32; width], vec![0.0_f32; width]);
        for (row, lines) in (band * BAND..).zip(lines.chunks(width * cell_side)) {
            sums.fill(0.0);
            greatest.fill(0.0);
            for line in lines.chunks_exact(width) {
                let columns = sums.iter_mut().zip(&mut greatest).zip(line);
                columns.for_each(|((sum, greatest), &value)| {
                    *sum += value;
                    *greatest = if value > *greatest { value } else { *greatest };
                });
            }
            let cells = sums.chunks(cell_side).zip(greatest.chunks(cell_side));
            survey_row(row, cells, threshold, &mut runs);
        }
        runs
    });
    runs.flatten_iter().collect()
}

/// Appends the runs of a row of cells, from the sums and the greatest of the coverage in the columns of each.
fn survey_row<'a>(
    row: usize,
    cells: impl Iterator<Item = (&'a [f32], &'a [f32])>,
    threshold: f32,
    runs: &mut Vec<Run>,
) {
    let mut open: Option<Run> = None;
    for (column, (sums, greatest)) in cells.enumerate() {
        if greatest.iter().any(|&value| value > threshold) {
            let run = open.get_or_insert(Run {
                row,
                columns: column..column,
                mass: 0.0,
                group: None,
            });
            run.columns.end = column + 1;
            run.mass += sums.iter().map(|&sum| f64::from(sum)).sum::<f64>();
        } else {
            runs.extend(open.take());
        }
    }
    runs.extend(open);
}

/// Gives each run the group it is connected with (corners count) and returns the groups' masses.
fn group(runs: &mut [Run], rows: usize) -> Vec<f64> {
    let starts: Vec<usize> = (0..=rows)
        .map(|row| runs.partition_point(|run| run.row < row))
        .collect();
    let mut masses = Vec::new();
    let mut open = Vec::new();
    for start in 0..runs.len() {
        if runs[start].group.is_some() {
            continue;
        }
        let group = masses.len();
        let mut mass = 0.0;
        runs[start].group = Some(group);
        open.push(start);
        while let Some(at) = open.pop() {
            mass += runs[at].mass;
            let (row, columns) = (runs[at].row, runs[at].columns.clone());
            for row in row.saturating_sub(1)..=(row + 1).min(rows - 1) {
                let first = starts[row];
                for (next, other) in (first..).zip(&mut runs[first..starts[row + 1]]) {
                    let is_near =
                        other.columns.start <= columns.end && columns.start <= other.columns.end;
                    if is_near && other.group.is_none() {
                        other.group = Some(group);
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
    fn what_touches_at_corners_is_one_and_what_does_not_is_not() {
        // 60 pixels on their own are specks beside a block of 100 x 100, in a row they are not.
        let mut alpha = vec![0.0; 256 * 256];
        for y in 0..100 {
            alpha[y * 256..][..100].fill(1.0);
        }
        for step in 0..60 {
            alpha[(120 + step) * 256 + 120 + step] = 1.0;
            alpha[(120 + step) * 256 + 240 - step] = 1.0;
            alpha[250 * 256 + 2 * step] = 1.0;
        }
        let place = place(&mut alpha, 256).expect("there is an object");
        assert_eq!(
            place.bounds,
            Bounds {
                left: 0,
                top: 0,
                right: 241,
                bottom: 180
            }
        );
        let is_covered = |x: usize, y: usize| alpha[y * 256 + x] > 0.0;
        assert!(is_covered(179, 179) && is_covered(181, 179));
        assert!((0..256).all(|x| !is_covered(x, 250)));
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

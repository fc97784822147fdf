//! The geometry of the grid: where samples lie, where to begin, where the surface passes.

/// The coarse grid aims at this many cells an axis: 36 thousand points, 2% of a dense 128³, show whatever is thicker
/// than a thirtieth of the volume.
const COARSE_CELLS: f64 = 32.0;

/// Coordinates along an axis: sample `i` lies at `-1 + 2 i / (samples - 1)`.
pub(super) fn axis(samples: usize) -> Vec<f32> {
    (0..samples)
        .map(|index| (-1.0 + 2.0 * index as f64 / (samples - 1) as f64) as f32)
        .collect()
}

/// The power of two that leaves nearest to [`COARSE_CELLS`] cells along an axis.
pub(super) fn coarse_step(samples: usize) -> usize {
    let halvings = ((samples - 1) as f64 / COARSE_CELLS)
        .log2()
        .round()
        .max(0.0);
    1 << halvings as usize
}

/// Whether the corners of a cell lie on both sides of the iso level.
pub(super) fn crosses(values: &[f32; 8], iso: f32) -> bool {
    crosses_any(values.iter().copied(), iso)
}

/// Whether values lie on both sides of the iso level.
pub(super) fn crosses_any(values: impl Iterator<Item = f32>, iso: f32) -> bool {
    let (mut inside, mut outside) = (false, false);
    for value in values {
        inside |= value > iso;
        outside |= value <= iso;
    }
    inside && outside
}

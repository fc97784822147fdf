//! How far inside what it shows each pixel lies: where the picture's colours can be trusted to belong to the surface.

use rayon::prelude::*;

use super::{Picture, depth::DepthMap};

/// Coverage from which on no background shows through.
const OPAQUE: f32 = 0.95;
/// A step in depth between neighbours from which on one thing hides another, in pixels: steeper than any surface that
/// is painted.
const STEP_PX: f32 = 4.0;
/// Distances from the nearest outline, in pixels of a picture [`REFERENCE_SIDE`] wide, between which trust grows from
/// none to full. The mesh is seldom nearer to the truth than this.
const RAMP_PX: [f32; 2] = [1.0, 5.0];
const REFERENCE_SIDE: f32 = 192.0;

/// Rows that one thread looks at.
const ROWS: usize = 16;

/// From 0 at `low` to 1 at `high`, without a bend at either.
pub(super) fn smoothstep([low, high]: [f32; 2], at: f32) -> f32 {
    let share = ((at - low) / (high - low)).clamp(0.0, 1.0);
    share * share * (3.0 - 2.0 * share)
}

/// Trust in each pixel of the depth map, 0..=1: none along the silhouettes of mesh and picture and along every inner
/// outline, full some pixels away from all.
pub(super) fn trust(depth: &DepthMap, nearness_per_pixel: f32, picture: &Picture<'_>) -> Vec<f32> {
    let side = depth.side();
    let mut distance = outlines(depth, STEP_PX * nearness_per_pixel, picture);
    spread(&mut distance, side);
    let scale = REFERENCE_SIDE / side as f32;
    for at in &mut distance {
        *at = smoothstep(RAMP_PX, *at * scale);
    }
    distance
}

/// 0 at outlines and outside, infinite elsewhere.
fn outlines(depth: &DepthMap, step: f32, picture: &Picture<'_>) -> Vec<f32> {
    let side = depth.side();
    let nearness = depth.nearness();
    let nearest = picture.at_shares(side);
    let is_inside = |column: usize, row: usize| {
        let at = row * side + column;
        // The picture's border may cut the object off.
        let has_neighbours = (1..side - 1).contains(&column) && (1..side - 1).contains(&row);
        has_neighbours
            && nearness[at] > 0.0
            && picture.alpha_at(nearest[column], nearest[row]) >= OPAQUE
            && [at - 1, at + 1, at - side, at + side]
                .into_iter()
                .all(|next| (nearness[next] - nearness[at]).abs() <= step)
    };
    let distance = |row: usize, column: usize| {
        if is_inside(column, row) {
            f32::INFINITY
        } else {
            0.0
        }
    };
    let mut distances = vec![0.0; side * side];
    let rows = distances.par_chunks_exact_mut(side).enumerate();
    rows.with_min_len(ROWS).for_each(|(row, distances)| {
        for (column, value) in distances.iter_mut().enumerate() {
            *value = distance(row, column);
        }
    });
    distances
}

/// Distances to the nearest zero, by one sweep down and one up (G. Borgefors, "Distance transformations in digital
/// images", 1986). The border is zero.
fn spread(distance: &mut [f32], side: usize) {
    const DIAGONAL: f32 = std::f32::consts::SQRT_2;
    let mut pass = |at: usize, [along, across, before, after]: [usize; 4]| {
        // Outside, which is most, there is nothing to be told.
        if distance[at] > 0.0 {
            distance[at] = distance[at]
                .min(distance[along] + 1.0)
                .min(distance[across] + 1.0)
                .min(distance[before] + DIAGONAL)
                .min(distance[after] + DIAGONAL);
        }
    };
    for row in 1..side - 1 {
        for at in row * side + 1..(row + 1) * side - 1 {
            pass(at, [at - 1, at - side, at - side - 1, at - side + 1]);
        }
    }
    for row in (1..side - 1).rev() {
        for at in (row * side + 1..(row + 1) * side - 1).rev() {
            pass(at, [at + 1, at + side, at + side + 1, at + side - 1]);
        }
    }
}

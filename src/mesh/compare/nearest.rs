//! Distances between two clouds of points.

use rstar::RTree;

/// For each point of `from` the distance to the nearest of `to`.
///
/// # Panics
/// If `to` is empty.
#[must_use]
pub fn distances(from: &[[f64; 3]], to: &[[f64; 3]]) -> Vec<f64> {
    let tree = RTree::bulk_load(to.to_vec());
    from.iter()
        .map(|&point| {
            let (_, squared) = tree
                .nearest_neighbor_with_distance_2(point)
                .expect("a mesh has samples");
            squared.sqrt()
        })
        .collect()
}

/// The mean of the mean distances in both directions.
#[must_use]
pub fn chamfer(one: &[f64], other: &[f64]) -> f64 {
    f64::midpoint(mean(one), mean(other))
}

/// The harmonic mean of the shares of both directions that are nearer than `distance`, 0..=1.
#[must_use]
pub fn f_score(one: &[f64], other: &[f64], distance: f64) -> f64 {
    let share = |all: &[f64]| {
        let near = all.iter().filter(|&&each| each < distance).count();
        near as f64 / all.len() as f64
    };
    let (precision, recall) = (share(one), share(other));
    if precision + recall > 0.0 {
        2.0 * precision * recall / (precision + recall)
    } else {
        0.0
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

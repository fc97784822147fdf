//! How near a mesh made from a picture comes to the mesh that the picture shows.
//!
//! Both are first brought into one frame: the truth is turned about +Y until the camera's azimuth lies on +Z, where the
//! contract has it; then each is centred on its bounding box and scaled until its longest side is 1. All lengths below
//! are shares of that side.
//!
//! - **IoU** ([`solid`]): what both fill, over what either fills, of 64³ cells. A cell is filled if one of 400,000
//!   samples of the surface lies in it, or if the outside can't reach it; so a closed surface counts as solid and an
//!   open one only as its walls.
//! - **Chamfer** ([`nearest`]): the mean of the two mean distances from 8,192 samples of one to the nearest of 8,192
//!   samples of the other.
//! - **F-score** at a distance: of the samples of each that have one of the other's nearer than this, the harmonic mean
//!   of both shares.
//! - **Silhouette IoU and colour error** ([`seen`]): what the picture's camera sees of the samples, 96 x 96.
//!
//! IoU, Chamfer and F-scores are defined as the project's reference measure has them, the camera's measures as the
//! shipped model's training has them. Samples are seeded: the same two meshes always get the same score.

use super::Mesh;

pub mod nearest;
pub mod sample;
pub mod seen;
pub mod solid;

#[cfg(test)]
mod tests;

/// Samples of each mesh, from the first, between which distances are measured.
const PAIRS: usize = 8192;
/// The distances at which F-scores are taken.
const F_SCORE_AT: [f64; 2] = [0.05, 0.1];
/// Two meshes are never sampled alike, or a mesh would meet its own samples.
const TRUTH_SEED: u64 = 0;
const MADE_SEED: u64 = 1;

/// Where the camera of a picture stood, in the truth's frame (+Y up). Degrees.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct View {
    /// About +Y, from +Z towards +X.
    pub azimuth: f64,
    /// Above the horizon.
    pub elevation: f64,
    /// The full vertical angle, between 0 and 180.
    pub fov: f64,
}

/// How near one mesh comes to another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// 0..=1, more is better.
    pub iou: f64,
    /// A share of the longest side, less is better.
    pub chamfer: f64,
    /// At 0.05 and at 0.1 of the longest side: 0..=1, more is better.
    pub f_scores: [f64; 2],
    /// 0..=1, more is better.
    pub silhouette_iou: f64,
    /// The mean difference of an sRGB channel in 0..=1 where both silhouettes are; less is better.
    pub color_error: f64,
}

impl Score {
    /// What a conversion without a mesh gets: nothing in common, and half of the longest side or of a channel away.
    pub const FAILED: Self = Self {
        iou: 0.0,
        chamfer: 0.5,
        f_scores: [0.0; 2],
        silhouette_iou: 0.0,
        color_error: 0.5,
    };
}

/// Compares a mesh in the contract's frame with the true one in its own. A mesh without colours counts as grey.
/// Takes two threads for a fraction of a second.
#[must_use]
pub fn compare(made: &Mesh, truth: &Mesh, view: &View) -> Score {
    let camera = seen::Camera::new(view.elevation, view.fov);
    let (made, truth) = both(
        || Side::new(made, 0.0, MADE_SEED, camera),
        || Side::new(truth, view.azimuth, TRUTH_SEED, camera),
    );
    let (from_made, from_truth) = both(
        || nearest::distances(&made.pairs, &truth.pairs),
        || nearest::distances(&truth.pairs, &made.pairs),
    );
    Score {
        iou: made.solid.iou(&truth.solid),
        chamfer: nearest::chamfer(&from_made, &from_truth),
        f_scores: F_SCORE_AT.map(|distance| nearest::f_score(&from_made, &from_truth, distance)),
        silhouette_iou: made.seen.silhouette_iou(&truth.seen),
        color_error: made
            .seen
            .color_error(&truth.seen)
            .unwrap_or(Score::FAILED.color_error),
    }
}

/// Does two things at the same time.
fn both<A, B: Send>(one: impl FnOnce() -> A, other: impl FnOnce() -> B + Send) -> (A, B) {
    std::thread::scope(|scope| {
        let other = scope.spawn(other);
        let one = one();
        let other = other.join();
        (
            one,
            other.unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
        )
    })
}

/// What is compared of one mesh.
struct Side {
    solid: solid::Solid,
    seen: seen::Seen,
    pairs: Vec<[f64; 3]>,
}

impl Side {
    fn new(mesh: &Mesh, azimuth: f64, seed: u64, camera: seen::Camera) -> Self {
        let mut samples = sample::sample(mesh, azimuth, seed);
        let solid = solid::Solid::around(&samples.points);
        let seen = camera.see(&samples);
        samples.points.truncate(PAIRS);
        Self {
            solid,
            seen,
            pairs: samples.points,
        }
    }
}

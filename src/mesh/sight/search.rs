//! The search for the camera whose silhouette agrees best with a picture's alpha.

use std::iter;

use rayon::prelude::*;

use super::{
    Picture,
    camera::Pose,
    cloud::{Cloud, Turned},
    mask::{Mask, SIDE_MAX},
};

/// Points of the cloud that the search looks at in the end, and those that it begins with.
const POINTS: usize = 20_480;
const COARSE_POINTS: usize = 5_120;
const COARSE_SIDE: usize = 64;

/// Elevations and perspectives tried first. Pictures are drawn and taken from somewhat below the object to well above
/// it; a camera's angle, 20 to 55 degrees, makes perspectives of 0.15 to 0.55.
const ELEVATIONS_DEG: [f32; 16] = [
    -15.0, -10.0, -5.0, 0.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0, 35.0, 40.0, 45.0, 50.0, 55.0, 60.0,
];
const PERSPECTIVES: [f32; 3] = [0.18, 0.32, 0.46];

/// Things as round as a ball look alike from everywhere: between equals the camera stands where pictures are mostly taken
/// from, and each degree away from there costs so much agreement.
const USUAL_ELEVATION_DEG: f32 = 15.0;
const PER_DEGREE: f32 = 1e-4;

/// The camera keeps clear of long things that point at it: half of their depth takes at most this share of its distance.
const NEAREST: f32 = 0.55;
const PERSPECTIVE_MIN: f32 = 0.08;

/// Candidates of the first search that are looked at closely.
const FINALISTS: usize = 3;

/// The first steps of the refinement: elevation (radians), perspective, shift right and up (units), zoom (a ratio). Each
/// is halved so many times: of each finalist roughly, and of the best of them from half the steps on.
const STEPS: [f32; 5] = [0.05, 0.06, 0.015, 0.015, 0.015];
const ROUGH_HALVINGS: usize = 1;
const HALVINGS: usize = 2;
const TURNS_MAX: usize = 3;

/// A sample marks its pixel wherever in it it lies, so a pixel counts as covered from less than half on.
const COVERED: f32 = 0.15;

/// A pose that is near the best one, and what is known of the alpha by then.
#[derive(Debug, Clone)]
pub(super) struct Rough {
    pose: Pose,
    /// The middle and the longer side of the alpha's box: see [`outline`].
    middle: [f32; 2],
    longer: f32,
    wanted: Mask,
}

/// A pose to begin with, or none if the alpha covers nothing. A coarse surface tells it as well as a fine one.
pub(super) fn rough(
    positions: &[[f32; 3]],
    triangles: &[[u32; 3]],
    picture: &Picture<'_>,
) -> Option<Rough> {
    let (middle, longer) = outline(picture)?;
    // Side by side where threads are free, here and below; what comes of it is the same.
    let (thin, (wanted, coarse)) = rayon::join(
        || Cloud::spread(positions, triangles, COARSE_POINTS),
        || {
            let coverage = coverage(picture);
            let fine = covered(&coverage, SIDE_MAX);
            (fine, covered(&halved(&coverage), COARSE_SIDE))
        },
    );
    let of_elevation = |turned: &mut Turned, &degrees: &f32| {
        let elevation = degrees.to_radians();
        let perspective_max = perspective_max(&thin, elevation);
        PERSPECTIVES.map(|perspective| {
            let mut pose = Pose {
                elevation,
                perspective: perspective.min(perspective_max),
                shift: [0.0; 2],
                zoom: 1.0,
            };
            thin.center(&mut pose, middle, longer, turned);
            let agreement = thin.silhouette(&pose, COARSE_SIDE, turned).iou(&coarse);
            (agreement, pose)
        })
    };
    let elevations = ELEVATIONS_DEG.par_iter();
    let candidates: Vec<_> = elevations.map_init(Turned::default, of_elevation).collect();
    let mut candidates = candidates.concat();
    // Stable, so that the same mesh always gets the same camera.
    candidates.sort_by(|a, b| b.0.total_cmp(&a.0));
    let refined =
        |pose| Search::new(&thin, &coarse, COARSE_SIDE).refine(pose, STEPS, ROUGH_HALVINGS);
    let finalists: Vec<_> = apart(&candidates).into_par_iter().map(refined).collect();
    let finalists = finalists.into_iter();
    let (_, pose) = finalists.reduce(|best, next| if next.0 > best.0 { next } else { best })?;
    Some(Rough {
        pose,
        middle,
        longer,
        wanted,
    })
}

/// The best pose near a rough one.
pub(super) fn close(rough: Rough, positions: &[[f32; 3]], triangles: &[[u32; 3]]) -> Pose {
    let Rough {
        mut pose,
        middle,
        longer,
        wanted,
    } = rough;
    let cloud = Cloud::spread(positions, triangles, POINTS);
    // Of more points some reach further.
    cloud.center(&mut pose, middle, longer, &mut Turned::default());
    let steps = STEPS.map(|step| step / 2.0);
    Search::new(&cloud, &wanted, SIDE_MAX)
        .refine(pose, steps, HALVINGS)
        .1
}

/// The best candidates, none of which is a neighbour of a better one.
fn apart(candidates: &[(f64, Pose)]) -> Vec<Pose> {
    const NEIGHBOUR_RAD: f32 = 0.15;
    let mut finalists: Vec<Pose> = Vec::with_capacity(FINALISTS);
    for &(_, pose) in candidates {
        let is_near = |other: &Pose| (other.elevation - pose.elevation).abs() < NEIGHBOUR_RAD;
        if finalists.len() < FINALISTS && !finalists.iter().any(is_near) {
            finalists.push(pose);
        }
    }
    finalists
}

fn perspective_max(cloud: &Cloud, elevation: f32) -> f32 {
    (NEAREST / cloud.half_depth(elevation).max(1e-3)).max(PERSPECTIVE_MIN)
}

/// What a pose's height costs of its agreement.
fn unusual(pose: &Pose) -> f64 {
    f64::from(PER_DEGREE * (pose.elevation.to_degrees() - USUAL_ELEVATION_DEG).abs())
}

/// A pose, and how well what it shows agrees.
type Judged = (f64, Pose);

/// A change of one parameter, by its place in [`STEPS`].
type Move = (usize, f32);

/// A refinement at one size.
struct Search<'a> {
    cloud: &'a Cloud,
    wanted: &'a Mask,
    side: usize,
    /// Of each move that is tried beside others.
    turned: Vec<Turned>,
}

impl<'a> Search<'a> {
    fn new(cloud: &'a Cloud, wanted: &'a Mask, side: usize) -> Self {
        let beside = if rayon::current_num_threads() > 1 {
            2 * STEPS.len()
        } else {
            1
        };
        Self {
            cloud,
            wanted,
            side,
            turned: iter::repeat_with(Turned::default).take(beside).collect(),
        }
    }

    /// A pattern search: a step along one parameter at a time, kept if it helps; smaller steps once none does.
    fn refine(&mut self, start: Pose, mut steps: [f32; 5], halvings: usize) -> Judged {
        let first = &mut self.turned[0];
        let mut best = judged(self.cloud, self.wanted, self.side, start, first);
        for _ in 0..=halvings {
            for _ in 0..TURNS_MAX {
                let before = best.0;
                let moves = steps.iter().enumerate();
                let moves: Vec<Move> = moves
                    .flat_map(|(parameter, &step)| [(parameter, step), (parameter, -step)])
                    .collect();
                let mut left = &moves[..];
                while let Some((parameter, better)) = self.first_better(best, left) {
                    best = better;
                    left = &moves[2 * (parameter + 1)..];
                }
                if best.0 <= before {
                    break;
                }
            }
            steps = steps.map(|step| step / 2.0);
        }
        best
    }

    /// The first of some moves that helps, by its parameter. Where threads are free, those after it are tried in vain.
    fn first_better(&mut self, best: Judged, moves: &[Move]) -> Option<(usize, Judged)> {
        let &mut Self {
            cloud,
            wanted,
            side,
            ref mut turned,
        } = self;
        let tried = |turned: &mut Turned, &(parameter, step): &Move| {
            let pose = moved(best.1, parameter, step);
            (parameter, judged(cloud, wanted, side, pose, turned))
        };
        let helps = |(_, (agreement, _)): &(usize, Judged)| *agreement > best.0;
        if let [turned] = &mut turned[..] {
            return moves.iter().map(|step| tried(turned, step)).find(helps);
        }
        let beside = turned.par_iter_mut().zip(moves);
        beside
            .map(|(turned, step)| tried(turned, step))
            .find_first(helps)
    }
}

fn judged(cloud: &Cloud, wanted: &Mask, side: usize, pose: Pose, turned: &mut Turned) -> Judged {
    let seen = cloud.silhouette(&pose, side, turned);
    (seen.iou(wanted) - unusual(&pose), pose)
}

fn moved(mut pose: Pose, parameter: usize, step: f32) -> Pose {
    match parameter {
        0 => pose.elevation += step,
        1 => pose.perspective = (pose.perspective + step).max(PERSPECTIVE_MIN),
        2 => pose.shift[0] += step,
        3 => pose.shift[1] += step,
        _ => pose.zoom *= 1.0 + step,
    }
    pose
}

/// How much of each of [`SIDE_MAX`] by [`SIDE_MAX`] pixels the alpha covers: its mean over the pixel's box, border pixels
/// of the picture by their share.
fn coverage(picture: &Picture<'_>) -> Vec<f32> {
    let scale = picture.side() as f32 / SIDE_MAX as f32;
    // The first pixel of each box, and the shares of it and those after it.
    let spans: Vec<(usize, Vec<f32>)> = (0..SIDE_MAX)
        .map(|at| {
            let (start, end) = (at as f32 * scale, (at + 1) as f32 * scale);
            let last = (end.ceil() as usize).min(picture.side());
            let share = |pixel: usize| {
                let share = end.min((pixel + 1) as f32) - start.max(pixel as f32);
                share.max(0.0) / scale
            };
            (start as usize, (start as usize..last).map(share).collect())
        })
        .collect();
    let mut coverage = vec![0.0; SIDE_MAX * SIDE_MAX];
    let mut sums = vec![0.0; picture.side()];
    for (means, (first, shares)) in coverage.chunks_exact_mut(SIDE_MAX).zip(&spans) {
        sums.fill(0.0);
        for (row, down) in (*first..).zip(shares) {
            let alpha = &picture.alpha[row * picture.side()..][..picture.side()];
            for (sum, alpha) in sums.iter_mut().zip(alpha) {
                *sum += alpha * down;
            }
        }
        for (mean, (first, shares)) in means.iter_mut().zip(&spans) {
            let pairs = sums[*first..].iter().zip(shares);
            *mean = pairs.map(|(sum, right)| sum * right).sum();
        }
    }
    coverage
}

/// The coverage of pixels of twice the side.
fn halved(coverage: &[f32]) -> Vec<f32> {
    let pairs = coverage.chunks_exact(2 * SIDE_MAX);
    pairs
        .flat_map(|rows| {
            let (upper, lower) = rows.split_at(SIDE_MAX);
            let columns = upper
                .as_chunks::<2>()
                .0
                .iter()
                .zip(lower.as_chunks::<2>().0);
            columns.map(|([a, b], [c, d])| (a + b + c + d) / 4.0)
        })
        .collect()
}

/// The pixels that are covered.
fn covered(coverage: &[f32], side: usize) -> Mask {
    let bytes: Vec<u8> = coverage
        .iter()
        .map(|&mean| u8::from(mean >= COVERED))
        .collect();
    Mask::packed(&bytes, side)
}

/// The middle (to the right, up) and the longer side of the alpha's box, in halves of the picture.
fn outline(picture: &Picture<'_>) -> Option<([f32; 2], f32)> {
    let side = picture.side();
    let mut low = [usize::MAX; 2];
    let mut high = [0; 2];
    for (row, alpha) in picture.alpha.chunks_exact(side).enumerate() {
        let is_covered = |alpha: &f32| *alpha >= 0.5;
        if let Some(first) = alpha.iter().position(is_covered) {
            let last = alpha.iter().rposition(is_covered).unwrap_or(first);
            low = [low[0].min(first), low[1].min(row)];
            high = [high[0].max(last + 1), row + 1];
        }
    }
    if high[0] == 0 {
        return None;
    }
    let half = side as f32 / 2.0;
    let middle = [0, 1].map(|axis| (low[axis] + high[axis]) as f32 / (2.0 * half) - 1.0);
    let longer = (high[0] - low[0]).max(high[1] - low[1]) as f32 / half;
    Some(([middle[0], -middle[1]], longer))
}

//! Coarse-to-fine sampling of an implicit field: asks for points, takes logits, ends in a closed surface.
//!
//! The volume is `[-1, 1]³`, +Y up, the camera of the picture on +Z; inside is where the logit is above the iso level.
//! The caller owns all waiting: [`FieldSampler::request`] says which points to evaluate, [`FieldSampler::supply`] takes
//! their logits, in as many GPU passes as the caller likes, and the result does not depend on how they were cut.
//!
//! # What is found and what can be missed
//! A coarse grid of about 32 cells an axis is evaluated whole. Cells with a change of sign, or so close to the surface
//! that one may hide in them, are split in half until the finest grid is reached. There the surface is followed out of
//! the cells evaluated so far until it closes. So the result is made of whole connected pieces of the surface that a
//! dense evaluation would give, bit for bit, and is always closed. What can be missed is a whole piece that no coarse
//! sample is inside of and none comes near: one that is thinner than a coarse cell and joined to nothing else, in a
//! field that rises to it more steeply than [`FieldOptions::logit_slope`].

use rayon::prelude::*;

use super::{
    MeshError,
    lattice::{Asked, BRICKS_TOGETHER, Index3, Lattice, Slot, block::Corners, corner, slots},
    marching_cubes,
    surface::Surface,
};

use grid::{axis, coarse_step, crosses, crosses_any};

mod coarse;
mod grid;
mod refine;
#[cfg(test)]
mod tests;
mod thickness;

pub use thickness::Walls;

/// The side of the blocks of cells in which the surface is followed: each round of asking costs the caller a GPU pass,
/// and a block of four quarters the rounds for a thin part at no more than 125 points.
const FOLLOW_SIDE: usize = 4;

/// Field samples along each axis, [`Resolution::MIN`] to [`Resolution::MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Resolution(u32);

impl Resolution {
    /// The fewest samples along an axis.
    pub const MIN: u32 = 32;
    /// The most samples along an axis.
    pub const MAX: u32 = 512;

    /// Checks a number of samples along an axis.
    ///
    /// # Errors
    /// [`MeshError::Resolution`] outside of the range.
    pub fn new(samples: u32) -> Result<Self, MeshError> {
        if (Self::MIN..=Self::MAX).contains(&samples) {
            Ok(Self(samples))
        } else {
            Err(MeshError::Resolution {
                samples,
                min: Self::MIN,
                max: Self::MAX,
            })
        }
    }

    /// Samples along an axis.
    #[must_use]
    pub fn samples(self) -> u32 {
        self.0
    }
}

/// What to sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FieldOptions {
    /// Samples along each axis of `[-1, 1]³`.
    pub resolution: Resolution,
    /// Points with a logit above it are inside. Finite.
    pub iso: f32,
    /// How steeply the field is trusted to rise towards a surface, in logits for a unit of length. A cell whose corners
    /// are all farther from the iso level than this slope times half the cell's diagonal is taken to hold no surface.
    /// Zero trusts the signs alone; more finds thinner free-standing parts for more points.
    pub logit_slope: f32,
    /// Samples that the surface may need before it is given up as [`MeshError::TooComplex`].
    pub samples_max: usize,
}

impl FieldOptions {
    /// A dense 256³, so that up to there any field is served. At 512 a surface takes about 2 million; what needs more
    /// is noise and would only fill the memory.
    pub const SAMPLES_MAX: usize = 256 * 256 * 256;

    /// Models are trained against `-sdf / 0.02`, 50 logits a unit, but what they predict is smoother: for 13 sample pictures
    /// at 128 the median slope at the surface lay between 4 and 14. With 6 a surface takes 7% of the dense grid's points in
    /// 3.1 requests, on average, and of 21 pictures no mesh differs from the dense grid's: all that five of their fields
    /// lack are specks of at most 28 cells, which would be dropped (`tests/it/dense.rs`; docs/PERFORMANCE.md).
    pub const LOGIT_SLOPE: f32 = 6.0;

    /// The usual slope and bound.
    #[must_use]
    pub fn new(resolution: Resolution, iso: f32) -> Self {
        Self {
            resolution,
            iso,
            logit_slope: Self::LOGIT_SLOPE,
            samples_max: Self::SAMPLES_MAX,
        }
    }
}

#[derive(Debug)]
enum Phase {
    /// The samples of the current level are being evaluated.
    Level,
    /// On the finest level: these cells, once evaluated, may lead on.
    Follow(Vec<Slot>),
    Done,
}

/// The sampling of one field, without waiting: ask, evaluate, supply, until nothing more is asked for.
#[derive(Debug)]
pub struct FieldSampler {
    options: FieldOptions,
    /// Coordinates of the finest grid along an axis.
    axis: Vec<f32>,
    lattice: Lattice,
    /// The level before this one.
    coarse: Option<Lattice>,
    phase: Phase,
    /// Samples of the current level asked for.
    pending: Asked,
    supplied: usize,
    follow_rounds: u32,
}

impl FieldSampler {
    /// Starts with the coarse grid.
    ///
    /// # Panics
    /// If the iso level is not finite, or the slope not finite or below zero.
    #[must_use]
    pub fn new(options: FieldOptions) -> Self {
        let FieldOptions {
            resolution,
            iso,
            logit_slope,
            samples_max: _,
        } = options;
        assert!(iso.is_finite(), "the iso level must be a number");
        assert!(
            logit_slope.is_finite() && logit_slope >= 0.0,
            "the slope must be a number from zero up"
        );
        let samples = resolution.samples() as usize;
        let mut sampler = Self {
            options,
            axis: axis(samples),
            lattice: Lattice::new(samples, coarse_step(samples)),
            coarse: None,
            phase: Phase::Level,
            pending: Asked::default(),
            supplied: 0,
            follow_rounds: 0,
        };
        let cells = sampler.lattice.cells();
        for z in 0..cells {
            for y in 0..cells {
                for x in 0..cells {
                    sampler.lattice.add_cell([x, y, z]);
                }
            }
        }
        sampler.ask_corners_of_level(None);
        sampler
    }

    /// The points to evaluate next, or none when the surface is complete. Asking again without supplying gives the
    /// same points.
    #[must_use]
    pub fn request(&self) -> Option<Vec<[f32; 3]>> {
        let mut points = vec![[0.0; 3]; self.requested()?];
        self.write_request(&mut points);
        Some(points)
    }

    /// How many points [`Self::request`] has.
    #[must_use]
    pub fn requested(&self) -> Option<usize> {
        (!matches!(self.phase, Phase::Done)).then_some(self.pending.count())
    }

    /// Writes the points of [`Self::request`] to where they are wanted.
    ///
    /// # Panics
    /// If there is not room for as many as [`Self::requested`] says.
    pub fn write_request(&self, points: &mut [[f32; 3]]) {
        self.lattice.write_points(&self.pending, &self.axis, points);
    }

    /// Takes the logits of the points of the last [`Self::request`], in its order.
    ///
    /// # Errors
    /// [`MeshError::NonFinite`] if a logit is not a number or infinite, [`MeshError::TooComplex`] if the surface needs
    /// too many samples. The sampler is of no more use then.
    ///
    /// # Panics
    /// If there are not as many logits as points.
    pub fn supply(&mut self, logits: &[f32]) -> Result<(), MeshError> {
        assert_eq!(
            logits.len(),
            self.pending.count(),
            "one logit for each point asked for"
        );
        let has_fault = logits
            .iter()
            .fold(false, |fault, logit| fault | !logit.is_finite());
        if has_fault && let Some(index) = logits.iter().position(|logit| !logit.is_finite()) {
            return Err(MeshError::NonFinite {
                index: self.supplied + index,
            });
        }
        let asked = std::mem::take(&mut self.pending);
        let iso = self.options.iso;
        self.lattice
            .supply(&asked, logits, |logit| outside(logit, iso));
        self.supplied += logits.len();
        self.advance();
        let (needed, allowed) = (
            self.supplied + self.pending.count(),
            self.options.samples_max,
        );
        if needed > allowed {
            return Err(MeshError::TooComplex {
                what: "samples",
                needed,
                allowed,
            });
        }
        Ok(())
    }

    /// How much of the sampling is done, 0 to 1, never falling. An estimate: how much there is to evaluate shows only
    /// on the way.
    #[must_use]
    pub fn fraction(&self) -> f32 {
        let samples = self.options.resolution.samples() as usize;
        // A dense coarse level, then six samples for each square of the finer grids: about what a round body takes.
        let cost = |step: usize| {
            let side = (samples / step) as f32;
            if step == coarse_step(samples) {
                side.powi(3)
            } else {
                6.0 * side.powi(2)
            }
        };
        let steps = || {
            std::iter::successors(Some(coarse_step(samples)), |step| {
                (step % 2 == 0).then_some(step / 2)
            })
        };
        let total: f32 = steps().map(cost).sum();
        let done: f32 = steps()
            .filter(|&step| step > self.lattice.step())
            .map(cost)
            .sum();
        match self.phase {
            Phase::Done => 1.0,
            Phase::Level => 0.95 * done / total,
            Phase::Follow(_) => 1.0 - 0.05 / (1.0 + self.follow_rounds as f32),
        }
    }

    /// Points evaluated so far.
    #[must_use]
    pub fn points_supplied(&self) -> usize {
        self.supplied
    }

    /// [`Self::surface`], and nothing else any more.
    ///
    /// # Errors
    /// As there.
    ///
    /// # Panics
    /// If points are still asked for.
    pub fn into_surface(self) -> Result<Surface, MeshError> {
        self.surface()
    }

    /// Extracts the closed surface.
    ///
    /// # Errors
    /// [`MeshError::Empty`] if the field has no surface, [`MeshError::TooComplex`] if it has too many triangles.
    ///
    /// # Panics
    /// If points are still asked for.
    pub fn surface(&self) -> Result<Surface, MeshError> {
        assert!(
            matches!(self.phase, Phase::Done),
            "every point asked for must be supplied first"
        );
        marching_cubes::extract(&self.lattice, &self.axis, self.options.iso)
    }

    /// Moves on as far as possible without further samples.
    fn advance(&mut self) {
        while self.pending.count() == 0 {
            match std::mem::replace(&mut self.phase, Phase::Done) {
                Phase::Level if self.lattice.step() > 1 => {
                    self.refine();
                    self.phase = Phase::Level;
                }
                Phase::Level => {
                    let cells = self.may_lead_on();
                    self.follow(cells);
                }
                Phase::Follow(cells) => self.follow(cells),
                Phase::Done => return,
            }
        }
    }

    /// The cells of the finest level through which the surface may leave those evaluated so far.
    fn may_lead_on(&self) -> Vec<Slot> {
        let iso = self.options.iso;
        let inside = self.lattice.samples(|value| value > iso);
        let leads_on = |brick: usize| {
            let rim = self.lattice.rim(brick);
            let cells = if rim.iter().all(|&word| word == 0) {
                rim
            } else {
                let crossed = Corners::of(&inside, &self.lattice.behind(brick)).divided();
                std::array::from_fn(|z| rim[z] & crossed[z])
            };
            slots(brick, cells)
        };
        let bricks: Vec<usize> = self.lattice.bricks_in_order().collect();
        let bricks = bricks.into_par_iter().with_min_len(BRICKS_TOGETHER);
        bricks.flat_map_iter(leads_on).collect()
    }

    /// Adds the neighbours into which the surface leaves `cells`, until they need samples that are not known.
    fn follow(&mut self, mut cells: Vec<Slot>) {
        self.follow_rounds += 1;
        let mut asked = Vec::new();
        while !cells.is_empty() && asked.is_empty() {
            let mut next = Vec::new();
            for cell in cells {
                let values = self.lattice.corner_values(cell);
                if crosses(&values, self.options.iso) {
                    for face in 0..6 {
                        let at = self.lattice.at(cell);
                        self.follow_face(at, face, &values, &mut next, &mut asked);
                    }
                }
            }
            cells = next;
        }
        self.pending = Asked::of_slots(asked);
        self.phase = if cells.is_empty() {
            Phase::Done
        } else {
            Phase::Follow(cells)
        };
    }

    /// Adds the block of cells behind a face through which the surface passes, if the neighbour there is missing.
    fn follow_face(
        &mut self,
        cell: Index3,
        face: usize,
        values: &[f32; 8],
        added: &mut Vec<Slot>,
        asked: &mut Vec<Slot>,
    ) {
        let (axis, side) = (face / 2, face % 2);
        let on_face = (0..8).filter(|index| index >> axis & 1 == side);
        if !crosses_any(on_face.map(|index| values[index]), self.options.iso) {
            return;
        }
        let mut neighbour = cell;
        // The border is outside all over, so the surface never leaves the volume.
        neighbour[axis] = if side == 1 {
            cell[axis] + 1
        } else {
            cell[axis] - 1
        };
        if self.lattice.has_cell(neighbour) {
            return;
        }
        let origin = neighbour.map(|along| along / FOLLOW_SIDE * FOLLOW_SIDE);
        for offset in 0..FOLLOW_SIDE.pow(3) {
            let near = [
                origin[0] + offset % FOLLOW_SIDE,
                origin[1] + offset / FOLLOW_SIDE % FOLLOW_SIDE,
                origin[2] + offset / (FOLLOW_SIDE * FOLLOW_SIDE),
            ];
            if near.iter().all(|&along| along < self.lattice.cells())
                && let Some(slot) = self.lattice.add_cell(near)
            {
                added.push(slot);
                asked.extend((0..8).filter_map(|index| self.lattice.ask(corner(near, index))));
            }
        }
    }
}

/// A sample on the border of the volume counts as outside, so that a body that touches the border is closed there: a
/// logit of the inside is mirrored at the iso level.
fn outside(logit: f32, iso: f32) -> f32 {
    if logit > iso {
        (2.0 * iso - logit).clamp(f32::MIN, iso)
    } else {
        logit
    }
}

//! How thin the walls of a body are, told by the samples it was drawn from: far cheaper than by its triangles.

use rayon::prelude::*;

use super::{FieldOptions, FieldSampler};
use crate::mesh::{
    lattice::{BRICK_SIDE, Index3, Lattice},
    surface::Surface,
    vector::{self, Vector},
    wall::{self, Measured, OPPOSITE_COSINE_MAX},
};

#[cfg(test)]
mod tests;

/// Places at which the wall is measured.
const PLACES: usize = 2_000;

/// Places that one thread looks at, at least.
const PART: usize = 64;

/// How far each look along a ray lies behind the last, in cells.
const STEP: f64 = 0.5;

/// The first look, which is taken nearer to the surface, so that a wall thinner than a step is seen.
const FIRST_STEP: f64 = 0.125;

/// How often the step in which a ray leaves the body is halved: down to a hundredth of a cell.
const HALVINGS: u32 = 6;

/// What tells how thick the walls under a surface are, when there is time to ask.
#[derive(Debug)]
pub struct Walls {
    options: FieldOptions,
    /// The finest level.
    lattice: Lattice,
    /// On the surface.
    places: Vec<[f32; 3]>,
}

impl FieldSampler {
    /// Keeps what tells how thick the walls under `surface` are: [`Self::surface`], perhaps without some of its components.
    /// What becomes of that surface later changes nothing.
    #[must_use]
    pub fn into_walls(self, surface: &Surface) -> Walls {
        Walls {
            options: self.options,
            lattice: self.lattice,
            places: places_on(surface.positions()),
        }
    }
}

impl Walls {
    /// The thickness of the thinnest wall, in the surface's unit; 0 if none could be measured.
    ///
    /// From 2,000 of its vertices the surface is followed against the normal to where the field falls below the iso level
    /// again; what counts is as where there are only triangles. Vertices lie closer where the surface is aslant of the grid,
    /// and count for less there.
    #[must_use]
    pub fn thinnest(&self) -> f64 {
        // Side by side where threads are free.
        let places = self.places.par_iter().with_min_len(PART);
        let measured: Vec<_> = places.filter_map(|&place| self.wall_at(place)).collect();
        let cell = 2.0 / f64::from(self.options.resolution.samples() - 1);
        wall::of_measured(measured, self.places.len()) * cell
    }

    /// How far the body is left again straight inward from a point of the surface, in cells, if it is.
    fn wall_at(&self, point: [f32; 3]) -> Option<Measured> {
        let last = self.lattice.cells() as f64;
        let start = vector::wide(point).map(|along| (along + 1.0) * 0.5 * last);
        let inward = self.rise(start)?;
        let at = |distance: f64| vector::add(start, vector::scale(inward, distance));
        let (mut inside, mut outside) = (0.0, FIRST_STEP);
        loop {
            let here = at(outside);
            if here.iter().any(|along| !(0.0..=last).contains(along)) {
                return None;
            }
            match self.look(here) {
                Look::Outside => break,
                Look::Inside => {
                    inside = outside;
                    outside += STEP;
                }
                Look::Clear { side } => {
                    inside = outside + beyond(side, here, inward);
                    outside = inside + STEP;
                }
            }
        }
        for _ in 0..HALVINGS {
            let middle = 0.5 * (inside + outside);
            match self.look(at(middle)) {
                Look::Outside => outside = middle,
                Look::Inside | Look::Clear { .. } => inside = middle,
            }
        }
        let cosine = self
            .rise(at(outside))
            .map_or(0.0, |other| vector::dot(inward, other));
        Some(Measured {
            distance: outside,
            is_opposite: cosine <= OPPOSITE_COSINE_MAX,
            // As many edges of the grid pass through a piece of the surface as it covers along the three axes.
            weight: 1.0 / inward.iter().map(|along| along.abs()).sum::<f64>(),
        })
    }

    /// What the samples around a point within the body and behind it say, the coordinates counted in cells.
    ///
    /// Where a sample is missing there is no surface, so that one gets no farther than within; and none in a cell that is
    /// none of the level, or has all its corners within: most cells that a ray passes are such.
    fn look(&self, point: Vector) -> Look {
        let iso = self.options.iso;
        let cell = self.cell_at(point);
        let Some(slot) = self.lattice.slot(cell) else {
            return Look::Clear { side: BRICK_SIDE };
        };
        if !self.lattice.is_cell(slot) {
            return Look::Clear { side: 1 };
        }
        let values = self.lattice.corner_values(slot);
        if values.iter().all(|&value| value > iso) {
            Look::Clear { side: 1 }
        } else if between(&values, cell, point) > f64::from(iso) {
            Look::Inside
        } else {
            Look::Outside
        }
    }

    /// The cell that a point lies in, the coordinates counted in cells.
    fn cell_at(&self, point: Vector) -> Index3 {
        let greatest = self.lattice.cells() - 1;
        point.map(|along| (along as usize).min(greatest))
    }

    /// The field at a point, coordinates counted in cells, from the samples around; not a number where some of them are
    /// not known, none where there are none at all.
    fn value(&self, point: Vector) -> Option<f64> {
        let cell = self.cell_at(point);
        let value = between(&self.lattice.values_around(cell)?, cell, point);
        // Samples that are not known are infinite or no numbers.
        Some(if value.is_finite() { value } else { f64::NAN })
    }

    /// The direction in which the field rises at a point of the surface, or none if it is flat there.
    fn rise(&self, point: Vector) -> Option<Vector> {
        const ASIDE: f64 = 0.5;
        let last = self.lattice.cells() as f64;
        let aside = |axis: usize, by: f64| {
            let mut there = point;
            there[axis] = (there[axis] + by).clamp(0.0, last);
            self.value(there).filter(|value| value.is_finite())
        };
        let here = self.value(point).filter(|value| value.is_finite());
        let along = |axis: usize| match (aside(axis, -ASIDE), here, aside(axis, ASIDE)) {
            (Some(before), _, Some(behind)) => behind - before,
            (None, Some(here), Some(behind)) => 2.0 * (behind - here),
            (Some(before), Some(here), None) => 2.0 * (here - before),
            _ => 0.0,
        };
        vector::unit([along(0), along(1), along(2)])
    }
}

/// Some of the vertices, the same for the same surface.
fn places_on(positions: &[[f32; 3]]) -> Vec<[f32; 3]> {
    /// The golden section: shares of a step that follow each other by it don't fall into step with anything.
    const GOLDEN: f64 = 0.618_033_988_749_894_9;
    let places = PLACES.min(positions.len());
    let step = positions.len() as f64 / places as f64;
    let place = |place: usize| {
        let place = place as f64;
        let vertex = (place + (GOLDEN * place).fract()) * step;
        positions[(vertex as usize).min(positions.len() - 1)]
    };
    (0..places).map(place).collect()
}

/// The field at a point of a cell, from the values at its corners.
fn between(values: &[f32; 8], cell: Index3, point: Vector) -> f64 {
    let [x, y, z] = std::array::from_fn(|axis| point[axis] - cell[axis] as f64);
    let value = |index: usize| f64::from(values[index]);
    let between = |from: f64, to: f64, share: f64| from + share * (to - from);
    let along_x = |first: usize| between(value(first), value(first + 1), x);
    let along_y = |first: usize| between(along_x(first), along_x(first + 2), y);
    between(along_y(0), along_y(4), z)
}

/// What is seen from within a body.
enum Look {
    Inside,
    Outside,
    /// No surface passes this cube of the grid, of so many cells a side.
    Clear {
        side: usize,
    },
}

/// How far it is from a point to the border of its cube of the grid, in a direction of length one.
fn beyond(side: usize, point: Vector, direction: Vector) -> f64 {
    /// Past the border by this much, so that the next look is beyond it.
    const PAST: f64 = 1e-6;
    let along = |axis: usize| {
        // Points lie in the grid, so what is whole of them is an index.
        let start = point[axis] as usize / side * side;
        let (within, speed) = (point[axis] - start as f64, direction[axis]);
        match speed {
            0.0 => f64::INFINITY,
            0.0.. => (side as f64 - within) / speed,
            _ => within / -speed,
        }
    };
    along(0).min(along(1)).min(along(2)) + PAST
}

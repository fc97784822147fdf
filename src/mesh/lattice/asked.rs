//! Samples of a level that are to be evaluated, brick by brick: where they lie, and what comes of it.

use rayon::prelude::*;

use super::{BRICKS_TOGETHER, BrickMask, Lattice, Slot, on_border, slots};

/// Samples of one brick.
#[derive(Debug, Clone, Copy)]
struct Part {
    brick: usize,
    samples: BrickMask,
    /// How many those of the parts before it are.
    first: usize,
}

impl Part {
    fn count(&self) -> usize {
        let words = self.samples.iter();
        words.map(|word| word.count_ones() as usize).sum()
    }
}

/// Samples to be evaluated, in the order of their bricks here and ascending in each.
#[derive(Debug, Default)]
pub(in crate::mesh) struct Asked {
    parts: Vec<Part>,
    count: usize,
}

impl Asked {
    /// Samples of bricks, each of which comes once.
    pub(in crate::mesh) fn of(bricks: impl Iterator<Item = (usize, BrickMask)>) -> Self {
        let mut asked = Self::default();
        for (brick, samples) in bricks {
            let part = Part {
                brick,
                samples,
                first: asked.count,
            };
            let count = part.count();
            // None of nothing, so that they are split evenly.
            if count > 0 {
                asked.parts.push(part);
                asked.count += count;
            }
        }
        asked
    }

    /// Samples one by one.
    pub(in crate::mesh) fn of_slots(mut samples: Vec<Slot>) -> Self {
        samples.sort_unstable();
        let of_bricks = samples.chunk_by(|a, b| a.brick() == b.brick());
        Self::of(of_bricks.map(|of_brick| {
            let mut mask = BrickMask::default();
            for slot in of_brick {
                mask[slot.offset() / 64] |= 1 << (slot.offset() % 64);
            }
            (of_brick[0].brick(), mask)
        }))
    }

    /// How many there are.
    pub(in crate::mesh) fn count(&self) -> usize {
        self.count
    }
}

impl Lattice {
    /// Writes where the samples lie; `axis` holds the coordinates of the finest grid.
    ///
    /// # Panics
    /// If there is not one place for each.
    pub(in crate::mesh) fn write_points(
        &self,
        asked: &Asked,
        axis: &[f32],
        points: &mut [[f32; 3]],
    ) {
        assert_eq!(points.len(), asked.count, "a place for each sample");
        spread(&asked.parts, points, &|part, points| {
            let along = self.coordinates(part.brick, axis);
            for (point, slot) in points.iter_mut().zip(slots(part.brick, part.samples)) {
                let [x, y, z] = slot.in_brick();
                *point = [along[0][x], along[1][y], along[2][z]];
            }
        });
    }

    /// Takes the values of samples, in their order; those on the border of the volume as `at_border` has them.
    ///
    /// # Panics
    /// If there is not one value for each.
    pub(in crate::mesh) fn supply(
        &mut self,
        asked: &Asked,
        values: &[f32],
        at_border: impl Fn(f32) -> f32 + Sync,
    ) {
        assert_eq!(values.len(), asked.count, "a value for each sample");
        let mut part_of = vec![None; self.bricks.len()];
        for part in &asked.parts {
            part_of[part.brick] = Some(part);
        }
        let cells = self.cells;
        let bricks = self.bricks.par_iter().zip(part_of);
        let known = self.values.par_iter_mut().zip(bricks);
        known
            .with_min_len(BRICKS_TOGETHER)
            .for_each(|(known, (brick, part))| {
                let Some(part) = part else { return };
                let samples = || slots(part.brick, part.samples);
                for (slot, &value) in samples().zip(&values[part.first..]) {
                    known[slot.offset()] = value;
                }
                // Most bricks lie within, and all their samples with them.
                if brick.touches_border(cells) {
                    for slot in samples().filter(|&slot| on_border(brick.at(slot), cells)) {
                        let value = &mut known[slot.offset()];
                        *value = at_border(*value);
                    }
                }
            });
    }
}

/// Has each part write to its own places, side by side where threads are free.
fn spread<T: Send>(parts: &[Part], places: &mut [T], write: &(impl Fn(&Part, &mut [T]) + Sync)) {
    if parts.len() <= BRICKS_TOGETHER {
        let mut rest = places;
        for part in parts {
            let own = rest.split_off_mut(..part.count());
            write(part, own.expect("a place for each sample"));
        }
        return;
    }
    let (some, others) = parts.split_at(parts.len() / 2);
    let (places, other_places) = places.split_at_mut(others[0].first - some[0].first);
    rayon::join(
        || spread(some, places, write),
        || spread(others, other_places, write),
    );
}

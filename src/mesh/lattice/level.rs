//! The samples of a new level: which its cells need, and what the level before knows of them.

use rayon::prelude::*;

use super::{
    BRICK_SAMPLES, BRICK_SIDE, BRICKS_TOGETHER, Brick, BrickMask, BrickValues, Index3, Lattice,
    Slot, block::LAST_COLUMN, corner, slots,
};

/// The samples of a layer whose coordinates are even.
const EVEN: u64 = 0x0055_0055_0055_0055;

impl Lattice {
    /// The samples at the corners of the cells of this level, by brick.
    pub(in crate::mesh) fn corners(&mut self) -> Vec<BrickMask> {
        // Cells reach by one sample into the bricks behind their own along each axis.
        let mut wanted = vec![[0; BRICK_SIDE]; self.bricks.len()];
        for own in 0..self.bricks.len() {
            let Brick { origin, cells, .. } = self.bricks[own];
            for (behind, mask) in reached(cells).into_iter().enumerate() {
                if mask != [0; BRICK_SIDE] {
                    let offset = corner([0; 3], behind).map(|along| along * BRICK_SIDE);
                    let first = std::array::from_fn(|axis| origin[axis] + offset[axis]);
                    let brick = self.brick_made(first);
                    wanted.resize(self.bricks.len(), [0; BRICK_SIDE]);
                    for (wanted, word) in wanted[brick].iter_mut().zip(mask) {
                        *wanted |= word;
                    }
                }
            }
        }
        wanted
    }

    /// Lays the values of all bricks: what the next coarser level knows of the `wanted` samples, by brick. Those that it
    /// doesn't know come back.
    pub(in crate::mesh) fn lay(
        &mut self,
        coarse: Option<&Self>,
        wanted: &[BrickMask],
    ) -> Vec<BrickMask> {
        let mut values = std::mem::take(&mut self.values);
        // Where the surface is followed, there will be some more.
        values.reserve(wanted.len() + wanted.len() / 16);
        let level = &*self;
        let laid = |(brick, &wanted): (usize, &BrickMask)| match coarse {
            Some(coarse) => level.known_to(coarse, brick, wanted),
            None => ([f32::NAN; BRICK_SAMPLES], wanted),
        };
        let mut unknown = Vec::new();
        let bricks = wanted.par_iter().enumerate();
        bricks
            .with_min_len(BRICKS_TOGETHER)
            .map(laid)
            .unzip_into_vecs(&mut values, &mut unknown);
        self.values = values;
        unknown
    }

    /// What the next coarser level knows of samples of a brick, and which of them it doesn't know.
    fn known_to(&self, coarse: &Self, brick: usize, wanted: BrickMask) -> (BrickValues, BrickMask) {
        let (mut values, mut unknown) = ([f32::NAN; BRICK_SAMPLES], wanted);
        let mut take = |slot: Slot, value| {
            values[slot.offset()] = value;
            unknown[slot.offset() / 64] &= !(1 << (slot.offset() % 64));
        };
        if self.touches_border(brick) {
            for slot in slots(brick, wanted) {
                if let Some(value) = self.coarse_value(coarse, self.at(slot)) {
                    take(slot, value);
                }
            }
        } else if let Some(first) = coarse.slot(self.origin(brick).map(|along| along / 2)) {
            // Within the volume the coarser level has every second sample along each axis, an eighth of one of its bricks.
            let even = |z: usize| {
                if z.is_multiple_of(2) {
                    wanted[z] & EVEN
                } else {
                    0
                }
            };
            for slot in slots(brick, std::array::from_fn(even)) {
                let [x, y, z] = slot.in_brick().map(|along| along / 2);
                let offset = first.offset() + x + BRICK_SIDE * (y + BRICK_SIDE * z);
                if let Some(value) = coarse.value_at(Slot::new(first.brick(), offset)) {
                    take(slot, value);
                }
            }
        }
        (values, unknown)
    }

    /// The value of a sample that the next coarser level knows.
    fn coarse_value(&self, coarse: &Self, sample: Index3) -> Option<f32> {
        let mut parent = [0; 3];
        for (along, parent) in sample.into_iter().zip(&mut parent) {
            *parent = along.div_ceil(2);
            if coarse.finest(*parent) != self.finest(along) {
                return None;
            }
        }
        coarse.value(parent)
    }
}

/// The samples at the corners of the cells of a brick, in the brick itself and the seven behind it (bit 0 of the
/// position: behind along x; bit 1: y; bit 2: z).
fn reached(cells: BrickMask) -> [BrickMask; 8] {
    let mut reached = [[0; BRICK_SIDE]; 8];
    // Along each axis a cell has two corners: where it is and one further, which may lie in the next brick.
    reached[1] = cells.map(|word| (word & LAST_COLUMN) >> 7);
    reached[0] = cells.map(|word| word | (word & !LAST_COLUMN) << 1);
    for x in 0..2 {
        reached[x + 2] = reached[x].map(|word| word >> 56);
        reached[x] = reached[x].map(|word| word | word << 8);
    }
    for xy in 0..4 {
        reached[xy + 4][0] = reached[xy][BRICK_SIDE - 1];
        for layer in (1..BRICK_SIDE).rev() {
            reached[xy][layer] |= reached[xy][layer - 1];
        }
    }
    reached
}

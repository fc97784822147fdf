//! A brick with the samples one further along each axis: all corners of all its cells, so that cells are looked at many
//! at a time, by bits.

use super::{BRICK_SIDE, BrickMask, Index3, Lattice, NO_BRICK, corner};

/// Samples along an axis of a block.
pub(in crate::mesh) const BLOCK_SIDE: usize = BRICK_SIDE + 1;

/// One bit (its number is x) for each sample of a block, by z and y.
pub(in crate::mesh) type BlockMask = [[u16; BLOCK_SIDE]; BLOCK_SIDE];

/// The samples of a brick and those behind them.
pub(in crate::mesh) struct Block {
    /// By z, y and x; as [`super::Brick::values`], not a number where no brick is.
    values: [[[f32; BLOCK_SIDE]; BLOCK_SIDE]; BLOCK_SIDE],
}

impl Block {
    /// The value of a sample, counted from the block's least one.
    pub(in crate::mesh) fn value(&self, [x, y, z]: Index3) -> f32 {
        self.values[z][y][x]
    }

    /// Where the values pass a test.
    pub(in crate::mesh) fn samples(&self, test: impl Fn(f32) -> bool) -> BlockMask {
        self.values.map(|layer| {
            layer.map(|row| {
                let bits = row.iter().enumerate();
                bits.fold(0, |mask, (x, &value)| mask | u16::from(test(value)) << x)
            })
        })
    }
}

/// The cells with a corner in a mask.
pub(in crate::mesh) fn any_corner(mask: &BlockMask) -> BrickMask {
    of_corners(mask, |a, b| a | b)
}

/// The cells with corners both in a mask and out of it.
pub(in crate::mesh) fn divided(mask: &BlockMask) -> BrickMask {
    let (any, all) = (any_corner(mask), of_corners(mask, |a, b| a & b));
    std::array::from_fn(|z| any[z] & !all[z])
}

/// Joins the bits of the eight corners of each cell.
fn of_corners(mask: &BlockMask, join: impl Fn(u16, u16) -> u16) -> BrickMask {
    std::array::from_fn(|z| {
        let rows: [u16; BLOCK_SIDE] = std::array::from_fn(|y| {
            let row = join(mask[z][y], mask[z + 1][y]);
            join(row, row >> 1)
        });
        (0..BRICK_SIDE).fold(0, |word, y| {
            word | u64::from(join(rows[y], rows[y + 1]) & 0xff) << (BRICK_SIDE * y)
        })
    })
}

/// The row of a layer's word: one bit for each x.
pub(in crate::mesh) fn row(word: u64, y: usize) -> u16 {
    (word >> (BRICK_SIDE * y)) as u16 & 0xff
}

impl Lattice {
    /// A brick and the seven behind it (bit 0 of the position: along x; bit 1: y; bit 2: z).
    pub(in crate::mesh) fn behind(&self, brick: usize) -> [Option<usize>; 8] {
        std::array::from_fn(|position| self.brick_at(corner(self.place(brick), position).map(Some)))
    }

    /// The place of a brick among bricks.
    fn place(&self, brick: usize) -> Index3 {
        self.bricks[brick].origin.map(|along| along / BRICK_SIDE)
    }

    /// The brick at a place among bricks, if there is one.
    fn brick_at(&self, place: [Option<usize>; 3]) -> Option<usize> {
        let [Some(x), Some(y), Some(z)] =
            place.map(|along| along.filter(|&along| along < self.bricks_per_axis))
        else {
            return None;
        };
        let brick = self.table[x + self.bricks_per_axis * (y + self.bricks_per_axis * z)];
        (brick != NO_BRICK).then_some(brick as usize)
    }

    /// The block of a brick.
    pub(in crate::mesh) fn block(&self, brick: usize) -> Block {
        let mut values = [[[f32::NAN; BLOCK_SIDE]; BLOCK_SIDE]; BLOCK_SIDE];
        for (position, behind) in self.behind(brick).into_iter().enumerate() {
            let Some(behind) = behind else { continue };
            let from = &self.bricks[behind].values;
            let first = corner([0; 3], position).map(|along| along * BRICK_SIDE);
            let end = first.map(|along| BLOCK_SIDE.min(along + BRICK_SIDE));
            for (z, layer) in values[first[2]..end[2]].iter_mut().enumerate() {
                for (y, row) in layer[first[1]..end[1]].iter_mut().enumerate() {
                    let start = BRICK_SIDE * (y + BRICK_SIDE * z);
                    let row = &mut row[first[0]..end[0]];
                    row.copy_from_slice(&from[start..start + row.len()]);
                }
            }
        }
        Block { values }
    }

    /// The cells of this level in a brick.
    pub(in crate::mesh) fn cells_of(&self, brick: usize) -> BrickMask {
        self.bricks[brick].cells
    }

    /// The cells of a brick for which a neighbour along an axis is none of this level.
    pub(in crate::mesh) fn rim(&self, brick: usize) -> BrickMask {
        const FIRST_COLUMN: u64 = 0x0101_0101_0101_0101;
        let place = self.place(brick);
        let beside = |axis: usize, forward: bool| {
            let mut place = place.map(Some);
            place[axis] = match (forward, place[axis]) {
                (true, along) => along.map(|along| along + 1),
                (false, along) => along.and_then(|along| along.checked_sub(1)),
            };
            self.brick_at(place)
                .map_or([0; BRICK_SIDE], |brick| self.bricks[brick].cells)
        };
        let [x_before, x_behind, y_before, y_behind, z_before, z_behind] =
            std::array::from_fn(|face| beside(face / 2, face % 2 == 1));
        let cells = self.bricks[brick].cells;
        std::array::from_fn(|z| {
            let word = cells[z];
            let below = if z > 0 {
                cells[z - 1]
            } else {
                z_before[BRICK_SIDE - 1]
            };
            let above = cells.get(z + 1).copied().unwrap_or(z_behind[0]);
            let surrounded = ((word & !(FIRST_COLUMN << 7)) << 1
                | (x_before[z] >> 7 & FIRST_COLUMN))
                & ((word >> 1) & !(FIRST_COLUMN << 7) | (x_behind[z] & FIRST_COLUMN) << 7)
                & (word << 8 | y_before[z] >> 56)
                & (word >> 8 | y_behind[z] << 56)
                & below
                & above;
            word & !surrounded
        })
    }

    /// Adds the eight halves of each cell of a brick of the next coarser level, whose least sample there is `origin`.
    pub(in crate::mesh) fn add_halves(&mut self, origin: Index3, parents: BrickMask) {
        /// Each of four bits twice.
        const TWICE: [u64; 16] = [
            0, 3, 12, 15, 48, 51, 60, 63, 192, 195, 204, 207, 240, 243, 252, 255,
        ];
        for part in 0..8 {
            let [x, y, z] = corner([0; 3], part);
            let first = [x, y, z].map(|half| half * BRICK_SIDE);
            let first = std::array::from_fn(|axis| 2 * origin[axis] + first[axis]);
            let within = self.within(first);
            let halves: BrickMask = std::array::from_fn(|layer| {
                let word = parents[4 * z + layer / 2];
                (0..BRICK_SIDE).fold(0, |halves, line| {
                    let four = row(word, 4 * y + line / 2) >> (4 * x) & 15;
                    halves | TWICE[four as usize] << (BRICK_SIDE * line)
                }) & within[layer]
            });
            if halves != [0; BRICK_SIDE] {
                let brick = self.slot_made(first).brick();
                for (word, halves) in self.bricks[brick].cells.iter_mut().zip(halves) {
                    *word |= halves;
                }
            }
        }
    }

    /// The cells of a brick with this least sample that lie in the volume.
    fn within(&self, first: Index3) -> BrickMask {
        let [x, y, z] = first.map(|along| self.cells.saturating_sub(along).min(BRICK_SIDE));
        let line = (1u64 << x) - 1;
        let layer = (0..y).fold(0, |layer, y| layer | line << (BRICK_SIDE * y));
        std::array::from_fn(|along| if along < z { layer } else { 0 })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mesh::lattice::slots;

    /// A level with the cells and the values that a seed gives.
    fn lattice(samples: usize, cells: &[Index3]) -> Lattice {
        let mut lattice = Lattice::new(samples, 1);
        for &cell in cells {
            lattice.add_cell(cell);
            for index in 0..8 {
                if let Some(slot) = lattice.ask(corner(cell, index)) {
                    let [x, y, z] = lattice.at(slot);
                    lattice.set(slot, ((x * 7 + y * 13 + z * 29) % 11) as f32 - 5.0);
                }
            }
        }
        lattice
    }

    fn cells_of(lattice: &Lattice, brick: usize, mask: BrickMask) -> Vec<Index3> {
        slots(brick, mask).map(|slot| lattice.at(slot)).collect()
    }

    proptest! {
        #[test]
        fn many_cells_at_a_time_are_what_each_is_by_itself(
            cells in prop::collection::vec(prop::array::uniform3(0usize..19), 1..200),
        ) {
            let lattice = lattice(20, &cells);
            let neighbour = |cell: Index3, face: usize| {
                let mut there = cell;
                there[face / 2] = (cell[face / 2] + face % 2).checked_sub(1 - face % 2)?;
                Some(there).filter(|there| there.iter().all(|&along| along < 19))
            };
            for brick in lattice.bricks_in_order() {
                let block = lattice.block(brick);
                let level = cells_of(&lattice, brick, lattice.cells_of(brick));
                let masked = |mask: BrickMask| {
                    let own = lattice.cells_of(brick);
                    cells_of(&lattice, brick, std::array::from_fn(|z| mask[z] & own[z]))
                };
                let expected = |test: &dyn Fn([f32; 8]) -> bool| -> Vec<Index3> {
                    let passes = |cell: &&Index3| test(lattice.corner_values(lattice.slot(**cell).unwrap()));
                    level.iter().filter(passes).copied().collect()
                };
                let above = block.samples(|value| value > 0.0);
                let near = block.samples(|value| value.abs() < 1.5);
                prop_assert_eq!(
                    masked(divided(&above)),
                    expected(&|values| values.iter().any(|&v| v > 0.0) && values.iter().any(|&v| v <= 0.0))
                );
                prop_assert_eq!(masked(any_corner(&near)), expected(&|values| values.iter().any(|v| v.abs() < 1.5)));
                let alone = |cell: &&Index3| {
                    (0..6).any(|face| neighbour(**cell, face).is_none_or(|there| !lattice.has_cell(there)))
                };
                let rim: Vec<_> = level.iter().filter(alone).copied().collect();
                prop_assert_eq!(cells_of(&lattice, brick, lattice.rim(brick)), rim);
            }
        }

        #[test]
        fn halves_are_those_of_each_cell_within_the_volume(
            cells in prop::collection::vec(prop::array::uniform3(0usize..17), 1..60),
            // An odd number of cells: halves of the last ones lie outside.
            samples in 33usize..36,
        ) {
            let mut coarse = Lattice::new(samples, 2);
            let mut expected = Lattice::new(samples, 1);
            let mut halved = Lattice::new(samples, 1);
            let within = coarse.cells;
            for cell in cells.into_iter().filter(|cell| cell.iter().all(|&along| along < within)) {
                coarse.add_cell(cell);
                for half in 0..8 {
                    let half = corner(cell.map(|along| 2 * along), half);
                    if half.iter().all(|&along| along < expected.cells) {
                        expected.add_cell(half);
                    }
                }
            }
            for brick in coarse.bricks_in_order() {
                halved.add_halves(coarse.bricks[brick].origin, coarse.cells_of(brick));
            }
            let places = |lattice: &Lattice| lattice.cells_in_order().map(|slot| lattice.at(slot)).collect::<Vec<_>>();
            prop_assert_eq!(places(&halved), places(&expected));
        }
    }
}

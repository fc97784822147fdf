//! A brick with the samples one further along each axis: all corners of all its cells, so that cells are looked at many
//! at a time, by bits.

use rayon::prelude::*;

use super::{
    BRICK_SIDE, BRICKS_TOGETHER, BrickMask, BrickValues, Index3, Lattice, NO_BRICK, Slot, corner,
};

/// Samples along an axis of a brick and behind it.
pub(in crate::mesh) const BLOCK_SIDE: usize = BRICK_SIDE + 1;

/// Bits with the least x.
pub(in crate::mesh) const FIRST_COLUMN: u64 = 0x0101_0101_0101_0101;
/// Bits with the greatest x.
pub(super) const LAST_COLUMN: u64 = FIRST_COLUMN << 7;

/// Four words for each layer of samples: the samples themselves and those beside them along x, y and both.
type Beside = [[u64; 4]; BLOCK_SIDE];

/// Which corners of the cells of a brick are in a mask of samples.
pub(in crate::mesh) struct Corners {
    /// By z; one bit for each cell, those of the cells' corners without z (bit 0 of the position is x, bit 1 is y).
    layers: Beside,
}

impl Corners {
    /// From the masks of all bricks, and the brick and the seven behind it as [`Lattice::behind`] has them.
    pub(in crate::mesh) fn of(masks: &[BrickMask], behind: &[Option<usize>; 8]) -> Self {
        let masks = masks_at(masks, behind);
        let layers = std::array::from_fn(|z| {
            let [own, x, y, xy] =
                std::array::from_fn(|xy| masks[xy + 4 * (z / BRICK_SIDE)][z % BRICK_SIDE]);
            let one_x =
                |word: u64, next: u64| word >> 1 & !LAST_COLUMN | (next & FIRST_COLUMN) << 7;
            let one_y = |word: u64, next: u64| word >> BRICK_SIDE | next << (64 - BRICK_SIDE);
            let at_y = one_y(own, y);
            [own, one_x(own, x), at_y, one_x(at_y, one_y(x, xy))]
        });
        Self { layers }
    }

    /// The cells with a corner in the mask.
    pub(in crate::mesh) fn any(&self) -> BrickMask {
        self.joined(|a, b| a | b)
    }

    /// The cells with corners both in the mask and out of it.
    pub(in crate::mesh) fn divided(&self) -> BrickMask {
        let (any, all) = (self.any(), self.joined(|a, b| a & b));
        std::array::from_fn(|z| any[z] & !all[z])
    }

    /// One bit for each corner of a cell that is in the mask.
    pub(in crate::mesh) fn of_cell(&self, cell: Slot) -> u8 {
        let (z, bit) = (cell.offset() / 64, cell.offset() % 64);
        let four = |z: usize| {
            let [own, x, y, xy] = self.layers[z].map(|word| (word >> bit & 1) as u8);
            own | x << 1 | y << 2 | xy << 3
        };
        four(z) | four(z + 1) << 4
    }

    /// The edges along x, y and z, by their start in the brick, with one end in the mask and the other out of it.
    pub(in crate::mesh) fn divided_edges(&self) -> [BrickMask; 3] {
        let layers = &self.layers;
        [
            std::array::from_fn(|z| layers[z][0] ^ layers[z][1]),
            std::array::from_fn(|z| layers[z][0] ^ layers[z][2]),
            std::array::from_fn(|z| layers[z][0] ^ layers[z + 1][0]),
        ]
    }

    /// Joins the bits of the eight corners of each cell.
    fn joined(&self, join: impl Fn(u64, u64) -> u64) -> BrickMask {
        let layers = self
            .layers
            .map(|[own, x, y, xy]| join(join(own, x), join(y, xy)));
        std::array::from_fn(|z| join(layers[z], layers[z + 1]))
    }
}

/// The edges along x, y and z, by their start in a brick, around which the four cells of a mask are, `join`ed: any of them or
/// all. `before` is the brick and the seven before it, as [`Lattice::before`] has them.
pub(in crate::mesh) fn edges_of_cells(
    masks: &[BrickMask],
    before: &[Option<usize>; 8],
    join: impl Fn(u64, u64) -> u64,
) -> [BrickMask; 3] {
    let masks = masks_at(masks, before);
    // From the layer before the brick's first.
    let layers: Beside = std::array::from_fn(|z| {
        let (half, z) = if z == 0 {
            (4, BRICK_SIDE - 1)
        } else {
            (0, z - 1)
        };
        let [own, x, y, xy] = std::array::from_fn(|xy| masks[xy + half][z]);
        let one_x = |word: u64, last: u64| (word & !LAST_COLUMN) << 1 | (last & LAST_COLUMN) >> 7;
        let one_y = |word: u64, last: u64| word << BRICK_SIDE | last >> (64 - BRICK_SIDE);
        let at_y = one_y(own, y);
        [own, one_x(own, x), at_y, one_x(at_y, one_y(x, xy))]
    });
    let joined = |[a, b, c, d]: [u64; 4]| join(join(a, b), join(c, d));
    let beside = |z: usize, to: usize| {
        let (here, last) = (&layers[z + 1], &layers[z]);
        joined([here[0], here[to], last[0], last[to]])
    };
    [
        std::array::from_fn(|z| beside(z, 2)),
        std::array::from_fn(|z| beside(z, 1)),
        std::array::from_fn(|z| joined(layers[z + 1])),
    ]
}

fn masks_at(masks: &[BrickMask], bricks: &[Option<usize>; 8]) -> [BrickMask; 8] {
    bricks.map(|brick| brick.map_or([0; BRICK_SIDE], |brick| masks[brick]))
}

/// The row of a layer's word: one bit for each x.
fn row(word: u64, y: usize) -> u16 {
    (word >> (BRICK_SIDE * y)) as u16 & 0xff
}

/// Bits from numbers, each 0 or 1.
fn packed(row: [u8; BRICK_SIDE]) -> u64 {
    /// Moves the lowest bit of each byte to a bit of its own in the highest byte.
    const GATHER: u64 = 0x0102_0408_1020_4080;
    u64::from_le_bytes(row).wrapping_mul(GATHER) >> 56
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

    /// A brick and the seven before it (bit 0 of the position: along x; bit 1: y; bit 2: z).
    pub(in crate::mesh) fn before(&self, brick: usize) -> [Option<usize>; 8] {
        let place = self.place(brick);
        std::array::from_fn(|position| {
            let back = corner([0; 3], position);
            self.brick_at(std::array::from_fn(|axis| {
                place[axis].checked_sub(back[axis])
            }))
        })
    }

    /// Where the values pass a test, brick by brick.
    pub(in crate::mesh) fn samples(&self, test: impl Fn(f32) -> bool + Sync) -> Vec<BrickMask> {
        let of_brick = |values: &BrickValues| -> BrickMask {
            let (rows, _) = values.as_chunks::<BRICK_SIDE>();
            std::array::from_fn(|z| {
                let rows = &rows[BRICK_SIDE * z..BRICK_SIDE * (z + 1)];
                rows.iter().rev().fold(0, |word, row| {
                    word << BRICK_SIDE | packed(row.map(|value| u8::from(test(value))))
                })
            })
        };
        let bricks = self.values.par_iter();
        bricks.with_min_len(BRICKS_TOGETHER).map(of_brick).collect()
    }

    /// The samples at the corners of any cell, infinite or not a number where they are not known; none if nothing near the
    /// cell is.
    pub(in crate::mesh) fn values_around(&self, cell: Index3) -> Option<[f32; 8]> {
        const INNER: usize = BRICK_SIDE - 1;
        let slot = self.slot(cell)?;
        let offset = slot.offset();
        Some(if slot.in_brick().iter().all(|&along| along < INNER) {
            let values = self.values(slot.brick());
            std::array::from_fn(|index| {
                let [x, y, z] = corner([0; 3], index);
                values[offset + x + BRICK_SIDE * (y + BRICK_SIDE * z)]
            })
        } else {
            std::array::from_fn(|index| self.value(corner(cell, index)).unwrap_or(f32::NAN))
        })
    }

    /// The coordinates along x, y and z of the samples of a brick and those behind it; `axis` holds those of the finest
    /// grid.
    pub(in crate::mesh) fn coordinates(
        &self,
        brick: usize,
        axis: &[f32],
    ) -> [[f32; BLOCK_SIDE]; 3] {
        // The last sample is moved onto the border.
        self.origin(brick)
            .map(|first| std::array::from_fn(|sample| axis[self.finest(first + sample)]))
    }

    /// The cells of this level in a brick.
    pub(in crate::mesh) fn cells_of(&self, brick: usize) -> BrickMask {
        self.bricks[brick].cells
    }

    /// The cells of a brick for which a neighbour along an axis is none of this level.
    pub(in crate::mesh) fn rim(&self, brick: usize) -> BrickMask {
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
            let surrounded = ((word & !LAST_COLUMN) << 1 | (x_before[z] >> 7 & FIRST_COLUMN))
                & ((word >> 1) & !LAST_COLUMN | (x_behind[z] & FIRST_COLUMN) << 7)
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
                let brick = self.brick_made(first);
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
            let above = lattice.samples(|value| value > 0.0);
            let near = lattice.samples(|value| value.abs() < 1.5);
            let cell_masks: Vec<_> = (0..lattice.brick_count()).map(|brick| lattice.cells_of(brick)).collect();
            for brick in lattice.bricks_in_order() {
                let behind = lattice.behind(brick);
                let (above, near) = (Corners::of(&above, &behind), Corners::of(&near, &behind));
                let level = cells_of(&lattice, brick, lattice.cells_of(brick));
                let masked = |mask: BrickMask| {
                    let own = lattice.cells_of(brick);
                    cells_of(&lattice, brick, std::array::from_fn(|z| mask[z] & own[z]))
                };
                let expected = |test: &dyn Fn([f32; 8]) -> bool| -> Vec<Index3> {
                    let passes = |cell: &&Index3| test(lattice.corner_values(lattice.slot(**cell).unwrap()));
                    level.iter().filter(passes).copied().collect()
                };
                prop_assert_eq!(
                    masked(above.divided()),
                    expected(&|values| values.iter().any(|&v| v > 0.0) && values.iter().any(|&v| v <= 0.0))
                );
                prop_assert_eq!(masked(near.any()), expected(&|values| values.iter().any(|v| v.abs() < 1.5)));
                let alone = |cell: &&Index3| {
                    (0..6).any(|face| neighbour(**cell, face).is_none_or(|there| !lattice.has_cell(there)))
                };
                let rim: Vec<_> = level.iter().filter(alone).copied().collect();
                prop_assert_eq!(cells_of(&lattice, brick, lattice.rim(brick)), rim);
                let before = lattice.before(brick);
                let of_any = edges_of_cells(&cell_masks, &before, |a, b| a | b);
                let of_all = edges_of_cells(&cell_masks, &before, |a, b| a & b);
                for slot in slots(brick, [!0; BRICK_SIDE]) {
                    let start = lattice.at(slot);
                    for axis in 0..3 {
                        let around = (0..8).filter(|back| back >> axis & 1 == 0).filter(|&back| {
                            let back = corner([0; 3], back);
                            let cell = [0, 1, 2].map(|axis| start[axis].wrapping_sub(back[axis]));
                            cell.iter().all(|&along| along < 19) && lattice.has_cell(cell)
                        });
                        let around = around.count();
                        let is_in = |edges: &[BrickMask; 3]| edges[axis][slot.offset() / 64] >> (slot.offset() % 64) & 1 == 1;
                        prop_assert_eq!(is_in(&of_any), around > 0);
                        prop_assert_eq!(is_in(&of_all), around == 4);
                    }
                }
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

//! Field samples on one level of the grid, kept in bricks so that only the neighbourhood of the surface takes memory.

/// Samples along an axis of a brick. 8³ samples are 2 KiB: small enough that a brick the surface only grazes wastes
/// little, large enough that the table of bricks stays at 1 MiB for 512³ samples.
pub(super) const BRICK_SIDE: usize = 8;
const BRICK_SAMPLES: usize = BRICK_SIDE * BRICK_SIDE * BRICK_SIDE;
const NO_BRICK: u32 = u32::MAX;

mod asked;
pub(super) mod block;
mod level;

pub(super) use asked::Asked;

/// Bricks that one thread goes through by itself: sharing out fewer costs what it gains.
pub(super) const BRICKS_TOGETHER: usize = if cfg!(test) { 2 } else { 64 };

/// A sample or a cell (named by its least corner), counted along x, y and z.
pub(super) type Index3 = [usize; 3];

/// The eight corners of a cell: bit 0 of the position is x, bit 1 is y, bit 2 is z.
pub(super) fn corner(cell: Index3, corner: usize) -> Index3 {
    [
        cell[0] + (corner & 1),
        cell[1] + (corner >> 1 & 1),
        cell[2] + (corner >> 2 & 1),
    ]
}

#[derive(Debug, Clone)]
struct Brick {
    /// The cells that belong to this level.
    cells: BrickMask,
    /// Its least sample.
    origin: Index3,
}

/// One bit for each sample or cell of a brick: a word for each z layer, bit `x + 8 y`.
pub(super) type BrickMask = [u64; BRICK_SIDE];

/// The samples of a brick; x runs fastest. Not a number: not known; infinite: asked for one by one and not yet known.
type BrickValues = [f32; BRICK_SAMPLES];

/// One level: every `step`-th sample of the finest grid, the last one moved onto the border of the volume.
#[derive(Debug, Clone)]
pub(super) struct Lattice {
    step: usize,
    finest_last: usize,
    cells: usize,
    bricks_per_axis: usize,
    table: Vec<u32>,
    bricks: Vec<Brick>,
    /// By brick; none of them while the bricks of a level are being made.
    values: Vec<BrickValues>,
}

/// Where a sample is kept, and the cell of which it is the least corner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Slot(u32);

impl Slot {
    pub(super) fn new(brick: usize, offset: usize) -> Self {
        Self((brick * BRICK_SAMPLES + offset) as u32)
    }

    pub(super) fn brick(self) -> usize {
        self.0 as usize / BRICK_SAMPLES
    }

    pub(super) fn offset(self) -> usize {
        self.0 as usize % BRICK_SAMPLES
    }

    /// Counted from the brick's least sample.
    pub(super) fn in_brick(self) -> Index3 {
        let offset = self.offset();
        [
            offset % BRICK_SIDE,
            offset / BRICK_SIDE % BRICK_SIDE,
            offset / (BRICK_SIDE * BRICK_SIDE),
        ]
    }
}

impl Brick {
    /// The sample or cell at a slot of it.
    fn at(&self, slot: Slot) -> Index3 {
        let within = slot.in_brick();
        std::array::from_fn(|axis| self.origin[axis] + within[axis])
    }

    /// Whether it has samples on the border of a volume of so many cells.
    fn touches_border(&self, cells: usize) -> bool {
        let mut origin = self.origin.iter();
        origin.any(|&along| along == 0 || along + BRICK_SIDE > cells)
    }
}

/// Whether a sample lies on the border of a volume of so many cells.
pub(super) fn on_border(sample: Index3, cells: usize) -> bool {
    sample.iter().any(|&along| along == 0 || along == cells)
}

impl Lattice {
    /// A level without any sample yet. `finest_samples` counts along an axis of the finest grid.
    pub(super) fn new(finest_samples: usize, step: usize) -> Self {
        let finest_last = finest_samples - 1;
        let cells = finest_last.div_ceil(step);
        let bricks_per_axis = (cells + 1).div_ceil(BRICK_SIDE);
        Self {
            step,
            finest_last,
            cells,
            bricks_per_axis,
            table: vec![NO_BRICK; bricks_per_axis * bricks_per_axis * bricks_per_axis],
            bricks: Vec::new(),
            values: Vec::new(),
        }
    }

    /// Distance between samples, in samples of the finest grid.
    pub(super) fn step(&self) -> usize {
        self.step
    }

    /// Cells along an axis; samples are one more.
    pub(super) fn cells(&self) -> usize {
        self.cells
    }

    /// The coordinate along an axis of the finest grid.
    pub(super) fn finest(&self, along: usize) -> usize {
        (along * self.step).min(self.finest_last)
    }

    /// The sample or cell at a slot.
    pub(super) fn at(&self, slot: Slot) -> Index3 {
        self.bricks[slot.brick()].at(slot)
    }

    /// The least sample of a brick.
    pub(super) fn origin(&self, brick: usize) -> Index3 {
        self.bricks[brick].origin
    }

    /// Whether a brick has samples on the border of the volume.
    pub(super) fn touches_border(&self, brick: usize) -> bool {
        self.bricks[brick].touches_border(self.cells)
    }

    fn table_index(&self, index: Index3) -> usize {
        let [x, y, z] = index.map(|along| along / BRICK_SIDE);
        x + self.bricks_per_axis * (y + self.bricks_per_axis * z)
    }

    /// Where a sample is kept, if anything near it is.
    pub(super) fn slot(&self, sample: Index3) -> Option<Slot> {
        let brick = self.table[self.table_index(sample)];
        let [x, y, z] = sample.map(|along| along % BRICK_SIDE);
        (brick != NO_BRICK)
            .then(|| Slot::new(brick as usize, x + BRICK_SIDE * (y + BRICK_SIDE * z)))
    }

    fn slot_made(&mut self, sample: Index3) -> Slot {
        self.brick_made(sample);
        self.values
            .resize(self.bricks.len(), [f32::NAN; BRICK_SAMPLES]);
        self.slot(sample).expect("the brick was made above")
    }

    /// The brick of a sample, whose values are still to be laid if it was made for it.
    fn brick_made(&mut self, sample: Index3) -> usize {
        let entry = self.table_index(sample);
        if self.table[entry] == NO_BRICK {
            self.table[entry] = self.bricks.len() as u32;
            self.bricks.push(Brick {
                cells: [0; BRICK_SIDE],
                origin: sample.map(|along| along / BRICK_SIDE * BRICK_SIDE),
            });
        }
        self.table[entry] as usize
    }

    /// The value of a sample, if it is known.
    pub(super) fn value(&self, sample: Index3) -> Option<f32> {
        self.value_at(self.slot(sample)?)
    }

    /// The value of the sample at a slot, if it is known.
    pub(super) fn value_at(&self, slot: Slot) -> Option<f32> {
        Some(self.values[slot.brick()][slot.offset()]).filter(|value| value.is_finite())
    }

    /// The values of a brick, by slot.
    pub(super) fn values(&self, brick: usize) -> &[f32; BRICK_SAMPLES] {
        &self.values[brick]
    }

    /// Sets the value of a sample.
    #[cfg(test)]
    pub(super) fn set(&mut self, slot: Slot, value: f32) {
        self.values[slot.brick()][slot.offset()] = value;
    }

    /// Marks a sample as asked for and tells its slot; none if it was already, or is known.
    pub(super) fn ask(&mut self, sample: Index3) -> Option<Slot> {
        let slot = self.slot_made(sample);
        let value = &mut self.values[slot.brick()][slot.offset()];
        let fresh = value.is_nan();
        if fresh {
            *value = f32::INFINITY;
        }
        fresh.then_some(slot)
    }

    /// Adds a cell to this level and tells its slot; none if it belonged to it already.
    pub(super) fn add_cell(&mut self, cell: Index3) -> Option<Slot> {
        let slot = self.slot_made(cell);
        let word = &mut self.bricks[slot.brick()].cells[slot.offset() / 64];
        let bit = 1 << (slot.offset() % 64);
        let fresh = *word & bit == 0;
        *word |= bit;
        fresh.then_some(slot)
    }

    /// Whether a cell belongs to this level.
    pub(super) fn has_cell(&self, cell: Index3) -> bool {
        self.slot(cell).is_some_and(|slot| self.is_cell(slot))
    }

    /// The same of the cell of a slot.
    pub(super) fn is_cell(&self, slot: Slot) -> bool {
        self.bricks[slot.brick()].cells[slot.offset() / 64] >> (slot.offset() % 64) & 1 == 1
    }

    /// The values at the corners of a cell of this level, all of which must be known.
    pub(super) fn corner_values(&self, cell: Slot) -> [f32; 8] {
        let values = self.values_around(self.at(cell));
        let values = values.expect("a slot is one of a brick");
        debug_assert!(
            values.iter().all(|value| value.is_finite()),
            "every corner of a cell is evaluated before it is used"
        );
        values
    }

    /// Every cell of this level, brick by brick: an order that does not depend on when cells were added.
    #[cfg(test)]
    pub(super) fn cells_in_order(&self) -> impl Iterator<Item = Slot> {
        self.bricks_in_order()
            .flat_map(|brick| slots(brick, self.bricks[brick].cells))
    }

    /// The numbers of the bricks, in an order that does not depend on when they were made.
    pub(super) fn bricks_in_order(&self) -> impl Iterator<Item = usize> {
        self.table
            .iter()
            .filter(|&&brick| brick != NO_BRICK)
            .map(|&brick| brick as usize)
    }

    /// How many bricks there are.
    pub(super) fn brick_count(&self) -> usize {
        self.bricks.len()
    }
}

/// The slots of a brick in a mask, in order.
pub(super) fn slots(brick: usize, mask: BrickMask) -> impl Iterator<Item = Slot> {
    let words = mask.into_iter().enumerate();
    words.flat_map(move |(z, word)| bits(word).map(move |bit| Slot::new(brick, 64 * z + bit)))
}

/// The positions of the set bits of a word, ascending.
pub(super) fn bits(mut word: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = word.trailing_zeros() as usize;
        (word != 0).then(|| {
            word &= word - 1;
            bit
        })
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_last_sample_of_a_coarse_level_is_moved_onto_the_border() {
        let lattice = Lattice::new(128, 4);
        assert_eq!(lattice.cells(), 32);
        assert_eq!(lattice.finest(31), 124);
        assert_eq!(lattice.finest(32), 127);
        assert!(on_border([32, 5, 5], 32) && on_border([5, 0, 5], 32));
        assert!(!on_border([1, 31, 5], 32));
    }

    #[test]
    fn values_are_unknown_until_set() {
        let mut lattice = Lattice::new(32, 1);
        let sample = [9, 3, 30];
        assert_eq!(lattice.value(sample), None);
        let slot = lattice.ask(sample).expect("not asked before");
        assert_eq!(lattice.at(slot), sample);
        assert_eq!(lattice.ask(sample), None, "asked twice");
        assert_eq!(lattice.value(sample), None);
        lattice.set(slot, -2.5);
        assert_eq!(lattice.value(sample), Some(-2.5));
        assert_eq!(lattice.ask(sample), None, "known already");
    }

    const CELLS: [Index3; 7] = [
        [30, 30, 30],
        [0, 0, 0],
        [7, 8, 9],
        [8, 7, 9],
        [1, 0, 0],
        [7, 15, 23],
        [15, 3, 7],
    ];

    #[test]
    fn cells_and_corners_come_in_one_order_whatever_order_cells_were_added_in() {
        let mut forward = Lattice::new(32, 1);
        let mut backward = Lattice::new(32, 1);
        for cell in CELLS {
            assert!(forward.add_cell(cell).is_some());
            assert!(forward.add_cell(cell).is_none());
        }
        for cell in CELLS.into_iter().rev() {
            backward.add_cell(cell);
        }
        let order = |lattice: &Lattice| {
            lattice
                .cells_in_order()
                .map(|cell| lattice.at(cell))
                .collect::<Vec<_>>()
        };
        assert_eq!(order(&forward), order(&backward));
        assert_eq!(order(&forward).len(), CELLS.len());
        assert!(
            CELLS
                .iter()
                .all(|cell| order(&forward).contains(cell) && forward.has_cell(*cell))
        );
        assert!(!forward.has_cell([2, 0, 0]));
        let corners = |lattice: &mut Lattice| {
            let mask = lattice.corners();
            let order = lattice.bricks_in_order();
            order
                .flat_map(|brick| slots(brick, mask[brick]))
                .map(|slot| lattice.at(slot))
                .collect::<Vec<_>>()
        };
        assert_eq!(corners(&mut forward), corners(&mut backward));
    }

    #[test]
    fn the_corners_of_the_cells_are_found_each_once() {
        let mut lattice = Lattice::new(32, 1);
        let mut expected = HashSet::new();
        for cell in CELLS {
            lattice.add_cell(cell);
            expected.extend((0..8).map(|index| corner(cell, index)));
        }
        let found = lattice.corners().into_iter().enumerate();
        let found: Vec<_> = found.flat_map(|(brick, mask)| slots(brick, mask)).collect();
        assert_eq!(found.len(), expected.len());
        assert_eq!(
            found
                .into_iter()
                .map(|slot| lattice.at(slot))
                .collect::<HashSet<_>>(),
            expected
        );
    }

    #[test]
    fn corners_are_gathered_within_and_across_bricks() {
        let mut lattice = Lattice::new(32, 1);
        let value = |[x, y, z]: Index3| (x + 100 * y + 10_000 * z) as f32;
        for cell in [[3, 3, 3], [7, 15, 23]] {
            let slot = lattice.add_cell(cell).expect("new");
            for index in 0..8 {
                let asked = lattice.ask(corner(cell, index)).expect("new");
                lattice.set(asked, value(corner(cell, index)));
            }
            assert_eq!(
                lattice.corner_values(slot),
                std::array::from_fn(|index| value(corner(cell, index)))
            );
        }
    }
}

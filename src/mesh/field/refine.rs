//! From one level to the next finer one.

use super::{FieldOptions, FieldSampler};
use crate::mesh::lattice::{BRICK_SIDE, BrickMask, Index3, Lattice, Slot, block::Corners, slots};

/// The samples of a layer whose coordinates are even.
const EVEN: u64 = 0x0055_0055_0055_0055;

/// How many of the eight octants of a brick have cells in a mask: each is a brick of the next finer level.
fn octants(mask: &BrickMask) -> usize {
    /// Bits of the lesser half along x.
    const LEFT: u64 = 0x0f0f_0f0f_0f0f_0f0f;
    /// Bits of the lesser half along y.
    const LOW: u64 = 0xffff_ffff;
    let (front, back) = mask.split_at(BRICK_SIDE / 2);
    let halves = [front, back].map(|layers| layers.iter().fold(0, |all, layer| all | layer));
    let quarters = [LEFT & LOW, !LEFT & LOW, LEFT & !LOW, !LEFT & !LOW];
    let of_half = |half: u64| {
        quarters
            .iter()
            .filter(|&&quarter| half & quarter != 0)
            .count()
    };
    halves.into_iter().map(of_half).sum()
}

impl FieldSampler {
    /// Replaces the level by the next finer one, which holds the halves of all cells that the surface may pass.
    pub(super) fn refine(&mut self) {
        let FieldOptions {
            resolution,
            iso,
            logit_slope,
            samples_max: _,
        } = self.options;
        let step = self.lattice.step() / 2;
        let coarse = std::mem::replace(
            &mut self.lattice,
            Lattice::new(resolution.samples() as usize, step),
        );
        let width = 2.0 * coarse.step() as f32 / (resolution.samples() - 1) as f32;
        let margin = logit_slope * width * 3f32.sqrt() / 2.0;
        let inside = coarse.samples(|value| value > iso);
        let near = coarse.samples(|value| (value - iso).abs() < margin);
        let parents = |brick: usize| -> BrickMask {
            let behind = coarse.behind(brick);
            let crossed = Corners::of(&inside, &behind).divided();
            let near = Corners::of(&near, &behind).any();
            let cells = coarse.cells_of(brick);
            std::array::from_fn(|z| cells[z] & (crossed[z] | near[z]))
        };
        let bricks = coarse.bricks_in_order();
        let parents = bricks.map(|brick| (brick, parents(brick)));
        let parents: Vec<_> = parents
            .filter(|(_, mask)| *mask != [0; BRICK_SIDE])
            .collect();
        // For the halves, and for the samples that they reach behind their bricks. Memory beyond what is used is not free:
        // what large pieces take is given back to the system, and comes anew page by page.
        let of_halves: usize = parents.iter().map(|(_, mask)| octants(mask)).sum();
        self.lattice.reserve(of_halves + of_halves / 4);
        for (brick, parents) in parents {
            self.lattice.add_halves(coarse.origin(brick), parents);
        }
        self.ask_corners_of_level(Some(&coarse));
        self.coarse = Some(coarse);
    }

    /// Asks for the corners of all cells of the level that the next coarser one did not know.
    pub(super) fn ask_corners_of_level(&mut self, coarse: Option<&Lattice>) {
        let corners = self.lattice.corners_in_order();
        let counts = corners.iter().flat_map(|(_, mask)| mask);
        self.pending
            .reserve(counts.map(|word| word.count_ones() as usize).sum());
        for (brick, mut unknown) in corners {
            if let Some(coarse) = coarse {
                self.take_known(coarse, brick, &mut unknown);
            }
            slots(brick, unknown).for_each(|slot| self.pending.push(slot));
        }
    }

    /// Takes over what the next coarser level knows of the samples of a brick.
    fn take_known(&mut self, coarse: &Lattice, brick: usize, unknown: &mut BrickMask) {
        let wanted = *unknown;
        let mut take = |lattice: &mut Lattice, slot: Slot, value| {
            lattice.set(slot, value);
            unknown[slot.offset() / 64] &= !(1 << (slot.offset() % 64));
        };
        if self.lattice.touches_border(brick) {
            for slot in slots(brick, wanted) {
                if let Some(value) = self.coarse_value(coarse, self.lattice.at(slot)) {
                    take(&mut self.lattice, slot, value);
                }
            }
            return;
        }
        // Within the volume the coarser level has every second sample along each axis, an eighth of one of its bricks.
        let Some(first) = coarse.slot(self.lattice.origin(brick).map(|along| along / 2)) else {
            return;
        };
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
                take(&mut self.lattice, slot, value);
            }
        }
    }

    /// The value of a sample that the next coarser level knew already.
    fn coarse_value(&self, coarse: &Lattice, sample: Index3) -> Option<f32> {
        let mut parent = [0; 3];
        for (along, parent) in sample.into_iter().zip(&mut parent) {
            *parent = along.div_ceil(2);
            if coarse.finest(*parent) != self.lattice.finest(along) {
                return None;
            }
        }
        coarse.value(parent)
    }
}

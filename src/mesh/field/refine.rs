//! From one level to the next finer one.

use super::{FieldOptions, FieldSampler};
use crate::mesh::lattice::{BrickMask, Index3, Lattice, block::Corners, slots};

/// The samples of a layer whose coordinates are even.
const EVEN: u64 = 0x0055_0055_0055_0055;

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
        for brick in coarse.bricks_in_order() {
            let behind = coarse.behind(brick);
            let crossed = Corners::of(&inside, &behind).divided();
            let near = Corners::of(&near, &behind).any();
            let cells = coarse.cells_of(brick);
            let parents: BrickMask = std::array::from_fn(|z| cells[z] & (crossed[z] | near[z]));
            if parents.iter().any(|&word| word != 0) {
                self.lattice.add_halves(coarse.origin(brick), parents);
            }
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
                // Within the volume the coarser level has every second sample along each axis.
                let may_be_known = if self.lattice.touches_border(brick) {
                    unknown
                } else {
                    std::array::from_fn(|z| if z % 2 == 0 { unknown[z] & EVEN } else { 0 })
                };
                for slot in slots(brick, may_be_known) {
                    if let Some(value) = self.coarse_value(coarse, self.lattice.at(slot)) {
                        self.lattice.set(slot, value);
                        unknown[slot.offset() / 64] &= !(1 << (slot.offset() % 64));
                    }
                }
            }
            slots(brick, unknown).for_each(|slot| self.pending.push(slot));
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

//! From one level to the next finer one.

use rayon::prelude::*;

use super::{FieldOptions, FieldSampler};
use crate::mesh::lattice::{
    Asked, BRICK_SIDE, BRICKS_TOGETHER, BrickMask, Lattice, block::Corners,
};

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
        let bricks: Vec<usize> = coarse.bricks_in_order().collect();
        let parents = bricks
            .into_par_iter()
            .with_min_len(BRICKS_TOGETHER)
            .map(|brick| (brick, parents(brick)));
        let parents: Vec<_> = parents
            .filter(|(_, mask)| *mask != [0; BRICK_SIDE])
            .collect();
        for (brick, parents) in parents {
            self.lattice.add_halves(coarse.origin(brick), parents);
        }
        self.ask_corners_of_level(Some(&coarse));
        self.coarse = Some(coarse);
    }

    /// Asks for the corners of all cells of the level that the next coarser one does not know.
    pub(super) fn ask_corners_of_level(&mut self, coarse: Option<&Lattice>) {
        let wanted = self.lattice.corners();
        let unknown = self.lattice.lay(coarse, &wanted);
        let order = self.lattice.bricks_in_order();
        self.pending = Asked::of(order.map(|brick| (brick, unknown[brick])));
    }
}

//! What can be seen of the surface before it is complete.

use super::FieldSampler;
use crate::mesh::{marching_cubes, surface::Surface};

impl FieldSampler {
    /// The surface as the last complete coarse level has it, or none before there is such a level or while its samples
    /// show no surface; where the coarse grid is the finest one there never is one. Costs no sample and leaves the
    /// sampling as it is.
    ///
    /// On the first level it is closed. Later ones hold the neighbourhood of the surface alone, so that a part that the
    /// finest level will follow may end there in a hole: good enough to be looked at, no mesh to be given away.
    #[must_use]
    pub fn coarse_surface(&self) -> Option<Surface> {
        let level = self.coarse.as_ref()?;
        marching_cubes::extract(level, &self.axis, self.options.iso).ok()
    }

    /// Cells along an axis of the level that [`Self::coarse_surface`] is of.
    #[must_use]
    pub fn coarse_cells(&self) -> Option<usize> {
        self.coarse.as_ref().map(|level| level.cells())
    }
}

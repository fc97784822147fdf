//! Where the camera stands, roughly: looked for while the field is still being sampled.

use super::{
    compute::{Begun, compute_ahead},
    draft::coarse_surface,
    error::PipelineError,
    look::Look,
};
use crate::mesh::{field::FieldSampler, sight::Guess};

/// A surface of so many cells along an axis shows the camera as well as a finer one.
const CELLS: usize = 64;

/// A guess from the first surface that is fine enough, if there is one before the finest.
pub(super) struct Guessing {
    /// Until it is begun.
    look: Option<Look>,
    begun: Option<Begun<Option<Guess>>>,
}

impl Guessing {
    pub(super) fn new(look: Option<&Look>) -> Self {
        Self {
            look: look.cloned(),
            begun: None,
        }
    }

    /// Takes a look at what is known so far, and begins as soon as that is fine enough.
    pub(super) async fn look_at(
        &mut self,
        sampler: FieldSampler,
    ) -> Result<FieldSampler, PipelineError> {
        if sampler.coarse_cells().is_none_or(|cells| cells < CELLS) {
            return Ok(sampler);
        }
        let Some(look) = self.look.take() else {
            return Ok(sampler);
        };
        let (sampler, surface) = coarse_surface(sampler).await?;
        // With its specks: where a coarse grid shows a leg in pieces, these look like some.
        self.begun = surface.map(|surface| compute_ahead(move || look.guess(&surface)));
        Ok(sampler)
    }

    /// The guess, when it is there.
    pub(super) async fn finished(self) -> Result<Option<Guess>, PipelineError> {
        match self.begun {
            Some(begun) => begun.finished().await,
            None => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        image::frame::{Crop, Framed},
        mesh::field::{FieldOptions, Resolution},
    };

    const SIDE: u32 = 64;

    /// A picture of a disc.
    fn look() -> Look {
        let along = |at: u32| (2 * at + 1) as f32 / SIDE as f32 - 1.0;
        let places = (0..SIDE * SIDE).map(|at| along(at % SIDE).hypot(along(at / SIDE)));
        Look::of(Framed {
            side: SIDE,
            rgb: vec![0.5; 3 * (SIDE * SIDE) as usize],
            alpha: places.map(|far| f32::from(far < 0.8)).collect(),
            crop: Crop {
                left: 0.0,
                top: 0.0,
                side: SIDE as f32,
            },
            touches_border: false,
        })
    }

    /// Whether a guess is begun before the last points of a ball are asked for, and what it is.
    async fn guessed(resolution: u32, look: Option<Look>) -> (bool, Option<Guess>) {
        let resolution = Resolution::new(resolution).unwrap();
        let mut sampler = FieldSampler::new(FieldOptions::new(resolution, 0.0));
        let mut guessing = Guessing::new(look.as_ref());
        let mut is_early = false;
        while let Some(points) = sampler.request() {
            is_early = guessing.begun.is_some();
            let logits = points
                .iter()
                .map(|[x, y, z]| 10.0 * (0.6 - x.hypot(*y).hypot(*z)));
            sampler = guessing.look_at(sampler).await.unwrap();
            sampler.supply(&logits.collect::<Vec<_>>()).unwrap();
        }
        is_early |= guessing.begun.is_some();
        (is_early, guessing.finished().await.unwrap())
    }

    #[tokio::test]
    async fn it_is_begun_where_there_is_a_level_before_the_finest_that_is_fine_enough() {
        for (resolution, is_guessed) in [(32, false), (64, false), (128, true), (256, true)] {
            let (is_early, guess) = guessed(resolution, Some(look())).await;
            assert_eq!(
                (is_early, guess.is_some()),
                (is_guessed, is_guessed),
                "{resolution}"
            );
        }
        assert!(guessed(128, None).await.1.is_none());
    }
}

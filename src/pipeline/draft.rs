//! The coarse shape, shown while the field is still being sampled.

use tracing::debug;

use super::{
    compute::{compute_soon, start_soon},
    error::PipelineError,
    stage::{DraftSink, Reporter, StageGuard},
};
use crate::mesh::{field::FieldSampler, preview::sketch, surface::Surface};

/// What can be seen of the surface by now, beside the sampler.
pub(super) async fn coarse_surface(
    sampler: FieldSampler,
) -> Result<(FieldSampler, Option<Surface>), PipelineError> {
    compute_soon(move || {
        let surface = sampler.coarse_surface();
        (sampler, surface)
    })
    .await
}

/// Draws a coarse shape once, beside the sampling.
pub(super) struct Draft {
    /// Until it is drawn, if it is wanted.
    sink: Option<DraftSink>,
}

impl Draft {
    pub(super) fn new<R: Reporter>(stage: &StageGuard<'_, R>) -> Self {
        Self {
            sink: stage.draft_sink(),
        }
    }

    /// Takes a look at what is known so far, and begins to draw as soon as there is something to be seen.
    pub(super) async fn look_at(
        &mut self,
        sampler: FieldSampler,
    ) -> Result<FieldSampler, PipelineError> {
        let Some(sink) = self.sink.take() else {
            return Ok(sampler);
        };
        let (sampler, surface) = coarse_surface(sampler).await?;
        match surface {
            Some(surface) => start_soon(move || match sketch(surface) {
                Ok(webp) => sink(webp),
                Err(error) => debug!(%error, "A coarse shape was not drawn"),
            }),
            None => self.sink = Some(sink),
        }
        Ok(sampler)
    }
}

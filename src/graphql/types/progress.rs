//! What subscriptions yield.

use async_graphql::{Context, ID, Object, Result, SimpleObject, dataloader::DataLoader};

use super::{
    asset::Asset,
    batch::{Batch, BatchCounts},
    conversion::{Conversion, eta_seconds},
};
use crate::{
    conversion::{BatchId, ConversionId, Stage, Status, progress::overall},
    db::{
        entities::{asset, conversion, event},
        listen::Fraction,
    },
    graphql::{
        Services,
        loader::{AssetsOf, Loader},
    },
};

/// One step of a conversion: a stored transition, or a percentage between two of them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ConversionProgress {
    pub conversion: ConversionId,
    pub sequence: i32,
    pub status: Status,
    pub stage: Option<Stage>,
    /// The stage that it had come to when it failed or was cancelled.
    pub last_stage: Option<Stage>,
    pub attempt: i16,
    /// 0..=1 within the stage.
    pub fraction: f32,
}

impl ConversionProgress {
    /// The state of a row, `fraction` into its stage.
    #[must_use]
    pub fn of_row(row: &conversion::Model, fraction: f32) -> Self {
        Self {
            conversion: row.id,
            sequence: row.sequence,
            status: row.status,
            stage: row.stage,
            last_stage: row.last_stage,
            attempt: row.attempt,
            fraction,
        }
    }

    /// The state right after a stored transition.
    #[must_use]
    pub fn of_event(event: &event::Model) -> Self {
        Self {
            conversion: event.conversion_id,
            sequence: event.sequence,
            status: event.status,
            stage: event.stage,
            last_stage: event.last_stage,
            attempt: event.attempt,
            fraction: 0.0,
        }
    }

    /// The same state, further on; `None` when the step belongs to another stage or attempt, or is no advance.
    #[must_use]
    pub fn advanced(&self, step: &Fraction) -> Option<Self> {
        let fits = step.conversion == self.conversion
            && step.attempt == self.attempt
            && Some(step.stage) == self.stage;
        (fits && step.value > self.fraction).then_some(Self {
            fraction: step.value,
            ..*self
        })
    }
}

/// One step of a conversion.
#[Object]
impl ConversionProgress {
    /// The conversion's global id.
    async fn conversion_id(&self) -> ID {
        self.conversion.to_string().into()
    }

    /// The number of the last stored transition; resume with `after:` this.
    async fn sequence(&self) -> i32 {
        self.sequence
    }

    /// Where it stands.
    async fn status(&self) -> Status {
        self.status
    }

    /// What a running conversion is doing.
    async fn stage(&self) -> Option<Stage> {
        self.stage
    }

    /// From 0 to 1; never falls within an attempt.
    async fn progress(&self) -> f64 {
        self.overall().into()
    }

    /// Seconds until it will be ready; null when nothing is known.
    async fn eta_seconds(&self, context: &Context<'_>) -> Result<Option<f64>> {
        let Some(mut row) = self.row(context).await? else {
            return Ok(None);
        };
        row.status = self.status;
        eta_seconds(context, &row, self.overall()).await
    }

    /// A picture of the mesh, once there is one.
    async fn preview(&self, context: &Context<'_>) -> Result<Option<Asset>> {
        if self.status != Status::Succeeded {
            return Ok(None);
        }
        let loader = context.data::<DataLoader<Loader>>()?;
        let assets = loader
            .load_one(AssetsOf(self.conversion))
            .await
            .map_err(|error| (*error).clone())?;
        let mut assets = assets.unwrap_or_default().into_iter();
        Ok(assets
            .find(|asset| asset.kind == asset::Kind::Preview)
            .map(Asset))
    }

    /// A picture of the coarse shape while the mesh is being made, as a `data:` URL of a small WebP. Unlike transitions it
    /// may be missed; null before there is one, and once `preview` is there.
    async fn draft(&self, context: &Context<'_>) -> Result<Option<String>> {
        if self.status != Status::Running {
            return Ok(None);
        }
        let hub = &context.data::<Services>()?.hub;
        let draft = hub.draft(self.conversion, self.attempt);
        Ok(draft.map(|webp| format!("data:image/webp;base64,{webp}")))
    }

    /// The conversion as it is now, which may be further than this step.
    async fn conversion(&self, context: &Context<'_>) -> Result<Option<Conversion>> {
        Ok(self.row(context).await?.map(Conversion::from))
    }
}

impl ConversionProgress {
    fn overall(&self) -> f32 {
        overall(self.status, self.stage.or(self.last_stage), self.fraction)
    }

    async fn row(&self, context: &Context<'_>) -> Result<Option<conversion::Model>> {
        let loader = context.data::<DataLoader<Loader>>()?;
        Ok(loader
            .load_one(self.conversion)
            .await
            .map_err(|error| (*error).clone())?)
    }
}

/// One step of a batch.
#[derive(Debug, Clone, SimpleObject)]
#[graphql(complex)]
pub struct BatchProgress {
    #[graphql(skip)]
    pub batch: BatchId,
    /// The number of the batch's last stored transition; resume with `after:` this.
    pub sequence: i32,
    /// From 0 to 1, over all conversions.
    pub progress: f64,
    /// How many conversions stand where.
    pub counts: BatchCounts,
    /// What changed: in the first event without `after:` all conversions, later one.
    pub conversions: Vec<ConversionProgress>,
}

#[async_graphql::ComplexObject]
impl BatchProgress {
    /// The batch's global id.
    async fn batch_id(&self) -> ID {
        self.batch.to_string().into()
    }

    /// The batch as it is now.
    async fn batch(&self, context: &Context<'_>) -> Result<Option<Batch>> {
        let loader = context.data::<DataLoader<Loader>>()?;
        Ok(loader
            .load_one(self.batch)
            .await
            .map_err(|error| (*error).clone())?
            .map(Batch))
    }
}

//! Conversions that one client submitted together.

use async_graphql::{Context, ID, Object, Result, dataloader::DataLoader};
use time::OffsetDateTime;

use super::conversion::Conversion;
use crate::{
    conversion::Status,
    db::entities::{batch, conversion},
    graphql::{
        Services,
        loader::{ConversionsOf, Loader},
    },
};

/// Conversions that were submitted together.
#[derive(Debug, Clone)]
pub struct Batch(pub batch::Model);

/// How many conversions of a batch stand where.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, async_graphql::SimpleObject)]
pub struct BatchCounts {
    /// Waiting.
    pub queued: i32,
    /// Running.
    pub running: i32,
    /// Ended with a mesh.
    pub succeeded: i32,
    /// Ended without one.
    pub failed: i32,
    /// Called off.
    pub canceled: i32,
}

impl BatchCounts {
    /// Counts the states of a batch's conversions.
    #[must_use]
    pub fn of(rows: &[conversion::Model]) -> Self {
        rows.iter().fold(Self::default(), |mut counts, row| {
            match row.status {
                Status::Queued => counts.queued += 1,
                Status::Running => counts.running += 1,
                Status::Succeeded => counts.succeeded += 1,
                Status::Failed => counts.failed += 1,
                Status::Canceled => counts.canceled += 1,
            }
            counts
        })
    }
}

/// The mean progress of a batch's conversions, ended ones counted as done.
#[must_use]
pub fn mean_progress(services: &Services, rows: &[conversion::Model]) -> f64 {
    let one = |row: &conversion::Model| {
        if row.status.is_terminal() {
            1.0
        } else {
            f64::from(super::conversion::reached(services, row))
        }
    };
    #[expect(
        clippy::cast_precision_loss,
        reason = "at most a few hundred conversions"
    )]
    let count = rows.len().max(1) as f64;
    rows.iter().map(one).sum::<f64>() / count
}

/// Conversions that were submitted together.
#[Object]
impl Batch {
    /// The global id.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// How many conversions were accepted into it.
    async fn size(&self) -> i32 {
        self.0.size
    }

    /// Its conversions, in the order of submission.
    async fn conversions(&self, context: &Context<'_>) -> Result<Vec<Conversion>> {
        Ok(self
            .rows(context)
            .await?
            .into_iter()
            .map(Conversion::from)
            .collect())
    }

    /// How many conversions stand where.
    async fn counts(&self, context: &Context<'_>) -> Result<BatchCounts> {
        Ok(BatchCounts::of(&self.rows(context).await?))
    }

    /// From 0 to 1, over all conversions.
    async fn progress(&self, context: &Context<'_>) -> Result<f64> {
        Ok(mean_progress(
            context.data::<Services>()?,
            &self.rows(context).await?,
        ))
    }

    /// When it was submitted.
    async fn created_at(&self) -> OffsetDateTime {
        self.0.created_at
    }
}

impl Batch {
    async fn rows(&self, context: &Context<'_>) -> Result<Vec<conversion::Model>> {
        let loader = context.data::<DataLoader<Loader>>()?;
        let rows = loader.load_one(ConversionsOf(self.0.id)).await;
        Ok(rows.map_err(|error| (*error).clone())?.unwrap_or_default())
    }
}

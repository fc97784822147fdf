//! Percentages and coarse shapes on their way to subscribers: one message for all percentages of the node, ten times a
//! second.

use std::{
    collections::HashMap,
    mem,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::{
    conversion::ConversionId,
    db::{
        Database,
        listen::{Draft, Fraction},
    },
};

/// At most ten events a second for each conversion, and half of the 200 ms within which they must arrive.
const TICK: Duration = Duration::from_millis(100);

/// What has not been published: of each conversion the latest step, and its draft.
#[derive(Debug, Default)]
struct Pending {
    steps: HashMap<ConversionId, Fraction>,
    drafts: Vec<Draft>,
}

/// What is to be published; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Progress(Arc<Mutex<Pending>>);

impl Progress {
    /// Notes a step; an unpublished earlier one of the same conversion is replaced.
    pub fn note(&self, step: Fraction) {
        self.lock().steps.insert(step.conversion, step);
    }

    /// Notes a coarse shape.
    pub fn draft(&self, draft: Draft) {
        self.lock().drafts.push(draft);
    }

    /// Publishes until `end`.
    pub async fn publish(self, database: Database, end: CancellationToken) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = end.cancelled() => return,
                _ = tick.tick() => {}
            }
            let Pending { steps, drafts } = mem::take(&mut *self.lock());
            let steps: Vec<Fraction> = steps.into_values().collect();
            if !steps.is_empty()
                && let Err(error) = database.publish(&steps).await
            {
                // The next steps, or the stored transition, will tell as much.
                debug!(%error, "Some percentages were not published");
            }
            for draft in drafts {
                if let Err(error) = database.publish_draft(&draft).await {
                    debug!(%error, "A draft was not published");
                }
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Pending> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

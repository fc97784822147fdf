//! Percentages on their way to subscribers: one message for all conversions of the node, ten times a second.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::{
    conversion::ConversionId,
    db::{Database, listen::Fraction},
};

/// At most ten events a second for each conversion, and half of the 200 ms within which they must arrive.
const TICK: Duration = Duration::from_millis(100);

/// The latest step of each conversion that has not been published; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Progress(Arc<Mutex<HashMap<ConversionId, Fraction>>>);

impl Progress {
    /// Notes a step; an unpublished earlier one of the same conversion is replaced.
    pub fn note(&self, step: Fraction) {
        self.lock().insert(step.conversion, step);
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
            let steps: Vec<Fraction> = self.lock().drain().map(|(_, step)| step).collect();
            if !steps.is_empty()
                && let Err(error) = database.publish(&steps).await
            {
                // The next steps, or the stored transition, will tell as much.
                debug!(%error, "Some percentages were not published");
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<ConversionId, Fraction>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

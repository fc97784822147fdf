//! The queue's state, read at most once a second however many ask.

use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use super::error::ApiError;
use crate::db::{Database, queue::QueueState};

/// For how long an estimate stands.
const FRESH: Duration = Duration::from_secs(1);

/// Depth and pace of the queue, up to a second old.
#[derive(Debug)]
pub struct Pace {
    database: Database,
    latest: Mutex<Option<(Instant, QueueState)>>,
}

impl Pace {
    /// Reads from the given database.
    #[must_use]
    pub fn new(database: Database) -> Self {
        Self {
            database,
            latest: Mutex::default(),
        }
    }

    /// The state of the queue, up to a second old.
    ///
    /// # Errors
    /// `INTERNAL` when the database does not answer.
    pub async fn state(&self) -> Result<QueueState, ApiError> {
        let mut latest = self.latest.lock().await;
        if let Some((at, state)) = latest.as_ref()
            && at.elapsed() < FRESH
        {
            return Ok(state.clone());
        }
        let state = self.database.queue_state().await?;
        *latest = Some((Instant::now(), state.clone()));
        Ok(state)
    }
}

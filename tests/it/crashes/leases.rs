//! When leases ended, and how soon after that somebody took over.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use orfeas::db::Database;
use time::OffsetDateTime;
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::harness::seed;

/// Shorter than anything that a dead node's rows wait for.
const LOOK_EVERY: Duration = Duration::from_millis(100);

type Ends = Arc<Mutex<HashMap<(Uuid, i16), OffsetDateTime>>>;

/// Writes down until when attempts are leased, as long as this lives.
pub struct Leases {
    database: Database,
    ends: Ends,
    looking: JoinHandle<()>,
}

impl Leases {
    pub fn watch(database: &Database) -> Self {
        let ends = Ends::default();
        let (seen, looked) = (ends.clone(), database.clone());
        let looking = tokio::spawn(async move {
            loop {
                look(&looked, &seen).await;
                tokio::time::sleep(LOOK_EVERY).await;
            }
        });
        Self {
            database: database.clone(),
            ends,
            looking,
        }
    }

    /// How long after its lease's end each conversion was back that its node did not hand back itself, ascending.
    pub async fn recoveries(&self) -> Vec<Duration> {
        let back: Vec<(Uuid, i16, OffsetDateTime)> = sqlx::query_as(
            "SELECT conversion_id, attempt, at FROM conversion_event
             WHERE attempt > 0 AND (status = 'queued' OR status = 'failed')",
        )
        .fetch_all(seed::pool(&self.database))
        .await
        .unwrap();
        let ends = self.ends.lock().unwrap();
        let mut recoveries: Vec<Duration> = back
            .into_iter()
            .filter_map(|(id, attempt, at)| {
                let end = ends.get(&(id, attempt))?;
                Duration::try_from(at - *end).ok()
            })
            .collect();
        recoveries.sort_unstable();
        recoveries
    }
}

impl Drop for Leases {
    fn drop(&mut self) {
        self.looking.abort();
    }
}

async fn look(database: &Database, ends: &Ends) {
    let held: Result<Vec<(Uuid, i16, OffsetDateTime)>, _> =
        sqlx::query_as("SELECT id, attempt, lease_until FROM conversion WHERE status = 'running'")
            .fetch_all(seed::pool(database))
            .await;
    // Before the schema is there nothing is leased.
    for (id, attempt, end) in held.unwrap_or_default() {
        ends.lock().unwrap().insert((id, attempt), end);
    }
}

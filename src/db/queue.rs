//! The queue as a whole: its depth, its pace, its switch.

use sea_orm::FromQueryResult;
use time::OffsetDateTime;

use super::{Database, DatabaseError};
use crate::conversion::ConversionId;

/// The queue at one moment.
#[derive(Debug, Clone, PartialEq, FromQueryResult)]
pub struct QueueState {
    pub paused: bool,
    pub queued_agent: i64,
    pub queued_user: i64,
    pub running: i64,
    pub oldest_queued_at: Option<OffsetDateTime>,
    /// Conversions that succeeded in the last minute.
    pub succeeded_last_minute: i64,
    /// Mean time from claim to success over the last 50, in seconds.
    pub mean_run_seconds: Option<f64>,
}

/// Beyond this a position in the queue is not counted out.
pub const POSITION_MAX: i64 = 10_000;

#[derive(FromQueryResult)]
struct Count {
    count: i64,
}

impl QueueState {
    /// Conversions waiting, of all classes.
    #[must_use]
    pub fn queued(&self) -> i64 {
        self.queued_agent + self.queued_user
    }

    /// Seconds until a conversion with this many before it will have ended: each takes its share of the pace of
    /// the last minute, or, when that minute was idle, the mean time of one after another.
    #[must_use]
    pub fn wait_estimate_seconds(&self, ahead: i64) -> Option<f64> {
        let mean = self.mean_run_seconds?;
        #[expect(clippy::cast_precision_loss, reason = "counts of rows, far below 2^52")]
        let (ahead, last_minute) = (
            (ahead + self.running) as f64,
            self.succeeded_last_minute as f64,
        );
        let each = if last_minute > 0.0 {
            (60.0 / last_minute).min(mean)
        } else {
            mean
        };
        Some(ahead * each + mean)
    }
}

impl Database {
    /// Depth and pace of the queue.
    ///
    /// # Errors
    /// [`DatabaseError`] when the query fails.
    pub async fn queue_state(&self) -> Result<QueueState, DatabaseError> {
        let state = self
            .one(
                "SELECT (SELECT paused FROM queue_control) AS paused,
                     count(*) FILTER (WHERE status = 'queued' AND priority = 'agent') AS queued_agent,
                     count(*) FILTER (WHERE status = 'queued' AND priority = 'user') AS queued_user,
                     count(*) FILTER (WHERE status = 'running') AS running,
                     min(created_at) FILTER (WHERE status = 'queued') AS oldest_queued_at,
                     (SELECT count(*) FROM conversion
                      WHERE status = 'succeeded' AND finished_at > now() - interval '1 minute') AS succeeded_last_minute,
                     (SELECT avg(extract(epoch FROM finished_at - started_at))::float8 FROM (
                          SELECT finished_at, started_at FROM conversion WHERE status = 'succeeded'
                          ORDER BY finished_at DESC LIMIT 50) recent) AS mean_run_seconds
                 FROM conversion WHERE status IN ('queued', 'running')",
                [],
            )
            .await?;
        Ok(state.expect("an aggregate without grouping yields one row"))
    }

    /// How many conversions are before this one in the queue; `None` when it is not waiting.
    ///
    /// # Errors
    /// [`DatabaseError`] when the query fails.
    pub async fn queue_position(&self, id: ConversionId) -> Result<Option<i64>, DatabaseError> {
        let ahead = self
            .one::<Count>(
                "SELECT (SELECT count(*) FROM (SELECT 1 FROM conversion other
                     WHERE other.status = 'queued' AND (other.rank, other.id) < (mine.rank, mine.id) LIMIT $2) ahead) AS count
                 FROM conversion mine WHERE mine.id = $1 AND mine.status = 'queued'",
                [id.into(), POSITION_MAX.into()],
            )
            .await?;
        Ok(ahead.map(|row| row.count))
    }

    /// Stops or resumes claiming on all nodes; what runs goes on.
    ///
    /// # Errors
    /// [`DatabaseError`] when the statement fails.
    pub async fn set_paused(&self, paused: bool, by: &str) -> Result<(), DatabaseError> {
        self.execute(
            "WITH changed AS (UPDATE queue_control SET paused = $1, changed_at = now(), changed_by = $2 RETURNING paused)
             SELECT pg_notify('orfeas_queue', '') FROM changed",
            [paused.into(), by.into()],
        )
        .await?;
        Ok(())
    }
}

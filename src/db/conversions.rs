//! Every transition of a conversion. Each statement names the status and the attempt that it expects; when no
//! row matches, somebody else won, and the caller is told [`DatabaseError::Lost`].

use std::{slice, sync::Arc, time::Duration};

use sea_orm::{
    ColumnTrait, EntityTrait, FromQueryResult, IntoActiveModel, QueryFilter, QueryOrder,
};

use super::{
    Database, DatabaseError,
    entities::{
        asset, batch,
        conversion::{self, Model, Quality, Timings},
    },
    statement,
};
use crate::{
    conversion::{
        AfterFailure, BatchId, ConversionId, FAILURES_MAX, Failure, NodeId, Stage, Status,
    },
    crash::{self, Point},
};

/// How long a node's claim holds without a sign of life. Three heartbeats fit in.
pub const LEASE: Duration = Duration::from_secs(15);

/// Returns all that runs to the queue without counting a failure; what was called off ends. `AND` makes it fewer.
pub(super) const HAND_BACK: &str = "UPDATE conversion SET
         status = CASE WHEN cancel_requested_at IS NULL THEN 'queued' ELSE 'canceled' END,
         stage = NULL, lease_until = NULL, node_id = NULL, run_at = now(),
         finished_at = CASE WHEN cancel_requested_at IS NOT NULL THEN now() END
     WHERE status = 'running'";

/// One attempt at one conversion: what a worker must name to change the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Attempt {
    pub conversion: ConversionId,
    pub number: i16,
}

/// Whether a stage may be entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entered {
    Yes,
    /// The owner wants it called off.
    CancelRequested,
}

/// How an attempt ended well.
#[derive(Debug, Clone)]
pub struct Success {
    pub attempt: Attempt,
    /// The files that it stored.
    pub assets: Vec<asset::Model>,
    pub timings: Timings,
    pub quality: Quality,
}

/// A row that a statement has changed.
#[derive(Debug, FromQueryResult)]
pub(super) struct Moved {
    id: ConversionId,
    attempt: i16,
}

impl From<Moved> for Attempt {
    fn from(moved: Moved) -> Self {
        Self {
            conversion: moved.id,
            number: moved.attempt,
        }
    }
}

/// What `cancel` found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Canceled {
    /// It was waiting, and is off now.
    Now,
    /// It runs; it will stop at the next stage's boundary.
    Requested,
    /// It had ended before.
    AlreadyEnded,
}

#[derive(Debug, FromQueryResult)]
struct CancelState {
    wanted: bool,
}

#[derive(Debug, FromQueryResult)]
struct Asked {
    status: Status,
}

impl Database {
    /// Claims up to `count_max` queued conversions of the given models for a node, the lowest ranks first.
    ///
    /// # Errors
    /// [`DatabaseError`] when the statement fails; nothing is claimed then.
    pub async fn claim(
        &self,
        node: NodeId,
        models: &[String],
        count_max: u32,
    ) -> Result<Vec<Model>, DatabaseError> {
        let claimed = self.all(
            "WITH next AS MATERIALIZED (
                 SELECT id FROM conversion
                 WHERE status = 'queued' AND run_at <= now() AND model = ANY ($1)
                   AND NOT (SELECT paused FROM queue_control)
                 ORDER BY rank, id LIMIT $2 FOR UPDATE SKIP LOCKED)
             UPDATE conversion SET status = 'running', stage = 'prepare', attempt = attempt + 1, node_id = $3,
                 started_at = coalesce(started_at, now()), lease_until = now() + make_interval(secs => $4)
             FROM next WHERE conversion.id = next.id RETURNING conversion.*",
            [models.to_vec().into(), i64::from(count_max).into(), node.into(), LEASE.as_secs_f64().into()],
        )
        .await?;
        self.notices.given();
        Ok(claimed)
    }

    /// Moves a running attempt to a later stage.
    ///
    /// # Errors
    /// [`DatabaseError::Lost`] when the attempt no longer holds the row.
    pub async fn enter_stage(
        &self,
        attempt: Attempt,
        stage: Stage,
    ) -> Result<Entered, DatabaseError> {
        if self.enter_stages(&[(attempt, stage)]).await?.is_empty() {
            return self.cancel_wanted(attempt).await;
        }
        Ok(Entered::Yes)
    }

    /// Tells a cancel request from a lost lease, after a statement matched no row.
    async fn cancel_wanted(&self, attempt: Attempt) -> Result<Entered, DatabaseError> {
        let state = self
            .one::<CancelState>(
                "SELECT cancel_requested_at IS NOT NULL AS wanted FROM conversion
                 WHERE id = $1 AND attempt = $2 AND status = 'running'",
                [attempt.conversion.into(), attempt.number.into()],
            )
            .await?;
        match state {
            Some(CancelState { wanted: true }) => Ok(Entered::CancelRequested),
            Some(CancelState { wanted: false }) | None => Err(DatabaseError::Lost),
        }
    }

    /// Ends an attempt in success: its meshes and the new status become visible together.
    ///
    /// # Errors
    /// [`DatabaseError::Lost`] when the attempt no longer holds the row; nothing is stored then.
    pub async fn succeed(&self, success: &Arc<Success>) -> Result<Entered, DatabaseError> {
        let ended = self.succeed_together(slice::from_ref(success)).await?;
        if ended.is_empty() {
            return self.cancel_wanted(success.attempt).await;
        }
        Ok(Entered::Yes)
    }

    /// The same for several in one transaction, which says for which attempts it was done: not for those that no longer hold
    /// their rows, nor for those that are called off.
    ///
    /// # Errors
    /// [`DatabaseError`] when a statement fails; it is done for none then.
    pub async fn succeed_together(
        &self,
        successes: &[Arc<Success>],
    ) -> Result<Vec<Attempt>, DatabaseError> {
        let rows: Vec<_> = successes
            .iter()
            .map(|success| {
                let Attempt { conversion, number } = success.attempt;
                serde_json::json!({
                    "id": conversion, "attempt": number, "timings": success.timings, "quality": success.quality,
                })
            })
            .collect();
        let transaction = self.begin().await?;
        let ended: Vec<Moved> = Moved::find_by_statement(statement(
            "WITH held AS MATERIALIZED (
                 SELECT conversion.id, done.timings, done.quality
                 FROM conversion JOIN jsonb_to_recordset($1) AS done (id uuid, attempt smallint, timings jsonb, quality jsonb)
                     ON conversion.id = done.id AND conversion.attempt = done.attempt
                 WHERE status = 'running' AND cancel_requested_at IS NULL
                 ORDER BY conversion.id FOR NO KEY UPDATE OF conversion
             )
             UPDATE conversion SET status = 'succeeded', stage = NULL, lease_until = NULL, node_id = NULL,
                 finished_at = now(), timings = held.timings, quality = held.quality
             FROM held WHERE conversion.id = held.id RETURNING conversion.id, conversion.attempt",
            [json(&rows)],
        ))
        .all(&transaction)
        .await?;
        let ended: Vec<Attempt> = ended.into_iter().map(Attempt::from).collect();
        let assets: Vec<_> = successes
            .iter()
            .filter(|success| ended.contains(&success.attempt))
            .flat_map(|success| success.assets.iter().cloned())
            .map(IntoActiveModel::into_active_model)
            .collect();
        if !assets.is_empty() {
            asset::Entity::insert_many(assets)
                .exec_without_returning(&transaction)
                .await?;
        }
        crash::point(Point::BeforeCommit);
        transaction.commit().await?;
        crash::point(Point::Committed);
        self.notices.given();
        Ok(ended)
    }

    /// Ends an attempt in failure: back to the queue with a delay (unless it was called off: then that is its end), or
    /// failed for good.
    ///
    /// # Errors
    /// [`DatabaseError::Lost`] when the attempt no longer holds the row.
    pub async fn fail(
        &self,
        attempt: Attempt,
        failure: &Failure,
        after: AfterFailure,
    ) -> Result<(), DatabaseError> {
        let changed = match after {
            AfterFailure::Retry { delay } => {
                self.change(
                    "UPDATE conversion SET status = CASE WHEN cancel_requested_at IS NULL THEN 'queued' ELSE 'canceled' END,
                         stage = NULL, lease_until = NULL, node_id = NULL,
                         failures = failures + 1, run_at = now() + make_interval(secs => $3),
                         finished_at = CASE WHEN cancel_requested_at IS NOT NULL THEN now() END
                     WHERE id = $1 AND attempt = $2 AND status = 'running'",
                    [attempt.conversion.into(), attempt.number.into(), delay.as_secs_f64().into()],
                )
                .await?
            }
            AfterFailure::Fail => {
                self.change(
                    "UPDATE conversion SET status = 'failed', stage = NULL, lease_until = NULL, node_id = NULL,
                         failures = failures + 1, finished_at = now(),
                         error_code = $3, error_message = $4, error_retryable = $5
                     WHERE id = $1 AND attempt = $2 AND status = 'running'",
                    [
                        attempt.conversion.into(),
                        attempt.number.into(),
                        failure.code.into(),
                        failure.message.as_str().into(),
                        failure.retryable.into(),
                    ],
                )
                .await?
            }
        };
        if changed == 1 {
            Ok(())
        } else {
            Err(DatabaseError::Lost)
        }
    }

    /// Ends a running attempt that its owner called off.
    ///
    /// # Errors
    /// [`DatabaseError::Lost`] when the attempt no longer holds the row.
    pub async fn cancel_attempt(&self, attempt: Attempt) -> Result<(), DatabaseError> {
        let changed = self
            .change(
                "UPDATE conversion SET status = 'canceled', stage = NULL, lease_until = NULL, node_id = NULL, finished_at = now()
                 WHERE id = $1 AND attempt = $2 AND status = 'running' AND cancel_requested_at IS NOT NULL",
                [attempt.conversion.into(), attempt.number.into()],
            )
            .await?;
        if changed == 1 {
            Ok(())
        } else {
            Err(DatabaseError::Lost)
        }
    }

    /// Returns a running attempt to the queue without counting a failure: the node is stopping. One that was called
    /// off ends here.
    ///
    /// # Errors
    /// [`DatabaseError`] when the statement fails; the rescuer will return it then.
    pub async fn hand_back(&self, attempt: Attempt) -> Result<(), DatabaseError> {
        self.change(
            &format!("{HAND_BACK} AND id = $1 AND attempt = $2"),
            [attempt.conversion.into(), attempt.number.into()],
        )
        .await?;
        Ok(())
    }

    /// Returns what dead nodes held: to the queue, or, when it took down too many nodes, to its end.
    ///
    /// # Errors
    /// [`DatabaseError`] when the statement fails.
    pub async fn rescue(&self) -> Result<Vec<Model>, DatabaseError> {
        let rescued = self.all(
            "WITH dead AS MATERIALIZED (
                 SELECT id FROM conversion WHERE status = 'running' AND lease_until < now()
                 ORDER BY lease_until LIMIT 100 FOR UPDATE SKIP LOCKED
             ), verdict AS (
                 SELECT conversion.id, CASE WHEN cancel_requested_at IS NOT NULL THEN 'canceled'
                     WHEN failures + 1 >= $1 THEN 'failed' ELSE 'queued' END AS status
                 FROM conversion JOIN dead USING (id))
             UPDATE conversion SET status = verdict.status, stage = NULL, lease_until = NULL, node_id = NULL,
                 failures = failures + 1, run_at = now(),
                 finished_at = CASE WHEN verdict.status <> 'queued' THEN now() END,
                 error_code = CASE WHEN verdict.status = 'failed' THEN 'INTERNAL' END,
                 error_message = CASE WHEN verdict.status = 'failed'
                     THEN 'The server was interrupted each time it worked on this picture. Retry it, or report it.' END,
                 error_retryable = CASE WHEN verdict.status = 'failed' THEN true END
             FROM verdict WHERE conversion.id = verdict.id RETURNING conversion.*",
            [FAILURES_MAX.into()],
        )
        .await?;
        self.notices.given();
        Ok(rescued)
    }

    /// Calls a conversion off: at once while it waits, at the next stage boundary while it runs.
    ///
    /// # Errors
    /// [`DatabaseError`] when a statement fails.
    pub async fn cancel(&self, id: ConversionId) -> Result<Canceled, DatabaseError> {
        // One statement for both cases: between two, a row could pass from the one to the other unseen.
        let asked = self
            .one::<Asked>(
                "UPDATE conversion SET status = CASE WHEN status = 'queued' THEN 'canceled' ELSE status END,
                     cancel_requested_at = coalesce(cancel_requested_at, now()),
                     finished_at = CASE WHEN status = 'queued' THEN now() END
                 WHERE id = $1 AND status IN ('queued', 'running') RETURNING status",
                [id.into()],
            )
            .await?;
        self.notices.given();
        match asked {
            None => Ok(Canceled::AlreadyEnded),
            Some(Asked {
                status: Status::Running,
            }) => {
                // For speed: the next stage's boundary asks the row itself.
                self.execute(
                    "SELECT pg_notify('orfeas_cancel', $1)",
                    [id.0.to_string().into()],
                )
                .await?;
                Ok(Canceled::Requested)
            }
            Some(_) => Ok(Canceled::Now),
        }
    }

    /// The conversions of batches, each batch's in the order of submission.
    ///
    /// # Errors
    /// [`DatabaseError`] when the query fails.
    pub async fn conversions_of_batches(
        &self,
        ids: &[BatchId],
    ) -> Result<Vec<Model>, DatabaseError> {
        Ok(conversion::Entity::find()
            .filter(conversion::Column::BatchId.is_in(ids.iter().copied()))
            .order_by_asc(conversion::Column::BatchIndex)
            .all(&self.connection)
            .await?)
    }

    /// A batch's transition counter and its conversions, as of one moment.
    ///
    /// # Errors
    /// [`DatabaseError`] when a query fails.
    pub async fn batch_snapshot(&self, id: BatchId) -> Result<(i32, Vec<Model>), DatabaseError> {
        let transaction = self.begin_snapshot().await?;
        let batch = batch::Entity::find_by_id(id).one(&transaction).await?;
        let conversions = conversion::Entity::find()
            .filter(conversion::Column::BatchId.eq(id))
            .order_by_asc(conversion::Column::BatchIndex)
            .all(&transaction)
            .await?;
        transaction.commit().await?;
        Ok((batch.map_or(0, |batch| batch.sequence), conversions))
    }
}

fn json(value: &impl serde::Serialize) -> sea_orm::Value {
    serde_json::to_value(value)
        .expect("plain data has a JSON form")
        .into()
}

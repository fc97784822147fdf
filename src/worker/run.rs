//! One attempt at one conversion, from its row to its end.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use futures_util::FutureExt;
use time::OffsetDateTime;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinHandle,
};
use tracing::{Instrument, debug, error, info, warn};

use super::{Worker, active::Signal, progress::Progress, record, span, stages::StageWriter};
use crate::{
    conversion::{AfterFailure, Failure, Stage, after_failure},
    crash::{self, Point},
    db::{
        DatabaseError,
        conversions::{Attempt, Entered, Success},
        entities::conversion::Model,
        listen::{DRAFT_MAX, Draft, Fraction},
    },
    error_chain::chain,
    inference::error::EngineError,
    pipeline::{
        self, Job,
        error::PipelineError,
        stage::{DraftSink, FileSink, Interrupt, Reporter},
    },
    storage::StorageError,
};

/// A verdict on a conversion is worth this many tries to write down.
const WRITE_TRIES: u32 = 6;
/// For so long where the database is away or takes no changes: a failover, a restart. A node that can't write for longer
/// loses the lease, and another one finds its own verdict.
const OUTAGE_MAX: Duration = Duration::from_secs(180);
/// The longest distance between two tries; six of them come to about six seconds.
const DELAY_MAX: Duration = Duration::from_millis(3200);
/// How often it is tried in an outage.
const OUTAGE_RETRY: Duration = Duration::from_secs(2);

/// What a conversion in hand holds of the node's capacity.
#[derive(Debug)]
pub struct Slot {
    /// Given back when the picture is encoded.
    ahead: Mutex<Option<OwnedSemaphorePermit>>,
    _memory: OwnedSemaphorePermit,
}

impl Slot {
    /// Takes capacity that is known to be free.
    ///
    /// # Panics
    /// If it is not: the claimer asks for no more than there is, and nobody else takes any.
    #[must_use]
    pub fn take(ahead: &Arc<Semaphore>, memory: &Arc<Semaphore>) -> Self {
        let take = |semaphore: &Arc<Semaphore>| {
            Arc::clone(semaphore)
                .try_acquire_owned()
                .expect("no more is claimed than there are permits")
        };
        Self {
            ahead: Mutex::new(Some(take(ahead))),
            _memory: take(memory),
        }
    }

    fn encoded(&self) {
        drop(
            self.ahead
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
    }
}

/// Why an attempt did not succeed.
#[derive(Debug, thiserror::Error)]
enum RunError {
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    #[error("the store failed")]
    Storage(#[from] StorageError),
    #[error("the database failed")]
    Database(#[from] DatabaseError),
    #[error("the picture is gone")]
    NoSource,
}

impl RunError {
    fn interrupt(&self) -> Option<Interrupt> {
        match self {
            Self::Pipeline(PipelineError::Interrupted(interrupt)) => Some(*interrupt),
            // Whoever took part may be the cause, and would take one device after another with it: that counts as failure.
            Self::Pipeline(PipelineError::Engine(EngineError::DeviceLost {
                took_part: false,
                ..
            })) => Some(Interrupt::Displaced),
            Self::Database(DatabaseError::Lost) => Some(Interrupt::Lost),
            // It is no fault of the picture's. Nothing is claimed until the store works again.
            Self::Storage(error) if error.trouble().is_some() => Some(Interrupt::Unstored),
            Self::Database(error) if error.is_outage() => Some(Interrupt::Unrecorded),
            _ => None,
        }
    }

    fn failure(&self) -> Failure {
        match self {
            Self::Pipeline(error) => error.failure(),
            Self::Storage(_) | Self::Database(_) => Failure {
                code: "INTERNAL",
                message: "The server could not read or keep the files of this conversion. Retry it later.".into(),
                retryable: true,
            },
            Self::NoSource => Failure {
                code: "NOT_FOUND",
                message: "The picture has been deleted.".into(),
                retryable: false,
            },
        }
    }
}

/// Reports to the database and to subscribers.
struct RowReporter<'a> {
    stages: &'a StageWriter,
    progress: &'a Progress,
    row: &'a Model,
    attempt: Attempt,
    signal: &'a Signal,
    slot: &'a Slot,
    keeper: &'a Arc<record::Keeper>,
    /// Whether there are more conversions here than cores.
    is_crowded: bool,
    /// The stage that is being written down while its work has begun.
    entering: Mutex<Option<JoinHandle<Result<Entered, DatabaseError>>>>,
}

impl RowReporter<'_> {
    fn entering(&self) -> MutexGuard<'_, Option<JoinHandle<Result<Entered, DatabaseError>>>> {
        self.entering.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the stage that was entered last is written down: none begins before, and no end is written.
    async fn recorded(&self) -> Result<(), Interrupt> {
        let entering = self.entering().take();
        let Some(entering) = entering else {
            return Ok(());
        };
        match entering.await.expect("it neither panics nor is called off") {
            Ok(Entered::Yes) => Ok(()),
            Ok(Entered::CancelRequested) => Err(Interrupt::Canceled),
            Err(DatabaseError::Lost) => Err(Interrupt::Lost),
            Err(error) => {
                warn!(cause = %chain(&error), "Could not record a stage");
                Err(Interrupt::Unrecorded)
            }
        }
    }
}

impl Reporter for RowReporter<'_> {
    async fn enter(&self, stage: Stage) -> Result<(), Interrupt> {
        self.signal.check()?;
        self.recorded().await?;
        if stage == Stage::Prepare {
            // The claim has entered it.
            return Ok(());
        }
        let (stages, attempt) = (self.stages.clone(), self.attempt);
        let entering =
            tokio::spawn(async move { stages.enter(attempt, stage).await }.in_current_span());
        *self.entering() = Some(entering);
        Ok(())
    }

    fn fraction(&self, stage: Stage, value: f32) {
        self.progress.note(Fraction {
            conversion: self.row.id,
            batch: self.row.batch_id,
            attempt: self.attempt.number,
            stage,
            value,
        });
    }

    fn draft_sink(&self) -> Option<DraftSink> {
        if self.is_crowded {
            // Each draft would delay the next queries of the device.
            return None;
        }
        let (progress, batch) = (self.progress.clone(), self.row.batch_id);
        let Attempt { conversion, number } = self.attempt;
        Some(Box::new(move |webp| {
            let webp = BASE64.encode(webp);
            if webp.len() > DRAFT_MAX {
                let length = webp.len();
                debug!(
                    length,
                    "The picture of a coarse shape is too large to be told"
                );
                return;
            }
            progress.draft(Draft {
                conversion,
                batch,
                attempt: number,
                webp: webp.into(),
            });
        }))
    }

    fn encoded(&self) {
        self.slot.encoded();
        // Long before the first file.
        self.keeper.prepare();
    }

    fn file_sink(&self) -> FileSink {
        let keeper = Arc::clone(self.keeper);
        Box::new(move |made| keeper.file(made))
    }

    fn check(&self) -> Result<(), Interrupt> {
        self.signal.check()
    }

    async fn interrupted(&self) -> Interrupt {
        self.signal.interrupted().await
    }
}

impl Worker {
    /// Runs one claimed conversion to its end, whatever that is.
    pub async fn run_one(self, row: Model, slot: Slot) {
        let attempt = Attempt {
            conversion: row.id,
            number: row.attempt,
        };
        let entry = self.active.enter(attempt);
        let done = AssertUnwindSafe(self.attempt(&row, attempt, &entry.signal, &slot))
            .catch_unwind()
            .await;
        let outcome = match done {
            Ok(Ok(())) => "succeeded",
            Ok(Err(error)) => self.settle(&row, attempt, &error).await,
            Err(_) => {
                error!("The worker panicked over conversion {}", row.id);
                let panicked = RunError::Pipeline(PipelineError::Panicked {
                    reason: "see the log".into(),
                });
                self.settle(&row, attempt, &panicked).await
            }
        };
        metrics::counter!("orfeas_attempts_total", "outcome" => outcome).increment(1);
        span::end(outcome);
        // Only now: until the end is written, the lease must be renewed.
        drop(entry);
    }

    async fn attempt(
        &self,
        row: &Model,
        attempt: Attempt,
        signal: &Signal,
        slot: &Slot,
    ) -> Result<(), RunError> {
        let claimed_at = OffsetDateTime::now_utc();
        let source = self
            .database
            .asset(row.source_asset_id)
            .await?
            .ok_or(RunError::NoSource)?;
        let picture = self.storage.get(&source.storage_key).await?;
        let keeper = Arc::new(record::Keeper::new(self.storage.clone(), attempt));
        let reporter = RowReporter {
            stages: &self.stages,
            progress: &self.progress,
            row,
            attempt,
            signal,
            slot,
            keeper: &keeper,
            is_crowded: self.active.count() > self.cores,
            entering: Mutex::default(),
        };
        let job = Job {
            picture,
            model: row.model.clone(),
            options: row.options.clone(),
            rank: i64::try_from(row.rank.unix_timestamp_nanos() / 1_000).unwrap_or(i64::MAX),
            name: Some(row.id.to_string()),
        };
        let product = pipeline::convert(&self.tools, job, &reporter).await;
        let product = product.inspect_err(record::measure_refused);
        // Also of one that has failed: how far it came is told with it.
        let recorded = reporter.recorded().await;
        let recorded = recorded.map_err(PipelineError::Interrupted);
        let product = match product.and_then(|product| recorded.map(|()| product)) {
            Ok(product) => product,
            Err(error) => {
                if keeper.ended().await {
                    self.discard(attempt).await;
                }
                return Err(error.into());
            }
        };
        let queued = claimed_at - row.created_at;
        let timings = record::timings(&product, queued);
        let quality = record::quality(&product);
        let succeeding = self.stages.succeeding();
        let kept = keeper.keep(row, &product).await;
        drop(succeeding);
        let assets = match kept {
            Ok(assets) => assets,
            Err(error) => {
                self.discard(attempt).await;
                return Err(error.into());
            }
        };
        crash::point(Point::MeshStored);
        let success = Arc::new(Success {
            attempt,
            assets,
            timings,
            quality,
        });
        let written = retrying(|| self.stages.succeed(&success)).await;
        // After another error nobody knows whether the rows are there: the sweep of the store finds out.
        if let Ok(Entered::CancelRequested) | Err(DatabaseError::Lost) = written {
            self.discard(attempt).await;
        }
        if written? == Entered::CancelRequested {
            return Err(PipelineError::Interrupted(Interrupt::Canceled).into());
        }
        self.hub.ended(row.id, row.batch_id);
        let seconds = (OffsetDateTime::now_utc() - row.created_at).as_seconds_f64();
        metrics::histogram!("orfeas_conversion_seconds", "priority" => row.priority.as_str())
            .record(seconds);
        record::measure(&success.quality);
        info!(
            seconds,
            gpu_batch_size = success.timings.gpu_batch_size,
            "Conversion {} succeeded",
            row.id
        );
        Ok(())
    }

    /// Has what an attempt stored erased, because it has come to nothing.
    async fn discard(&self, attempt: Attempt) {
        let discarded = self
            .database
            .discard_attempt(attempt, &record::folder(attempt))
            .await;
        if let Err(error) = discarded {
            let id = attempt.conversion;
            warn!(cause = %chain(&error), "Could not have erased what an attempt at conversion {id} had stored; the sweep of the store will");
        }
    }

    /// Writes down how an attempt ended that did not succeed, and says which word counts it.
    async fn settle(&self, row: &Model, attempt: Attempt, error: &RunError) -> &'static str {
        let (outcome, written) = match error.interrupt() {
            Some(Interrupt::Lost) => {
                warn!("Conversion {} belongs to another attempt now", row.id);
                return "lost";
            }
            Some(Interrupt::Canceled) => (
                "canceled",
                retrying(|| self.database.cancel_attempt(attempt)).await,
            ),
            Some(
                interrupt @ (Interrupt::Stopping
                | Interrupt::Unrecorded
                | Interrupt::Displaced
                | Interrupt::Unstored),
            ) => {
                if matches!(interrupt, Interrupt::Unrecorded | Interrupt::Unstored) {
                    warn!(cause = %chain(error), "Conversion {} goes back to the queue", row.id);
                }
                (
                    "handed_back",
                    retrying(|| self.database.hand_back(attempt)).await,
                )
            }
            None => {
                let failure = error.failure();
                let after = after_failure(failure.retryable, row.failures + 1);
                warn!(cause = %chain(error), code = failure.code, ?after, "Conversion {} failed", row.id);
                let outcome = if after == AfterFailure::Fail {
                    "failed"
                } else {
                    "retried"
                };
                (
                    outcome,
                    retrying(|| self.database.fail(attempt, &failure, after)).await,
                )
            }
        };
        match written {
            Ok(()) => outcome,
            Err(DatabaseError::Lost) => "lost",
            Err(error) => {
                error!(cause = %chain(&error), "Could not write down how conversion {} ended; its lease will run out", row.id);
                "unwritten"
            }
        }
    }
}

/// Tries a write again: at growing distances, for about six seconds in all, and for minutes while the database is away.
async fn retrying<T, F: Future<Output = Result<T, DatabaseError>>>(
    mut write: impl FnMut() -> F,
) -> Result<T, DatabaseError> {
    let began = Instant::now();
    let mut delay = Duration::from_millis(200);
    let mut tries = 1;
    loop {
        match write().await {
            Err(error) if error.is_outage() && began.elapsed() < OUTAGE_MAX => {
                warn!(cause = %chain(&error), "The database took no verdict; trying again");
                tokio::time::sleep(delay.min(OUTAGE_RETRY)).await;
            }
            Err(DatabaseError::Statement(error)) if is_passing(&error) && tries < WRITE_TRIES => {
                warn!(%error, "A write failed; trying again");
                tries += 1;
                tokio::time::sleep(delay).await;
            }
            settled => return settled,
        }
        delay = (delay * 2).min(DELAY_MAX);
    }
}

/// Whether a statement may succeed on another try: the connection failed, not the statement.
fn is_passing(error: &sea_orm::DbErr) -> bool {
    matches!(
        error,
        sea_orm::DbErr::Conn(_) | sea_orm::DbErr::ConnectionAcquire(_)
    ) || error.sql_err().is_none()
}

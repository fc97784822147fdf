//! Admission: idempotency, the owner's virtual time and the new rows, in one transaction.

use sea_orm::{ConnectionTrait, DbErr, EntityTrait, FromQueryResult, IntoActiveModel, SqlErr};
use time::OffsetDateTime;

use super::{
    Database, DatabaseError,
    connection::Transaction,
    entities::{asset, batch, conversion},
    quotas::{Exceeded, charge_conversions, check_stored},
    statement,
};
use crate::{
    auth::principal::Quotas,
    conversion::{
        BatchId, ConversionId, OWNER_STEP, Owner, Priority,
        options::ConversionOptions,
        provenance::{Provenance, TraceContext},
        webhook::Hook,
    },
};

/// A client's promise that two requests with the same key are the same request.
#[derive(Debug, Clone)]
pub struct Idempotency {
    pub key: String,
    /// SHA-256 over everything that makes two submissions equal.
    pub fingerprint: [u8; 32],
}

/// One accepted picture of a submission.
#[derive(Debug, Clone)]
pub struct NewConversion {
    pub source: Source,
    /// Its place in the submitted list.
    pub index: i32,
}

/// Where the picture of a new conversion is.
#[derive(Debug, Clone)]
pub enum Source {
    /// Stored a moment ago, its row is yet to be made.
    New(asset::Model),
    /// An asset that the owner had already.
    Existing(asset::Model),
}

impl Source {
    /// The asset, be it new or not.
    #[must_use]
    pub fn asset(&self) -> &asset::Model {
        match self {
            Self::New(asset) | Self::Existing(asset) => asset,
        }
    }
}

/// What is to be admitted together.
#[derive(Debug, Clone)]
pub struct Submission {
    pub owner: Owner,
    pub priority: Priority,
    pub model: String,
    pub options: ConversionOptions,
    /// Whether the conversions form a batch.
    pub batch: bool,
    pub items: Vec<NewConversion>,
    pub retry_of: Option<ConversionId>,
    pub idempotency: Option<Idempotency>,
    /// Whom to tell; `None`: whom the owner's key names, if it is a key's and it names somebody.
    pub webhook: Option<Hook>,
    /// What the owner may use; `None` charges nobody.
    pub quotas: Option<Quotas>,
    /// What the owner's assets may take; `None`: whatever they take.
    pub stored_bytes_max: Option<u64>,
    /// Which request submits it, and of which trace it is part.
    pub provenance: Provenance,
}

/// What became of a submission.
#[derive(Debug, Clone)]
pub enum Admitted {
    /// The rows are new.
    New(Rows),
    /// The same submission was admitted before; its sources were not stored again.
    Before(Rows),
    /// The idempotency key was used for another submission.
    Conflict,
    /// The owner's quota does not hold it; nothing was charged.
    Exceeded(Exceeded),
    /// The picture, or the conversion to be repeated, was deleted meanwhile.
    Gone,
}

/// The rows of a submission, conversions in the order of their index.
#[derive(Debug, Clone)]
pub struct Rows {
    pub batch: Option<batch::Model>,
    pub conversions: Vec<conversion::Model>,
}

/// For how long an idempotency key is remembered, in hours.
const IDEMPOTENCY_HOURS: i32 = 24;

#[derive(FromQueryResult)]
struct Remembered {
    fingerprint: Vec<u8>,
    conversion_id: Option<ConversionId>,
    batch_id: Option<BatchId>,
}

#[derive(FromQueryResult)]
struct Start {
    start: OffsetDateTime,
    now: OffsetDateTime,
}

impl Database {
    /// What an idempotency key stands for, if it was used before.
    ///
    /// # Errors
    /// [`DatabaseError`] when a query fails.
    pub async fn admitted_before(
        &self,
        owner: &Owner,
        idempotency: &Idempotency,
    ) -> Result<Option<Admitted>, DatabaseError> {
        recall(self.connection(), owner, idempotency).await
    }

    /// Admits a submission, all of it or nothing.
    ///
    /// # Errors
    /// [`DatabaseError`] when a statement fails; nothing is admitted then.
    pub async fn submit(&self, submission: Submission) -> Result<Admitted, DatabaseError> {
        let transaction = self.begin().await?;
        if let Some(idempotency) = &submission.idempotency {
            // Two at once: the second waits here until the first has committed, and then finds its row.
            let fresh = transaction
                .execute_raw(statement(
                    "INSERT INTO idempotency (owner, key, fingerprint) VALUES ($1, $2, $3)
                     ON CONFLICT (owner, key) DO UPDATE SET fingerprint = excluded.fingerprint, created_at = now(),
                         conversion_id = NULL, batch_id = NULL
                     WHERE idempotency.created_at < now() - make_interval(hours => $4)",
                    [
                        submission.owner.as_str().into(),
                        idempotency.key.as_str().into(),
                        idempotency.fingerprint.to_vec().into(),
                        IDEMPOTENCY_HOURS.into(),
                    ],
                ))
                .await?
                .rows_affected();
            if fresh == 0 {
                let before = recall(&transaction, &submission.owner, idempotency).await?;
                transaction.rollback().await?;
                return Ok(before.expect("the row that stopped the insertion is there"));
            }
        }
        let inserted = match insert(&transaction, &submission).await {
            Err(DatabaseError::Statement(error)) if is_gone(&error) => {
                transaction.rollback().await?;
                return Ok(Admitted::Gone);
            }
            inserted => inserted?,
        };
        match inserted {
            Ok(rows) => {
                transaction.commit().await?;
                self.notices.given();
                Ok(Admitted::New(rows))
            }
            Err(refused) => {
                transaction.rollback().await?;
                Ok(match refused {
                    Refused::Exceeded(exceeded) => Admitted::Exceeded(exceeded),
                    Refused::Gone => Admitted::Gone,
                })
            }
        }
    }
}

/// Whether a row that a new one refers to is no longer there.
fn is_gone(error: &DbErr) -> bool {
    matches!(
        error.sql_err(),
        Some(SqlErr::ForeignKeyConstraintViolation(_))
    )
}

async fn recall(
    connection: &impl ConnectionTrait,
    owner: &Owner,
    idempotency: &Idempotency,
) -> Result<Option<Admitted>, DatabaseError> {
    let remembered = Remembered::find_by_statement(statement(
        "SELECT fingerprint, conversion_id, batch_id FROM idempotency
         WHERE owner = $1 AND key = $2 AND created_at >= now() - make_interval(hours => $3)",
        [
            owner.as_str().into(),
            idempotency.key.as_str().into(),
            IDEMPOTENCY_HOURS.into(),
        ],
    ))
    .one(connection)
    .await?;
    let Some(Remembered {
        fingerprint,
        conversion_id,
        batch_id,
    }) = remembered
    else {
        return Ok(None);
    };
    // What it stood for was deleted; of the submission itself nothing is known any more.
    if conversion_id.is_none() && batch_id.is_none() {
        return Ok(Some(Admitted::Before(Rows {
            batch: None,
            conversions: Vec::new(),
        })));
    }
    if fingerprint != idempotency.fingerprint {
        return Ok(Some(Admitted::Conflict));
    }
    let batch = match batch_id {
        Some(id) => batch::Entity::find_by_id(id).one(connection).await?,
        None => None,
    };
    let conversions = conversion::Model::find_by_statement(statement(
        "SELECT * FROM conversion WHERE id = $1 OR batch_id = $2 ORDER BY batch_index",
        [conversion_id.into(), batch_id.into()],
    ))
    .all(connection)
    .await?;
    Ok(Some(Admitted::Before(Rows { batch, conversions })))
}

/// Why nothing was inserted.
enum Refused {
    Exceeded(Exceeded),
    /// The picture, or the conversion to be repeated, was deleted meanwhile.
    Gone,
}

impl From<Exceeded> for Refused {
    fn from(exceeded: Exceeded) -> Self {
        Self::Exceeded(exceeded)
    }
}

/// Locks what new rows will refer to, conversions first, pictures by their ids: before anything else is locked that who
/// deletes them locks afterwards. False when some of it is gone.
async fn lock_referred(
    transaction: &Transaction,
    retry_of: Option<ConversionId>,
    items: &[NewConversion],
) -> Result<bool, DatabaseError> {
    if let Some(id) = retry_of {
        let locked = transaction
            .query_one_raw(statement(
                "SELECT 1 AS one FROM conversion WHERE id = $1 FOR KEY SHARE",
                [id.into()],
            ))
            .await?;
        if locked.is_none() {
            return Ok(false);
        }
    }
    let mut ids: Vec<uuid::Uuid> = items
        .iter()
        .filter_map(|item| match &item.source {
            Source::New(_) => None,
            Source::Existing(asset) => Some(asset.id.0),
        })
        .collect();
    ids.sort_unstable();
    ids.dedup();
    if ids.is_empty() {
        return Ok(true);
    }
    let count = ids.len();
    let locked = transaction
        .query_all_raw(statement(
            "SELECT 1 AS one FROM asset WHERE id = ANY ($1) ORDER BY id FOR KEY SHARE",
            [ids.into()],
        ))
        .await?;
    Ok(locked.len() == count)
}

async fn insert(
    transaction: &Transaction,
    submission: &Submission,
) -> Result<Result<Rows, Refused>, DatabaseError> {
    let Submission {
        owner,
        priority,
        model,
        options,
        batch: in_batch,
        items,
        retry_of,
        idempotency,
        webhook,
        quotas,
        stored_bytes_max,
        provenance: Provenance { request_id, trace },
    } = submission;
    let count = i32::try_from(items.len()).expect("a submission's length is limited at the edge");
    // Locks the owner's clock: until the end of the transaction nobody else adds conversions of this owner.
    let start = advance_clock(transaction, owner, count).await?;
    if !lock_referred(transaction, *retry_of, items).await? {
        return Ok(Err(Refused::Gone));
    }
    let new_assets: Vec<_> = items
        .iter()
        .filter_map(|item| match &item.source {
            Source::New(asset) => Some(asset.clone()),
            Source::Existing(_) => None,
        })
        .collect();
    let added = new_assets.iter().map(|asset| asset.bytes).sum();
    if !new_assets.is_empty() {
        asset::Entity::insert_many(
            new_assets
                .into_iter()
                .map(IntoActiveModel::into_active_model),
        )
        .exec_without_returning(transaction)
        .await?;
    }
    if let Some(allowed) = stored_bytes_max
        && let Some(exceeded) = check_stored(transaction, owner, *allowed, added).await?
    {
        return Ok(Err(exceeded.into()));
    }
    if let Some(quotas) = quotas
        && let Some(exceeded) =
            charge_conversions(transaction, owner, *quotas, count.unsigned_abs()).await?
    {
        return Ok(Err(exceeded.into()));
    }
    let batch = in_batch.then(|| batch::Model {
        id: BatchId::new(),
        owner: owner.clone(),
        size: count,
        sequence: 0,
        created_at: start.now,
        webhook: webhook.clone(),
    });
    if let Some(batch) = &batch {
        batch::Entity::insert(batch.clone().into_active_model())
            .exec_without_returning(transaction)
            .await?;
    }
    let conversions: Vec<conversion::Model> = items
        .iter()
        .zip(0..)
        .map(|(item, place)| conversion::Model {
            id: ConversionId::new(),
            owner: owner.clone(),
            priority: *priority,
            batch_id: batch.as_ref().map(|batch| batch.id),
            batch_index: in_batch.then_some(item.index),
            retry_of: *retry_of,
            source_asset_id: item.source.asset().id,
            model: model.clone(),
            options: options.clone(),
            status: crate::conversion::Status::Queued,
            stage: None,
            sequence: 1,
            attempt: 0,
            failures: 0,
            rank: start.start + OWNER_STEP * place - priority.bonus(*in_batch),
            run_at: start.now,
            node_id: None,
            lease_until: None,
            cancel_requested_at: None,
            error_code: None,
            error_message: None,
            error_retryable: None,
            timings: None,
            quality: None,
            created_at: start.now,
            started_at: None,
            finished_at: None,
            last_stage: None,
            charged: quotas.is_some(),
            webhook: webhook.clone(),
            request_id: request_id.clone(),
            trace_parent: trace.as_ref().map(|trace| trace.parent().to_owned()),
            trace_state: trace
                .as_ref()
                .and_then(TraceContext::state)
                .map(str::to_owned),
        })
        .collect();
    conversion::Entity::insert_many(
        conversions
            .iter()
            .cloned()
            .map(IntoActiveModel::into_active_model),
    )
    .exec_without_returning(transaction)
    .await?;
    if let Some(idempotency) = idempotency {
        let conversion_id = if batch.is_none() {
            conversions.first().map(|conversion| conversion.id)
        } else {
            None
        };
        transaction
            .execute_raw(statement(
                "UPDATE idempotency SET conversion_id = $3, batch_id = $4 WHERE owner = $1 AND key = $2",
                [
                    owner.as_str().into(),
                    idempotency.key.as_str().into(),
                    conversion_id.into(),
                    batch.as_ref().map(|batch| batch.id).into(),
                ],
            ))
            .await?;
    }
    Ok(Ok(Rows { batch, conversions }))
}

/// Takes `count` steps of the owner's virtual time, which never lies behind the clock, and returns the first.
async fn advance_clock(
    transaction: &Transaction,
    owner: &Owner,
    count: i32,
) -> Result<Start, DatabaseError> {
    let start = Start::find_by_statement(statement(
        "INSERT INTO owner_clock (owner, virtual_at) VALUES ($1, now() + make_interval(secs => $2))
         ON CONFLICT (owner) DO UPDATE
             SET virtual_at = greatest(owner_clock.virtual_at, now()) + make_interval(secs => $2)
         RETURNING virtual_at - make_interval(secs => $2) AS start, now() AS now",
        [
            owner.as_str().into(),
            (OWNER_STEP.as_secs_f64() * f64::from(count)).into(),
        ],
    ))
    .one(transaction)
    .await?;
    Ok(start.expect("an upsert returns its row"))
}

//! Admission: idempotency, the owner's virtual time, quotas and the new rows, in one call of `submit_conversions`.

use std::{collections::BTreeSet, sync::LazyLock, time::Duration};

use sea_orm::{DbErr, EntityTrait, FromQueryResult, IdenStatic, Iterable, QueryResult, Statement};
use serde_json::json;
use time::format_description::well_known::Rfc3339;

use super::{
    Database, DatabaseError,
    entities::{asset, batch, conversion},
    quotas::Exceeded,
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

    fn into_asset(self) -> asset::Model {
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
    /// The picture of each; of an earlier submission they aren't known.
    pub sources: Vec<asset::Model>,
}

impl Rows {
    /// The first conversion, with its picture if that is known.
    #[must_use]
    pub fn into_first(self) -> Option<(conversion::Model, Option<asset::Model>)> {
        let conversion = self.conversions.into_iter().next()?;
        Some((conversion, self.sources.into_iter().next()))
    }
}

/// For how long an idempotency key is remembered, in hours.
const IDEMPOTENCY_HOURS: i32 = 24;

#[derive(FromQueryResult)]
struct Remembered {
    fingerprint: Vec<u8>,
    conversion_id: Option<ConversionId>,
    batch_id: Option<BatchId>,
}

/// The call. It names the columns: one that says `*` fails once on each connection when a later version has added one.
static CALL: LazyLock<String> = LazyLock::new(|| {
    let columns = conversion::Column::iter().map(|column| format!("(made).{}", column.as_str()));
    let columns: Vec<_> = columns.collect();
    format!(
        "SELECT refused, allowed, used, seconds_left, {} FROM submit_conversions($1)",
        columns.join(", ")
    )
});

/// A row of what it answers.
#[derive(Debug)]
enum Answer {
    Made(Box<conversion::Model>),
    Refused(Refusal),
}

/// Why nothing was made.
#[derive(Debug, FromQueryResult)]
struct Refusal {
    refused: String,
    allowed: Option<i64>,
    used: Option<i64>,
    seconds_left: Option<f64>,
}

impl FromQueryResult for Answer {
    fn from_query_result(row: &QueryResult, prefix: &str) -> Result<Self, DbErr> {
        let refused: Option<String> = row.try_get(prefix, "refused")?;
        Ok(match refused {
            None => Self::Made(Box::new(conversion::Model::from_query_result(row, prefix)?)),
            Some(_) => Self::Refused(Refusal::from_query_result(row, prefix)?),
        })
    }
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
        let remembered = Remembered::find_by_statement(statement(
            "SELECT fingerprint, conversion_id, batch_id FROM idempotency
             WHERE owner = $1 AND key = $2 AND created_at >= now() - make_interval(hours => $3)",
            [
                owner.as_str().into(),
                idempotency.key.as_str().into(),
                IDEMPOTENCY_HOURS.into(),
            ],
        ))
        .one(&self.connection)
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
                sources: Vec::new(),
            })));
        }
        if fingerprint != idempotency.fingerprint {
            return Ok(Some(Admitted::Conflict));
        }
        let batch = match batch_id {
            Some(id) => batch::Entity::find_by_id(id).one(&self.connection).await?,
            None => None,
        };
        let conversions = conversion::Model::find_by_statement(statement(
            "SELECT * FROM conversion WHERE id = $1 OR batch_id = $2 ORDER BY batch_index",
            [conversion_id.into(), batch_id.into()],
        ))
        .all(&self.connection)
        .await?;
        Ok(Some(Admitted::Before(Rows {
            batch,
            conversions,
            sources: Vec::new(),
        })))
    }

    /// Admits a submission, all of it or nothing.
    ///
    /// # Errors
    /// [`DatabaseError`] when a statement fails; nothing is admitted then, or all was and the answer was lost.
    pub async fn submit(&self, submission: Submission) -> Result<Admitted, DatabaseError> {
        let batch_id = submission.batch.then(BatchId::new);
        loop {
            let mut conversions = Vec::with_capacity(submission.items.len());
            let mut refusal = None;
            for answer in self.call_submit(&submission, batch_id).await? {
                match answer {
                    Answer::Made(row) => conversions.push(*row),
                    Answer::Refused(reason) => refusal = Some(reason),
                }
            }
            let Some(refusal) = refusal else {
                self.notices.given();
                let first = conversions.first();
                let batch = batch_id.zip(first).map(|(id, first)| batch::Model {
                    id,
                    owner: submission.owner.clone(),
                    size: count(&submission),
                    sequence: 0,
                    created_at: first.created_at,
                    webhook: submission.webhook.clone(),
                });
                let sources = submission.items.into_iter().map(|item| item.source);
                return Ok(Admitted::New(Rows {
                    batch,
                    conversions,
                    sources: sources.map(Source::into_asset).collect(),
                }));
            };
            let known = refusal.refused == "known";
            let Some(idempotency) = submission.idempotency.as_ref().filter(|_| known) else {
                return Ok(refusal.verdict(&submission));
            };
            let before = self.admitted_before(&submission.owner, idempotency).await?;
            if let Some(before) = before {
                return Ok(before);
            }
            // Its day has ended in this moment: the key is free.
        }
    }

    async fn call_submit(
        &self,
        submission: &Submission,
        batch_id: Option<BatchId>,
    ) -> Result<Vec<Answer>, DatabaseError> {
        let call = Answer::find_by_statement(call(submission, batch_id));
        let mut sources = submission.items.iter().map(|item| &item.source);
        if !sources.any(|source| matches!(source, Source::New(_))) {
            return Ok(call.all(&self.connection).await?);
        }
        // Bytes were stored for it, which are removed where it comes to nothing. So that who has lost the answer can find out,
        // nothing but the commit may be in doubt, and it comes when the owner's clock is held: see `is_admitted`.
        let transaction = self.begin().await?;
        let answers = call.all(&transaction).await?;
        transaction.commit().await?;
        Ok(answers)
    }
}

impl Refusal {
    fn verdict(self, submission: &Submission) -> Admitted {
        let Self {
            refused,
            allowed,
            used,
            seconds_left,
        } = self;
        let (allowed, used) = (allowed.unwrap_or_default(), used.unwrap_or_default());
        let small = |value: i64| u32::try_from(value).unwrap_or(u32::MAX);
        Admitted::Exceeded(match refused.as_str() {
            "at_once" => Exceeded::AtOnce {
                allowed: small(allowed),
                used: small(used),
            },
            "per_day" => Exceeded::PerDay {
                allowed: small(allowed),
                used: small(used),
                left: Duration::from_secs_f64(seconds_left.unwrap_or_default().max(0.0)),
            },
            "stored" => {
                let added: i64 = new_sources(submission).map(|asset| asset.bytes).sum();
                Exceeded::Stored {
                    allowed: allowed.unsigned_abs(),
                    used: used.saturating_sub(added).unsigned_abs(),
                    added: added.unsigned_abs(),
                }
            }
            _ => return Admitted::Gone,
        })
    }
}

fn count(submission: &Submission) -> i32 {
    i32::try_from(submission.items.len()).expect("a submission's length is limited at the edge")
}

/// What is to be made beside the conversions.
fn new_sources(submission: &Submission) -> impl Iterator<Item = &asset::Model> {
    submission
        .items
        .iter()
        .filter_map(|item| match &item.source {
            Source::New(asset) => Some(asset),
            Source::Existing(_) => None,
        })
}

/// The call that admits a submission.
fn call(submission: &Submission, batch_id: Option<BatchId>) -> Statement {
    let Submission {
        owner,
        priority,
        model,
        options,
        batch,
        items,
        retry_of,
        idempotency,
        webhook,
        quotas,
        stored_bytes_max,
        provenance: Provenance { request_id, trace },
    } = submission;
    let ids: Vec<_> = items.iter().map(|_| ConversionId::new()).collect();
    let sources: Vec<_> = items.iter().map(|item| item.source.asset().id).collect();
    let indexes: Vec<_> = items.iter().map(|item| item.index).collect();
    let old = |item: &NewConversion| match &item.source {
        Source::New(_) => None,
        Source::Existing(asset) => Some(asset.id),
    };
    let old_sources: BTreeSet<_> = items.iter().filter_map(old).collect();
    let new_sources: Vec<_> = new_sources(submission).map(source).collect();
    let stored_max = stored_bytes_max.map(|max| i64::try_from(max).unwrap_or(i64::MAX));
    let wanted = json!({
        "owner": owner,
        "priority": priority.as_str(),
        "model": model,
        "options": options,
        "retry_of": retry_of,
        "webhook": webhook,
        "request_id": request_id,
        "trace_parent": trace.as_ref().map(TraceContext::parent),
        "trace_state": trace.as_ref().and_then(TraceContext::state),
        "batch_id": batch_id,
        "ids": ids,
        "sources": sources,
        "indexes": indexes,
        "step": OWNER_STEP.as_secs_f64(),
        "bonus": priority.bonus(*batch).as_secs_f64(),
        "new_sources": new_sources,
        "old_sources": old_sources,
        "stored_max": stored_max,
        "charged": quotas.is_some(),
        "at_once": quotas.and_then(|quotas| quotas.conversions_at_once),
        "per_day": quotas.and_then(|quotas| quotas.conversions_per_day),
        "key": idempotency.as_ref().map(|idempotency| &idempotency.key),
        "fingerprint": idempotency.as_ref().map(|idempotency| hex::encode(idempotency.fingerprint)),
        "key_hours": IDEMPOTENCY_HOURS,
    });
    statement(&CALL, [wanted.into()])
}

/// A new source, as the call takes it.
fn source(asset: &asset::Model) -> serde_json::Value {
    let created_at = asset.created_at.format(&Rfc3339);
    json!({
        "id": asset.id,
        "storage_key": asset.storage_key,
        "file_name": asset.file_name,
        "media_type": asset.media_type,
        "bytes": asset.bytes,
        "sha256": hex::encode(&asset.sha256),
        "width": asset.width,
        "height": asset.height,
        "created_at": created_at.expect("a time of now can be written"),
    })
}

//! What clients may change.

use async_graphql::{Context, ID, Object, Result, SimpleObject};

use super::{
    Services,
    admission::{self, Order, SubmitBatchInput, SubmitConversionInput, Verdicts},
    error::{ApiError, ErrorCode},
    guard::{Require, principal},
    query::{find_batch, find_conversion},
    trail,
    types::{batch::Batch, conversion::Conversion, queue::QueueStatus},
};
use crate::{
    auth::principal::{Permission, Principal},
    conversion::ConversionId,
    db::{
        conversions::Canceled,
        entities::conversion,
        submissions::{NewConversion, Rows, Source, Submission},
    },
};

/// What may be done with conversions and the queue.
#[derive(Debug, Default)]
pub struct ConversionMutation;

/// An accepted conversion.
#[derive(Debug, SimpleObject)]
pub struct SubmitConversionPayload {
    /// It waits in the queue, or, for a repeated submission, is where it is.
    pub conversion: Conversion,
}

/// An accepted batch.
#[derive(Debug, SimpleObject)]
pub struct SubmitBatchPayload {
    /// Null when no picture could be accepted.
    pub batch: Option<Batch>,
    /// One for each submitted picture, in their order.
    pub items: Vec<SubmitBatchItem>,
}

/// What became of one picture of a batch.
#[derive(Debug, SimpleObject)]
pub struct SubmitBatchItem {
    /// Its place in the submitted list.
    pub index: i32,
    /// The conversion, when the picture was accepted.
    pub conversion: Option<Conversion>,
    /// Why it was not.
    pub error: Option<SubmitError>,
}

/// Why a picture was not accepted.
#[derive(Debug, SimpleObject)]
pub struct SubmitError {
    /// One of the API's error codes.
    pub code: ErrorCode,
    /// What is wrong and what may help.
    pub message: String,
    /// The input field at fault.
    pub field: Option<String>,
    /// Whether the same picture may be taken later.
    pub retryable: bool,
}

/// A conversion that was called off, or will be.
#[derive(Debug, SimpleObject)]
pub struct CancelConversionPayload {
    /// Canceled if it waited; `cancelRequested` if it runs; unchanged if it had ended.
    pub conversion: Conversion,
}

/// A batch that was called off, or will be.
#[derive(Debug, SimpleObject)]
pub struct CancelBatchPayload {
    /// The batch.
    pub batch: Batch,
}

/// A new conversion that repeats an ended one.
#[derive(Debug, SimpleObject)]
pub struct RetryConversionPayload {
    /// The new conversion; its `retryOf` names the old one.
    pub conversion: Conversion,
}

/// A conversion that is gone.
#[derive(Debug, SimpleObject)]
pub struct DeleteConversionPayload {
    /// The id that no longer stands for anything.
    pub deleted_id: ID,
}

#[Object]
impl ConversionMutation {
    /// Submits one picture.
    #[graphql(guard = "Require(Permission::Submit)")]
    async fn submit_conversion(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "The picture, and what to make of it.")] input: SubmitConversionInput,
    ) -> Result<SubmitConversionPayload> {
        let services = context.data::<Services>()?;
        let principal = principal(context)?;
        let order = Order::parse(
            services,
            input.options,
            input.idempotency_key,
            input.webhook,
        )?;
        let images = vec![input.image];
        let verdicts =
            admission::submit(context, services, principal, order, false, images).await?;
        let Verdicts { rows, refusals } = verdicts;
        if let Some(refusal) = refusals.into_iter().flatten().next() {
            return Err(refusal.or_at("image").into());
        }
        let (conversion, source) = rows.and_then(Rows::into_first).ok_or_else(|| {
            ApiError::new(
                ErrorCode::NotFound,
                "The conversion of this idempotency key has been deleted: use a new key.",
            )
        })?;
        trail::note(context, |details| details.conversion(conversion.id));
        Ok(SubmitConversionPayload {
            conversion: Conversion::with_source(conversion, source),
        })
    }

    /// Submits several pictures. A bad one has an error of its own; the others are accepted together.
    #[graphql(guard = "Require(Permission::Batch)")]
    async fn submit_batch(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "The pictures, and what to make of them.")] input: SubmitBatchInput,
    ) -> Result<SubmitBatchPayload> {
        let services = context.data::<Services>()?;
        let principal = principal(context)?;
        let order = Order::parse(
            services,
            input.options,
            input.idempotency_key,
            input.webhook,
        )?;
        if input.images.is_empty() || input.images.len() > services.batch_images_max {
            let message = format!("A batch has 1 to {} images.", services.batch_images_max);
            return Err(ApiError::invalid("images", message).into());
        }
        let allowed = principal.quotas.images_per_batch;
        if input.images.len() > allowed as usize {
            let message = format!("You may submit {allowed} images in a batch: send several.");
            return Err(ApiError::new(ErrorCode::QuotaExceeded, message)
                .at("images")
                .into());
        }
        #[expect(clippy::cast_precision_loss, reason = "bounded above")]
        metrics::histogram!("orfeas_submitted_batch_images").record(input.images.len() as f64);
        let verdicts =
            admission::submit(context, services, principal, order, true, input.images).await?;
        let Verdicts { rows, refusals } = verdicts;
        let Some(rows) = rows else {
            return Ok(SubmitBatchPayload {
                batch: None,
                items: items(refusals, Vec::new()),
            });
        };
        if rows.batch.is_none() {
            let message = "The batch of this idempotency key has been deleted: use a new key.";
            return Err(ApiError::new(ErrorCode::NotFound, message).into());
        }
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let accepted = rows.conversions.len();
        trail::note(context, |details| {
            let details = match &rows.batch {
                Some(batch) => details.batch(batch.id),
                None => details,
            };
            details
                .images(count(accepted))
                .images_refused(count(refusals.len().saturating_sub(accepted)))
        });
        Ok(SubmitBatchPayload {
            batch: rows.batch.map(Batch),
            items: items(refusals, rows.conversions),
        })
    }

    /// Calls a conversion off: at once while it waits, at the next stage's boundary while it runs.
    #[graphql(guard = "Require(Permission::Cancel)")]
    async fn cancel_conversion(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "The conversion's global id.")] id: ID,
    ) -> Result<CancelConversionPayload> {
        let services = context.data::<Services>()?;
        let row = own_conversion(services, principal(context)?, &id).await?;
        trail::note(context, |details| details.conversion(row.id));
        services
            .database
            .cancel(row.id)
            .await
            .map_err(ApiError::from)?;
        let row = own_conversion(services, principal(context)?, &id).await?;
        Ok(CancelConversionPayload {
            conversion: row.into(),
        })
    }

    /// Calls off whatever of a batch has not ended.
    #[graphql(guard = "Require(Permission::Cancel)")]
    async fn cancel_batch(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "The batch's global id.")] id: ID,
    ) -> Result<CancelBatchPayload> {
        let services = context.data::<Services>()?;
        let no_such = || ApiError::not_found("batch");
        let batch = id.parse().map_err(|_| no_such())?;
        let batch = find_batch(services, principal(context)?, batch)
            .await?
            .ok_or_else(no_such)?;
        trail::note(context, |details| details.batch(batch.id));
        let rows = services
            .database
            .conversions_of_batches(&[batch.id])
            .await
            .map_err(ApiError::from)?;
        // The last in line first, so that none of them is claimed while the others are called off.
        for row in rows.iter().rev().filter(|row| !row.status.is_terminal()) {
            let _: Canceled = services
                .database
                .cancel(row.id)
                .await
                .map_err(ApiError::from)?;
        }
        Ok(CancelBatchPayload {
            batch: Batch(batch),
        })
    }

    /// Submits the picture of an ended conversion again, with the same options.
    #[graphql(guard = "Require(Permission::Submit)")]
    async fn retry_conversion(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "The ended conversion's global id.")] id: ID,
    ) -> Result<RetryConversionPayload> {
        let services = context.data::<Services>()?;
        let principal = principal(context)?;
        let row = own_conversion(services, principal, &id).await?;
        if !row.status.is_terminal() {
            return Err(ApiError::invalid(
                "id",
                "It has not ended yet: wait for it, or cancel it first.",
            )
            .into());
        }
        let source = services
            .database
            .asset(row.source_asset_id)
            .await
            .map_err(ApiError::from)?;
        let source = source.ok_or_else(|| ApiError::not_found("picture"))?;
        let room = services.backlog.take(1).map_err(ApiError::from)?;
        // An admin who repeats another's conversion uses nobody's quota.
        let quotas = (row.owner == principal.owner).then_some(principal.quotas);
        let submission = Submission {
            owner: row.owner,
            priority: principal.priority,
            model: row.model,
            options: row.options,
            batch: false,
            items: vec![NewConversion {
                source: Source::Existing(source),
                index: 0,
            }],
            retry_of: Some(row.id),
            idempotency: None,
            webhook: row.webhook,
            quotas,
            stored_bytes_max: quotas.and(services.stored_limits.of(principal)),
            provenance: admission::provenance(context),
        };
        let admitted = services
            .database
            .submit(submission)
            .await
            .map_err(ApiError::from)?;
        let rows = admission::settle(admitted)?;
        room.stored(rows.conversions.len());
        services.hub.queued();
        let (conversion, source) = rows.into_first().expect("one was submitted");
        trail::note(context, |details| {
            details.conversion(conversion.id).retry_of(row.id)
        });
        Ok(RetryConversionPayload {
            conversion: Conversion::with_source(conversion, source),
        })
    }

    /// Removes a conversion for good: it and all that is kept of it at once, its files within moments; its picture unless other
    /// conversions have it, too, and its batch with the last conversion. One that runs must be cancelled first.
    #[graphql(guard = "Require(Permission::Cancel)")]
    async fn delete_conversion(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "The conversion's global id.")] id: ID,
    ) -> Result<DeleteConversionPayload> {
        let services = context.data::<Services>()?;
        let principal = principal(context)?;
        let row = own_conversion(services, principal, &id).await?;
        trail::note(context, |details| details.conversion(row.id));
        let deleted = services
            .database
            .delete_conversion(principal.sees(), row.id)
            .await
            .map_err(ApiError::from)?;
        if !deleted {
            return Err(ApiError::invalid("id", "It is running: cancel it first.").into());
        }
        Ok(DeleteConversionPayload {
            deleted_id: row.id.to_string().into(),
        })
    }

    /// Stops the queue on all nodes; running conversions go on.
    #[graphql(guard = "Require(Permission::Admin)")]
    async fn pause_queue(&self, context: &Context<'_>) -> Result<QueueStatus> {
        switch(context, true).await
    }

    /// Starts the queue again.
    #[graphql(guard = "Require(Permission::Admin)")]
    async fn resume_queue(&self, context: &Context<'_>) -> Result<QueueStatus> {
        switch(context, false).await
    }
}

async fn switch(context: &Context<'_>, paused: bool) -> Result<QueueStatus> {
    trail::note(context, |details| details.paused(paused));
    let database = &context.data::<Services>()?.database;
    database
        .set_paused(paused, principal(context)?.owner.as_str())
        .await
        .map_err(ApiError::from)?;
    Ok(QueueStatus(
        database.queue_state().await.map_err(ApiError::from)?,
    ))
}

async fn own_conversion(
    services: &Services,
    principal: &Principal,
    id: &ID,
) -> Result<conversion::Model, ApiError> {
    let no_such = || ApiError::not_found("conversion");
    let id: ConversionId = id.parse().map_err(|_| no_such())?;
    find_conversion(services, principal, id)
        .await?
        .ok_or_else(no_such)
}

fn items(
    refusals: Vec<Option<ApiError>>,
    conversions: Vec<conversion::Model>,
) -> Vec<SubmitBatchItem> {
    let mut conversions = conversions.into_iter().peekable();
    let item = |(refusal, index): (Option<ApiError>, i32)| match refusal {
        None => {
            let conversion = conversions.next_if(|row| row.batch_index == Some(index));
            SubmitBatchItem {
                index,
                conversion: conversion.map(Conversion::from),
                error: None,
            }
        }
        Some(refusal) => {
            let refusal = refusal.or_at(format!("images.{index}"));
            let error = SubmitError {
                code: refusal.code,
                message: refusal.message,
                field: refusal.field,
                retryable: refusal.retryable,
            };
            SubmitBatchItem {
                index,
                conversion: None,
                error: Some(error),
            }
        }
    };
    refusals.into_iter().zip(0..).map(item).collect()
}

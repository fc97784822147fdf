//! Hooks, and what became of telling them.

use async_graphql::{
    Context, ID, InputObject, Object, Result, SimpleObject,
    connection::{Connection, Edge, EmptyFields, query},
};
use time::OffsetDateTime;

use crate::{
    auth::principal::Principal,
    conversion::{
        WebhookDeliveryId,
        webhook::{Event, Hook},
    },
    db::{
        entities::webhook_delivery::{self, DeliveryError, DeliveryStatus},
        webhooks::DeliveryFilter,
    },
    graphql::{
        Services,
        error::ApiError,
        guard::principal,
        query::{PAGE_DEFAULT, PAGE_MAX},
    },
};

/// Whom to tell of what.
#[derive(Debug, Clone, SimpleObject)]
pub struct Webhook {
    /// Where to.
    pub url: String,
    /// Of what.
    pub events: Vec<Event>,
}

impl From<Hook> for Webhook {
    fn from(hook: Hook) -> Self {
        let Hook {
            url,
            host: _,
            events,
        } = hook;
        Self { url, events }
    }
}

/// Something that a hook is told, and what became of it.
#[derive(Debug, Clone)]
pub struct WebhookDelivery(pub webhook_delivery::Model);

/// Something that a hook is told, and what became of it.
#[Object]
impl WebhookDelivery {
    /// The delivery's id: the message's `webhook-id`, at each attempt.
    async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// What is told.
    async fn event(&self) -> Event {
        self.0.event
    }

    /// The conversion that it is about; null: it is about a batch.
    async fn conversion_id(&self) -> Option<ID> {
        self.0.conversion_id.map(|id| id.to_string().into())
    }

    /// The batch that it is about, or that its conversion belongs to.
    async fn batch_id(&self) -> Option<ID> {
        self.0.batch_id.map(|id| id.to_string().into())
    }

    /// Where to; null for who isn't the owner, since addresses may hold secrets.
    async fn url(&self, context: &Context<'_>) -> Result<Option<&str>> {
        let is_own = principal(context)?.owner == self.0.owner;
        Ok(is_own.then_some(self.0.url.as_str()))
    }

    /// Host and port of the address.
    async fn host(&self) -> &str {
        &self.0.host
    }

    /// Whose hook it is.
    async fn owner(&self) -> &str {
        self.0.owner.as_str()
    }

    /// What has become of it.
    async fn status(&self) -> DeliveryStatus {
        self.0.status
    }

    /// How often it was tried.
    async fn attempts(&self) -> i32 {
        self.0.attempts
    }

    /// What the receiver answered last; null: it has not answered.
    async fn last_status_code(&self) -> Option<i32> {
        self.0.last_status_code
    }

    /// Why the last attempt did not deliver.
    async fn last_error(&self) -> Option<DeliveryError> {
        self.0.last_error
    }

    /// When it is tried next; null once it has ended, and while an attempt is under way.
    async fn next_attempt_at(&self) -> Option<OffsetDateTime> {
        self.0.next_attempt_at.filter(|_| self.0.node_id.is_none())
    }

    /// When it happened.
    async fn created_at(&self) -> OffsetDateTime {
        self.0.created_at
    }

    /// When the receiver had it.
    async fn delivered_at(&self) -> Option<OffsetDateTime> {
        self.0.delivered_at
    }
}

/// Which deliveries to list; all conditions hold together.
#[derive(Debug, Default, InputObject)]
pub struct WebhookDeliveryFilter {
    /// About this conversion.
    pub conversion: Option<ID>,
    /// About this batch or its conversions.
    pub batch: Option<ID>,
    /// In one of these states.
    pub status: Option<Vec<DeliveryStatus>>,
}

impl WebhookDeliveryFilter {
    fn checked(self) -> Result<DeliveryFilter, ApiError> {
        let Self {
            conversion,
            batch,
            status,
        } = self;
        Ok(DeliveryFilter {
            conversion: conversion.map(|id| id.parse()).transpose().map_err(
                |error: crate::conversion::IdError| {
                    ApiError::invalid("filter.conversion", error.to_string())
                },
            )?,
            batch: batch.map(|id| id.parse()).transpose().map_err(
                |error: crate::conversion::IdError| {
                    ApiError::invalid("filter.batch", error.to_string())
                },
            )?,
            status,
        })
    }
}

/// One page of a caller's deliveries, newest first. The cursor is the delivery's id: ids are ordered by their time.
///
/// # Errors
/// `INVALID_INPUT` for a filter, size or cursor that can't be, `INTERNAL` when the database does not answer.
pub async fn page(
    services: &Services,
    principal: &Principal,
    first: Option<i32>,
    after: Option<String>,
    filter: WebhookDeliveryFilter,
) -> Result<Connection<String, WebhookDelivery, EmptyFields, EmptyFields>> {
    let filter = filter.checked()?;
    query(
        after,
        None,
        first,
        None,
        |after: Option<String>, _: Option<String>, first, _| async move {
            let count = first.unwrap_or(PAGE_DEFAULT);
            if count > PAGE_MAX {
                let message = format!("A page has at most {PAGE_MAX} deliveries.");
                return Err(ApiError::invalid("first", message).into());
            }
            let has_previous = after.is_some();
            let before = after
                .map(|text| text.parse::<WebhookDeliveryId>())
                .transpose()
                .map_err(|_| ApiError::invalid("after", "This is no cursor of this list."))?;
            // One more than asked for tells whether there are others.
            let limit = u64::try_from(count + 1).expect("a page's size is small");
            let mut rows = services
                .database
                .deliveries(principal.sees(), filter, before, limit)
                .await
                .map_err(ApiError::from)?;
            let has_next = rows.len() > count;
            rows.truncate(count);
            let mut connection = Connection::new(has_previous, has_next);
            connection.edges.extend(
                rows.into_iter()
                    .map(|row| Edge::new(row.id.to_string(), WebhookDelivery(row))),
            );
            Ok::<_, async_graphql::Error>(connection)
        },
    )
    .await
}

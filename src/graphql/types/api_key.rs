//! API keys, for admins. What is stored signs nothing; a secret is shown once, when it is made.

use async_graphql::{
    ID, Object, Result, SimpleObject,
    connection::{Connection, Edge, EmptyFields, query},
};
use time::OffsetDateTime;

use super::webhook::Webhook;
use crate::{
    auth::{api_key::KeyId, principal::Permission},
    db::entities::api_key,
    graphql::{
        Services,
        error::ApiError,
        query::{PAGE_DEFAULT, PAGE_MAX},
    },
};

/// A key that a program signs its requests with.
#[derive(Debug, Clone)]
pub struct ApiKey(pub api_key::Model);

/// How much a caller may use.
#[derive(Debug, Clone, SimpleObject)]
pub struct KeyQuotas {
    /// Requests a minute; a tenth of them may come at once.
    pub requests_per_minute: u32,
    /// Conversions queued and running at a time; null: no limit of its own.
    pub conversions_at_once: Option<u32>,
    /// Conversions a day of UTC; null: no limit of its own.
    pub conversions_per_day: Option<u32>,
    /// Images in one submission.
    pub images_per_batch: u32,
}

/// A key that a program signs its requests with.
#[Object]
impl ApiKey {
    /// The key's id, which requests name as `keyid`.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// What people call it.
    async fn name(&self) -> &str {
        &self.0.name
    }

    /// What it may do.
    async fn permissions(&self) -> Vec<Permission> {
        self.0.allowed().iter().collect()
    }

    /// How much it may use.
    async fn quotas(&self) -> KeyQuotas {
        let quotas = self.0.quotas();
        KeyQuotas {
            requests_per_minute: quotas.requests_per_minute,
            conversions_at_once: quotas.conversions_at_once,
            conversions_per_day: quotas.conversions_per_day,
            images_per_batch: quotas.images_per_batch,
        }
    }

    /// The networks that it may be used from; null: any.
    async fn allowed_networks(&self) -> Option<&[String]> {
        self.0.networks.as_deref()
    }

    /// How many secrets it has had.
    async fn generation(&self) -> i32 {
        self.0.generation
    }

    /// The name of the master key that its secret comes from.
    async fn master(&self) -> &str {
        &self.0.master
    }

    /// Until when the secret before the last rotation works.
    async fn previous_secret_works_until(&self) -> Option<OffsetDateTime> {
        self.0.previous_until
    }

    /// When it was made.
    async fn created_at(&self) -> OffsetDateTime {
        self.0.created_at
    }

    /// Who made it.
    async fn created_by(&self) -> &str {
        &self.0.created_by
    }

    /// When it ends by itself; null: never.
    async fn expires_at(&self) -> Option<OffsetDateTime> {
        self.0.expires_at
    }

    /// When it was revoked.
    async fn revoked_at(&self) -> Option<OffsetDateTime> {
        self.0.revoked_at
    }

    /// When it was last used, to the minute.
    async fn last_used_at(&self) -> Option<OffsetDateTime> {
        self.0.last_used_at
    }

    /// Who is told of what it submits without a hook of its own.
    async fn webhook(&self) -> Option<Webhook> {
        self.0.webhook.clone().map(Webhook::from)
    }
}

/// One page, newest first. The cursor is the key's id.
///
/// # Errors
/// `INVALID_INPUT` for a size or cursor that can't be, `INTERNAL` when the database does not answer.
pub async fn page(
    services: &Services,
    first: Option<i32>,
    after: Option<String>,
) -> Result<Connection<String, ApiKey, EmptyFields, EmptyFields>> {
    query(
        after,
        None,
        first,
        None,
        |after: Option<String>, _: Option<String>, first, _| async move {
            let count = first.unwrap_or(PAGE_DEFAULT);
            if count > PAGE_MAX {
                let message = format!("A page has at most {PAGE_MAX} keys.");
                return Err(ApiError::invalid("first", message).into());
            }
            let no_cursor = || ApiError::invalid("after", "This is no cursor of this list.");
            let last = match &after {
                Some(text) => {
                    let id = text.parse::<KeyId>().map_err(|_| no_cursor())?;
                    let row = services.database.key(&id).await.map_err(ApiError::from)?;
                    Some(row.ok_or_else(no_cursor)?)
                }
                None => None,
            };
            // One more than asked for tells whether there are others.
            let limit = u64::try_from(count + 1).expect("a page's size is small");
            let mut rows = services
                .database
                .keys(last.as_ref(), limit)
                .await
                .map_err(ApiError::from)?;
            let has_next = rows.len() > count;
            rows.truncate(count);
            let mut connection = Connection::new(after.is_some(), has_next);
            connection.edges.extend(
                rows.into_iter()
                    .map(|row| Edge::new(row.id.to_string(), ApiKey(row))),
            );
            Ok::<_, async_graphql::Error>(connection)
        },
    )
    .await
}

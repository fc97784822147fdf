//! The audit log, for admins.

use async_graphql::{
    ID, InputObject, Object, Result, SimpleObject,
    connection::{Connection, Edge, EmptyFields, query},
};
use time::OffsetDateTime;

use crate::{
    conversion::{AuditEventId, NodeId},
    db::audit::{
        event::Kind,
        listing::{AuditCursor, AuditFilter},
        stored::StoredEvent,
    },
    graphql::{
        Services,
        error::ApiError,
        query::{PAGE_DEFAULT, PAGE_MAX},
    },
};

/// Which audit events to list; all conditions hold together.
#[derive(Debug, Default, InputObject)]
#[graphql(name = "AuditFilter")]
pub struct AuditEventFilter {
    /// Of one of these kinds.
    pub kind: Option<Vec<Kind>>,
    /// By this owner: `user:` and a name, or `key:` and a key's id.
    pub actor: Option<String>,
    /// With this key.
    pub key_id: Option<String>,
    /// This operation.
    pub operation: Option<String>,
    /// `OK`, or an error's code.
    pub outcome: Option<String>,
    /// At or after this time.
    pub since: Option<OffsetDateTime>,
    /// Before this time.
    pub before: Option<OffsetDateTime>,
}

/// Something that was done or refused.
#[derive(Debug, Clone)]
pub struct AuditEvent(pub StoredEvent);

/// What an event was about.
#[derive(Debug, Clone, SimpleObject)]
pub struct AuditDetail {
    /// What is told, such as `conversion` or `keyId`.
    pub name: String,
    /// An id, a number or a flag, as text.
    pub value: String,
}

/// Something that was done or refused.
#[Object]
impl AuditEvent {
    /// The event's id.
    async fn id(&self) -> ID {
        AuditEventId(self.0.id).to_string().into()
    }

    /// When it was stored, by the database's clock.
    async fn at(&self) -> OffsetDateTime {
        self.0.at()
    }

    /// `MUTATION`, `REFUSAL`, `REFUSALS` (several, counted together) or `COMMAND`.
    async fn kind(&self) -> Result<Kind, ApiError> {
        <Kind as sea_orm::ActiveEnum>::try_from_value(&self.0.kind)
            .map_err(|error| ApiError::internal(&error))
    }

    /// Whoever was let in: `user:` and a name, or `key:` and a key's id; null for a caller who wasn't.
    async fn actor(&self) -> Option<&str> {
        self.0.actor.as_deref()
    }

    /// The key that was used; of a refusal without an actor, the one that the caller claimed to hold.
    async fn key_id(&self) -> Option<&str> {
        self.0.key_id.as_deref()
    }

    /// What was asked for; null where a request was refused before it was read.
    async fn operation(&self) -> Option<&str> {
        self.0.operation.as_deref()
    }

    /// `OK`, or the code of the error that the caller read.
    async fn outcome(&self) -> &str {
        &self.0.outcome
    }

    /// Where the request came from.
    async fn address(&self) -> Option<&str> {
        self.0.address.as_deref()
    }

    /// The request's id, as the server's log has it.
    async fn request_id(&self) -> Option<&str> {
        self.0.request_id.as_deref()
    }

    /// The id of the node that the request came to.
    async fn node_id(&self) -> Option<ID> {
        self.0.node_id.map(|id| NodeId(id).to_string().into())
    }

    /// How many requests the event stands for.
    async fn count(&self) -> i32 {
        self.0.count
    }

    /// What it was about, such as the conversion that was submitted.
    async fn details(&self) -> Result<Vec<AuditDetail>, ApiError> {
        let details: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(&self.0.details).map_err(|error| ApiError::internal(&error))?;
        let detail = |(name, value): (String, serde_json::Value)| AuditDetail {
            name,
            value: match value {
                serde_json::Value::String(text) => text,
                other => other.to_string(),
            },
        };
        Ok(details.into_iter().map(detail).collect())
    }
}

/// One page, newest first.
///
/// # Errors
/// `INVALID_INPUT` for a size or cursor that can't be, `INTERNAL` when the database does not answer.
pub async fn page(
    services: &Services,
    first: Option<i32>,
    after: Option<String>,
    filter: AuditEventFilter,
) -> Result<Connection<String, AuditEvent, EmptyFields, EmptyFields>> {
    let AuditEventFilter {
        kind,
        actor,
        key_id,
        operation,
        outcome,
        since,
        before,
    } = filter;
    let filter = AuditFilter {
        kinds: kind,
        actor,
        key_id,
        operation,
        outcome,
        since,
        before,
    };
    query(
        after,
        None,
        first,
        None,
        |after: Option<String>, _: Option<String>, first, _| async move {
            let count = first.unwrap_or(PAGE_DEFAULT);
            if count > PAGE_MAX {
                let message = format!("A page has at most {PAGE_MAX} events.");
                return Err(ApiError::invalid("first", message).into());
            }
            let has_previous = after.is_some();
            let cursor = after
                .map(|text| text.parse::<AuditCursor>())
                .transpose()
                .map_err(|_| ApiError::invalid("after", "This is no cursor of this list."))?;
            // One more than asked for tells whether there are others.
            let limit = u32::try_from(count + 1).expect("a page's size is small");
            let mut events = services
                .database
                .audit_events(filter, cursor, limit)
                .await
                .map_err(ApiError::from)?;
            let has_next = events.len() > count;
            events.truncate(count);
            let mut connection = Connection::new(has_previous, has_next);
            connection.edges.extend(
                events
                    .into_iter()
                    .map(|event| Edge::new(AuditCursor::of(&event).to_string(), AuditEvent(event))),
            );
            Ok::<_, async_graphql::Error>(connection)
        },
    )
    .await
}

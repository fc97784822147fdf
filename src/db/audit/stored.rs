//! Events as Postgres returns them: what is chained and what is shown is the same.

use sea_orm::FromQueryResult;
use time::OffsetDateTime;
use uuid::Uuid;

use super::event::AuditEvent;
use crate::db::{Database, DatabaseError};

/// The columns of [`StoredEvent`]. Times become whole microseconds since 1970, which is how exactly Postgres knows
/// them, and details the text that Postgres writes, in which numbers keep all their digits.
pub(super) const COLUMNS: &str = "e.id, \
    CASE WHEN isfinite(e.at) THEN (extract(epoch FROM e.at) * 1000000)::bigint END AS at_microseconds, \
    e.kind, e.actor, e.key_id, e.operation, e.outcome, e.address, e.request_id, e.node_id, e.count, e.details::text AS details";

/// A row of `audit_event`, also one that the table should never have taken.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
pub struct StoredEvent {
    pub id: Uuid,
    /// Since 1970; unset for a time that is none.
    pub at_microseconds: Option<i64>,
    pub kind: String,
    pub actor: Option<String>,
    pub key_id: Option<String>,
    pub operation: Option<String>,
    pub outcome: String,
    pub address: Option<String>,
    pub request_id: Option<String>,
    pub node_id: Option<Uuid>,
    pub count: i32,
    /// A JSON object.
    pub details: String,
}

impl StoredEvent {
    /// When it was stored, by the database's clock.
    #[must_use]
    pub fn at(&self) -> OffsetDateTime {
        self.at_microseconds
            .and_then(from_microseconds)
            .unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }
}

/// A time of so many microseconds since 1970; `None` beyond the year 9999.
pub(super) fn from_microseconds(microseconds: i64) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(microseconds) * 1_000).ok()
}

impl Database {
    /// Stores events in one statement; those that are there already stay as they are.
    ///
    /// # Errors
    /// [`DatabaseError`] when the statement fails; none is stored then, or all were and the answer was lost.
    pub async fn insert_audit(&self, events: &[AuditEvent]) -> Result<(), DatabaseError> {
        let rows: serde_json::Value = events.iter().map(AuditEvent::row).collect();
        self.execute(
            "INSERT INTO audit_event (id, kind, actor, key_id, operation, outcome, address, request_id, node_id, count, details)
             SELECT id, kind, actor, key_id, operation, outcome, address, request_id, node_id, count, details
             FROM jsonb_to_recordset($1) AS event (id uuid, kind text, actor text, key_id text, operation text,
                 outcome text, address text, request_id text, node_id uuid, count integer, details jsonb)
             ON CONFLICT (id) DO NOTHING",
            [rows.into()],
        )
        .await?;
        for event in events {
            metrics::counter!("orfeas_audit_events_total", "kind" => event.kind.as_str())
                .increment(1);
        }
        Ok(())
    }
}

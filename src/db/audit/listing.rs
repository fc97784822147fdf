//! The log as admins read it.

use std::{fmt, str::FromStr};

use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    event::Kind,
    stored::{COLUMNS, StoredEvent, from_microseconds},
};
use crate::db::{Database, DatabaseError};

/// Which events to list; all conditions hold together.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AuditFilter {
    /// One of these kinds.
    pub kinds: Option<Vec<Kind>>,
    /// By this owner: `user:…` or `key:…`.
    pub actor: Option<String>,
    /// With this key, proven or claimed.
    pub key_id: Option<String>,
    pub operation: Option<String>,
    /// `OK` or an error's code.
    pub outcome: Option<String>,
    /// At or after this time.
    pub since: Option<OffsetDateTime>,
    /// Before this time.
    pub before: Option<OffsetDateTime>,
}

/// A place in the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditCursor {
    at_microseconds: i64,
    id: Uuid,
}

/// A text that is no place in the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no cursor of the audit log")]
pub struct CursorError;

impl AuditCursor {
    /// The place of an event.
    #[must_use]
    pub fn of(event: &StoredEvent) -> Self {
        Self {
            at_microseconds: event.at_microseconds.unwrap_or_default(),
            id: event.id,
        }
    }
}

impl fmt::Display for AuditCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}", self.at_microseconds, self.id.simple())
    }
}

impl FromStr for AuditCursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        let (at, id) = text.split_once('_').ok_or(CursorError)?;
        let at_microseconds = at.parse().map_err(|_| CursorError)?;
        // Times that Postgres would refuse are no cursors either.
        from_microseconds(at_microseconds).ok_or(CursorError)?;
        Ok(Self {
            at_microseconds,
            id: Uuid::try_parse(id).map_err(|_| CursorError)?,
        })
    }
}

/// Conditions with their values, numbered as they are added.
#[derive(Default)]
struct Conditions {
    sql: Vec<String>,
    values: Vec<sea_orm::Value>,
}

impl Conditions {
    /// Adds a condition, in whose text `?` stands for the value.
    fn add(&mut self, sql: &str, value: impl Into<sea_orm::Value>) {
        self.values.push(value.into());
        self.sql
            .push(sql.replace('?', &format!("${}", self.values.len())));
    }
}

impl Database {
    /// Events, newest first, at most `count_max`, after a place in the list.
    ///
    /// # Errors
    /// [`DatabaseError`] when the query fails.
    pub async fn audit_events(
        &self,
        filter: AuditFilter,
        after: Option<AuditCursor>,
        count_max: u32,
    ) -> Result<Vec<StoredEvent>, DatabaseError> {
        let AuditFilter {
            kinds,
            actor,
            key_id,
            operation,
            outcome,
            since,
            before,
        } = filter;
        let mut conditions = Conditions::default();
        if let Some(kinds) = kinds {
            let names: Vec<String> = kinds.iter().map(|kind| kind.as_str().into()).collect();
            conditions.add("e.kind = ANY (?)", names);
        }
        let columns = [
            ("e.actor = ?", actor),
            ("e.key_id = ?", key_id),
            ("e.operation = ?", operation),
            ("e.outcome = ?", outcome),
        ];
        for (sql, text) in columns {
            if let Some(text) = text {
                conditions.add(sql, text);
            }
        }
        if let Some(since) = since {
            conditions.add("e.at >= ?", since);
        }
        if let Some(before) = before {
            conditions.add("e.at < ?", before);
        }
        if let Some(AuditCursor {
            at_microseconds,
            id,
        }) = after
        {
            let at = from_microseconds(at_microseconds).expect("checked when it was parsed");
            conditions.values.push(at.into());
            let at = conditions.values.len();
            conditions.add(&format!("(e.at, e.id) < (${at}, ?)"), id);
        }
        let narrowed = if conditions.sql.is_empty() {
            "true".to_owned()
        } else {
            conditions.sql.join(" AND ")
        };
        conditions.values.push(i64::from(count_max).into());
        let sql = format!(
            "SELECT {COLUMNS} FROM audit_event e WHERE {narrowed} ORDER BY e.at DESC, e.id DESC LIMIT ${}",
            conditions.values.len()
        );
        self.all(&sql, conditions.values).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_written() {
        let cursor = AuditCursor {
            at_microseconds: -1,
            id: Uuid::now_v7(),
        };
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
        for text in ["", "1", "1_", "_", "x_y", "9223372036854775807_018f"] {
            assert_eq!(text.parse::<AuditCursor>(), Err(CursorError), "{text}");
        }
    }
}

//! The record of transitions, for subscriptions.

use sea_orm::{DbErr, FromQueryResult, QueryResult};

use super::{Database, DatabaseError, entities::event::Model};
use crate::conversion::{BatchId, ConversionId};

/// How many events are returned at most for each that was asked; who needs more asks again.
pub const PAGE: usize = 100;

/// A transition, and what it was asked for by: all those after the given one.
#[derive(Debug)]
pub struct Found {
    pub after: i32,
    pub event: Model,
}

impl FromQueryResult for Found {
    fn from_query_result(row: &QueryResult, prefix: &str) -> Result<Self, DbErr> {
        Ok(Self {
            after: row.try_get(prefix, "after")?,
            event: Model::from_query_result(row, prefix)?,
        })
    }
}

impl Database {
    /// The transitions of each conversion after the one given with it, in order, at most [`PAGE`] of each.
    ///
    /// # Errors
    /// [`DatabaseError`] when the query fails.
    pub async fn events_of_conversions(
        &self,
        asked: &[(ConversionId, i32)],
    ) -> Result<Vec<Found>, DatabaseError> {
        let (ids, afters): (Vec<_>, Vec<_>) =
            asked.iter().map(|(id, after)| (id.0, *after)).unzip();
        self.all(
            "SELECT asked.after, event.* FROM unnest($1::uuid[], $2::integer[]) AS asked (id, after)
             CROSS JOIN LATERAL (SELECT * FROM conversion_event
                 WHERE conversion_id = asked.id AND sequence > asked.after ORDER BY sequence LIMIT $3) AS event",
            [ids.into(), afters.into(), limit()],
        )
        .await
    }

    /// The transitions of each batch's conversions after the one given with it, in order, at most [`PAGE`] of each.
    ///
    /// # Errors
    /// [`DatabaseError`] when the query fails.
    pub async fn events_of_batches(
        &self,
        asked: &[(BatchId, i32)],
    ) -> Result<Vec<Found>, DatabaseError> {
        let (ids, afters): (Vec<_>, Vec<_>) =
            asked.iter().map(|(id, after)| (id.0, *after)).unzip();
        self.all(
            "SELECT asked.after, event.* FROM unnest($1::uuid[], $2::integer[]) AS asked (id, after)
             CROSS JOIN LATERAL (SELECT * FROM conversion_event
                 WHERE batch_id = asked.id AND batch_sequence > asked.after ORDER BY batch_sequence LIMIT $3) AS event",
            [ids.into(), afters.into(), limit()],
        )
        .await
    }
}

fn limit() -> sea_orm::Value {
    i64::try_from(PAGE).expect("it is small").into()
}

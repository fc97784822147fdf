//! Which store belongs to this database, and whose turn it is to look through it.

use std::time::Duration;

use sea_orm::FromQueryResult;
use uuid::Uuid;

use super::{Database, DatabaseError};

/// The store of this database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromQueryResult)]
pub struct OwnStore {
    /// What the store's mark must say.
    pub store_id: Uuid,
    /// Whether such a mark was written before.
    pub is_adopted: bool,
}

impl Database {
    /// Which store is this database's.
    ///
    /// # Errors
    /// [`DatabaseError`] when the query fails.
    pub async fn own_store(&self) -> Result<OwnStore, DatabaseError> {
        let own = self
            .one(
                "SELECT store_id, adopted_at IS NOT NULL AS is_adopted FROM store_sweep",
                [],
            )
            .await?;
        Ok(own.expect("the migration has made the row"))
    }

    /// Notes that the store bears this database's mark.
    ///
    /// # Errors
    /// [`DatabaseError`] when the statement fails.
    pub async fn store_adopted(&self) -> Result<(), DatabaseError> {
        self.execute(
            "UPDATE store_sweep SET adopted_at = coalesce(adopted_at, now())",
            [],
        )
        .await?;
        Ok(())
    }

    /// Whether the store is to be looked through now; then this node does it, and the next turn is after `every`.
    ///
    /// # Errors
    /// [`DatabaseError`] when the statement fails.
    pub async fn take_store_sweep(&self, every: Duration) -> Result<bool, DatabaseError> {
        let taken = self
            .execute(
                "UPDATE store_sweep SET next_at = now() + make_interval(secs => $1) WHERE next_at <= now()",
                [every.as_secs_f64().into()],
            )
            .await?;
        Ok(taken == 1)
    }
}

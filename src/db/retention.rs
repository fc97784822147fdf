//! Conversions leave: when their owner says so, and when they have expired.

use std::{collections::HashSet, time::Duration};

use sea_orm::{ConnectionTrait, FromQueryResult};

use super::{Database, DatabaseError, connection::Transaction, statement};
use crate::conversion::{AssetId, ConversionId, Owner};

/// Held by who sweeps; any constant will do that no other program uses.
const SWEEP_LOCK: i64 = 0x006f_7266_6561_7301;
/// Deletions share it, a step of a sweep has it for itself: each of many conversions may wait for another (what was retried
/// refers to what it was retried from), and two that hold some of them could wait for each other.
const REMOVAL_LOCK: i64 = 0x006f_7266_6561_7302;

/// What a step of the sweep did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expired {
    /// So many conversions are gone, with all that is theirs.
    Erased(u32),
    /// Another node sweeps.
    Elsewhere,
}

#[derive(FromQueryResult)]
struct Locked {
    locked: bool,
}

#[derive(FromQueryResult)]
struct Erased {
    erased: i32,
}

async fn erased(
    transaction: &Transaction,
    select: &str,
    values: impl IntoIterator<Item = sea_orm::Value>,
) -> Result<u32, DatabaseError> {
    let sql = format!("SELECT erase_conversions(ARRAY ({select})) AS erased");
    let row = Erased::find_by_statement(statement(&sql, values))
        .one(transaction)
        .await?;
    let erased = row.expect("a function call yields one row").erased;
    Ok(erased.unsigned_abs())
}

impl Database {
    /// Deletes a conversion that does not run, and all that is its own; false when it runs, or is not this owner's. Its bytes
    /// are recorded to be erased.
    ///
    /// # Errors
    /// [`DatabaseError`] when a statement fails; nothing is deleted then.
    pub async fn delete_conversion(
        &self,
        owner: Option<&Owner>,
        id: ConversionId,
    ) -> Result<bool, DatabaseError> {
        let transaction = self.begin().await?;
        transaction
            .execute_raw(statement(
                "SELECT pg_advisory_xact_lock_shared($1)",
                [REMOVAL_LOCK.into()],
            ))
            .await?;
        let whose = owner.map(|owner| owner.as_str().to_owned());
        let deleted = erased(
            &transaction,
            "SELECT id FROM conversion WHERE id = $1 AND ($2::text IS NULL OR owner = $2)",
            [id.into(), whose.into()],
        )
        .await?;
        transaction.commit().await?;
        Ok(deleted == 1)
    }

    /// Deletes the conversions that these assets belong to or were made from, unless they run, and says how many there were.
    ///
    /// # Errors
    /// [`DatabaseError`] when a statement fails; nothing is deleted then.
    pub async fn remove_conversions_of(
        &self,
        assets: HashSet<AssetId>,
    ) -> Result<u64, DatabaseError> {
        if assets.is_empty() {
            return Ok(0);
        }
        let ids: Vec<uuid::Uuid> = assets.into_iter().map(|id| id.0).collect();
        let transaction = self.begin().await?;
        transaction
            .execute_raw(statement(
                "SELECT pg_advisory_xact_lock($1)",
                [REMOVAL_LOCK.into()],
            ))
            .await?;
        let removed = erased(
            &transaction,
            "SELECT id FROM conversion WHERE source_asset_id = ANY ($1)
                 OR id IN (SELECT conversion_id FROM asset WHERE id = ANY ($1))",
            [ids.into()],
        )
        .await?;
        transaction.commit().await?;
        Ok(u64::from(removed))
    }

    /// Deletes up to `count_max` conversions that ended longer ago than `kept`, the oldest first.
    ///
    /// # Errors
    /// [`DatabaseError`] when a statement fails; nothing is deleted then.
    pub async fn expire_conversions(
        &self,
        kept: Duration,
        count_max: u32,
    ) -> Result<Expired, DatabaseError> {
        let transaction = self.begin().await?;
        let locked = Locked::find_by_statement(statement(
            "SELECT pg_try_advisory_xact_lock($1) AS locked",
            [SWEEP_LOCK.into()],
        ))
        .one(&transaction)
        .await?;
        if !locked.is_some_and(|row| row.locked) {
            transaction.rollback().await?;
            return Ok(Expired::Elsewhere);
        }
        transaction
            .execute_raw(statement(
                "SELECT pg_advisory_xact_lock($1)",
                [REMOVAL_LOCK.into()],
            ))
            .await?;
        let erased = erased(
            &transaction,
            "SELECT id FROM conversion WHERE finished_at < now() - make_interval(secs => $1)
             ORDER BY finished_at LIMIT $2",
            [kept.as_secs_f64().into(), i64::from(count_max).into()],
        )
        .await?;
        transaction.commit().await?;
        Ok(Expired::Erased(erased))
    }
}

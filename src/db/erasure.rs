//! Keys whose bytes are to be erased: recorded with what removes their rows, claimed under a lease, forgotten when the
//! store has no such bytes any more.

use std::time::Duration;

use sea_orm::FromQueryResult;

use super::{Database, DatabaseError, conversions::Attempt};

/// After this time another node takes over what a node was erasing. Longer than a node is at one claim.
pub const ERASURE_LEASE: Duration = Duration::from_secs(60);
/// Between two tries at the same key at most, give or take a quarter; after the first failure it is two seconds.
const BACKOFF_MAX: Duration = Duration::from_secs(300);
/// Up to here what waits is counted; beyond it only matters that it is much.
pub const PENDING_COUNTED_MAX: i64 = 100_000;

/// What is to be erased.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
pub struct Erasure {
    /// A key, or, with a slash at its end, all keys below.
    pub storage_key: String,
}

#[derive(FromQueryResult)]
struct Count {
    count: i64,
}

impl Database {
    /// Claims up to `count_max` keys that are due, those that have waited longest first. Who erases them says so by
    /// [`Self::erased`]; of what nobody is told, the lease runs out.
    ///
    /// # Errors
    /// [`DatabaseError`] when the statement fails; nothing is claimed then.
    pub async fn claim_erasures(&self, count_max: u32) -> Result<Vec<Erasure>, DatabaseError> {
        self.all(
            "WITH due AS MATERIALIZED (
                 SELECT storage_key FROM erasure WHERE next_attempt_at <= now()
                 ORDER BY next_attempt_at LIMIT $1 FOR UPDATE SKIP LOCKED)
             UPDATE erasure SET attempts = attempts + 1, next_attempt_at = now() + make_interval(secs => $2)
             FROM due WHERE erasure.storage_key = due.storage_key RETURNING erasure.storage_key",
            [i64::from(count_max).into(), ERASURE_LEASE.as_secs_f64().into()],
        )
        .await
    }

    /// Forgets keys under which the store has nothing any more.
    ///
    /// # Errors
    /// [`DatabaseError`] when the statement fails; they are erased once more then, which does no harm.
    pub async fn erased(&self, keys: Vec<String>) -> Result<(), DatabaseError> {
        self.execute(
            "DELETE FROM erasure WHERE storage_key = ANY ($1)",
            [keys.into()],
        )
        .await?;
        Ok(())
    }

    /// Puts off keys that could not be erased, the longer the more often that was so.
    ///
    /// # Errors
    /// [`DatabaseError`] when the statement fails; the lease runs out then.
    pub async fn put_off_erasures(&self, keys: Vec<String>) -> Result<(), DatabaseError> {
        self.execute(
            "UPDATE erasure SET next_attempt_at = now()
                 + make_interval(secs => least($2, power(2, least(attempts, 30))) * (0.75 + random() / 2))
             WHERE storage_key = ANY ($1)",
            [keys.into(), BACKOFF_MAX.as_secs_f64().into()],
        )
        .await?;
        Ok(())
    }

    /// Has the bytes erased that an attempt has stored and that did not become assets. `folder` is where the attempt,
    /// and nobody else, stored them.
    ///
    /// # Errors
    /// [`DatabaseError`] when the statement fails; the sweep of the store finds them then.
    pub async fn discard_attempt(
        &self,
        attempt: Attempt,
        folder: &str,
    ) -> Result<(), DatabaseError> {
        self.execute(
            "INSERT INTO erasure (storage_key) SELECT $3
             WHERE NOT EXISTS (SELECT FROM asset WHERE conversion_id = $1 AND attempt = $2) ON CONFLICT DO NOTHING",
            [
                attempt.conversion.into(),
                attempt.number.into(),
                format!("{folder}/").into(),
            ],
        )
        .await?;
        Ok(())
    }

    /// Of these keys those that no asset has and that nobody is to erase.
    ///
    /// # Errors
    /// [`DatabaseError`] when the query fails.
    pub async fn unknown_keys(&self, keys: Vec<String>) -> Result<Vec<String>, DatabaseError> {
        let unknown = self
            .all::<Erasure>(
                "SELECT looked.storage_key FROM unnest($1::text[]) AS looked (storage_key)
                 WHERE NOT EXISTS (SELECT FROM asset WHERE asset.storage_key = looked.storage_key)
                     AND NOT EXISTS (SELECT FROM erasure WHERE erasure.storage_key = looked.storage_key)",
                [keys.into()],
            )
            .await?;
        Ok(unknown.into_iter().map(|row| row.storage_key).collect())
    }

    /// Has these keys erased, but for those that an asset has by now.
    ///
    /// # Errors
    /// [`DatabaseError`] when the statement fails; nothing is recorded then.
    pub async fn erase_keys(&self, keys: Vec<String>) -> Result<u64, DatabaseError> {
        self.execute(
            "INSERT INTO erasure (storage_key)
             SELECT looked.storage_key FROM unnest($1::text[]) AS looked (storage_key)
             WHERE NOT EXISTS (SELECT FROM asset WHERE asset.storage_key = looked.storage_key)
             ON CONFLICT DO NOTHING",
            [keys.into()],
        )
        .await
    }

    /// How many keys are to be erased, counted up to [`PENDING_COUNTED_MAX`].
    ///
    /// # Errors
    /// [`DatabaseError`] when the query fails.
    pub async fn erasures_pending(&self) -> Result<i64, DatabaseError> {
        let count = self
            .one::<Count>(
                "SELECT count(*) AS count FROM (SELECT FROM erasure LIMIT $1) counted",
                [PENDING_COUNTED_MAX.into()],
            )
            .await?;
        Ok(count
            .expect("an aggregate without grouping yields one row")
            .count)
    }

    /// What all assets take, by the counts of their owners.
    ///
    /// # Errors
    /// [`DatabaseError`] when the query fails.
    pub async fn stored_bytes(&self) -> Result<i64, DatabaseError> {
        let count = self
            .one::<Count>(
                "SELECT coalesce(sum(bytes), 0)::bigint AS count FROM owner_storage",
                [],
            )
            .await?;
        Ok(count
            .expect("an aggregate without grouping yields one row")
            .count)
    }
}

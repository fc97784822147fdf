//! What callers use, charged by the database's clock in one statement each, so that it is exact over all nodes.

use std::time::Duration;

use sea_orm::FromQueryResult;
use time::OffsetDateTime;

use super::{Database, DatabaseError};
use crate::{auth::api_key::KeyId, conversion::Owner};

/// A minute's allowance as it stands right after a charge.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Requests a minute.
    pub allowed: u32,
    /// How many could follow at once.
    pub remaining: u32,
    /// Seconds until all of it is unused again.
    pub reset_seconds: f64,
    /// When it was refused: seconds until it would be accepted.
    pub retry: Option<f64>,
}

/// What became of a request whose signature is right.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Admission {
    /// It may go on; the key stands at this version.
    Admitted { version: i32, rate: Rate },
    /// Too many requests.
    Limited { rate: Rate },
    /// The nonce was used before.
    Replayed,
    /// The key was revoked.
    Revoked,
    /// The key has ended by itself.
    Expired,
    /// The secret was replaced, and its grace period is over.
    Superseded,
}

/// One use of a signature.
#[derive(Debug, Clone, Copy)]
pub struct Use<'a> {
    pub key: &'a KeyId,
    /// Which of the key's secrets signed.
    pub generation: i32,
    /// SHA-256 of the nonce, and until when it is to be remembered; `None` for operations over a connection that was
    /// admitted with one.
    pub nonce: Option<([u8; 32], OffsetDateTime)>,
}

/// A quota that a submission would exceed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exceeded {
    /// Conversions queued and running.
    AtOnce { allowed: u32, used: u32 },
    /// Conversions of today.
    PerDay {
        allowed: u32,
        used: u32,
        /// Until the day ends.
        left: Duration,
    },
    /// Bytes of pictures and meshes.
    Stored { allowed: u64, used: u64, added: u64 },
}

/// What an owner uses now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromQueryResult)]
pub struct Usage {
    /// Conversions queued and running.
    pub active: i64,
    /// Conversions charged today.
    pub today: i64,
    /// Bytes of pictures and meshes.
    pub stored_bytes: i64,
}

#[derive(FromQueryResult)]
struct Verdict {
    verdict: String,
    current_version: Option<i32>,
    allowed: Option<i32>,
    remaining: Option<i32>,
    reset_seconds: Option<f64>,
    retry_seconds: Option<f64>,
}

#[derive(FromQueryResult)]
struct Charged {
    charged: bool,
    remaining: i32,
    reset_seconds: f64,
    retry_seconds: f64,
}

/// A call whose commit doesn't wait for the disk. What is charged for comes after it in the log and waits, so whatever lasts of
/// a request, its nonce and its charge last too; where nothing does, the same signature may come again.
fn unhurried(function: &str) -> String {
    format!(
        "SELECT answer.* FROM {function} AS answer, set_config('synchronous_commit', 'off', true)"
    )
}

fn count(value: i32) -> u32 {
    u32::try_from(value).unwrap_or_default()
}

impl Database {
    /// Rechecks a key, records the nonce and charges the request, in one round trip.
    ///
    /// # Errors
    /// [`DatabaseError`] when the statement fails; nothing is charged then.
    pub async fn admit_request(&self, request: Use<'_>) -> Result<Admission, DatabaseError> {
        let Use {
            key,
            generation,
            nonce,
        } = request;
        let (hash, until) = nonce.map_or((None, None), |(hash, until)| {
            (Some(hash.to_vec()), Some(until))
        });
        let row = self
            .one::<Verdict>(
                &unhurried("admit_request($1, $2, $3, $4, 1)"),
                [
                    key.clone().into(),
                    generation.into(),
                    hash.into(),
                    until.into(),
                ],
            )
            .await?
            .expect("a function with OUT parameters yields one row");
        let rate = |refused: bool| Rate {
            allowed: row.allowed.map_or(0, count),
            remaining: row.remaining.map_or(0, count),
            reset_seconds: row.reset_seconds.unwrap_or_default(),
            retry: row.retry_seconds.filter(|_| refused),
        };
        Ok(match row.verdict.as_str() {
            "admitted" => Admission::Admitted {
                version: row.current_version.unwrap_or_default(),
                rate: rate(false),
            },
            "limited" => Admission::Limited { rate: rate(true) },
            "replayed" => Admission::Replayed,
            "expired" => Admission::Expired,
            "superseded" => Admission::Superseded,
            _ => Admission::Revoked,
        })
    }

    /// Charges a person's submissions; all of a minute's may come at once.
    ///
    /// # Errors
    /// [`DatabaseError`] when the statement fails; nothing is charged then.
    pub async fn charge_person(
        &self,
        owner: &Owner,
        per_minute: u32,
        submissions: u32,
    ) -> Result<Rate, DatabaseError> {
        let whole = |value: u32| i32::try_from(value).unwrap_or(i32::MAX);
        let row = self
            .one::<Charged>(
                &unhurried("charge_rate($1, $2, $2, $3)"),
                [
                    owner.as_str().into(),
                    whole(per_minute).into(),
                    whole(submissions).into(),
                ],
            )
            .await?
            .expect("a function with OUT parameters yields one row");
        Ok(Rate {
            allowed: per_minute,
            remaining: count(row.remaining),
            reset_seconds: row.reset_seconds,
            retry: (!row.charged).then_some(row.retry_seconds),
        })
    }

    /// What an owner uses now.
    ///
    /// # Errors
    /// [`DatabaseError`] when the query fails.
    pub async fn usage(&self, owner: &Owner) -> Result<Usage, DatabaseError> {
        let usage = self
            .one(
                "SELECT (SELECT count(*) FROM conversion WHERE owner = $1 AND status IN ('queued', 'running')) AS active,
                     coalesce((SELECT conversions FROM usage_day
                         WHERE owner = $1 AND day = (now() AT TIME ZONE 'UTC')::date), 0)::int8 AS today,
                     coalesce((SELECT bytes FROM owner_storage WHERE owner = $1), 0) AS stored_bytes",
                [owner.as_str().into()],
            )
            .await?;
        Ok(usage.expect("a query without FROM yields one row"))
    }

    /// How far a caller's charges lie ahead of the clock, in seconds, without charging anything; 0 when nothing is charged.
    ///
    /// # Errors
    /// [`DatabaseError`] when the query fails.
    pub async fn seconds_ahead(&self, caller: &Owner) -> Result<f64, DatabaseError> {
        #[derive(FromQueryResult)]
        struct Ahead {
            seconds: f64,
        }
        let ahead = self
            .one::<Ahead>(
                "SELECT greatest(0, extract(epoch FROM arrival_at - clock_timestamp()))::float8 AS seconds
                 FROM request_rate WHERE caller = $1",
                [caller.as_str().into()],
            )
            .await?;
        Ok(ahead.map_or(0.0, |ahead| ahead.seconds))
    }

    /// Forgets nonces that are too old to be used again, the counts of callers that have used nothing lately, and what
    /// became of webhooks long ago.
    ///
    /// # Errors
    /// [`DatabaseError`] when a statement fails.
    pub async fn forget_used(&self) -> Result<u64, DatabaseError> {
        let nonces = self
            .execute("DELETE FROM nonce WHERE keep_until < now()", [])
            .await?;
        self.execute(
            "DELETE FROM request_rate WHERE arrival_at < now() - interval '1 hour'",
            [],
        )
        .await?;
        self.execute(
            "DELETE FROM usage_day WHERE day < (now() AT TIME ZONE 'UTC')::date - 31",
            [],
        )
        .await?;
        self.execute(
            // What somebody holds that removes conversions is left for the next time: rows locked in another order could stop both.
            "DELETE FROM idempotency WHERE (owner, key) IN (
                 SELECT owner, key FROM idempotency WHERE created_at < now() - interval '2 days' FOR UPDATE SKIP LOCKED)",
            [],
        )
        .await?;
        self.forget_deliveries().await?;
        Ok(nonces)
    }
}

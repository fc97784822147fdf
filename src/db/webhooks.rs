//! Deliveries of webhooks: claimed under a lease, ended, listed, sent again. The database's triggers make them.

use std::time::Duration;

use sea_orm::{ColumnTrait, EntityTrait, FromQueryResult, QueryFilter, QueryOrder, QuerySelect};
use time::OffsetDateTime;

use super::{
    Database, DatabaseError,
    entities::{
        conversion,
        webhook_delivery::{Column, DeliveryError, DeliveryStatus, Entity, Model},
    },
};
use crate::{
    auth::{keyring::Keyring, webhook::WebhookSecret},
    conversion::{BatchId, ConversionId, NodeId, Owner, WebhookDeliveryId, provenance::Provenance},
};

/// For how long ended deliveries are kept in the log, in days.
const KEPT_DAYS: i32 = 30;

/// What a node may take on.
#[derive(Debug, Clone)]
pub struct DeliveryClaim {
    pub node: NodeId,
    pub count_max: u32,
    /// Attempts of this node at one host, side by side.
    pub host_max: u32,
    /// Attempts of this node on behalf of one owner, side by side.
    pub owner_max: u32,
    /// How many it has under way, by host and by owner.
    pub hosts: Vec<(String, u32)>,
    pub owners: Vec<(String, u32)>,
    /// After this time another node may take over.
    pub lease: Duration,
    /// For how long after the first attempt it is tried again.
    pub retry_for: Duration,
}

/// One attempt at one delivery: what a node must name to change the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DeliveryAttempt {
    pub delivery: WebhookDeliveryId,
    pub number: i32,
}

/// How an attempt ended that did not deliver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Undelivered {
    pub error: DeliveryError,
    /// What the receiver answered, if it did.
    pub status_code: Option<u16>,
    /// When to try again, unless that is after the delivery's end; `None`: never.
    pub again_after: Option<Duration>,
}

/// Which deliveries to list; all conditions hold together.
#[derive(Debug, Clone, Default)]
pub struct DeliveryFilter {
    pub conversion: Option<ConversionId>,
    pub batch: Option<BatchId>,
    pub status: Option<Vec<DeliveryStatus>>,
}

impl Model {
    /// The attempt under way.
    #[must_use]
    pub fn attempt(&self) -> DeliveryAttempt {
        DeliveryAttempt {
            delivery: self.id,
            number: self.attempts,
        }
    }
}

#[derive(FromQueryResult)]
struct Submitted {
    request_id: Option<String>,
    trace_parent: Option<String>,
    trace_state: Option<String>,
}

impl Database {
    /// Where what a delivery tells of comes from; of a batch, all conversions come from one request.
    ///
    /// # Errors
    /// [`DatabaseError`] when the query fails.
    pub async fn provenance_of(&self, delivery: &Model) -> Result<Provenance, DatabaseError> {
        let (which, id) = match delivery.conversion_id {
            Some(id) => ("id", id.into()),
            None => ("batch_id", delivery.batch_id.into()),
        };
        let found = self
            .one(
                &format!(
                    "SELECT request_id, trace_parent, trace_state FROM conversion WHERE {which} = $1 LIMIT 1"
                ),
                [id],
            )
            .await?;
        Ok(found.map_or_else(Provenance::default, |row: Submitted| {
            conversion::provenance(
                row.request_id,
                row.trace_parent.as_deref(),
                row.trace_state.as_deref(),
            )
        }))
    }

    /// Claims deliveries that are due and whose predecessors have ended: of each host the earliest, up to what may be
    /// under way to one host and for one owner, and of all those the earliest.
    ///
    /// # Errors
    /// [`DatabaseError`] when the statement fails; nothing is claimed then.
    pub async fn claim_deliveries(
        &self,
        claim: DeliveryClaim,
    ) -> Result<Vec<Model>, DatabaseError> {
        let DeliveryClaim {
            node,
            count_max,
            host_max,
            owner_max,
            hosts,
            owners,
            lease,
            retry_for,
        } = claim;
        let whole = |count: u32| i32::try_from(count).unwrap_or(i32::MAX);
        let lists = |busy: Vec<(String, u32)>| -> (Vec<String>, Vec<i32>) {
            busy.into_iter()
                .map(|(name, count)| (name, whole(count)))
                .unzip()
        };
        let ((hosts, host_counts), (owners, owner_counts)) = (lists(hosts), lists(owners));
        self.all(
            "WITH RECURSIVE target AS (
                 (SELECT host FROM webhook_delivery WHERE status = 'pending' ORDER BY host LIMIT 1)
                 UNION ALL
                 SELECT (SELECT d.host FROM webhook_delivery d WHERE d.status = 'pending' AND d.host > target.host
                     ORDER BY d.host LIMIT 1)
                 FROM target WHERE target.host IS NOT NULL
             ), due AS (
                 SELECT turn.* FROM target
                 LEFT JOIN unnest($7::text[], $8::integer[]) AS busy (host, count) ON busy.host = target.host
                 CROSS JOIN LATERAL (
                     SELECT d.id, d.owner, d.next_attempt_at FROM webhook_delivery d
                     WHERE d.status = 'pending' AND d.host = target.host AND d.next_attempt_at <= now()
                         AND NOT EXISTS (SELECT 1 FROM webhook_delivery earlier WHERE earlier.conversion_id = d.conversion_id
                             AND earlier.sequence < d.sequence AND earlier.status = 'pending')
                         AND NOT (d.conversion_id IS NULL AND EXISTS (SELECT 1 FROM webhook_delivery earlier
                             WHERE earlier.batch_id = d.batch_id AND earlier.id <> d.id AND earlier.status = 'pending'))
                     ORDER BY d.next_attempt_at, d.id LIMIT greatest(0, $2::integer - coalesce(busy.count, 0))) turn
             ), chosen AS (
                 SELECT ranked.id FROM (
                     SELECT due.*, coalesce(busy.count, 0)
                         + row_number() OVER (PARTITION BY due.owner ORDER BY due.next_attempt_at, due.id) AS place
                     FROM due LEFT JOIN unnest($9::text[], $10::integer[]) AS busy (owner, count) ON busy.owner = due.owner) ranked
                 WHERE ranked.place <= $3 ORDER BY ranked.next_attempt_at, ranked.id LIMIT $1
             ), next AS MATERIALIZED (
                 SELECT d.id FROM webhook_delivery d JOIN chosen USING (id)
                 WHERE d.status = 'pending' AND d.next_attempt_at <= now() FOR UPDATE OF d SKIP LOCKED)
             UPDATE webhook_delivery SET attempts = attempts + 1, node_id = $6,
                 next_attempt_at = now() + make_interval(secs => $4),
                 give_up_at = coalesce(give_up_at, now() + make_interval(secs => $5))
             FROM next WHERE webhook_delivery.id = next.id RETURNING webhook_delivery.*",
            [
                i64::from(count_max).into(),
                whole(host_max).into(),
                i64::from(owner_max).into(),
                lease.as_secs_f64().into(),
                retry_for.as_secs_f64().into(),
                node.into(),
                hosts.into(),
                host_counts.into(),
                owners.into(),
                owner_counts.into(),
            ],
        )
        .await
    }

    /// Ends a delivery: its receiver has it.
    ///
    /// # Errors
    /// [`DatabaseError::Lost`] when the attempt no longer holds the row.
    pub async fn delivered(
        &self,
        attempt: DeliveryAttempt,
        status_code: u16,
    ) -> Result<(), DatabaseError> {
        let changed = self
            .execute(
                "UPDATE webhook_delivery SET status = 'delivered', delivered_at = now(), next_attempt_at = NULL, node_id = NULL,
                     last_status_code = $3, last_error = NULL
                 WHERE id = $1 AND attempts = $2 AND status = 'pending'",
                [attempt.delivery.into(), attempt.number.into(), i32::from(status_code).into()],
            )
            .await?;
        if changed == 1 {
            Ok(())
        } else {
            Err(DatabaseError::Lost)
        }
    }

    /// Ends an attempt that did not deliver, and says whether there will be another.
    ///
    /// # Errors
    /// [`DatabaseError::Lost`] when the attempt no longer holds the row.
    pub async fn undelivered(
        &self,
        attempt: DeliveryAttempt,
        end: Undelivered,
    ) -> Result<DeliveryStatus, DatabaseError> {
        #[derive(sea_orm::FromQueryResult)]
        struct After {
            status: DeliveryStatus,
        }
        let Undelivered {
            error,
            status_code,
            again_after,
        } = end;
        let after = self
            .one::<After>(
                "UPDATE webhook_delivery SET node_id = NULL, last_status_code = $3, last_error = $4,
                     status = CASE WHEN now() + make_interval(secs => $5) < give_up_at THEN 'pending' ELSE 'failed' END,
                     next_attempt_at = CASE WHEN now() + make_interval(secs => $5) < give_up_at
                         THEN now() + make_interval(secs => $5) END
                 WHERE id = $1 AND attempts = $2 AND status = 'pending' RETURNING status",
                [
                    attempt.delivery.into(),
                    attempt.number.into(),
                    status_code.map(i32::from).into(),
                    sea_orm::ActiveEnum::to_value(&error).into(),
                    again_after.map(|after| after.as_secs_f64()).into(),
                ],
            )
            .await?;
        after.map(|after| after.status).ok_or(DatabaseError::Lost)
    }

    /// Gives back what a node was at when it stops: another one tries at once.
    ///
    /// # Errors
    /// [`DatabaseError`] when the statement fails; the leases will run out then.
    pub async fn hand_back_deliveries(&self, node: NodeId) -> Result<u64, DatabaseError> {
        self.execute(
            "WITH back AS (UPDATE webhook_delivery SET node_id = NULL, next_attempt_at = now()
                 WHERE node_id = $1 AND status = 'pending' RETURNING 1)
             SELECT pg_notify('orfeas_webhook', '') FROM back LIMIT 1",
            [node.into()],
        )
        .await
    }

    /// Deliveries, newest first, of one owner or of all, before the one named.
    ///
    /// # Errors
    /// [`DatabaseError`] when the query fails.
    pub async fn deliveries(
        &self,
        owner: Option<&Owner>,
        filter: DeliveryFilter,
        before: Option<WebhookDeliveryId>,
        count_max: u64,
    ) -> Result<Vec<Model>, DatabaseError> {
        let DeliveryFilter {
            conversion,
            batch,
            status,
        } = filter;
        let mut select = owner.map_or_else(Entity::find, Entity::owned_by);
        if let Some(conversion) = conversion {
            select = select.filter(Column::ConversionId.eq(conversion));
        }
        if let Some(batch) = batch {
            select = select.filter(Column::BatchId.eq(batch));
        }
        if let Some(status) = status {
            select = select.filter(Column::Status.is_in(status));
        }
        if let Some(before) = before {
            select = select.filter(Column::Id.lt(before));
        }
        Ok(select
            .order_by_desc(Column::Id)
            .limit(count_max)
            .all(self.connection())
            .await?)
    }

    /// Sends an ended delivery again, for another day; `None` when it has not ended, or is not this owner's.
    ///
    /// # Errors
    /// [`DatabaseError`] when the statement fails.
    pub async fn redeliver(
        &self,
        owner: Option<&Owner>,
        id: WebhookDeliveryId,
    ) -> Result<Option<Model>, DatabaseError> {
        let again = self
            .one(
                "UPDATE webhook_delivery SET status = 'pending', attempts_before = attempts, next_attempt_at = now(),
                     give_up_at = NULL, delivered_at = NULL
                 WHERE id = $1 AND ($2::text IS NULL OR owner = $2) AND status <> 'pending' RETURNING *",
                [id.into(), owner.map(|owner| owner.as_str().to_owned()).into()],
            )
            .await?;
        if again.is_some() {
            self.execute("SELECT pg_notify('orfeas_webhook', '')", [])
                .await?;
        }
        Ok(again)
    }

    /// What an owner's webhooks are signed with, the present secret first: a key's own, and for the time of grace the one
    /// before; a person's by each master key. `None` when the key was revoked or has run out.
    ///
    /// # Errors
    /// [`DatabaseError`] when a query fails.
    pub async fn webhook_secrets(
        &self,
        ring: &Keyring,
        owner: &Owner,
    ) -> Result<Option<Vec<WebhookSecret>>, DatabaseError> {
        let Some(id) = owner.key_id() else {
            let by_each = ring
                .names()
                .filter_map(|master| ring.webhook_secret(master, owner, 1));
            return Ok(Some(by_each.collect()));
        };
        let key = match id.parse() {
            Ok(id) => self.key(&id).await?,
            Err(_) => None,
        };
        let now = OffsetDateTime::now_utc();
        let is_over = |end: Option<OffsetDateTime>| end.is_some_and(|end| end <= now);
        let Some(key) = key.filter(|key| key.revoked_at.is_none() && !is_over(key.expires_at))
        else {
            return Ok(None);
        };
        let generation = key.generation.unsigned_abs();
        let previous = key
            .previous_master
            .filter(|_| !is_over(key.previous_until))
            .map(|master| (master, generation - 1));
        let signing = std::iter::once((key.master, generation)).chain(previous);
        Ok(Some(
            signing
                .filter_map(|(master, generation)| ring.webhook_secret(&master, owner, generation))
                .collect(),
        ))
    }

    /// Forgets deliveries that ended long ago.
    ///
    /// # Errors
    /// [`DatabaseError`] when the statement fails.
    pub(super) async fn forget_deliveries(&self) -> Result<u64, DatabaseError> {
        self.execute(
            // Others may be removed with their conversions at this moment, in another order.
            "DELETE FROM webhook_delivery WHERE id IN (SELECT id FROM webhook_delivery
                 WHERE status <> 'pending' AND created_at < now() - make_interval(days => $1) FOR UPDATE SKIP LOCKED)",
            [KEPT_DAYS.into()],
        )
        .await
    }
}

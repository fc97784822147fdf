//! API keys: made, changed, rotated, revoked; and the nodes' ring of master keys that their secrets come from.

use std::time::Duration;

use sea_orm::{ColumnTrait, Condition, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use time::OffsetDateTime;

use super::{
    Database, DatabaseError,
    entities::api_key::{Column, Entity, Model},
};
use crate::{
    auth::{
        api_key::KeyId,
        keyring::Keyring,
        principal::{Permissions, Quotas},
    },
    conversion::{NodeId, webhook::Hook},
};

/// For how long the secret before works after a rotation.
pub const GRACE: Duration = Duration::from_secs(24 * 3600);

/// A key to be made.
#[derive(Debug, Clone)]
pub struct NewKey {
    pub name: String,
    pub permissions: Permissions,
    pub quotas: Quotas,
    pub networks: Option<Vec<String>>,
    pub expires_at: Option<OffsetDateTime>,
    pub webhook: Option<Hook>,
    /// Who makes it, as an owner or the command line.
    pub created_by: String,
}

/// What is to change of a key; what is unset stays.
#[derive(Debug, Clone, Default)]
pub struct KeyChange {
    pub name: Option<String>,
    pub permissions: Option<Permissions>,
    pub requests_per_minute: Option<u32>,
    /// The inner `None` lifts the limit.
    pub conversions_at_once: Option<Option<u32>>,
    pub conversions_per_day: Option<Option<u32>>,
    pub images_per_batch: Option<u32>,
    pub networks: Option<Option<Vec<String>>>,
    pub expires_at: Option<Option<OffsetDateTime>>,
    pub webhook: Option<Option<Hook>>,
}

/// A key as a connection was let in by it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct KeyState {
    pub id: KeyId,
    /// Which of its secrets signed.
    pub generation: i32,
    /// Which of its states the caller's permissions are from.
    pub version: i32,
}

/// Why a ring of master keys does not fit what is stored or what the other nodes have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RingMismatch {
    #[error(
        "the master key named {name} is another one than the nodes before had: give new keys new names"
    )]
    Changed { name: String },
    #[error(
        "live API keys still need the master key {name} ({keys} of them): keep it in ORFEAS_MASTER_KEYS until they are rotated or revoked"
    )]
    Needed { name: String, keys: i64 },
    #[error(
        "node {node} signs with the master key {name}, which this node lacks: add it to ORFEAS_MASTER_KEYS"
    )]
    Lacking { node: String, name: String },
    #[error(
        "node {node} lacks the master key {name}, which this node would sign with: add it to all nodes first, at the end of ORFEAS_MASTER_KEYS"
    )]
    Ahead { node: String, name: String },
}

/// Why a node may not start with its ring.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    #[error(transparent)]
    Mismatch(#[from] RingMismatch),
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

fn permission_names(permissions: Permissions) -> Vec<String> {
    permissions
        .iter()
        .map(|permission| permission.as_str().to_owned())
        .collect()
}

fn whole(value: u32) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

impl Model {
    /// What the key may do.
    #[must_use]
    pub fn allowed(&self) -> Permissions {
        let known = self.permissions.iter().filter_map(|name| name.parse().ok());
        known.collect()
    }

    /// How much it may use.
    #[must_use]
    pub fn quotas(&self) -> Quotas {
        let count = |value: i32| u32::try_from(value).unwrap_or_default();
        Quotas {
            requests_per_minute: count(self.requests_per_minute),
            conversions_at_once: self.conversions_at_once.map(count),
            conversions_per_day: self.conversions_per_day.map(count),
            images_per_batch: count(self.images_per_batch),
        }
    }
}

impl Database {
    /// Makes a key whose secret comes from the master key named `master`.
    ///
    /// # Errors
    /// [`DatabaseError`] when the statement fails, be it for a value out of bounds.
    pub async fn create_key(&self, key: NewKey, master: &str) -> Result<Model, DatabaseError> {
        let NewKey {
            name,
            permissions,
            quotas,
            networks,
            expires_at,
            webhook,
            created_by,
        } = key;
        let made = self
            .one::<Model>(
                "INSERT INTO api_key (id, name, permissions, requests_per_minute, conversions_at_once, conversions_per_day,
                     images_per_batch, networks, master, created_by, expires_at, webhook)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) RETURNING *",
                [
                    KeyId::new().into(),
                    name.into(),
                    permission_names(permissions).into(),
                    whole(quotas.requests_per_minute).into(),
                    quotas.conversions_at_once.map(whole).into(),
                    quotas.conversions_per_day.map(whole).into(),
                    whole(quotas.images_per_batch).into(),
                    networks.into(),
                    master.into(),
                    created_by.into(),
                    expires_at.into(),
                    webhook.into(),
                ],
            )
            .await?;
        Ok(made.expect("an insertion returns its row"))
    }

    /// One key.
    ///
    /// # Errors
    /// [`DatabaseError`] when the query fails.
    pub async fn key(&self, id: &KeyId) -> Result<Option<Model>, DatabaseError> {
        Ok(Entity::find_by_id(id.clone())
            .one(self.connection())
            .await?)
    }

    /// Keys, newest first, after the one named.
    ///
    /// # Errors
    /// [`DatabaseError`] when the query fails.
    pub async fn keys(
        &self,
        after: Option<&Model>,
        count_max: u64,
    ) -> Result<Vec<Model>, DatabaseError> {
        let mut select = Entity::find();
        if let Some(after) = after {
            let same_time = Condition::all()
                .add(Column::CreatedAt.eq(after.created_at))
                .add(Column::Id.lt(after.id.clone()));
            let earlier = Condition::any()
                .add(Column::CreatedAt.lt(after.created_at))
                .add(same_time);
            select = select.filter(earlier);
        }
        Ok(select
            .order_by_desc(Column::CreatedAt)
            .order_by_desc(Column::Id)
            .limit(count_max)
            .all(self.connection())
            .await?)
    }

    /// Changes a key that is not revoked; `None` when there is none.
    ///
    /// # Errors
    /// [`DatabaseError`] when the statement fails, be it for a value out of bounds.
    pub async fn update_key(
        &self,
        id: &KeyId,
        change: KeyChange,
    ) -> Result<Option<Model>, DatabaseError> {
        let KeyChange {
            name,
            permissions,
            requests_per_minute,
            conversions_at_once,
            conversions_per_day,
            images_per_batch,
            networks,
            expires_at,
            webhook,
        } = change;
        self.one(
            "UPDATE api_key SET name = coalesce($2, name), permissions = coalesce($3, permissions),
                 requests_per_minute = coalesce($4, requests_per_minute), images_per_batch = coalesce($5, images_per_batch),
                 conversions_at_once = CASE WHEN $6 THEN $7 ELSE conversions_at_once END,
                 conversions_per_day = CASE WHEN $8 THEN $9 ELSE conversions_per_day END,
                 networks = CASE WHEN $10 THEN $11 ELSE networks END,
                 expires_at = CASE WHEN $12 THEN $13 ELSE expires_at END,
                 webhook = CASE WHEN $14 THEN $15 ELSE webhook END
             WHERE id = $1 AND revoked_at IS NULL RETURNING *",
            [
                id.clone().into(),
                name.into(),
                permissions.map(permission_names).into(),
                requests_per_minute.map(whole).into(),
                images_per_batch.map(whole).into(),
                conversions_at_once.is_some().into(),
                conversions_at_once.flatten().map(whole).into(),
                conversions_per_day.is_some().into(),
                conversions_per_day.flatten().map(whole).into(),
                networks.is_some().into(),
                networks.flatten().into(),
                expires_at.is_some().into(),
                expires_at.flatten().into(),
                webhook.is_some().into(),
                webhook.flatten().into(),
            ],
        )
        .await
    }

    /// Gives a key a new secret from the master key named; the one before works until the grace period is over, any
    /// older one no more. `None` when there is no live key of this id.
    ///
    /// # Errors
    /// [`DatabaseError`] when the statement fails.
    pub async fn rotate_key(
        &self,
        id: &KeyId,
        master: &str,
        grace: Duration,
    ) -> Result<Option<Model>, DatabaseError> {
        self.one(
            "UPDATE api_key SET generation = generation + 1, previous_master = master, master = $2,
                 previous_until = now() + make_interval(secs => $3)
             WHERE id = $1 AND revoked_at IS NULL RETURNING *",
            [id.clone().into(), master.into(), grace.as_secs_f64().into()],
        )
        .await
    }

    /// Ends a key for good; again is no error. `None` when there is none.
    ///
    /// # Errors
    /// [`DatabaseError`] when the statement fails.
    pub async fn revoke_key(&self, id: &KeyId) -> Result<Option<Model>, DatabaseError> {
        let revoked = self
            .one(
                "UPDATE api_key SET revoked_at = now() WHERE id = $1 AND revoked_at IS NULL RETURNING *",
                [id.clone().into()],
            )
            .await?;
        match revoked {
            Some(key) => Ok(Some(key)),
            None => self.key(id).await,
        }
    }

    /// Which of these no longer let anybody in: the key was revoked, has run out, was changed since, or the secret's grace
    /// period is over.
    ///
    /// # Errors
    /// [`DatabaseError`] when the query fails.
    pub async fn ended_keys(&self, states: &[KeyState]) -> Result<Vec<KeyState>, DatabaseError> {
        #[derive(sea_orm::FromQueryResult)]
        struct Ended {
            place: i64,
        }
        let ids: Vec<String> = states
            .iter()
            .map(|state| state.id.as_str().to_owned())
            .collect();
        let generations: Vec<i32> = states.iter().map(|state| state.generation).collect();
        let versions: Vec<i32> = states.iter().map(|state| state.version).collect();
        let ended: Vec<Ended> = self
            .all(
                "SELECT asked.place FROM unnest($1::text[], $2::integer[], $3::integer[]) WITH ORDINALITY
                     AS asked (id, generation, version, place) LEFT JOIN api_key USING (id)
                 WHERE api_key.id IS NULL OR revoked_at IS NOT NULL OR expires_at <= now() OR asked.version <> api_key.version
                     OR NOT (asked.generation = api_key.generation
                         OR (asked.generation = api_key.generation - 1 AND coalesce(previous_until > now(), false)))
                 ORDER BY asked.place",
                [ids.into(), generations.into(), versions.into()],
            )
            .await?;
        let state = |row: Ended| {
            usize::try_from(row.place - 1)
                .ok()
                .and_then(|place| states.get(place))
        };
        Ok(ended.into_iter().filter_map(state).cloned().collect())
    }

    /// Registers a node's master keys, unless they don't fit what is stored or what other live nodes have.
    ///
    /// # Errors
    /// [`RingError`]; the node must not start then.
    pub async fn register_ring(&self, ring: &Keyring, own: NodeId) -> Result<(), RingError> {
        #[derive(sea_orm::FromQueryResult)]
        struct Needed {
            name: String,
            keys: i64,
        }
        #[derive(sea_orm::FromQueryResult)]
        struct Known {
            fingerprint: Vec<u8>,
        }
        for (name, fingerprint) in ring.fingerprints() {
            let known = self
                .one::<Known>(
                    "INSERT INTO master_key (name, fingerprint) VALUES ($1, $2)
                     ON CONFLICT (name) DO UPDATE SET name = excluded.name RETURNING fingerprint",
                    [name.as_str().into(), fingerprint.to_vec().into()],
                )
                .await?;
            if known.is_some_and(|known| known.fingerprint != fingerprint) {
                return Err(RingMismatch::Changed { name }.into());
            }
        }
        let names: Vec<&str> = ring.names().collect();
        let needed = self
            .all::<Needed>(
                "SELECT needed.name, count(*) AS keys FROM (
                     SELECT master AS name FROM api_key WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
                     UNION ALL SELECT previous_master FROM api_key
                     WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now()) AND previous_until > now()) needed
                 GROUP BY needed.name ORDER BY needed.name",
                [],
            )
            .await?;
        if let Some(Needed { name, keys }) = needed
            .into_iter()
            .find(|needed| !names.contains(&needed.name.as_str()))
        {
            return Err(RingMismatch::Needed { name, keys }.into());
        }
        let signing = ring.signing_name();
        for node in self.live_nodes().await? {
            let theirs = &node.master_keys;
            if node.id == own || theirs.is_empty() {
                continue;
            }
            if !names.contains(&theirs[0].as_str()) {
                let name = theirs[0].clone();
                return Err(RingMismatch::Lacking {
                    node: node.name,
                    name,
                }
                .into());
            }
            if !theirs.iter().any(|name| name == signing) {
                let name = signing.to_owned();
                return Err(RingMismatch::Ahead {
                    node: node.name,
                    name,
                }
                .into());
            }
        }
        Ok(())
    }
}

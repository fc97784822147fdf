//! Verification: every event and every seal in order, held against the keys.
//!
//! What it finds: an event or a seal that was changed, removed, added or moved; an end that was cut off, when a head
//! exported before is at hand; events that nobody seals. What it can't find: an event that was changed before it was
//! sealed (about a second), and an end that was cut off after the last export.

use std::collections::HashMap;

use sea_orm::{ConnectionTrait, FromQueryResult};
use serde::Serialize;
use uuid::Uuid;

use super::{
    head::Head,
    retention::last_checkpoint,
    stored::{COLUMNS, StoredEvent},
    walk::Walk,
};
use crate::{
    auth::keyring::Keyring,
    conversion::AuditEventId,
    db::{Database, DatabaseError, statement},
};

/// Links read at a time.
pub(super) const LINKS: u64 = 2_000;
/// How long an event may wait for its seal, in seconds. The sealer looks every second.
const UNSEALED_SECONDS_MAX: f64 = 60.0;

/// A row of `audit_seal`.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
pub struct Seal {
    pub seq: i64,
    pub event_id: Uuid,
    /// The master key whose audit key was used.
    pub master: String,
    pub mac: Vec<u8>,
}

/// A seal with its event, if that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    pub seal: Seal,
    pub event: Option<StoredEvent>,
}

/// Something that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(
    tag = "kind",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
pub enum Finding {
    #[error("seal {seq}: the event {event} or its seal was changed")]
    Changed { seq: i64, event: AuditEventId },
    #[error("seal {seq}: the event {event} is in another's place")]
    Moved { seq: i64, event: AuditEventId },
    #[error("seal {seq}: the event {event} was removed")]
    EventRemoved { seq: i64, event: AuditEventId },
    #[error("the seals {from} to {to} were removed")]
    SealsRemoved { from: i64, to: i64 },
    #[error(
        "seal {seq} and {more} more can't be verified: their master key `{master}` is not in the ring"
    )]
    UnknownMaster { seq: i64, more: u64, master: String },
    #[error("{count} seals lie before the chain's beginning")]
    BeforeBeginning { count: i64 },
    #[error(
        "the checkpoint {seq}, at which the chain begins, was changed, or its master key is not in the ring"
    )]
    CheckpointChanged { seq: i64 },
    #[error(
        "{count} events are not sealed, the oldest for more than a minute ({oldest}): no node seals, or somebody keeps it from doing so"
    )]
    Unsealed { count: i64, oldest: AuditEventId },
    #[error("{count} events were removed before they were sealed, {event} among them")]
    RemovedUnsealed { count: i64, event: AuditEventId },
    #[error("the head was not exported by a server with these master keys, or was changed")]
    HeadForged,
    #[error("the chain was cut off: the head names seal {head_seq}, the last one is {last_seq}")]
    CutOff { head_seq: i64, last_seq: i64 },
    #[error(
        "seal {seq} is not the one of the head: the chain was cut off there or before, and went on"
    )]
    HeadDiffers { seq: i64 },
}

/// What became of the head that the chain was held against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum HeadState {
    /// It lies on the chain.
    OnChain,
    /// Retention has removed the part of the chain where it lay: it tells nothing any more.
    Pruned,
    /// See the findings.
    NotOnChain,
}

/// What a verification came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The seal after which the chain begins: 0, or where retention has cut it.
    pub begins_after: i64,
    /// The last seal.
    pub last_seq: i64,
    /// Events that are as they were written.
    pub events_verified: u64,
    pub head: Option<HeadState>,
    /// Empty when all is well.
    pub findings: Vec<Finding>,
    /// Findings beyond those listed.
    pub findings_left_out: u64,
}

impl Report {
    /// Whether nothing was found.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }
}

/// The links after a seal, in order, at most [`LINKS`].
pub(super) async fn links_after(
    connection: &impl ConnectionTrait,
    seq: i64,
) -> Result<Vec<Link>, DatabaseError> {
    let limit = i64::try_from(LINKS).expect("a small constant");
    let seals = Seal::find_by_statement(statement(
        "SELECT seq, event_id, master, mac FROM audit_seal WHERE seq > $1 ORDER BY seq LIMIT $2",
        [seq.into(), limit.into()],
    ))
    .all(connection)
    .await?;
    let ids: Vec<Uuid> = seals.iter().map(|seal| seal.event_id).collect();
    let events = StoredEvent::find_by_statement(statement(
        &format!("SELECT {COLUMNS} FROM audit_event e WHERE e.id = ANY ($1)"),
        [ids.into()],
    ))
    .all(connection)
    .await?;
    let mut events: HashMap<Uuid, StoredEvent> =
        events.into_iter().map(|event| (event.id, event)).collect();
    let link = |seal: Seal| Link {
        event: events.remove(&seal.event_id),
        seal,
    };
    Ok(seals.into_iter().map(link).collect())
}

#[derive(FromQueryResult)]
struct Counted {
    count: i64,
    first: Option<Uuid>,
}

async fn counted(
    connection: &impl ConnectionTrait,
    sql: &str,
    value: sea_orm::Value,
) -> Result<Counted, DatabaseError> {
    let row = Counted::find_by_statement(statement(sql, [value]))
        .one(connection)
        .await?;
    Ok(row.expect("an aggregate without grouping yields one row"))
}

/// What is not on the chain although it should be, or is where no chain should be.
async fn strays(
    connection: &impl ConnectionTrait,
    begins_after: i64,
) -> Result<Vec<Finding>, DatabaseError> {
    let mut findings = Vec::new();
    let before = counted(
        connection,
        "SELECT count(*) AS count, NULL::uuid AS first FROM audit_seal WHERE seq <= $1",
        begins_after.into(),
    )
    .await?;
    if before.count > 0 {
        findings.push(Finding::BeforeBeginning {
            count: before.count,
        });
    }
    let unsealed = counted(
        connection,
        "SELECT count(*) AS count, (array_agg(id ORDER BY at))[1] AS first FROM audit_event
         WHERE NOT EXISTS (SELECT FROM audit_seal WHERE event_id = audit_event.id)
           AND at < now() - make_interval(secs => $1)",
        UNSEALED_SECONDS_MAX.into(),
    )
    .await?;
    if let Some(oldest) = unsealed.first {
        findings.push(Finding::Unsealed {
            count: unsealed.count,
            oldest: AuditEventId(oldest),
        });
    }
    let removed = counted(
        connection,
        "SELECT count(*) AS count, (array_agg(event_id))[1] AS first FROM audit_pending
         WHERE NOT EXISTS (SELECT FROM audit_event WHERE id = event_id LIMIT $1)",
        1_i64.into(),
    )
    .await?;
    if let Some(event) = removed.first {
        findings.push(Finding::RemovedUnsealed {
            count: removed.count,
            event: AuditEventId(event),
        });
    }
    Ok(findings)
}

impl Database {
    /// Holds the whole audit log against the keys, as of one moment, and against a head that was exported before.
    ///
    /// # Errors
    /// [`DatabaseError`] when a query fails: then nothing is said about the log.
    pub async fn verify_audit(
        &self,
        keyring: &Keyring,
        head: Option<&Head>,
    ) -> Result<Report, DatabaseError> {
        let transaction = self.begin_snapshot().await?;
        let checkpoint = last_checkpoint(&transaction).await?;
        let begins_after = checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.seq);
        let mut walk = Walk::new(keyring, checkpoint.as_ref(), head);
        loop {
            let links = links_after(&transaction, walk.last_seq()).await?;
            if links.is_empty() {
                break;
            }
            for link in links {
                walk.step(link);
            }
        }
        let strays = strays(&transaction, begins_after).await?;
        transaction.commit().await?;
        Ok(walk.finish(strays))
    }
}

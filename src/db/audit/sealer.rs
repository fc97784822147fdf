//! The sealer: chains the events that writers have committed, in the order in which it finds them.
//!
//! It locks nothing that a writer waits for. Of several nodes one seals at a time, whichever comes first.

use std::time::Duration;

use sea_orm::{ConnectionTrait, FromQueryResult};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use uuid::Uuid;

use super::{
    chain::{self, GENESIS},
    stored::{COLUMNS, StoredEvent},
};
use crate::{
    auth::keyring::{KeyUse, Keyring},
    crash::{self, Point},
    db::{Database, DatabaseError, statement},
    error_chain::chain,
};

/// Events sealed in one transaction; a thousand take about 20 ms.
pub const BATCH: usize = 1_000;
/// How often the sealer looks; an event unsealed for a minute is a finding, so there is room for many tries.
const SEAL_EVERY: Duration = Duration::from_secs(1);
/// How often old events are removed.
const PRUNE_EVERY: Duration = Duration::from_secs(3600);
/// How long the last sealing may take when the node stops; another node goes on otherwise.
const LAST_MAX: Duration = Duration::from_secs(5);
/// Held by who extends or shortens the chain; any constant will do that no other program uses.
const LOCK: i64 = 0x6f72_6661_7564;

/// Why the chain was not extended or shortened.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// The database did not do it.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// What is there does not fit together; nothing was touched, so that what shows it stays.
    #[error("the audit log's chain is broken at seal {seq}: `orfeas audit verify` tells more")]
    Broken { seq: i64 },
}

impl From<sea_orm::DbErr> for ChainError {
    fn from(error: sea_orm::DbErr) -> Self {
        Self::Database(error.into())
    }
}

/// What one look at the unsealed events came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sealing {
    /// So many events were sealed; [`BATCH`] when there may be more.
    Done(usize),
    /// Another node is at it.
    Elsewhere,
}

/// Where the chain ends.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
pub(super) struct End {
    pub(super) seq: i64,
    pub(super) mac: Vec<u8>,
}

/// The chain's last seal, or what stands for it.
pub(super) async fn end(connection: &impl ConnectionTrait) -> Result<End, DatabaseError> {
    let last = End::find_by_statement(statement(
        "(SELECT seq, mac FROM audit_seal ORDER BY seq DESC LIMIT 1)
         UNION ALL (SELECT seq, mac FROM audit_checkpoint ORDER BY seq DESC LIMIT 1)
         ORDER BY seq DESC LIMIT 1",
        [],
    ))
    .one(connection)
    .await?;
    Ok(last.unwrap_or(End {
        seq: 0,
        mac: GENESIS.to_vec(),
    }))
}

/// Takes the chain for this transaction; `false` when another one has it.
pub(super) async fn take_chain(connection: &impl ConnectionTrait) -> Result<bool, DatabaseError> {
    #[derive(FromQueryResult)]
    struct Taken {
        taken: bool,
    }
    let row = Taken::find_by_statement(statement(
        "SELECT pg_try_advisory_xact_lock($1) AS taken",
        [LOCK.into()],
    ))
    .one(connection)
    .await?;
    Ok(row.expect("a constant query yields one row").taken)
}

impl Database {
    /// Seals up to [`BATCH`] events that are not sealed yet.
    ///
    /// # Errors
    /// [`ChainError`]; nothing is sealed then.
    pub async fn seal_pending(&self, keyring: &Keyring) -> Result<Sealing, ChainError> {
        let transaction = self.begin().await?;
        if !take_chain(&transaction).await? {
            transaction.rollback().await?;
            return Ok(Sealing::Elsewhere);
        }
        let found = StoredEvent::find_by_statement(statement(
            &format!(
                "SELECT {COLUMNS} FROM audit_pending JOIN audit_event e ON e.id = event_id
                 WHERE NOT EXISTS (SELECT FROM audit_seal WHERE audit_seal.event_id = e.id) ORDER BY e.id LIMIT $1"
            ),
            [i64::try_from(BATCH).expect("a small constant").into()],
        ))
        .all(&transaction)
        .await?;
        if found.is_empty() {
            transaction.rollback().await?;
            return Ok(Sealing::Done(0));
        }
        let End {
            mut seq,
            mac: mut previous,
        } = end(&transaction).await?;
        let master = keyring.signing_name();
        let key = keyring.signing(KeyUse::Audit);
        let (mut seqs, mut macs) = (Vec::new(), Vec::new());
        for event in &found {
            seq = seq.checked_add(1).ok_or(ChainError::Broken { seq })?;
            let mac = chain::seal(&key, seq, &previous, event)
                .into_bytes()
                .to_vec();
            seqs.push(seq);
            macs.push(mac.clone());
            previous = mac;
        }
        let ids: Vec<Uuid> = found.iter().map(|event| event.id).collect();
        transaction
            .execute_raw(statement(
                "WITH sealed AS (INSERT INTO audit_seal (seq, event_id, master, mac)
                     SELECT seq, event_id, $4, mac FROM unnest($1::bigint[], $2::uuid[], $3::bytea[]) AS seal (seq, event_id, mac))
                 DELETE FROM audit_pending WHERE event_id = ANY ($2)",
                [seqs.into(), ids.into(), macs.into(), master.into()],
            ))
            .await?;
        crash::point(Point::Sealing);
        transaction.commit().await?;
        metrics::counter!("orfeas_audit_sealed_total").increment(found.len() as u64);
        Ok(Sealing::Done(found.len()))
    }

    /// Whether events wait to be sealed; spares an idle server a transaction a second.
    async fn has_unsealed(&self) -> Result<bool, DatabaseError> {
        #[derive(FromQueryResult)]
        struct Waiting {
            waiting: bool,
        }
        let row = self
            .one::<Waiting>("SELECT EXISTS (SELECT FROM audit_pending) AS waiting", [])
            .await?;
        Ok(row.expect("a constant query yields one row").waiting)
    }
}

/// Seals and prunes in the background.
#[derive(Debug, Clone)]
pub struct Sealer {
    pub database: Database,
    pub keyring: Keyring,
    /// How long events are kept.
    pub retention_days: u32,
}

impl Sealer {
    /// Seals every second and prunes every hour until `stop`; then seals a last time.
    pub async fn run(self, stop: CancellationToken) {
        let mut seal = interval(SEAL_EVERY);
        let mut prune = interval(PRUNE_EVERY);
        seal.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failing = false;
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = seal.tick() => {
                    let sealed = self.seal_all().await;
                    // Said once: the same sentence each second helps nobody.
                    match &sealed {
                        Err(error) if !failing => warn!(cause = %chain(error), "Could not seal the audit log; trying on"),
                        Ok(()) if failing => info!("The audit log is sealed again"),
                        _ => {}
                    }
                    failing = sealed.is_err();
                }
                _ = prune.tick() => self.prune().await,
            }
        }
        match timeout(LAST_MAX, self.seal_all()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                warn!(cause = %chain(&error), "Could not seal the last audit events; the next node will");
            }
            Err(_) => {
                warn!("Sealing the last audit events takes too long; the next node will do it")
            }
        }
    }

    async fn seal_all(&self) -> Result<(), ChainError> {
        while self.database.has_unsealed().await? {
            match self.database.seal_pending(&self.keyring).await? {
                Sealing::Done(BATCH) => {}
                Sealing::Done(_) | Sealing::Elsewhere => break,
            }
        }
        Ok(())
    }

    async fn prune(&self) {
        let pruned = self
            .database
            .prune_audit(&self.keyring, self.retention_days);
        match pruned.await {
            Ok(0) => {}
            Ok(count) => info!(
                count,
                "Removed audit events that are older than the retention"
            ),
            Err(error @ ChainError::Broken { .. }) => {
                error!(cause = %chain(&error), "Old audit events are kept: what follows them was tampered with");
            }
            Err(error) => {
                warn!(cause = %chain(&error), "Could not remove old audit events; trying again in an hour");
            }
        }
    }
}

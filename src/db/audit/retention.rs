//! Retention: old events go, and a checkpoint stays from which the rest can be verified.

use sea_orm::{ConnectionTrait, FromQueryResult};

use super::{
    chain::{self, Checkpoint, GENESIS},
    sealer::{ChainError, take_chain},
    stored::from_microseconds,
    verify::{LINKS, Link, links_after},
};
use crate::{
    auth::keyring::{KeyUse, Keyring},
    db::{Database, DatabaseError, statement},
};

/// The database's clock, in microseconds since 1970.
#[derive(FromQueryResult)]
struct Clock {
    now: i64,
    cutoff: i64,
}

#[derive(FromQueryResult)]
struct Pruned {
    pruned: i64,
}

/// The last checkpoint.
pub(super) async fn last_checkpoint(
    connection: &impl ConnectionTrait,
) -> Result<Option<Checkpoint>, DatabaseError> {
    Ok(Checkpoint::find_by_statement(statement(
        "SELECT seq, mac, master, own_mac, events_pruned,
             CASE WHEN isfinite(pruned_at) THEN (extract(epoch FROM pruned_at) * 1000000)::bigint END AS pruned_at_microseconds
         FROM audit_checkpoint ORDER BY seq DESC LIMIT 1",
        [],
    ))
    .one(connection)
    .await?)
}

impl Database {
    /// Removes the sealed events at the chain's beginning that are older than so many days, and returns how many; none
    /// while another node seals. What it removes it verifies first: a removal never hides what was tampered with.
    ///
    /// # Errors
    /// [`ChainError`]; nothing more is removed then.
    pub async fn prune_audit(&self, keyring: &Keyring, days: u32) -> Result<u64, ChainError> {
        let mut total = 0;
        loop {
            let pruned = self.prune_some(keyring, days).await?;
            total += pruned;
            if pruned < LINKS {
                return Ok(total);
            }
        }
    }

    async fn prune_some(&self, keyring: &Keyring, days: u32) -> Result<u64, ChainError> {
        let transaction = self.begin().await?;
        if !take_chain(&transaction).await? {
            transaction.rollback().await?;
            return Ok(0);
        }
        let clock = Clock::find_by_statement(statement(
            "SELECT (extract(epoch FROM now()) * 1000000)::bigint AS now,
                 (extract(epoch FROM now() - make_interval(days => $1)) * 1000000)::bigint AS cutoff",
            [i32::try_from(days).unwrap_or(i32::MAX).into()],
        ))
        .one(&transaction)
        .await?
        .expect("a constant query yields one row");
        let start = last_checkpoint(&transaction).await?;
        let links = links_after(&transaction, start.as_ref().map_or(0, |start| start.seq)).await?;
        let old = old_links(keyring, start.as_ref(), &links, clock.cutoff);
        let Ok(Some((last, count))) = old else {
            // At once, not when the dropped connection is cleaned up: the chain is free for the next who comes.
            transaction.rollback().await?;
            return old.map(|_| 0);
        };
        let mut checkpoint = Checkpoint {
            seq: last.seal.seq,
            mac: last.seal.mac.clone(),
            master: keyring.signing_name().to_owned(),
            own_mac: Vec::new(),
            pruned_at_microseconds: Some(clock.now),
            events_pruned: count,
        };
        checkpoint.own_mac = chain::checkpoint(&keyring.signing(KeyUse::Audit), &checkpoint)
            .into_bytes()
            .to_vec();
        let pruned = prune(&transaction, checkpoint, clock.now).await?;
        transaction.commit().await?;
        Ok(pruned)
    }
}

async fn prune(
    connection: &impl ConnectionTrait,
    checkpoint: Checkpoint,
    now: i64,
) -> Result<u64, DatabaseError> {
    let seq = checkpoint.seq;
    connection
        .execute_raw(statement(
            "INSERT INTO audit_checkpoint (seq, mac, master, own_mac, pruned_at, events_pruned) VALUES ($1, $2, $3, $4, $5, $6)",
            [
                seq.into(),
                checkpoint.mac.into(),
                checkpoint.master.into(),
                checkpoint.own_mac.into(),
                from_microseconds(now).expect("the database's clock is in this age").into(),
                checkpoint.events_pruned.into(),
            ],
        ))
        .await?;
    let row =
        Pruned::find_by_statement(statement("SELECT audit_prune($1) AS pruned", [seq.into()]))
            .one(connection)
            .await?;
    let pruned = row.expect("a function call yields one row").pruned;
    Ok(u64::try_from(pruned).expect("a count of rows"))
}

/// The last of the links that are older than `cutoff` without a younger one before, and how many they are.
fn old_links<'a>(
    keyring: &Keyring,
    start: Option<&Checkpoint>,
    links: &'a [Link],
    cutoff: i64,
) -> Result<Option<(&'a Link, i64)>, ChainError> {
    let key = |master: &str| keyring.named(master, KeyUse::Audit);
    let (mut seq, mut previous): (i64, &[u8]) = match start {
        None => (0, &GENESIS),
        Some(start) => {
            let vouched = key(&start.master)
                .is_some_and(|key| chain::checkpoint(&key, start).is(&start.own_mac));
            if !vouched {
                return Err(ChainError::Broken { seq: start.seq });
            }
            (start.seq, &start.mac)
        }
    };
    let mut old = None;
    for (link, count) in links.iter().zip(1..) {
        let broken = ChainError::Broken {
            seq: seq.saturating_add(1),
        };
        let Some(event) = &link.event else {
            return Err(broken);
        };
        let sealed = key(&link.seal.master).is_some_and(|key| {
            chain::seal(&key, link.seal.seq, previous, event).is(&link.seal.mac)
        });
        if Some(link.seal.seq) != seq.checked_add(1) || !sealed {
            return Err(broken);
        }
        if event.at_microseconds.is_none_or(|at| at >= cutoff) {
            break;
        }
        (seq, previous) = (link.seal.seq, &link.seal.mac);
        old = Some((link, count));
    }
    Ok(old)
}

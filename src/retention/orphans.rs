//! Bytes in the store that no row tells of: what a node has stored that died before it could say so.

use std::{pin::pin, time::Duration};

use bytes::Bytes;
use futures_util::StreamExt;
use serde::Serialize;
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::Uuid;

use crate::{
    conversion::{AssetId, ConversionId},
    db::{Database, DatabaseError, store_sweep::OwnStore},
    error_chain::chain,
    storage::{Storage, StorageError},
};

/// Younger bytes may be about to get their row. An attempt that has lost its lease gives up within seconds, an upload within
/// minutes; this is for clocks and nodes that stood still.
pub const GRACE: Duration = Duration::from_secs(24 * 3600);
/// One node looks through the store so often.
const EVERY: Duration = Duration::from_secs(6 * 3600);
/// How often a node asks whether it is time.
const ASK_EVERY: Duration = Duration::from_secs(300);
/// Keys that the database is asked about at once.
const CHUNK: usize = 500;
/// Keys of a store without a mark that are held against the database before it is taken for its own.
const SAMPLE: usize = 100;

/// What the server stores lies below these, and nothing else is looked at.
const PREFIXES: [&str; 3] = ["sources", "conversions", "checks"];
/// Says whose store it is.
const MARK: &str = "belongs-to";

/// Why a store was not looked through to its end.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    #[error("the database did not say what belongs there")]
    Database(#[from] DatabaseError),
    #[error("the store could not be looked through")]
    Storage(#[from] StorageError),
    /// The mark of another database is in it.
    #[error(
        "this store belongs to another database (its mark says {found}, this database is {own}): check DATABASE_URL and ORFEAS_STORAGE, or take it over by `orfeas store sweep --adopt`"
    )]
    Foreign { found: String, own: Uuid },
    /// The mark that was there is missing: another folder or bucket, or a disk that is not mounted.
    #[error(
        "this store lacks the mark of this database's store: check ORFEAS_STORAGE, or take it over by `orfeas store sweep --adopt`"
    )]
    Exchanged,
    /// It has never had a mark, and none of its keys is known.
    #[error(
        "this database knows nothing of what is in this store: check DATABASE_URL and ORFEAS_STORAGE, or take it over by `orfeas store sweep --adopt`"
    )]
    Unknown,
}

/// How a store is looked through.
#[derive(Debug, Clone, Copy)]
pub struct SweepOptions {
    /// How long bytes must have been there.
    pub grace: Duration,
    /// Only count.
    pub is_dry: bool,
    /// Take the store for this database's own, whatever its mark says.
    pub is_adopting: bool,
}

impl Default for SweepOptions {
    fn default() -> Self {
        Self {
            grace: GRACE,
            is_dry: false,
            is_adopting: false,
        }
    }
}

/// What was found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SweepReport {
    /// Keys that were looked at.
    pub looked: u64,
    /// Of those, keys that are too young to be judged.
    pub young: u64,
    /// Of those, keys of a form that the server doesn't write; they stay.
    pub strange: u64,
    /// Of those, keys that no row tells of: erased, unless it was only counted.
    pub orphans: u64,
    /// What these take.
    pub orphan_bytes: u64,
    /// Files that writes have left which were cut off: removed, unless it was only counted.
    pub unfinished: u64,
}

/// Looks through the store whenever it is time and no other node does, until `stop`.
pub async fn run(database: Database, storage: Storage, stop: CancellationToken) {
    let mut tick = tokio::time::interval(ASK_EVERY);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        let swept = tokio::select! {
            () = stop.cancelled() => return,
            swept = sweep_in_turn(&database, &storage) => swept,
        };
        match swept {
            Ok(None) => {}
            Ok(Some(report)) => info!(?report, "Looked through the store"),
            Err(error) => warn!(cause = %chain(&error), "Could not look through the store"),
        }
    }
}

async fn sweep_in_turn(
    database: &Database,
    storage: &Storage,
) -> Result<Option<SweepReport>, SweepError> {
    if !database.take_store_sweep(EVERY).await? {
        return Ok(None);
    }
    sweep(database, storage, SweepOptions::default())
        .await
        .map(Some)
}

/// Looks through the store and has erased what no row tells of. Nothing else is touched while it goes on, and a second one at
/// the same time does no harm.
///
/// # Errors
/// [`SweepError`]; what was found before is erased.
pub async fn sweep(
    database: &Database,
    storage: &Storage,
    options: SweepOptions,
) -> Result<SweepReport, SweepError> {
    let SweepOptions {
        grace,
        is_dry,
        is_adopting,
    } = options;
    check_mark(database, storage, is_dry, is_adopting).await?;
    let mut report = SweepReport::default();
    for prefix in PREFIXES {
        let before = OffsetDateTime::now_utc() - grace;
        let mut chunks = pin!(storage.list(prefix).chunks(CHUNK));
        while let Some(chunk) = chunks.next().await {
            let mut judged = Vec::new();
            for found in chunk {
                let found = found?;
                report.looked += 1;
                if !is_ours(&found.key) {
                    report.strange += 1;
                } else if found.written_at > before {
                    report.young += 1;
                } else {
                    judged.push(found);
                }
            }
            let keys = judged.iter().map(|found| found.key.clone()).collect();
            let unknown = database.unknown_keys(keys).await?;
            let bytes = judged
                .iter()
                .filter(|found| unknown.contains(&found.key))
                .map(|found| found.bytes);
            report.orphan_bytes += bytes.sum::<u64>();
            report.orphans += unknown.len() as u64;
            if !is_dry && !unknown.is_empty() {
                let recorded = database.erase_keys(unknown).await?;
                metrics::counter!("orfeas_orphans_total").increment(recorded);
            }
        }
        if !is_dry {
            report.unfinished += storage.remove_unfinished(prefix, grace).await?;
        }
    }
    Ok(report)
}

/// Makes sure that the store is this database's: over another one's, every key would be without a row.
async fn check_mark(
    database: &Database,
    storage: &Storage,
    is_dry: bool,
    is_adopting: bool,
) -> Result<(), SweepError> {
    let OwnStore {
        store_id,
        is_adopted,
    } = database.own_store().await?;
    let own = store_id.to_string();
    let mark = storage.find(MARK).await?;
    match mark {
        Some(mark) if mark == own.as_bytes() => {}
        _ if is_adopting => {}
        Some(mark) => {
            return Err(SweepError::Foreign {
                found: String::from_utf8_lossy(&mark).chars().take(64).collect(),
                own: store_id,
            });
        }
        None if is_adopted => return Err(SweepError::Exchanged),
        None if !knows_some(database, storage).await? => return Err(SweepError::Unknown),
        None => {}
    }
    if !is_dry {
        storage.put(MARK, Bytes::from(own)).await?;
        database.store_adopted().await?;
    }
    Ok(())
}

/// Whether the database knows any of the store's first keys; of an empty one it knows all.
async fn knows_some(database: &Database, storage: &Storage) -> Result<bool, SweepError> {
    let mut is_empty = true;
    for prefix in ["sources", "conversions"] {
        let sample: Vec<_> = storage.list(prefix).take(SAMPLE).collect().await;
        let keys: Result<Vec<String>, _> = sample
            .into_iter()
            .map(|found| found.map(|found| found.key))
            .collect();
        let keys = keys?;
        is_empty &= keys.is_empty();
        let count = keys.len();
        if database.unknown_keys(keys).await?.len() < count {
            return Ok(true);
        }
    }
    Ok(is_empty)
}

/// Whether a key has a form that the server writes.
fn is_ours(key: &str) -> bool {
    let parts: Vec<&str> = key.split('/').collect();
    match parts[..] {
        ["sources", asset] => asset.parse::<AssetId>().is_ok(),
        ["conversions", conversion, attempt, file] => {
            conversion.parse::<ConversionId>().is_ok()
                && attempt.parse::<u16>().is_ok_and(|attempt| attempt > 0)
                && !file.is_empty()
        }
        // Of `doctor` and of starts that tried the store.
        ["checks", check] => Uuid::try_parse(check).is_ok(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_keys_that_the_server_writes_are_known() {
        let (asset, conversion) = (AssetId::new(), ConversionId::new());
        for key in [
            format!("sources/{asset}"),
            format!("conversions/{conversion}/1/mesh.glb"),
            format!("checks/{}", Uuid::now_v7()),
        ] {
            assert!(is_ours(&key), "{key}");
        }
        for key in [
            MARK.to_owned(),
            "sources".to_owned(),
            "sources/notes.txt".to_owned(),
            format!("sources/{conversion}"),
            format!("sources/{asset}/copy"),
            format!("conversions/{conversion}/mesh.glb"),
            format!("conversions/{conversion}/0/mesh.glb"),
            format!("conversions/{conversion}/1/"),
            format!("conversions/{conversion}/1/deep/mesh.glb"),
            format!("backups/{asset}"),
            "checks/today".to_owned(),
        ] {
            assert!(!is_ours(&key), "{key}");
        }
    }
}

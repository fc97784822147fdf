//! Backups: the database as a file and the store's bytes beside it, made while nodes work, and put back into an empty place.
//!
//! Bytes are stored before their row and erased after it. So the database comes first: whatever row it holds then has its
//! bytes, but for what is erased between the two; its rows are taken out again when the backup is restored.

use std::{
    collections::HashSet,
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use crate::{
    conversion::AssetId,
    db::{
        Database, DatabaseError,
        dump::{DumpError, Dumper},
        entities::asset::Model,
    },
    storage::{Storage, StorageError},
};

/// The form of the folder that this version writes and reads.
const FORM: u32 = 1;
const DATABASE: &str = "database.dump";
const STORE: &str = "store";
/// Written last: a folder without it is no backup.
const MANIFEST: &str = "manifest.json";

/// Says whose store it is; see [`crate::retention::orphans`].
const MARK: &str = "belongs-to";

/// Assets read from the database at once.
const CHUNK: u64 = 500;
/// Bytes copied side by side.
const COPIES: usize = 8;

/// Why there is no backup, or it was not restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("could not write the backup's {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("could not read the backup's {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} holds something already: name a folder that is not there yet, or an empty one", .0.display())]
    NotEmpty(PathBuf),
    #[error("{} is no whole backup: it has no readable manifest.json", .0.display())]
    NotWhole(PathBuf, #[source] Option<serde_json::Error>),
    #[error(
        "this backup is of form {0}, and this version of orfeas reads another one: restore it with a newer one"
    )]
    Form(u32),
    #[error(
        "this database is in use; restore into an empty one (another ORFEAS_DATA_DIR or DATABASE_URL)"
    )]
    InUse,
    #[error(
        "this store is another database's: its mark says {found}, and the backup's {own}; restore into an empty one (ORFEAS_STORAGE)"
    )]
    Foreign { found: String, own: String },
    #[error("the copy of {0} is not what was stored: its SHA-256 differs")]
    Damaged(String),
    #[error(transparent)]
    Dump(#[from] DumpError),
    #[error("the database can't be used")]
    Database(#[from] DatabaseError),
    #[error("the store can't be used")]
    Storage(#[from] StorageError),
}

/// What lies beside the dump.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    form: u32,
    orfeas: String,
    #[serde(with = "time::serde::rfc3339")]
    made_at: OffsetDateTime,
    /// Whether the store's bytes are in it.
    has_store: bool,
    assets: u64,
}

/// What went into a backup.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Made {
    pub assets: u64,
    pub bytes: u64,
    /// Keys of bytes that are missing in the store, or aren't what was stored, though their rows stand.
    pub damaged: Vec<String>,
}

/// What came of a backup.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Restored {
    pub assets: u64,
    pub bytes: u64,
    /// Conversions that ran at the time and are queued again.
    pub handed_back: u64,
    /// Conversions that were removed since some of their bytes are not there: erased while the backup was made, or damaged.
    pub removed: u64,
}

/// How the store's bytes compare with what the rows say.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Checked {
    /// Those that are as they were stored.
    pub assets: u64,
    pub bytes: u64,
    /// Keys of the others.
    pub damaged: Vec<String>,
    /// Conversions that were removed for it.
    pub removed: u64,
}

/// What backups are made of, and restored to.
#[derive(Debug, Clone)]
pub struct Place {
    pub url: String,
    pub storage: Storage,
    pub dumper: Dumper,
}

/// Makes a backup in a folder that is empty or not there; `with_store`: with the store's bytes.
///
/// # Errors
/// [`BackupError`]; what lies in the folder then is none.
pub async fn make(
    place: &Place,
    database: &Database,
    folder: &Path,
    with_store: bool,
) -> Result<Made, BackupError> {
    make_folder(folder)?;
    place
        .dumper
        .dump(&place.url, &folder.join(DATABASE))
        .await?;
    let made_at = database.now().await?;
    let mut made = Made::default();
    if with_store {
        let copies = Storage::open_folder(&folder.join(STORE))?;
        if let Some(mark) = place.storage.find(MARK).await? {
            copies.put(MARK, mark).await?;
        }
        // What is stored later has no row in the dump.
        let mut after = None;
        loop {
            let assets = database.assets_after(after, made_at, CHUNK).await?;
            let Some(last) = assets.last() else { break };
            after = Some(last.id);
            let copied: Vec<Copied> = stream::iter(assets)
                .map(|asset| copy(place, database, &copies, asset))
                .buffer_unordered(COPIES)
                .try_collect()
                .await?;
            for one in copied {
                match one {
                    Copied::Whole(bytes) => {
                        made.assets += 1;
                        made.bytes += bytes;
                    }
                    Copied::Erased => {}
                    Copied::Damaged(key) => made.damaged.push(key),
                }
            }
        }
    }
    let manifest = Manifest {
        form: FORM,
        orfeas: env!("CARGO_PKG_VERSION").to_owned(),
        made_at,
        has_store: with_store,
        assets: made.assets,
    };
    let text = serde_json::to_vec_pretty(&manifest).expect("plain data has a JSON form");
    let path = folder.join(MANIFEST);
    fs::write(&path, text).map_err(|source| BackupError::Write { path, source })?;
    Ok(made)
}

/// How the copy of an asset's bytes came out.
enum Copied {
    Whole(u64),
    /// It has been deleted since.
    Erased,
    Damaged(String),
}

async fn copy(
    place: &Place,
    database: &Database,
    copies: &Storage,
    asset: Model,
) -> Result<Copied, BackupError> {
    if let Some(bytes) = place.storage.find(&asset.storage_key).await?
        && is_what_was_stored(&asset, &bytes)
    {
        let count = bytes.len() as u64;
        copies.put(&asset.storage_key, bytes).await?;
        return Ok(Copied::Whole(count));
    }
    Ok(match database.asset(asset.id).await? {
        None => Copied::Erased,
        Some(_) => Copied::Damaged(asset.storage_key),
    })
}

fn is_what_was_stored(asset: &Model, bytes: &Bytes) -> bool {
    Sha256::digest(bytes).as_slice() == asset.sha256
}

/// Puts a backup's store and then its dump into an empty place. To be finished by [`settle`] once the schema is this version's.
///
/// # Errors
/// [`BackupError`]; the database is still empty then.
pub async fn fill(place: &Place, database: &Database, folder: &Path) -> Result<(), BackupError> {
    let manifest = read_manifest(folder)?;
    if database.is_used().await? {
        return Err(BackupError::InUse);
    }
    if manifest.has_store {
        let copies = Storage::open_folder(&folder.join(STORE))?;
        let own = copies.find(MARK).await?.unwrap_or_default();
        if let Some(found) = place.storage.find(MARK).await?
            && found != own
        {
            return Err(BackupError::Foreign {
                found: shown(&found),
                own: shown(&own),
            });
        }
        for prefix in ["sources", "conversions"] {
            copies
                .list(prefix)
                .map(|found| async {
                    let key = found?.key;
                    place.storage.put(&key, copies.get(&key).await?).await
                })
                .buffer_unordered(COPIES)
                .try_collect::<()>()
                .await?;
        }
        // Last, so that a store is not taken for whole before it is.
        if !own.is_empty() {
            place.storage.put(MARK, own).await?;
        }
    }
    place
        .dumper
        .fill(&place.url, &folder.join(DATABASE))
        .await?;
    Ok(())
}

/// Makes a restored database one that nodes can go on with: what ran is queued, and each conversion has its bytes, or is gone.
///
/// # Errors
/// [`BackupError`]; it can be called again.
pub async fn settle(place: &Place, database: &Database) -> Result<Restored, BackupError> {
    let handed_back = database.hand_back_all().await?;
    let Checked {
        assets,
        bytes,
        removed,
        ..
    } = check(&place.storage, database, true).await?;
    Ok(Restored {
        assets,
        bytes,
        handed_back,
        removed,
    })
}

/// Looks whether each row's bytes are in the store as they were stored; `removing`: removes conversions where they aren't,
/// unless they run.
///
/// # Errors
/// [`BackupError`]; it can be called again.
pub async fn check(
    storage: &Storage,
    database: &Database,
    removing: bool,
) -> Result<Checked, BackupError> {
    let own = database.own_store().await?;
    let mark = storage.find(MARK).await?.unwrap_or_default();
    // Beside another store, every conversion would seem to have lost its bytes.
    if own.is_adopted && mark != own.store_id.to_string().as_bytes() {
        return Err(BackupError::Foreign {
            found: shown(&mark),
            own: own.store_id.to_string(),
        });
    }
    let mut checked = Checked::default();
    let until = database.now().await?;
    let mut after: Option<AssetId> = None;
    loop {
        let assets = database.assets_after(after, until, CHUNK).await?;
        let Some(last) = assets.last() else { break };
        after = Some(last.id);
        let found: Vec<(Model, bool)> = stream::iter(assets)
            .map(|asset| async {
                let bytes = storage.find(&asset.storage_key).await?;
                let is_whole = bytes.is_some_and(|bytes| is_what_was_stored(&asset, &bytes));
                Ok::<_, StorageError>((asset, is_whole))
            })
            .buffer_unordered(COPIES)
            .try_collect()
            .await?;
        let mut lost = HashSet::new();
        for (asset, is_whole) in found {
            if is_whole {
                checked.assets += 1;
                checked.bytes += asset.bytes.unsigned_abs();
            // It may have been deleted meanwhile.
            } else if database.asset(asset.id).await?.is_some() {
                lost.insert(asset.id);
                checked.damaged.push(asset.storage_key);
            }
        }
        if removing {
            checked.removed += database.remove_conversions_of(lost).await?;
        }
    }
    Ok(checked)
}

/// The beginning of a mark, which may be anything.
fn shown(mark: &Bytes) -> String {
    String::from_utf8_lossy(mark).chars().take(64).collect()
}

fn read_manifest(folder: &Path) -> Result<Manifest, BackupError> {
    let path = folder.join(MANIFEST);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(BackupError::NotWhole(folder.to_owned(), None));
        }
        Err(source) => return Err(BackupError::Read { path, source }),
    };
    let manifest: Manifest = serde_json::from_slice(&text)
        .map_err(|error| BackupError::NotWhole(folder.to_owned(), Some(error)))?;
    if manifest.form != FORM {
        return Err(BackupError::Form(manifest.form));
    }
    Ok(manifest)
}

/// For us alone: whoever reads a backup reads everything.
fn make_folder(folder: &Path) -> Result<(), BackupError> {
    let write = |source| BackupError::Write {
        path: folder.to_owned(),
        source,
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(write)?;
    let mut entries = fs::read_dir(folder).map_err(write)?;
    match entries.next() {
        Some(_) => Err(BackupError::NotEmpty(folder.to_owned())),
        None => Ok(()),
    }
}

//! Asset bytes by key, in a folder or an S3-compatible bucket.

use std::{
    fs::File,
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use object_store::{
    GetOptions, GetResult, ObjectStore, ObjectStoreExt, PutPayload, local::LocalFileSystem,
    path::Path as Key,
};
use tokio::{sync::watch, time::timeout};
use tracing::debug;
use url::Url;

pub mod erase;
pub mod listing;
pub mod state;

use state::Trouble;

/// The longest that the store may take over one operation, tries of its client included. Those go on for minutes, and longer
/// than a lease or a client waits.
const OPERATION_MAX: Duration = Duration::from_secs(30);

/// How S3 is talked to unless the environment says otherwise. A connection that nobody uses may lead nowhere by the time it is
/// used again, and is found out only by waiting.
const CLIENT_DEFAULTS: [(&str, &str); 1] = [("pool_idle_timeout", "5 seconds")];

/// What an operation comes to, if it does so in time.
async fn in_time<T>(
    operation: impl Future<Output = object_store::Result<T>>,
) -> object_store::Result<T> {
    match timeout(OPERATION_MAX, operation).await {
        Ok(done) => done,
        Err(_) => Err(object_store::Error::Generic {
            store: "orfeas",
            source: io::Error::from(io::ErrorKind::TimedOut).into(),
        }),
    }
}

/// Why bytes could not be kept or brought.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The setting names no usable place.
    #[error("`{url}` is no place for assets: use file:///folder or s3://bucket/prefix")]
    Location {
        url: String,
        source: Option<object_store::Error>,
    },
    #[error("could not write the asset {key}")]
    Write {
        key: String,
        source: object_store::Error,
    },
    #[error("could not read the asset {key}")]
    Read {
        key: String,
        source: object_store::Error,
    },
    #[error("could not delete the asset {key}")]
    Delete {
        key: String,
        source: object_store::Error,
    },
    #[error("could not list what is stored below {prefix}")]
    List {
        prefix: String,
        source: object_store::Error,
    },
    #[error("could not make the folder for assets")]
    Folder(#[source] std::io::Error),
    #[error("could not tidy the folder {path}")]
    Tidy {
        path: String,
        source: std::io::Error,
    },
    #[error("the file system of the assets is full")]
    Full,
    /// As it was seen last; it was not asked.
    #[error("the store did not answer a moment ago")]
    Silent,
}

/// The shared store; cheap to clone.
#[derive(Debug, Clone)]
pub struct Storage {
    store: Arc<dyn ObjectStore>,
    prefix: Key,
    /// Where it is, if it is a folder: folders are things there, and stay when they are empty.
    folder: Option<PathBuf>,
    /// What is wrong with it, as it was seen last.
    trouble: Arc<watch::Sender<Option<Trouble>>>,
}

impl Storage {
    /// Opens `file:///folder` (made when missing) or `s3://bucket/prefix`; S3 takes its credentials from `AWS_…`
    /// variables handed over as `options`.
    ///
    /// # Errors
    /// [`StorageError::Location`] when the URL is of another kind or lacks something.
    pub fn open(
        url: &str,
        options: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, StorageError> {
        let location = |source| StorageError::Location {
            url: url.to_owned(),
            source,
        };
        let parsed = Url::parse(url).map_err(|_| location(None))?;
        let (store, prefix, folder): (Arc<dyn ObjectStore>, _, _) = match parsed.scheme() {
            "file" => {
                let folder = parsed.to_file_path().map_err(|()| location(None))?;
                std::fs::create_dir_all(&folder).map_err(StorageError::Folder)?;
                let prefix = Key::from_url_path(parsed.path())
                    .map_err(|source| location(Some(source.into())))?;
                // What a row tells of must outlive a power cut. It is also quicker: what lies unwritten in memory comes to
                // the disk in bursts of seconds, in which nothing of Postgres does (docs/PERFORMANCE.md).
                let store = LocalFileSystem::new().with_fsync(true);
                (Arc::new(store), prefix, Some(folder))
            }
            "s3" => {
                let defaults =
                    CLIENT_DEFAULTS.map(|(name, value)| (name.to_owned(), value.to_owned()));
                let options = defaults.into_iter().chain(options);
                let (store, prefix) = object_store::parse_url_opts(&parsed, options)
                    .map_err(|source| location(Some(source)))?;
                (Arc::from(store), prefix, None)
            }
            _ => return Err(location(None)),
        };
        Ok(Self {
            store,
            prefix,
            folder,
            trouble: Arc::default(),
        })
    }

    /// Opens a folder.
    ///
    /// # Errors
    /// As [`Storage::open`].
    pub fn open_folder(folder: &Path) -> Result<Self, StorageError> {
        let location = || StorageError::Location {
            url: folder.display().to_string(),
            source: None,
        };
        std::fs::create_dir_all(folder).map_err(StorageError::Folder)?;
        let absolute = folder.canonicalize().map_err(StorageError::Folder)?;
        Self::open(
            Url::from_directory_path(absolute)
                .map_err(|()| location())?
                .as_str(),
            [],
        )
    }

    fn key(&self, key: &str) -> Key {
        self.prefix.parts().chain(Key::from(key).parts()).collect()
    }

    /// Keeps bytes under a key. Keys are never reused: they carry the asset's id and, for results, the attempt.
    ///
    /// # Errors
    /// [`StorageError::Write`].
    pub async fn put(&self, key: &str, bytes: Bytes) -> Result<(), StorageError> {
        self.put_pieces(key, vec![bytes]).await
    }

    /// Keeps bytes that come in pieces, one after another, under a key; as [`Self::put`].
    ///
    /// # Errors
    /// [`StorageError::Write`].
    pub async fn put_pieces(&self, key: &str, pieces: Vec<Bytes>) -> Result<(), StorageError> {
        let (place, payload) = (self.key(key), PutPayload::from_iter(pieces));
        let (began, length) = (Instant::now(), payload.content_length() as u64);
        let put = in_time(self.store.put(&place, payload)).await;
        let put = put.map(|_| ()).map_err(|source| StorageError::Write {
            key: key.to_owned(),
            source,
        });
        self.measure("put", began, length, &put);
        put
    }

    /// Makes the folder of keys that will come, and has it on the disk: who puts the first of them waits for that, and for what
    /// others write meanwhile. Says whether there are folders; a bucket has none.
    pub async fn make_folder(&self, key: &str) -> bool {
        let Some(root) = self.folder.clone() else {
            return false;
        };
        let folder = root.join(key);
        let make = move || {
            std::fs::create_dir_all(&folder)?;
            let mut changed = folder
                .ancestors()
                .take_while(|path| path.starts_with(&root));
            changed.try_for_each(|path| File::open(path)?.sync_all())
        };
        let made = timeout(OPERATION_MAX, tokio::task::spawn_blocking(make)).await;
        if !matches!(made, Ok(Ok(Ok(())))) {
            // What hinders it hinders the first key, too, and is told by whoever puts that.
            debug!(?made, key, "A folder could not be made ahead");
        }
        true
    }

    /// Counts an operation, and notes it when the store has failed.
    fn measure<T>(
        &self,
        operation: &'static str,
        began: Instant,
        bytes: u64,
        done: &Result<T, StorageError>,
    ) {
        let outcome = match done {
            Ok(_) => "ok",
            Err(error) => match error.trouble() {
                None => "missing",
                trouble => {
                    self.see(trouble);
                    "failed"
                }
            },
        };
        metrics::histogram!("orfeas_storage_seconds", "operation" => operation, "outcome" => outcome)
            .record(began.elapsed());
        if done.is_ok() {
            metrics::counter!("orfeas_storage_bytes_total", "operation" => operation)
                .increment(bytes);
        }
    }

    /// All bytes under a key.
    ///
    /// # Errors
    /// [`StorageError::Read`], also when there are none.
    pub async fn get(&self, key: &str) -> Result<Bytes, StorageError> {
        let read = |source| StorageError::Read {
            key: key.to_owned(),
            source,
        };
        self.open_asset(key).await?.bytes().await.map_err(read)
    }

    /// All bytes under a key, if there are any.
    ///
    /// # Errors
    /// [`StorageError::Read`].
    pub async fn find(&self, key: &str) -> Result<Option<Bytes>, StorageError> {
        match self.get(key).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(StorageError::Read {
                source: object_store::Error::NotFound { .. },
                ..
            }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The bytes under a key as a stream.
    ///
    /// # Errors
    /// [`StorageError::Read`], also when there are none.
    pub async fn open_asset(&self, key: &str) -> Result<GetResult, StorageError> {
        self.open_with(key, GetOptions::default()).await
    }

    async fn open_with(&self, key: &str, options: GetOptions) -> Result<GetResult, StorageError> {
        let began = Instant::now();
        let found = in_time(self.store.get_opts(&self.key(key), options)).await;
        let found = found.map_err(|source| StorageError::Read {
            key: key.to_owned(),
            source,
        });
        let bytes = |found: &GetResult| found.range.end - found.range.start;
        self.measure("get", began, found.as_ref().map_or(0, bytes), &found);
        found
    }

    /// Some of the bytes under a key as a stream.
    ///
    /// # Errors
    /// [`StorageError::Read`], also when there are none.
    pub async fn open_part(&self, key: &str, part: Range<u64>) -> Result<GetResult, StorageError> {
        let options = GetOptions {
            range: Some(part.into()),
            ..GetOptions::default()
        };
        self.open_with(key, options).await
    }

    /// Removes the bytes under a key; none being there is fine.
    ///
    /// # Errors
    /// [`StorageError::Delete`].
    pub async fn delete(&self, key: &str) -> Result<(), StorageError> {
        let began = Instant::now();
        let deleted = match in_time(self.store.delete(&self.key(key))).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(source) => Err(StorageError::Delete {
                key: key.to_owned(),
                source,
            }),
        };
        self.measure("delete", began, 0, &deleted);
        deleted
    }

    /// Whether the store can be written and read, by doing both.
    ///
    /// # Errors
    /// [`StorageError`] naming what failed.
    pub async fn check(&self) -> Result<(), StorageError> {
        self.check_room()?;
        let key = format!("checks/{}", uuid::Uuid::now_v7());
        self.put(&key, Bytes::from_static(b"orfeas")).await?;
        self.get(&key).await?;
        self.delete(&key).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bytes_come_back_until_deleted() {
        let folder = tempfile::tempdir().expect("a temp folder");
        let storage = Storage::open_folder(&folder.path().join("deep/assets")).expect("opens");
        storage
            .put("a/b.glb", Bytes::from_static(b"mesh"))
            .await
            .expect("writes");
        assert_eq!(storage.get("a/b.glb").await.expect("reads"), "mesh");
        assert!(
            folder.path().join("deep/assets/a/b.glb").exists(),
            "inside the folder asked for"
        );
        storage.delete("a/b.glb").await.expect("deletes");
        storage.delete("a/b.glb").await.expect("twice is fine");
        assert!(matches!(
            storage.get("a/b.glb").await,
            Err(StorageError::Read { .. })
        ));
        storage.check().await.expect("works");
    }

    #[tokio::test]
    async fn a_folder_is_there_before_its_first_key() {
        let folder = tempfile::tempdir().expect("a temp folder");
        let storage = Storage::open_folder(folder.path()).expect("opens");
        assert!(storage.make_folder("made/x/1").await);
        assert!(folder.path().join("made/x/1").is_dir());
        let bytes = Bytes::from_static(b"mesh");
        storage.put("made/x/1/m", bytes).await.expect("writes");
        // What is in the way is told by the first key.
        std::fs::write(folder.path().join("made/y"), b"no folder").expect("writes");
        assert!(storage.make_folder("made/y/1").await);
        let put = storage.put("made/y/1/m", Bytes::new()).await;
        assert!(matches!(put, Err(StorageError::Write { .. })));
    }

    #[test]
    fn other_places_are_refused_with_advice() {
        let error = Storage::open("ftp://host/x", []).expect_err("no such store");
        assert!(error.to_string().contains("s3://"), "{error}");
    }
}

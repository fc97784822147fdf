//! What lies in the store, as it comes.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use futures_util::{Stream, StreamExt};
use object_store::ObjectMeta;
use time::OffsetDateTime;

use super::{Storage, StorageError};

/// Bytes under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub key: String,
    pub bytes: u64,
    /// By the store's clock.
    pub written_at: OffsetDateTime,
}

impl Storage {
    /// Whatever lies below a prefix of whole parts, in no order; a page or so of it is in memory at a time. Files that a
    /// write is yet to finish are left out.
    pub fn list(
        &self,
        prefix: &str,
    ) -> impl Stream<Item = Result<Found, StorageError>> + Send + use<> {
        let (own, prefix) = (self.prefix.clone(), prefix.to_owned());
        let listed = self.store.list(Some(&self.key(&prefix)));
        listed.map(move |meta| {
            let ObjectMeta {
                location,
                last_modified,
                size,
                ..
            } = meta.map_err(|source| StorageError::List {
                prefix: prefix.clone(),
                source,
            })?;
            let parts = location
                .prefix_match(&own)
                .expect("what is listed lies below what was asked for");
            let parts: Vec<String> = parts.map(|part| part.as_ref().to_owned()).collect();
            Ok(Found {
                key: parts.join("/"),
                bytes: size,
                written_at: OffsetDateTime::from_unix_timestamp(last_modified.timestamp())
                    .unwrap_or(OffsetDateTime::UNIX_EPOCH),
            })
        })
    }

    /// In a folder, removes what writes that were cut off longer ago have left below a prefix, and says how many files those
    /// were. Other stores keep nothing of such writes.
    ///
    /// # Errors
    /// [`StorageError::Tidy`].
    pub async fn remove_unfinished(
        &self,
        prefix: &str,
        age_min: Duration,
    ) -> Result<u64, StorageError> {
        let Some(root) = &self.folder else {
            return Ok(0);
        };
        let folder = root.join(prefix);
        let before = SystemTime::now() - age_min;
        let removing = tokio::task::spawn_blocking(move || {
            let mut count = 0;
            remove_unfinished(&folder, before, &mut count).map(|()| count)
        });
        match removing.await {
            Ok(removed) => removed.map_err(|(path, source)| StorageError::Tidy {
                path: path.display().to_string(),
                source,
            }),
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        }
    }
}

fn remove_unfinished(
    folder: &Path,
    before: SystemTime,
    count: &mut u64,
) -> Result<(), (PathBuf, std::io::Error)> {
    let failed = |source| (folder.to_owned(), source);
    let entries = match std::fs::read_dir(folder) {
        // It was removed meanwhile, or nothing was ever stored there.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(failed)?,
    };
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let path = entry.path();
        if entry.file_type().map_err(failed)?.is_dir() {
            remove_unfinished(&path, before, count)?;
        } else if is_unfinished(&entry.file_name().to_string_lossy()) {
            let removed = entry
                .metadata()
                .and_then(|metadata| metadata.modified())
                .and_then(|modified| {
                    if modified < before {
                        std::fs::remove_file(&path).map(|()| 1)
                    } else {
                        Ok(0)
                    }
                });
            match removed {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                removed => *count += removed.map_err(|source| (path, source))?,
            }
        }
    }
    Ok(())
}

/// `object_store` writes `key#1` first and renames it when it is whole.
fn is_unfinished(file_name: &str) -> bool {
    file_name.rsplit_once('#').is_some_and(|(_, number)| {
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::TryStreamExt;

    use super::*;

    #[tokio::test]
    async fn what_is_stored_is_listed_and_what_was_cut_off_goes() {
        let folder = tempfile::tempdir().expect("a temp folder");
        let storage = Storage::open_folder(&folder.path().join("deep")).expect("opens");
        let list = async |prefix: &str| -> Vec<Found> {
            storage.list(prefix).try_collect().await.expect("lists")
        };
        assert_eq!(list("sources").await, [], "nothing is there yet");
        for key in ["sources/a", "sources2/b"] {
            storage
                .put(key, Bytes::from_static(b"bytes"))
                .await
                .expect("writes");
        }
        let cut_off = folder.path().join("deep/sources/c#12");
        std::fs::write(&cut_off, b"half").expect("writes");
        let found = list("sources").await;
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].key.as_str(), found[0].bytes), ("sources/a", 5));
        let age = OffsetDateTime::now_utc() - found[0].written_at;
        assert!(age < time::Duration::minutes(1), "{age}");

        let remove = async |age_min| storage.remove_unfinished("sources", age_min).await;
        let hour = Duration::from_secs(3600);
        assert_eq!(remove(hour).await.expect("looks"), 0, "it may go on yet");
        let past = SystemTime::now() - 2 * hour;
        std::fs::File::options()
            .write(true)
            .open(&cut_off)
            .and_then(|file| file.set_modified(past))
            .expect("moves time");
        assert_eq!(remove(hour).await.expect("removes"), 1);
        assert!(!cut_off.exists() && folder.path().join("deep/sources/a").exists());
    }
}

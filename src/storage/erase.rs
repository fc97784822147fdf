//! Removing many keys at once, and whatever lies below one.

use std::{collections::HashMap, io::ErrorKind, time::Duration};

use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::path::Path as Key;
use tokio::time::{Instant, timeout_at};

use super::{Storage, StorageError};

/// What became of the keys that were to be removed.
#[derive(Debug, Default)]
pub struct Removal {
    /// The keys under which there is nothing any more.
    pub gone: Vec<String>,
    /// Why the others are not among them, as far as the store said: the last thing that it did.
    pub error: Option<StorageError>,
}

impl Storage {
    /// Removes the bytes under keys; none being there is fine. A key that ends with a slash stands for all below it. Stops
    /// after `time_max`, with what was done until then.
    pub async fn remove_all(&self, keys: Vec<String>, time_max: Duration) -> Removal {
        let until = Instant::now() + time_max;
        let (folders, keys): (Vec<_>, Vec<_>) =
            keys.into_iter().partition(|key| key.ends_with('/'));
        let mut removal = self.remove_keys(keys, until).await;
        for folder in folders {
            match timeout_at(until, self.remove_below(&folder, until)).await {
                Ok(Ok(())) => removal.gone.push(folder),
                Ok(Err(error)) => removal.error = Some(error),
                Err(_) => break,
            }
        }
        removal
    }

    /// In the store's own way of deleting many first. That names those which are gone, but not those which failed or were not
    /// there; so these are tried one by one.
    async fn remove_keys(&self, keys: Vec<String>, until: Instant) -> Removal {
        let mut left: HashMap<Key, String> =
            keys.into_iter().map(|key| (self.key(&key), key)).collect();
        let locations: Vec<_> = left.keys().cloned().map(Ok).collect();
        let mut removal = Removal::default();
        let mut results = self.store.delete_stream(stream::iter(locations).boxed());
        while let Ok(Some(result)) = timeout_at(until, results.next()).await {
            // What failed is still among those left.
            if let Ok(location) = result {
                removal.gone.extend(left.remove(&location));
            }
        }
        for key in left.into_values() {
            match timeout_at(until, self.delete(&key)).await {
                Ok(Ok(())) => removal.gone.push(key),
                Ok(Err(error)) => removal.error = Some(error),
                Err(_) => break,
            }
        }
        for key in &removal.gone {
            self.remove_empty_folders(key).await;
        }
        removal
    }

    async fn remove_below(&self, folder: &str, until: Instant) -> Result<(), StorageError> {
        if let Some(root) = &self.folder {
            // Files as well that are no keys: what a write that was cut off has left.
            let path = root.join(folder);
            return match tokio::fs::remove_dir_all(&path).await {
                Err(source) if source.kind() != ErrorKind::NotFound => Err(StorageError::Tidy {
                    path: path.display().to_string(),
                    source,
                }),
                _ => Ok(()),
            };
        }
        let below: Vec<String> = self
            .list(folder)
            .map_ok(|found| found.key)
            .try_collect()
            .await?;
        let count = below.len();
        let removal = self.remove_keys(below, until).await;
        match removal.error {
            Some(error) if removal.gone.len() < count => Err(error),
            _ => Ok(()),
        }
    }

    /// In a folder, what a key was below of, as far as it is empty; never the first level, where others are about to write.
    async fn remove_empty_folders(&self, key: &str) {
        let Some(root) = &self.folder else { return };
        let parts: Vec<&str> = key.split('/').collect();
        for depth in (2..parts.len()).rev() {
            let path = parts[..depth]
                .iter()
                .fold(root.clone(), |path, part| path.join(part));
            // One that is not empty stays, and so do those above it.
            if tokio::fs::remove_dir(&path).await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    async fn put(storage: &Storage, keys: &[&str]) {
        for key in keys {
            storage
                .put(key, Bytes::from_static(b"bytes"))
                .await
                .expect("writes");
        }
    }

    #[tokio::test]
    async fn keys_and_all_below_a_folder_go_and_leave_no_empty_folder() {
        let folder = tempfile::tempdir().expect("a temp folder");
        let storage = Storage::open_folder(folder.path()).expect("opens");
        put(
            &storage,
            &["sources/a", "sources/b", "made/x/1/m", "made/y/1/m"],
        )
        .await;
        std::fs::write(folder.path().join("made/y/1/m#1"), b"cut off").expect("writes");
        let keys = ["sources/a", "sources/missing", "made/x/1/m", "made/y/"].map(str::to_owned);
        let mut removal = storage.remove_all(keys.to_vec(), PATIENCE).await;
        removal.gone.sort();
        assert!(removal.error.is_none(), "{removal:?}");
        assert_eq!(
            removal.gone,
            ["made/x/1/m", "made/y/", "sources/a", "sources/missing"]
        );
        let left = |below: &str| {
            let entries = std::fs::read_dir(folder.path().join(below)).expect("is there");
            entries.count()
        };
        assert_eq!((left("sources"), left("made")), (1, 0));
    }

    #[tokio::test]
    async fn what_can_t_be_removed_is_said_and_the_rest_is_removed() {
        let folder = tempfile::tempdir().expect("a temp folder");
        let storage = Storage::open_folder(folder.path()).expect("opens");
        put(&storage, &["sources/a"]).await;
        std::fs::write(folder.path().join("made"), b"no folder").expect("writes");
        let keys = ["made/x/1/m", "made/y/", "sources/a"].map(str::to_owned);
        let removal = storage.remove_all(keys.to_vec(), PATIENCE).await;
        assert_eq!(removal.gone, ["sources/a"]);
        assert!(removal.error.is_some());
    }
}

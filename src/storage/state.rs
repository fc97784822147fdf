//! Whether the store takes and gives what it is asked, as this node has seen it last.

use std::{error::Error, io, path::Path, time::Duration};

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Storage, StorageError};

/// How often the store is tried. Probes of health read what was found.
const CHECK_EVERY: Duration = Duration::from_secs(10);
/// A store that takes longer over a few bytes does not work.
const CHECK_MAX: Duration = Duration::from_secs(10);
/// A folder with less room is full: a picture of the greatest size (20 MiB unless the setting says otherwise) and the
/// meshes of some conversions that run.
const ROOM_BYTES_MIN: u64 = 32 << 20;

/// What is wrong with a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    #[error("no space left")]
    NoSpace,
    #[error("its file system is read-only")]
    ReadOnly,
    #[error("permission denied")]
    Denied,
    #[error("it does not answer")]
    Silent,
    #[error("the log says why")]
    Other,
}

impl Trouble {
    fn of(error: &io::Error) -> Option<Self> {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Some(Self::NoSpace),
            io::ErrorKind::ReadOnlyFilesystem => Some(Self::ReadOnly),
            io::ErrorKind::PermissionDenied => Some(Self::Denied),
            io::ErrorKind::TimedOut => Some(Self::Silent),
            _ => None,
        }
    }
}

impl StorageError {
    /// What is wrong with the store; `None` where the store works and has no such bytes.
    #[must_use]
    pub fn trouble(&self) -> Option<Trouble> {
        if matches!(
            self,
            Self::Read {
                source: object_store::Error::NotFound { .. },
                ..
            }
        ) {
            return None;
        }
        match self {
            Self::Full => return Some(Trouble::NoSpace),
            Self::Silent => return Some(Trouble::Silent),
            _ => {}
        }
        let mut cause: Option<&(dyn Error + 'static)> = Some(self);
        while let Some(error) = cause {
            if let Some(trouble) = error.downcast_ref::<io::Error>().and_then(Trouble::of) {
                return Some(trouble);
            }
            cause = error.source();
        }
        Some(Trouble::Other)
    }
}

/// The bytes free to this process in a folder's file system; `None` where it can't be asked.
#[must_use]
pub fn bytes_free(folder: &Path) -> Option<u64> {
    let found = rustix::fs::statvfs(folder).ok()?;
    Some(found.f_bavail.saturating_mul(found.f_frsize))
}

impl Storage {
    /// What is wrong with the store, as it was seen last.
    #[must_use]
    pub fn trouble(&self) -> Option<Trouble> {
        *self.trouble.borrow()
    }

    /// Takes note of what became of using the store.
    pub(super) fn see(&self, trouble: Option<Trouble>) {
        self.trouble.send_if_modified(|known| {
            let is_news = *known != trouble;
            *known = trouble;
            is_news
        });
    }

    /// Tries the store every some seconds until `stop`, and says in the log when it breaks and when it works again.
    pub async fn watch(self, stop: CancellationToken) {
        let mut tick = tokio::time::interval(CHECK_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut was_broken = false;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = tick.tick() => {}
            }
            let found = match tokio::time::timeout(CHECK_MAX, self.check()).await {
                Ok(Ok(())) => None,
                Ok(Err(error)) => {
                    warn!(cause = %crate::error_chain::chain(&error), "The store can't be used");
                    error.trouble().or(Some(Trouble::Other))
                }
                Err(_) => {
                    warn!("The store does not answer");
                    Some(Trouble::Silent)
                }
            };
            if was_broken && found.is_none() {
                info!("The store works again");
            }
            was_broken = found.is_some();
            self.see(found);
            if let Some(bytes) = self.folder.as_deref().and_then(bytes_free) {
                #[expect(clippy::cast_precision_loss, reason = "a gauge")]
                metrics::gauge!("orfeas_storage_free_bytes").set(bytes as f64);
            }
        }
    }

    /// Whether there is room in a folder; what a bucket has, nobody tells.
    ///
    /// # Errors
    /// [`StorageError::Full`].
    pub(super) fn check_room(&self) -> Result<(), StorageError> {
        let free = self.folder.as_deref().and_then(bytes_free);
        if free.is_some_and(|bytes| bytes < ROOM_BYTES_MIN) {
            return Err(StorageError::Full);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_told_apart() {
        let written = |kind: io::ErrorKind| StorageError::Write {
            key: "a".into(),
            source: object_store::Error::Generic {
                store: "test",
                source: Box::new(io::Error::from(kind)),
            },
        };
        for (kind, trouble) in [
            (io::ErrorKind::StorageFull, Trouble::NoSpace),
            (io::ErrorKind::QuotaExceeded, Trouble::NoSpace),
            (io::ErrorKind::ReadOnlyFilesystem, Trouble::ReadOnly),
            (io::ErrorKind::PermissionDenied, Trouble::Denied),
            (io::ErrorKind::BrokenPipe, Trouble::Other),
        ] {
            assert_eq!(written(kind).trouble(), Some(trouble), "{kind:?}");
        }
        let missing = StorageError::Read {
            key: "a".into(),
            source: object_store::Error::NotFound {
                path: "a".into(),
                source: "gone".into(),
            },
        };
        assert_eq!(missing.trouble(), None, "the store works");
    }

    #[tokio::test]
    async fn a_store_that_fails_is_known_until_it_works() {
        let folder = tempfile::tempdir().expect("a temp folder");
        let storage = Storage::open_folder(folder.path()).expect("opens");
        assert_eq!(storage.trouble(), None);
        // A file where a folder has to be: nobody can write there, root neither.
        std::fs::write(folder.path().join("sources"), b"").expect("writes");
        let put = storage.put("sources/a", bytes::Bytes::from_static(b"x"));
        put.await.expect_err("there is no such folder");
        assert!(storage.trouble().is_some());
        assert!(
            storage.clone().trouble().is_some(),
            "clones share what is known"
        );
        storage.get("none/such").await.expect_err("nothing there");
        storage.see(None);
        storage.get("none/such").await.expect_err("nothing there");
        assert_eq!(
            storage.trouble(),
            None,
            "what is not there is no fault of the store's"
        );
    }
}

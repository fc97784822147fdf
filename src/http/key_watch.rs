//! Ends the connections of keys that are revoked, run out or changed, on every node within a second.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::key_cache::KeyCache;
use crate::{
    db::{Database, api_keys::KeyState, listen::Hub},
    error_chain::chain,
};

/// Notifications may be lost; a revoked key's connections may stay no longer than this.
const LOOK_EVERY: Duration = Duration::from_millis(900);

/// The keys with open connections on this node; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct KeyWatch(Arc<Mutex<HashMap<KeyState, Watched>>>);

#[derive(Debug)]
struct Watched {
    connections: usize,
    ended: CancellationToken,
}

/// One connection's place in the watch; it is given up when dropped.
#[derive(Debug)]
pub struct Watching {
    watch: KeyWatch,
    key: KeyState,
    /// Cancelled when the key lets nobody in any more, or has changed.
    pub ended: CancellationToken,
}

impl Drop for Watching {
    fn drop(&mut self) {
        let mut keys = self.watch.keys();
        if let Some(watched) = keys.get_mut(&self.key) {
            watched.connections -= 1;
            if watched.connections == 0 {
                keys.remove(&self.key);
            }
        }
    }
}

impl KeyWatch {
    /// Watches a key for one connection.
    #[must_use]
    pub fn watch(&self, key: &KeyState) -> Watching {
        let mut keys = self.keys();
        let watched = keys.entry(key.clone()).or_insert_with(|| Watched {
            connections: 0,
            ended: CancellationToken::new(),
        });
        watched.connections += 1;
        Watching {
            watch: self.clone(),
            key: key.clone(),
            ended: watched.ended.clone(),
        }
    }

    /// Looks after the watched keys until `stop`: when one has changed, and every second in any case.
    /// Copies of changed keys are dropped.
    pub async fn run(
        self,
        database: Database,
        hub: Hub,
        copies: Arc<KeyCache>,
        stop: CancellationToken,
    ) {
        let mut changes = hub.keys();
        let mut tick = tokio::time::interval(LOOK_EVERY);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                changed = changes.recv() => match changed {
                    Ok(id) => copies.forget(&id),
                    Err(RecvError::Lagged(_)) => copies.forget_all(),
                    Err(RecvError::Closed) => {
                        error!("The notification hub is gone");
                        return;
                    }
                },
                _ = tick.tick() => {}
            }
            let states: Vec<KeyState> = self.keys().keys().cloned().collect();
            if states.is_empty() {
                continue;
            }
            match database.ended_keys(&states).await {
                Ok(ended) => {
                    for state in ended {
                        // The entry stays until its connections have gone; a new one of this key is ended as well.
                        if let Some(watched) = self.keys().get(&state) {
                            watched.ended.cancel();
                        }
                    }
                }
                Err(error) => {
                    warn!(cause = %chain(&error), "Could not look for revoked keys; trying again");
                }
            }
        }
    }

    fn keys(&self) -> std::sync::MutexGuard<'_, HashMap<KeyState, Watched>> {
        // Nothing panics while holding the lock; if it did, the map would still be sound.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

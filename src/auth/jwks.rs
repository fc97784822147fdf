//! An identity provider's public keys: a cached key set that one task keeps fresh.
//!
//! Verifying takes the set at hand and never waits. Only a token with an unknown `kid` waits for one refresh, and
//! however many such tokens come, the provider is asked at most once in [`Cadence::pause`].

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use self::{
    key_set::KeySet,
    source::{FETCH_MAX, JwksError, Source},
};
use crate::error_chain::chain;

#[cfg(test)]
pub(crate) mod fixtures;
pub mod key_set;
pub mod source;
#[cfg(test)]
mod tests;

/// How often the provider is asked.
#[derive(Debug, Clone, Copy)]
pub struct Cadence {
    /// From one good answer to the next question.
    pub refresh: Duration,
    /// The least time between two questions, whatever the reason; after a failure the next one comes then.
    pub pause: Duration,
}

impl Default for Cadence {
    fn default() -> Self {
        Self {
            // A key that the provider takes back counts no longer than this.
            refresh: Duration::from_secs(600),
            // Rotated keys are usually published long before they sign.
            pause: Duration::from_secs(30),
        }
    }
}

#[derive(Debug, Default)]
struct State {
    keys: Arc<KeySet>,
    /// Attempts begun and ended; they differ while one runs.
    begun: u64,
    ended: u64,
    begun_at: Option<Instant>,
    /// Whether the last attempt brought a set.
    is_fresh: bool,
}

impl State {
    /// Whether the provider may be asked again.
    fn is_rested(&self, pause: Duration) -> bool {
        self.begun_at.is_none_or(|at| at.elapsed() >= pause)
    }
}

/// The keys as everybody sees them.
#[derive(Debug, Clone)]
pub struct Jwks {
    state: watch::Receiver<State>,
    wanted: Arc<Notify>,
    cadence: Cadence,
}

/// Keeps the keys fresh for as long as it runs.
#[derive(Debug)]
pub struct Keeper {
    source: Source,
    state: watch::Sender<State>,
    wanted: Arc<Notify>,
    cadence: Cadence,
}

impl Jwks {
    /// The keys at a place: a file's path, or a `file://`, `http://` or `https://` URL. A file is read now; a server is
    /// asked by the keeper as soon as that runs, so one that is down keeps no node from starting.
    ///
    /// # Errors
    /// [`JwksError`] when the place makes no sense, or is a file without a usable key set.
    pub async fn open(location: &str, cadence: Cadence) -> Result<(Self, Keeper), JwksError> {
        let source = Source::new(location)?;
        if source.is_unprotected() {
            warn!(%source, "The identity provider's keys come over plain HTTP: whoever is on the way can sign in as anybody");
        }
        let mut state = State::default();
        if let Source::File(_) = source {
            state.keys = Arc::new(source.load().await?);
            (state.begun, state.ended) = (1, 1);
            state.begun_at = Some(Instant::now());
            state.is_fresh = true;
        }
        let (sender, receiver) = watch::channel(state);
        let wanted = Arc::new(Notify::new());
        let jwks = Self {
            state: receiver,
            wanted: wanted.clone(),
            cadence,
        };
        let keeper = Keeper {
            source,
            state: sender,
            wanted,
            cadence,
        };
        Ok((jwks, keeper))
    }

    /// The set at hand.
    #[must_use]
    pub fn keys(&self) -> Arc<KeySet> {
        self.state.borrow().keys.clone()
    }

    /// Waits for the refresh that runs, or for one more if the provider may be asked again; else returns at once.
    pub async fn refresh(&self) {
        let mut state = self.state.clone();
        let awaited = {
            let now = state.borrow();
            if now.begun > now.ended {
                now.begun
            } else if now.is_rested(self.cadence.pause) {
                self.wanted.notify_one();
                now.begun + 1
            } else {
                return;
            }
        };
        // The keeper bounds its attempts; this is for one that has been stopped, or does not run.
        let attempt = state.wait_for(|state| state.ended >= awaited);
        if !matches!(tokio::time::timeout(FETCH_MAX, attempt).await, Ok(Ok(_))) {
            warn!("The identity provider's keys were not refreshed in time");
        }
    }
}

impl Keeper {
    /// Refreshes the keys until it is told to stop. A failure leaves the keys as they are and is logged.
    pub async fn run(self, stop: CancellationToken) {
        loop {
            let asked = tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep_until(self.due()) => true,
                () = self.wanted.notified() => self.state.borrow().is_rested(self.cadence.pause),
            };
            if asked {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = self.attempt() => {}
                }
            }
        }
    }

    fn due(&self) -> Instant {
        let state = self.state.borrow();
        let wait = if state.is_fresh {
            self.cadence.refresh
        } else {
            self.cadence.pause
        };
        state
            .begun_at
            .map_or_else(Instant::now, |begun| begun + wait)
    }

    async fn attempt(&self) {
        self.state.send_modify(|state| {
            state.begun += 1;
            state.begun_at = Some(Instant::now());
        });
        let loaded = self.source.load().await;
        self.state.send_modify(|state| {
            state.ended = state.begun;
            state.is_fresh = loaded.is_ok();
            match loaded {
                Ok(keys) => {
                    debug!(source = %self.source, ?keys, "Read the identity provider's keys");
                    state.keys = Arc::new(keys);
                }
                Err(error) => {
                    warn!(cause = %chain(&error), "The identity provider's keys stay as they were");
                }
            }
        });
    }
}

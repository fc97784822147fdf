//! A caller's right to stay: what ends it while a connection or an event stream is open.

use std::time::Duration;

use time::OffsetDateTime;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{HttpState, gate::Admitted, key_watch::Watching};

/// Tokens may live for years; timers need not.
const TIMER_MAX: Duration = Duration::from_secs(24 * 3600 * 365);

/// What ends the right to be here.
#[derive(Debug, Clone)]
pub struct Standing {
    pub expires_at: Option<OffsetDateTime>,
    pub revoked: CancellationToken,
}

/// Why it has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// The token's time is over.
    Expired,
    /// The key was revoked or changed.
    Revoked,
}

impl Over {
    /// In a word for who counts them.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }

    /// In words for whoever has to sign in again.
    pub fn words(self) -> &'static str {
        match self {
            Self::Expired => "The token has expired",
            Self::Revoked => "The key was revoked or changed: sign in again",
        }
    }
}

/// A caller's place among those that are watched; people have none.
pub fn watching(state: &HttpState, admitted: &Admitted) -> Option<Watching> {
    let key = admitted.key_state()?;
    Some(state.0.watch.watch(&key))
}

impl Standing {
    /// The standing of a caller and, with a key, of its place in the watch, which is to be kept as long.
    pub fn of(admitted: &Admitted, watching: Option<&Watching>) -> Self {
        Self {
            expires_at: admitted.principal.expires_at,
            revoked: watching
                .map(|watching| watching.ended.clone())
                .unwrap_or_default(),
        }
    }

    /// Waits until the caller may stay no longer.
    pub async fn over(&self) -> Over {
        let left = self.expires_at.map_or(TIMER_MAX, |expires_at| {
            Duration::try_from(expires_at - OffsetDateTime::now_utc()).unwrap_or_default()
        });
        tokio::select! {
            () = sleep(left.min(TIMER_MAX)) => Over::Expired,
            () = self.revoked.cancelled() => Over::Revoked,
        }
    }
}

//! What is used up and must not pile up: nonces, counts, forgotten idempotency keys.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{db::Database, error_chain::chain};

/// Nonces are kept for some minutes; a minute's worth more does no harm.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// Sweeps until `stop`. Every node does; what another has swept is no work.
pub async fn sweep(database: Database, stop: CancellationToken) {
    let mut tick = tokio::time::interval(SWEEP_EVERY);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        if let Err(error) = database.forget_used().await {
            warn!(cause = %chain(&error), "Could not sweep what is used up; trying again in a minute");
        }
    }
}

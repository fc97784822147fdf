//! What is used up and must not pile up: nonces, counts, forgotten idempotency keys, conversions that have expired.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    db::{Database, DatabaseError},
    error_chain::chain,
    retention::expiry,
};

/// Nonces are kept for some minutes; a minute's worth more does no harm.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// Sweeps until `stop`, conversions that ended longer ago than `retention` too. Every node does; what another has swept is no
/// work.
pub async fn sweep(database: Database, retention: Option<Duration>, stop: CancellationToken) {
    let mut tick = tokio::time::interval(SWEEP_EVERY);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        if let Err(error) = database.forget_used().await {
            warn!(cause = %chain(&error), "Could not sweep what is used up; trying again in a minute");
        }
        if let Some(kept) = retention {
            match expiry::expire(&database, kept, &stop).await {
                Ok(0) => {}
                Ok(count) => info!(count, "Removed conversions that had expired"),
                Err(error) => {
                    warn!(cause = %chain(&error), "Could not remove what has expired; trying again in a minute");
                }
            }
        }
        if let Err(error) = measure(&database).await {
            warn!(cause = %chain(&error), "Could not read how much is stored");
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
async fn measure(database: &Database) -> Result<(), DatabaseError> {
    metrics::gauge!("orfeas_erasure_pending").set(database.erasures_pending().await? as f64);
    metrics::gauge!("orfeas_stored_bytes").set(database.stored_bytes().await? as f64);
    Ok(())
}

//! Conversions that ended long enough ago.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::db::{Database, DatabaseError, retention::Expired};

/// Conversions of one transaction. Deletions wait for it, and workers that touch the same owners or batches; it takes some
/// hundredths of a second.
const STEP: u32 = 100;

/// Removes what ended longer ago than `kept`, until nothing is left of it, another node is at it, or `stop`. Says how many
/// conversions this node has removed.
///
/// # Errors
/// [`DatabaseError`] when a step fails; what earlier ones removed is gone.
pub async fn expire(
    database: &Database,
    kept: Duration,
    stop: &CancellationToken,
) -> Result<u64, DatabaseError> {
    let mut total = 0;
    while !stop.is_cancelled() {
        match database.expire_conversions(kept, STEP).await? {
            Expired::Erased(count) => {
                total += u64::from(count);
                metrics::counter!("orfeas_expired_conversions_total").increment(count.into());
                if count < STEP {
                    break;
                }
            }
            Expired::Elsewhere => break,
        }
    }
    Ok(total)
}

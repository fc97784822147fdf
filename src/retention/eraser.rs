//! The part of a node that erases bytes whose rows are gone.

use std::{collections::HashSet, pin::pin, time::Duration};

use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::{
    crash::{self, Point},
    db::{Database, DatabaseError, listen::Hub},
    error_chain::chain,
    storage::Storage,
};

/// Keys of one claim. What a store deletes by one request is a thousand at most; a key waits for all of its claim.
const CLAIM_MAX: u32 = 500;
/// How long the store may take for a claim: less than the lease, so that nobody else begins meanwhile.
const CLAIM_TIME_MAX: Duration = Duration::from_secs(45);
/// How the table is looked at when nothing is heard: what was put off comes due without a notification.
const POLL: Duration = Duration::from_secs(2);

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Keys that it erased.
    pub erased: usize,
    /// Keys that it could not erase; they are due again later.
    pub failed: usize,
}

impl Step {
    fn is_full(self) -> bool {
        self.erased + self.failed == CLAIM_MAX as usize
    }
}

/// What bytes are erased with; cheap to clone.
#[derive(Debug, Clone)]
pub struct Eraser {
    pub database: Database,
    pub storage: Storage,
    pub hub: Hub,
}

impl Eraser {
    /// Erases until `stop`, woken whenever rows have gone. What it is at by then is another node's when the lease is over.
    pub async fn run(self, stop: CancellationToken) {
        loop {
            let mut woken = pin!(self.hub.erasures().notified());
            woken.as_mut().enable(); // before the query, so that no wake is lost
            let step = tokio::select! {
                () = stop.cancelled() => return,
                step = self.step() => step,
            };
            match step {
                Ok(step) if step.is_full() && step.failed == 0 => continue,
                Ok(_) => {}
                Err(error) => {
                    warn!(cause = %chain(&error), "Could not read or write what is to be erased; trying again");
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = woken => {}
                () = tokio::time::sleep(POLL) => {}
            }
        }
    }

    /// Claims keys that are due and erases them.
    ///
    /// # Errors
    /// [`DatabaseError`] when a statement fails; what was claimed is due again when the lease is over.
    pub async fn step(&self) -> Result<Step, DatabaseError> {
        let claimed = self.database.claim_erasures(CLAIM_MAX).await?;
        if claimed.is_empty() {
            return Ok(Step {
                erased: 0,
                failed: 0,
            });
        }
        let keys: Vec<String> = claimed
            .into_iter()
            .map(|erasure| erasure.storage_key)
            .collect();
        let removal = self.storage.remove_all(keys.clone(), CLAIM_TIME_MAX).await;
        let gone: HashSet<&String> = removal.gone.iter().collect();
        let failed: Vec<String> = keys.into_iter().filter(|key| !gone.contains(key)).collect();
        let step = Step {
            erased: removal.gone.len(),
            failed: failed.len(),
        };
        // A folder is no asset: what was below it is not counted.
        let assets = removal.gone.iter().filter(|key| !key.ends_with('/'));
        metrics::counter!("orfeas_erased_assets_total").increment(assets.count() as u64);
        if !failed.is_empty() {
            metrics::counter!("orfeas_erasure_failures_total").increment(failed.len() as u64);
            let cause = removal
                .error
                .map_or_else(|| "it took too long".into(), |error| chain(&error));
            warn!(keys = failed.len(), first = %failed[0], %cause, "The store did not delete what was erased; trying again later");
        }
        if !removal.gone.is_empty() {
            crash::point(Point::Erased);
            debug!(keys = removal.gone.len(), "Erased bytes");
            self.database.erased(removal.gone).await?;
        }
        if !failed.is_empty() {
            self.database.put_off_erasures(failed).await?;
        }
        Ok(step)
    }
}

//! What a node keeps an eye on every second: the queue that submissions are held against, and its connections.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    db::{
        Database, DatabaseError, PoolState,
        backlog::{Backlog, Figure},
    },
    error_chain::chain,
};

/// As old as the figure of the queue may be, but for the time that the statement takes.
const EVERY: Duration = Duration::from_secs(1);

/// Looks until `stop`, and says in the log when the database stops taking part and when it does again.
pub async fn watch(database: Database, backlog: Backlog, stop: CancellationToken) {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut was_well = true;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        let is_well = match look(&database, &backlog).await {
            Ok(is_read_only) => {
                if is_read_only && was_well {
                    warn!("The database is read-only: nothing is let in, and what is queued waits");
                }
                !is_read_only
            }
            Err(error) => {
                if was_well {
                    warn!(cause = %chain(&error), "The database does not answer");
                }
                false
            }
        };
        if is_well && !was_well {
            info!("The database works again");
        }
        was_well = is_well;
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of rows, far below 2^52")]
fn show(figure: &Figure) {
    let Figure {
        depth,
        depth_agent,
        running,
        oldest_agent_seconds,
        oldest_user_seconds,
        ..
    } = figure;
    for (status, count) in [("queued", depth), ("running", running)] {
        metrics::gauge!("orfeas_queue_conversions", "status" => status).set(*count as f64);
    }
    let waiting = [
        ("agent", *depth_agent, *oldest_agent_seconds),
        ("user", depth - depth_agent, *oldest_user_seconds),
    ];
    for (priority, count, oldest) in waiting {
        metrics::gauge!("orfeas_queue_waiting_conversions", "priority" => priority)
            .set(count as f64);
        metrics::gauge!("orfeas_queue_oldest_seconds", "priority" => priority)
            .set(oldest.unwrap_or_default());
    }
}

/// Whether the database is read-only.
async fn look(database: &Database, backlog: &Backlog) -> Result<bool, DatabaseError> {
    let is_read_only = database.is_read_only().await?;
    show(&backlog.refresh(database).await?);
    let PoolState {
        in_use,
        idle,
        max,
        waited,
    } = database.probe_pool().await?;
    for (state, count) in [("in_use", in_use), ("idle", idle), ("max", max)] {
        metrics::gauge!("orfeas_database_connections", "state" => state).set(f64::from(count));
    }
    metrics::histogram!("orfeas_database_wait_seconds").record(waited);
    Ok(is_read_only)
}

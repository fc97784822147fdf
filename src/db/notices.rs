//! Sending what transactions have left for listeners.
//!
//! The triggers lay notices into a table (`m0008_notices` says why not NOTIFY). Whoever has committed some has this node send
//! them at once, all that lie there, other nodes' too; what a node left that died in between, another one finds within a second.

use std::{sync::Arc, time::Duration};

use sqlx::PgConnection;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{Database, connection::kept_open};
use crate::error_chain::chain;

/// How often a node looks without having left anything itself.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A statement that takes longer is on a connection that is dead.
const SEND_MAX: Duration = Duration::from_secs(5);
/// Notices that one statement sends.
const SENT_MAX: i64 = 1_000;

/// Wakes the sender of this node; cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Notices(Arc<Notify>);

impl Notices {
    /// A transaction that may have left notices is committed.
    pub(super) fn given(&self) {
        // One that comes while a statement is under way is kept, so that the next statement follows at once.
        self.0.notify_one();
    }
}

impl Database {
    /// Sends what lies there until `stop`.
    pub(super) async fn send_notices(&self, stop: &CancellationToken) {
        let mut connection = None;
        let mut fails = false;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.notices.0.notified() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            let sent = tokio::time::timeout(SEND_MAX, self.send_all(&mut connection)).await;
            let failed = match sent {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(chain(&error).to_string()),
                Err(_) => Some("no answer".to_owned()),
            };
            if let Some(cause) = failed {
                connection = None;
                // Once an outage: the rest says the same.
                if fails {
                    debug!(cause, "Still no notices are sent");
                } else {
                    warn!(
                        cause,
                        "Could not send notices; those who wait look by themselves meanwhile"
                    );
                }
                fails = true;
                tokio::time::sleep(LOOK_EVERY).await;
            } else {
                fails = false;
            }
        }
    }

    async fn send_all(&self, connection: &mut Option<PgConnection>) -> Result<(), sqlx::Error> {
        let connection = kept_open(connection, &self.connect).await?;
        loop {
            // Nothing here is logged, so that its commit, which holds the lock of all that notify, waits for no disk.
            let gone: i64 = sqlx::query_scalar(
                "WITH gone AS (
                     DELETE FROM notice WHERE ctid = ANY (ARRAY (SELECT ctid FROM notice LIMIT $1 FOR UPDATE SKIP LOCKED))
                     RETURNING channel, payload
                 ), sent AS (
                     SELECT count(pg_notify(channel, payload)) AS count FROM (SELECT DISTINCT channel, payload FROM gone) once
                 )
                 SELECT (SELECT count(*) FROM gone) + 0 * (SELECT count FROM sent)",
            )
            .bind(SENT_MAX)
            .fetch_one(&mut *connection)
            .await?;
            if gone < SENT_MAX {
                return Ok(());
            }
        }
    }
}

//! The queue as a whole.

use async_graphql::Object;
use time::OffsetDateTime;

use crate::{conversion::Priority, db::queue::QueueState};

/// Depth and pace of the queue, over all nodes.
#[derive(Debug, Clone)]
pub struct QueueStatus(pub QueueState);

/// How many wait in one class.
#[derive(Debug, Clone, async_graphql::SimpleObject)]
pub struct QueueDepth {
    /// The class.
    pub priority: Priority,
    /// Conversions of this class that wait.
    pub queued: i64,
}

/// Depth and pace of the queue, over all nodes.
#[Object]
impl QueueStatus {
    /// Whether an operator has stopped the queue; running conversions go on.
    async fn paused(&self) -> bool {
        self.0.paused
    }

    /// Conversions that wait, of all classes.
    async fn queued(&self) -> i64 {
        self.0.queued()
    }

    /// Conversions that wait, by class.
    async fn depth(&self) -> Vec<QueueDepth> {
        vec![
            QueueDepth {
                priority: Priority::Agent,
                queued: self.0.queued_agent,
            },
            QueueDepth {
                priority: Priority::User,
                queued: self.0.queued_user,
            },
        ]
    }

    /// Conversions that run now.
    async fn running(&self) -> i64 {
        self.0.running
    }

    /// Since when the longest waiting conversion waits.
    async fn oldest_queued_at(&self) -> Option<OffsetDateTime> {
        self.0.oldest_queued_at
    }

    /// Conversions that succeeded in the last minute.
    async fn succeeded_last_minute(&self) -> i64 {
        self.0.succeeded_last_minute
    }

    /// Seconds until a conversion submitted now would be ready; null before the first success.
    async fn estimated_wait_seconds(&self) -> Option<f64> {
        self.0.wait_estimate_seconds(self.0.queued())
    }
}

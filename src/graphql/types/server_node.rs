//! The server's own processes, for operators.

use async_graphql::{ID, Object, SimpleObject};
use time::OffsetDateTime;

use crate::db::entities::node;

/// A running server process.
#[derive(Debug, Clone)]
pub struct ServerNode(pub node::Model);

/// What a node computes with.
#[derive(Debug, Clone, SimpleObject)]
pub struct Device {
    /// The device's name.
    pub name: String,
    /// `cpu` or `cuda`.
    pub kind: String,
    /// All of its memory, in bytes.
    pub memory_total_bytes: Option<u64>,
    /// Memory free at the last heartbeat, in bytes.
    pub memory_free_bytes: Option<u64>,
    /// The largest GPU batch that it takes now.
    pub gpu_batch_size: u32,
    /// Why it is no longer used: it failed, and only a restart of the node brings it back.
    pub lost: Option<String>,
}

/// A running server process.
#[Object]
impl ServerNode {
    /// The node's id; a restarted process has a new one.
    async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// The machine's name.
    async fn name(&self) -> &str {
        &self.0.name
    }

    /// `all`, `api` or `worker`.
    async fn role(&self) -> &str {
        &self.0.role
    }

    /// The version of orfeas that it runs.
    async fn version(&self) -> &str {
        &self.0.version
    }

    /// What it computes with.
    async fn devices(&self) -> Vec<Device> {
        let device = |device: &node::Device| Device {
            name: device.name.clone(),
            kind: device.kind.clone(),
            memory_total_bytes: device.memory_total_bytes,
            memory_free_bytes: device.memory_free_bytes,
            gpu_batch_size: device.batch_images_max,
            lost: device.lost.clone(),
        };
        self.0.devices.0.iter().map(device).collect()
    }

    /// Whether it has lost a device; without any left it takes no conversions.
    async fn degraded(&self) -> bool {
        let mut devices = self.0.devices.0.iter();
        devices.any(|device| device.lost.is_some())
    }

    /// When it started.
    async fn started_at(&self) -> OffsetDateTime {
        self.0.started_at
    }

    /// When it last showed that it lives.
    async fn heartbeat_at(&self) -> OffsetDateTime {
        self.0.heartbeat_at
    }
}

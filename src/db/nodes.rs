//! The nodes' register.

use std::time::Duration;

use super::{
    Database, DatabaseError,
    entities::node::{Devices, Model},
};
use crate::conversion::NodeId;

/// How often a node shows that it lives; a third of [`super::conversions::LEASE`].
pub const HEARTBEAT: Duration = Duration::from_secs(5);

/// What a node tells of itself.
#[derive(Debug, Clone)]
pub struct NodeInfo {
    pub id: NodeId,
    pub name: String,
    pub role: &'static str,
    pub version: &'static str,
    /// The names of its master keys, the one that it signs with first.
    pub master_keys: Vec<String>,
}

impl Database {
    /// Registers a node, or renews its sign of life.
    ///
    /// # Errors
    /// [`DatabaseError`] when the statement fails.
    pub async fn heartbeat(&self, node: &NodeInfo, devices: &Devices) -> Result<(), DatabaseError> {
        let devices = serde_json::to_value(devices).expect("plain data has a JSON form");
        self.execute(
            "INSERT INTO node (id, name, role, version, devices, master_keys) VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT (id) DO UPDATE SET devices = excluded.devices, heartbeat_at = now()",
            [
                node.id.into(),
                node.name.as_str().into(),
                node.role.into(),
                node.version.into(),
                devices.into(),
                node.master_keys.clone().into(),
            ],
        )
        .await?;
        Ok(())
    }

    /// Strikes a node off that stops in good order, and those that were silent for a day.
    ///
    /// # Errors
    /// [`DatabaseError`] when the statement fails.
    pub async fn sign_off(&self, node: NodeId) -> Result<(), DatabaseError> {
        self.execute(
            "DELETE FROM node WHERE id = $1 OR heartbeat_at < now() - interval '1 day'",
            [node.into()],
        )
        .await?;
        Ok(())
    }

    /// The nodes that showed a sign of life lately, oldest first.
    ///
    /// # Errors
    /// [`DatabaseError`] when the query fails.
    pub async fn live_nodes(&self) -> Result<Vec<Model>, DatabaseError> {
        self.all(
            "SELECT * FROM node WHERE heartbeat_at > now() - make_interval(secs => $1) ORDER BY started_at, id",
            [(HEARTBEAT * 3).as_secs_f64().into()],
        )
        .await
    }
}

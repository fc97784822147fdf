//! The server processes that share the database.

use sea_orm::{FromJsonQueryResult, entity::prelude::*};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::conversion::NodeId;

/// What a node computes with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult)]
#[serde(transparent)]
pub struct Devices(pub Vec<Device>);

/// One device of a node, as of its last heartbeat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Device {
    pub name: String,
    /// `cpu` or `cuda`.
    pub kind: String,
    pub memory_total_bytes: Option<u64>,
    pub memory_free_bytes: Option<u64>,
    /// The largest GPU batch that it takes now.
    pub batch_images_max: u32,
    /// Why it is no longer used.
    #[serde(default)]
    pub lost: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "node")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: NodeId,
    pub name: String,
    /// `all`, `api` or `worker`.
    pub role: String,
    pub version: String,
    #[sea_orm(column_type = "JsonBinary")]
    pub devices: Devices,
    /// The names of its master keys, the one that it signs with first.
    pub master_keys: Vec<String>,
    pub started_at: OffsetDateTime,
    pub heartbeat_at: OffsetDateTime,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

//! API keys. What is stored signs nothing: secrets are derived from a master key.

use sea_orm::entity::prelude::*;
use time::OffsetDateTime;

use crate::{auth::api_key::KeyId, conversion::webhook::Hook};

#[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "api_key")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: KeyId,
    /// What people call it.
    pub name: String,
    /// As the contract writes them, such as `conversions:read`.
    pub permissions: Vec<String>,
    pub requests_per_minute: i32,
    pub conversions_at_once: Option<i32>,
    pub conversions_per_day: Option<i32>,
    pub images_per_batch: i32,
    /// Networks that it may be used from, in CIDR notation; unset: any.
    pub networks: Option<Vec<String>>,
    /// The master key that the secret is derived from.
    pub master: String,
    /// Counts the secrets that it has had.
    pub generation: i32,
    pub previous_master: Option<String>,
    /// Until when the secret before works.
    pub previous_until: Option<OffsetDateTime>,
    /// Counts every change.
    pub version: i32,
    pub created_at: OffsetDateTime,
    pub created_by: String,
    pub expires_at: Option<OffsetDateTime>,
    pub revoked_at: Option<OffsetDateTime>,
    /// To the minute.
    pub last_used_at: Option<OffsetDateTime>,
    /// Whom to tell of what it submits without a hook of its own.
    #[sea_orm(column_type = "JsonBinary", nullable)]
    pub webhook: Option<Hook>,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

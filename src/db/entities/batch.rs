//! Conversions that one client submitted together.

use sea_orm::entity::prelude::*;
use time::OffsetDateTime;

use crate::conversion::{BatchId, Owner, webhook::Hook};

#[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "batch")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: BatchId,
    pub owner: Owner,
    /// How many conversions were accepted into it.
    pub size: i32,
    /// How many transitions its conversions have made together.
    pub sequence: i32,
    pub created_at: OffsetDateTime,
    /// Whom to tell of its end; unset: its owner's key says.
    #[sea_orm(column_type = "JsonBinary", nullable)]
    pub webhook: Option<Hook>,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl Entity {
    /// The batches of one owner.
    #[must_use]
    pub fn owned_by(owner: &Owner) -> Select<Self> {
        Self::find().filter(Column::Owner.eq(owner.as_str()))
    }
}

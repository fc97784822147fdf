//! The transitions of conversions, written by the database's own trigger: none is ever missing.

use sea_orm::entity::prelude::*;
use time::OffsetDateTime;

use crate::conversion::{BatchId, ConversionId, NodeId, Stage, Status};

#[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "conversion_event")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub conversion_id: ConversionId,
    /// From 1 without a gap within a conversion.
    #[sea_orm(primary_key, auto_increment = false)]
    pub sequence: i32,
    pub batch_id: Option<BatchId>,
    /// From 1 within a batch.
    pub batch_sequence: Option<i32>,
    pub status: Status,
    pub stage: Option<Stage>,
    pub attempt: i16,
    pub node_id: Option<NodeId>,
    pub at: OffsetDateTime,
    /// The stage that a failed or cancelled conversion had come to.
    pub last_stage: Option<Stage>,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

//! Stored bytes: where they lie, whose they are, and what they hold.

use sea_orm::entity::prelude::*;
use time::OffsetDateTime;

use crate::conversion::{AssetId, ConversionId, Owner, options::MeshFormat};

/// What an asset is to its conversion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "snake_case")]
pub enum Kind {
    /// The picture as it was submitted.
    Source,
    /// A picture of the mesh.
    Preview,
    /// A loop of the mesh turning.
    Turntable,
    /// A mesh file.
    Mesh,
}

#[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "asset")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: AssetId,
    pub owner: Owner,
    pub kind: Kind,
    /// The conversion that made it; a source belongs to all conversions that read it.
    pub conversion_id: Option<ConversionId>,
    pub attempt: Option<i16>,
    pub storage_key: String,
    pub file_name: String,
    pub media_type: String,
    pub format: Option<MeshFormat>,
    pub bytes: i64,
    #[sea_orm(column_type = "VarBinary(StringLen::None)")]
    pub sha256: Vec<u8>,
    /// In pixels, of pictures.
    pub width: Option<i32>,
    /// In pixels, of pictures.
    pub height: Option<i32>,
    pub triangles: Option<i32>,
    pub vertices: Option<i32>,
    pub created_at: OffsetDateTime,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl Entity {
    /// The assets of one owner.
    #[must_use]
    pub fn owned_by(owner: &Owner) -> Select<Self> {
        Self::find().filter(Column::Owner.eq(owner.as_str()))
    }
}

//! One conversion: the row is the truth about it.

use sea_orm::{FromJsonQueryResult, entity::prelude::*};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::conversion::{
    AssetId, BatchId, ConversionId, NodeId, Owner, Priority, Stage, Status,
    options::ConversionOptions,
    provenance::{Provenance, TraceContext},
    webhook::Hook,
};

/// How long each stage of the successful attempt took, in milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult)]
#[serde(rename_all = "camelCase", default)]
pub struct Timings {
    /// From submission to the claim of the successful attempt.
    pub queued_ms: i64,
    pub prepare_ms: i64,
    pub encode_ms: i64,
    pub reconstruct_ms: i64,
    pub mesh_ms: i64,
    pub texture_ms: i64,
    pub export_ms: i64,
    /// How many conversions shared the forward pass.
    pub gpu_batch_size: i32,
}

/// What the mesh is like, measured on the mesh itself. What is optional was not measured by earlier versions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, FromJsonQueryResult)]
#[serde(rename_all = "camelCase")]
pub struct Quality {
    pub watertight: bool,
    pub manifold: bool,
    /// In cubic metres, the longest side being 1 m.
    pub volume: f64,
    /// In square metres, the longest side being 1 m.
    pub surface_area: f64,
    /// Sides along x, y and z in metres, the longest being 1 m.
    pub bounding_box: [f64; 3],
    pub components: i32,
    /// Pairs of triangles that cut each other, as far as they were counted.
    pub self_intersections: Option<i32>,
    /// How well its outline covers the picture's, 0..=1; `None` also where the picture has no outline.
    pub silhouette_agreement: Option<f64>,
    /// In metres, the longest side being 1 m.
    pub thinnest_wall: Option<f64>,
    /// The share of the surface that overhangs, 0..=1.
    pub overhang_share: Option<f64>,
    pub triangles: Option<i32>,
    pub vertices: Option<i32>,
    /// What a person should know, in plain words.
    pub warnings: Warnings,
}

/// Sentences for people.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Warnings(pub Vec<String>);

#[derive(Debug, Clone, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "conversion")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: ConversionId,
    pub owner: Owner,
    pub priority: Priority,
    pub batch_id: Option<BatchId>,
    pub batch_index: Option<i32>,
    pub retry_of: Option<ConversionId>,
    pub source_asset_id: AssetId,
    pub model: String,
    #[sea_orm(column_type = "JsonBinary")]
    pub options: ConversionOptions,
    pub status: Status,
    pub stage: Option<Stage>,
    /// The number of the last transition; see [`super::event`].
    pub sequence: i32,
    /// Claims so far. Grows with each claim, so that a late writer of an earlier one is known.
    pub attempt: i16,
    /// Attempts that ended in a failure or with a lost node.
    pub failures: i16,
    pub rank: OffsetDateTime,
    pub run_at: OffsetDateTime,
    pub node_id: Option<NodeId>,
    pub lease_until: Option<OffsetDateTime>,
    pub cancel_requested_at: Option<OffsetDateTime>,
    pub error_code: Option<String>,
    pub error_message: Option<String>,
    pub error_retryable: Option<bool>,
    #[sea_orm(column_type = "JsonBinary", nullable)]
    pub timings: Option<Timings>,
    #[sea_orm(column_type = "JsonBinary", nullable)]
    pub quality: Option<Quality>,
    pub created_at: OffsetDateTime,
    pub started_at: Option<OffsetDateTime>,
    pub finished_at: Option<OffsetDateTime>,
    /// The stage that a failed or cancelled conversion had come to.
    pub last_stage: Option<Stage>,
    /// Whether it counts against its owner's day.
    pub charged: bool,
    /// Whom to tell of it; unset: its owner's key says.
    #[sea_orm(column_type = "JsonBinary", nullable)]
    pub webhook: Option<Hook>,
    /// The request that submitted it; see [`Model::provenance`].
    pub request_id: Option<String>,
    pub trace_parent: Option<String>,
    pub trace_state: Option<String>,
}

impl Model {
    /// Where it comes from.
    #[must_use]
    pub fn provenance(&self) -> Provenance {
        provenance(
            self.request_id.clone(),
            self.trace_parent.as_deref(),
            self.trace_state.as_deref(),
        )
    }
}

/// What the columns of that name say.
pub(in crate::db) fn provenance(
    request_id: Option<String>,
    trace_parent: Option<&str>,
    trace_state: Option<&str>,
) -> Provenance {
    Provenance {
        request_id,
        trace: trace_parent.and_then(|parent| TraceContext::parse(parent, trace_state)),
    }
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl Entity {
    /// The conversions of one owner: the only way to a row on behalf of a client.
    #[must_use]
    pub fn owned_by(owner: &Owner) -> Select<Self> {
        Self::find().filter(Column::Owner.eq(owner.as_str()))
    }
}

//! Stored bytes and where to fetch them.

use async_graphql::{Context, ID, Object, Result};
use time::OffsetDateTime;

use crate::{conversion::options::MeshFormat, db::entities::asset, graphql::Services};

/// A stored picture.
#[derive(Debug, Clone)]
pub struct Asset(pub asset::Model);

/// A stored picture.
#[Object]
impl Asset {
    /// The global id.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// Where to fetch the bytes; works for an hour.
    async fn url(&self, context: &Context<'_>) -> Result<String> {
        url(context, &self.0)
    }

    /// The media type, as sniffed.
    async fn media_type(&self) -> &str {
        &self.0.media_type
    }

    /// Size in bytes.
    async fn bytes(&self) -> i64 {
        self.0.bytes
    }

    /// SHA-256 of the bytes, in hex.
    async fn sha256(&self) -> String {
        hex::encode(&self.0.sha256)
    }

    /// Width in pixels.
    async fn width(&self) -> Option<i32> {
        self.0.width
    }

    /// Height in pixels.
    async fn height(&self) -> Option<i32> {
        self.0.height
    }

    /// When it was stored.
    async fn created_at(&self) -> OffsetDateTime {
        self.0.created_at
    }
}

/// A mesh file.
#[derive(Debug, Clone)]
pub struct MeshOutput(pub asset::Model);

/// A mesh file.
#[Object]
impl MeshOutput {
    /// The file's format.
    async fn format(&self) -> Option<MeshFormat> {
        self.0.format
    }

    /// Where to fetch the file; works for an hour.
    async fn url(&self, context: &Context<'_>) -> Result<String> {
        url(context, &self.0)
    }

    /// Size in bytes.
    async fn bytes(&self) -> i64 {
        self.0.bytes
    }

    /// SHA-256 of the bytes, in hex.
    async fn sha256(&self) -> String {
        hex::encode(&self.0.sha256)
    }

    /// How many triangles the mesh has.
    async fn triangles(&self) -> Option<i32> {
        self.0.triangles
    }

    /// How many vertices the mesh has.
    async fn vertices(&self) -> Option<i32> {
        self.0.vertices
    }
}

fn url(context: &Context<'_>, asset: &asset::Model) -> Result<String> {
    Ok(context
        .data::<Services>()?
        .links
        .url(asset.id, &asset.file_name))
}

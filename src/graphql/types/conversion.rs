//! One conversion as clients see it.

use async_graphql::{Context, ID, Object, Result, SimpleObject, dataloader::DataLoader};
use time::OffsetDateTime;

use super::{
    asset::{Asset, MeshOutput},
    batch::Batch,
};
use crate::{
    conversion::{
        Priority, Stage, Status,
        options::{ConversionOptions, MeshFormat, TextureMode},
        print::{Measures, PrintReport},
        progress::overall,
    },
    db::entities::{asset, conversion},
    graphql::{
        Services,
        error::ApiError,
        loader::{AssetsOf, Loader},
        pace::Pace,
    },
};

/// One picture on its way to a mesh.
#[derive(Debug, Clone)]
pub struct Conversion {
    row: conversion::Model,
    /// The picture, where it was read already.
    source: Option<asset::Model>,
}

impl From<conversion::Model> for Conversion {
    fn from(row: conversion::Model) -> Self {
        Self { row, source: None }
    }
}

impl Conversion {
    /// One whose picture is at hand.
    pub fn with_source(row: conversion::Model, source: Option<asset::Model>) -> Self {
        Self { row, source }
    }
}

/// Why a conversion failed.
#[derive(Debug, Clone, SimpleObject)]
pub struct ConversionError {
    /// One of the API's error codes.
    pub code: String,
    /// What happened and what may help.
    pub message: String,
    /// Whether `retryConversion` may succeed.
    pub retryable: bool,
}

/// The options as accepted, defaults filled in.
#[derive(Debug, Clone, SimpleObject)]
pub struct AcceptedOptions {
    /// The mesh files that were asked for.
    pub formats: Vec<MeshFormat>,
    /// Field samples along an axis; null: the model's default.
    pub resolution: Option<u32>,
    /// Simplify to at most this many triangles.
    pub target_triangles: Option<u32>,
    /// How the surface is coloured.
    pub texture: TextureMode,
    /// Whether the background is cut away; null: where the picture has no transparency of its own.
    pub remove_background: Option<bool>,
    /// The longest side in millimetres.
    pub size_mm: Option<f64>,
    /// Pixels along a side of the texture; null: 1024 with `BAKED`, none otherwise.
    pub texture_size: Option<u32>,
    /// Whether the GLB is written with `KHR_mesh_quantization`.
    pub quantize: bool,
    /// The least agreement of the outlines that is delivered, 0 to 1; null: any.
    pub min_silhouette_agreement: Option<f64>,
    /// Whether a turntable is made.
    pub turntable: bool,
    /// Denoising steps; null: the model doesn't iterate.
    pub steps: Option<u32>,
    /// How far the picture pulls at each step; null: the model takes no notice of it.
    pub guidance: Option<f64>,
    /// What the noise is made from: the same picture, options and seed give the same mesh. Null: the model doesn't iterate.
    pub seed: Option<u32>,
}

impl From<ConversionOptions> for AcceptedOptions {
    fn from(options: ConversionOptions) -> Self {
        let ConversionOptions {
            formats,
            resolution,
            target_triangles,
            texture,
            remove_background,
            size_mm,
            texture_size,
            quantize,
            min_silhouette_agreement,
            turntable,
            steps,
            guidance,
            seed,
        } = options;
        Self {
            formats,
            resolution,
            target_triangles,
            texture,
            remove_background,
            size_mm,
            texture_size,
            quantize,
            min_silhouette_agreement,
            turntable,
            steps,
            guidance,
            seed,
        }
    }
}

/// What the mesh is like, measured on the mesh itself.
#[derive(Debug, Clone, SimpleObject)]
pub struct QualityReport {
    /// Whether it has no holes.
    pub watertight: bool,
    /// Whether every edge joins exactly two faces.
    pub manifold: bool,
    /// In cubic metres, the longest side being 1 m.
    pub volume: f64,
    /// In square metres, the longest side being 1 m.
    pub surface_area: f64,
    /// Sides along x, y and z in metres, the longest being 1 m.
    pub bounding_box: Vec<f64>,
    /// Separate parts.
    pub components: i32,
    /// Pairs of triangles that cut each other; null: not counted, by an earlier version.
    pub self_intersections: Option<i32>,
    /// How well the mesh's outline, seen from the camera that fits best, covers the object's in the picture: the area that
    /// both cover by the area that either covers, 0 to 1. Null: the picture was taken as a whole, without an outline.
    pub silhouette_agreement: Option<f64>,
    /// Triangles of the mesh.
    pub triangles: Option<i32>,
    /// Vertices of the mesh; files may repeat some, where a texture or the light breaks.
    pub vertices: Option<i32>,
    /// The mesh as a printed thing; null: made by an earlier version.
    pub print: Option<PrintReport>,
    /// What a person should know, in plain words.
    pub warnings: Vec<String>,
}

/// None where an earlier version made the mesh, which didn't measure all of it.
fn print_report(quality: &conversion::Quality, options: &ConversionOptions) -> Option<PrintReport> {
    let (thinnest_wall, overhang_share) = quality.thinnest_wall.zip(quality.overhang_share)?;
    let measures = Measures {
        volume: quality.volume,
        surface_area: quality.surface_area,
        thinnest_wall,
        overhang_share,
    };
    Some(PrintReport::of(measures, options.size_mm))
}

/// Milliseconds in each stage of the attempt that succeeded.
#[derive(Debug, Clone, SimpleObject)]
pub struct StageTimings {
    /// From submission to the claim by a node.
    pub queued_ms: i64,
    /// Reading, decoding, cutting out and scaling the picture.
    pub prepare_ms: i64,
    /// Waiting for company included.
    pub encode_ms: i64,
    /// Sampling the model's field.
    pub reconstruct_ms: i64,
    /// Extracting, cleaning and simplifying the surface.
    pub mesh_ms: i64,
    /// Colouring it.
    pub texture_ms: i64,
    /// Writing and storing the files.
    pub export_ms: i64,
    /// How many conversions shared the forward pass.
    pub gpu_batch_size: i32,
}

/// How far a running conversion is within its stage, as far as this node has heard.
#[must_use]
pub fn fraction(services: &Services, row: &conversion::Model) -> f32 {
    row.stage
        .and_then(|stage| services.hub.latest(row.id, row.attempt, stage))
        .unwrap_or(0.0)
}

/// How far a conversion is, or had come, in 0..=1.
#[must_use]
pub fn reached(services: &Services, row: &conversion::Model) -> f32 {
    overall(
        row.status,
        row.stage.or(row.last_stage),
        fraction(services, row),
    )
}

/// Seconds until a conversion will be ready, if anything is known about the pace.
pub async fn eta_seconds(
    context: &Context<'_>,
    row: &conversion::Model,
    progress: f32,
) -> Result<Option<f64>> {
    let state = context.data::<Pace>()?.state().await?;
    let services = context.data::<Services>()?;
    Ok(match row.status {
        Status::Queued => {
            let position = services
                .database
                .queue_position(row.id)
                .await
                .map_err(ApiError::from)?;
            position.and_then(|ahead| state.wait_estimate_seconds(ahead))
        }
        Status::Running => state
            .mean_run_seconds
            .map(|mean| mean * f64::from(1.0 - progress)),
        Status::Succeeded | Status::Failed | Status::Canceled => None,
    })
}

/// One picture on its way to a mesh.
#[Object]
impl Conversion {
    /// The global id.
    pub async fn id(&self) -> ID {
        self.row.id.to_string().into()
    }

    /// Where it stands.
    async fn status(&self) -> Status {
        self.row.status
    }

    /// What a running conversion is doing.
    async fn stage(&self) -> Option<Stage> {
        self.row.stage
    }

    /// From 0 to 1; never falls within an attempt.
    async fn progress(&self, context: &Context<'_>) -> Result<f64> {
        let services = context.data::<Services>()?;
        Ok(reached(services, &self.row).into())
    }

    /// Seconds until it will be ready; null when nothing is known.
    async fn eta_seconds(&self, context: &Context<'_>) -> Result<Option<f64>> {
        let progress = reached(context.data::<Services>()?, &self.row);
        eta_seconds(context, &self.row, progress).await
    }

    /// How many conversions are before it; null when it does not wait.
    async fn queue_position(&self, context: &Context<'_>) -> Result<Option<i64>> {
        if self.row.status != Status::Queued {
            return Ok(None);
        }
        let services = context.data::<Services>()?;
        Ok(services
            .database
            .queue_position(self.row.id)
            .await
            .map_err(ApiError::from)?)
    }

    /// The class that it waits in.
    async fn priority(&self) -> Priority {
        self.row.priority
    }

    /// The model's name.
    async fn model(&self) -> &str {
        &self.row.model
    }

    /// The options as accepted.
    async fn options(&self) -> AcceptedOptions {
        self.row.options.clone().into()
    }

    /// The picture as submitted.
    async fn source(&self, context: &Context<'_>) -> Result<Option<Asset>> {
        if let Some(source) = &self.source {
            return Ok(Some(Asset(source.clone())));
        }
        let loader = context.data::<DataLoader<Loader>>()?;
        Ok(loader
            .load_one(self.row.source_asset_id)
            .await
            .map_err(|error| (*error).clone())?
            .map(Asset))
    }

    /// A picture of the mesh.
    async fn preview(&self, context: &Context<'_>) -> Result<Option<Asset>> {
        self.picture(context, asset::Kind::Preview).await
    }

    /// A short loop of the mesh turning, if it was asked for.
    async fn turntable(&self, context: &Context<'_>) -> Result<Option<Asset>> {
        self.picture(context, asset::Kind::Turntable).await
    }

    /// The mesh files, once it has succeeded.
    async fn outputs(&self, context: &Context<'_>) -> Result<Vec<MeshOutput>> {
        let mut meshes: Vec<_> = self
            .assets(context)
            .await?
            .into_iter()
            .filter(|asset| asset.kind == asset::Kind::Mesh)
            .collect();
        meshes.sort_by_key(|asset| asset.format);
        Ok(meshes.into_iter().map(MeshOutput).collect())
    }

    /// What the mesh is like, once it has succeeded.
    async fn quality(&self) -> Option<QualityReport> {
        self.row.quality.clone().map(|quality| QualityReport {
            print: print_report(&quality, &self.row.options),
            self_intersections: quality.self_intersections,
            silhouette_agreement: quality.silhouette_agreement,
            triangles: quality.triangles,
            vertices: quality.vertices,
            watertight: quality.watertight,
            manifold: quality.manifold,
            volume: quality.volume,
            surface_area: quality.surface_area,
            bounding_box: quality.bounding_box.to_vec(),
            components: quality.components,
            warnings: quality.warnings.0,
        })
    }

    /// Milliseconds in each stage, once it has succeeded.
    async fn timings(&self) -> Option<StageTimings> {
        self.row.timings.clone().map(|timings| StageTimings {
            queued_ms: timings.queued_ms,
            prepare_ms: timings.prepare_ms,
            encode_ms: timings.encode_ms,
            reconstruct_ms: timings.reconstruct_ms,
            mesh_ms: timings.mesh_ms,
            texture_ms: timings.texture_ms,
            export_ms: timings.export_ms,
            gpu_batch_size: timings.gpu_batch_size,
        })
    }

    /// Why it failed.
    async fn error(&self) -> Option<ConversionError> {
        let (code, message) = self
            .row
            .error_code
            .clone()
            .zip(self.row.error_message.clone())?;
        Some(ConversionError {
            code,
            message,
            retryable: self.row.error_retryable.unwrap_or(false),
        })
    }

    /// How often a node has taken it up.
    async fn attempts(&self) -> i16 {
        self.row.attempt
    }

    /// The batch that it was submitted in.
    async fn batch(&self, context: &Context<'_>) -> Result<Option<Batch>> {
        let Some(id) = self.row.batch_id else {
            return Ok(None);
        };
        let loader = context.data::<DataLoader<Loader>>()?;
        Ok(loader
            .load_one(id)
            .await
            .map_err(|error| (*error).clone())?
            .map(Batch))
    }

    /// The conversion that this one repeats.
    async fn retry_of(&self) -> Option<ID> {
        self.row.retry_of.map(|id| id.to_string().into())
    }

    /// Whose it is.
    async fn owner(&self) -> &str {
        self.row.owner.as_str()
    }

    /// The number of its last transition, for `conversionProgress(after:)`.
    async fn sequence(&self) -> i32 {
        self.row.sequence
    }

    /// Whether it will stop at the next stage's boundary.
    async fn cancel_requested(&self) -> bool {
        self.row.cancel_requested_at.is_some()
    }

    /// When it was submitted.
    async fn created_at(&self) -> OffsetDateTime {
        self.row.created_at
    }

    /// When a node first took it up.
    async fn started_at(&self) -> Option<OffsetDateTime> {
        self.row.started_at
    }

    /// When it ended.
    async fn finished_at(&self) -> Option<OffsetDateTime> {
        self.row.finished_at
    }

    /// When it will be removed with its files, within some minutes; null: not before it has ended, or never by itself.
    async fn expires_at(&self, context: &Context<'_>) -> Result<Option<OffsetDateTime>> {
        let kept = context.data::<Services>()?.retention;
        let end = self.row.finished_at.zip(kept);
        Ok(end.and_then(|(finished_at, kept)| finished_at.checked_add(kept.try_into().ok()?)))
    }
}

impl Conversion {
    async fn picture(&self, context: &Context<'_>, kind: asset::Kind) -> Result<Option<Asset>> {
        let mut assets = self.assets(context).await?.into_iter();
        Ok(assets.find(|asset| asset.kind == kind).map(Asset))
    }

    async fn assets(&self, context: &Context<'_>) -> Result<Vec<asset::Model>> {
        if self.row.status != Status::Succeeded {
            return Ok(Vec::new());
        }
        let loader = context.data::<DataLoader<Loader>>()?;
        let assets = loader
            .load_one(AssetsOf(self.row.id))
            .await
            .map_err(|error| (*error).clone())?;
        Ok(assets.unwrap_or_default())
    }
}

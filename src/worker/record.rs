//! What is written down of a conversion that has succeeded, and counted of one whose mesh was refused.

use bytes::Bytes;
use futures_util::future::join_all;
use sha2::{Digest, Sha256};
use time::{Duration, OffsetDateTime};

use crate::{
    conversion::{AssetId, Stage},
    crash::{self, Point},
    db::{
        conversions::Attempt,
        entities::{
            asset,
            conversion::{Model, Quality, Timings, Warnings},
        },
    },
    pipeline::{Product, error::PipelineError},
    storage::{Storage, StorageError},
};

/// Where an attempt stores what it makes, and nobody else anything.
pub(super) fn folder(attempt: Attempt) -> String {
    format!("conversions/{}/{}", attempt.conversion, attempt.number)
}

/// Stores what was made, file beside file. The keys carry the attempt, so that a late writer overwrites nothing.
///
/// # Errors
/// [`StorageError`]: the attempt has failed then, and what it stored is to be discarded.
pub(super) async fn keep(
    storage: &Storage,
    row: &Model,
    attempt: Attempt,
    product: Product,
) -> Result<Vec<asset::Model>, StorageError> {
    let folder = folder(attempt);
    let count = |value: usize| Some(i32::try_from(value).unwrap_or(i32::MAX));
    let mut kept = Vec::new();
    for file in product.files {
        let file_name = format!("{}.{}", row.id, file.extension);
        let asset = asset::Model {
            format: Some(file.format),
            triangles: count(product.triangles),
            vertices: count(product.vertices),
            ..new_asset(row, attempt, &folder, file_name, file.media_type)
        };
        kept.push(stored(storage, asset, file.bytes));
    }
    let turntable = product.turntable.map(|bytes| {
        let kind = asset::Kind::Turntable;
        (
            kind,
            "turntable.webp",
            "image/webp",
            product.turntable_side,
            bytes,
        )
    });
    let preview = asset::Kind::Preview;
    let preview = (
        preview,
        "preview.png",
        "image/png",
        product.preview_side,
        product.preview,
    );
    for (kind, file_name, media_type, side, bytes) in [preview].into_iter().chain(turntable) {
        let side = i32::try_from(side).ok();
        let asset = asset::Model {
            kind,
            width: side,
            height: side,
            ..new_asset(row, attempt, &folder, file_name.into(), media_type)
        };
        kept.push(stored(storage, asset, bytes));
    }
    // All of them end before an error is told: after that nothing more may come to what is discarded.
    join_all(kept).await.into_iter().collect()
}

/// Stores an asset's bytes, and measures them meanwhile: the digest of a large file takes as long as writing it.
async fn stored(
    storage: &Storage,
    mut asset: asset::Model,
    bytes: Bytes,
) -> Result<asset::Model, StorageError> {
    asset.bytes = i64::try_from(bytes.len()).unwrap_or(i64::MAX);
    let digest = {
        let bytes = bytes.clone();
        tokio::task::spawn_blocking(move || Sha256::digest(&bytes).to_vec())
    };
    storage.put(&asset.storage_key, bytes).await?;
    crash::point(Point::HalfStored);
    asset.sha256 = digest.await.expect("a digest has no reason to panic");
    Ok(asset)
}

/// A mesh of an attempt that is to be stored; how much it is, is not known yet.
fn new_asset(
    row: &Model,
    attempt: Attempt,
    folder: &str,
    file_name: String,
    media_type: &str,
) -> asset::Model {
    asset::Model {
        id: AssetId::new(),
        owner: row.owner.clone(),
        kind: asset::Kind::Mesh,
        conversion_id: Some(row.id),
        attempt: Some(attempt.number),
        storage_key: format!("{folder}/{file_name}"),
        file_name,
        media_type: media_type.to_owned(),
        format: None,
        bytes: 0,
        sha256: Vec::new(),
        width: None,
        height: None,
        triangles: None,
        vertices: None,
        created_at: OffsetDateTime::now_utc(),
    }
}

/// How long each stage took, after so much waiting.
pub(super) fn timings(product: &Product, queued: Duration) -> Timings {
    let of = |wanted: Stage| {
        let took = product
            .timings
            .iter()
            .find(|(stage, _)| *stage == wanted)
            .map(|(_, took)| *took);
        i64::try_from(took.unwrap_or_default().as_millis()).unwrap_or(i64::MAX)
    };
    Timings {
        queued_ms: i64::try_from(queued.whole_milliseconds())
            .unwrap_or(0)
            .max(0),
        prepare_ms: of(Stage::Prepare),
        encode_ms: of(Stage::Encode),
        reconstruct_ms: of(Stage::Reconstruct),
        mesh_ms: of(Stage::Mesh),
        texture_ms: of(Stage::Texture),
        export_ms: of(Stage::Export),
        gpu_batch_size: i32::try_from(product.gpu_batch_size).unwrap_or(i32::MAX),
    }
}

/// What the mesh is like.
pub(super) fn quality(product: &Product) -> Quality {
    let quality = &product.quality;
    let count = |value: usize| i32::try_from(value).unwrap_or(i32::MAX);
    Quality {
        self_intersections: Some(count(quality.self_intersections.pairs)),
        silhouette_agreement: product.silhouette_agreement,
        thinnest_wall: Some(quality.thinnest_wall),
        overhang_share: Some(quality.overhang_share),
        triangles: Some(count(quality.triangles)),
        vertices: Some(count(quality.vertices)),
        watertight: quality.watertight,
        manifold: quality.manifold,
        volume: quality.volume,
        surface_area: quality.surface_area,
        bounding_box: quality.bounding_box.size(),
        components: count(quality.components),
        warnings: Warnings(quality.warnings.clone()),
    }
}

/// Counts a mesh by what it is like.
pub(super) fn measure(quality: &Quality) {
    let flag = |is: bool| if is { "true" } else { "false" };
    metrics::counter!(
        "orfeas_meshes_total",
        "watertight" => flag(quality.watertight),
        "manifold" => flag(quality.manifold),
        "self_intersecting" => flag(quality.self_intersections.is_some_and(|pairs| pairs > 0)),
    )
    .increment(1);
    if let Some(triangles) = quality.triangles {
        metrics::histogram!("orfeas_mesh_triangles").record(f64::from(triangles));
    }
    metrics::counter!("orfeas_mesh_warnings_total").increment(quality.warnings.0.len() as u64);
    if let Some(agreement) = quality.silhouette_agreement {
        measure_agreement(agreement);
    }
}

/// Counts the agreement of a mesh that was refused for it: without these, who asks for more would make the rest look
/// better.
pub(super) fn measure_refused(error: &PipelineError) {
    if let PipelineError::Unlike { agreement, .. } = error {
        measure_agreement(*agreement);
    }
}

fn measure_agreement(agreement: f64) {
    metrics::histogram!("orfeas_silhouette_agreement").record(agreement);
}

//! What is written down of a conversion that has succeeded, and counted of one whose mesh was refused.

use std::{
    collections::BTreeMap,
    iter, mem,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use time::{Duration, OffsetDateTime};
use tokio::{
    runtime::Handle,
    task::{JoinHandle, JoinSet},
};
use tracing::Instrument;

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
    pipeline::{Made, MeshFile, Product, error::PipelineError},
    storage::{Storage, StorageError},
};

/// Where an attempt stores what it makes, and nobody else anything.
pub(super) fn folder(attempt: Attempt) -> String {
    format!("conversions/{}/{}", attempt.conversion, attempt.number)
}

/// How the pictures of a mesh are called.
const PREVIEW: &str = "preview.png";
const TURNTABLE: &str = "turntable.webp";

/// What is in the store now.
struct Stored {
    storage_key: String,
    bytes: i64,
    sha256: Vec<u8>,
}

/// Stores what an attempt makes, each file from the moment that it is there. The keys carry the attempt, so that a late
/// writer overwrites nothing.
pub(super) struct Keeper {
    storage: Storage,
    attempt: Attempt,
    runtime: Handle,
    under_way: Mutex<UnderWay>,
}

/// What was begun and may not have ended.
#[derive(Default)]
struct UnderWay {
    /// Makes the folder, and says whether there is one.
    folder: Option<JoinHandle<bool>>,
    /// By their names.
    files: JoinSet<(String, Result<Stored, StorageError>)>,
}

impl Keeper {
    /// Within a runtime.
    pub(super) fn new(storage: Storage, attempt: Attempt) -> Self {
        Self {
            storage,
            attempt,
            runtime: Handle::current(),
            under_way: Mutex::default(),
        }
    }

    /// Begins to make the folder that the files will be in.
    pub(super) fn prepare(&self) {
        let (storage, folder) = (self.storage.clone(), folder(self.attempt));
        let making = async move { storage.make_folder(&folder).await };
        self.under_way().folder = Some(self.runtime.spawn(making.in_current_span()));
    }

    fn under_way(&self) -> MutexGuard<'_, UnderWay> {
        self.under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn name_of(&self, file: &MeshFile) -> String {
        format!("{}.{}", self.attempt.conversion, file.extension)
    }

    /// Begins to store a file; from any thread.
    pub(super) fn file(&self, made: Made) {
        let (name, pieces) = match made {
            Made::Mesh(file) => (self.name_of(&file), file.pieces),
            Made::Preview(bytes) => (PREVIEW.to_owned(), vec![bytes]),
            Made::Turntable(bytes) => (TURNTABLE.to_owned(), vec![bytes]),
        };
        let (storage, key) = (self.storage.clone(), self.key(&name));
        let storing = async move { (name, stored(&storage, key, pieces).await) };
        self.under_way()
            .files
            .spawn_on(storing.in_current_span(), &self.runtime);
    }

    fn key(&self, file_name: &str) -> String {
        format!("{}/{file_name}", folder(self.attempt))
    }

    /// Waits for what is on its way, so that nothing more comes to what is discarded; whether there was anything.
    pub(super) async fn ended(&self) -> bool {
        let UnderWay { folder, files } = mem::take(&mut *self.under_way());
        let has_folder = match folder {
            Some(making) => making.await.expect("it neither panics nor is called off"),
            None => false,
        };
        let is_any = has_folder || !files.is_empty();
        files.join_all().await;
        is_any
    }

    /// Waits for the files of a product, all of which have been given to it.
    ///
    /// # Errors
    /// [`StorageError`]: the attempt has failed then, and what it stored is to be discarded.
    pub(super) async fn keep(
        &self,
        row: &Model,
        product: &Product,
    ) -> Result<Vec<asset::Model>, StorageError> {
        let asset = |file_name: &str, media_type: &str, stored: Stored| asset::Model {
            id: AssetId::new(),
            owner: row.owner.clone(),
            kind: asset::Kind::Mesh,
            conversion_id: Some(row.id),
            attempt: Some(self.attempt.number),
            storage_key: stored.storage_key,
            file_name: file_name.to_owned(),
            media_type: media_type.to_owned(),
            format: None,
            bytes: stored.bytes,
            sha256: stored.sha256,
            width: None,
            height: None,
            triangles: None,
            vertices: None,
            created_at: OffsetDateTime::now_utc(),
        };
        let files = mem::take(&mut self.under_way().files);
        // All of them end before an error is told: after that nothing more may come to what is discarded.
        let mut stored: BTreeMap<_, _> = files.join_all().await.into_iter().collect();
        let mut stored = |file_name: &str| {
            let stored = stored.remove(file_name);
            stored.expect("each file was given to the keeper")
        };
        let count = |value: usize| Some(i32::try_from(value).unwrap_or(i32::MAX));
        let mut assets = Vec::new();
        for file in &product.files {
            let name = self.name_of(file);
            assets.push(asset::Model {
                format: Some(file.format),
                triangles: count(product.triangles),
                vertices: count(product.vertices),
                ..asset(&name, file.media_type, stored(&name)?)
            });
        }
        let preview = (
            asset::Kind::Preview,
            PREVIEW,
            "image/png",
            product.preview_side,
        );
        let turntable = product.turntable.is_some().then(|| {
            let side = product.turntable_side;
            (asset::Kind::Turntable, TURNTABLE, "image/webp", side)
        });
        for (kind, name, media_type, side) in iter::once(preview).chain(turntable) {
            let side = i32::try_from(side).ok();
            assets.push(asset::Model {
                kind,
                width: side,
                height: side,
                ..asset(name, media_type, stored(name)?)
            });
        }
        Ok(assets)
    }
}

/// Stores bytes, and measures them meanwhile: the digest of a large file takes as long as writing it.
async fn stored(
    storage: &Storage,
    storage_key: String,
    pieces: Vec<Bytes>,
) -> Result<Stored, StorageError> {
    let length: usize = pieces.iter().map(Bytes::len).sum();
    let length = i64::try_from(length).unwrap_or(i64::MAX);
    let digest = {
        let pieces = pieces.clone();
        tokio::task::spawn_blocking(move || {
            let digest = pieces.iter().fold(Sha256::new(), Sha256::chain_update);
            digest.finalize().to_vec()
        })
    };
    storage.put_pieces(&storage_key, pieces).await?;
    crash::point(Point::HalfStored);
    let sha256 = digest.await.expect("a digest has no reason to panic");
    Ok(Stored {
        storage_key,
        bytes: length,
        sha256,
    })
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

//! What is done with each conversion, as a server does it.

use std::sync::Arc;

use sea_orm::{EntityTrait, IntoActiveModel};
use time::OffsetDateTime;

use super::super::super::CommandError;
use crate::{
    auth::principal::Quotas,
    conversion::{
        AssetId, ConversionId, NodeId, Owner, Priority, Stage,
        options::{ConversionOptions, MeshFormat},
        provenance::Provenance,
    },
    db::{
        Database,
        conversions::{Attempt, Entered, Success},
        entities::{
            asset,
            conversion::{Quality, Timings, Warnings},
        },
        submissions::{Admitted, NewConversion, Source, Submission},
    },
    worker::stages::StageWriter,
};

/// Owners that submit in turn: one owner's submissions wait for each other.
const OWNERS: usize = 64;
/// The model of all conversions.
pub(super) const MODEL: &str = "orfeas-mini";
/// Quotas that nobody comes near; they are charged all the same.
const QUOTAS: Quotas = Quotas {
    requests_per_minute: 1_000_000,
    conversions_at_once: Some(1_000_000_000),
    conversions_per_day: Some(1_000_000_000),
    images_per_batch: 1,
};

/// Who submits, with a picture that is there already.
#[derive(Debug, Clone)]
pub(super) struct Submitter {
    pub owner: Owner,
    pub picture: asset::Model,
}

/// Those who submit, and the node that claims.
#[derive(Debug)]
pub(super) struct Work {
    pub owners: Vec<Submitter>,
    node: NodeId,
    writer: StageWriter,
}

impl Work {
    /// Owners with a picture each.
    ///
    /// # Errors
    /// When it can't be stored.
    pub(super) async fn prepare(database: &Database) -> Result<Self, CommandError> {
        let mut owners = Vec::new();
        for number in 0..OWNERS {
            let owner = Owner::key(&format!("ofk_bench{number:015}"));
            let picture = picture(&owner);
            asset::Entity::insert(picture.clone().into_active_model())
                .exec_without_returning(database.connection())
                .await?;
            owners.push(Submitter { owner, picture });
        }
        Ok(Self {
            owners,
            node: NodeId::new(),
            writer: StageWriter::new(database.clone()),
        })
    }

    /// Submits the conversion of this number: quotas charged, row, event, notification.
    pub(super) fn enqueue(
        &self,
        database: Database,
        number: usize,
    ) -> impl Future<Output = Result<(), CommandError>> + Send + use<> {
        let Submitter { owner, picture } = self.owners[number % self.owners.len()].clone();
        async move {
            let submission = Submission {
                owner,
                priority: Priority::Agent,
                model: MODEL.into(),
                options: options(),
                batch: false,
                items: vec![NewConversion {
                    source: Source::Existing(picture),
                    index: 0,
                }],
                retry_of: None,
                idempotency: None,
                webhook: None,
                quotas: Some(QUOTAS),
                stored_bytes_max: None,
                provenance: Provenance::default(),
            };
            match database.submit(submission).await? {
                Admitted::New(_) => Ok(()),
                other => Err(format!("a submission was not admitted: {other:?}").into()),
            }
        }
    }

    /// Claims the next conversion.
    pub(super) fn claim(
        &self,
        database: Database,
    ) -> impl Future<Output = Result<(Attempt, Owner), CommandError>> + Send + use<> {
        let node = self.node;
        async move {
            let mut rows = database.claim(node, &[MODEL.to_owned()], 1).await?;
            let row = rows.pop().ok_or("there was nothing to claim")?;
            let attempt = Attempt {
                conversion: row.id,
                number: row.attempt,
            };
            Ok((attempt, row.owner))
        }
    }

    /// Moves a claimed conversion to its next stage.
    pub(super) fn enter(
        &self,
        (attempt, owner): (Attempt, Owner),
    ) -> impl Future<Output = Result<(Attempt, Owner), CommandError>> + Send + use<> {
        let writer = self.writer.clone();
        async move {
            match writer.enter(attempt, Stage::Encode).await? {
                Entered::Yes => Ok((attempt, owner)),
                Entered::CancelRequested => Err("nobody called it off".into()),
            }
        }
    }

    /// Ends a claimed conversion with a mesh and a preview.
    pub(super) fn complete(
        &self,
        (attempt, owner): (Attempt, Owner),
    ) -> impl Future<Output = Result<(), CommandError>> + Send + use<> {
        let writer = self.writer.clone();
        async move {
            let success = Arc::new(Success {
                attempt,
                assets: vec![
                    made(attempt, &owner, asset::Kind::Mesh),
                    made(attempt, &owner, asset::Kind::Preview),
                ],
                timings: timings(),
                quality: quality(),
            });
            match writer.succeed(&success).await? {
                Entered::Yes => Ok(()),
                Entered::CancelRequested => Err("nobody called it off".into()),
            }
        }
    }
}

fn picture(owner: &Owner) -> asset::Model {
    let id = AssetId::new();
    asset::Model {
        id,
        owner: owner.clone(),
        kind: asset::Kind::Source,
        conversion_id: None,
        attempt: None,
        storage_key: format!("sources/{id}"),
        file_name: "picture.png".into(),
        media_type: "image/png".into(),
        format: None,
        bytes: 60_000,
        sha256: vec![0; 32],
        width: Some(512),
        height: Some(512),
        triangles: None,
        vertices: None,
        created_at: OffsetDateTime::now_utc(),
    }
}

fn made(attempt: Attempt, owner: &Owner, kind: asset::Kind) -> asset::Model {
    let Attempt { conversion, number } = attempt;
    let is_mesh = kind == asset::Kind::Mesh;
    let (file_name, media_type) = if is_mesh {
        (format!("{conversion}.glb"), "model/gltf-binary")
    } else {
        ("preview.png".to_owned(), "image/png")
    };
    asset::Model {
        kind,
        conversion_id: Some(conversion),
        attempt: Some(number),
        storage_key: key(conversion, number, &file_name),
        file_name,
        media_type: media_type.into(),
        format: is_mesh.then_some(MeshFormat::Glb),
        width: (!is_mesh).then_some(512),
        height: (!is_mesh).then_some(512),
        triangles: is_mesh.then_some(20_000),
        vertices: is_mesh.then_some(10_000),
        ..picture(owner)
    }
}

fn key(conversion: ConversionId, number: i16, file_name: &str) -> String {
    format!("conversions/{conversion}/{number}/{file_name}")
}

/// As most are submitted.
pub(super) fn options() -> ConversionOptions {
    ConversionOptions {
        resolution: Some(128),
        ..ConversionOptions::default()
    }
}

/// As long as real ones.
pub(super) fn timings() -> Timings {
    Timings {
        queued_ms: 120,
        prepare_ms: 12,
        encode_ms: 250,
        reconstruct_ms: 210,
        mesh_ms: 31,
        texture_ms: 17,
        export_ms: 44,
        gpu_batch_size: 4,
    }
}

/// As long as real ones.
pub(super) fn quality() -> Quality {
    Quality {
        watertight: true,
        manifold: true,
        volume: 0.123_456_789_012,
        surface_area: 1.234_567_890_123,
        bounding_box: [1.0, 0.765_432_109_8, 0.543_210_987_6],
        components: 1,
        self_intersections: Some(0),
        silhouette_agreement: Some(0.982_345_678_9),
        thinnest_wall: Some(0.034_567_890_1),
        overhang_share: Some(0.123_456_789),
        triangles: Some(64_000),
        vertices: Some(32_000),
        warnings: Warnings::default(),
    }
}

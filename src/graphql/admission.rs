//! From a client's pictures to rows in the queue.

use async_graphql::{Context, InputObject};
use sha2::{Digest, Sha256};

mod keeping;
pub mod picture;

pub use picture::{ImageInput, Picture};

use picture::Seen;

use super::{
    Services,
    error::{ApiError, ErrorCode},
    model_card::ModelCard,
    webhooks::{self, WebhookInput},
};
use crate::{
    auth::principal::Principal,
    conversion::{
        options::{ConversionOptions, MeshFormat, TextureMode},
        provenance::Provenance,
        webhook::Hook,
    },
    crash::{self, Point},
    db::{
        backlog::Room,
        entities::{asset, batch},
        submissions::{Admitted, Idempotency, NewConversion, Rows, Source, Submission},
    },
};

/// What to make of the pictures.
#[derive(Debug, Clone, Default, InputObject)]
pub struct ConversionOptionsInput {
    /// Default: the server's.
    pub model: Option<String>,
    /// The mesh files to make.
    #[graphql(default_with = "vec![MeshFormat::Glb]")]
    pub formats: Vec<MeshFormat>,
    /// Field samples along an axis, 32 to 512; default: the model's.
    pub resolution: Option<u32>,
    /// Simplify to at most this many triangles.
    pub target_triangles: Option<u32>,
    /// How the surface is coloured.
    #[graphql(default_with = "TextureMode::VertexColor")]
    pub texture: TextureMode,
    /// Cut the background away; default: where the picture has no transparency of its own.
    pub remove_background: Option<bool>,
    /// The longest side in millimetres; default: 1 m, and 100 mm in STL and 3MF.
    pub size_mm: Option<f64>,
    /// Pixels along a side of the texture, with `BAKED` only: 256 to 4096; default: 1024.
    pub texture_size: Option<u32>,
    /// A GLB of about two thirds the size, by the extension `KHR_mesh_quantization`, which browsers and engines know; default:
    /// false.
    pub quantize: Option<bool>,
    /// Fail rather than deliver a mesh whose outline agrees less with the picture's: 0 to 1; see
    /// `quality.silhouetteAgreement`. A picture without an outline is converted all the same, with a warning.
    pub min_silhouette_agreement: Option<f64>,
    /// Make a `turntable`, too: a short loop of the mesh turning; default: false.
    pub turntable: Option<bool>,
    /// Denoising steps, within the model's `steps`; default: the model's. Ignored by models that don't iterate.
    pub steps: Option<u32>,
    /// How far the picture pulls at each step, within the model's `guidance`; default: the model's. Ignored by models
    /// that have none.
    pub guidance: Option<f64>,
    /// What the noise is made from, 0 to 2147483647; default: 0, so that the same picture gives the same mesh. Ignored by
    /// models that don't iterate.
    pub seed: Option<u32>,
}

/// One picture to convert.
#[derive(Debug, InputObject)]
pub struct SubmitConversionInput {
    /// The picture.
    pub image: ImageInput,
    /// What to make of it.
    pub options: Option<ConversionOptionsInput>,
    /// Submitting again with the same key and the same input yields the same conversion, for 24 hours.
    pub idempotency_key: Option<String>,
    /// Whom to tell of it; default: whom your key names, if it does.
    pub webhook: Option<WebhookInput>,
}

/// Several pictures to convert with the same options.
#[derive(Debug, InputObject)]
pub struct SubmitBatchInput {
    /// The pictures; a bad one does not fail the others.
    pub images: Vec<ImageInput>,
    /// What to make of them.
    pub options: Option<ConversionOptionsInput>,
    /// Submitting again with the same key and the same input yields the same batch, for 24 hours.
    pub idempotency_key: Option<String>,
    /// Whom to tell of it and its conversions; default: whom your key names, if it does.
    pub webhook: Option<WebhookInput>,
}

/// Longer keys are a mistake; a UUID has 36 characters.
const IDEMPOTENCY_KEY_BYTES_MAX: usize = 200;

/// What a submission asks for, checked.
#[derive(Debug)]
pub struct Order {
    pub model: String,
    /// As they are used: the model's own defaults for the denoising filled in.
    pub options: ConversionOptions,
    /// As they were sent: what a repetition is known by, whatever a model's defaults are by then.
    asked: ConversionOptions,
    idempotency_key: Option<String>,
    webhook: Option<Hook>,
}

impl Order {
    /// Checks options against the offered models, the key, and the hook.
    ///
    /// # Errors
    /// `INVALID_INPUT` or `MODEL_UNAVAILABLE`, with the field at fault.
    pub fn parse(
        services: &Services,
        options: Option<ConversionOptionsInput>,
        idempotency_key: Option<String>,
        webhook: Option<WebhookInput>,
    ) -> Result<Self, ApiError> {
        let ConversionOptionsInput {
            model,
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
        } = options.unwrap_or_else(|| ConversionOptionsInput {
            formats: vec![MeshFormat::Glb],
            ..Default::default()
        });
        let card = find_model(&services.models, model.as_deref())?;
        let options = ConversionOptions {
            formats,
            resolution,
            target_triangles,
            texture,
            remove_background,
            size_mm,
            texture_size,
            quantize: quantize.unwrap_or(false),
            min_silhouette_agreement,
            turntable: turntable.unwrap_or(false),
            steps,
            guidance,
            seed,
        }
        .checked()?;
        if let Some(resolution) = options.resolution
            && !card.resolutions().contains(&resolution)
        {
            let message = format!(
                "The model {} works at resolutions up to {}.",
                card.name,
                card.resolutions().end()
            );
            return Err(ApiError::invalid("options.resolution", message));
        }
        let asked = options.clone();
        let options = card.settle(options)?;
        if idempotency_key
            .as_ref()
            .is_some_and(|key| key.is_empty() || key.len() > IDEMPOTENCY_KEY_BYTES_MAX)
        {
            let message = format!("An idempotency key has 1 to {IDEMPOTENCY_KEY_BYTES_MAX} bytes.");
            return Err(ApiError::invalid("idempotencyKey", message));
        }
        Ok(Self {
            model: card.name.clone(),
            options,
            asked,
            idempotency_key,
            webhook: webhook
                .map(|hook| webhooks::check(&services.egress, hook))
                .transpose()?,
        })
    }

    /// What a repetition of this submission is known by: the input, as it was sent. A URL counts by its text, so that
    /// a repetition fetches nothing, and whatever is behind it by then is still the first submission's.
    fn idempotency(&self, batch: bool, pictures: &[Seen]) -> Option<Idempotency> {
        let key = self.idempotency_key.clone()?;
        let mut digest = Sha256::new();
        digest.update(
            serde_json::to_vec(&(batch, &self.model, &self.asked))
                .expect("plain data has a JSON form"),
        );
        if let Some(hook) = &self.webhook {
            digest.update(serde_json::to_vec(hook).expect("plain data has a JSON form"));
        }
        for picture in pictures {
            match picture {
                Seen::Here(Ok(picture)) => digest.update(picture.sha256()),
                Seen::Here(Err(error)) => digest.update(error.code.as_str()),
                // Hashed by itself, so that no text can pass for something else.
                Seen::Elsewhere(url) => digest.update(Sha256::digest(format!("url {url}"))),
            }
        }
        Some(Idempotency {
            key,
            fingerprint: digest.finalize().into(),
        })
    }
}

fn find_model<'a>(models: &'a [ModelCard], name: Option<&str>) -> Result<&'a ModelCard, ApiError> {
    let found = match name {
        Some(name) => models.iter().find(|card| card.name == name),
        None => models.iter().find(|card| card.is_default),
    };
    found.ok_or_else(|| {
        let offered: Vec<_> = models.iter().map(|card| card.name.as_str()).collect();
        let message = format!(
            "There is no such model here. Offered are: {}.",
            offered.join(", ")
        );
        ApiError::new(ErrorCode::ModelUnavailable, message).at("options.model")
    })
}

/// What became of the pictures of a submission.
#[derive(Debug)]
pub struct Verdicts {
    /// The rows of those that were taken; `None` when none was.
    pub rows: Option<Rows>,
    /// Why each picture was not taken, in the order of submission; `None` where it was.
    pub refusals: Vec<Option<ApiError>>,
}

/// Checks pictures, fetches those that are elsewhere, and admits what can be converted; the same submission sent again
/// finds the first one's rows.
///
/// # Errors
/// What concerns all of them: `IDEMPOTENCY_CONFLICT`, `QUOTA_EXCEEDED`, `OVERLOADED` when there is no room or nothing can be
/// kept, or `INTERNAL`; nothing was admitted then.
pub async fn submit(
    context: &Context<'_>,
    services: &Services,
    principal: &Principal,
    order: Order,
    batch: bool,
    images: Vec<ImageInput>,
) -> Result<Verdicts, ApiError> {
    let wanted = images.len();
    // Before any work is done for it, where the same submission can't have been let in before.
    let room = match order.idempotency_key {
        None => Some(services.backlog.take(wanted)?),
        Some(_) => None,
    };
    let seen = picture::look_at_all(context, services, principal, images).await;
    let idempotency = order.idempotency(batch, &seen);
    let room = match (room, &idempotency) {
        (Some(room), _) => Ok(room),
        (None, _) => services.backlog.take(wanted),
    };
    // Asked before anything is fetched: another fetch might find another picture, or none.
    let before = match &idempotency {
        Some(idempotency)
            if room.is_err() || seen.iter().any(|seen| matches!(seen, Seen::Elsewhere(_))) =>
        {
            let database = &services.database;
            database
                .admitted_before(&principal.owner, idempotency)
                .await?
        }
        _ => None,
    };
    if let Some(before) = before {
        let refusals = seen.into_iter().map(Seen::refusal).collect();
        return Ok(Verdicts::of(settle(before)?, refusals));
    }
    let room = room?;
    let pictures = picture::fetch_all(services, principal, seen).await;
    if pictures.iter().all(Result::is_err) {
        return Ok(Verdicts {
            rows: None,
            refusals: pictures.into_iter().map(Result::err).collect(),
        });
    }
    let submission = Submission {
        owner: principal.owner.clone(),
        priority: principal.priority,
        model: order.model,
        options: order.options,
        batch,
        items: Vec::new(),
        retry_of: None,
        idempotency,
        webhook: order.webhook,
        quotas: Some(principal.quotas),
        stored_bytes_max: services.stored_limits.of(principal),
        provenance: provenance(context),
    };
    let rows = admit(services, principal, submission, &pictures, room).await?;
    Ok(Verdicts::of(
        rows,
        pictures.into_iter().map(Result::err).collect(),
    ))
}

impl Verdicts {
    /// The rows may be those of an earlier, equal submission, which took fewer pictures because one could not be fetched
    /// then.
    fn of(rows: Rows, mut refusals: Vec<Option<ApiError>>) -> Self {
        let taken = refusals.iter().filter(|refusal| refusal.is_none()).count();
        let took_all = |batch: &batch::Model| usize::try_from(batch.size) == Ok(taken);
        if !rows.batch.as_ref().is_none_or(took_all) {
            for (refusal, index) in refusals.iter_mut().zip(0..) {
                let is_there = rows
                    .conversions
                    .iter()
                    .any(|row| row.batch_index == Some(index));
                if refusal.is_none() && !is_there {
                    let message = "This picture was not taken when the batch was first submitted, or has been deleted since: submit it with another idempotency key.";
                    *refusal = Some(ApiError::new(ErrorCode::NotFound, message));
                }
            }
        }
        Self {
            rows: Some(rows),
            refusals,
        }
    }
}

/// Stores the pictures that were taken, and admits the submission with them as its items.
async fn admit(
    services: &Services,
    principal: &Principal,
    mut submission: Submission,
    pictures: &[Result<Picture, ApiError>],
    room: Room,
) -> Result<Rows, ApiError> {
    if let Some(idempotency) = &submission.idempotency
        && let Some(before) = services
            .database
            .admitted_before(&principal.owner, idempotency)
            .await?
    {
        return settle(before);
    }
    submission.items = keeping::keep_all(services, principal, pictures).await?;
    let kept: Vec<asset::Model> = submission.items.iter().filter_map(new_asset).collect();
    let admitted = services.database.submit(submission).await;
    match &admitted {
        Ok(Admitted::New(rows)) => {
            crash::point(Point::Submitted);
            room.stored(rows.conversions.len());
            services.hub.queued();
        }
        Ok(_) => keeping::discard(services, &kept).await,
        Err(error) if error.is_refusing_writes() => keeping::discard(services, &kept).await,
        Err(_) => keeping::discard_unless_admitted(services, &kept).await,
    }
    settle(admitted?)
}

/// The rows of a submission, or why there are none.
///
/// # Errors
/// `IDEMPOTENCY_CONFLICT` and `QUOTA_EXCEEDED`.
pub fn settle(admitted: Admitted) -> Result<Rows, ApiError> {
    match admitted {
        Admitted::New(rows) | Admitted::Before(rows) => Ok(rows),
        Admitted::Conflict => Err(ApiError::new(
            ErrorCode::IdempotencyConflict,
            "This idempotency key was used for another submission in the last 24 hours: use a new one.",
        )
        .at("idempotencyKey")),
        Admitted::Exceeded(exceeded) => Err(exceeded.into()),
        Admitted::Gone => Err(ApiError::not_found("picture")),
    }
}

/// Which request this is, as far as whoever has it executed says so.
pub fn provenance(context: &Context<'_>) -> Provenance {
    context
        .data_opt::<Provenance>()
        .cloned()
        .unwrap_or_default()
}

fn new_asset(item: &NewConversion) -> Option<asset::Model> {
    match &item.source {
        Source::New(asset) => Some(asset.clone()),
        Source::Existing(_) => None,
    }
}

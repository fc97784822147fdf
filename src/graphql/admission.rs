//! From a client's pictures to rows in the queue.

use async_graphql::{Context, InputObject, OneofObject, Upload};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures_util::{StreamExt, future::try_join_all, stream};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use tokio::io::AsyncReadExt;

use super::{
    Services,
    error::{ApiError, ErrorCode},
    model_card::ModelCard,
    webhooks::{self, WebhookInput},
};
use crate::{
    auth::principal::Principal,
    conversion::{
        AssetId,
        options::{ConversionOptions, MeshFormat, TextureMode},
        webhook::Hook,
    },
    db::{
        entities::asset,
        submissions::{Admitted, Idempotency, NewConversion, Rows, Source, Submission},
    },
    image::InputImage,
};

/// A picture, in one of several ways.
#[derive(Debug, OneofObject)]
pub enum ImageInput {
    /// A file of a multipart request.
    Upload(Upload),
    /// The file's bytes in base64, with or without a `data:` prefix.
    Base64(String),
    /// A picture that you submitted before: the id of a conversion's `source`.
    AssetId(async_graphql::ID),
}

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
    /// The longest side in millimetres, for printing.
    pub size_mm: Option<f64>,
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
/// How many pictures of one submission are checked side by side.
const CHECKS_AT_ONCE: usize = 4;

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
                .map(|hook| webhooks::check(services, hook))
                .transpose()?,
        })
    }

    fn idempotency(
        &self,
        batch: bool,
        pictures: &[Result<Picture, ApiError>],
    ) -> Option<Idempotency> {
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
                Ok(picture) => digest.update(picture.sha256()),
                Err(error) => digest.update(error.code.as_str()),
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

/// A picture that can be converted.
#[derive(Debug)]
pub enum Picture {
    /// Sent along; checked by decoding it whole.
    Sent { image: InputImage, sha256: [u8; 32] },
    /// Stored before.
    Stored(Box<asset::Model>),
}

impl Picture {
    fn sha256(&self) -> &[u8] {
        match self {
            Self::Sent { sha256, .. } => sha256,
            Self::Stored(asset) => &asset.sha256,
        }
    }
}

/// Reads and checks pictures, a few side by side; each has its own verdict, in the order of submission.
pub async fn check_all(
    context: &Context<'_>,
    services: &Services,
    principal: &Principal,
    images: Vec<ImageInput>,
) -> Vec<Result<Picture, ApiError>> {
    stream::iter(images)
        .map(|image| check(context, services, principal, image))
        .buffered(CHECKS_AT_ONCE)
        .collect()
        .await
}

/// Reads one picture and checks it by decoding it whole.
///
/// # Errors
/// The code that tells the sender what is wrong with it.
pub async fn check(
    context: &Context<'_>,
    services: &Services,
    principal: &Principal,
    image: ImageInput,
) -> Result<Picture, ApiError> {
    let bytes = match image {
        ImageInput::AssetId(id) => {
            let no_such = || ApiError::not_found("picture");
            let id = id.parse::<AssetId>().map_err(|_| no_such())?;
            let asset = services
                .database
                .owned_source(&principal.owner, id)
                .await?
                .ok_or_else(no_such)?;
            return Ok(Picture::Stored(Box::new(asset)));
        }
        ImageInput::Base64(text) => decode_base64(&text)?,
        ImageInput::Upload(upload) => {
            read_upload(context, upload, services.image_limits.bytes_max).await?
        }
    };
    let sha256 = Sha256::digest(&bytes).into();
    let image = InputImage::parse(bytes, &services.image_limits)?;
    services.decoder.check(&image).await?;
    Ok(Picture::Sent { image, sha256 })
}

fn decode_base64(text: &str) -> Result<Bytes, ApiError> {
    let data = match text.strip_prefix("data:") {
        Some(rest) => rest.split_once(";base64,").map(|(_, data)| data),
        None => Some(text),
    };
    let decoded = data.and_then(|data| STANDARD.decode(data.trim()).ok());
    decoded.map(Bytes::from).ok_or_else(|| {
        ApiError::new(
            ErrorCode::InvalidImage,
            "The picture is not base64: send standard base64 with padding, or a data: URL.",
        )
    })
}

async fn read_upload(
    context: &Context<'_>,
    upload: Upload,
    bytes_max: u64,
) -> Result<Bytes, ApiError> {
    let unreadable = |error: std::io::Error| ApiError::internal(&error);
    let value = upload.value(context).map_err(unreadable)?;
    let mut bytes = Vec::new();
    // One byte more than allowed tells a file at the limit from one beyond it.
    let file = tokio::fs::File::from_std(value.content);
    file.take(bytes_max + 1)
        .read_to_end(&mut bytes)
        .await
        .map_err(unreadable)?;
    Ok(bytes.into())
}

/// Stores the pictures and admits the conversions; the same submission sent again finds the first one's rows.
///
/// # Errors
/// `IDEMPOTENCY_CONFLICT`, or `INTERNAL` when nothing was admitted.
pub async fn admit(
    services: &Services,
    principal: &Principal,
    order: Order,
    batch: bool,
    pictures: &[Result<Picture, ApiError>],
) -> Result<Rows, ApiError> {
    let idempotency = order.idempotency(batch, pictures);
    if let Some(idempotency) = &idempotency
        && let Some(before) = services
            .database
            .admitted_before(&principal.owner, idempotency)
            .await?
    {
        return settle(before);
    }
    let mut storing = Vec::new();
    for (picture, index) in pictures.iter().zip(0..) {
        if let Ok(picture) = picture {
            storing.push(store(services, principal, picture, index));
        }
    }
    let items = try_join_all(storing).await?;
    let stored: Vec<String> = items
        .iter()
        .filter_map(|item| new_key(&item.source))
        .collect();
    let submission = Submission {
        owner: principal.owner.clone(),
        priority: principal.priority,
        model: order.model,
        options: order.options,
        batch,
        items,
        retry_of: None,
        idempotency,
        webhook: order.webhook,
        quotas: Some(principal.quotas),
    };
    let admitted = services.database.submit(submission).await;
    if !matches!(admitted, Ok(Admitted::New(_))) {
        for key in stored {
            // Bytes without a row are only waste; the verdict on the submission stands.
            if let Err(error) = services.storage.delete(&key).await {
                tracing::warn!(key, %error, "A picture without a row was left in the store");
            }
        }
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

fn new_key(source: &Source) -> Option<String> {
    match source {
        Source::New(asset) => Some(asset.storage_key.clone()),
        Source::Existing(_) => None,
    }
}

async fn store(
    services: &Services,
    principal: &Principal,
    picture: &Picture,
    index: i32,
) -> Result<NewConversion, ApiError> {
    let source = match picture {
        Picture::Stored(asset) => Source::Existing((**asset).clone()),
        Picture::Sent { image, sha256 } => {
            let id = AssetId::new();
            let storage_key = format!("sources/{id}");
            services
                .storage
                .put(&storage_key, image.bytes().clone())
                .await?;
            let whole = |value: u64| i64::try_from(value).expect("sizes are limited at the edge");
            let side = |value: u32| i32::try_from(value).expect("sides are limited at the edge");
            Source::New(asset::Model {
                id,
                owner: principal.owner.clone(),
                kind: asset::Kind::Source,
                conversion_id: None,
                attempt: None,
                storage_key,
                file_name: format!(
                    "source.{}",
                    image.media_type().rsplit('/').next().unwrap_or("bin")
                ),
                media_type: image.media_type().to_owned(),
                format: None,
                bytes: whole(image.bytes().len() as u64),
                sha256: sha256.to_vec(),
                width: Some(side(image.width())),
                height: Some(side(image.height())),
                triangles: None,
                vertices: None,
                created_at: OffsetDateTime::now_utc(),
            })
        }
    };
    Ok(NewConversion { source, index })
}

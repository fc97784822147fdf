//! Pictures as clients hand them in: sent along, stored before, or to be fetched.

use std::io::Read;

use async_graphql::{Context, OneofObject, Upload, UploadValue};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use sha2::{Digest, Sha256};

use crate::{
    auth::principal::Principal,
    conversion::AssetId,
    db::entities::asset,
    graphql::{
        Services,
        error::{ApiError, ErrorCode},
        fetching::Round,
    },
    image::{InputImage, declared::Declared},
};

/// How many pictures of one submission are checked side by side.
const CHECKS_AT_ONCE: usize = 4;
/// How many are fetched side by side. They wait for others, and take little of this machine.
const FETCHES_AT_ONCE: usize = 8;

/// A picture, in one of several ways.
#[derive(Debug, OneofObject)]
pub enum ImageInput {
    /// A file of a multipart request.
    Upload(Upload),
    /// The file's bytes in base64, with or without a `data:` prefix.
    Base64(String),
    /// A picture that you submitted before: the id of a conversion's `source`.
    AssetId(async_graphql::ID),
    /// Where the server gets it from: an https:// address that everybody can reach, without a password, behind at most
    /// three redirects. The mutation waits for it, up to 20 s (a batch up to a minute) unless the server says otherwise.
    /// With an idempotency key the address itself is what counts, and a repetition fetches nothing.
    Url(String),
}

/// A picture that can be converted.
#[derive(Debug)]
pub enum Picture {
    /// Sent along or fetched; checked by decoding it whole.
    Sent {
        /// Without what the picture isn't shown by.
        image: InputImage,
        /// Of the bytes as they came: what a repetition is known by.
        sha256: [u8; 32],
    },
    /// Stored before.
    Stored(Box<asset::Model>),
}

impl Picture {
    pub(super) fn sha256(&self) -> &[u8] {
        match self {
            Self::Sent { sha256, .. } => sha256,
            Self::Stored(asset) => &asset.sha256,
        }
    }
}

/// A picture of a submission before anything is fetched.
#[derive(Debug)]
pub(super) enum Seen {
    /// Read and checked.
    Here(Result<Picture, ApiError>),
    /// At this URL.
    Elsewhere(String),
}

impl Seen {
    /// Why it can't be taken, as far as that is known.
    pub(super) fn refusal(self) -> Option<ApiError> {
        match self {
            Self::Here(picture) => picture.err(),
            Self::Elsewhere(_) => None,
        }
    }
}

/// Reads and checks what was sent along, a few side by side; each has its own verdict, in the order of submission.
pub(super) async fn look_at_all(
    context: &Context<'_>,
    services: &Services,
    principal: &Principal,
    images: Vec<ImageInput>,
) -> Vec<Seen> {
    stream::iter(images)
        .map(|image| look_at(context, services, principal, image))
        .buffered(CHECKS_AT_ONCE)
        .collect()
        .await
}

async fn look_at(
    context: &Context<'_>,
    services: &Services,
    principal: &Principal,
    image: ImageInput,
) -> Seen {
    Seen::Here(match image {
        ImageInput::Url(url) => return Seen::Elsewhere(url),
        ImageInput::AssetId(id) => find_stored(services, principal, &id).await,
        ImageInput::Base64(text) => match decode_base64(&text) {
            Ok((bytes, media_type)) => {
                let declared = Declared {
                    media_type,
                    file_name: None,
                };
                check(services, bytes, declared).await
            }
            Err(error) => Err(error),
        },
        ImageInput::Upload(upload) => read_upload(context, services, upload).await,
    })
}

/// Fetches and checks what is elsewhere, a few side by side, in the order of submission.
pub(super) async fn fetch_all(
    services: &Services,
    principal: &Principal,
    seen: Vec<Seen>,
) -> Vec<Result<Picture, ApiError>> {
    let round = services.fetcher.round(&principal.owner);
    stream::iter(seen)
        .map(|seen| fetch(services, &round, seen))
        .buffered(FETCHES_AT_ONCE)
        .collect()
        .await
}

async fn fetch(services: &Services, round: &Round<'_>, seen: Seen) -> Result<Picture, ApiError> {
    match seen {
        Seen::Here(picture) => picture,
        // What servers say of pictures is often wrong, and not the client's to mend.
        Seen::Elsewhere(url) => {
            let bytes = round.fetch(&url).await?;
            check(services, bytes, Declared::default()).await
        }
    }
}

async fn find_stored(
    services: &Services,
    principal: &Principal,
    id: &async_graphql::ID,
) -> Result<Picture, ApiError> {
    let no_such = || ApiError::not_found("picture");
    let id = id.parse::<AssetId>().map_err(|_| no_such())?;
    let asset = services
        .database
        .owned_source(&principal.owner, id)
        .await?
        .ok_or_else(no_such)?;
    Ok(Picture::Stored(Box::new(asset)))
}

/// Checks a picture by its container, by the sender's words, and by decoding it whole. What is kept of it is what it is
/// shown by: no places, names or comments, and nothing that follows it.
async fn check(
    services: &Services,
    bytes: Bytes,
    declared: Declared<'_>,
) -> Result<Picture, ApiError> {
    let sha256 = Sha256::digest(&bytes).into();
    let image = InputImage::parse(bytes, &services.image_limits)?;
    image.check_declared(declared)?;
    let image = image.essential();
    services.decoder.check(&image).await?;
    Ok(Picture::Sent { image, sha256 })
}

/// The bytes, and the media type that a data URL names.
fn decode_base64(text: &str) -> Result<(Bytes, Option<&str>), ApiError> {
    let (media_type, data) = match text.strip_prefix("data:") {
        Some(rest) => match rest.split_once(";base64,") {
            Some((media_type, data)) => (Some(media_type), Some(data)),
            None => (None, None),
        },
        None => (None, Some(text)),
    };
    let decoded = data.and_then(|data| STANDARD.decode(data.trim()).ok());
    let bytes = decoded.ok_or_else(|| {
        ApiError::new(
            ErrorCode::InvalidImage,
            "The picture is not base64: send standard base64 with padding, or a data: URL.",
        )
    })?;
    Ok((bytes.into(), media_type))
}

async fn read_upload(
    context: &Context<'_>,
    services: &Services,
    upload: Upload,
) -> Result<Picture, ApiError> {
    let unreadable = |error: std::io::Error| ApiError::internal(&error);
    let UploadValue {
        filename,
        content_type,
        content,
    } = upload.value(context).map_err(unreadable)?;
    // One byte more than allowed tells a file at the limit from one beyond it.
    let mut some = content.take(services.image_limits.bytes_max + 1);
    // At once: piece by piece each would wait for a thread of its own.
    let read = tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        some.read_to_end(&mut bytes).map(|_| bytes)
    });
    let bytes = read.await.expect("reading has no reason to panic");
    let bytes = bytes.map_err(unreadable)?;
    let declared = Declared {
        media_type: content_type.as_deref(),
        file_name: Some(&filename),
    };
    check(services, bytes.into(), declared).await
}

//! The bytes of pictures that are being submitted: kept together, or not at all.

use futures_util::future::join_all;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use tracing::warn;

use super::{super::Services, super::error::ApiError, Picture};
use crate::{
    auth::principal::Principal,
    conversion::AssetId,
    db::{
        entities::asset,
        submissions::{NewConversion, Source},
    },
    error_chain::chain,
    storage::{StorageError, state::Trouble},
};

/// Stores what was sent of pictures that were taken. If one can't be stored, none is.
///
/// # Errors
/// `OVERLOADED` when the store takes nothing.
pub(super) async fn keep_all(
    services: &Services,
    principal: &Principal,
    pictures: &[Result<Picture, ApiError>],
) -> Result<Vec<NewConversion>, ApiError> {
    if services.storage.trouble() == Some(Trouble::Silent) {
        // Each would wait as long as the one did that has found it out.
        return Err(StorageError::Silent.into());
    }
    let taken = pictures.iter().zip(0..);
    let taken = taken.filter_map(|(picture, index)| Some((picture.as_ref().ok()?, index)));
    // All of them to their end: what was dropped half-way might still be written.
    let stored =
        join_all(taken.map(|(picture, index)| keep(services, principal, picture, index))).await;
    let mut items = Vec::new();
    let mut failed = None;
    for stored in stored {
        match stored {
            Ok(item) => items.push(item),
            Err(error) => failed = Some(error),
        }
    }
    let Some(error) = failed else {
        return Ok(items);
    };
    let kept: Vec<asset::Model> = items.iter().filter_map(super::new_asset).collect();
    discard(services, &kept).await;
    Err(error.into())
}

/// Removes bytes that will have no row.
pub(super) async fn discard(services: &Services, assets: &[asset::Model]) {
    for asset in assets {
        // Bytes without a row are only waste; the verdict on the submission stands.
        if let Err(error) = services.storage.delete(&asset.storage_key).await {
            warn!(key = asset.storage_key, cause = %chain(&error), "A picture without a row was left in the store");
        }
    }
}

/// The same where the database failed: it may have taken the rows, and only its answer was lost.
pub(super) async fn discard_unless_admitted(services: &Services, assets: &[asset::Model]) {
    for asset in assets {
        match services.database.is_admitted(&asset.owner, asset.id).await {
            Ok(false) => discard(services, std::slice::from_ref(asset)).await,
            Ok(true) => {}
            Err(error) => {
                warn!(key = asset.storage_key, cause = %chain(&error), "Whether a picture has a row is unknown: it was left in the store");
            }
        }
    }
}

async fn keep(
    services: &Services,
    principal: &Principal,
    picture: &Picture,
    index: i32,
) -> Result<NewConversion, StorageError> {
    let source = match picture {
        Picture::Stored(asset) => Source::Existing((**asset).clone()),
        Picture::Sent { image, sha256: _ } => {
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
                sha256: Sha256::digest(image.bytes()).to_vec(),
                width: Some(side(image.width())),
                height: Some(side(image.height())),
                triangles: None,
                vertices: None,
                // As exactly as it will be read.
                created_at: OffsetDateTime::now_utc().truncate_to_microsecond(),
            })
        }
    };
    Ok(NewConversion { source, index })
}

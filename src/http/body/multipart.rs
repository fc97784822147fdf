//! Requests with files, by the GraphQL multipart request specification: the part `operations`, the part `map`, then the
//! files. Read by ourselves, because the GraphQL library bounds neither the first two nor the number of open files.

use std::{collections::HashMap, io::Seek};

use async_graphql::UploadValue;
use axum::body::Bytes;
use futures_util::Stream;
use multer::{Field, Multipart};
use tokio::io::AsyncWriteExt;

use super::{
    Refusal, asked, invalid,
    structure::{Structure, VALUES_MAX},
    unreadable,
};
use crate::{
    graphql::{documents::asked::Asked, error::ApiError},
    http::UploadLimits,
};

/// The places of all files of a batch fit many times over.
const MAP_BYTES_MAX: usize = 64 << 10;

/// Reads a multipart body to its closing boundary.
///
/// # Errors
/// The refusal, with what is wrong with the parts.
pub(super) async fn receive(
    stream: impl Stream<Item = std::io::Result<Bytes>> + Send,
    content_type: &str,
    limits: UploadLimits,
) -> Result<Asked, Refusal> {
    let boundary = multer::parse_boundary(content_type).map_err(|error| unreadable(&error))?;
    let mut parts = Multipart::new(stream, boundary);
    let operations = part(&mut parts, "operations", limits.json_bytes_max()).await?;
    if Structure::default().is_excessive(&operations) {
        return Err(invalid(format!(
            "The part `operations` holds more than {VALUES_MAX} values: send several requests."
        )));
    }
    let mut asked = asked(&operations).map_err(|error| unreadable_part("operations", &error))??;
    let map = part(&mut parts, "map", MAP_BYTES_MAX).await?;
    let mut map: HashMap<String, Vec<String>> =
        serde_json::from_slice(&map).map_err(|error| unreadable_part("map", &error))?;
    // Each place holds an open file, and so does each file.
    if map.len() > limits.images_max || map.values().flatten().count() > limits.images_max {
        return Err(invalid(format!(
            "A request has at most {} files, each for one place.",
            limits.images_max
        )));
    }
    while let Some(field) = next(&mut parts).await? {
        let places = field.name().and_then(|name| map.remove(name));
        // A part that the map does not name is passed over, unread.
        let Some(places) = places else { continue };
        let upload = store(field).await?;
        for place in &places {
            let copy = upload.try_clone().map_err(|error| internal(&error))?;
            asked.request.set_upload(place, copy);
        }
    }
    match map.into_keys().next() {
        None => Ok(asked),
        Some(name) => {
            let name: String = name.chars().take(64).collect();
            Err(invalid(format!(
                "The file `{name}` that `map` names was not sent."
            )))
        }
    }
}

async fn next<'r>(parts: &mut Multipart<'r>) -> Result<Option<Field<'r>>, Refusal> {
    parts.next_field().await.map_err(|error| unreadable(&error))
}

/// The bytes of the next part, which must have this name.
async fn part(parts: &mut Multipart<'_>, name: &str, bytes_max: usize) -> Result<Vec<u8>, Refusal> {
    let field = next(parts).await?;
    let mut field = field
        .filter(|field| field.name() == Some(name))
        .ok_or_else(|| invalid("Send the part `operations` first, then `map`, then the files."))?;
    let mut bytes = Vec::new();
    while let Some(chunk) = field.chunk().await.map_err(|error| unreadable(&error))? {
        if bytes.len() + chunk.len() > bytes_max {
            return Err(invalid(format!(
                "The part `{name}` has more than {bytes_max} bytes: send pictures as files."
            )));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

fn unreadable_part(name: &str, error: &serde_json::Error) -> Refusal {
    invalid(format!("The part `{name}` can't be read: {error}."))
}

/// Puts a file aside, unnamed: it is gone when the request is.
async fn store(mut field: Field<'_>) -> Result<UploadValue, Refusal> {
    let filename = field.file_name().unwrap_or_default().to_owned();
    let content_type = field.content_type().map(ToString::to_string);
    let file = tempfile::tempfile().map_err(|error| internal(&error))?;
    let mut file = tokio::fs::File::from_std(file);
    while let Some(chunk) = field.chunk().await.map_err(|error| unreadable(&error))? {
        file.write_all(&chunk)
            .await
            .map_err(|error| internal(&error))?;
    }
    file.flush().await.map_err(|error| internal(&error))?;
    let mut content = file.into_std().await;
    content.rewind().map_err(|error| internal(&error))?;
    Ok(UploadValue {
        filename,
        content_type,
        content,
    })
}

fn internal(error: &std::io::Error) -> Refusal {
    (
        axum::http::StatusCode::SERVICE_UNAVAILABLE,
        ApiError::internal(error),
    )
}

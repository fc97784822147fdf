//! Downloads by signed URL.

use axum::{
    body::Body,
    extract::{Path, Query, State, rejection::QueryRejection},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;

use super::HttpState;
use crate::{auth::link::LinkError, conversion::AssetId, db::entities::asset, error_chain::chain};

/// The signed part of a download URL.
#[derive(Debug, Deserialize)]
pub struct Signed {
    expires: i64,
    signature: String,
}

/// `GET /assets/{id}/{file}`: the bytes, if the URL is signed, fresh, and the asset still there.
pub async fn download(
    State(state): State<HttpState>,
    Path((id, file)): Path<(String, String)>,
    query: Result<Query<Signed>, QueryRejection>,
    headers: HeaderMap,
) -> Response {
    let gone = || (StatusCode::NOT_FOUND, "There is no such asset.\n").into_response();
    let (Ok(id), Ok(Query(signed))) = (id.parse::<AssetId>(), query) else {
        return gone();
    };
    match state
        .0
        .links
        .verify(id, &file, signed.expires, &signed.signature)
    {
        Ok(()) => {}
        Err(LinkError::Invalid) => return gone(),
        Err(error @ LinkError::Expired) => {
            return (StatusCode::GONE, format!("{error}\n")).into_response();
        }
    }
    let row = match state.0.database.asset(id).await {
        Ok(row) => row.filter(|row| row.file_name == file),
        Err(error) => return unavailable(&error),
    };
    let Some(row) = row else { return gone() };
    let etag = etag(&row);
    if is_known(&headers, etag.as_bytes()) {
        return (StatusCode::NOT_MODIFIED, [(header::ETAG, etag)]).into_response();
    }
    match state.0.storage.open_asset(&row.storage_key).await {
        Ok(found) => respond(&row, etag, Body::from_stream(found.into_stream())),
        Err(error) => unavailable(&error),
    }
}

fn etag(row: &asset::Model) -> String {
    format!("\"{}\"", hex::encode(&row.sha256))
}

/// Whether a client has what goes by this tag.
pub(super) fn is_known(asked: &HeaderMap, etag: &[u8]) -> bool {
    asked
        .get(header::IF_NONE_MATCH)
        .is_some_and(|known| known.as_bytes() == etag)
}

fn respond(row: &asset::Model, etag: String, body: Body) -> Response {
    let disposition = match row.kind {
        asset::Kind::Mesh => format!("attachment; filename=\"{}\"", row.file_name),
        asset::Kind::Source | asset::Kind::Preview => "inline".to_owned(),
    };
    let headers = [
        (header::CONTENT_TYPE, row.media_type.clone()),
        (header::CONTENT_LENGTH, row.bytes.to_string()),
        (header::CONTENT_DISPOSITION, disposition),
        (header::ETAG, etag),
        // The URL is the secret, and the bytes behind it never change.
        (
            header::CACHE_CONTROL,
            "private, max-age=3600, immutable".to_owned(),
        ),
    ];
    let mut response = (headers, body).into_response();
    response.headers_mut().insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    // Pictures come from strangers: nothing in them may run, should a browser show them as a page.
    response.headers_mut().insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; sandbox"),
    );
    response
}

fn unavailable(error: &(dyn std::error::Error + 'static)) -> Response {
    tracing::error!(cause = %chain(error), "A download failed");
    (
        StatusCode::SERVICE_UNAVAILABLE,
        [(header::RETRY_AFTER, "5")],
        "The asset can't be read now. Try again.\n",
    )
        .into_response()
}

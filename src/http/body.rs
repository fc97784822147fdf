//! The body of a GraphQL request: counted, limited and hashed as it comes in, then parsed.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use axum::{
    body::{BodyDataStream, Bytes},
    http::{HeaderMap, StatusCode, header},
};
use futures_util::{Stream, StreamExt};

use self::structure::{Structure, VALUES_MAX};
use super::{BODY_MAX, UploadLimits};
use crate::{
    auth::digest::{DigestHasher, ExpectedDigest},
    graphql::{
        documents::asked::Asked,
        error::{ApiError, ErrorCode},
    },
};

const JSON: &str = "application/json";

/// Why a request is answered before it runs, and with which status.
pub type Refusal = (StatusCode, ApiError);

/// What a body was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyFacts {
    /// How many bytes were received.
    pub bytes: u64,
}

/// Reads a request's body: JSON, or multipart with files. With a digest the body is read to its last byte, whatever its
/// parser left, and must be the one that was announced.
///
/// # Errors
/// The refusal: `UNSUPPORTED_MEDIA_TYPE`, `PAYLOAD_TOO_LARGE`, `UNAUTHORIZED` for another body than the digest's,
/// `REQUEST_TIMEOUT` for one that comes too slowly, or `BAD_REQUEST` for one that can't be parsed.
pub async fn read(
    limits: UploadLimits,
    request: axum::extract::Request,
    digest: Option<ExpectedDigest>,
) -> Result<(Asked, BodyFacts), Refusal> {
    let read = tokio::time::timeout(BODY_MAX, receive(limits, request, digest));
    read.await.unwrap_or_else(|_| {
        let message = "The request's body came too slowly: send it again.";
        let error = ApiError {
            retryable: true,
            ..ApiError::new(ErrorCode::InvalidInput, message)
        };
        Err((StatusCode::REQUEST_TIMEOUT, error))
    })
}

async fn receive(
    limits: UploadLimits,
    request: axum::extract::Request,
    digest: Option<ExpectedDigest>,
) -> Result<(Asked, BodyFacts), Refusal> {
    let (parts, body) = request.into_parts();
    let content_type = text(&parts.headers, header::CONTENT_TYPE).map(str::to_owned);
    let bytes_max = bytes_max(limits, content_type.as_deref())?;
    let declared = text(&parts.headers, header::CONTENT_LENGTH).and_then(|text| text.parse().ok());
    if declared.is_some_and(|bytes: u64| bytes > bytes_max) {
        return Err(too_large(bytes_max));
    }
    let structure = (essence(content_type.as_deref()) == JSON).then(Structure::default);
    let mut meter = Meter {
        body: body.into_data_stream(),
        bytes: 0,
        bytes_max,
        excess: None,
        structure,
        hasher: digest.map(ExpectedDigest::hasher),
    };
    let parsed = if is_multipart(&parts.headers) {
        // A file over the picture's limit is that picture's error alone, found when it is read.
        let content_type = content_type.as_deref().unwrap_or_default();
        multipart::receive(&mut meter, content_type, limits).await
    } else {
        receive_json(&mut meter).await
    };
    // Before any other error: what a parser makes of a body that somebody changed on its way misleads.
    let authentic = meter.check_digest().await;
    match meter.excess {
        Some(Excess::Bytes) => return Err(too_large(bytes_max)),
        Some(Excess::Values) => {
            return Err(invalid(format!(
                "The request's JSON holds more than {VALUES_MAX} values: send several requests."
            )));
        }
        None => {}
    }
    authentic?;
    let facts = BodyFacts { bytes: meter.bytes };
    parsed.map(|asked| (asked, facts))
}

async fn receive_json(meter: &mut Meter) -> Result<Asked, Refusal> {
    let mut bytes = Vec::new();
    while let Some(chunk) = meter.next().await {
        bytes.extend_from_slice(&chunk.map_err(|error| unreadable(&error))?);
    }
    asked(&bytes).map_err(|error| unreadable(&error))?
}

/// Reads one operation; the inner refusal is that of several.
fn asked(bytes: &[u8]) -> serde_json::Result<Result<Asked, Refusal>> {
    // Serde would take a list for the members of a request, one by one.
    if bytes.trim_ascii_start().starts_with(b"[") {
        return Ok(Err(invalid("Send one operation a request.")));
    }
    serde_json::from_slice(bytes).map(Ok)
}

/// Whether a body is announced as multipart, which any page can make a browser send.
#[must_use]
pub fn is_multipart(headers: &HeaderMap) -> bool {
    essence(text(headers, header::CONTENT_TYPE)) == "multipart/form-data"
}

/// The media type without its parameters.
fn essence(content_type: Option<&str>) -> String {
    let essence = content_type.unwrap_or_default().split(';').next();
    essence.unwrap_or_default().trim().to_ascii_lowercase()
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// How large a body of its type may be, in bytes.
fn bytes_max(limits: UploadLimits, content_type: Option<&str>) -> Result<u64, Refusal> {
    let bytes = match essence(content_type).as_str() {
        JSON => limits.json_bytes_max(),
        "multipart/form-data" => limits.multipart_bytes_max(),
        _ => {
            let message = "Send application/json, or multipart/form-data with files.";
            return Err((
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                ApiError::new(ErrorCode::InvalidInput, message),
            ));
        }
    };
    Ok(bytes as u64)
}

fn too_large(bytes_max: u64) -> Refusal {
    let message = format!(
        "The request has more than {bytes_max} bytes: send smaller pictures, fewer, or several requests."
    );
    (
        StatusCode::PAYLOAD_TOO_LARGE,
        ApiError::new(ErrorCode::ImageTooLarge, message),
    )
}

fn invalid(message: impl Into<String>) -> Refusal {
    (
        StatusCode::BAD_REQUEST,
        ApiError::new(ErrorCode::InvalidInput, message),
    )
}

fn unreadable(error: &dyn std::error::Error) -> Refusal {
    invalid(format!("The request can't be read: {error}."))
}

/// What there is too much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Excess {
    #[error("the body has too many bytes")]
    Bytes,
    #[error("the body's JSON has too many values")]
    Values,
}

/// A body's bytes on their way to a parser.
struct Meter {
    body: BodyDataStream,
    bytes: u64,
    bytes_max: u64,
    excess: Option<Excess>,
    /// Of a JSON body.
    structure: Option<Structure>,
    hasher: Option<DigestHasher>,
}

impl Meter {
    /// Reads what is left of a body that has a digest, and compares. Without one nothing is read: what a parser leaves
    /// then concerns nobody.
    async fn check_digest(&mut self) -> Result<(), Refusal> {
        if self.hasher.is_none() {
            return Ok(());
        }
        while let Some(chunk) = self.next().await {
            chunk.map_err(|error| unreadable(&error))?;
        }
        if self.hasher.take().is_none_or(DigestHasher::verify) {
            return Ok(());
        }
        let message = "The body is not the one that was signed: its digest differs from Content-Digest. \
            Make the digest of exactly the bytes that you send.";
        Err((
            StatusCode::UNAUTHORIZED,
            ApiError::new(ErrorCode::Unauthenticated, message),
        ))
    }
}

impl Stream for Meter {
    type Item = io::Result<Bytes>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Bytes>>> {
        if let Some(excess) = self.excess {
            return Poll::Ready(Some(Err(io::Error::other(excess))));
        }
        let polled = std::task::ready!(self.body.poll_next_unpin(context));
        Poll::Ready(match polled {
            None => None,
            Some(Err(error)) => Some(Err(io::Error::other(error))),
            Some(Ok(chunk)) => {
                self.bytes += chunk.len() as u64;
                if self.bytes > self.bytes_max {
                    self.excess = Some(Excess::Bytes);
                } else if let Some(structure) = &mut self.structure
                    && structure.is_excessive(&chunk)
                {
                    self.excess = Some(Excess::Values);
                }
                if let Some(excess) = self.excess {
                    return Poll::Ready(Some(Err(io::Error::other(excess))));
                }
                if let Some(hasher) = &mut self.hasher {
                    hasher.update(&chunk);
                }
                Some(Ok(chunk))
            }
        })
    }
}

mod multipart;
mod structure;
#[cfg(test)]
mod tests;

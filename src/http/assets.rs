//! Downloads by signed URL.

use std::ops::Range;

use axum::{
    body::Body,
    extract::{Path, Query, State, rejection::QueryRejection},
    http::{Extensions, HeaderMap, StatusCode, Version, header},
    response::{IntoResponse, Response},
};
use headers::{ETag, HeaderMapExt};
use serde::Deserialize;
use tower_http::{
    CompressionLevel,
    compression::{CompressionLayer, Predicate},
};

use super::HttpState;
use crate::{auth::link::LinkError, conversion::AssetId, db::entities::asset, error_chain::chain};

/// Media types that come out at half their size or less: text, and triangles that repeat their corners. A GLB or a PLY
/// would keep more than half; who wants a smaller GLB asks for `quantize`.
const COMPRESSED: [&str; 2] = ["model/obj", "model/stl"];

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
    let stored = Stored::new(row, &headers);
    if is_known(&headers, &stored.etag) {
        return (StatusCode::NOT_MODIFIED, [(header::ETAG, stored.etag)]).into_response();
    }
    match stored.wanted(&headers) {
        Wanted::Whole => match state.0.storage.open_asset(&stored.row.storage_key).await {
            Ok(found) => stored.whole(Body::from_stream(found.into_stream())),
            Err(error) => unavailable(&error),
        },
        Wanted::Part(part) => {
            let opened = state
                .0
                .storage
                .open_part(&stored.row.storage_key, part.clone());
            match opened.await {
                Ok(found) => stored.part(&part, Body::from_stream(found.into_stream())),
                Err(error) => unavailable(&error),
            }
        }
        Wanted::Nothing => stored.nothing(),
    }
}

/// Compresses what gains much by it, quickly.
pub fn compression() -> CompressionLayer<impl Predicate> {
    let gains = |_: StatusCode, _: Version, headers: &HeaderMap, _: &Extensions| {
        let media_type = headers.get(header::CONTENT_TYPE);
        media_type.is_some_and(|media_type| COMPRESSED.iter().any(|known| media_type == known))
    };
    CompressionLayer::new()
        .quality(CompressionLevel::Fastest)
        .compress_when(gains)
}

/// An asset's row, and how this client knows its bytes.
struct Stored {
    row: asset::Model,
    /// By the bytes' hash. A weak one where they may be sent compressed: what begins compressed is not to be gone on with
    /// by a part of the plain bytes.
    etag: String,
    length: u64,
}

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    Whole,
    /// Not empty, and within the asset.
    Part(Range<u64>),
    /// A part that there is not.
    Nothing,
}

impl Stored {
    fn new(row: asset::Model, asked: &HeaderMap) -> Self {
        let may_compress =
            COMPRESSED.contains(&row.media_type.as_str()) && !asked.contains_key(header::RANGE);
        let accepts = asked.contains_key(header::ACCEPT_ENCODING);
        let weak = if may_compress && accepts { "W/" } else { "" };
        Self {
            etag: format!("{weak}\"{}\"", hex::encode(&row.sha256)),
            length: u64::try_from(row.bytes).expect("a size in the database is not negative"),
            row,
        }
    }

    /// What is asked for, and whether by what the client still has a part of (RFC 9110 sections 13.1.5 and 14.2).
    fn wanted(&self, asked: &HeaderMap) -> Wanted {
        let Some(range) = asked
            .get(header::RANGE)
            .and_then(|range| range.to_str().ok())
        else {
            return Wanted::Whole;
        };
        let etag = self.etag.parse().ok();
        match asked.typed_try_get::<headers::IfRange>() {
            Ok(None) => wanted_of(range, self.length),
            Ok(Some(condition)) if !condition.is_modified(etag.as_ref(), None) => {
                wanted_of(range, self.length)
            }
            Ok(Some(_)) | Err(_) => Wanted::Whole,
        }
    }

    fn whole(self, body: Body) -> Response {
        let length = self.length;
        self.respond(StatusCode::OK, length, None, body)
    }

    fn part(self, part: &Range<u64>, body: Body) -> Response {
        let range = format!("bytes {}-{}/{}", part.start, part.end - 1, self.length);
        self.respond(
            StatusCode::PARTIAL_CONTENT,
            part.end - part.start,
            Some(range),
            body,
        )
    }

    fn nothing(&self) -> Response {
        let range = format!("bytes */{}", self.length);
        (
            StatusCode::RANGE_NOT_SATISFIABLE,
            [(header::CONTENT_RANGE, range)],
            "The asset has no such part.\n",
        )
            .into_response()
    }

    fn respond(
        self,
        status: StatusCode,
        length: u64,
        range: Option<String>,
        body: Body,
    ) -> Response {
        let disposition = match self.row.kind {
            asset::Kind::Mesh => format!("attachment; filename=\"{}\"", self.row.file_name),
            asset::Kind::Source | asset::Kind::Preview | asset::Kind::Turntable => {
                "inline".to_owned()
            }
        };
        let headers = [
            (header::CONTENT_TYPE, self.row.media_type),
            (header::CONTENT_LENGTH, length.to_string()),
            (header::CONTENT_DISPOSITION, disposition),
            (header::ACCEPT_RANGES, "bytes".to_owned()),
            (header::ETAG, self.etag),
            // The URL is the secret, and the bytes behind it never change.
            (
                header::CACHE_CONTROL,
                "private, max-age=3600, immutable".to_owned(),
            ),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
            // Pictures come from strangers: nothing in them may run, should a browser show them as a page.
            (
                header::CONTENT_SECURITY_POLICY,
                "default-src 'none'; sandbox".to_owned(),
            ),
        ];
        let range = range.map(|range| [(header::CONTENT_RANGE, range)]);
        (status, range, headers, body).into_response()
    }
}

/// What a `Range` asks of so many bytes (RFC 9110 section 14.1.2). What can't be read is ignored, and several ranges at
/// once are answered by the whole, as a server may.
fn wanted_of(range: &str, length: u64) -> Wanted {
    let bounds = range
        .strip_prefix("bytes=")
        .and_then(|spec| spec.split_once('-'))
        .map(|(first, last)| (first.trim(), last.trim()));
    let number = |digits: &str| {
        let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| digits.parse().ok()).flatten()
    };
    let part = match bounds {
        Some(("", last)) => number(last).map(|count| length.saturating_sub(count)..length),
        Some((first, "")) => number(first).map(|start| start..length),
        Some((first, last)) => number(first)
            .zip(number(last))
            .filter(|(start, last)| start <= last)
            .map(|(start, last)| start..last.saturating_add(1).min(length)),
        None => None,
    };
    match part {
        None => Wanted::Whole,
        Some(part) if part.is_empty() => Wanted::Nothing,
        Some(part) => Wanted::Part(part),
    }
}

/// Whether a client has what goes by this tag (RFC 9110 section 13.1.2).
pub(super) fn is_known(asked: &HeaderMap, etag: &str) -> bool {
    let etag = etag.parse::<ETag>().ok();
    let known = asked.typed_get::<headers::IfNoneMatch>();
    etag.zip(known)
        .is_some_and(|(etag, known)| !known.precondition_passes(&etag))
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_are_read_as_they_are_meant() {
        for (range, wanted) in [
            ("bytes=0-9", Wanted::Part(0..10)),
            ("bytes=90-", Wanted::Part(90..100)),
            ("bytes=-5", Wanted::Part(95..100)),
            ("bytes=-500", Wanted::Part(0..100)),
            ("bytes=99-99", Wanted::Part(99..100)),
            ("bytes=50-18446744073709551615", Wanted::Part(50..100)),
            ("bytes=100-", Wanted::Nothing),
            ("bytes=100-200", Wanted::Nothing),
            ("bytes=-0", Wanted::Nothing),
            ("bytes=9-0", Wanted::Whole),
            ("bytes=0-1,4-5", Wanted::Whole),
            ("bytes=-", Wanted::Whole),
            ("bytes=a-b", Wanted::Whole),
            ("bytes=+1-2", Wanted::Whole),
            ("lines=0-9", Wanted::Whole),
        ] {
            assert_eq!(wanted_of(range, 100), wanted, "{range}");
        }
    }

    proptest! {
        #[test]
        fn a_part_lies_within(range in "bytes=[0-9]{0,3}-[0-9]{0,20}", length in 1_u64..1000) {
            if let Wanted::Part(part) = wanted_of(&range, length) {
                prop_assert!(part.start < part.end && part.end <= length, "{:?}", part);
            }
        }
    }
}

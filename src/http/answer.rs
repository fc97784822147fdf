//! The answers of `POST /graphql` and `GET /graphql`: media types, status codes, refusals.

use axum::{
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

use super::event_stream;
use crate::graphql::{
    error::{ApiError, ErrorCode},
    execute,
};

/// The media type of the GraphQL-over-HTTP specification.
const GRAPHQL_RESPONSE: &str = "application/graphql-response+json";

/// In which form a client wants its answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accept {
    /// `application/json`.
    Json,
    /// The specification's own, with status codes that tell of errors.
    GraphqlResponse,
    /// Server-sent events, which alone carry more than one.
    EventStream,
}

/// One media type that a client accepts.
#[derive(Debug, Clone, Copy)]
struct Range<'a> {
    media_type: &'a str,
    quality: f32,
}

impl<'a> Range<'a> {
    fn of(text: &'a str) -> Self {
        let mut parts = text.split(';').map(str::trim);
        let media_type = parts.next().unwrap_or_default();
        let quality = parts
            .filter_map(|parameter| parameter.split_once('='))
            .find(|(name, _)| name.trim().eq_ignore_ascii_case("q"))
            .and_then(|(_, value)| value.trim().parse().ok());
        Self {
            media_type,
            quality: quality.unwrap_or(1.0),
        }
    }

    fn is(&self, media_type: &str) -> bool {
        self.media_type.eq_ignore_ascii_case(media_type)
    }
}

impl Accept {
    /// What the `Accept` fields of a request ask for. Events are for those who like nothing better: clients that can read
    /// them say so with every request.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let values = headers
            .get_all(header::ACCEPT)
            .iter()
            .filter_map(|value| value.to_str().ok());
        let ranges: Vec<Range<'_>> = values
            .flat_map(|value| value.split(','))
            .map(Range::of)
            .filter(|range| range.quality > 0.0)
            .collect();
        let known = ranges.iter().filter(|range| {
            [
                event_stream::MEDIA_TYPE,
                GRAPHQL_RESPONSE,
                "application/json",
                "application/*",
                "*/*",
            ]
            .iter()
            .any(|known| range.is(known))
        });
        // The first of the best.
        let best = known.reduce(|best, range| {
            if range.quality > best.quality {
                range
            } else {
                best
            }
        });
        if best.is_some_and(|best| best.is(event_stream::MEDIA_TYPE)) {
            Self::EventStream
        } else if ranges.iter().any(|range| range.is(GRAPHQL_RESPONSE)) {
            Self::GraphqlResponse
        } else {
            Self::Json
        }
    }

    fn media_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            // Of refusals; events are written elsewhere.
            Self::Json | Self::EventStream => "application/json; charset=utf-8",
            Self::GraphqlResponse => "application/graphql-response+json; charset=utf-8",
        })
    }
}

/// A request that was refused before execution, as the specification has it: with a status for those who accept
/// GraphQL's own media type, else as any answer. A request that makes no sense as such has its status in any case.
#[must_use]
pub fn refused(accept: Accept, error: ApiError) -> Response {
    if error.code == ErrorCode::InvalidInput {
        return bad(accept, StatusCode::BAD_REQUEST, &error);
    }
    match accept {
        Accept::EventStream => event_stream::refused(error),
        Accept::Json | Accept::GraphqlResponse => finished(accept, failed(error)),
    }
}

/// The answer of an execution that did not come to anything.
#[must_use]
pub fn failed(error: ApiError) -> async_graphql::Response {
    let error = async_graphql::Error::from(error).into_server_error(async_graphql::Pos::default());
    let error = async_graphql::ServerError {
        locations: Vec::new(),
        ..error
    };
    async_graphql::Response::from_errors(vec![error])
}

/// What is sent of an answer. That of a request which was not executed has no `data`.
///
/// # Panics
/// Never: a response has a JSON form.
#[must_use]
pub fn body(response: &async_graphql::Response) -> serde_json::Value {
    let mut body = serde_json::to_value(response).expect("a response has a JSON form");
    if execute::is_request_error(response)
        && let Some(object) = body.as_object_mut()
    {
        object.remove("data");
    }
    body
}

/// The answer of an execution.
#[must_use]
pub fn finished(accept: Accept, response: async_graphql::Response) -> Response {
    let refused = execute::is_request_error(&response);
    let status = if refused && accept == Accept::GraphqlResponse {
        StatusCode::BAD_REQUEST
    } else {
        StatusCode::OK
    };
    let body = body(&response).to_string();
    let retry_after = ApiError::retry_after_of(&response);
    let headers = response.http_headers;
    let mut response = (status, body).into_response();
    response.headers_mut().extend(headers);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, accept.media_type());
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(seconds) = retry_after {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// A request that makes no sense, as the specification has it.
#[must_use]
pub fn bad(accept: Accept, status: StatusCode, error: &ApiError) -> Response {
    let mut response = refusal(status, error);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, accept.media_type());
    response
}

/// A refusal before execution, in the form of a GraphQL response.
#[must_use]
pub fn refusal(status: StatusCode, error: &ApiError) -> Response {
    let mut extensions = async_graphql::ErrorExtensionValues::default();
    error.extend(&mut extensions);
    let body =
        serde_json::json!({ "errors": [{ "message": error.message, "extensions": extensions }] });
    let mut response = (status, body.to_string()).into_response();
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json; charset=utf-8"),
    );
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if let Some(seconds) = error.retry_after_seconds {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accept(values: &[&str]) -> Accept {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(
                header::ACCEPT,
                HeaderValue::from_str(value).expect("plain text"),
            );
        }
        Accept::of(&headers)
    }

    #[test]
    fn events_are_for_who_likes_nothing_better() {
        for (values, expected) in [
            (&[][..], Accept::Json),
            (&["*/*"], Accept::Json),
            (&["text/html, application/xml;q=0.9"], Accept::Json),
            (&["application/json; charset=utf-8"], Accept::Json),
            (
                &[
                    "application/graphql-response+json; charset=utf-8, application/json; charset=utf-8",
                ],
                Accept::GraphqlResponse,
            ),
            (
                &["application/json, application/graphql-response+json;q=0.5"],
                Accept::GraphqlResponse,
            ),
            (
                &["application/json, application/graphql-response+json;q=0"],
                Accept::Json,
            ),
            (&["text/event-stream"], Accept::EventStream),
            (&["Text/Event-Stream; charset=utf-8"], Accept::EventStream),
            (&["text/event-stream, multipart/mixed"], Accept::EventStream),
            (
                &["text/event-stream", "application/json"],
                Accept::EventStream,
            ),
            (&["application/json", "text/event-stream"], Accept::Json),
            (
                &["application/json;q=0.5, text/event-stream;q=0.9"],
                Accept::EventStream,
            ),
            (&["text/event-stream;q=0.1, */*;q=0.2"], Accept::Json),
            (&["text/event-stream;q=0"], Accept::Json),
            // What urql sends with queries.
            (
                &[
                    "application/graphql-response+json, application/graphql+json, application/json, text/event-stream, multipart/mixed",
                ],
                Accept::GraphqlResponse,
            ),
        ] {
            assert_eq!(accept(values), expected, "{values:?}");
        }
    }
}

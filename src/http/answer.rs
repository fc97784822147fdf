//! The answers of `POST /graphql` and `GET /graphql`: media types, status codes, refusals.

use async_graphql::BatchResponse;
use axum::{
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

use crate::graphql::{
    error::{ApiError, ErrorCode},
    execute,
};

/// The media type of the GraphQL-over-HTTP specification.
const GRAPHQL_RESPONSE: &str = "application/graphql-response+json";

/// Which of the two response types a client wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accept {
    /// `application/json`.
    Json,
    /// The specification's own, with status codes that tell of errors.
    GraphqlResponse,
}

impl Accept {
    /// What the `Accept` fields of a request ask for.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let values = headers
            .get_all(header::ACCEPT)
            .iter()
            .filter_map(|value| value.to_str().ok());
        if values
            .into_iter()
            .any(|value| value.contains(GRAPHQL_RESPONSE))
        {
            Self::GraphqlResponse
        } else {
            Self::Json
        }
    }

    fn media_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Json => "application/json; charset=utf-8",
            Self::GraphqlResponse => "application/graphql-response+json; charset=utf-8",
        })
    }
}

/// A request that was refused before execution, as the specification has it: with a status for those who accept
/// GraphQL's own media type, else as any answer.
#[must_use]
pub fn refused(accept: Accept, error: ApiError) -> Response {
    finished(accept, failed(error))
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

/// The answer of an execution.
///
/// # Panics
/// Never: a response has a JSON form.
#[must_use]
pub fn finished(accept: Accept, response: async_graphql::Response) -> Response {
    let refused = execute::is_request_error(&response);
    let status = if refused && accept == Accept::GraphqlResponse {
        StatusCode::BAD_REQUEST
    } else {
        StatusCode::OK
    };
    let headers = response.http_headers.clone();
    let mut body =
        serde_json::to_value(BatchResponse::Single(response)).expect("a response has a JSON form");
    if refused && let Some(object) = body.as_object_mut() {
        object.remove("data");
    }
    let mut response = (status, body.to_string()).into_response();
    response.headers_mut().extend(headers);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, accept.media_type());
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// A request that makes no sense, as the specification has it.
#[must_use]
pub fn bad(accept: Accept, status: StatusCode, message: &str) -> Response {
    let mut response = refusal(status, &ApiError::new(ErrorCode::InvalidInput, message));
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

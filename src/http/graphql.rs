//! GraphQL over HTTP: content negotiation, bodies, and the status codes of the specification.

use async_graphql::{
    BatchResponse, ParseRequestError, Request,
    http::{MultipartOptions, receive_body},
    parser::types::OperationType,
};
use async_graphql_axum::GraphQLProtocol;
use axum::{
    RequestExt,
    body::Body,
    extract::{FromRequestParts, RawQuery, State, WebSocketUpgrade},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures_util::TryStreamExt;
use tokio_util::compat::TokioAsyncReadCompatExt;

use super::{BODY_MAX, HttpState, authenticate, websocket};
use crate::graphql::error::{ApiError, ErrorCode};

/// The media type of the GraphQL-over-HTTP specification.
const GRAPHQL_RESPONSE: &str = "application/graphql-response+json";

/// `POST /graphql`: any operation but subscriptions, as JSON or multipart.
pub async fn post(State(state): State<HttpState>, request: axum::extract::Request) -> Response {
    let accept = Accept::of(request.headers());
    let principal = match authenticate::authenticate(&state, request.headers()) {
        Ok(principal) => principal,
        Err(error) => return error_response(authenticate::status(&error), &error),
    };
    match tokio::time::timeout(BODY_MAX, read(&state, request)).await {
        Err(_) => bad(
            accept,
            StatusCode::REQUEST_TIMEOUT,
            "The request's body came too slowly: send it again.",
        ),
        Ok(Err((status, error))) => error_response(status, &error),
        Ok(Ok(query)) => run(&state, accept, query.data(principal)).await,
    }
}

/// `GET /graphql`: a query, or the upgrade to a WebSocket.
pub async fn get(
    State(state): State<HttpState>,
    RawQuery(query): RawQuery,
    request: axum::extract::Request,
) -> Response {
    let (mut parts, _) = request.into_parts();
    if parts.headers.contains_key(header::UPGRADE) {
        let protocol = GraphQLProtocol::from_request_parts(&mut parts, &state).await;
        let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &state).await;
        return match (protocol, upgrade) {
            (Ok(_), Ok(upgrade)) => websocket::upgrade(state, upgrade),
            (Err(_), _) => (
                StatusCode::BAD_REQUEST,
                "Ask for the sub-protocol graphql-transport-ws.\n",
            )
                .into_response(),
            (_, Err(rejection)) => rejection.into_response(),
        };
    }
    let accept = Accept::of(&parts.headers);
    let principal = match authenticate::authenticate(&state, &parts.headers) {
        Ok(principal) => principal,
        Err(error) => return error_response(authenticate::status(&error), &error),
    };
    let Ok(mut query) = async_graphql::http::parse_query_string(&query.unwrap_or_default()) else {
        return bad(
            accept,
            StatusCode::BAD_REQUEST,
            "Send the document as the parameter `query`.",
        );
    };
    if is_mutation(&mut query) {
        let mut response = bad(
            accept,
            StatusCode::METHOD_NOT_ALLOWED,
            "Mutations are sent by POST.",
        );
        response
            .headers_mut()
            .insert(header::ALLOW, HeaderValue::from_static("POST"));
        return response;
    }
    run(&state, accept, query.data(principal)).await
}

/// `OPTIONS /graphql`: what the endpoint takes.
pub async fn options() -> Response {
    (
        StatusCode::NO_CONTENT,
        [(header::ALLOW, "GET, POST, OPTIONS")],
    )
        .into_response()
}

/// Which of the two response types a client wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Accept {
    Json,
    GraphqlResponse,
}

impl Accept {
    fn of(headers: &HeaderMap) -> Self {
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

type Refusal = (StatusCode, ApiError);

async fn read(state: &HttpState, request: axum::extract::Request) -> Result<Request, Refusal> {
    let content_type = request
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned);
    let essence = content_type
        .as_deref()
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default()
        .trim();
    let limits = state.0.uploads;
    let bytes_max = match essence.to_ascii_lowercase().as_str() {
        "application/json" => limits.json_bytes_max(),
        "multipart/form-data" => limits.multipart_bytes_max(),
        _ => {
            let message = "Send application/json, or multipart/form-data with files.";
            return Err((
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                ApiError::new(ErrorCode::InvalidInput, message),
            ));
        }
    };
    let too_large = || {
        let message = format!(
            "The request has more than {bytes_max} bytes: send smaller pictures, fewer, or several requests."
        );
        (
            StatusCode::PAYLOAD_TOO_LARGE,
            ApiError::new(ErrorCode::ImageTooLarge, message),
        )
    };
    let declared = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if declared.is_some_and(|bytes| bytes > bytes_max) {
        return Err(too_large());
    }
    let body = Body::new(http_body_util::Limited::new(
        request.with_limited_body().into_body(),
        bytes_max,
    ));
    let reader =
        tokio_util::io::StreamReader::new(body.into_data_stream().map_err(std::io::Error::other))
            .compat();
    // A file over the picture's limit is that picture's error alone, found when it is read; this bounds the whole.
    let multipart = MultipartOptions::default()
        .max_file_size(bytes_max)
        .max_num_files(limits.images_max);
    receive_body(content_type, reader, multipart)
        .await
        .map_err(|error| match error {
            ParseRequestError::PayloadTooLarge => too_large(),
            ParseRequestError::Io(error) if error.to_string().contains("length limit") => {
                too_large()
            }
            ParseRequestError::UnsupportedBatch => (
                StatusCode::BAD_REQUEST,
                ApiError::new(ErrorCode::InvalidInput, "Send one operation a request."),
            ),
            error => (
                StatusCode::BAD_REQUEST,
                ApiError::new(
                    ErrorCode::InvalidInput,
                    format!("The request can't be read: {error}."),
                ),
            ),
        })
}

fn is_mutation(request: &mut Request) -> bool {
    let name = request.operation_name.clone();
    let Ok(document) = request.parsed_query() else {
        return false;
    };
    document
        .operations
        .iter()
        .filter(|(operation, _)| {
            name.is_none() || operation.map(|text| text.as_str()) == name.as_deref()
        })
        .any(|(_, operation)| operation.node.ty == OperationType::Mutation)
}

async fn run(state: &HttpState, accept: Accept, request: Request) -> Response {
    let started = std::time::Instant::now();
    let response = state.0.schema.execute(request).await;
    let outcome = if response.is_ok() { "ok" } else { "error" };
    ::metrics::histogram!("orfeas_graphql_request_seconds", "outcome" => outcome)
        .record(started.elapsed());
    // A request error is one that was found before execution: there is no data, and no field to blame.
    let refused = response.data == async_graphql::Value::Null
        && response.errors.iter().any(|error| error.path.is_empty());
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

fn bad(accept: Accept, status: StatusCode, message: &str) -> Response {
    let mut response = error_response(status, &ApiError::new(ErrorCode::InvalidInput, message));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, accept.media_type());
    response
}

/// A refusal before execution, in the form of a GraphQL response.
#[must_use]
pub fn error_response(status: StatusCode, error: &ApiError) -> Response {
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

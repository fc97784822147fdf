//! The spans of requests and of operations: what log lines and traces know them by.

use axum::{
    body::Body,
    http::{HeaderMap, Request},
};
use tracing::{Span, field, info_span};

use crate::{
    conversion::provenance::{REQUEST_ID_CHARS_MAX, TraceContext},
    graphql::operation::Operation,
    telemetry::{
        context,
        traces::{CONNECTION, PROBE},
    },
};

/// The header that a request's id comes and goes in.
pub const REQUEST_ID: &str = "x-request-id";

/// The id of a request, the client's or one of ours; the router sees to it that there is one.
#[must_use]
pub fn request_id(headers: &HeaderMap) -> &str {
    let id = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok());
    id.unwrap_or_default()
}

/// Takes away a client's id that can't be written down everywhere as it is, so that the request gets one of ours.
pub async fn drop_unfit_id(mut request: Request<Body>) -> Request<Body> {
    // Visible ASCII, of which every byte is a character.
    let length = request_id(request.headers()).len();
    if !(1..=REQUEST_ID_CHARS_MAX).contains(&length) {
        request.headers_mut().remove(REQUEST_ID);
    }
    request
}

/// The place in a trace that a client names.
#[must_use]
pub fn named_place(headers: &HeaderMap) -> Option<TraceContext> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    TraceContext::parse(text("traceparent")?, text("tracestate"))
}

/// The span of a request over HTTP, below what the client says that it belongs to.
pub fn of_request<B>(request: &Request<B>) -> Span {
    let path = request.uri().path();
    if matches!(path, "/healthz" | "/readyz") {
        return info_span!(
            PROBE,
            url.path = path,
            request.id = request_id(request.headers())
        );
    }
    let span = info_span!(
        "request",
        http.request.method = %request.method(),
        // The path alone: query strings of downloads are secrets.
        url.path = path,
        request.id = request_id(request.headers()),
        trace.id = field::Empty,
        graphql.operation.type = field::Empty,
        graphql.operation.name = field::Empty,
        http.response.status_code = field::Empty,
        otel.kind = "server",
        otel.status_code = field::Empty,
    );
    context::continue_at(&span, named_place(request.headers()).as_ref());
    context::rename(&span, || {
        // What is asked of GraphQL names it better. A path as it is would give a name to each asset.
        let kind = path.split('/').nth(1).unwrap_or_default();
        let kind = ["graphql", "assets"].iter().find(|known| **known == kind);
        format!("{} {}", request.method(), kind.unwrap_or(&"page"))
    });
    span
}

/// The span of a WebSocket, for the log alone.
#[must_use]
pub fn of_connection(request_id: &str) -> Span {
    info_span!(CONNECTION, request.id = request_id)
}

/// The span of an operation over a WebSocket: what a request is over HTTP.
#[must_use]
pub fn of_operation(request_id: &str, place: Option<&TraceContext>) -> Span {
    let span = info_span!(
        parent: None,
        "operation",
        request.id = request_id,
        trace.id = field::Empty,
        graphql.operation.type = field::Empty,
        graphql.operation.name = field::Empty,
        otel.kind = "server",
    );
    context::continue_at(&span, place);
    span
}

/// Has the span of a request or an operation say what is asked for.
pub fn name(operation: &Operation) {
    let span = Span::current();
    if span.is_none() {
        return;
    }
    let kind = operation.kind.to_string();
    // Clients name no spans: the schema's fields are a fixed set.
    let field = operation.root_field().unwrap_or("other");
    span.record("graphql.operation.type", kind.as_str());
    span.record("graphql.operation.name", operation.label.as_str());
    context::rename(&span, || format!("{kind} {field}"));
}

//! GraphQL over HTTP: from a request to its execution.

use async_graphql_axum::GraphQLProtocol;
use axum::{
    extract::{FromRequestParts, RawQuery, State, WebSocketUpgrade},
    http::{HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use futures_util::StreamExt;
use http_body::Body;

use super::{
    HttpState,
    answer::{Accept, bad, failed, finished, refused},
    body,
    event_stream::{self, Ends},
    execution::Execution,
    gate::{Caller, Origin, refusal::Refusal},
    origin, query_string, rate_headers,
    standing::watching,
    websocket,
};
use crate::{
    auth::{digest::ExpectedDigest, signature},
    graphql::{
        documents::asked::Asked,
        error::{ApiError, ErrorCode},
        execute::{self, Prepared},
    },
};

/// A request whose sender is known, on its way to execution.
struct Visit<'a> {
    state: &'a HttpState,
    accept: Accept,
    origin: Origin,
    caller: Caller,
}

/// `POST /graphql`: any operation, as JSON or multipart; subscriptions for those who take events.
pub async fn post(State(state): State<HttpState>, request: axum::extract::Request) -> Response {
    let accept = Accept::of(request.headers());
    if body::is_multipart(request.headers()) && !origin::has_preflight_header(request.headers()) {
        let error = ApiError::new(
            ErrorCode::InvalidInput,
            "A form could come from any page: send the header `GraphQL-Preflight: 1`, or sign in by `Authorization` or `Signature`.",
        );
        return bad(accept, StatusCode::BAD_REQUEST, &error);
    }
    let (parts, body) = request.into_parts();
    let visit = match Visit::begin(&state, accept, &parts, !body.is_end_stream()).await {
        Ok(visit) => visit,
        Err(refusal) => return refusal.into_response(),
    };
    let digest = match visit.signed_digest(&parts) {
        Ok(digest) => digest,
        Err(refusal) => return visit.refuse(refusal).into_response(),
    };
    let request = axum::extract::Request::from_parts(parts, body);
    match body::read(state.0.uploads, request, digest).await {
        // Another body than the signed one is not the caller's doing: it is charged nothing.
        Err(refusal) if refusal.0 == StatusCode::UNAUTHORIZED => {
            visit.refuse(refusal.into()).into_response()
        }
        Err(refusal) => visit.turn_away(refusal.into()).await,
        Ok((asked, _)) => visit.run(asked, true).await,
    }
}

/// `GET /graphql`: a query, a subscription for those who take events, or the upgrade to a WebSocket.
pub async fn get(
    State(state): State<HttpState>,
    RawQuery(query): RawQuery,
    request: axum::extract::Request,
) -> Response {
    let (parts, body) = request.into_parts();
    if parts.headers.contains_key(header::UPGRADE) {
        return upgrade(state, parts).await;
    }
    let accept = Accept::of(&parts.headers);
    let visit = match Visit::begin(&state, accept, &parts, !body.is_end_stream()).await {
        Ok(visit) => visit,
        Err(refusal) => return refusal.into_response(),
    };
    match query_string::asked(&query.unwrap_or_default()) {
        Ok(asked) => visit.run(asked, false).await,
        Err(error) => {
            let error = ApiError::new(
                ErrorCode::InvalidInput,
                format!("The request can't be read: {error}."),
            );
            visit.turn_away(error.into()).await
        }
    }
}

/// `OPTIONS /graphql`: what the endpoint takes.
pub async fn options() -> Response {
    (
        StatusCode::NO_CONTENT,
        [(header::ALLOW, "GET, POST, OPTIONS")],
    )
        .into_response()
}

/// A signed upgrade brings its caller along and is charged like a request; people sign in by their first message.
async fn upgrade(state: HttpState, mut parts: Parts) -> Response {
    if !state.0.origins.allow_socket(&parts.headers) {
        let error = ApiError::new(
            ErrorCode::Forbidden,
            "Pages of this origin may not call this server.",
        );
        return Refusal::from(error).into_response();
    }
    let gate = &state.0.gate;
    let origin = gate.origin(&parts);
    let caller = if signature::is_signed(&parts.headers) {
        let admitted = async {
            let caller = gate.identify(&origin, &parts, false).await?;
            gate.admit(&origin, &caller, None).await
        };
        match admitted.await {
            Ok(admitted) => Some(admitted),
            Err(refusal) => return refusal.into_response(),
        }
    } else {
        None
    };
    let protocol = GraphQLProtocol::from_request_parts(&mut parts, &state).await;
    let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &state).await;
    let keyed = caller.as_ref().and_then(|caller| caller.keyed);
    let mut response = match (protocol, upgrade) {
        (Ok(_), Ok(upgrade)) => websocket::upgrade(state, upgrade, origin, caller),
        (Err(_), _) => (
            StatusCode::BAD_REQUEST,
            "Ask for the sub-protocol graphql-transport-ws.\n",
        )
            .into_response(),
        (_, Err(rejection)) => rejection.into_response(),
    };
    if let Some(keyed) = keyed {
        rate_headers::add(response.headers_mut(), &keyed.rate);
    }
    response
}

impl<'a> Visit<'a> {
    async fn begin(
        state: &'a HttpState,
        accept: Accept,
        parts: &Parts,
        has_body: bool,
    ) -> Result<Self, Refusal> {
        let origin = state.0.gate.origin(parts);
        let caller = state.0.gate.identify(&origin, parts, has_body).await?;
        Ok(Self {
            state,
            accept,
            origin,
            caller,
        })
    }

    /// What the body must be, where its digest is signed.
    fn signed_digest(&self, parts: &Parts) -> Result<Option<ExpectedDigest>, Refusal> {
        if !self.caller.has_signed_digest() {
            return Ok(None);
        }
        ExpectedDigest::of(&parts.headers).map_err(|error| {
            let message = format!("The field Content-Digest can't be used: {error}.");
            ApiError::new(ErrorCode::Unauthenticated, message).into()
        })
    }

    /// A refusal of a caller who is known: it is in the audit log.
    fn refuse(&self, refusal: Refusal) -> Refusal {
        let gate = &self.state.0.gate;
        gate.tally.count(
            Some(&self.caller.principal()),
            None,
            Some(refusal.error.code),
        );
        gate.note_refused(&self.origin, &self.caller, None, &refusal);
        refusal
    }

    /// A refusal of a request that can't be read: it was sent all the same, and is charged, its nonce used.
    async fn turn_away(&self, refusal: Refusal) -> Response {
        let gate = &self.state.0.gate;
        let admitted = match gate.admit(&self.origin, &self.caller, None).await {
            Ok(admitted) => admitted,
            Err(refusal) => return refusal.into_response(),
        };
        let mut response = self.refuse(refusal).into_response();
        if let Some(keyed) = &admitted.keyed {
            rate_headers::add(response.headers_mut(), &keyed.rate);
        }
        response
    }

    /// Charges and executes a request. What is refused for what it asks was asked all the same, and is charged.
    async fn run(self, asked: Asked, may_mutate: bool) -> Response {
        let prepared = execute::prepare(&self.state.0.schema, asked);
        let operation = prepared.as_ref().ok();
        let operation = operation.and_then(|prepared| prepared.operation.as_ref());
        let gate = &self.state.0.gate;
        let admitted = match gate.admit(&self.origin, &self.caller, operation).await {
            Ok(admitted) => admitted,
            Err(refusal) => return refusal.into_response(),
        };
        let keyed = admitted.keyed;
        let execution = Execution {
            state: self.state.clone(),
            origin: self.origin,
            admitted,
        };
        let mut response = match execution.check(prepared) {
            Ok(prepared) if prepared.mutates && !may_mutate => {
                let error = ApiError::new(ErrorCode::InvalidInput, "Mutations are sent by POST.");
                execution.note(prepared.operation.as_ref(), &error);
                by_post(self.accept, &error)
            }
            Ok(prepared) => perform(self.accept, execution, prepared).await,
            Err(error) => refused(self.accept, error),
        };
        if let Some(keyed) = &keyed {
            rate_headers::add(response.headers_mut(), &keyed.rate);
        }
        response
    }
}

/// Executes an operation, and answers in the form that is wanted.
async fn perform(accept: Accept, execution: Execution, prepared: Prepared) -> Response {
    if accept == Accept::EventStream {
        let answers = execution.answers(prepared);
        let Execution {
            state, admitted, ..
        } = execution;
        let ends = Ends {
            watching: watching(&state, &admitted),
            admitted,
            stopping: state.0.stopping.clone(),
        };
        return event_stream::respond(answers, ends);
    }
    if prepared.subscribes() {
        let error = ApiError::new(
            ErrorCode::GraphqlValidationFailed,
            "A subscription has more than one answer: send it with `Accept: text/event-stream`, or over a WebSocket.",
        );
        execution.note(prepared.operation.as_ref(), &error);
        return finished(accept, failed(error));
    }
    let started = std::time::Instant::now();
    let answer = execution.answers(prepared).next().await;
    // An execution has an answer; that of a library which forgot it is an error.
    let answer = answer.unwrap_or_else(|| {
        failed(ApiError::new(
            ErrorCode::Internal,
            "The server could not do this. Try again later.",
        ))
    });
    let outcome = if answer.is_ok() { "ok" } else { "error" };
    ::metrics::histogram!("orfeas_graphql_request_seconds", "outcome" => outcome)
        .record(started.elapsed());
    finished(accept, answer)
}

fn by_post(accept: Accept, error: &ApiError) -> Response {
    let mut response = bad(accept, StatusCode::METHOD_NOT_ALLOWED, error);
    response
        .headers_mut()
        .insert(header::ALLOW, HeaderValue::from_static("POST"));
    response
}

//! The public listener: GraphQL over HTTP, server-sent events and WebSocket, downloads, pages, health.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    http::{HeaderName, StatusCode},
    response::Response,
    routing::get,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower_http::{
    catch_panic::CatchPanicLayer,
    compression::{
        CompressionLayer,
        predicate::{NotForContentType, Predicate, SizeAbove},
    },
    request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer},
    trace::{DefaultOnResponse, OnResponse, TraceLayer},
};
use tracing::Span;

use crate::{
    auth::link::Links,
    db::{Database, listen::Hub},
    graphql::Schema,
    image::ImageLimits,
    storage::Storage,
    telemetry,
};

pub mod answer;
pub mod assets;
pub mod body;
pub mod client_address;
pub mod event_stream;
pub mod execution;
pub mod gate;
pub mod graphql;
pub mod health;
pub mod key_cache;
pub mod key_watch;
pub mod linger;
pub mod metrics;
pub mod mutations;
pub mod origin;
pub mod patience;
pub mod query_string;
pub mod rate_headers;
pub mod serve;
pub mod span;
pub mod standing;
pub mod studio;
pub mod websocket;

/// What the handlers work with.
#[derive(Clone)]
pub struct HttpState(pub Arc<HttpParts>);

impl std::fmt::Debug for HttpState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpState").finish_non_exhaustive()
    }
}

/// The parts of [`HttpState`].
#[expect(missing_debug_implementations, reason = "the schema has no Debug form")]
pub struct HttpParts {
    pub schema: Schema,
    pub gate: gate::Gate,
    pub watch: key_watch::KeyWatch,
    /// What must be through before the node stops.
    pub mutations: TaskTracker,
    /// Cancelled when the node stops: what would stay open ends then.
    pub stopping: CancellationToken,
    pub links: Links,
    pub database: Database,
    pub hub: Hub,
    pub storage: Storage,
    pub vitals: health::Vitals,
    pub uploads: UploadLimits,
    /// Other origins whose pages may call.
    pub origins: origin::Origins,
    pub pages: studio::Pages,
}

/// What a request's body may weigh.
#[derive(Debug, Clone, Copy)]
pub struct UploadLimits {
    pub image_bytes_max: u64,
    pub images_max: usize,
}

impl UploadLimits {
    /// Limits that let a full batch in.
    #[must_use]
    pub fn new(image: ImageLimits, images_max: usize) -> Self {
        Self {
            image_bytes_max: image.bytes_max,
            images_max,
        }
    }

    /// A JSON body is held in memory: room for two pictures of the greatest size in base64, and a document.
    #[must_use]
    pub fn json_bytes_max(&self) -> usize {
        usize::try_from(self.image_bytes_max / 3 * 4 * 2)
            .unwrap_or(usize::MAX)
            .saturating_add(1 << 20)
    }

    /// A multipart body is streamed to temporary files: room for all pictures, and their frames.
    #[must_use]
    pub fn multipart_bytes_max(&self) -> usize {
        usize::try_from(self.image_bytes_max)
            .unwrap_or(usize::MAX)
            .saturating_mul(self.images_max)
            .saturating_add(1 << 20)
    }
}

/// How long a client may take to send its request's body.
pub const BODY_MAX: Duration = Duration::from_secs(120);

/// The public routes.
pub fn router(state: HttpState) -> Router {
    let request_id = HeaderName::from_static(span::REQUEST_ID);
    let cors = state.0.origins.cors();
    // What assets gain by it is the download's to say, pictures are compressed already, and events must not wait in a
    // compressor for more of them.
    let compressed = SizeAbove::new(1024)
        .and(NotForContentType::SSE)
        .and(NotForContentType::new("model/"))
        .and(NotForContentType::new("application/x-ply"))
        .and(NotForContentType::new("application/zip"))
        .and(NotForContentType::IMAGES);
    Router::new()
        .route(
            "/graphql",
            get(graphql::get)
                .post(graphql::post)
                .options(graphql::options),
        )
        .route(
            "/assets/{id}/{file}",
            get(assets::download).layer(assets::compression()),
        )
        .route("/healthz", get(health::live))
        .route("/readyz", get(health::ready))
        .merge(studio::routes())
        .fallback(|| async {
            (
                StatusCode::NOT_FOUND,
                "There is nothing here. The API is at /graphql.\n",
            )
        })
        .layer(axum::middleware::map_request(linger::wrap))
        .layer(tower::util::option_layer(cors))
        .layer(CompressionLayer::new().compress_when(compressed))
        .layer(CatchPanicLayer::custom(|_| internal_error()))
        .layer(
            TraceLayer::new_for_http()
                .make_span_with(span::of_request)
                .on_response(answered),
        )
        .layer(PropagateRequestIdLayer::new(request_id.clone()))
        .layer(SetRequestIdLayer::new(request_id, MakeRequestUuid))
        .layer(axum::middleware::map_request(span::drop_unfit_id))
        .with_state(state)
}

/// Has the span of a request say how it was answered.
fn answered(response: &Response, latency: Duration, request: &Span) {
    let status = response.status();
    request.record("http.response.status_code", status.as_u16());
    if status.is_server_error() {
        telemetry::context::fail(request);
    }
    DefaultOnResponse::new().on_response(response, latency, request);
}

fn internal_error() -> Response {
    metrics::count_panic();
    answer::refusal(
        StatusCode::INTERNAL_SERVER_ERROR,
        &crate::graphql::error::ApiError::new(
            crate::graphql::error::ErrorCode::Internal,
            "The server could not do this. Try again later.",
        ),
    )
}

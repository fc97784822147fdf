//! Traces: spans sent to an OpenTelemetry collector by OTLP over HTTP, where the environment names one.
//!
//! The variables are OpenTelemetry's own, and its library reads them, so that a node is set up like any other program.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::BodyExt;
use opentelemetry::{KeyValue, Value};
use opentelemetry_http::{HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{SpanExporter, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkError,
    resource::{EnvResourceDetector, ResourceDetector},
    trace::SdkTracerProvider,
};
use tokio::runtime::Handle;
use tracing::{Level, Metadata, Subscriber, info, warn};
use tracing_subscriber::{
    Layer,
    filter::{LevelFilter, filter_fn},
    registry::LookupSpan,
};

use super::{TelemetryError, context};
use crate::error_chain::chain;

/// How long a collector may take to take spans, the connection included.
const EXPORT_MAX: Duration = Duration::from_secs(10);
/// An answer has a few bytes.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// How long the end of the program waits for the last spans to be taken.
const FLUSH_MAX: Duration = Duration::from_secs(5);

/// Sends the spans of this process. To be [flushed](Self::flush) before it ends.
#[derive(Debug)]
pub struct Traces(SdkTracerProvider);

impl Traces {
    /// Sends what there is to send from now on. `name` is the service's, unless the environment gives another one.
    ///
    /// # Errors
    /// [`TelemetryError::Exporter`] where the environment's variables make no sense, and [`TelemetryError::Client`].
    pub fn start(name: Option<String>, runtime: &Handle) -> Result<Self, TelemetryError> {
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Sender {
                client: reqwest::Client::builder().timeout(EXPORT_MAX).build()?,
                runtime: runtime.clone(),
                is_taken: AtomicBool::new(true),
            })
            .build()?;
        let provider = SdkTracerProvider::builder()
            .with_resource(resource(name))
            .with_batch_exporter(exporter)
            .build();
        Ok(Self(provider))
    }

    /// What makes spans of ours to be sent. Other crates' spans, and chatter, are not.
    pub(super) fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let ours = |metadata: &Metadata<'_>| {
            is_ours(metadata) && ![CONNECTION, PROBE].contains(&metadata.name())
        };
        tracing_opentelemetry::layer()
            .with_tracer(context::switch_on(&self.0))
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            // Without the hint, lines of finer levels would be asked for everywhere. What asks and then says nothing (the crate
            // `log` does, for each new connection) has the registry leave out the next span.
            .with_filter(filter_fn(ours).with_max_level_hint(LevelFilter::INFO))
    }

    /// Sends what is left, from a thread that may wait. The runtime must still run.
    pub fn flush(self) {
        match self.0.shutdown_with_timeout(FLUSH_MAX) {
            Ok(()) | Err(OTelSdkError::AlreadyShutdown) => {}
            Err(error) => warn!(%error, "The last spans could not be sent"),
        }
    }
}

/// The span of a connection that stays open, for log lines: its operations are spans of their own, and nobody wants to
/// wait for its end to see them.
pub const CONNECTION: &str = "connection";

/// The span of a request that asks how the node is: it comes every second, and nobody wants to see it.
pub const PROBE: &str = "probe";

/// Whether it is a span or an event of this crate that is no chatter.
pub(super) fn is_ours(metadata: &Metadata<'_>) -> bool {
    *metadata.level() <= Level::INFO && metadata.target().starts_with("orfeas")
}

fn resource(name: Option<String>) -> Resource {
    let own = [
        KeyValue::new("service.name", "orfeas"),
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("service.instance.id", uuid::Uuid::new_v4().to_string()),
    ];
    let said: [Box<dyn ResourceDetector>; 1] = [Box::new(EnvResourceDetector::new())];
    let resource = Resource::builder_empty()
        .with_attributes(own)
        .with_detectors(&said);
    // It counts more than what the attributes say.
    match name {
        Some(name) => resource.with_service_name(Value::from(name)).build(),
        None => resource.build(),
    }
}

/// The library sends from a thread of its own; the client needs the runtime's.
#[derive(Debug)]
struct Sender {
    client: reqwest::Client,
    runtime: Handle,
    /// How it went last.
    is_taken: AtomicBool,
}

impl Sender {
    /// Says in the log when the collector stops taking spans and when it does again; the library says neither.
    fn note(&self, trouble: Option<String>) {
        let was_taken = self.is_taken.swap(trouble.is_none(), Ordering::Relaxed);
        match trouble {
            Some(cause) if was_taken => warn!(%cause, "The collector takes no spans"),
            None if !was_taken => info!("The collector takes spans again"),
            _ => {}
        }
    }
}

#[async_graphql::async_trait::async_trait]
impl HttpClient for Sender {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        let sent = self.runtime.spawn(async move {
            let response = client.execute(request.try_into()?).await?;
            let response: Response<reqwest::Body> = response.into();
            let (head, body) = response.into_parts();
            let body = http_body_util::Limited::new(body, ANSWER_BYTES_MAX);
            Ok::<_, HttpError>(Response::from_parts(head, body.collect().await?.to_bytes()))
        });
        let sent = sent.await?;
        self.note(match &sent {
            Ok(answer) if answer.status().is_success() => None,
            Ok(answer) => Some(format!("it answers {}", answer.status())),
            Err(error) => Some(chain(&**error)),
        });
        sent
    }
}

//! A collector of traces: it takes what OTLP over HTTP brings, and gives out spans.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{Router, body::Bytes, http::HeaderMap, routing::post};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value},
    trace::v1::{span::SpanKind, status::StatusCode},
};
use prost::Message;

/// A span as it was sent.
#[derive(Debug, Clone)]
pub struct Span {
    pub service: String,
    pub name: String,
    pub trace: String,
    pub id: String,
    /// Empty where it has none.
    pub parent: String,
    pub state: String,
    pub kind: SpanKind,
    pub failed: bool,
    pub seconds: f64,
    pub attributes: HashMap<String, String>,
    /// Ids of the spans that it is linked with.
    pub links: Vec<String>,
}

pub struct Collector {
    pub address: SocketAddr,
    spans: Arc<Mutex<Vec<Span>>>,
    serving: tokio::task::JoinHandle<()>,
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Collector {
    pub async fn start() -> Self {
        let spans: Arc<Mutex<Vec<Span>>> = Arc::default();
        let kept = spans.clone();
        let take = async move |headers: HeaderMap, body: Bytes| {
            assert_eq!(headers["content-type"], "application/x-protobuf");
            let request = ExportTraceServiceRequest::decode(body).unwrap();
            kept.lock().unwrap().extend(read(request));
        };
        let routes = Router::new().route("/v1/traces", post(take));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self {
            address,
            spans,
            serving,
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn spans(&self) -> Vec<Span> {
        self.spans.lock().unwrap().clone()
    }
}

fn read(request: ExportTraceServiceRequest) -> Vec<Span> {
    let mut spans = Vec::new();
    for group in request.resource_spans {
        let resource = texts(&group.resource.unwrap().attributes);
        for span in group.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            #[expect(clippy::cast_precision_loss, reason = "a span of seconds")]
            let nanos = (span.end_time_unix_nano - span.start_time_unix_nano) as f64;
            spans.push(Span {
                service: resource["service.name"].clone(),
                kind: span.kind(),
                trace: hex::encode(&span.trace_id),
                id: hex::encode(&span.span_id),
                parent: hex::encode(&span.parent_span_id),
                state: span.trace_state,
                failed: span
                    .status
                    .is_some_and(|status| status.code() == StatusCode::Error),
                seconds: nanos / 1e9,
                attributes: texts(&span.attributes),
                links: span
                    .links
                    .iter()
                    .map(|link| hex::encode(&link.span_id))
                    .collect(),
                name: span.name,
            });
        }
    }
    spans
}

fn texts(attributes: &[KeyValue]) -> HashMap<String, String> {
    let text = |attribute: &KeyValue| {
        let value = attribute.value.clone().and_then(|value| value.value);
        let text = match value {
            Some(any_value::Value::StringValue(text)) => text,
            Some(any_value::Value::IntValue(value)) => value.to_string(),
            other => format!("{other:?}"),
        };
        (attribute.key.clone(), text)
    };
    attributes.iter().map(text).collect()
}

//! Where in a trace the present work is, and how spans come to have a parent on another machine.
//!
//! Everything here does nothing where traces are not exported, but for passing on what a client has sent.

use std::{
    collections::HashMap,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

use opentelemetry::{
    Context, KeyValue,
    propagation::{Extractor, Injector, TextMapPropagator},
    trace::{Span as _, SpanKind, TraceContextExt, Tracer, TracerProvider},
};
use opentelemetry_sdk::{
    propagation::TraceContextPropagator,
    trace::{SdkTracer, SdkTracerProvider},
};
use tracing::{Span, field};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::conversion::provenance::TraceContext;

/// Of this process, once traces are exported.
static TRACER: OnceLock<SdkTracer> = OnceLock::new();
static IS_ON: AtomicBool = AtomicBool::new(false);

/// The name under which our spans are found.
const SCOPE: &str = "orfeas";

const PARENT: &str = "traceparent";
const STATE: &str = "tracestate";

/// Makes spans of this process from here on; returns what makes them.
pub(super) fn switch_on(provider: &SdkTracerProvider) -> SdkTracer {
    let tracer = TRACER.get_or_init(|| provider.tracer(SCOPE)).clone();
    IS_ON.store(true, Ordering::Relaxed);
    tracer
}

fn tracer() -> Option<&'static SdkTracer> {
    IS_ON
        .load(Ordering::Relaxed)
        .then(|| TRACER.get())
        .flatten()
}

/// Where the current span is; `None` where traces are not exported, and outside of all spans.
#[must_use]
pub fn current() -> Option<TraceContext> {
    tracer()?;
    written(&Span::current().context())
}

/// Makes a span that has not been entered the child of a place in a trace, and has log lines say which trace that is.
/// The span needs an empty field `trace.id`.
pub fn continue_at(span: &Span, place: Option<&TraceContext>) {
    if tracer().is_some() {
        // Another parent than that of a place is what the span has already: none, or the one that it was made in.
        if let Some(place) = place {
            // Refused where the log's filter has left the span out, or it was entered: it has no parent then.
            let _ = span.set_parent(read(place));
        }
        if let Some(own) = written(&span.context()) {
            span.record("trace.id", own.trace_id());
        }
    } else if let Some(place) = place {
        span.record("trace.id", place.trace_id());
    }
}

/// Gives a span another name in traces. A field can't: the library takes it from the span's beginning alone.
pub fn rename(span: &Span, name: impl FnOnce() -> String) {
    if tracer().is_some() {
        span.context().span().update_name(name());
    }
}

/// Has a span say that it has failed. It needs an empty field `otel.status_code`.
pub fn fail(span: &Span) {
    span.record("otel.status_code", field::display("error"));
}

/// Tells of waiting that is over: a span that nobody was in.
pub fn waited(
    name: &'static str,
    place: Option<&TraceContext>,
    (from, to): (SystemTime, SystemTime),
    attributes: [(&'static str, String); 2],
) {
    let Some(tracer) = tracer() else { return };
    let parent = place.map_or_else(Context::new, read);
    let mut span = tracer
        .span_builder(name)
        .with_kind(SpanKind::Internal)
        .with_start_time(from)
        .with_attributes(attributes.map(|(name, value)| KeyValue::new(name, value)))
        .start_with_context(tracer, &parent);
    // Clocks differ: nobody waits for less than nothing.
    span.end_with_timestamp(to.max(from));
}

/// As the propagator of the specification reads it.
fn read(place: &TraceContext) -> Context {
    TraceContextPropagator::new().extract_with_context(&Context::new(), &Headers(place))
}

fn written(context: &Context) -> Option<TraceContext> {
    let mut headers = Written::default();
    TraceContextPropagator::new().inject_context(context, &mut headers);
    let state = headers.0.get(STATE).map(String::as_str);
    TraceContext::parse(headers.0.get(PARENT)?, state)
}

struct Headers<'a>(&'a TraceContext);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        match key {
            PARENT => Some(self.0.parent()),
            STATE => self.0.state(),
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec![PARENT, STATE]
    }
}

#[derive(Default)]
struct Written(HashMap<String, String>);

impl Injector for Written {
    fn set(&mut self, key: &str, value: String) {
        self.0.insert(key.to_owned(), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_survives_the_way_through_the_library() {
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let place = TraceContext::parse(parent, Some("vendor=a")).expect("it is one");
        assert_eq!(written(&read(&place)), Some(place));
        assert_eq!(written(&Context::new()), None);
        assert_eq!(current(), None, "nothing is exported here");
    }
}

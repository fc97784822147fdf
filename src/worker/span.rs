//! The span of an attempt: what log lines and traces know it by.

use std::time::SystemTime;

use tracing::{Span, field, info_span};

use crate::{
    conversion::{NodeId, provenance::Provenance},
    db::entities::conversion::Model,
    telemetry::context,
};

/// The span of an attempt that was claimed a moment ago, below the request that submitted the conversion; beside it the
/// span of the time that it has waited.
pub(super) fn of_attempt(row: &Model, node: NodeId) -> Span {
    let Provenance { request_id, trace } = row.provenance();
    let since = if row.attempt == 1 {
        row.created_at
    } else {
        // Since when it may run again.
        row.run_at.max(row.created_at)
    };
    context::waited(
        "queued",
        trace.as_ref(),
        (since.into(), SystemTime::now()),
        [
            ("conversion.id", row.id.to_string()),
            ("attempt", row.attempt.to_string()),
        ],
    );
    let span = info_span!(
        parent: None,
        "attempt",
        request.id = request_id,
        trace.id = field::Empty,
        conversion.id = %row.id,
        attempt = row.attempt,
        node.id = %node,
        outcome = field::Empty,
        otel.kind = "consumer",
        otel.status_code = field::Empty,
    );
    context::continue_at(&span, trace.as_ref());
    span
}

/// Has the span of an attempt say how it ended.
pub(super) fn end(outcome: &'static str) {
    let span = Span::current();
    span.record("outcome", outcome);
    if matches!(outcome, "failed" | "retried" | "unwritten") {
        context::fail(&span);
    }
}

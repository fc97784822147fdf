//! Mutations run to their end, and into the audit log, whether or not their client waits.

use std::panic::AssertUnwindSafe;

use async_graphql::{Request, Response};
use futures_util::FutureExt;
use tracing::Instrument;

use super::{HttpState, answer, gate::Origin, metrics};
use crate::{
    auth::principal::Principal,
    conversion::provenance::Provenance,
    graphql::{
        error::{ApiError, ErrorCode},
        operation::Operation,
        trail::Trail,
    },
    telemetry::context,
};

/// Executes a mutation and records it. Both go on when the caller of this is dropped: a client that hangs up must not
/// leave a change without its event.
pub async fn run(
    state: &HttpState,
    origin: &Origin,
    principal: &Principal,
    operation: Operation,
    request: Request,
) -> Response {
    let tracker = state.0.mutations.clone();
    let (state, origin, principal) = (state.clone(), origin.clone(), principal.clone());
    let done = async move {
        let trail = Trail::default();
        let provenance = Provenance {
            request_id: Some(origin.request_id.clone()).filter(|id| !id.is_empty()),
            // What the client named is above this span; where no spans are made, it is passed on.
            trace: context::current().or_else(|| origin.trace.clone()),
        };
        let request = request.data(principal.clone()).data(trail.clone());
        let request = request.data(provenance);
        let executed = AssertUnwindSafe(state.0.schema.execute(request)).catch_unwind();
        let response = executed.await.unwrap_or_else(|_| panicked());
        let gate = &state.0.gate;
        gate.record(&origin, &principal, &operation, &trail, &response)
            .await;
        response
    };
    let done = tracker.spawn(done.in_current_span());
    // Only a server that stops without waiting ends it earlier.
    done.await.unwrap_or_else(|_| panicked())
}

fn panicked() -> Response {
    metrics::count_panic();
    answer::failed(ApiError::new(
        ErrorCode::Internal,
        "The server could not do this. Try again later.",
    ))
}

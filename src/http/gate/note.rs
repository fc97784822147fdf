//! What the audit log learns of requests.

use async_graphql::Response;
use axum::http::HeaderMap;

use super::{Admitted, Caller, Gate, Origin, refusal::Refusal};
use crate::{
    auth::{principal::Principal, signature},
    db::audit::event::{AuditEvent, Outcome},
    graphql::{
        error::{ApiError, ErrorCode},
        operation::Operation,
        trail::Trail,
    },
    http::key_cache::KeyCache,
};

impl Gate {
    /// Puts a mutation into the audit log before its answer is sent.
    pub async fn record(
        &self,
        origin: &Origin,
        principal: &Principal,
        operation: &Operation,
        trail: &Trail,
        response: &Response,
    ) {
        let code = ErrorCode::of(response);
        let outcome = code.map_or(Outcome::OK, |code| Outcome::code(code.as_str()));
        let event =
            AuditEvent::mutation(principal, &operation.label, outcome).details(trail.details());
        self.auditor.record(from(event, origin)).await;
    }

    /// Puts a refusal of a caller whose signature or token is right into the audit log. Of people only what they may not
    /// do is of interest, and not every document that a frontend got wrong.
    pub fn note_refused(
        &self,
        origin: &Origin,
        caller: &Caller,
        operation: Option<&Operation>,
        refusal: &Refusal,
    ) {
        let person = matches!(caller, Caller::Person(_));
        if !person || is_of_interest(&refusal.error, operation) {
            let event = self.refusal(origin, &refusal.error).by(&caller.principal());
            self.note(labelled(event, operation));
        }
    }

    /// The same of an operation over an open connection.
    pub fn note_refused_operation(
        &self,
        origin: &Origin,
        connected: &Admitted,
        operation: Option<&Operation>,
        error: &ApiError,
    ) {
        if connected.keyed.is_some() || is_of_interest(error, operation) {
            let event = self.refusal(origin, error).by(&connected.principal);
            self.note(labelled(event, operation));
        }
    }

    /// Counts a stranger who was refused.
    pub fn note_stranger(&self, origin: &Origin, error: &ApiError) {
        self.note(self.refusal(origin, error));
    }

    /// A refusal of somebody who only claims to hold a key; it is noted under that key if there is such a key.
    pub(super) async fn refuse_claimed(
        &self,
        origin: &Origin,
        headers: &HeaderMap,
        keys: &KeyCache,
        error: ApiError,
    ) -> Refusal {
        let mut event = self.refusal(origin, &error);
        if let Some(id) = signature::claimed_key(headers) {
            match keys.find(&id).await {
                Ok(Some(_)) => event = event.claiming(id),
                Ok(None) => {}
                Err(error) => return ApiError::from(error).into(),
            }
        }
        self.note(event);
        error.into()
    }

    pub(super) fn refusal(&self, origin: &Origin, error: &ApiError) -> AuditEvent {
        from(
            AuditEvent::refusal(Outcome::code(error.code.as_str())),
            origin,
        )
    }

    pub(super) fn note(&self, event: AuditEvent) {
        self.auditor.refused(event);
    }
}

/// Whether a refusal of a person says more than that a frontend got a document wrong.
fn is_of_interest(error: &ApiError, operation: Option<&Operation>) -> bool {
    matches!(error.code, ErrorCode::Forbidden | ErrorCode::RateLimited)
        || operation.is_some_and(Operation::is_mutation)
}

fn from(event: AuditEvent, origin: &Origin) -> AuditEvent {
    let event = event.request_id(&origin.request_id);
    match origin.address {
        Some(address) => event.from_address(address),
        None => event,
    }
}

fn labelled(event: AuditEvent, operation: Option<&Operation>) -> AuditEvent {
    match operation {
        Some(operation) => event.operation(&operation.label),
        None => event,
    }
}

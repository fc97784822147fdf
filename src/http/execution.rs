//! An operation that was let in and charged, whichever way it came: what is still to be checked, how it runs, and what is
//! noted of it.

use ::metrics::gauge;
use async_graphql::{Response, parser::types::OperationType};
use futures_util::{StreamExt, stream, stream::BoxStream};

use super::{
    HttpState,
    gate::{Admitted, Origin},
    metrics::Counted,
    mutations, span,
};
use crate::graphql::{
    documents::Keep,
    error::{ApiError, ErrorCode},
    execute::{self, Prepared},
    operation::Operation,
};

/// On whose behalf operations run.
#[derive(Debug, Clone)]
pub(super) struct Execution {
    pub(super) state: HttpState,
    pub(super) origin: Origin,
    pub(super) admitted: Admitted,
}

impl Execution {
    /// Passes on what this caller may run; a refusal is in the audit log.
    ///
    /// # Errors
    /// As for [`execute::prepare`], and `FORBIDDEN`.
    pub(super) fn check(&self, prepared: Result<Prepared, ApiError>) -> Result<Prepared, ApiError> {
        let may_run = prepared.and_then(|prepared| {
            prepared.check_caller(&self.state.0.schema, &self.admitted.principal)?;
            Ok(prepared)
        });
        may_run.inspect_err(|error| self.note(None, error))
    }

    /// The answers of an operation: those of a subscription, or the one of any other. What was begun is given up when the
    /// stream is dropped, but for mutations.
    pub(super) fn answers(&self, prepared: Prepared) -> BoxStream<'static, Response> {
        let Prepared {
            request,
            operation,
            keep,
            ..
        } = prepared;
        operation
            .as_ref()
            .inspect(|operation| span::name(operation));
        let execution = self.clone();
        let responses = match operation.clone().filter(Operation::is_mutation) {
            Some(mutation) => stream::once(async move {
                let Self {
                    state,
                    origin,
                    admitted,
                } = execution;
                mutations::run(&state, &origin, &admitted.principal, mutation, request).await
            })
            .boxed(),
            None => {
                let request = request.data(self.admitted.principal.clone());
                self.state.0.schema.execute_stream(request)
            }
        };
        let execution = self.clone();
        let subscribed = (operation.as_ref())
            .filter(|operation| operation.kind == OperationType::Subscription)
            .and_then(Operation::root_field)
            .map(|field| Counted::new(gauge!("orfeas_subscriptions", "field" => field)));
        let mut first = Some((operation, keep));
        responses
            .inspect(move |response| {
                // It lives as long as the answers.
                let _: &Option<Counted> = &subscribed;
                if let Some((operation, keep)) = first.take() {
                    execution.look(operation.as_ref(), keep, response);
                }
            })
            .boxed()
    }

    /// What the first answer tells: that the document is valid, or that a guard has refused.
    fn look(&self, operation: Option<&Operation>, keep: Option<Keep>, response: &Response) {
        if let Some(keep) = keep
            && !execute::is_request_error(response)
        {
            execute::keep(&self.state.0.schema, keep);
        }
        let gate = &self.state.0.gate;
        let code = ErrorCode::of(response);
        gate.tally
            .count(Some(&self.admitted.principal), operation, code);
        // Mutations have an event of their own.
        let is_recorded = operation.is_some_and(Operation::is_mutation);
        if !is_recorded && code == Some(ErrorCode::Forbidden) {
            let error = ApiError::new(ErrorCode::Forbidden, "A guard refused a field.");
            gate.note_refused_operation(&self.origin, &self.admitted, operation, &error);
        }
    }

    /// Counts a refusal, and puts it into the audit log.
    pub(super) fn note(&self, operation: Option<&Operation>, error: &ApiError) {
        let gate = &self.state.0.gate;
        gate.tally
            .count(Some(&self.admitted.principal), operation, Some(error.code));
        gate.note_refused_operation(&self.origin, &self.admitted, operation, error);
    }
}

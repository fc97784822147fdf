//! What a connection does with each message.

use std::{panic::AssertUnwindSafe, sync::Arc};

use async_graphql::Request;
use axum::extract::ws::Message;
use futures_util::{FutureExt, StreamExt, stream};
use serde_json::Value;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

use super::{
    Caller, MESSAGE_BYTES_MAX, SignedIn,
    close::Close,
    message::{self, ClientMessage},
    operations::{NotEntered, Operations, Ticket},
};
use crate::{
    graphql::{
        error::{ApiError, ErrorCode},
        execute::{self, Prepared},
        operation::Operation,
    },
    http::{
        HttpState,
        gate::{Admitted, Origin},
        metrics, mutations,
    },
};

/// Operations of one connection at a time; each may hold a subscription's buffers.
const OPERATIONS_MAX: usize = 100;

/// The reading side of a connection. Its operations end with it.
pub(super) struct Connection {
    shared: Arc<Shared>,
    /// Known by the upgrade, and waiting for `connection_init`.
    caller: Option<Caller>,
    /// Set when signed in.
    admitted: Option<Arc<Caller>>,
    signed_in: watch::Sender<Option<SignedIn>>,
    tasks: JoinSet<()>,
}

/// What operations work with.
struct Shared {
    state: HttpState,
    outgoing: mpsc::Sender<Message>,
    operations: Operations,
    origin: Origin,
}

impl Connection {
    pub(super) fn new(
        state: HttpState,
        origin: Origin,
        caller: Option<Caller>,
        outgoing: mpsc::Sender<Message>,
        signed_in: watch::Sender<Option<SignedIn>>,
    ) -> Self {
        let shared = Shared {
            state,
            outgoing,
            operations: Operations::default(),
            origin,
        };
        Self {
            shared: Arc::new(shared),
            caller,
            admitted: None,
            signed_in,
            tasks: JoinSet::new(),
        }
    }

    /// Asks the other end whether it is there. Where the queue is full, the writing side finds out.
    pub(super) fn ping(&self) {
        let _ = self
            .shared
            .outgoing
            .try_send(Message::Ping(Vec::new().into()));
    }

    /// Acts on a message.
    ///
    /// # Errors
    /// Why the connection is to be closed.
    pub(super) async fn take(&mut self, bytes: &[u8]) -> Result<(), Close> {
        if bytes.len() > MESSAGE_BYTES_MAX {
            return Err(Close::TooLarge);
        }
        match ClientMessage::parse(bytes)? {
            ClientMessage::Init(payload) => self.sign_in(&payload).await?,
            ClientMessage::Ping(payload) => self.send(message::pong(payload)).await,
            ClientMessage::Pong => {}
            ClientMessage::Subscribe { id, request } => self.subscribe(&id, *request).await?,
            ClientMessage::Complete { id } => self.shared.operations.stop(&id),
        }
        Ok(())
    }

    /// A closed queue means that the connection is ending: nobody is left to tell.
    async fn send(&self, message: Message) {
        let _ = self.shared.outgoing.send(message).await;
    }

    async fn sign_in(&mut self, payload: &Value) -> Result<(), Close> {
        if self.admitted.is_some() {
            return Err(Close::InitTwice);
        }
        let caller = match self.caller.take() {
            Some(caller) => caller,
            None => authenticate(&self.shared.state, &self.shared.origin, payload)
                .await
                .map_err(|error| Close::Refused(error.message))?,
        };
        let watching = caller.watching.as_ref();
        let signed_in = SignedIn {
            expires_at: caller.admitted.principal.expires_at,
            revoked: watching
                .map(|watching| watching.ended.clone())
                .unwrap_or_default(),
        };
        self.admitted = Some(Arc::new(caller));
        self.signed_in.send_replace(Some(signed_in));
        self.send(message::ack()).await;
        Ok(())
    }

    async fn subscribe(&mut self, id: &str, request: Request) -> Result<(), Close> {
        let Some(caller) = self.admitted.clone() else {
            return Err(Close::Unauthorized);
        };
        // What has ended takes no more room.
        while self.tasks.try_join_next().is_some() {}
        match self.shared.operations.enter(id, OPERATIONS_MAX) {
            Ok(ticket) => {
                let operation = run(self.shared.clone(), ticket.clone(), request, caller);
                let task = self.tasks.spawn(operation);
                self.shared.operations.started(&ticket, task);
                Ok(())
            }
            Err(NotEntered::IdInUse) => Err(Close::IdInUse(id.to_owned())),
            Err(NotEntered::Full) => {
                let error = ApiError::new(
                    ErrorCode::Overloaded,
                    format!(
                        "A connection has at most {OPERATIONS_MAX} operations at a time: wait for one to end, or open another connection."
                    ),
                );
                self.send(message::refusal(id, &error)).await;
                Ok(())
            }
        }
    }
}

/// Who stands behind the payload of `connection_init`.
///
/// # Errors
/// `UNAUTHENTICATED`.
async fn authenticate(
    state: &HttpState,
    origin: &Origin,
    payload: &Value,
) -> Result<Caller, ApiError> {
    let text = |name: &str| payload.get(name).and_then(Value::as_str);
    // Browsers' libraries write header names as they like.
    let header = text("authorization").or_else(|| text("Authorization"));
    let gate = &state.0.gate;
    let principal = gate
        .person(header)
        .await
        .inspect_err(|error| gate.note_stranger(origin, error))?;
    Ok(Caller {
        admitted: Admitted::person(principal),
        watching: None,
    })
}

/// One operation from its message to its end.
async fn run(shared: Arc<Shared>, ticket: Ticket, request: Request, caller: Arc<Caller>) {
    let operation = execute(&shared, &ticket, request, &caller.admitted);
    let last = match AssertUnwindSafe(operation).catch_unwind().await {
        Ok(last) => last,
        Err(_) => {
            metrics::count_panic();
            let error = ApiError::new(
                ErrorCode::Internal,
                "The server could not do this. Try again later.",
            );
            Some(message::refusal(&ticket.id, &error))
        }
    };
    if let Some(last) = last
        && let Ok(room) = shared.outgoing.reserve().await
    {
        shared.operations.finish(&ticket, room, last);
    }
}

/// Sends the answers of an operation; returns its last message, if the connection still wants one.
async fn execute(
    shared: &Shared,
    ticket: &Ticket,
    request: Request,
    admitted: &Admitted,
) -> Option<Message> {
    let parts = &shared.state.0;
    let refuse = |error: &ApiError| Some(message::refusal(&ticket.id, error));
    // What is refused for what it asks was asked all the same, and is charged.
    let prepared = execute::prepare(&parts.schema, request);
    let operation = prepared.as_ref().ok();
    let operation = operation.and_then(|prepared| prepared.operation.as_ref());
    let charged = parts
        .gate
        .admit_operation(&shared.origin, admitted, operation);
    let admitted = match charged.await {
        Ok(admitted) => admitted,
        Err(error) => return refuse(&error),
    };
    let note = |operation: Option<&Operation>, error: &ApiError| {
        let gate = &parts.gate;
        gate.note_refused_operation(&shared.origin, &admitted, operation, error);
    };
    let principal = &admitted.principal;
    let prepared = prepared.and_then(|prepared| {
        prepared.check_introspection(&parts.schema, principal)?;
        Ok(prepared)
    });
    let Prepared {
        request, operation, ..
    } = match prepared {
        Ok(prepared) => prepared,
        Err(error) => {
            note(None, &error);
            return refuse(&error);
        }
    };
    let mut responses = match operation.clone().filter(Operation::is_mutation) {
        Some(mutation) => {
            let (state, origin) = (&shared.state, &shared.origin);
            let response = mutations::run(state, origin, principal, mutation, request).await;
            stream::iter([response]).boxed()
        }
        None => {
            let request = request.data(principal.clone());
            parts.schema.execute_stream(request).boxed()
        }
    };
    let mut is_first = true;
    while let Some(response) = responses.next().await {
        if is_first && execute::is_request_error(&response) {
            return Some(message::errors(&ticket.id, &response.errors));
        }
        let is_recorded = operation.as_ref().is_some_and(Operation::is_mutation);
        if is_first && !is_recorded && ErrorCode::of(&response) == Some(ErrorCode::Forbidden) {
            let error = ApiError::new(ErrorCode::Forbidden, "A guard refused a field.");
            note(operation.as_ref(), &error);
        }
        is_first = false;
        let room = shared.outgoing.reserve().await.ok()?;
        if !shared
            .operations
            .send(ticket, room, message::next(&ticket.id, &response))
        {
            return None;
        }
    }
    Some(message::complete(&ticket.id))
}

//! What a connection does with each message.

use std::{panic::AssertUnwindSafe, sync::Arc};

use axum::extract::ws::Message;
use futures_util::{FutureExt, StreamExt};
use serde_json::Value;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};
use tracing::Instrument;

use super::{
    Caller, MESSAGE_BYTES_MAX,
    close::Close,
    message::{self, ClientMessage},
    operations::{NotEntered, Operations, Ticket},
};
use crate::{
    conversion::provenance::TraceContext,
    graphql::{
        documents::asked::Asked,
        error::{ApiError, ErrorCode},
        execute,
    },
    http::{
        HttpState,
        execution::Execution,
        gate::{Admitted, Origin},
        metrics, span,
        standing::Standing,
    },
};

/// Operations of one connection at a time; each may hold a subscription's buffers.
const OPERATIONS_MAX: usize = 100;

/// The reading side of a connection. Its operations end with it.
pub(super) struct Connection {
    shared: Arc<Shared>,
    /// Known by the upgrade, and waiting for `connection_init`.
    caller: Option<Caller>,
    /// What operations belong to: what the first message names, or the upgrade request did.
    place: Option<TraceContext>,
    /// Set when signed in.
    admitted: Option<Arc<Caller>>,
    signed_in: watch::Sender<Option<Standing>>,
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
        signed_in: watch::Sender<Option<Standing>>,
    ) -> Self {
        let place = origin.trace.clone();
        let shared = Shared {
            state,
            outgoing,
            operations: Operations::default(),
            origin,
        };
        Self {
            shared: Arc::new(shared),
            caller,
            place,
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
            ClientMessage::Subscribe { id, asked } => self.subscribe(&id, *asked).await?,
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
        let text = |name: &str| payload.get(name).and_then(Value::as_str);
        let named =
            text("traceparent").and_then(|parent| TraceContext::parse(parent, text("tracestate")));
        self.place = named.or(self.place.take());
        let standing = Standing::of(&caller.admitted, caller.watching.as_ref());
        self.admitted = Some(Arc::new(caller));
        self.signed_in.send_replace(Some(standing));
        self.send(message::ack()).await;
        Ok(())
    }

    async fn subscribe(&mut self, id: &str, asked: Asked) -> Result<(), Close> {
        let Some(caller) = self.admitted.clone() else {
            return Err(Close::Unauthorized);
        };
        // What has ended takes no more room.
        while self.tasks.try_join_next().is_some() {}
        match self.shared.operations.enter(id, OPERATIONS_MAX) {
            Ok(ticket) => {
                let span = span::of_operation(&self.shared.origin.request_id, self.place.as_ref());
                let operation = run(self.shared.clone(), ticket.clone(), asked, caller);
                let operation = operation.instrument(span);
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
async fn run(shared: Arc<Shared>, ticket: Ticket, asked: Asked, caller: Arc<Caller>) {
    let operation = execute(&shared, &ticket, asked, &caller.admitted);
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
    asked: Asked,
    connected: &Admitted,
) -> Option<Message> {
    let parts = &shared.state.0;
    let refuse = |error: &ApiError| Some(message::refusal(&ticket.id, error));
    // What is refused for what it asks was asked all the same, and is charged.
    let prepared = execute::prepare(&parts.schema, asked);
    let operation = prepared.as_ref().ok();
    let operation = operation.and_then(|prepared| prepared.operation.as_ref());
    let charged = parts
        .gate
        .admit_operation(&shared.origin, connected, operation);
    let admitted = match charged.await {
        Ok(admitted) => admitted,
        Err(error) => return refuse(&error),
    };
    let execution = Execution {
        state: shared.state.clone(),
        origin: shared.origin.clone(),
        admitted,
    };
    let mut answers = match execution.check(prepared) {
        Ok(prepared) => execution.answers(prepared),
        Err(error) => return refuse(&error),
    };
    let mut is_first = true;
    while let Some(response) = answers.next().await {
        if std::mem::take(&mut is_first) && execute::is_request_error(&response) {
            return Some(message::errors(&ticket.id, &response.errors));
        }
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

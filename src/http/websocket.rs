//! GraphQL over WebSocket, `graphql-transport-ws`: signed in by `connection_init`, closed when the token expires.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_graphql::{
    Data,
    http::{WebSocket as Protocol, WebSocketProtocols, WsMessage},
};
use axum::{
    extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade},
    response::Response,
};
use futures_util::{SinkExt, StreamExt, future};
use time::OffsetDateTime;
use tokio::sync::watch;

use super::{HttpState, authenticate};

/// A client that has not signed in by then is closed.
const INIT_MAX: Duration = Duration::from_secs(10);
/// How often the client's end is pinged; one that is gone is found out by the failing write.
const PING_EVERY: Duration = Duration::from_secs(20);
/// Documents, not pictures, come over the socket.
const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// The close codes of the protocol.
const BAD_REQUEST: u16 = 4400;
const UNAUTHORIZED: u16 = 4401;
const FORBIDDEN: u16 = 4403;
const INIT_TIMEOUT: u16 = 4408;

/// Takes a connection over.
pub fn upgrade(state: HttpState, upgrade: WebSocketUpgrade) -> Response {
    upgrade
        .protocols(["graphql-transport-ws"])
        .max_message_size(MESSAGE_BYTES_MAX)
        .on_upgrade(move |socket| serve(state, socket))
}

async fn serve(state: HttpState, socket: WebSocket) {
    ::metrics::gauge!("orfeas_websockets").increment(1);
    let (mut sink, stream) = socket.split();
    let (signed_in, mut expires) = watch::channel(None::<OffsetDateTime>);
    let messages = stream
        .take_while(|message| future::ready(message.is_ok()))
        .filter_map(|message| {
            future::ready(match message {
                Ok(Message::Text(text)) => Some(text.as_bytes().to_vec()),
                Ok(Message::Binary(bytes)) => Some(bytes.to_vec()),
                _ => None,
            })
        });
    let schema = state.0.schema.clone();
    let refused = Arc::new(AtomicBool::new(false));
    let refusing = refused.clone();
    let init = move |payload: serde_json::Value| async move {
        let data = sign_in(&state, &payload, &signed_in);
        refusing.store(data.is_err(), Ordering::Relaxed);
        data
    };
    let mut replies = Protocol::new(schema, messages, WebSocketProtocols::GraphQLWS)
        .on_connection_init(init)
        .boxed();
    let mut ping = tokio::time::interval(PING_EVERY);
    let opened = tokio::time::Instant::now();
    loop {
        let deadline = close_at(opened, *expires.borrow());
        let message = tokio::select! {
            reply = replies.next() => match reply {
                Some(WsMessage::Text(text)) => Message::Text(text.into()),
                Some(WsMessage::Close(code, reason)) => close(protocol_code(code, refused.load(Ordering::Relaxed)), reason),
                None => break,
            },
            _ = ping.tick() => Message::Ping(Vec::new().into()),
            () = tokio::time::sleep_until(deadline.0) => close(deadline.1, deadline.2),
            Ok(()) = expires.changed() => continue,
        };
        let last = matches!(message, Message::Close(_));
        if sink.send(message).await.is_err() || last {
            break;
        }
    }
    ::metrics::gauge!("orfeas_websockets").decrement(1);
}

/// When the connection ends by itself, with which code, and why.
fn close_at(
    opened: tokio::time::Instant,
    expires: Option<OffsetDateTime>,
) -> (tokio::time::Instant, u16, &'static str) {
    match expires {
        None => (
            opened + INIT_MAX,
            INIT_TIMEOUT,
            "Connection initialisation timeout",
        ),
        Some(expires) => {
            let left = Duration::try_from(expires - OffsetDateTime::now_utc()).unwrap_or_default();
            // Tokens may live for years; timers need not.
            let left = left.min(Duration::from_secs(24 * 3600 * 365));
            (
                tokio::time::Instant::now() + left,
                FORBIDDEN,
                "The token has expired",
            )
        }
    }
}

/// The library closes with codes of the WebSocket protocol itself; clients wait for those of the sub-protocol.
/// It has one code for what it can't read and for whom `sign_in` turns away, and one for operations before that.
fn protocol_code(code: u16, refused: bool) -> u16 {
    match code {
        1002 if refused => FORBIDDEN,
        1002 => BAD_REQUEST,
        1011 => UNAUTHORIZED,
        code => code,
    }
}

fn close(code: u16, reason: impl Into<String>) -> Message {
    let mut reason: String = reason.into();
    // A close frame holds 123 bytes of reason.
    reason.truncate(reason.floor_char_boundary(120));
    Message::Close(Some(CloseFrame {
        code,
        reason: reason.into(),
    }))
}

fn sign_in(
    state: &HttpState,
    payload: &serde_json::Value,
    signed_in: &watch::Sender<Option<OffsetDateTime>>,
) -> async_graphql::Result<Data> {
    let text = |name: &str| payload.get(name).and_then(serde_json::Value::as_str);
    // Browsers' libraries write header names as they like.
    let header = text("authorization").or_else(|| text("Authorization"));
    let principal = authenticate::principal(state, header)?;
    signed_in.send_replace(Some(principal.expires_at));
    let mut data = Data::default();
    data.insert(principal);
    Ok(data)
}

//! GraphQL over WebSocket, `graphql-transport-ws`: one connection, its operations, and why it ends.
//!
//! A connection is three futures that end together: what it reads, what it writes, and its right to be here. Every
//! operation is a task that the reading side owns.

use std::time::Duration;

use ::metrics::gauge;
use axum::{
    extract::ws::{Message, WebSocket, WebSocketUpgrade},
    response::Response,
};
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, Interval, sleep, timeout},
};
use tracing::Instrument;

use self::{close::Close, connection::Connection};
use super::{
    HttpState,
    gate::{Admitted, Origin},
    key_watch::Watching,
    metrics::{Counted, count_dropped},
    span,
    standing::{self, Standing},
};
use crate::telemetry::context;

pub mod close;
mod connection;
mod message;
mod operations;

#[cfg(test)]
mod tests;

/// A client that has not signed in by then is closed.
const INIT_MAX: Duration = Duration::from_secs(10);
/// How often the other end is asked whether it is there.
const PING_EVERY: Duration = Duration::from_secs(20);
/// Three questions without an answer: it is not.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Documents, not pictures, come over the socket.
const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// Kept, and cleared at each read, for each of thousands of connections that seldom say anything; a longer message has
/// room made for it.
const READ_BUFFER_BYTES: usize = 4 << 10;
/// Messages that wait for a slow reader; its operations wait with them.
const QUEUE_MAX: usize = 64;
/// How long a reader may take to take one message.
const DRAIN_MAX: Duration = Duration::from_secs(30);
/// How long the goodbye may take.
const CLOSE_MAX: Duration = Duration::from_secs(5);

/// A caller, and what ends its right to be here.
#[derive(Debug)]
struct Caller {
    admitted: Admitted,
    /// Kept while the connection lives; of people there is none.
    watching: Option<Watching>,
}

/// Takes a connection over. A caller that is known by the upgrade request needs no payload in `connection_init`, and
/// what it sends there is ignored.
pub fn upgrade(
    state: HttpState,
    upgrade: WebSocketUpgrade,
    origin: Origin,
    admitted: Option<Admitted>,
) -> Response {
    // Operations belong below the request that opened the connection, where that is in a trace of ours.
    let trace = context::current().or(origin.trace);
    let origin = Origin { trace, ..origin };
    let caller = admitted.map(|admitted| Caller {
        watching: standing::watching(&state, &admitted),
        admitted,
    });
    upgrade
        .protocols(["graphql-transport-ws"])
        .read_buffer_size(READ_BUFFER_BYTES)
        // One byte more than is allowed must arrive to be refused with a code.
        .max_message_size(MESSAGE_BYTES_MAX + 1)
        .on_upgrade(move |socket| {
            let span = span::of_connection(&origin.request_id);
            serve(state, socket, origin, caller).instrument(span)
        })
}

async fn serve(state: HttpState, socket: WebSocket, origin: Origin, caller: Option<Caller>) {
    let _counted = Counted::new(gauge!("orfeas_websockets"));
    let (sink, stream) = socket.split();
    let (outgoing, queue) = mpsc::channel(QUEUE_MAX);
    let (signed_in, signed_in_seen) = watch::channel(None);
    let opened = Instant::now();
    let stopping = state.0.stopping.clone();
    let mut writing = std::pin::pin!(write(sink, queue));
    let mut connection = Connection::new(state, origin, caller, outgoing.clone(), signed_in);
    let end = tokio::select! {
        // The reader is gone or too slow; there is nobody to say goodbye to.
        () = &mut writing => return,
        end = read(&mut connection, stream) => end,
        end = authority(opened, signed_in_seen) => Some(end),
        // Whoever follows something goes on at another node.
        () = stopping.cancelled() => Some(Close::Stopping),
    };
    // Nothing is to follow the goodbye.
    drop(connection);
    if let Some(end) = end {
        count_dropped(end.label());
        let goodbye = async {
            tokio::select! {
                sent = outgoing.send(end.into()) => if sent.is_err() { return },
                () = &mut writing => return,
            }
            writing.await;
        };
        // The other end may have stopped reading, and is dropped then.
        let _ = timeout(CLOSE_MAX, goodbye).await;
    }
}

/// Reads until the other end is gone (`None`) or has to go.
async fn read(
    connection: &mut Connection,
    stream: impl Stream<Item = Result<Message, axum::Error>>,
) -> Option<Close> {
    let mut stream = std::pin::pin!(stream);
    let mut ping = tokio::time::interval(PING_EVERY);
    loop {
        let message = hear(&mut stream, &mut ping, || connection.ping()).await?;
        let outcome = match message {
            Message::Text(text) => connection.take(text.as_bytes()).await,
            Message::Binary(bytes) => connection.take(&bytes).await,
            // The library answers pings, and its next read sends the answer to a goodbye.
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) => Ok(()),
        };
        if let Err(close) = outcome {
            return Some(close);
        }
    }
}

/// The next message; `None` when the other end is gone, or says nothing however often it is asked.
async fn hear(
    stream: &mut (impl Stream<Item = Result<Message, axum::Error>> + Unpin),
    ping: &mut Interval,
    ask: impl Fn(),
) -> Option<Message> {
    let silent = sleep(SILENCE_MAX);
    let mut silent = std::pin::pin!(silent);
    loop {
        tokio::select! {
            message = stream.next() => return message?.ok(),
            _ = ping.tick() => ask(),
            () = &mut silent => return None,
        }
    }
}

/// Waits until the caller may stay no longer.
async fn authority(opened: Instant, mut signed_in: watch::Receiver<Option<Standing>>) -> Close {
    let init = timeout(
        INIT_MAX.saturating_sub(opened.elapsed()),
        signed_in.wait_for(Option::is_some),
    );
    let found = match init.await {
        Ok(Ok(found)) => found.clone(),
        Ok(Err(_)) | Err(_) => None,
    };
    match found {
        Some(standing) => Close::Over(standing.over().await),
        None => Close::InitTimeout,
    }
}

/// Writes what is queued until a goodbye is through or the other end takes no more.
async fn write(mut sink: impl Sink<Message> + Unpin, mut queue: mpsc::Receiver<Message>) {
    while let Some(message) = queue.recv().await {
        let is_last = matches!(message, Message::Close(_));
        match timeout(DRAIN_MAX, sink.send(message)).await {
            Ok(Ok(())) if !is_last => {}
            Ok(_) => return,
            Err(_) => {
                count_dropped(Close::TooSlow.label());
                // It lies behind what was not taken; a client that wakes up reads why.
                let _ = timeout(CLOSE_MAX, sink.send(Close::TooSlow.into())).await;
                return;
            }
        }
    }
}

//! GraphQL over server-sent events, by the protocol of `graphql-sse`, distinct connections: one operation a request, its
//! answers as events. For clients behind proxies that let no WebSocket through.
//!
//! Answers are taken from the operation as the connection takes them, so nothing is queued for a slow reader but what the
//! connection itself holds; who takes nothing for long loses the connection (see [`super::patience`]).

use std::{convert::Infallible, panic::AssertUnwindSafe, time::Duration};

use ::metrics::gauge;
use async_graphql::Response as Answer;
use async_stream::stream;
use axum::{
    body::{Body, Bytes},
    http::{HeaderName, HeaderValue, header},
    response::Response,
};
use futures_util::{StreamExt, stream::BoxStream};
use tokio::time::{Instant, interval_at};
use tokio_util::sync::CancellationToken;

use super::{
    answer,
    gate::Admitted,
    key_watch::Watching,
    metrics::{self, Counted},
    standing::Standing,
};
use crate::graphql::error::{ApiError, ErrorCode};

/// The media type of events.
pub(super) const MEDIA_TYPE: &str = "text/event-stream";
/// How often a silent stream shows that it lives; proxies give up after 30 s or more.
const COMMENT_EVERY: Duration = Duration::from_secs(12);
const COMMENT: &str = ":\n\n";
/// The field `data` is there for browsers, which pass over events without one.
const COMPLETE: &str = "event: complete\ndata: \n\n";

/// What ends a stream besides its operation.
pub(super) struct Ends {
    pub(super) admitted: Admitted,
    /// Kept as long as the stream; of people there is none.
    pub(super) watching: Option<Watching>,
    /// Cancelled when the server stops.
    pub(super) stopping: CancellationToken,
}

/// Sends the answers of an operation until it ends, or one of the other ends comes.
pub(super) fn respond(answers: BoxStream<'static, Answer>, ends: Ends) -> Response {
    respond_with(events(answers, ends).boxed())
}

/// A request that was refused for what it asks. The protocol wants such errors as an event: a browser's `EventSource`
/// shows nothing of other answers.
pub(super) fn refused(error: ApiError) -> Response {
    let events = [
        next(&answer::failed(error)),
        Bytes::from_static(COMPLETE.as_bytes()),
    ];
    respond_with(futures_util::stream::iter(events).boxed())
}

fn respond_with(events: BoxStream<'static, Bytes>) -> Response {
    let mut response = Response::new(Body::from_stream(events.map(Ok::<_, Infallible>)));
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, "text/event-stream; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
        // nginx would hold events back until its buffer is full.
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// What to do next.
enum Turn {
    Answer(Answer),
    Comment,
    /// It ends with this error.
    Failed(ApiError),
    Complete,
    /// It breaks off; the client asks another node.
    Stop,
}

fn events(
    answers: BoxStream<'static, Answer>,
    ends: Ends,
) -> impl futures_util::Stream<Item = Bytes> + Send + 'static {
    let counted = Counted::new(gauge!("orfeas_event_streams"));
    stream! {
        let _counted = counted;
        let Ends { admitted, watching, stopping } = ends;
        let standing = Standing::of(&admitted, watching.as_ref());
        let mut over = std::pin::pin!(standing.over());
        let mut answers = AssertUnwindSafe(answers).catch_unwind();
        let mut silence = interval_at(Instant::now() + COMMENT_EVERY, COMMENT_EVERY);
        // The client sees at once that it was let in.
        yield Bytes::from_static(COMMENT.as_bytes());
        loop {
            let turn = tokio::select! {
                biased;
                () = stopping.cancelled() => {
                    metrics::count_dropped("stopping");
                    Turn::Stop
                }
                over = &mut over => {
                    metrics::count_dropped(over.label());
                    Turn::Failed(ApiError::new(ErrorCode::Unauthenticated, format!("{}.", over.words())))
                }
                answer = answers.next() => match answer {
                    Some(Ok(answer)) => Turn::Answer(answer),
                    Some(Err(_)) => {
                        metrics::count_panic();
                        Turn::Failed(ApiError::new(
                            ErrorCode::Internal,
                            "The server could not do this. Try again later.",
                        ))
                    }
                    None => Turn::Complete,
                },
                _ = silence.tick() => Turn::Comment,
            };
            match turn {
                Turn::Answer(answer) => {
                    silence.reset();
                    yield next(&answer);
                }
                Turn::Comment => yield Bytes::from_static(COMMENT.as_bytes()),
                Turn::Failed(error) => {
                    yield next(&answer::failed(error));
                    yield Bytes::from_static(COMPLETE.as_bytes());
                    return;
                }
                Turn::Complete => {
                    yield Bytes::from_static(COMPLETE.as_bytes());
                    return;
                }
                Turn::Stop => return,
            }
        }
    }
}

/// One answer. Its JSON has no line break, so it is one line of data.
fn next(response: &Answer) -> Bytes {
    Bytes::from(format!("event: next\ndata: {}\n\n", answer::body(response)))
}

#[cfg(test)]
mod tests;

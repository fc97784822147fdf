//! Reads on what a refused client is still sending, so that it sees the answer.
//!
//! When a handler answers without having read its request's body, hyper closes the connection, bytes that are still on
//! their way meet a closed socket, and TCP answers them by a reset that throws away what the client hasn't read: our
//! answer. So the body is read and discarded for a while in the background.

use std::{
    mem,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::Request,
    http::{Version, header},
};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::{runtime::Handle, sync::Semaphore};

/// What is read at most after an answer: a batch of 50 pictures of 2 MB passes, a client that sends for ever doesn't.
const BYTES_MAX: u64 = 128 << 20;
/// For how long at most: a client that hasn't taken the answer by then doesn't wait for it.
const TIME_MAX: Duration = Duration::from_secs(10);
/// How many bodies are read on at a time; beyond that connections are closed at once. Each costs one socket and a
/// buffer, and a server that refuses more than this at a time is under attack.
const BODIES_MAX: usize = 256;

static BODIES: Semaphore = Semaphore::const_new(BODIES_MAX);

/// Wraps a request's body so that dropping it unread reads it on (for `axum::middleware::map_request`).
pub async fn wrap(request: Request) -> Request {
    // HTTP/2 resets the one stream and sends the answer; and there is nothing to read on where there is no body.
    let wanted = request.version() < Version::HTTP_2 && !request.body().is_end_stream();
    if !wanted {
        return request;
    }
    let awaits_continue = request
        .headers()
        .get(header::EXPECT)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    request.map(|body| {
        Body::new(Lingering {
            body,
            was_asked_for: !awaits_continue,
            has_ended: false,
        })
    })
}

/// A body that is read on after it was dropped.
#[derive(Debug)]
struct Lingering {
    body: Body,
    /// Whether the client sends. One that expects `100 Continue` sends nothing until the body is first polled, and
    /// polling it here would call for what nobody wants.
    was_asked_for: bool,
    has_ended: bool,
}

impl HttpBody for Lingering {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.was_asked_for = true;
        let polled = Pin::new(&mut self.body).poll_frame(context);
        self.has_ended |= matches!(polled, Poll::Ready(None | Some(Err(_))));
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        if self.has_ended || !self.was_asked_for || self.body.is_end_stream() {
            return;
        }
        // Without a runtime the server is gone, and without a permit the client may see a reset.
        let (Ok(runtime), Ok(permit)) = (Handle::try_current(), BODIES.try_acquire()) else {
            return;
        };
        let body = mem::take(&mut self.body);
        // Nobody waits for this task: it owns a body and nothing else, and ends by itself.
        runtime.spawn(async move {
            discard(body).await;
            drop(permit);
        });
    }
}

async fn discard(mut body: Body) {
    let reading = async {
        let mut bytes = 0_u64;
        while let Some(Ok(frame)) = body.frame().await {
            bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
            if bytes > BYTES_MAX {
                return;
            }
        }
    };
    // Whether it ended in time makes no difference to what follows: the connection is let go.
    let _ = tokio::time::timeout(TIME_MAX, reading).await;
}

#[cfg(test)]
mod tests {
    use axum::{Router, http::StatusCode, middleware::map_request, routing::post};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
    };

    use super::*;

    /// A server that refuses everything on `/no`, after a look at the first bytes on `/look`, and reads all on `/all`.
    async fn server() -> TcpStream {
        let all = |body: Bytes| async move { body.len().to_string() };
        let look = |mut request: Request| async move {
            let first = request.body_mut().frame().await;
            assert!(matches!(first, Some(Ok(_))));
            StatusCode::UNAUTHORIZED
        };
        let router = Router::new()
            .route("/no", post(|| async { StatusCode::UNAUTHORIZED }))
            .route("/look", post(look))
            .route("/all", post(all))
            .layer(map_request(wrap));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(async move { axum::serve(listener, router).await });
        TcpStream::connect(address).await.expect("it listens")
    }

    async fn head(client: &mut TcpStream) -> String {
        let mut read = Vec::new();
        while !read.ends_with(b"\r\n\r\n") {
            read.push(client.read_u8().await.expect("an answer"));
        }
        String::from_utf8(read).expect("text")
    }

    /// Sends a request of 20 MB slowly and to its end before it looks for the answer, as simple clients do.
    async fn send_slowly(client: &mut TcpStream, path: &str) -> String {
        let (piece, pieces) = (vec![b'x'; 1 << 20], 20);
        let start = format!(
            "POST {path} HTTP/1.1\r\nHost: here\r\nContent-Length: {}\r\n\r\n",
            piece.len() * pieces
        );
        client.write_all(start.as_bytes()).await.expect("taken");
        for _ in 0..pieces {
            tokio::time::sleep(Duration::from_millis(20)).await;
            client.write_all(&piece).await.expect("no reset");
        }
        head(client).await
    }

    #[tokio::test]
    async fn a_refused_client_sees_the_answer() {
        let mut client = server().await;
        for path in ["/no", "/look"] {
            // On the same connection, which is still good.
            let answer = send_slowly(&mut client, path).await;
            assert!(answer.starts_with("HTTP/1.1 401 "), "{path}: {answer}");
        }
    }

    #[tokio::test]
    async fn whoever_waits_to_be_asked_is_not() {
        let mut client = server().await;
        let start = |path| {
            format!(
                "POST {path} HTTP/1.1\r\nHost: here\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
            )
        };
        client
            .write_all(start("/all").as_bytes())
            .await
            .expect("taken");
        assert!(head(&mut client).await.starts_with("HTTP/1.1 100 "));
        client.write_all(b"abc").await.expect("taken");
        assert!(head(&mut client).await.starts_with("HTTP/1.1 200 "));
        assert_eq!(client.read_u8().await.expect("the body"), b'3');

        client
            .write_all(start("/no").as_bytes())
            .await
            .expect("taken");
        let answer = head(&mut client).await;
        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    }

    #[tokio::test(start_paused = true)]
    async fn it_ends_in_any_case() {
        let started = tokio::time::Instant::now();
        let silent =
            Body::from_stream(futures_util::stream::pending::<Result<Bytes, axum::Error>>());
        discard(silent).await;
        assert_eq!(started.elapsed(), TIME_MAX);

        let piece = Bytes::from(vec![0; 1 << 20]);
        let (given, taken) = std::sync::mpsc::channel();
        let endless = futures_util::stream::repeat_with(move || {
            given.send(()).expect("the test listens");
            Ok::<_, axum::Error>(piece.clone())
        });
        discard(Body::from_stream(endless)).await;
        assert_eq!(taken.iter().count(), 129);
    }
}

//! Serves connections as axum does, but without waiting for ever for the head of a request: whoever sends a byte now and
//! then would hold a connection as long as it likes.

use std::{net::SocketAddr, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, Request},
    serve::Listener,
};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;
use tracing::debug;

/// How long the head of a request may take, from its first byte or from the end of the request before: an idle connection
/// is closed after this time as well.
pub const HEAD_MAX: Duration = Duration::from_secs(60);
/// How often the other end of an HTTP/2 connection is asked whether it is there, and how long it may take to answer.
const PING_EVERY: Duration = Duration::from_secs(20);

/// Serves until `stop`, and then until the requests that came before have been answered.
pub async fn serve<L>(mut listener: L, routes: Router, head_max: Duration, stop: CancellationToken)
where
    L: Listener<Addr = SocketAddr>,
{
    let connections = TaskTracker::new();
    loop {
        let (stream, address) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let connection = Connection {
            address,
            routes: routes.clone(),
            head_max,
            stop: stop.clone(),
        };
        connections.spawn(connection.serve(stream));
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

struct Connection {
    address: SocketAddr,
    routes: Router,
    head_max: Duration,
    stop: CancellationToken,
}

impl Connection {
    async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(self, stream: S) {
        let Self {
            address,
            routes,
            head_max,
            stop,
        } = self;
        let heard = CancellationToken::new();
        let is_heard = heard.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            heard.cancel();
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(ConnectInfo(address));
            routes.clone().oneshot(request)
        });
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(head_max);
        builder
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_EVERY)
            .enable_connect_protocol();
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        // The library's clock runs only once it knows which version of HTTP is spoken.
        let silence = async {
            tokio::time::sleep(head_max).await;
            if is_heard.is_cancelled() {
                std::future::pending::<()>().await;
            }
        };
        let mut silence = std::pin::pin!(silence);
        let mut is_stopping = false;
        loop {
            tokio::select! {
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        debug!(%error, client.address = %address, "A connection broke");
                    }
                    return;
                }
                () = &mut silence => return,
                () = stop.cancelled(), if !is_stopping => {
                    is_stopping = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use axum::routing::get;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
    };

    use super::*;

    const SHORT: Duration = Duration::from_millis(600);

    struct Server {
        address: SocketAddr,
        stop: CancellationToken,
        serving: tokio::task::JoinHandle<()>,
    }

    /// A server that answers with its client's port, at once or after a while.
    async fn server() -> Server {
        let port =
            |ConnectInfo(client): ConnectInfo<SocketAddr>| async move { client.port().to_string() };
        let slow = || async {
            tokio::time::sleep(SHORT * 3).await;
            "slow"
        };
        let routes = Router::new()
            .route("/", get(port))
            .route("/slow", get(slow));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let serving = tokio::spawn(serve(listener, routes, SHORT, stop.clone()));
        Server {
            address,
            stop,
            serving,
        }
    }

    /// What comes until the connection is closed.
    async fn rest(stream: &mut TcpStream) -> String {
        let mut text = Vec::new();
        // Reset instead of closed where something of ours was left unread.
        let _ = stream.read_to_end(&mut text).await;
        String::from_utf8(text).unwrap()
    }

    #[tokio::test]
    async fn whoever_dribbles_a_head_is_closed() {
        let server = server().await;
        for begin in [
            "G",
            "GET / HTTP/1.1\r\nHost: a\r\n",
            "PRI * HTTP/2.0\r\n",
            "",
        ] {
            let mut stream = TcpStream::connect(server.address).await.unwrap();
            let began = Instant::now();
            stream.write_all(begin.as_bytes()).await.unwrap();
            let (mut reading, mut writing) = stream.split();
            let dribble = async {
                loop {
                    tokio::time::sleep(SHORT / 10).await;
                    let byte = if begin.starts_with("GET") { "x" } else { "" };
                    if writing.write_all(byte.as_bytes()).await.is_err() {
                        std::future::pending::<()>().await;
                    }
                }
            };
            let mut answer = Vec::new();
            tokio::select! {
                // Reset, where it was sent more than it read.
                _ = reading.read_to_end(&mut answer) => {}
                () = dribble => {}
            }
            let took = began.elapsed();
            assert!(
                took >= SHORT - SHORT / 10 && took < SHORT * 6,
                "{begin:?}: {took:?}"
            );
            assert!(
                !String::from_utf8_lossy(&answer).contains("200 OK"),
                "{begin:?}"
            );
        }
    }

    #[tokio::test]
    async fn whoever_asks_is_answered_however_long_that_takes() {
        let server = server().await;
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let port = stream.local_addr().unwrap().port().to_string();
        let request = "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = vec![0; 15];
        stream.read_exact(&mut head).await.unwrap();
        assert_eq!(head, b"HTTP/1.1 200 OK");
        // The same connection takes another one.
        let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        let text = rest(&mut stream).await;
        assert!(text.contains("slow") && text.ends_with(&port), "{text}");
    }

    #[tokio::test]
    async fn what_was_asked_before_the_stop_is_answered() {
        let server = server().await;
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let request = "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        tokio::time::sleep(SHORT / 3).await;
        server.stop.cancel();
        let text = rest(&mut stream).await;
        assert!(text.contains("200 OK") && text.ends_with("slow"), "{text}");
        server.serving.await.unwrap();
        assert!(TcpStream::connect(server.address).await.is_err());
    }
}

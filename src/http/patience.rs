//! Gives up connections whose other end takes nothing any more: without this, whoever stops reading holds what waits to
//! be sent for as long as it likes, on its side for nothing.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::serve::Listener;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    time::{Sleep, sleep},
};

/// For how long the other end may take nothing while something waits. Each byte taken begins it anew.
const STALLED_MAX: Duration = Duration::from_secs(60);

/// Listens like the listener in it.
#[derive(Debug)]
pub struct Patient(pub TcpListener);

impl Listener for Patient {
    type Io = PatientStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let (stream, address) = Listener::accept(&mut self.0).await;
        (PatientStream::new(stream), address)
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.0.local_addr()
    }
}

/// A connection that fails when nothing was taken for a minute.
#[derive(Debug)]
pub struct PatientStream<S> {
    inner: S,
    /// Runs while something waits to be taken.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> PatientStream<S> {
    fn new(inner: S) -> Self {
        Self {
            inner,
            stalled: None,
        }
    }

    fn held<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let timer = self
            .stalled
            .get_or_insert_with(|| Box::pin(sleep(STALLED_MAX)));
        ready!(timer.as_mut().poll(context));
        metrics::counter!("orfeas_connections_stalled_total").increment(1);
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for PatientStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for PatientStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.held(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(context, slices);
        self.held(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, duplex},
        time::Instant,
    };

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_is_given_up() {
        let (here, _there) = duplex(4);
        let mut stream = PatientStream::new(here);
        let started = Instant::now();
        let failed = stream.write_all(b"12345").await.expect_err("nobody reads");
        assert_eq!(failed.kind(), io::ErrorKind::TimedOut);
        assert_eq!(started.elapsed(), STALLED_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_slowly_is_not() {
        let (here, mut there) = duplex(4);
        let mut stream = PatientStream::new(here);
        let started = Instant::now();
        let reader = tokio::spawn(async move {
            let mut taken = Vec::new();
            while taken.len() < 16 {
                sleep(STALLED_MAX * 9 / 10).await;
                taken.push(there.read_u8().await.expect("it is open"));
            }
            taken
        });
        stream
            .write_all(b"0123456789abcdef")
            .await
            .expect("somebody reads");
        assert_eq!(reader.await.expect("it ends"), b"0123456789abcdef");
        assert!(started.elapsed() > STALLED_MAX * 10);
    }
}

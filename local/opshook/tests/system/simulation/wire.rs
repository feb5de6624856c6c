//! The way from emit-retry to ops without a socket: hyper's client speaks HTTP over a pipe, at whose other end hyper's
//! server hands each request to ops.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, Response, Uri};
use futures_util::future::BoxFuture;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex};
use tokio::time::sleep;

use super::life::Life;
use super::world::World;

/// As much as a body may have and more.
const PIPE_BYTES: usize = 128 * 1024;
/// A server like ours closes a connection that is idle for this long.
const IDLE_LIMIT: Duration = Duration::from_secs(10);

/// Who is at the other end.
pub trait Peer: Send + Sync {
    /// Whether there is a connection; for ever, where nothing answers.
    fn connects<'a>(&'a self, life: &'a Life) -> BoxFuture<'a, io::Result<()>>;

    /// One request.
    fn serve(
        self: Arc<Self>,
        life: Arc<Life>,
        request: Request<Incoming>,
    ) -> BoxFuture<'static, io::Result<Response<Body>>>;
}

/// Makes the connections of one life of emit-retry.
#[derive(Clone)]
pub struct Wire {
    pub world: Arc<World>,
    pub ops: Arc<dyn Peer>,
    pub life: Arc<Life>,
}

impl tower::Service<Uri> for Wire {
    type Response = TokioIo<Pipe>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TokioIo<Pipe>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        Box::pin(self.clone().connect())
    }
}

impl Wire {
    async fn connect(self) -> io::Result<TokioIo<Pipe>> {
        self.life.go_on().await;
        sleep(Duration::from_millis(self.world.ops_chance.between(0..=3))).await;
        self.ops.connects(&self.life).await?;
        self.life.go_on().await;
        let (client, server) = duplex(PIPE_BYTES);
        let service = service_fn(move |request| self.ops.clone().serve(self.life.clone(), request));
        tokio::spawn(
            http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(IDLE_LIMIT)
                .serve_connection(TokioIo::new(server), service),
        );
        Ok(TokioIo::new(Pipe(client)))
    }
}

/// The client's end.
pub struct Pipe(DuplexStream);

impl Connection for Pipe {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for Pipe {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

//! A plain HTTP/1.1 server: every wait has a limit, and a stop finishes what was accepted.

use std::convert::Infallible;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use service::host::{Background, StartError, Stop};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

use crate::guard::Guard;

/// What a server allows. A function's own limits are tighter; these hold when those don't.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections at a time; more wait in the system's queue.
    pub connections: usize,
    /// Requests under way at a time; more are answered 503 `overloaded` at once, `/health` and `/metrics` excepted.
    pub requests: usize,
    /// How long the head of a request may take, and how long a connection may be idle before its next one.
    pub head: Duration,
    /// How long a request may take from its head to its answer, its body included; then 503 `overloaded`.
    pub request: Duration,
    /// How long a client may leave an answer unread before its connection is cut (by the kernel, on Linux).
    pub unread: Duration,
    /// How long a stop waits for the requests under way, and then for the background work.
    pub stop: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            requests: 256,
            head: Duration::from_secs(10),
            request: Duration::from_secs(15),
            unread: Duration::from_secs(30),
            stop: Duration::from_secs(10),
        }
    }
}

/// The largest head of a request, its request line and all headers. More is 431.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// The most headers of a request: more than proxies add, and bounded by the bytes anyhow. More is 431.
const MAX_HEADERS: usize = 1_024;

/// An idle connection gets this long after a stop: whoever sends a request at that moment is still answered, and told by
/// `Connection: close` to take another connection for the next.
const LAST_REQUEST: Duration = Duration::from_millis(250);

/// The pause after the system refused to give a connection, such as for want of file descriptors.
const ACCEPT_AGAIN: Duration = Duration::from_millis(200);

/// Why a server ended without having been told to.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ServeError {
    /// The work beside the requests ended, so the function does only half of what it should.
    #[error("its background work ended by itself; the log says why")]
    BackgroundEnded,
}

/// Takes an address to listen on; port 0 takes a free one. `setting` is what the user changes to choose another.
///
/// # Errors
///
/// [`StartError::Listen`] names the setting, the address and the reason.
pub async fn bind(address: SocketAddr, setting: &'static str) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|error| {
        let reason = match error.kind() {
            ErrorKind::AddrInUse => format!("the port is in use by another program; choose another with {setting}"),
            ErrorKind::AddrNotAvailable => "this machine has no such address".to_owned(),
            ErrorKind::PermissionDenied => "this user may not take that port".to_owned(),
            _ => error.to_string(),
        };
        StartError::Listen { setting, address, reason }
    })
}

/// Serves a function's router, with its background work beside it, until `stop`: then it accepts no more, finishes the
/// requests under way and waits for the background work, each within [`Limits::stop`]. The default [`Limits`] hold.
///
/// # Errors
///
/// [`ServeError`], when it had to end by itself.
pub async fn serve(
    name: &'static str,
    listener: TcpListener,
    router: Router,
    background: Option<Background>,
    stop: Stop,
) -> Result<(), ServeError> {
    serve_within(&Limits::default(), name, listener, router, background, stop).await
}

/// [`serve`], with other limits.
///
/// # Errors
///
/// As [`serve`].
pub async fn serve_within(
    limits: &Limits,
    name: &'static str,
    listener: TcpListener,
    router: Router,
    background: Option<Background>,
    stop: Stop,
) -> Result<(), ServeError> {
    let guard = Guard::new(name, router, limits);
    let address = listener.local_addr().map(|address| address.to_string()).unwrap_or_default();
    tracing::info!(function = name, address, "listening");
    let mut background = background.map(|background| tokio::spawn(background(stop.clone())));
    let mut connections = JoinSet::new();
    let outcome = tokio::select! {
        () = accept(limits, listener, guard, stop.clone(), &mut connections) => Ok(()),
        () = ended(background.as_mut()) => Err(ServeError::BackgroundEnded),
    };
    // A stop may have reached the background work first.
    let outcome = if *stop.borrow() || stop.has_changed().is_err() { Ok(()) } else { outcome };
    if outcome.is_err() {
        tracing::error!(function = name, "the background work ended by itself: stopping");
    }
    finish(limits, name, connections, background).await;
    tracing::info!(function = name, "stopped");
    outcome
}

/// Accepts connections until `stop`.
async fn accept(limits: &Limits, listener: TcpListener, guard: Guard, mut stop: Stop, connections: &mut JoinSet<()>) {
    let places = Arc::new(Semaphore::new(limits.connections));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits.head);
    http.max_buf_size(MAX_HEAD_BYTES).max_header_size(MAX_HEAD_BYTES).max_headers(MAX_HEADERS);
    // Who has sent all and closes its half still reads the answer.
    http.half_close(true);
    let stopping = stop.clone();
    let accepting = async {
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => {
                    prepare(&stream, limits);
                    let serving = Connection { guard: guard.clone(), http: http.clone(), _place: place };
                    connections.spawn(serving.run(stream, stopping.clone()));
                }
                Err(error) if is_of_the_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "no connection can be accepted at the moment");
                    sleep(ACCEPT_AGAIN).await;
                }
            }
            while connections.try_join_next().is_some() {}
        }
    };
    tokio::select! {
        () = accepting => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
}

/// Whether it was the client that went away, and the next connection may be fine.
fn is_of_the_connection(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::ConnectionRefused)
}

fn prepare(stream: &TcpStream, limits: &Limits) {
    // Both only make things better: an answer is one write, and what it says of the client is in no one's way.
    let _ = stream.set_nodelay(true);
    #[cfg(target_os = "linux")]
    let _ = socket2::SockRef::from(stream).set_tcp_user_timeout(Some(limits.unread));
}

struct Connection {
    guard: Guard,
    http: http1::Builder,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    async fn run(self, stream: TcpStream, mut stop: Stop) {
        let seen = AtomicBool::new(false);
        let stopping = stop.clone();
        let answer = service_fn(async |request: hyper::Request<Incoming>| {
            let mut response = self.guard.answer(request.map(Body::new), &seen).await;
            if *stopping.borrow() {
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response)
        });
        let mut connection = pin!(self.http.serve_connection(TokioIo::new(stream), answer));
        tokio::select! {
            // Its errors are the client's: it went away, was too slow, or speaks no HTTP.
            _ = connection.as_mut() => return,
            _ = stop.wait_for(|stop| *stop) => {}
        }
        tokio::select! {
            _ = connection.as_mut() => return,
            () = sleep(LAST_REQUEST) => {}
        }
        // Where none has come, hyper would wait for one for as long as its head may take.
        if seen.load(Ordering::Acquire) {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

/// Waits for what was begun, each part within the limit; what is left then is cut off.
async fn finish(limits: &Limits, name: &str, mut connections: JoinSet<()>, background: Option<JoinHandle<()>>) {
    let finished = timeout(limits.stop, async { while connections.join_next().await.is_some() {} }).await;
    if finished.is_err() {
        tracing::warn!(function = name, connections = connections.len(), "requests were cut off by the stop");
    }
    let Some(mut background) = background.filter(|background| !background.is_finished()) else { return };
    if timeout(limits.stop, &mut background).await.is_err() {
        tracing::warn!(function = name, "the background work was cut off by the stop");
        background.abort();
    }
}

/// Ends when the background work does; never, where there is none.
async fn ended(background: Option<&mut JoinHandle<()>>) {
    match background {
        Some(background) => {
            let _ = background.await;
        }
        None => std::future::pending().await,
    }
}

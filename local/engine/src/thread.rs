//! The engine's thread: a runtime of its own, so that no sync stalls a timer of the host's.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{oneshot, watch};
use tokio::time;

use crate::directory::{self, Lock};
use crate::server::{self, Shared};
use crate::{EngineError, Storage};

/// How long a stop waits for requests that are under way; together with [`LAST_WORK`] at most 5 s.
const FINISH_REQUESTS: Duration = Duration::from_secs(4);

/// How long a stop then waits for what SQLite is at.
const LAST_WORK: Duration = Duration::from_millis(900);

/// A connection with no request on it (never used, or half a head sent) is let go this long after the last answer.
const LAST_ANSWER: Duration = Duration::from_millis(250);

/// How often expired items are deleted, the first time a minute after the start.
const SWEEP_EVERY: Duration = Duration::from_secs(3600);
const FIRST_SWEEP: Duration = Duration::from_secs(60);

/// The embedded engine while it runs. Dropping it stops it too, without waiting for its end.
#[derive(Debug)]
pub struct Engine {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    ended: oneshot::Receiver<()>,
}

/// What the thread tells its starter: where it listens, or why it doesn't.
type Started = oneshot::Sender<Result<SocketAddr, EngineError>>;

impl Engine {
    /// Starts an engine on `storage` that listens on `listen`: loopback only, port 0 takes a free port. It answers from
    /// the moment that this returns.
    ///
    /// # Errors
    ///
    /// The directory can't be used or is another engine's, its database is damaged, or the address can't be listened
    /// on: see [`EngineError`].
    pub async fn start(storage: Storage, listen: SocketAddr) -> Result<Self, EngineError> {
        if !listen.ip().is_loopback() {
            return Err(EngineError::NotLoopback(listen));
        }
        let (started, starting) = oneshot::channel();
        let (ending, ended) = oneshot::channel();
        let (stop, stopping) = watch::channel(false);
        std::thread::Builder::new()
            .name("opshook-engine".into())
            .spawn(move || {
                run(&storage, listen, started, stopping);
                let _ = ending.send(());
            })
            .map_err(EngineError::Thread)?;
        match starting.await {
            Ok(Ok(address)) => Ok(Self { address, stop, ended }),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(EngineError::Thread(io::Error::other("its thread ended at once"))),
        }
    }

    /// Where it listens: the real port, where port 0 was asked for.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// Finishes the requests under way, at most 5 s, closes the database and lets the directory go.
    pub async fn stop(self) {
        let _ = self.stop.send(true);
        let _ = self.ended.await;
    }
}

/// The thread's whole life. When it returns, the database is closed and the directory free, unless SQLite is stuck.
fn run(storage: &Storage, listen: SocketAddr, started: Started, stopping: watch::Receiver<bool>) {
    // SQLite is behind one lock, so a second thread is enough to read one request while the other is being committed.
    let runtime = match Builder::new_current_thread().enable_io().enable_time().max_blocking_threads(2).build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = started.send(Err(EngineError::Thread(error)));
            return;
        }
    };
    match prepare(&runtime, storage, listen) {
        Ok((listener, address, shared)) => {
            if started.send(Ok(address)).is_ok() {
                runtime.block_on(serve(listener, shared, stopping));
            }
        }
        Err(error) => {
            let _ = started.send(Err(error));
        }
    }
    runtime.shutdown_timeout(LAST_WORK);
}

/// Lock, port, database, in this order: nothing is touched that is another engine's.
fn prepare(
    runtime: &Runtime,
    storage: &Storage,
    listen: SocketAddr,
) -> Result<(TcpListener, SocketAddr, Arc<Shared>), EngineError> {
    let lock: Option<Lock> = directory::lock(storage)?;
    let refused = |error: io::Error| EngineError::Listen { address: listen, reason: listen_reason(&error) };
    let listener = runtime.block_on(TcpListener::bind(listen)).map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?;
    let store = directory::open(lock, address)?;
    Ok((listener, address, Shared::new(store)))
}

fn listen_reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "the port is in use by another program".to_owned(),
        io::ErrorKind::PermissionDenied => "this user may not take that port".to_owned(),
        _ => error.to_string(),
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>, stopping: watch::Receiver<bool>) {
    let sweeper = tokio::spawn(sweep(Arc::clone(&shared), stopping.clone()));
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    let served = axum::serve(listener, server::router(Arc::clone(&shared)))
        .with_graceful_shutdown(stopped(stopping.clone()))
        .into_future();
    tokio::select! {
        _ = served => {}
        () = finished(&shared, stopping) => {}
    }
    let _ = time::timeout(LAST_WORK, sweeper).await;
}

/// Ends when the host says stop, or has dropped the [`Engine`].
async fn stopped(mut stopping: watch::Receiver<bool>) {
    let _ = stopping.wait_for(|stop| *stop).await;
}

/// Ends after a stop, when no request has been under way for a moment or the time for them is over: hyper waits for
/// connections on which nothing ever came, which may be for ever.
async fn finished(shared: &Shared, stopping: watch::Receiver<bool>) {
    stopped(stopping).await;
    let idle = async {
        loop {
            let was_idle = shared.in_flight() == 0;
            time::sleep(LAST_ANSWER).await;
            if was_idle && shared.in_flight() == 0 {
                return;
            }
        }
    };
    let _ = time::timeout(FINISH_REQUESTS, idle).await;
}

/// Deletes expired items each hour, and begins nothing after a stop.
async fn sweep(shared: Arc<Shared>, stopping: watch::Receiver<bool>) {
    let mut every = time::interval_at(time::Instant::now() + FIRST_SWEEP, SWEEP_EVERY);
    loop {
        tokio::select! {
            _ = every.tick() => {}
            () = stopped(stopping.clone()) => return,
        }
        let shared = Arc::clone(&shared);
        let _ = tokio::task::spawn_blocking(move || shared.sweep()).await;
    }
}

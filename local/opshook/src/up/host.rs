//! The three functions while they run, and the order in which they stop.

use adapter::server::{ServeError, serve};
use service::host::Service;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinHandle};

use super::Listeners;
use crate::outcome::Failure;

type Served = Result<Result<(), ServeError>, JoinError>;

/// A function on its port.
struct Host {
    name: &'static str,
    stop: watch::Sender<bool>,
    task: JoinHandle<Result<(), ServeError>>,
}

/// All three.
pub(crate) struct Hosts {
    receive: Host,
    query_events: Host,
    emit_retry: Host,
}

impl Host {
    fn start(service: Service, listener: TcpListener) -> Self {
        let (stop, stopping) = watch::channel(false);
        let Service { name, router, background, .. } = service;
        Self { name, stop, task: tokio::spawn(serve(name, listener, router, background, stopping)) }
    }

    async fn stop(self) {
        let _ = self.stop.send(true);
        // What it could say is in the log.
        if !self.task.is_finished() {
            let _ = self.task.await;
        }
    }
}

impl Hosts {
    pub(super) fn start([receive, query_events, emit_retry]: [Service; 3], listeners: Listeners) -> Self {
        Self {
            receive: Host::start(receive, listeners.receive),
            query_events: Host::start(query_events, listeners.query_events),
            emit_retry: Host::start(emit_retry, listeners.emit_retry),
        }
    }

    /// Waits until one of them ends by itself, and says which. None is told to before [`Hosts::stop`].
    pub(super) async fn ended(&mut self) -> Failure {
        let (name, served) = tokio::select! {
            served = &mut self.receive.task => (self.receive.name, served),
            served = &mut self.query_events.task => (self.query_events.name, served),
            served = &mut self.emit_retry.task => (self.emit_retry.name, served),
        };
        Failure::failed(format!("{name}: {}", reason(served)))
    }

    /// Stops emit-retry first, so that what it is delivering is still answered by the receive beside it.
    pub(super) async fn stop(self) {
        self.emit_retry.stop().await;
        tokio::join!(self.receive.stop(), self.query_events.stop());
    }
}

fn reason(served: Served) -> String {
    match served {
        Ok(Ok(())) => "it ended by itself; the log says why".to_owned(),
        Ok(Err(error)) => error.to_string(),
        Err(error) if error.is_panic() => "it failed, a fault of this program".to_owned(),
        Err(_) => "it was ended".to_owned(),
    }
}

//! SIGTERM and SIGINT.

use service::host::Stop;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// A [`Stop`] that SIGTERM or SIGINT sets. A second one ends the process at once, with status 143 or 130, for someone
/// who has waited long enough. Must be called within a runtime.
pub fn signals() -> Stop {
    let (sender, stop) = watch::channel(false);
    let (term, interrupt) = match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(term), Ok(interrupt)) => (term, interrupt),
        (Err(error), _) | (_, Err(error)) => {
            tracing::error!(%error, "signals can't be received: they end the process at once");
            // A sender that is gone would mean stop.
            tokio::spawn(async move { sender.closed().await });
            return stop;
        }
    };
    tokio::spawn(watch_signals(term, interrupt, sender));
    stop
}

async fn watch_signals(mut term: Signal, mut interrupt: Signal, sender: watch::Sender<bool>) {
    let mut next = async || {
        tokio::select! {
            _ = term.recv() => ("SIGTERM", 143),
            _ = interrupt.recv() => ("SIGINT", 130),
        }
    };
    let (signal, _) = next().await;
    tracing::info!(signal, "stopping");
    let _ = sender.send(true);
    let (_, status) = next().await;
    service::telemetry::flush();
    std::process::exit(status);
}

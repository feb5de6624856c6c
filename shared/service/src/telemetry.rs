//! Logs and metrics of the process.

use std::io::IsTerminal;
use std::sync::OnceLock;
use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

use crate::host::Environment;

/// Upper bounds of the latency histograms' buckets, in seconds.
const BUCKETS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];

/// Starts the log, to standard error: JSON lines, or text where `LOG_FORMAT=text`; filtered by `RUST_LOG` (`info`).
/// A second call does nothing.
///
/// # Errors
/// What is wrong with a setting, by name.
pub fn init(environment: &Environment) -> Result<(), String> {
    let level = environment.get("RUST_LOG").unwrap_or_else(|| "info".to_owned());
    let filter = EnvFilter::try_new(level)
        .map_err(|_| "RUST_LOG: must be levels as `info` or `info,emit_retry=debug`".to_owned())?;
    let format = environment.get("LOG_FORMAT").unwrap_or_else(|| "json".to_owned());
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match format.as_str() {
        "json" => builder.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init(),
        "text" => builder.with_ansi(std::io::stderr().is_terminal()).try_init(),
        _ => return Err("LOG_FORMAT: must be json or text".to_owned()),
    };
    // The only error is that the log has been started before.
    let _ = started;
    Ok(())
}

/// The process's metrics. Several functions in one process share them, each line labelled with its `function`.
pub(crate) fn metrics() -> &'static PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE.get_or_init(|| {
        let builder = PrometheusBuilder::new();
        // Fails only for an empty list of buckets.
        let builder = match builder.set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &BUCKETS) {
            Ok(builder) => builder,
            Err(_) => PrometheusBuilder::new(),
        };
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        // Fails only where the process has a recorder already; ours then answers with nothing.
        let _ = metrics::set_global_recorder(recorder);
        handle
    })
}

/// Folds what histograms gathered into their buckets every few seconds, or it would pile up while nobody reads
/// `/metrics`. Ends with the runtime.
pub(crate) fn keep_up() {
    static STARTED: OnceLock<()> = OnceLock::new();
    if STARTED.set(()).is_err() || tokio::runtime::Handle::try_current().is_err() {
        return;
    }
    tokio::spawn(async {
        let mut ticks = tokio::time::interval(Duration::from_secs(5));
        loop {
            ticks.tick().await;
            metrics().run_upkeep();
        }
    });
}

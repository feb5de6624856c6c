//! Logs and metrics of the process.

use std::fmt::Display;
use std::io::{self, IsTerminal};
use std::sync::OnceLock;
use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing::Level;
use tracing_subscriber::filter::{FilterExt, Targets, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

use crate::host::Environment;
use crate::stderr;

/// Upper bounds of the latency histograms' buckets, in seconds.
const BUCKETS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];

/// Starts the log, to standard error: JSON lines, or text where `LOG_FORMAT=text`; filtered by `RUST_LOG` (`info`).
/// A second call does nothing. Lines that nobody reads are dropped and counted; [`flush`] waits for those that are on their
/// way. On Lambda each is written before the next step, for the process may freeze after an answer.
///
/// # Errors
/// What is wrong with a setting, by name.
pub fn init(environment: &Environment) -> Result<(), String> {
    let level = environment.get("RUST_LOG").unwrap_or_else(|| "info".to_owned());
    let filter: Targets = level
        .parse()
        .ok()
        .filter(|_| level.split(',').all(|part| !part.trim().is_empty() && !part.starts_with('=')))
        .ok_or_else(|| "RUST_LOG: must be levels as `info` or `info,emit_retry=debug`".to_owned())?;
    let format = environment.get("LOG_FORMAT").unwrap_or_else(|| "json".to_owned());
    let write = if environment.on_lambda { stderr::write_now } else { stderr::write };
    // What is written here can't fail; the layer would tell of it by a macro that panics.
    let lines = fmt::layer().with_writer(move || Log(write)).log_internal_errors(false);
    let lines = match format.as_str() {
        "json" => lines.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed(),
        "text" => lines.with_ansi(io::stderr().is_terminal()).boxed(),
        _ => return Err("LOG_FORMAT: must be json or text".to_owned()),
    };
    // The SDK's trace lines hold whole requests and answers, the Lambda runtime's whole events, and so what is in `data`
    // (contract §6).
    let quotes = |target: &str| target.starts_with("aws_") || target.starts_with("lambda_");
    let quotes_nothing = filter_fn(move |line| !quotes(line.target()) || *line.level() <= Level::DEBUG);
    let started = tracing_subscriber::registry().with(lines.with_filter(filter.and(quotes_nothing))).try_init();
    // The only error is that the log has been started before.
    let _ = started;
    std::panic::set_hook(Box::new(tell_panic));
    Ok(())
}

/// A log line's way out.
struct Log(fn(&[u8]));

impl io::Write for Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        (self.0)(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Tells whoever started this process what is wrong, by a line on standard error. Nothing fails where nobody reads it.
pub fn complain(text: impl Display) {
    stderr::write(format!("{text}\n").as_bytes());
}

/// Waits until the log and the complaints are written. A process calls it before it ends. It takes at most 1 s where nobody
/// reads standard error, and at most 5 s where someone reads it slowly.
pub fn flush() {
    stderr::flush();
}

/// Prints lines to standard output in one write.
///
/// # Errors
/// When they can't be written: the disk is full, the reader has gone.
pub fn print(text: &str) -> io::Result<()> {
    use io::Write as _;
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Logs where a panic was, and not its text, which may quote what came from outside.
fn tell_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let at = panic.location().map(ToString::to_string);
    tracing::error!(at, "panicked");
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
    if tokio::runtime::Handle::try_current().is_err() || STARTED.set(()).is_err() {
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

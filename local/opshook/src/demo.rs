//! `opshook demo`: a sample onboarding on its real way, each step checked by reading it back over HTTP.
//!
//! - [`mod@sample`] does the steps and checks them; [`client`] asks the functions for it
//! - [`step`]: what a step is, and what it may have come to; as JSON with `--json`
//! - [`page`] shows it to a person; [`paint`] knows the terminal

mod client;
mod page;
mod paint;
mod sample;
mod step;

use std::time::Instant;

use serde::Serialize;
use service::host::Stop;

use crate::cli::DemoOptions;
use crate::outcome::{Failure, print_json};
use crate::up::{Addresses, Running};
use client::Client;
use page::Page;
use sample::Sample;
use step::{Report, Steps};

/// So that the log does not write into the page.
const QUIET_LOG: &[(&str, &str)] = &[("RUST_LOG", "warn"), ("LOG_FORMAT", "text")];

/// Starts everything, shows the sample, and stays up unless it is told `--once`.
pub(crate) async fn run(options: &DemoOptions) -> Result<(), Failure> {
    let mut stop = adapter::signals();
    let began = Instant::now();
    let mut view = View::new(options.up.json)?;
    let started = tokio::select! {
        started = Running::start(&options.up, QUIET_LOG, |what| view.progress(what)) => started,
        _ = stop.wait_for(|stop| *stop) => Err(Failure::failed("stopped before it was started")),
    };
    view.progress("");
    let running = started?;
    let shown = sample(options, &running, &mut view, began, stop.clone()).await;
    match shown {
        Ok(all_held) if !options.once => {
            running.until(stop).await?;
            view.stopped();
            all_held
        }
        Ok(all_held) => {
            running.stop().await;
            all_held
        }
        Err(failure) => {
            running.stop().await;
            Err(failure)
        }
    }
}

/// Takes the steps and shows them. The outer result is whether that could be done, the inner one whether each step
/// happened as promised.
async fn sample(
    options: &DemoOptions,
    running: &Running,
    view: &mut View,
    began: Instant,
    mut stop: Stop,
) -> Result<Result<(), Failure>, Failure> {
    view.started(running, milliseconds(began))?;
    let sample = Sample::new(Client::new(running)?)?;
    let began = Instant::now();
    let mut steps = Steps::new(|report: &Report| view.step(report));
    let done = tokio::select! {
        done = sample.run(&mut steps) => done,
        _ = stop.wait_for(|stop| *stop) => Err(Failure::failed("stopped before the sample was over")),
    };
    let summary = steps.summary(&sample, milliseconds(began));
    done?;
    view.end(options, running, &sample, &summary)?;
    match summary.failed {
        0 => Ok(Ok(())),
        failed => Ok(Err(Failure::failed(format!("{failed} of {} steps did not happen as promised", Steps::COUNT)))),
    }
}

fn milliseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// The first line of JSON.
#[derive(Serialize)]
struct Started<'a> {
    step: &'static str,
    ok: bool,
    ms: u64,
    #[serde(flatten)]
    addresses: &'a Addresses,
}

/// For whom it is shown.
enum View {
    Json,
    Page(Page),
}

impl View {
    fn new(json: bool) -> Result<Self, Failure> {
        if json {
            return Ok(Self::Json);
        }
        let page = Page::of_this_terminal();
        page.title()?;
        Ok(Self::Page(page))
    }

    fn progress(&self, what: &str) {
        if let Self::Page(page) = self {
            page.progress(what);
        }
    }

    fn started(&self, running: &Running, ms: u64) -> Result<(), Failure> {
        match self {
            Self::Json => print_json(&Started { step: "started", ok: true, ms, addresses: &running.addresses }),
            Self::Page(page) => page.started(running, ms),
        }
    }

    fn stopped(&self) {
        if let Self::Page(page) = self {
            page.stopped();
        }
    }

    fn step(&self, report: &Report) -> Result<(), Failure> {
        match self {
            Self::Json => print_json(report),
            Self::Page(page) => page.step(report),
        }
    }

    fn end(
        &self,
        options: &DemoOptions,
        running: &Running,
        sample: &Sample,
        summary: &step::Summary,
    ) -> Result<(), Failure> {
        match self {
            Self::Json => print_json(summary),
            Self::Page(page) => page.end(options, running, sample, summary),
        }
    }
}

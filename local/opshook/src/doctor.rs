//! `opshook doctor`: looks at a host, and says what to do about each fault. It changes nothing.
//!
//! - [`options`]: what it is asked for
//! - [`host`]: the functions of the host and the settings of each; [`env_file`]: files as systemd reads them
//! - [`settings`], [`server`], [`tables`], [`ops`], [`outbox`], [`disk`]: one kind of check each
//! - [`finding`]: what a check says

mod disk;
mod env_file;
mod finding;
mod host;
mod ops;
mod options;
mod outbox;
mod server;
mod settings;
mod tables;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use store::Store;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::outcome::{Failure, print, print_json};
use finding::{Finding, Status};
use host::{Config, Function, Host};
pub(crate) use options::{DoctorOptions, HELP};

/// What a check may take.
const LIMIT: Duration = Duration::from_secs(5);

#[derive(Serialize)]
struct Report<'a> {
    ok: bool,
    failed: usize,
    warned: usize,
    checks: &'a [Finding],
}

/// Looks, and prints what it saw.
pub(crate) async fn run(options: &DoctorOptions) -> Result<(), Failure> {
    let findings = look(Host::read(options)?).await;
    let count = |status| findings.iter().filter(|finding| finding.status == status).count();
    let (failed, warned) = (count(Status::Fail), count(Status::Warn));
    if options.json {
        print_json(&Report { ok: failed == 0, failed, warned, checks: &findings })?;
    } else {
        let width = findings.iter().map(|finding| finding.check.len()).max().unwrap_or(0);
        let lines = findings.iter().map(|finding| format!("{}\n", finding.line(width)));
        print(&lines.collect::<String>())?;
    }
    if failed == 0 {
        return Ok(());
    }
    Err(Failure::failed(format!("{failed} of {} checks failed", findings.len())))
}

/// All checks, those that wait for others at the same time; told in the order in which they are mended best.
async fn look(host: Host) -> Vec<Finding> {
    let mut findings = settings::check(&host);
    findings.extend(host.data_dir.as_deref().map(disk::check));
    let mut waiting: Vec<Task> = Vec::new();
    for function in &host.functions {
        waiting.extend(of_function(function));
    }
    waiting.extend(of_both(&host));
    for task in waiting {
        findings.extend(task.await.unwrap_or_else(|_| {
            vec![Finding::fail("doctor", "a check broke off, a fault of this program", "tell its makers")]
        }));
    }
    findings
}

type Task = JoinHandle<Vec<Finding>>;

/// The checks of one function, where its settings can be read.
fn of_function(function: &Arc<Function>) -> Vec<Task> {
    let Ok(config) = &function.config else { return Vec::new() };
    let name = function.name;
    let of_tables = Arc::clone(function);
    let of_server = Arc::clone(function);
    let mut tasks = vec![
        tokio::spawn(within(format!("{name} tables"), async move { tables::check(&of_tables).await })),
        tokio::spawn(within(format!("{name} server"), async move { server::check(&of_server).await })),
    ];
    if let Config::EmitRetry(config) = config {
        let config = Arc::clone(config);
        let (outbox, listen, has_token) = (Store::connect(&config.store), config.listen, config.tokens.is_some());
        tasks.push(tokio::spawn(async move { ops::check(config.endpoint.as_ref()).await }));
        let look = async move { outbox::check(&outbox, listen, has_token, Timestamp::now()).await };
        tasks.push(tokio::spawn(within("outbox".to_owned(), look)));
    }
    tasks
}

/// What the two functions of ops must have in common.
fn of_both(host: &Host) -> Option<Task> {
    let config = |name| host.function(name).and_then(|function| function.config.as_ref().ok());
    let (receive, query_events) = (config(receive::NAME)?.store().clone(), config(query_events::NAME)?.store().clone());
    let look = async move { tables::same(&receive, &query_events).await };
    Some(tokio::spawn(within("same tables".to_owned(), look)))
}

/// A check within its limit of time.
async fn within(check: String, look: impl Future<Output = Vec<Finding>>) -> Vec<Finding> {
    timeout(LIMIT, look).await.unwrap_or_else(|_| {
        let saw = format!("no answer within {} s", LIMIT.as_secs());
        vec![Finding::fail(check, saw, "see whether that program hangs, and restart it")]
    })
}

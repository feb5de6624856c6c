//! `opshook up`: the three functions and the embedded engine in this process.
//!
//! The order matters. The engine first, for its lock says who else uses the directory; then the ports, so that
//! emit-retry can be told where receive is; then the functions. They stop the other way round.

mod environment;
mod host;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use ::engine::{Engine, Storage};
use adapter::server::bind;
use reqwest::Url;
use serde::Serialize;
use service::host::{Environment, Service, StartError, Stop};
use service::telemetry;
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep};

use crate::cli::UpOptions;
use crate::http::Http;
use crate::outcome::{Failure, engine_failure, print, print_json};
use crate::settings_file::SettingsFile;
use crate::tables::{self, ENDPOINT};
pub(crate) use environment::{Places, environment_of, reached_at};
use host::Hosts;

/// How long the functions may take to be ready: on AWS, tables that were just made take a while.
const READY_LIMIT: Duration = Duration::from_secs(30);

/// Where everything is, as it is printed.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Addresses {
    pub(crate) receive: String,
    pub(crate) query_events: String,
    pub(crate) emit_retry: String,
    pub(crate) dynamodb: String,
    #[serde(rename = "data_dir")]
    pub(crate) data_dir: String,
    /// The file with what was made; none where the environment has it all.
    pub(crate) settings: Option<String>,
}

/// All that runs.
pub(crate) struct Running {
    pub(crate) addresses: Addresses,
    /// Where the functions can be asked from this machine.
    pub(crate) places: Places,
    /// The settings that all of them share.
    pub(crate) environment: Environment,
    hosts: Hosts,
    engine: Option<Engine>,
}

/// Runs until SIGTERM or Ctrl-C.
pub(crate) async fn run(options: &UpOptions) -> Result<(), Failure> {
    let mut stop = adapter::signals();
    let started = tokio::select! {
        started = Running::start(options, &[], |_| {}) => started?,
        _ = stop.wait_for(|stop| *stop) => return Ok(()),
    };
    let addresses = &started.addresses;
    // Nobody reading them is no reason to stop.
    let _ = if options.json { print_json(addresses) } else { print(&addresses.lines()) };
    started.until(stop).await
}

impl Addresses {
    fn lines(&self) -> String {
        let Self { receive, query_events, emit_retry, dynamodb, .. } = self;
        let mut lines =
            format!("receive {receive}\nquery-events {query_events}\nemit-retry {emit_retry}\ndynamodb {dynamodb}\n");
        if let Some(settings) = &self.settings {
            lines.push_str(&format!("settings {settings}\n"));
        }
        lines
    }
}

impl Running {
    /// Starts everything, and returns when all three functions are ready. `defaults` stand in for settings that are
    /// nowhere; `progress` hears what comes next.
    pub(crate) async fn start(
        options: &UpOptions,
        defaults: &'static [(&'static str, &'static str)],
        progress: impl Fn(&str),
    ) -> Result<Self, Failure> {
        let environment = with_defaults(SettingsFile::read(&options.data_dir)?.environment(), defaults);
        let log = telemetry::init(&environment);
        let external = environment.get(ENDPOINT);
        let engine = match external {
            Some(_) => None,
            None => {
                progress("starting the embedded engine");
                let storage = Storage::Directory(options.data_dir.clone());
                let started = Engine::start(storage, options.dynamodb_addr).await;
                Some(started.map_err(|error| engine_failure("--dynamodb-addr", error))?)
            }
        };
        let address = engine.as_ref().map(Engine::addr);
        match functions(options, defaults, address, log.err(), progress).await {
            Ok((addresses, places, environment, hosts)) => Ok(Self { addresses, places, environment, hosts, engine }),
            Err(failure) => {
                if let Some(engine) = engine {
                    engine.stop().await;
                }
                Err(failure)
            }
        }
    }

    /// Runs until `stop`, and stops; a failure when a function ended by itself.
    pub(crate) async fn until(mut self, mut stop: Stop) -> Result<(), Failure> {
        let outcome = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => Ok(()),
            failure = self.hosts.ended() => Err(failure),
        };
        self.stop().await;
        outcome
    }

    /// Stops the functions, then the engine under them.
    pub(crate) async fn stop(self) {
        self.hosts.stop().await;
        if let Some(engine) = self.engine {
            engine.stop().await;
        }
    }
}

fn with_defaults(environment: Environment, defaults: &'static [(&'static str, &'static str)]) -> Environment {
    Environment::from_fn(move |name| {
        let default = || defaults.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        environment.get(name).or_else(default)
    })
}

type Functions = (Addresses, Places, Environment, Hosts);

/// Starts the functions on a DynamoDB that is there: the embedded engine at `engine`, or the one that the settings name.
async fn functions(
    options: &UpOptions,
    defaults: &'static [(&'static str, &'static str)],
    engine: Option<SocketAddr>,
    log_fault: Option<String>,
    progress: impl Fn(&str),
) -> Result<Functions, Failure> {
    let file = SettingsFile::read_or_make(&options.data_dir)?;
    let environment = with_defaults(file.environment(), defaults);
    let listeners = Listeners::bind(options).await?;
    let places = listeners.places(engine)?;
    let services = services(&environment, &places, log_fault.into_iter().collect()).await?;
    progress("making the tables");
    let store = environment_of("receive", &environment, &places);
    tables::create(&store).await?;
    progress("starting the functions");
    let addresses = Addresses {
        receive: format!("http://{}", places.receive),
        query_events: format!("http://{}", places.query_events),
        emit_retry: format!("http://{}", places.emit_retry),
        dynamodb: store.get(ENDPOINT).as_deref().map(without_password).unwrap_or_default(),
        data_dir: shown(&options.data_dir),
        settings: file.path().map(shown),
    };
    let hosts = Hosts::start(services, listeners);
    if let Err(failure) = ready(&places).await {
        hosts.stop().await;
        return Err(failure);
    }
    Ok((addresses, places, environment, hosts))
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// An endpoint may have a password in it, which is not for printing.
pub(crate) fn without_password(endpoint: &str) -> String {
    match Url::parse(endpoint) {
        Ok(mut url) if url.password().is_some() || !url.username().is_empty() => {
            let _ = url.set_username("").and_then(|()| url.set_password(None));
            url.to_string()
        }
        _ => endpoint.to_owned(),
    }
}

/// The ports of the functions, taken before any of them starts.
struct Listeners {
    receive: TcpListener,
    query_events: TcpListener,
    emit_retry: TcpListener,
}

impl Listeners {
    async fn bind(options: &UpOptions) -> Result<Self, Failure> {
        Ok(Self {
            receive: bind(options.receive_addr, "--receive-addr").await?,
            query_events: bind(options.query_addr, "--query-addr").await?,
            emit_retry: bind(options.emit_addr, "--emit-addr").await?,
        })
    }

    fn places(&self, engine: Option<SocketAddr>) -> Result<Places, Failure> {
        let address = |listener: &TcpListener| listener.local_addr().map_err(Failure::failed);
        Ok(Places {
            receive: address(&self.receive)?,
            query_events: address(&self.query_events)?,
            emit_retry: address(&self.emit_retry)?,
            engine,
        })
    }
}

/// The three functions, or everything that is wrong with the settings of any of them, after the `faults` that are known.
async fn services(environment: &Environment, places: &Places, faults: Vec<String>) -> Result<[Service; 3], Failure> {
    let receive = receive::start(&environment_of("receive", environment, places)).await;
    let query_events = query_events::start(&environment_of("query-events", environment, places)).await;
    let emit_retry = emit_retry::start(&environment_of("emit-retry", environment, places)).await;
    match (receive, query_events, emit_retry) {
        (Ok(receive), Ok(query_events), Ok(emit_retry)) if faults.is_empty() => Ok([receive, query_events, emit_retry]),
        (receive, query_events, emit_retry) => {
            let mut lines = faults;
            let mut status = 2;
            let errors = [
                ("--receive-addr", receive.err()),
                ("--query-addr", query_events.err()),
                ("--emit-addr", emit_retry.err()),
            ];
            for (option, error) in errors.into_iter().filter_map(|(option, error)| Some((option, error?))) {
                if !matches!(error, StartError::Settings(_)) {
                    status = error.exit_status();
                }
                for line in error.to_string().lines() {
                    // What all three read is wrong in all three, and said once.
                    let line = line.replace("LISTEN_ADDR", option);
                    if !lines.contains(&line) {
                        lines.push(line);
                    }
                }
            }
            Err(Failure { status, text: lines.join("\n") })
        }
    }
}

/// Asks each function until it says that it is ready.
async fn ready(places: &Places) -> Result<(), Failure> {
    let deadline = Instant::now() + READY_LIMIT;
    for (name, base) in places.functions() {
        let url = places.url(base, "/ready")?;
        let http = Http::new(&url)?;
        loop {
            let answer = http.get(&url, None).await?;
            if answer.is_success() {
                break;
            }
            if Instant::now() >= deadline {
                let value = answer.value();
                let detail = value["detail"].as_str().unwrap_or("it does not say why");
                return Err(Failure::failed(format!("{name} is not ready: {detail}")));
            }
            sleep(Duration::from_millis(50)).await;
        }
    }
    Ok(())
}

//! `opshook tables create`, and the tables that `up` makes.

use std::io;
use std::time::Duration;

use reqwest::Url;
use serde::Serialize;
use service::host::Environment;
use service::settings::Reader;
use store::tables::Made;
use store::{Store, StoreConfig};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::outcome::{Failure, print_json, print_line};

/// Where DynamoDB is; without it `up` embeds one.
pub(crate) const ENDPOINT: &str = "AWS_ENDPOINT_URL_DYNAMODB";

/// How long an engine that is just starting is waited for.
const START_LIMIT: Duration = Duration::from_secs(3);
const CONNECT_LIMIT: Duration = Duration::from_secs(1);
const LOOK_AGAIN: Duration = Duration::from_millis(100);

#[derive(Serialize)]
struct Tables<'a> {
    tables: Vec<Line<'a>>,
}

#[derive(Serialize)]
struct Line<'a> {
    name: &'a str,
    created: bool,
}

/// Makes the tables at the endpoint that the environment names.
pub(crate) async fn run(as_json: bool) -> Result<(), Failure> {
    let made = create(&Environment::process()).await?;
    if as_json {
        let lines = made.iter().map(|table| Line { name: &table.name, created: table.created });
        return print_json(&Tables { tables: lines.collect() });
    }
    let width = made.iter().map(|table| table.name.len()).max().unwrap_or(0);
    for table in &made {
        let what = if table.created { "created" } else { "already there" };
        print_line(format!("{:width$}  {what}", table.name))?;
    }
    Ok(())
}

/// Makes the tables that are missing, and checks those that are there.
///
/// # Errors
///
/// Wrong settings, all at once; no DynamoDB where they say; or what it says.
pub(crate) async fn create(environment: &Environment) -> Result<Vec<Made>, Failure> {
    let mut settings = Reader::new(environment);
    let prefix = settings.table_prefix();
    let config = settings.gathered(StoreConfig::from_lookup(prefix, |name| environment.get(name)));
    let config = settings.finish_with(config, |config| config).map_err(Failure::usage)?;
    if let Some(endpoint) = config.endpoint().and_then(|endpoint| Url::parse(endpoint).ok()) {
        wait_for(&endpoint).await?;
    }
    Ok(Store::connect(&config).create_tables(store::tables::ALL).await?)
}

/// Waits until something listens there. The store would try for much longer, and say less.
async fn wait_for(endpoint: &Url) -> Result<(), Failure> {
    let host = endpoint.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let port = endpoint.port_or_known_default().unwrap_or(80);
    let deadline = Instant::now() + START_LIMIT;
    loop {
        let connected = timeout(CONNECT_LIMIT, TcpStream::connect((host, port))).await;
        match connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() >= deadline => {
                return Err(Failure::failed(format!("{ENDPOINT}: no DynamoDB at {host}:{port}: {error}")));
            }
            Err(_) => sleep(LOOK_AGAIN).await,
        }
    }
}

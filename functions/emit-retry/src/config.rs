//! emit-retry's settings (contract §7).

use std::net::{IpAddr, SocketAddr};

use contract::signature::Secrets;
use service::auth::Tokens;
use service::host::Environment;
use service::hosts::Hosts;
use service::settings::{Reader, SettingsError};
use store::StoreConfig;
use url::{Host, Url};

use crate::schedule::Schedule;

/// emit-retry's settings.
#[derive(Debug, Clone)]
pub struct Config {
    /// `LISTEN_ADDR`
    pub listen: SocketAddr,
    /// Where messages go; none where `OPS_WEBHOOK_ENABLED=false`.
    pub endpoint: Option<Endpoint>,
    /// How they are delivered.
    pub delivery: Delivery,
    /// `EMIT_API_TOKEN`: any of them lets a caller in; none lets in who asks for loopback or one of `hosts`.
    pub tokens: Option<Tokens>,
    /// `ALLOWED_HOSTS`
    pub hosts: Hosts,
    /// Where DynamoDB is.
    pub store: StoreConfig,
}

/// Where messages go.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// `OPS_WEBHOOK_URL`
    pub url: Url,
    /// `OPS_WEBHOOK_SECRET`: all of them sign.
    pub secrets: Secrets,
}

/// How messages are delivered.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// `OPS_WEBHOOK_RETRY_SCHEDULE`
    pub schedule: Schedule,
    /// `OUTBOX_RETENTION_DAYS`: how long a delivered message is kept.
    pub retention_days: u32,
    /// How many dispatchers may run at once and share what the endpoint takes, as far as that is known.
    pub dispatchers: u32,
}

impl Config {
    /// Reads them.
    ///
    /// # Errors
    /// All that are missing or wrong.
    pub fn read(environment: &Environment) -> Result<Self, SettingsError> {
        let mut reader = Reader::new(environment);
        let listen = reader.listen_addr(SocketAddr::from(([127, 0, 0, 1], 8082)));
        let enabled = reader.flag("OPS_WEBHOOK_ENABLED", true);
        let endpoint = if enabled { read_endpoint(&mut reader) } else { None };
        let schedule = reader.parsed("OPS_WEBHOOK_RETRY_SCHEDULE", Schedule::default(), Schedule::parse);
        let retention_days = reader.days("OUTBOX_RETENTION_DAYS", 30, 8..=36_500);
        let tokens = reader.tokens("EMIT_API_TOKEN");
        if reader.text("EMIT_API_TOKEN").is_none() && !reader.is_loopback(listen) {
            reader.fault("EMIT_API_TOKEN", "is required unless LISTEN_ADDR is on loopback, and always on Lambda");
        }
        let hosts = reader.parsed("ALLOWED_HOSTS", Hosts::default(), Hosts::parse);
        let table_prefix = reader.table_prefix();
        let store = reader.gathered(StoreConfig::from_lookup(table_prefix, |name| environment.get(name)));
        reader.finish_with(store, |store| Self {
            listen,
            endpoint,
            delivery: Delivery { schedule, retention_days, dispatchers: 1 },
            tokens,
            hosts,
            store,
        })
    }
}

fn read_endpoint(reader: &mut Reader<'_>) -> Option<Endpoint> {
    let url = reader.parsed("OPS_WEBHOOK_URL", None, |text| parse_url(text).map(Some));
    if reader.text("OPS_WEBHOOK_URL").is_none() {
        reader.fault("OPS_WEBHOOK_URL", "is required, unless OPS_WEBHOOK_ENABLED=false: where receive takes webhooks");
    }
    let towards_loopback = url.as_ref().is_none_or(is_loopback);
    let secrets = reader.secrets("OPS_WEBHOOK_SECRET", towards_loopback);
    Some(Endpoint { url: url?, secrets: secrets? })
}

fn parse_url(text: &str) -> Result<Url, String> {
    let wanted = "must be an http or https URL, such as http://127.0.0.1:8080/api/v1/webhooks/onboard";
    let url = Url::parse(text).map_err(|_| wanted.to_owned())?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err(wanted.to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must hold no user and no password: the signature is what tells who sends".to_owned());
    }
    Ok(url)
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::V6(address).to_canonical().is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

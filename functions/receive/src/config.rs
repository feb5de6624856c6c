//! receive's settings (contract §7).

use std::collections::BTreeSet;
use std::net::SocketAddr;

use contract::event::EventName;
use contract::signature::Secrets;
use service::host::Environment;
use service::settings::{Reader, SettingsError};
use store::StoreConfig;

/// receive's settings.
#[derive(Debug, Clone)]
pub struct Config {
    /// `LISTEN_ADDR`
    pub listen: SocketAddr,
    /// `WEBHOOK_SECRET`: any of them signs.
    pub secrets: Secrets,
    /// `TICKET_EVENTS`: the events that open a ticket.
    pub ticket_events: BTreeSet<EventName>,
    /// `EVENT_RETENTION_DAYS`
    pub retention_days: u32,
    /// Where DynamoDB is.
    pub store: StoreConfig,
}

impl Config {
    /// Reads them.
    ///
    /// # Errors
    /// All that are missing or wrong.
    pub fn read(environment: &Environment) -> Result<Self, SettingsError> {
        let mut reader = Reader::new(environment);
        let listen = reader.listen_addr(SocketAddr::from(([127, 0, 0, 1], 8080)));
        let local = reader.is_loopback(listen);
        let secrets = reader.secrets("WEBHOOK_SECRET", local);
        let default = EventName::parse("account.created").into_iter().collect();
        let ticket_events = reader.parsed("TICKET_EVENTS", default, parse_events);
        let retention_days = reader.days("EVENT_RETENTION_DAYS", 400, 1..=36_500);
        let table_prefix = reader.table_prefix();
        let store = reader.gathered(StoreConfig::from_lookup(table_prefix, |name| environment.get(name)));
        reader.finish_with(secrets.zip(store), |(secrets, store)| Self {
            listen,
            secrets,
            ticket_events,
            retention_days,
            store,
        })
    }
}

fn parse_events(text: &str) -> Result<BTreeSet<EventName>, String> {
    let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
    let names = names
        .map(|name| EventName::parse(name).map_err(|fault| format!("an event's name {fault}")))
        .collect::<Result<BTreeSet<_>, _>>()?;
    if names.is_empty() { Err("must name an event, such as account.created".to_owned()) } else { Ok(names) }
}

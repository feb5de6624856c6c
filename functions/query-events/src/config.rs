//! query-events's settings (contract §7).

use std::net::SocketAddr;

use service::auth::{LEAST_TOKEN_LENGTH, Tokens};
use service::host::Environment;
use service::settings::{Reader, SettingsError};
use store::StoreConfig;

/// query-events's settings.
#[derive(Debug, Clone)]
pub struct Config {
    /// `LISTEN_ADDR`
    pub listen: SocketAddr,
    /// `OPS_API_TOKEN`: any of them lets a caller in.
    pub tokens: Tokens,
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
        let listen = reader.listen_addr(SocketAddr::from(([127, 0, 0, 1], 8081)));
        if reader.text("OPS_API_TOKEN").is_none() {
            let needed = format!("is required: one or more tokens of at least {LEAST_TOKEN_LENGTH} characters");
            reader.fault("OPS_API_TOKEN", needed);
        }
        let tokens = reader.tokens("OPS_API_TOKEN");
        let table_prefix = reader.table_prefix();
        let store = reader.gathered(StoreConfig::from_lookup(table_prefix, |name| environment.get(name)));
        reader.finish_with(tokens.zip(store), |(tokens, store)| Self { listen, tokens, store })
    }
}

//! The connection to DynamoDB: Amazon's, DynamoDB Local, or the embedded engine, all by the same protocol.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::retry::{RetryConfig, RetryPartition, TokenBucket};
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::config::{BehaviorVersion, Region, SharedHttpClient};
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use http_client::{Client as HttpClient, RootCertStore, native_roots};
use tokio::time::Instant;
use url::Url;

use crate::connector::Connector;
use crate::error::{StoreError, from_sdk};

/// A connection attempt may take this long.
const CONNECT_LIMIT: Duration = Duration::from_millis(500);
/// One try of a call may take this long; then the next may still have time.
const TRY_LIMIT: Duration = Duration::from_millis(1_100);
/// The first wait between tries, doubled each time, with full jitter.
const FIRST_BACKOFF: Duration = Duration::from_millis(25);
const MAX_BACKOFF: Duration = Duration::from_millis(300);
/// The deadline ends the tries; this only keeps a loop from being endless.
const MAX_TRIES: u32 = 100;

/// When a request has to have its answer. Every call made for it ends by then.
#[derive(Debug, Clone, Copy)]
pub struct Deadline(Instant);

impl Deadline {
    /// What a write has, so that its caller gets a 503 within 2 s.
    pub fn for_write() -> Self {
        Self::within(Duration::from_millis(1_800))
    }

    /// What a page has: it makes more calls than a write.
    pub fn for_page() -> Self {
        Self::within(Duration::from_secs(6))
    }

    /// `time` from now.
    pub fn within(time: Duration) -> Self {
        Self(Instant::now() + time)
    }

    /// A sooner one, that leaves a third of the time for what comes after.
    pub(crate) fn sooner(self) -> Self {
        let now = Instant::now();
        Self(now + self.0.saturating_duration_since(now) * 2 / 3)
    }

    /// Waits a moment before something is tried again; an error when there is no time left for that.
    pub(crate) async fn pause(self) -> Result<(), ()> {
        self.back_off(0).await
    }

    /// The same, twice as long with each round.
    pub(crate) async fn back_off(self, round: u32) -> Result<(), ()> {
        let least = FIRST_BACKOFF.saturating_mul(2_u32.saturating_pow(round)).min(MAX_BACKOFF);
        let wait = least.mul_f64(1.0 + fastrand::f64());
        if Instant::now() + wait > self.0 {
            return Err(());
        }
        tokio::time::sleep(wait).await;
        Ok(())
    }
}

/// Where DynamoDB is and what the tables are called.
#[derive(Clone)]
pub struct StoreConfig {
    table_prefix: String,
    /// Absent means Amazon's, by the region.
    endpoint: Option<String>,
    region: String,
    credentials: Credentials,
    http: HttpClient,
}

/// The settings that are missing or wrong, each with what would be right.
pub type Faults = Vec<(&'static str, String)>;

impl StoreConfig {
    /// Reads the SDK's own names from `lookup`: `AWS_ENDPOINT_URL_DYNAMODB`, `AWS_REGION`, `AWS_ACCESS_KEY_ID`,
    /// `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`. Profiles and instance roles are not looked up: that would make each
    /// function's binary a sixth larger, and on Lambda the environment has it all.
    ///
    /// # Errors
    /// All that are missing or wrong.
    pub fn from_lookup(table_prefix: String, lookup: impl Fn(&str) -> Option<String>) -> Result<Self, Faults> {
        let mut faults = Faults::new();
        let endpoint = lookup("AWS_ENDPOINT_URL_DYNAMODB").or_else(|| lookup("AWS_ENDPOINT_URL"));
        // As `url` writes it, for it reads more than the SDK does, such as spaces around it.
        let http = |text: &String| {
            let url = Url::parse(text).ok()?;
            (matches!(url.scheme(), "http" | "https") && url.has_host()).then(|| url.to_string())
        };
        let url = endpoint.as_ref().and_then(http);
        if endpoint.is_some() && url.is_none() {
            let needed = "must be an http or https URL, such as http://127.0.0.1:8000".to_owned();
            faults.push(("AWS_ENDPOINT_URL_DYNAMODB", needed));
        }
        let mut required = |name: &'static str, value: Option<String>| {
            if value.is_none() {
                faults.push((name, "is required (for DynamoDB Local any value will do)".to_owned()));
            }
            value.unwrap_or_default()
        };
        let region = required("AWS_REGION", lookup("AWS_REGION").or_else(|| lookup("AWS_DEFAULT_REGION")));
        let id = required("AWS_ACCESS_KEY_ID", lookup("AWS_ACCESS_KEY_ID"));
        let secret = required("AWS_SECRET_ACCESS_KEY", lookup("AWS_SECRET_ACCESS_KEY"));
        // Loading the roots for TLS takes milliseconds of each start, so a plain endpoint goes without.
        let is_plain = url.as_deref().is_some_and(|url| url.starts_with("http://"));
        let roots = if is_plain { RootCertStore::empty() } else { native_roots() };
        let http = HttpClient::new(roots, Some(CONNECT_LIMIT));
        if http.is_err() {
            faults.push(("AWS_ENDPOINT_URL_DYNAMODB", "can't be reached by TLS with this build".to_owned()));
        }
        let (Ok(http), true) = (http, faults.is_empty()) else { return Err(faults) };
        let credentials = Credentials::new(id, secret, lookup("AWS_SESSION_TOKEN"), None, "environment");
        Ok(Self { table_prefix, endpoint: url, region, credentials, http })
    }

    /// The endpoint's URL, where it is not Amazon's own.
    pub fn endpoint(&self) -> Option<&str> {
        self.endpoint.as_deref()
    }

    /// The names of the settings by which two functions may see different tables: those that differ. For DynamoDB Local
    /// the access key is one of them, unless it runs with `-sharedDb`.
    pub fn differences(&self, other: &Self) -> Vec<&'static str> {
        let differ = [
            ("AWS_ENDPOINT_URL_DYNAMODB", self.endpoint != other.endpoint),
            ("AWS_REGION", self.region != other.region),
            ("AWS_ACCESS_KEY_ID", self.credentials.access_key_id() != other.credentials.access_key_id()),
            ("TABLE_PREFIX", self.table_prefix != other.table_prefix),
        ];
        differ.into_iter().filter(|(_, differ)| *differ).map(|(name, _)| name).collect()
    }
}

impl fmt::Debug for StoreConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreConfig").field("table_prefix", &self.table_prefix).finish_non_exhaustive()
    }
}

/// The store. Cheap to clone; clones share connections.
#[derive(Debug, Clone)]
pub struct Store {
    pub(crate) client: Client,
    pub(crate) events_table: String,
    pub(crate) outbox_table: String,
    /// The earliest day that this process knows to be noted; see [`crate::events`].
    first_day: Arc<Mutex<Option<String>>>,
}

impl Store {
    /// Prepares a connection; nothing is sent yet.
    pub fn connect(config: &StoreConfig) -> Self {
        Self::connect_by(config, Connector::shared(config.http.clone()))
    }

    /// [`Store::connect`] over a given HTTP client.
    pub fn connect_by(config: &StoreConfig, http_client: SharedHttpClient) -> Self {
        let retries = RetryConfig::standard()
            .with_max_attempts(MAX_TRIES)
            .with_initial_backoff(FIRST_BACKOFF)
            .with_max_backoff(MAX_BACKOFF);
        let limits =
            TimeoutConfig::builder().connect_timeout(CONNECT_LIMIT).operation_attempt_timeout(TRY_LIMIT).build();
        let mut builder = aws_sdk_dynamodb::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(config.region.clone()))
            .credentials_provider(config.credentials.clone())
            .http_client(http_client)
            .retry_config(retries)
            .timeout_config(limits)
            // The SDK's bucket of retries is for a fleet; here the request's deadline is the bound.
            .retry_partition(RetryPartition::custom("opshook").token_bucket(TokenBucket::unlimited()).build());
        if let Some(endpoint) = &config.endpoint {
            builder = builder.endpoint_url(endpoint);
        }
        Self {
            client: Client::from_conf(builder.build()),
            events_table: format!("{}webhook_events", config.table_prefix),
            outbox_table: format!("{}outbox", config.table_prefix),
            first_day: Arc::default(),
        }
    }
}

impl Store {
    pub(crate) fn known_first_day(&self) -> Option<String> {
        self.first_day.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn remember_first_day(&self, day: &str) {
        *self.first_day.lock().unwrap_or_else(PoisonError::into_inner) = Some(day.to_owned());
    }
}

/// Waits for a call's answer until the deadline. An error of the service of which `keep` makes something is handed on
/// as that; everything else is a [`StoreError`].
pub(crate) async fn call_keeping<T, E, K>(
    operation: &'static str,
    table: &str,
    deadline: Deadline,
    call: impl Future<Output = Result<T, SdkError<E>>>,
    keep: impl FnOnce(&E) -> Option<K>,
) -> Result<Result<T, K>, StoreError>
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    let Ok(answer) = tokio::time::timeout_at(deadline.0, call).await else {
        return Err(StoreError::Unavailable(format!("{operation}: no answer in time")));
    };
    match answer {
        Ok(output) => Ok(Ok(output)),
        Err(error) => match error.as_service_error().and_then(keep) {
            Some(kept) => Ok(Err(kept)),
            None => Err(from_sdk(operation, table, error)),
        },
    }
}

/// [`call_keeping`], where no error is of use.
pub(crate) async fn call<T, E>(
    operation: &'static str,
    table: &str,
    deadline: Deadline,
    call: impl Future<Output = Result<T, SdkError<E>>>,
) -> Result<T, StoreError>
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    match call_keeping(operation, table, deadline, call, |_| None::<()>).await? {
        Ok(output) => Ok(output),
        Err(()) => Err(StoreError::Unavailable(format!("{operation}: no answer"))),
    }
}

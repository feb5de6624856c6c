//! What a function hands to whatever hosts it: a Lambda, a plain server, or the `opshook` command.

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use axum::Router;
use tokio::sync::watch;

use crate::settings::SettingsError;

/// Turns `true` once, when the host wants everything to end.
pub type Stop = watch::Receiver<bool>;

/// Work that runs beside the requests (emit-retry's dispatcher). It gets the host's [`Stop`], and has finished what it
/// began when its future ends. A Lambda freezes between invocations, so its host never starts it.
pub type Background = Box<dyn FnOnce(Stop) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// A function, ready to be hosted.
pub struct Service {
    /// The binary's name: `receive`, `query-events` or `emit-retry`.
    pub name: &'static str,
    /// Where a plain server listens (`LISTEN_ADDR`).
    pub listen: SocketAddr,
    /// Every route of the function, with problems, metrics and request ids in place.
    pub router: Router,
    /// Work beside the requests, if the function has any.
    pub background: Option<Background>,
}

type Lookup = dyn Fn(&str) -> Option<String> + Send + Sync;

/// Where settings come from: the process environment, or what a test or `opshook up` says.
#[derive(Clone)]
pub struct Environment {
    lookup: Arc<Lookup>,
    /// On Lambda nothing counts as loopback and nothing runs after the answer.
    pub on_lambda: bool,
}

impl Environment {
    /// The environment of this process. A value that is not Unicode counts as absent.
    pub fn process() -> Self {
        Self {
            lookup: Arc::new(|name| std::env::var(name).ok()),
            on_lambda: std::env::var_os("AWS_LAMBDA_RUNTIME_API").is_some(),
        }
    }

    /// Settings from `lookup`, as a plain server.
    pub fn from_fn(lookup: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Self {
        Self { lookup: Arc::new(lookup), on_lambda: false }
    }

    /// The value of a setting; empty counts as absent.
    pub fn get(&self, name: &str) -> Option<String> {
        (self.lookup)(name).filter(|value| !value.trim().is_empty())
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment").field("on_lambda", &self.on_lambda).finish_non_exhaustive()
    }
}

/// Why a function could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Settings are missing or wrong; exit status 2.
    #[error("{0}")]
    Settings(#[from] SettingsError),
    /// The address can't be listened on; exit status 1.
    #[error("{setting}: can't listen on {address}: {reason}")]
    Listen {
        /// The setting or option to change.
        setting: &'static str,
        /// The address asked for.
        address: SocketAddr,
        /// Such as `the port is in use by another program`.
        reason: String,
    },
}

impl StartError {
    /// The exit status that goes with it (contract §7).
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::Settings(_) => 2,
            Self::Listen { .. } => 1,
        }
    }
}

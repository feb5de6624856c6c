//! What a function hands to whatever hosts it: a Lambda, a plain server, or the `opshook` command.

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::sync::watch;

use crate::problem::Problem;
use crate::settings::SettingsError;

/// Turns `true` once, when the host wants everything to end.
pub type Stop = watch::Receiver<bool>;

/// Work that runs beside the requests (emit-retry's dispatcher). It gets the host's [`Stop`], and has finished what it
/// began when its future ends. A Lambda freezes between invocations, so its host never starts it.
pub type Background = Box<dyn FnOnce(Stop) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// What invoked a Lambda, where that was not HTTP.
#[derive(Clone)]
pub struct Invocation {
    /// The event: JSON, as it came.
    pub payload: String,
    /// Lambda's id of it. An asynchronous invocation that is tried again keeps it.
    pub request_id: String,
    /// How long it is until Lambda gives it up.
    pub time: Duration,
}

/// What answers such an invocation.
type Invoked = Pin<Box<dyn Future<Output = Result<serde_json::Value, InvokeError>> + Send>>;

/// Answers the invocations of a Lambda that are not HTTP. Nothing of it runs after its answer.
pub type Invoke = Arc<dyn Fn(Invocation) -> Invoked + Send + Sync>;

/// Why an invocation failed. Its text reaches the caller, so it holds no content of `data` and no error text of ours.
#[derive(Debug, Clone, thiserror::Error)]
pub enum InvokeError {
    /// No trigger of the function looks like that. The text names those that do.
    #[error("{0}")]
    Trigger(String),
    /// The event is refused, or can't be kept, for the same reason as by HTTP.
    #[error("{}", .0.text())]
    Refused(Problem),
    /// Attempts were made of which the outcome could not be recorded.
    #[error("what came of {0} message(s) could not be recorded; they are sent again")]
    Unrecorded(usize),
    /// A fault of this program.
    #[error("the fault is ours and is in the log")]
    Panicked,
}

impl InvokeError {
    /// What failed, as one word: a problem's code where it is one.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Trigger(_) => "unknown_trigger",
            Self::Refused(problem) => problem.code().as_str(),
            Self::Unrecorded(_) => "outcome_unrecorded",
            Self::Panicked => "internal",
        }
    }

    /// What the log says of it: less than the caller learns of the event, and more of what is behind it.
    pub fn cause(&self) -> Option<String> {
        match self {
            Self::Refused(problem) => problem.cause().map(str::to_owned),
            other => Some(other.to_string()),
        }
    }
}

impl From<Problem> for InvokeError {
    fn from(problem: Problem) -> Self {
        Self::Refused(problem)
    }
}

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
    /// What answers a Lambda's invocations that are not HTTP, if the function takes any.
    pub invoke: Option<Invoke>,
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

impl fmt::Debug for Invocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { payload, request_id, time } = self;
        f.debug_struct("Invocation").field("bytes", &payload.len()).field("id", request_id).field("time", time).finish()
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

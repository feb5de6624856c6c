//! What there is to look at: the functions of a host, each with its settings, read by the function itself.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use service::host::Environment;
use service::settings::SettingsError;
use store::StoreConfig;
use store::tables::{OUTBOX, Table, WEBHOOK_EVENTS};

use super::env_file::EnvFile;
use super::options::{DoctorOptions, HostName};
use crate::outcome::Failure;
use crate::settings_file::SettingsFile;
use crate::tables::ENDPOINT;
use crate::up::{Places, environment_of};

/// All functions.
pub(crate) const FUNCTIONS: [&str; 3] = [receive::NAME, query_events::NAME, emit_retry::NAME];

/// Settings by which a host is known.
const OF_OPS: [&str; 2] = ["WEBHOOK_SECRET", "OPS_API_TOKEN"];
const OF_PORTAL: [&str; 3] = ["OPS_WEBHOOK_URL", "OPS_WEBHOOK_SECRET", "OPS_WEBHOOK_ENABLED"];

/// A host as its settings describe it.
pub(crate) struct Host {
    pub(crate) functions: Vec<Arc<Function>>,
    pub(crate) files: Vec<EnvFile>,
    pub(crate) data_dir: Option<PathBuf>,
}

/// A function and what its settings say.
pub(crate) struct Function {
    pub(crate) name: &'static str,
    /// What starts it: itself, or `opshook up`.
    pub(crate) program: &'static str,
    pub(crate) environment: Environment,
    pub(crate) config: Result<Config, SettingsError>,
}

/// The settings of one of them.
pub(crate) enum Config {
    Receive(Arc<receive::config::Config>),
    QueryEvents(Arc<query_events::config::Config>),
    EmitRetry(Arc<emit_retry::config::Config>),
}

impl Host {
    /// Reads the settings that the options name.
    ///
    /// # Errors
    ///
    /// A file can't be read, or nothing says which host this is: usage.
    pub(crate) fn read(options: &DoctorOptions) -> Result<Self, Failure> {
        let named = options.env_files.iter().map(|file| EnvFile::read(&file.path, file.function));
        let mut files = named.collect::<Result<Vec<_>, _>>()?;
        let source = if files.is_empty() { Source::of(options)? } else { Source::Files(files.clone()) };
        if let Source::Up { file: Some(path), .. } = &source {
            let mut file = EnvFile::read(path, None)?;
            // A shell reads it too, so `export` may stand there.
            file.text.left_out.clear();
            files.push(file);
        }
        let is_up = matches!(source, Source::Up { .. });
        let wanted: Vec<&'static str> = match options.host {
            Some(HostName::Portal) => vec![emit_retry::NAME],
            Some(HostName::Ops) => vec![receive::NAME, query_events::NAME],
            None if is_up => FUNCTIONS.to_vec(),
            None => known_by(&source),
        };
        if wanted.is_empty() {
            return Err(Failure::usage(
                "which host is this? No setting of a function is there: name the host, `opshook doctor portal` or \
                 `opshook doctor ops`, and its files of settings with --env-file; see opshook doctor --help",
            ));
        }
        let functions = wanted.into_iter().map(|name| Arc::new(Function::read(name, &source))).collect();
        Ok(Self { functions, files, data_dir: options.data_dir.clone() })
    }

    pub(crate) fn function(&self, name: &str) -> Option<&Arc<Function>> {
        self.functions.iter().find(|function| function.name == name)
    }
}

impl Function {
    fn read(name: &'static str, source: &Source) -> Self {
        let environment = source.environment(name);
        let program = if matches!(source, Source::Up { .. }) { "`opshook up`" } else { name };
        let config = match name {
            receive::NAME => receive::config::Config::read(&environment).map(|c| Config::Receive(Arc::new(c))),
            query_events::NAME => {
                query_events::config::Config::read(&environment).map(|c| Config::QueryEvents(Arc::new(c)))
            }
            _ => emit_retry::config::Config::read(&environment).map(|c| Config::EmitRetry(Arc::new(c))),
        };
        Self { name, program, environment, config }
    }
}

impl Config {
    /// Where it listens.
    pub(crate) fn listen(&self) -> SocketAddr {
        match self {
            Self::Receive(config) => config.listen,
            Self::QueryEvents(config) => config.listen,
            Self::EmitRetry(config) => config.listen,
        }
    }

    pub(crate) fn store(&self) -> &StoreConfig {
        match self {
            Self::Receive(config) => &config.store,
            Self::QueryEvents(config) => &config.store,
            Self::EmitRetry(config) => &config.store,
        }
    }

    /// The table that it works on.
    pub(crate) fn table(&self) -> &'static Table {
        match self {
            Self::Receive(_) | Self::QueryEvents(_) => &WEBHOOK_EVENTS,
            Self::EmitRetry(_) => &OUTBOX,
        }
    }
}

/// Where settings come from.
enum Source {
    Process,
    Files(Vec<EnvFile>),
    Up { environment: Environment, places: Places, file: Option<PathBuf> },
}

impl Source {
    /// The environment, and `opshook up`'s settings where its data directory is named.
    fn of(options: &DoctorOptions) -> Result<Self, Failure> {
        let Some(dir) = &options.data_dir else { return Ok(Self::Process) };
        let file = SettingsFile::read(dir)?;
        let Some(path) = file.path() else { return Ok(Self::Process) };
        let environment = file.environment();
        let engine = environment.get(ENDPOINT).is_none().then_some(options.dynamodb_addr);
        let places = Places {
            receive: options.receive_addr,
            query_events: options.query_addr,
            emit_retry: options.emit_addr,
            engine,
        };
        Ok(Self::Up { environment, places, file: Some(path.to_owned()) })
    }

    /// The settings that a function gets.
    fn environment(&self, function: &'static str) -> Environment {
        match self {
            Self::Process => Environment::process(),
            Self::Up { environment, places, .. } => environment_of(function, environment, places),
            Self::Files(files) => {
                let files: Vec<EnvFile> =
                    files.iter().filter(|file| file.function.is_none_or(|own| own == function)).cloned().collect();
                Environment::from_fn(move |name| {
                    files.iter().rev().find_map(|file| file.text.values.get(name).cloned())
                })
            }
        }
    }
}

/// The functions whose settings are there, or whose files were named.
fn known_by(source: &Source) -> Vec<&'static str> {
    let has = |function: &'static str, names: &[&str]| {
        let named = match source {
            Source::Files(files) => files.iter().any(|file| file.function == Some(function)),
            Source::Process | Source::Up { .. } => false,
        };
        let environment = source.environment(function);
        named || names.iter().any(|name| environment.get(name).is_some())
    };
    let mut functions = Vec::new();
    if has(receive::NAME, &OF_OPS) || has(query_events::NAME, &OF_OPS) {
        functions.extend([receive::NAME, query_events::NAME]);
    }
    if has(emit_retry::NAME, &OF_PORTAL) {
        functions.push(emit_retry::NAME);
    }
    functions
}

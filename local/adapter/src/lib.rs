//! Hosts a function: as a Lambda, or as a plain HTTP server. Only this crate knows one from the other.
//!
//! - [`main`] is all that a function's binary calls.
//! - [`server`] serves a router on a port, within limits, until it is told to stop. `opshook up` uses it too.
//! - [`lambda`] turns API Gateway's events (HTTP API, payload 2.0, and function URLs) into the same requests, and hands
//!   all else to the function.
//! - `activation`: a socket that systemd holds, so that an upgrade refuses no connection.
//! - [`signals`] turns SIGTERM and SIGINT into a [`Stop`](service::host::Stop).

mod activation;
mod guard;
pub mod lambda;
pub mod server;
mod signal;

pub use signal::signals;

use std::process::ExitCode;
use std::time::Duration;

use service::host::{Environment, Service, StartError};
use service::settings::SettingsError;
use service::telemetry;
use tokio::runtime::Builder;

use crate::activation::Inherited;

/// Runs a function's binary to its end: reads the arguments, starts the log and the function, and hosts it as a Lambda
/// where `AWS_LAMBDA_RUNTIME_API` is set, else as a server until SIGTERM or SIGINT: on the socket that systemd hands over
/// (`LISTEN_FDS`), else on `LISTEN_ADDR`.
///
/// The exit status is contract §7's: 0 after a clean stop, 2 for settings and arguments, 1 for anything else.
pub fn main(name: &'static str, start: impl AsyncFnOnce(&Environment) -> Result<Service, StartError>) -> ExitCode {
    let code = run(name, start);
    telemetry::flush();
    code
}

fn run(name: &'static str, start: impl AsyncFnOnce(&Environment) -> Result<Service, StartError>) -> ExitCode {
    match arguments(name, std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned())) {
        Arguments::None => {}
        Arguments::Print(text) => return ExitCode::from(u8::from(telemetry::print(&format!("{text}\n")).is_err())),
        Arguments::Wrong(text) => return fail(&text, 2),
    }
    let environment = Environment::process();
    let inherited = if environment.on_lambda { Ok(None) } else { Inherited::take() };
    // Two are enough for what waits on a database most of the time, and a Lambda has at most that many cores.
    let runtime = match Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("{name}: can't start: {error}"), 1),
    };
    let code = runtime.block_on(host(name, environment, inherited, start));
    // A look-up of a host name can't be interrupted; nothing else is left.
    runtime.shutdown_timeout(Duration::from_secs(1));
    code
}

async fn host(
    name: &'static str,
    environment: Environment,
    inherited: Result<Option<Inherited>, SettingsError>,
    start: impl AsyncFnOnce(&Environment) -> Result<Service, StartError>,
) -> ExitCode {
    let log = telemetry::init(&environment);
    let environment = match &inherited {
        Ok(Some(inherited)) => inherited.settings(environment),
        Ok(None) | Err(_) => environment,
    };
    let started = start(&environment).await;
    let faults = [log.err(), inherited.as_ref().err().map(ToString::to_string)];
    let faults: Vec<String> = faults.into_iter().flatten().collect();
    faults.iter().for_each(telemetry::complain);
    let service = match started {
        Ok(service) if faults.is_empty() => service,
        Ok(_) => return ExitCode::from(2),
        Err(error) => return fail(&error.to_string(), error.exit_status()),
    };
    if environment.on_lambda {
        return match lambda::run(service).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&format!("{name}: the Lambda runtime ended: {error}"), 1),
        };
    }
    let stop = signals();
    let listener = match inherited {
        Ok(Some(inherited)) => match inherited.into_listener() {
            Ok(listener) => listener,
            Err(error) => return fail(&format!("LISTEN_FDS: the socket can't be used: {error}"), 1),
        },
        Ok(None) | Err(_) => match server::bind(service.listen, "LISTEN_ADDR").await {
            Ok(listener) => listener,
            Err(error) => return fail(&error.to_string(), error.exit_status()),
        },
    };
    activation::tell_ready();
    match server::serve(service.name, listener, service.router, service.background, stop).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format!("{}: {error}", service.name), 1),
    }
}

fn fail(text: &str, status: u8) -> ExitCode {
    telemetry::complain(text);
    ExitCode::from(status)
}

/// What the arguments ask for. The settings are in the environment.
#[derive(Debug, PartialEq, Eq)]
enum Arguments {
    None,
    Print(String),
    Wrong(String),
}

fn arguments(name: &str, mut given: impl Iterator<Item = String>) -> Arguments {
    let version = env!("CARGO_PKG_VERSION");
    match (given.next().as_deref(), given.next()) {
        (None, _) => Arguments::None,
        (Some("--version" | "-V"), None) => Arguments::Print(format!("{name} {version}")),
        (Some("--help" | "-h"), None) => Arguments::Print(format!(
            "{name} {version}, one of opshook's functions\n\n\
             Usage: {name} [--help | --version]\n\n\
             An HTTP server on LISTEN_ADDR, or on the socket that systemd hands over (LISTEN_FDS=1), or a Lambda where\n\
             AWS_LAMBDA_RUNTIME_API is set.\n\
             All its settings are environment variables: see \"Settings\" in README.md.\n\
             SIGTERM and SIGINT stop it when the requests under way are answered."
        )),
        (Some(_), _) => {
            Arguments::Wrong(format!("{name}: takes no arguments but --help and --version; see {name} --help"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Arguments, arguments};

    fn given(list: &[&str]) -> Arguments {
        arguments("receive", list.iter().map(|text| (*text).to_owned()))
    }

    #[test]
    fn a_binary_takes_no_arguments_but_help_and_version() {
        assert_eq!(given(&[]), Arguments::None);
        assert_eq!(given(&["--version"]), Arguments::Print(format!("receive {}", env!("CARGO_PKG_VERSION"))));
        assert!(matches!(given(&["--help"]), Arguments::Print(text) if text.contains("README.md")));
        for wrong in [&["--port"][..], &["--help", "x"], &[""], &["serve"]] {
            assert!(matches!(given(wrong), Arguments::Wrong(text) if !text.contains('\n')), "{wrong:?}");
        }
    }
}

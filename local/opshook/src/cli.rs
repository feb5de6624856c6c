//! The commands, their options, and what their `--help` says.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use reqwest::Url;
use service::telemetry;

use crate::doctor::{self, DoctorOptions};
use crate::outcome::Failure;
use crate::{demo, engine, secret, send, tables, up};

/// Carries onboarding events from a portal to ops: each event once, as one ticket.
#[derive(Debug, Parser)]
#[command(name = "opshook", version, arg_required_else_help = true, max_term_width = 100, after_help = START)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const START: &str = "\
Start here:
  opshook demo             see an event become one ticket, then look around
  opshook up               the same without the sample, to build on
  opshook <command> -h     what a command does, with an example

Exit status: 0 success, 1 a check or a request failed, 2 wrong usage or settings.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Shows a sample onboarding on its real way through all three functions
    #[command(after_help = DEMO)]
    Demo(DemoOptions),
    /// Runs receive, query-events and emit-retry in one process, on the embedded engine
    #[command(after_help = UP)]
    Up(UpOptions),
    /// Runs the embedded engine as a server of its own, in place of DynamoDB Local
    #[command(after_help = ENGINE)]
    Engine(EngineOptions),
    /// Posts an event to emit-retry, or signed straight to receive
    #[command(after_help = SEND)]
    Send(SendOptions),
    /// Makes secrets
    #[command(subcommand)]
    Secret(SecretCommand),
    /// Makes the tables in DynamoDB
    #[command(subcommand)]
    Tables(TablesCommand),
    /// Checks settings, secrets, clocks, tables and servers of a host, and says how to mend each fault
    #[command(after_help = doctor::HELP)]
    Doctor(DoctorOptions),
}

const DEMO: &str = "\
Each step is checked by reading it back over HTTP; one that did not happen as promised makes the exit status 1. Each \
run uses a new session, so each run makes one new ticket.

Examples:
  opshook demo             the sample, then all stays up until Ctrl-C
  opshook demo --once      the sample alone
  opshook demo --once --json | jq -c '{step, ok}'

Settings are those of `opshook up`; the log is `warn` and text unless RUST_LOG and LOG_FORMAT say otherwise.";

const UP: &str = "\
Settings come from the environment, then from settings.env in the data directory. WEBHOOK_SECRET and OPS_API_TOKEN are \
made and kept there (readable by you alone) where they are in neither. Without OPS_WEBHOOK_URL emit-retry delivers to \
the receive beside it; without OPS_WEBHOOK_SECRET it signs with WEBHOOK_SECRET. With AWS_ENDPOINT_URL_DYNAMODB that \
engine is used instead of the embedded one.

The addresses are printed once all three are ready. SIGTERM or Ctrl-C stops everything cleanly.

Examples:
  opshook up
  opshook up --data-dir /tmp/try --receive-addr 127.0.0.1:9080
  opshook up --json | jq -r .receive

Read tickets (in another terminal):
  . .opshook/settings.env
  curl -s -H \"Authorization: Bearer $OPS_API_TOKEN\" http://127.0.0.1:8081/api/v1/desk/tickets";

const ENGINE: &str = "\
It speaks DynamoDB's protocol, takes any credentials, and so listens on loopback only. Data is synced to the disk on \
each write. One engine at a time may use a data directory.

Example (two terminals):
  opshook engine --listen 127.0.0.1:8000 --data-dir /tmp/engine
  export AWS_ENDPOINT_URL_DYNAMODB=http://127.0.0.1:8000 AWS_REGION=local \\
    AWS_ACCESS_KEY_ID=local AWS_SECRET_ACCESS_KEY=local
  opshook tables create";

const SEND: &str = "\
Exit status 0 when a 2xx was answered, else 1. With --direct the body goes as it is, signed with WEBHOOK_SECRET from \
the environment or from settings.env in the data directory. EMIT_API_TOKEN is sent where it is set.

Examples:
  echo '{\"event\":\"account.created\",\"session_id\":\"onb-1\",\"domain\":\"example.com\"}' | opshook send -
  opshook send event.json --idempotency-key onb-1-created
  opshook send event.json --direct --json";

/// Where `up` and `demo` keep their data and listen.
#[derive(Debug, Args)]
pub(crate) struct UpOptions {
    /// Where data and made settings are kept; created when missing
    #[arg(long, value_name = "DIR", default_value = ".opshook")]
    pub(crate) data_dir: PathBuf,
    /// Where receive listens; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub(crate) receive_addr: SocketAddr,
    /// Where query-events listens
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8081")]
    pub(crate) query_addr: SocketAddr,
    /// Where emit-retry listens
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8082")]
    pub(crate) emit_addr: SocketAddr,
    /// Where the embedded engine listens; loopback only
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8000")]
    pub(crate) dynamodb_addr: SocketAddr,
    /// Prints JSON, for scripts
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DemoOptions {
    /// Ends after the sample instead of staying up
    #[arg(long)]
    pub(crate) once: bool,
    #[command(flatten)]
    pub(crate) up: UpOptions,
}

#[derive(Debug, Args)]
pub(crate) struct EngineOptions {
    /// Where it listens; loopback only, port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8000")]
    pub(crate) listen: SocketAddr,
    /// Where the data is kept; created when missing
    #[arg(long, value_name = "DIR", default_value = ".opshook")]
    pub(crate) data_dir: PathBuf,
    /// Prints the address as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SendOptions {
    /// The event as JSON; `-` reads standard input
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Signs it and posts it to receive
    #[arg(long)]
    pub(crate) direct: bool,
    /// Where to post it [default: http://127.0.0.1:8082/api/v1/events; with --direct
    /// http://127.0.0.1:8080/api/v1/webhooks/onboard]
    #[arg(long, value_parser = http_url)]
    pub(crate) url: Option<Url>,
    /// Names the event, so that sending it again adds nothing; 1-255 visible ASCII characters without a comma
    #[arg(long, value_name = "KEY", value_parser = idempotency_key)]
    pub(crate) idempotency_key: Option<String>,
    /// Where `opshook up` keeps its settings.env
    #[arg(long, value_name = "DIR", default_value = ".opshook")]
    pub(crate) data_dir: PathBuf,
    /// Prints the answer as {"status":202,"body":{...}}
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
enum SecretCommand {
    /// Prints a new webhook secret: whsec_ and the base64 of 32 random bytes
    #[command(after_help = "\
To rotate without refusing an event, put the new secret first and keep the old one behind it on both ends:
  export WEBHOOK_SECRET=\"$(opshook secret new) $OLD_SECRET\"")]
    New(JsonOption),
}

#[derive(Debug, Subcommand)]
enum TablesCommand {
    /// Makes the tables that are missing, and checks those that are there
    #[command(after_help = "\
Where DynamoDB is comes from AWS_ENDPOINT_URL_DYNAMODB, AWS_REGION and AWS credentials, by the SDK's rules; the tables' \
names begin with TABLE_PREFIX (opshook_).

Example:
  AWS_ENDPOINT_URL_DYNAMODB=http://127.0.0.1:8000 AWS_REGION=local AWS_ACCESS_KEY_ID=local \\
    AWS_SECRET_ACCESS_KEY=local opshook tables create")]
    Create(JsonOption),
}

#[derive(Debug, Args)]
pub(crate) struct JsonOption {
    /// Prints JSON, for scripts
    #[arg(long)]
    json: bool,
}

fn http_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| error.to_string())?;
    let is_http = matches!(url.scheme(), "http" | "https") && url.has_host();
    is_http.then_some(url).ok_or_else(|| "must be an http or https URL".to_owned())
}

fn idempotency_key(text: &str) -> Result<String, String> {
    let allowed = |byte: u8| byte.is_ascii_graphic() && byte != b',';
    let good = (1..=255).contains(&text.len()) && text.bytes().all(allowed);
    good.then(|| text.to_owned()).ok_or_else(|| "must be 1 to 255 visible ASCII characters without a comma".to_owned())
}

/// Runs the command to its end: the exit status is 0, 1 or 2 as contract §8 says.
pub(crate) fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(message) => {
            // Help and version come this way too, with status 0.
            let status = u8::try_from(message.exit_code()).unwrap_or(2);
            let _ = message.print();
            return ExitCode::from(status);
        }
    };
    // The only error is that there is a provider already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return end(Err(Failure::failed(format!("can't start: {error}")))),
    };
    let outcome = runtime.block_on(run_command(cli.command));
    // A look-up of a host name can't be interrupted; nothing else is left.
    runtime.shutdown_timeout(Duration::from_secs(1));
    end(outcome)
}

async fn run_command(command: Command) -> Result<(), Failure> {
    match command {
        Command::Demo(options) => demo::run(&options).await,
        Command::Up(options) => up::run(&options).await,
        Command::Engine(options) => engine::run(&options).await,
        Command::Send(options) => send::run(&options).await,
        Command::Secret(SecretCommand::New(output)) => secret::run(output.json),
        Command::Tables(TablesCommand::Create(output)) => tables::run(output.json).await,
        Command::Doctor(options) => doctor::run(&options).await,
    }
}

fn end(outcome: Result<(), Failure>) -> ExitCode {
    let code = match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { status, text }) => {
            // Without a text, there is nobody to tell.
            if !text.is_empty() {
                telemetry::complain(text);
            }
            ExitCode::from(status)
        }
    };
    telemetry::flush();
    code
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_commands_are_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_teaches_with_an_example() {
        fn check(command: &clap::Command, path: &str) {
            let subcommands: Vec<_> = command.get_subcommands().collect();
            for sub in &subcommands {
                check(sub, &format!("{path} {}", sub.get_name()));
            }
            if subcommands.is_empty() {
                let help = command.get_after_help().unwrap_or_else(|| panic!("{path} has no example")).to_string();
                assert!(help.contains("opshook "), "{path}: {help}");
            }
        }
        check(&Cli::command(), "opshook");
    }

    #[test]
    fn keys_and_urls_that_the_contract_refuses_are_usage_errors() {
        for wrong in ["", "a b", "a,b", "é", &"k".repeat(256)] {
            assert!(idempotency_key(wrong).is_err(), "{wrong}");
        }
        assert_eq!(idempotency_key("onb-1/created"), Ok("onb-1/created".to_owned()));
        for wrong in ["", "127.0.0.1:8082", "ftp://example.com/", "mailto:a@b"] {
            assert!(http_url(wrong).is_err(), "{wrong}");
        }
    }
}

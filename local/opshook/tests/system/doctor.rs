//! `opshook doctor`, the real binary, on hosts that are well and on hosts with one fault each: it is told, and how to mend it.

mod files;
mod good;
mod ops;
mod outbox;
mod servers;
mod tables;

use std::fs::Permissions;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use crate::process::{OPSHOOK, Process};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLw2S";
const OTHER_SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const OPS_TOKEN: &str = "5e0c1f6a9d8b47231fbc85e6a07d9243";
const EMIT_TOKEN: &str = "c04b7d19ae6f82350b1d94c7e8f6a325";
const AWS_SECRET: &str = "wJalrXUtnFEMI7K7MDENGbPxRfiCY";

/// Files of settings, each for its owner alone.
struct Files(TempDir);

/// What it said.
#[derive(Debug)]
struct Told {
    status: i32,
    report: Value,
}

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// Writes one, and answers with its path.
    fn put(&self, name: &str, settings: &[(&str, &str)]) -> String {
        let text: String = settings.iter().map(|(name, value)| format!("{name}=\"{value}\"\n")).collect();
        self.put_text(name, &text, 0o600)
    }

    fn put_text(&self, name: &str, text: &str, mode: u32) -> String {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Runs it on files of this host.
    async fn doctor(&self, host: &str, files: &[&str]) -> Told {
        let mut arguments = vec![host];
        for file in files {
            arguments.extend(["--env-file", file]);
        }
        doctor(&arguments, &[]).await
    }
}

/// Runs it with `--json`, in this environment. Panics when a secret is in what it says.
async fn doctor(arguments: &[&str], environment: &[(&str, &str)]) -> Told {
    let arguments = [&["doctor", "--json"], arguments].concat();
    let (status, said) = run(&arguments, environment).await;
    let report = said.lines().find_map(|line| serde_json::from_str(line).ok()).unwrap_or_else(|| panic!("{said}"));
    Told { status, report }
}

/// Runs the command.
async fn run(arguments: &[&str], environment: &[(&str, &str)]) -> (i32, String) {
    let (status, said) = Process::start(Path::new(OPSHOOK), arguments, environment.iter().copied()).end().await;
    for secret in [SECRET, OTHER_SECRET, OPS_TOKEN, EMIT_TOKEN, AWS_SECRET] {
        // Not even a part of it.
        assert!(
            !said.contains(&secret[..12]) && !said.contains(&secret[secret.len() - 12..]),
            "a secret is in: {said}"
        );
    }
    (status, said)
}

impl Told {
    /// What it said of a check. Panics unless it said exactly one thing.
    #[track_caller]
    fn of(&self, check: &str) -> &Value {
        let checks = self.report["checks"].as_array().unwrap();
        let found: Vec<&Value> = checks.iter().filter(|finding| finding["check"] == check).collect();
        assert_eq!(found.len(), 1, "{check}: {:#}", self.report);
        found[0]
    }

    /// That exactly these checks failed, and what was seen and the remedy of the first one hold these words.
    #[track_caller]
    fn assert_failed(&self, failed: &[&str], saw: &[&str], remedy: &[&str]) {
        let checks = self.report["checks"].as_array().unwrap();
        let found: Vec<&Value> = checks.iter().filter(|finding| finding["status"] == "fail").collect();
        let names: Vec<&str> = found.iter().map(|finding| finding["check"].as_str().unwrap()).collect();
        assert_eq!(names, failed, "{:#}", self.report);
        assert_eq!((self.status, &self.report["ok"], &self.report["failed"]), (1, &false.into(), &failed.len().into()));
        let has = |field: &str, words: &[&str]| {
            let text = found[0][field].as_str().unwrap();
            words.iter().for_each(|word| assert!(text.contains(word), "{word:?} is not in {field} {text:?}"));
        };
        has("saw", saw);
        has("remedy", remedy);
    }

    #[track_caller]
    fn assert_warned(&self, check: &str, saw: &str, remedy: &str) {
        let finding = self.of(check);
        assert_eq!(finding["status"], "warn", "{finding}");
        assert!(finding["saw"].as_str().unwrap().contains(saw), "{finding}");
        assert!(finding["remedy"].as_str().unwrap().contains(remedy), "{finding}");
    }
}

/// Settings that reach an engine.
fn store_at(endpoint: &str) -> Vec<(&str, &str)> {
    vec![
        ("AWS_ENDPOINT_URL_DYNAMODB", endpoint),
        ("AWS_REGION", "local"),
        ("AWS_ACCESS_KEY_ID", "opshook"),
        ("AWS_SECRET_ACCESS_KEY", AWS_SECRET),
    ]
}

/// Those of emit-retry that listens at `listen` and delivers to `receive`.
fn portal<'a>(endpoint: &'a str, listen: &'a str, url: &'a str) -> Vec<(&'a str, &'a str)> {
    let own = [("LISTEN_ADDR", listen), ("OPS_WEBHOOK_URL", url), ("OPS_WEBHOOK_SECRET", SECRET)];
    [store_at(endpoint), own.to_vec(), vec![("EMIT_API_TOKEN", EMIT_TOKEN)]].concat()
}

fn receive<'a>(endpoint: &'a str, listen: &'a str) -> Vec<(&'a str, &'a str)> {
    [store_at(endpoint), vec![("LISTEN_ADDR", listen), ("WEBHOOK_SECRET", SECRET)]].concat()
}

fn query<'a>(endpoint: &'a str, listen: &'a str) -> Vec<(&'a str, &'a str)> {
    [store_at(endpoint), vec![("LISTEN_ADDR", listen), ("OPS_API_TOKEN", OPS_TOKEN)]].concat()
}

fn owned(settings: &[(&str, &str)]) -> crate::harness::Settings {
    settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// With one setting changed.
fn with<'a>(mut settings: Vec<(&'a str, &'a str)>, name: &'a str, value: &'a str) -> Vec<(&'a str, &'a str)> {
    settings.retain(|(known, _)| *known != name);
    settings.push((name, value));
    settings
}

fn local(address: SocketAddr) -> String {
    format!("http://{address}")
}

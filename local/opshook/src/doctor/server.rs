//! Whether a function runs where its settings say, is ready, and runs with these settings.

use std::net::SocketAddr;

use emit_retry::config::Endpoint;
use reqwest::Url;
use serde_json::Value;

use super::finding::Finding;
use super::host::{Config, Function};
use super::ops::{Said, probe};
use crate::http::{Answer, Http};
use crate::up::reached_at;

/// Asks a function whose settings can be read.
pub(crate) async fn check(function: &Function) -> Vec<Finding> {
    let Ok(config) = &function.config else { return Vec::new() };
    let name = function.name;
    let check = format!("{name} server");
    let address = reached_at(config.listen());
    if address.port() == 0 {
        let saw = "LISTEN_ADDR has port 0, so it listens where nobody knows";
        return vec![Finding::warn(check, saw, "give LISTEN_ADDR a port")];
    }
    let start = format!("start {}, or set LISTEN_ADDR to where it listens", function.program);
    let health = match get(address, "/health").await {
        Ok(answer) => answer,
        Err(why) => return vec![Finding::fail(check, why, format!("{start}; its log says why it stopped"))],
    };
    let value = health.value();
    let text = |field: &str| value.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    if !health.is_success() || text("function") != name {
        let saw = format!("what answers on {address} is not {name}");
        return vec![Finding::fail(check, saw, start)];
    }
    let (runs, ours) = (text("version"), env!("CARGO_PKG_VERSION"));
    let mut findings = vec![if runs == ours {
        Finding::ok(check, format!("{name} {runs} answers on {address}"))
    } else {
        let saw = format!("{name} {runs} answers on {address}, and this is opshook {ours}");
        Finding::warn(check, saw, format!("install the same version of both, and restart {name}"))
    }];
    findings.push(ready(function, address).await);
    if let Config::Receive(config) = config
        && let Ok(url) = Url::parse(&format!("http://{address}/api/v1/webhooks/onboard"))
    {
        let endpoint = Endpoint { url, secrets: config.secrets.clone() };
        findings.extend(same_secret(&endpoint, function.program).await);
    }
    findings
}

async fn ready(function: &Function, address: SocketAddr) -> Finding {
    let name = function.name;
    let check = format!("{name} ready");
    match get(address, "/ready").await {
        Ok(answer) if answer.is_success() => Finding::ok(check, "it can serve"),
        Ok(answer) => {
            let value = answer.value();
            let detail = value.get("detail").and_then(Value::as_str).unwrap_or("it does not say why");
            let remedy =
                format!("mend what the line `{name} tables` says; where that is ok, restart {}", function.program);
            Finding::fail(check, format!("it is not ready: {detail}"), remedy)
        }
        Err(why) => Finding::fail(check, why, format!("look into the log of {name}")),
    }
}

/// A receive that was not restarted after its secret changed refuses what the portal signs by the new one.
async fn same_secret(endpoint: &Endpoint, program: &str) -> Option<Finding> {
    let check = "receive secret";
    match probe(endpoint).await.said {
        Said::Known => Some(Finding::ok(check, "the running receive has the WEBHOOK_SECRET of these settings")),
        Said::Mismatch => Some(Finding::fail(
            check,
            "the running receive has another WEBHOOK_SECRET than these settings",
            format!("restart {program}, so that it reads them"),
        )),
        _ => None,
    }
}

async fn get(address: SocketAddr, path: &str) -> Result<Answer, String> {
    let url = Url::parse(&format!("http://{address}{path}")).map_err(|error| error.to_string())?;
    let http = Http::new(&url).map_err(|failure| failure.text)?;
    http.look(&url).await
}

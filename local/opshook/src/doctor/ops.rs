//! The way from the portal's host to ops: is it there, does it know the secret, and what time is it there.
//!
//! The secret is never sent. A request is signed whose body is no JSON: receive checks the signature before it reads the
//! body, so `malformed_json` says that it knows the secret, and nothing is made of it.

use std::time::Duration;

use contract::id::{IdSource, WebhookId};
use contract::signature::TOLERANCE_SECONDS;
use emit_retry::config::Endpoint;
use emit_retry::sender::Sender;
use jiff::Timestamp;
use reqwest::Url;
use serde_json::Value;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use super::finding::Finding;
use super::within;

/// Clocks that are set by NTP differ by much less, and the `Date` that they are compared by is exact to a second or two.
const CLOCKS_MAY_DIFFER_SECONDS: i64 = 60;
const STEP_LIMIT: Duration = Duration::from_secs(2);
const BODY: &str = "opshook doctor asks whether the secrets are the same; this is no event";

/// What ops makes of the probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    /// The signature holds.
    Known,
    /// It does not.
    Mismatch,
    /// It does, and the clocks are too far apart.
    Clock,
    /// It can't say now.
    Busy(u16),
    /// What receive does not say to this: a status.
    Other(u16),
    /// Nothing, and why.
    Nothing(String),
}

/// What came of a probe.
pub(crate) struct Probed {
    pub(crate) said: Said,
    /// How far the clock there is ahead of ours, in seconds, where the answer had a `Date`.
    pub(crate) ahead_seconds: Option<i64>,
}

/// Signs a request of which nothing can come, and sends it as emit-retry does.
pub(crate) async fn probe(endpoint: &Endpoint) -> Probed {
    let sender = match Sender::new(endpoint) {
        Ok(sender) => sender,
        Err(error) => return Probed { said: Said::Nothing(error.to_string()), ahead_seconds: None },
    };
    let now = Timestamp::now();
    let sent = sender.send(&WebhookId::new(now, &IdSource::new()), BODY, now).await;
    let answer = sent.attempt.answer.as_deref().and_then(|text| serde_json::from_str::<Value>(text).ok());
    let code = answer.as_ref().and_then(|problem| problem.get("code")?.as_str());
    let said = match (sent.attempt.status, code) {
        (Some(400), Some("malformed_json")) => Said::Known,
        (Some(401), Some("signature_mismatch")) => Said::Mismatch,
        (Some(401), Some("timestamp_out_of_tolerance")) => Said::Clock,
        (Some(status @ (429 | 503)), _) => Said::Busy(status),
        (Some(status), _) => Said::Other(status),
        (None, _) => Said::Nothing(sent.attempt.error.unwrap_or_else(|| "no answer".to_owned())),
    };
    Probed { said, ahead_seconds: sent.clock_ahead.map(|ahead| ahead.as_secs()) }
}

/// Looks as far as it gets. None is where sending is disabled.
pub(crate) async fn check(endpoint: Option<&Endpoint>) -> Vec<Finding> {
    let Some(endpoint) = endpoint else {
        let saw = "OPS_WEBHOOK_ENABLED=false: events are answered 200 and dropped";
        return vec![Finding::warn("ops reach", saw, "set it to true, unless they are meant to be dropped")];
    };
    let mut findings = vec![reach(endpoint).await];
    if findings.iter().all(|finding| finding.remedy.is_none()) {
        findings.extend(within("ops secret".to_owned(), async { of_probe(&probe(endpoint).await) }).await);
    }
    findings
}

async fn reach(endpoint: &Endpoint) -> Finding {
    let check = "ops reach";
    match connect(&endpoint.url).await {
        Ok(place) => Finding::ok(check, format!("{place} takes connections")),
        Err(Unreached::Name(host)) => {
            let saw = format!("the name {host} of OPS_WEBHOOK_URL has no address");
            Finding::fail(check, saw, "correct the name, or make DNS or /etc/hosts know it")
        }
        Err(Unreached::Place(saw)) => {
            let remedy = "start receive there with a LISTEN_ADDR that this host reaches, open the port in the firewalls between, \
                          or correct OPS_WEBHOOK_URL; what was accepted waits meanwhile";
            Finding::fail(check, saw, remedy)
        }
    }
}

/// Why there is no connection.
pub(crate) enum Unreached {
    /// The host's name has no address.
    Name(String),
    /// The place takes no connection: in words.
    Place(String),
}

/// Resolves the host's name and connects to its port, as far as a firewall lets us: answers with both.
pub(crate) async fn connect(url: &Url) -> Result<String, Unreached> {
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let port = url.port_or_known_default().unwrap_or(80);
    let addresses: Vec<_> = match timeout(STEP_LIMIT, lookup_host((host, port))).await {
        Ok(Ok(addresses)) => addresses.collect(),
        Ok(Err(_)) | Err(_) => Vec::new(),
    };
    if addresses.is_empty() {
        return Err(Unreached::Name(host.to_owned()));
    }
    let why = match timeout(STEP_LIMIT, TcpStream::connect(addresses.as_slice())).await {
        Ok(Ok(_)) => return Ok(format!("{host}:{port}")),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {} s", STEP_LIMIT.as_secs()),
    };
    Err(Unreached::Place(format!("{host}:{port} takes no connection: {why}")))
}

/// What a probe says of the secret and of the clocks.
fn of_probe(probed: &Probed) -> Vec<Finding> {
    let mut findings = vec![secret(&probed.said)];
    let answered = !matches!(probed.said, Said::Nothing(_));
    match probed.ahead_seconds {
        Some(ahead) if answered => findings.push(clock(ahead, &probed.said)),
        _ if probed.said == Said::Clock => findings.push(clock_unknown()),
        _ => {}
    }
    findings
}

fn secret(said: &Said) -> Finding {
    let check = "ops secret";
    let fail = |saw: String, remedy: &str| Finding::fail(check, saw, remedy);
    match said {
        Said::Known | Said::Clock => Finding::ok(check, "ops knows the secret that OPS_WEBHOOK_SECRET signs with"),
        Said::Mismatch => fail(
            "ops knows none of the secrets in OPS_WEBHOOK_SECRET".to_owned(),
            "put one secret into OPS_WEBHOOK_SECRET here and into WEBHOOK_SECRET of receive there, and restart both",
        ),
        Said::Busy(status) => {
            Finding::warn(check, format!("ops answers {status}: it is busy"), "ask again in a moment")
        }
        Said::Other(status @ 300..=399) => fail(
            format!("ops answers {status}, a redirect, and those are not followed"),
            "set OPS_WEBHOOK_URL to where it leads",
        ),
        Said::Other(status @ (404 | 405 | 410)) => fail(
            format!("ops answers {status}: OPS_WEBHOOK_URL names no place for webhooks"),
            "end it with /api/v1/webhooks/onboard",
        ),
        Said::Other(status @ 500..) => {
            fail(format!("ops answers {status}"), "look into the log of receive and of what stands before it")
        }
        Said::Other(status) => fail(
            format!("ops answers {status}, which receive never says to this"),
            "set OPS_WEBHOOK_URL to receive; a proxy before it must hand on body and headers as they are",
        ),
        Said::Nothing(why) => fail(
            format!("ops takes connections and does not answer: {why}"),
            "look at http or https in OPS_WEBHOOK_URL, at its certificate, and into the log of receive",
        ),
    }
}

fn clock(ahead: i64, said: &Said) -> Finding {
    let check = "ops clock";
    let off = ahead.saturating_abs();
    let side = if ahead < 0 { "behind" } else { "ahead of" };
    let saw = format!("the clock of ops is {off} s {side} ours");
    if *said == Said::Clock && off <= CLOCKS_MAY_DIFFER_SECONDS {
        return clock_unknown();
    }
    if off <= CLOCKS_MAY_DIFFER_SECONDS {
        return Finding::ok(check, saw);
    }
    let refused = *said == Said::Clock || off.unsigned_abs() > TOLERANCE_SECONDS;
    let then = if refused { "and it refuses what we send" } else { "and past 300 s it refuses what we send" };
    Finding::fail(check, format!("{saw}, {then}"), REMEDY)
}

const REMEDY: &str = "set the one that is wrong, and have NTP keep both (timedatectl set-ntp true)";

fn clock_unknown() -> Finding {
    let saw = format!("ops refuses our time: its clock is more than {TOLERANCE_SECONDS} s from ours");
    Finding::fail("ops clock", saw, REMEDY)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Status;

    fn statuses(said: Said, ahead_seconds: Option<i64>) -> Vec<(String, Status)> {
        let findings = of_probe(&Probed { said, ahead_seconds });
        findings.into_iter().map(|finding| (finding.check, finding.status)).collect()
    }

    #[test]
    fn clocks_may_differ_by_a_minute() {
        for (ahead, status) in [(0, Status::Ok), (60, Status::Ok), (-61, Status::Fail), (i64::MIN, Status::Fail)] {
            let told = statuses(Said::Known, Some(ahead));
            assert_eq!(told, [("ops secret".to_owned(), Status::Ok), ("ops clock".to_owned(), status)], "{ahead}");
        }
    }

    #[test]
    fn a_time_that_is_refused_is_a_fault_whatever_the_date_says() {
        for ahead in [None, Some(0), Some(-400)] {
            assert_eq!(statuses(Said::Clock, ahead)[1], ("ops clock".to_owned(), Status::Fail), "{ahead:?}");
        }
    }

    #[test]
    fn whatever_receive_does_not_say_is_a_fault() {
        for status in [200, 201, 301, 400, 401, 403, 404, 410, 415, 422, 500, 502] {
            assert_eq!(statuses(Said::Other(status), None)[0].1, Status::Fail, "{status}");
        }
        assert_eq!(statuses(Said::Busy(503), None)[0].1, Status::Warn);
        assert_eq!(statuses(Said::Nothing("cut".to_owned()), Some(900)).len(), 1);
    }
}

//! What each function is told: the settings that are there, and those that only this process knows.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::Url;
use service::host::Environment;

use crate::outcome::Failure;

/// Where each of them listens: real ports.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Places {
    pub(crate) receive: SocketAddr,
    pub(crate) query_events: SocketAddr,
    pub(crate) emit_retry: SocketAddr,
    /// The embedded engine; none where another is used.
    pub(crate) engine: Option<SocketAddr>,
}

impl Places {
    /// The functions by name.
    pub(crate) fn functions(&self) -> [(&'static str, SocketAddr); 3] {
        [("receive", self.receive), ("query-events", self.query_events), ("emit-retry", self.emit_retry)]
    }

    /// A URL at one of them, as this machine reaches it.
    pub(crate) fn url(&self, listening: SocketAddr, path: &str) -> Result<Url, Failure> {
        let text = format!("http://{}{path}", reached_at(listening));
        Url::parse(&text).map_err(|error| Failure::failed(format!("{text}: {error}")))
    }
}

/// What listens on all addresses is reached from this machine by loopback.
pub(crate) fn reached_at(listening: SocketAddr) -> SocketAddr {
    let ip = match listening.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listening.port())
}

/// The settings of one function. The addresses that were really taken win over `LISTEN_ADDR`, so that what is allowed
/// on loopback alone is allowed by where it listens.
pub(crate) fn environment_of(function: &str, shared: &Environment, places: &Places) -> Environment {
    let listening = match function {
        "receive" => places.receive,
        "query-events" => places.query_events,
        _ => places.emit_retry,
    };
    let (shared, places) = (shared.clone(), *places);
    Environment::from_fn(move |name| match name {
        "LISTEN_ADDR" => Some(listening.to_string()),
        "OPS_WEBHOOK_URL" => Some(
            shared
                .get(name)
                .unwrap_or_else(|| format!("http://{}/api/v1/webhooks/onboard", reached_at(places.receive))),
        ),
        "OPS_WEBHOOK_SECRET" => shared.get(name).or_else(|| shared.get("WEBHOOK_SECRET")),
        _ => match places.engine {
            Some(engine) => of_the_engine(name, engine).unwrap_or_else(|| shared.get(name)),
            None => shared.get(name),
        },
    })
}

/// What the embedded engine needs instead of the settings for another. It takes any credentials; the machine's own have
/// no business there.
fn of_the_engine(name: &str, engine: SocketAddr) -> Option<Option<String>> {
    match name {
        "AWS_ENDPOINT_URL_DYNAMODB" => Some(Some(format!("http://{engine}"))),
        "AWS_REGION" => Some(Some("local".to_owned())),
        "AWS_ACCESS_KEY_ID" | "AWS_SECRET_ACCESS_KEY" => Some(Some("opshook".to_owned())),
        "AWS_SESSION_TOKEN" => Some(None),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn places(receive: &str, engine: Option<&str>) -> Places {
        let other = "127.0.0.1:3".parse().unwrap();
        let engine = engine.map(|engine| engine.parse().unwrap());
        Places { receive: receive.parse().unwrap(), query_events: other, emit_retry: other, engine }
    }

    fn given(list: &'static [(&str, &str)]) -> Environment {
        Environment::from_fn(|name| list.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).into()))
    }

    #[test]
    fn emit_retry_delivers_to_the_receive_beside_it_with_its_secret() {
        let shared = given(&[("WEBHOOK_SECRET", "s"), ("LISTEN_ADDR", "0.0.0.0:1")]);
        for (listening, url) in [("127.0.0.1:1", "127.0.0.1:1"), ("0.0.0.0:1", "127.0.0.1:1"), ("[::]:1", "[::1]:1")] {
            let emit = environment_of("emit-retry", &shared, &places(listening, None));
            assert_eq!(emit.get("OPS_WEBHOOK_URL").unwrap(), format!("http://{url}/api/v1/webhooks/onboard"));
            assert_eq!(emit.get("OPS_WEBHOOK_SECRET").as_deref(), Some("s"));
            assert_eq!(emit.get("LISTEN_ADDR").as_deref(), Some("127.0.0.1:3"));
            assert_eq!(emit.get("EMIT_API_TOKEN"), None);
        }
        let shared = given(&[("OPS_WEBHOOK_URL", "https://ops.example.com/"), ("OPS_WEBHOOK_SECRET", "t")]);
        let emit = environment_of("emit-retry", &shared, &places("127.0.0.1:1", None));
        assert_eq!(emit.get("OPS_WEBHOOK_URL").as_deref(), Some("https://ops.example.com/"));
        assert_eq!(emit.get("OPS_WEBHOOK_SECRET").as_deref(), Some("t"));
    }

    #[test]
    fn the_embedded_engine_never_sees_the_machines_own_credentials() {
        let shared = given(&[
            ("AWS_REGION", "eu-central-1"),
            ("AWS_ACCESS_KEY_ID", "AKIA"),
            ("AWS_SECRET_ACCESS_KEY", "real"),
            ("AWS_SESSION_TOKEN", "real"),
            ("TABLE_PREFIX", "mine_"),
        ]);
        let here = environment_of("receive", &shared, &places("127.0.0.1:1", Some("127.0.0.1:8000")));
        assert_eq!(here.get("AWS_ENDPOINT_URL_DYNAMODB").as_deref(), Some("http://127.0.0.1:8000"));
        assert_eq!(here.get("AWS_REGION").as_deref(), Some("local"));
        assert_eq!(here.get("AWS_SECRET_ACCESS_KEY").as_deref(), Some("opshook"));
        assert_eq!(here.get("AWS_SESSION_TOKEN"), None);
        assert_eq!(here.get("TABLE_PREFIX").as_deref(), Some("mine_"));
        let elsewhere = environment_of("receive", &shared, &places("127.0.0.1:1", None));
        assert_eq!(elsewhere.get("AWS_SESSION_TOKEN").as_deref(), Some("real"));
    }
}

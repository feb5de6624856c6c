//! Settings that are missing or wrong: all at once, by name, and never by their value (contract §7).

use contract::signature::DEVELOPMENT_SECRET;
use service::host::{Environment, Service, StartError};

use crate::harness::TOKEN;

/// Stands in every wrong value that is a text of one's own.
const MARKER: &str = "marker-7f3a";
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLw2S";
const LOOPBACK: &str = "127.0.0.1:0";
const OUTSIDE: &str = "0.0.0.0:0";
const STORAGE: &str = "AWS_ENDPOINT_URL_DYNAMODB";

fn environment(settings: &[(&str, &str)], on_lambda: bool) -> Environment {
    let settings: Vec<(String, String)> = settings.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    let base = [("AWS_REGION", "local"), ("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test")];
    let mut environment = Environment::from_fn(move |name| {
        let given = settings.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone());
        given.or_else(|| base.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).to_owned()))
    });
    environment.on_lambda = on_lambda;
    environment
}

async fn start(function: &str, environment: &Environment) -> Result<Service, StartError> {
    match function {
        "receive" => receive::start(environment).await,
        "query-events" => query_events::start(environment).await,
        _ => emit_retry::start(environment).await,
    }
}

/// Starts it, and checks which settings it names.
async fn check_on(on_lambda: bool, function: &str, settings: &[(&str, &str)], at_fault: &[&str]) {
    let environment = environment(settings, on_lambda);
    let error = match start(function, &environment).await {
        Ok(_) => return assert_eq!(at_fault, [""; 0], "{function} started with {settings:?}"),
        Err(error) => error,
    };
    assert_eq!(error.exit_status(), 2);
    let StartError::Settings(faults) = &error else { panic!("{error}") };
    assert_eq!(faults.names().collect::<Vec<_>>(), at_fault, "{function} with {settings:?}: {error}");
    let text = format!("{error}\n{error:?}");
    assert_eq!(error.to_string().lines().count(), at_fault.len(), "{error}");
    for (name, line) in at_fault.iter().zip(error.to_string().lines()) {
        assert!(line.starts_with(&format!("{name}: ")) && line.len() > name.len() + 10, "{error}");
    }
    for (name, value) in settings.iter().filter(|(name, _)| name.ends_with("SECRET") || name.ends_with("TOKEN")) {
        assert!(value.len() < 8 || !text.contains(value), "{name}'s value is in: {text}");
    }
    assert!(!text.contains(MARKER), "{text}");
}

async fn check(function: &str, settings: &[(&str, &str)], at_fault: &[&str]) {
    check_on(false, function, settings, at_fault).await;
}

#[tokio::test]
async fn all_that_is_wrong_is_reported_at_once_and_by_name() {
    check("receive", &[], &["WEBHOOK_SECRET"]).await;
    check("query-events", &[], &["OPS_API_TOKEN"]).await;
    check("emit-retry", &[], &["OPS_WEBHOOK_URL", "OPS_WEBHOOK_SECRET"]).await;
    // Empty counts as missing.
    check("receive", &[("WEBHOOK_SECRET", " "), ("LISTEN_ADDR", "")], &["WEBHOOK_SECRET"]).await;
    let wrong = [
        ("LISTEN_ADDR", "localhost"),
        ("WEBHOOK_SECRET", "marker-7f3a"),
        ("TICKET_EVENTS", "account.created,Marker-7f3a"),
        ("EVENT_RETENTION_DAYS", "marker-7f3a"),
        ("TABLE_PREFIX", "marker-7f3a/"),
        ("OPS_API_TOKEN", "marker-7f3a"),
        ("OPS_WEBHOOK_URL", "marker-7f3a"),
        ("OPS_WEBHOOK_SECRET", "whsec_marker-7f3a"),
        ("OPS_WEBHOOK_RETRY_SCHEDULE", "1s,marker-7f3a"),
        ("OUTBOX_RETENTION_DAYS", "7"),
        ("EMIT_API_TOKEN", "marker-7f3a"),
        (STORAGE, "marker-7f3a:8000"),
    ];
    let of_receive =
        ["LISTEN_ADDR", "WEBHOOK_SECRET", "TICKET_EVENTS", "EVENT_RETENTION_DAYS", "TABLE_PREFIX", STORAGE];
    check("receive", &wrong, &of_receive).await;
    check("query-events", &wrong, &["LISTEN_ADDR", "OPS_API_TOKEN", "TABLE_PREFIX", STORAGE]).await;
    let of_emit = [
        "LISTEN_ADDR",
        "OPS_WEBHOOK_URL",
        "OPS_WEBHOOK_SECRET",
        "OPS_WEBHOOK_RETRY_SCHEDULE",
        "OUTBOX_RETENTION_DAYS",
        "EMIT_API_TOKEN",
        "TABLE_PREFIX",
        STORAGE,
    ];
    check("emit-retry", &wrong, &of_emit).await;
}

#[tokio::test]
async fn each_wrong_value_is_refused() {
    let receive = [
        (
            "LISTEN_ADDR",
            &["localhost:8080", "8080", ":8080", "127.0.0.1", "127.0.0.1:65536", "127.0.0.1:-1", "::1:80"][..],
        ),
        ("EVENT_RETENTION_DAYS", &["0", "-1", "1.5", "400d", "99999999999", "1e3"]),
        ("TICKET_EVENTS", &["Account.created", "account..created", ",", "account.created;dns.applied", "*"]),
        ("TABLE_PREFIX", &["a b", "a/b", "ü", "a\0b"]),
        ("WEBHOOK_SECRET", &["whsec_", "whsec_AAAA", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLw2S", "whsec_====", ",", "whsec_ü"]),
    ];
    for (name, values) in receive {
        for value in values {
            // The one looked up first counts.
            check("receive", &[(name, value), ("WEBHOOK_SECRET", SECRET)], &[name]).await;
        }
    }
    for endpoint in ["nonsense", "127.0.0.1:8000", "localhost:8000", "ftp://x", "http://", "http://a b"] {
        for (function, needed) in [("receive", "WEBHOOK_SECRET"), ("query-events", "OPS_API_TOKEN")] {
            check(function, &[(STORAGE, endpoint), (needed, SECRET)], &[STORAGE]).await;
        }
    }
    let second_wrong = format!("{SECRET} whsec_AAAA");
    check("receive", &[("WEBHOOK_SECRET", &second_wrong)], &["WEBHOOK_SECRET"]).await;
    let short = "x".repeat(23);
    for tokens in [short.as_str(), &format!("{TOKEN} {short}"), &format!("{TOKEN},x"), ",", "ü".repeat(24).as_str()] {
        check("query-events", &[("OPS_API_TOKEN", tokens)], &["OPS_API_TOKEN"]).await;
        let emit = [("EMIT_API_TOKEN", tokens), ("OPS_WEBHOOK_ENABLED", "false")];
        check("emit-retry", &emit, &["EMIT_API_TOKEN"]).await;
    }
    check("query-events", &[("OPS_API_TOKEN", &format!("{TOKEN}, {TOKEN}\n{TOKEN}"))], &[]).await;
    let emit = [
        (
            "OPS_WEBHOOK_URL",
            &["ops", "/onboard", "ftp://ops.example/", "file:///etc/passwd", "http://", "unix:/run/ops"][..],
        ),
        (
            "OPS_WEBHOOK_URL",
            &["http://user@ops.example/", "https://user:marker-7f3a@ops.example/", "http://:marker-7f3a@x/"],
        ),
        ("OPS_WEBHOOK_ENABLED", &["maybe", "2", "truefalse"]),
        ("OPS_WEBHOOK_RETRY_SCHEDULE", &["1", "1s,", ",", "1s;3s", "-1s", "1d", "25h", "1.5s", "s"]),
        ("OUTBOX_RETENTION_DAYS", &["7", "0", "-30", "30.0", "x"]),
    ];
    let good = [("OPS_WEBHOOK_URL", "https://ops.example/x"), ("OPS_WEBHOOK_SECRET", SECRET)];
    check("emit-retry", &good, &[]).await;
    for (name, values) in emit {
        for value in values {
            check("emit-retry", &[&[(name, *value)], &good[..]].concat(), &[name]).await;
        }
    }
}

#[tokio::test]
async fn the_development_secret_never_leaves_loopback() {
    let list = format!("{SECRET}, {DEVELOPMENT_SECRET}");
    let lines = format!("{DEVELOPMENT_SECRET}\n{SECRET}");
    for secrets in [DEVELOPMENT_SECRET, &list, &lines] {
        for listen in [LOOPBACK, "[::1]:0", "127.8.8.8:0"] {
            check("receive", &[("WEBHOOK_SECRET", secrets), ("LISTEN_ADDR", listen)], &[]).await;
            // A Lambda is never on loopback.
            check_on(true, "receive", &[("WEBHOOK_SECRET", secrets), ("LISTEN_ADDR", listen)], &["WEBHOOK_SECRET"])
                .await;
        }
        for listen in [OUTSIDE, "[::]:0", "192.0.2.1:8080", "10.0.0.1:80"] {
            check("receive", &[("WEBHOOK_SECRET", secrets), ("LISTEN_ADDR", listen)], &["WEBHOOK_SECRET"]).await;
        }
        let towards = |url| [("OPS_WEBHOOK_URL", url), ("OPS_WEBHOOK_SECRET", secrets)];
        for url in ["http://127.0.0.1:8080/x", "http://localhost:8080/x", "https://[::1]/x", "http://127.1/"] {
            check("emit-retry", &towards(url), &[]).await;
        }
        for url in [
            "https://ops.example/x",
            "http://localhost.example/x",
            "http://127.0.0.1.example/",
            "http://0.0.0.0/",
            "http://[::]/",
            "http://10.0.0.1/",
            "http://notlocalhost/",
        ] {
            check("emit-retry", &towards(url), &["OPS_WEBHOOK_SECRET"]).await;
        }
    }
    check("receive", &[("WEBHOOK_SECRET", SECRET), ("LISTEN_ADDR", OUTSIDE)], &[]).await;
    check_on(true, "receive", &[("WEBHOOK_SECRET", SECRET)], &[]).await;
}

#[tokio::test]
async fn emit_retry_without_a_token_is_on_loopback_or_nowhere() {
    for settings in [
        &[("OPS_WEBHOOK_URL", "https://ops.example/x"), ("OPS_WEBHOOK_SECRET", SECRET)][..],
        &[("OPS_WEBHOOK_ENABLED", "false")],
    ] {
        let with = |more: &[(&'static str, &'static str)]| [settings, more].concat();
        check("emit-retry", &with(&[]), &[]).await;
        check("emit-retry", &with(&[("LISTEN_ADDR", OUTSIDE)]), &["EMIT_API_TOKEN"]).await;
        check("emit-retry", &with(&[("LISTEN_ADDR", OUTSIDE), ("EMIT_API_TOKEN", " ")]), &["EMIT_API_TOKEN"]).await;
        check("emit-retry", &with(&[("LISTEN_ADDR", OUTSIDE), ("EMIT_API_TOKEN", TOKEN)]), &[]).await;
        check_on(true, "emit-retry", &with(&[]), &["EMIT_API_TOKEN"]).await;
        check_on(true, "emit-retry", &with(&[("EMIT_API_TOKEN", TOKEN)]), &[]).await;
    }
}

#[tokio::test]
async fn what_every_request_to_dynamodb_needs_is_required() {
    let none = [("AWS_REGION", ""), ("AWS_ACCESS_KEY_ID", ""), ("AWS_SECRET_ACCESS_KEY", "")];
    let names = none.map(|(name, _)| name);
    for (function, needed) in [("receive", "WEBHOOK_SECRET"), ("query-events", "OPS_API_TOKEN")] {
        check(function, &[&none[..], &[(needed, SECRET)]].concat(), &names).await;
        check(function, &[none[0], (needed, SECRET)], &names[..1]).await;
    }
    check("emit-retry", &[&none[..], &[("OPS_WEBHOOK_ENABLED", "false")]].concat(), &names).await;
}

#[tokio::test]
async fn an_endpoint_is_a_url_however_it_is_written() {
    // The embedded one: these spellings are of its address alone.
    let engine = engine::Engine::start(engine::Storage::Memory, LOOPBACK.parse().unwrap()).await.unwrap();
    let port = engine.addr().port();
    let tables = crate::harness::store(&crate::harness::settings(engine.addr(), &[])).await;
    tables.create_tables(store::tables::ALL).await.unwrap();
    for endpoint in
        [format!(" HTTP://127.0.0.1:{port} "), format!("http:127.0.0.1:{port}"), format!("http://127.1:{port}/")]
    {
        let more = [(STORAGE, endpoint.as_str())];
        let server = crate::harness::Server::query(crate::harness::settings(engine.addr(), &more)).await;
        assert_eq!(crate::raw::Raw::get("/ready").send(server.addr).await.status, 200, "{endpoint:?}");
    }
}

#[tokio::test]
async fn a_port_in_use_names_the_setting_and_the_address() {
    let held = std::net::TcpListener::bind(LOOPBACK).unwrap();
    let address = held.local_addr().unwrap();
    let error = adapter::server::bind(address, "LISTEN_ADDR").await.unwrap_err();
    assert_eq!(error.exit_status(), 1);
    let text = error.to_string();
    assert!(text.contains("LISTEN_ADDR") && text.contains(&address.to_string()), "{text}");
}

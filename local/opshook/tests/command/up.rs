//! `opshook up`: starts, says where, stops, and refuses what can't be.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;
use tempfile::tempdir;

use crate::support::{End as _, FREE_PORTS, Server, Up, data_dir, get, listens, one_line, opshook, stderr};

#[tokio::test]
async fn it_prints_where_everything_is_when_it_is_ready_and_stops_on_sigterm() {
    let dir = tempdir().unwrap();
    let up = Up::start(&dir, &[]);
    for (name, base) in [("receive", &up.receive), ("query-events", &up.query_events), ("emit-retry", &up.emit_retry)] {
        let (status, body) = get(&format!("{base}/ready"), None).await;
        assert_eq!((status, &body["function"]), (200, &name.into()));
    }
    assert_eq!(up.query("/api/v1/desk/tickets").await.0, 200);
    assert_eq!(get(&format!("{}/api/v1/desk/tickets", up.query_events), None).await.0, 401);
    let addresses = up.addresses();
    assert!(addresses.iter().all(|address| listens(*address)));
    let log = up.server.log();
    assert!(!log.contains(&up.secret) && !log.contains(&up.token), "{log}");
    assert_eq!(up.server.stop().code(), Some(0));
    assert!(!addresses.iter().any(|address| listens(*address)));
}

#[test]
fn it_stops_emit_retry_first_so_that_what_it_is_sending_is_answered() {
    let dir = tempdir().unwrap();
    let up = Up::start(&dir, &[]);
    assert_eq!(up.server.stop().code(), Some(0));
    let log = std::fs::read_to_string(dir.path().join("log")).unwrap();
    let entries = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let stopped: Vec<_> = entries.filter(|entry| entry["message"] == "stopped").collect();
    assert_eq!(stopped.len(), 3, "{log}");
    assert_eq!(stopped[0]["function"], "emit-retry", "{log}");
}

#[test]
fn without_json_it_prints_one_address_a_line() {
    let dir = tempdir().unwrap();
    let data_dir = data_dir(&dir);
    let mut command = opshook(&["up", "--data-dir", data_dir.to_str().unwrap()]);
    command.args(FREE_PORTS).env("RUST_LOG", "off");
    let (reader, writer) = std::io::pipe().unwrap();
    let mut child = command.stdout(writer).stderr(std::process::Stdio::null()).spawn().unwrap();
    drop(command);
    let lines: Vec<String> =
        std::io::BufRead::lines(std::io::BufReader::new(reader)).take(5).map(Result::unwrap).collect();
    child.kill().unwrap();
    child.wait().unwrap();
    for (line, name) in lines.iter().zip(["receive", "query-events", "emit-retry", "dynamodb"]) {
        let port = line.strip_prefix(&format!("{name} http://127.0.0.1:")).unwrap_or_else(|| panic!("{line}"));
        assert_ne!(port.parse::<u16>().unwrap(), 0);
    }
    assert_eq!(lines[4], format!("settings {}", data_dir.join("settings.env").display()));
}

#[test]
fn the_secret_and_the_token_are_made_once_and_only_for_their_owner() {
    let dir = tempdir().unwrap();
    let first = Up::start(&dir, &[]);
    let path = data_dir(&dir).join("settings.env");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(first.server.said["settings"], path.to_str().unwrap());
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.starts_with('#') && !text.contains("EMIT_API_TOKEN"), "{text}");
    let (secret, token) = (first.secret.clone(), first.token.clone());
    assert_eq!(first.server.stop().code(), Some(0));
    let second = Up::start(&dir, &[]);
    assert_eq!((&second.secret, &second.token), (&secret, &token));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
}

#[test]
fn settings_from_the_environment_leave_nothing_to_make() {
    let dir = tempdir().unwrap();
    let secret = contract::signature::DEVELOPMENT_SECRET;
    let up = Up::start(&dir, &[("WEBHOOK_SECRET", secret), ("OPS_API_TOKEN", "a-token-of-24-characters")]);
    assert!(up.server.said["settings"].is_null());
    assert!(!data_dir(&dir).join("settings.env").exists());
}

#[test]
fn a_second_one_on_the_same_directory_names_the_holder() {
    let dir = tempdir().unwrap();
    let up = Up::start(&dir, &[]);
    let data_dir = data_dir(&dir);
    let output = opshook(&["up", "--data-dir", data_dir.to_str().unwrap()]).args(FREE_PORTS).end();
    let line = one_line(&output, 1);
    assert!(line.contains(&format!("process {}", up.server.id())), "{line}");
    assert!(line.contains(data_dir.to_str().unwrap()), "{line}");
}

#[test]
fn a_port_in_use_is_named_with_the_option_to_change() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for option in ["--receive-addr", "--query-addr", "--emit-addr", "--dynamodb-addr"] {
        let dir = tempdir().unwrap();
        let mut args = FREE_PORTS.to_vec();
        let place = args.iter().position(|arg| *arg == option).unwrap();
        args[place + 1] = &address;
        let data_dir = data_dir(&dir);
        let output = opshook(&["up", "--data-dir", data_dir.to_str().unwrap()]).args(args).env("RUST_LOG", "off").end();
        let line = one_line(&output, 1);
        assert!(line.contains(option) && line.contains(&address) && line.contains("in use"), "{line}");
    }
}

#[test]
fn all_wrong_settings_are_named_at_once_and_once() {
    let dir = tempdir().unwrap();
    let output = opshook(&["up", "--data-dir", data_dir(&dir).to_str().unwrap()])
        .args(FREE_PORTS)
        .envs([("WEBHOOK_SECRET", "hunter2-hunter2"), ("OPS_API_TOKEN", "short"), ("TABLE_PREFIX", "a b")])
        .envs([("AWS_ENDPOINT_URL_DYNAMODB", "127.0.0.1:8000")])
        .envs([("LOG_FORMAT", "xml"), ("OPS_WEBHOOK_RETRY_SCHEDULE", "soon"), ("OPS_WEBHOOK_URL", "nowhere")])
        .end();
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    let names = ["WEBHOOK_SECRET", "OPS_API_TOKEN", "TABLE_PREFIX", "LOG_FORMAT", "OPS_WEBHOOK_RETRY_SCHEDULE"];
    for name in names.into_iter().chain(["OPS_WEBHOOK_URL", "AWS_ENDPOINT_URL_DYNAMODB"]) {
        let count = text.lines().filter(|line| line.starts_with(&format!("{name}:"))).count();
        assert_eq!(count, 1, "{name}: {text}");
    }
    assert!(!text.contains("hunter2") && !text.contains("short\n"), "{text}");
}

#[test]
fn only_loopback_may_be_listened_on_without_a_token() {
    let dir = tempdir().unwrap();
    let data_dir = data_dir(&dir);
    let mut args = FREE_PORTS;
    args[5] = "0.0.0.0:0";
    let output = opshook(&["up", "--data-dir", data_dir.to_str().unwrap()]).args(args).end();
    assert_eq!(output.status.code(), Some(2));
    let text = stderr(&output);
    let line = text.lines().last().unwrap();
    assert!(line.starts_with("EMIT_API_TOKEN:") && line.contains("--emit-addr"), "{text}");

    let output = opshook(&["up", "--data-dir", data_dir.to_str().unwrap(), "--dynamodb-addr", "0.0.0.0:0"]).end();
    assert!(one_line(&output, 2).starts_with("--dynamodb-addr:"));
}

#[tokio::test]
async fn another_engine_is_used_where_one_is_named() {
    let dir = tempdir().unwrap();
    let engine_dir = dir.path().join("engine");
    let engine = opshook(&["engine", "--json", "--listen", "127.0.0.1:0", "--data-dir", engine_dir.to_str().unwrap()]);
    let engine = Server::start(engine, dir.path().join("engine.log"));
    let url = engine.said["dynamodb"].as_str().unwrap();
    let credentials = [("AWS_REGION", "local"), ("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b")];
    let mut settings = vec![("AWS_ENDPOINT_URL_DYNAMODB", url)];
    settings.extend(credentials);
    let up = Up::start(&dir, &settings);
    assert_eq!(up.dynamodb, url);
    assert!(!data_dir(&dir).join("opshook.db").exists());
    assert!(data_dir(&dir).join("settings.env").exists());
    assert_eq!(up.query("/api/v1/desk/tickets").await.0, 200);
    assert_eq!(up.server.stop().code(), Some(0));
    assert_eq!(engine.stop().code(), Some(0));
}

#[test]
fn an_engine_that_does_not_answer_is_one_line() {
    let dir = tempdir().unwrap();
    let output = opshook(&["up", "--data-dir", data_dir(&dir).to_str().unwrap()])
        .args(FREE_PORTS)
        .envs([("AWS_REGION", "local"), ("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b")])
        .envs([("AWS_ENDPOINT_URL_DYNAMODB", "http://127.0.0.1:9"), ("RUST_LOG", "off")])
        .end();
    assert!(one_line(&output, 1).contains("AWS_ENDPOINT_URL_DYNAMODB: no DynamoDB at 127.0.0.1:9"));
}

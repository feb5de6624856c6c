//! `secret new`, `tables create`, `engine`, and how usage errors end.

use std::collections::HashSet;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Stdio;

use contract::signature::Secrets;
use serde_json::Value;
use tempfile::tempdir;

use crate::support::{End as _, Server, listens, one_line, opshook, run, stderr, stdout};

#[test]
fn a_new_secret_is_one_that_both_ends_take() {
    let mut seen = HashSet::new();
    for _ in 0..3 {
        let secret = stdout(&run(&["secret", "new"])).trim_end().to_owned();
        assert!(Secrets::parse(&secret).is_ok());
        assert_eq!(secret.len(), "whsec_".len() + 44, "32 bytes in base64");
        assert!(seen.insert(secret));
    }
    let line: Value = serde_json::from_str(&stdout(&run(&["secret", "new", "--json"]))).unwrap();
    assert!(Secrets::parse(line["secret"].as_str().unwrap()).is_ok());
}

#[test]
fn tables_are_created_once_and_named() {
    let dir = tempdir().unwrap();
    let engine = opshook(&["engine", "--json", "--listen", "127.0.0.1:0", "--data-dir", dir.path().to_str().unwrap()]);
    let engine = Server::start(engine, dir.path().join("log"));
    let create = |args: &[&str]| {
        opshook(args)
            .env("AWS_ENDPOINT_URL_DYNAMODB", engine.said["dynamodb"].as_str().unwrap())
            .envs([("AWS_REGION", "local"), ("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b")])
            .env("TABLE_PREFIX", "try_")
            .end()
    };
    let output = create(&["tables", "create"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(stdout(&output), "try_webhook_events  created\ntry_outbox          created\n");
    assert_eq!(stdout(&create(&["tables", "create"])).matches("already there").count(), 2);
    let line: Value = serde_json::from_str(&stdout(&create(&["tables", "create", "--json"]))).unwrap();
    assert_eq!(line["tables"][0], serde_json::json!({ "name": "try_webhook_events", "created": false }));

    let address = engine.said["dynamodb"].as_str().unwrap().strip_prefix("http://").unwrap().parse().unwrap();
    assert!(listens(address));
    assert_eq!(engine.stop().code(), Some(0));
    assert!(!listens(address));
}

#[test]
fn an_engine_needs_a_loopback_address_and_a_directory_of_its_own() {
    let dir = tempdir().unwrap();
    let data = dir.path().to_str().unwrap();
    let line = one_line(&run(&["engine", "--listen", "0.0.0.0:0", "--data-dir", data]), 2);
    assert!(line.starts_with("--listen:") && line.contains("loopback"), "{line}");
    let args = ["engine", "--json", "--listen", "127.0.0.1:0", "--data-dir", data];
    let engine = Server::start(opshook(&args), dir.path().join("log"));
    let line = one_line(&run(&args), 1);
    assert!(line.contains(&format!("process {}", engine.id())), "{line}");
    let address = engine.said["dynamodb"].as_str().unwrap().strip_prefix("http://").unwrap();
    let other = tempdir().unwrap();
    let line = one_line(&run(&["engine", "--listen", address, "--data-dir", other.path().to_str().unwrap()]), 1);
    assert!(line.contains("--listen") && line.contains(address) && line.contains("in use"), "{line}");
}

#[test]
fn usage_errors_are_exit_status_2_and_help_is_0() {
    let wrong: [&[&str]; 8] = [
        &[],
        &["nonsense"],
        &["up", "--receive-addr", "8080"],
        &["send"],
        &["send", "-", "--url", "ftp://example.com/"],
        &["send", "-", "--idempotency-key", "a,b"],
        &["secret"],
        &["tables", "drop"],
    ];
    for args in wrong {
        let output = run(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(stdout(&output).is_empty() && !stderr(&output).contains("panicked"), "{args:?}");
    }
    for args in [&["--help"][..], &["--version"], &["up", "--help"], &["demo", "-h"], &["secret", "new", "--help"]] {
        let output = run(args);
        assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""), "{args:?}");
    }
    let create = |settings: &[(&str, &str)]| opshook(&["tables", "create"]).envs(settings.iter().copied()).end();
    let here = [("AWS_REGION", "local"), ("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b")];
    for (name, wrong) in [("TABLE_PREFIX", "a b"), ("AWS_ENDPOINT_URL_DYNAMODB", "localhost")] {
        let bad = create(&[&here[..], &[(name, wrong)]].concat());
        assert!(one_line(&bad, 2).starts_with(&format!("{name}:")));
    }
    let all = create(&[("TABLE_PREFIX", "a b"), ("AWS_ENDPOINT_URL_DYNAMODB", "localhost")]);
    let names: Vec<String> = stderr(&all).lines().filter_map(|line| Some(line.split_once(':')?.0.to_owned())).collect();
    let expected = ["TABLE_PREFIX", "AWS_ENDPOINT_URL_DYNAMODB", here[0].0, here[1].0, here[2].0];
    assert_eq!((all.status.code(), names), (Some(2), expected.map(str::to_owned).to_vec()));
    let dir = tempdir().unwrap();
    let engine = ["engine", "--listen", "127.0.0.1:0", "--data-dir", dir.path().to_str().unwrap()];
    let bad = opshook(&engine).env("LOG_FORMAT", "xml").end();
    assert!(one_line(&bad, 2).starts_with("LOG_FORMAT:"));
}

/// A stream whose other end is closed.
fn closed() -> Vec<Stdio> {
    let (reader, pipe) = std::io::pipe().unwrap();
    let (peer, socket) = UnixStream::pair().unwrap();
    drop((reader, peer));
    vec![pipe.into(), OwnedFd::from(socket).into()]
}

#[test]
fn a_reader_that_has_gone_is_no_news() {
    for arguments in [&["secret", "new"][..], &["--help"], &["--version"], &["doctor", "--help"]] {
        for stdout in closed() {
            let output = opshook(arguments).stdout(stdout).stderr(Stdio::piped()).output().unwrap();
            assert!(matches!(output.status.code(), Some(0 | 1)), "{arguments:?}: {output:?}");
            assert_eq!(stderr(&output), "", "{arguments:?}");
        }
    }
    let full = || File::options().write(true).open("/dev/full").unwrap();
    let output = opshook(&["secret", "new"]).stdout(full()).stderr(Stdio::piped()).output().unwrap();
    assert!(one_line(&output, 1).contains("standard output"), "{output:?}");
    let output = opshook(&["--help"]).stdout(full()).output().unwrap();
    assert!(matches!(output.status.code(), Some(0 | 1)), "{output:?}");
}

#[test]
fn a_complaint_that_nobody_reads_keeps_its_exit_status() {
    for (arguments, status) in [
        (&["nonsense"][..], 2),
        (&[], 2),
        (&["send", "/nowhere/event.json"], 2),
        (&["tables", "create", "extra"], 2),
        (&["engine", "--listen", "192.0.2.1:0"], 2),
    ] {
        for stderr in closed() {
            let ended = opshook(arguments).stdout(Stdio::null()).stderr(stderr).status().unwrap();
            assert_eq!(ended.code(), Some(status), "{arguments:?}");
        }
    }
}

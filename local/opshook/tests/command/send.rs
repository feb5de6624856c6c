//! `opshook send`.

use serde_json::Value;
use tempfile::tempdir;

use crate::support::{End as _, Up, data_dir, event_file, one_line, opshook, run, run_with_input, stderr, stdout};

const EVENT: &str = r#"{"event":"account.created","session_id":"onb-send","domain":"example.com","data":{"n":1}}"#;

#[tokio::test]
async fn an_event_goes_to_emit_retry_and_the_same_key_adds_nothing() {
    let dir = tempdir().unwrap();
    let up = Up::start(&dir, &[]);
    let file = event_file(dir.path(), EVENT);
    let url = format!("{}/api/v1/events", up.emit_retry);
    let mut ids = Vec::new();
    for _ in 0..2 {
        let output = run(&["send", &file, "--url", &url, "--idempotency-key", "onb-send/1", "--json"]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let line: Value = serde_json::from_str(&stdout(&output)).unwrap();
        assert_eq!(line["status"], 202);
        ids.push(line["body"]["webhook_id"].as_str().unwrap().to_owned());
    }
    assert_eq!(ids[0], ids[1]);

    let output = run_with_input(&["send", "-", "--url", &url], EVENT);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert_eq!(text.lines().next(), Some("202 Accepted"));
    assert!(text.contains("webhook_id  msg_") && text.contains("state       pending"), "{text}");
}

#[tokio::test]
async fn with_direct_it_is_signed_and_goes_to_receive() {
    let dir = tempdir().unwrap();
    let up = Up::start(&dir, &[]);
    let file = event_file(dir.path(), EVENT);
    let url = format!("{}/api/v1/webhooks/onboard", up.receive);
    let data = data_dir(&dir);
    let args = ["send", &file, "--direct", "--url", &url, "--json", "--data-dir", data.to_str().unwrap()];
    for (status, outcome) in [(201, "ticket_created"), (200, "duplicate")] {
        let output = run(&args);
        let line: Value = serde_json::from_str(&stdout(&output)).unwrap();
        assert_eq!(output.status.code(), Some(0));
        assert_eq!((&line["status"], &line["body"]["outcome"]), (&status.into(), &outcome.into()));
    }
    let (_, tickets) = up.query("/api/v1/desk/tickets?domain=example.com").await;
    assert_eq!(tickets["items"].as_array().unwrap().len(), 1);

    let wrong = contract::signature::DEVELOPMENT_SECRET;
    let output = opshook(&args[..5]).env("WEBHOOK_SECRET", wrong).end();
    assert!(one_line(&output, 1).contains("401 signature_mismatch"));
    assert!(stdout(&output).starts_with("401 Unauthorized\n"));
    let output = opshook(&args[..5]).env("WEBHOOK_SECRET", &up.secret).end();
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn an_event_that_is_not_taken_is_exit_status_1_with_the_reason() {
    let dir = tempdir().unwrap();
    let up = Up::start(&dir, &[]);
    let url = format!("{}/api/v1/events", up.emit_retry);
    let output = run_with_input(&["send", "-", "--url", &url], r#"{"event":"Not Good","domain":"example.com"}"#);
    assert!(one_line(&output, 1).contains("422 invalid_event"));
    assert!(stdout(&output).contains("/event "), "{}", stdout(&output));
    let output = run_with_input(&["send", "-", "--url", &url, "--json"], "{");
    assert!(one_line(&output, 1).contains("400 malformed_json"));
    let line: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!((&line["status"], &line["body"]["code"]), (&400.into(), &"malformed_json".into()));
}

#[test]
fn emit_retrys_token_is_sent_where_it_is_set() {
    let dir = tempdir().unwrap();
    let token = "a-token-of-24-characters";
    let up = Up::start(&dir, &[("EMIT_API_TOKEN", token)]);
    let url = format!("{}/api/v1/events", up.emit_retry);
    let file = event_file(dir.path(), EVENT);
    assert!(one_line(&run(&["send", &file, "--url", &url]), 1).contains("401 token_missing"));
    let list = format!("{token}, an-older-token-of-24-chars");
    let output = opshook(&["send", &file, "--url", &url]).env("EMIT_API_TOKEN", list).end();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

#[test]
fn where_nothing_listens_is_said() {
    let dir = tempdir().unwrap();
    let file = event_file(dir.path(), EVENT);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let place = format!("http://{}", taken.local_addr().unwrap());
    drop(taken);
    let line = one_line(&run(&["send", &file, "--url", &format!("{place}/api/v1/events")]), 1);
    assert!(line.contains("nothing listens") && line.contains(&place), "{line}");
}

#[test]
fn what_can_not_be_sent_is_exit_status_2() {
    let dir = tempdir().unwrap();
    let missing = dir.path().join("missing.json");
    let line = one_line(&run(&["send", missing.to_str().unwrap()]), 2);
    assert!(line.contains("missing.json"), "{line}");
    assert!(one_line(&run(&["send", dir.path().to_str().unwrap()]), 2).contains("can't be read"));
    let file = event_file(dir.path(), EVENT);
    let nowhere = dir.path().to_str().unwrap();
    let line = one_line(&run(&["send", &file, "--direct", "--data-dir", nowhere]), 2);
    assert!(line.contains("WEBHOOK_SECRET") && line.contains("settings.env"), "{line}");
    let output = opshook(&["send", &file, "--direct"]).env("WEBHOOK_SECRET", "whsec_hunter2").end();
    let line = one_line(&output, 2);
    assert!(line.contains("WEBHOOK_SECRET") && !line.contains("hunter2"), "{line}");
}

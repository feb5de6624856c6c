//! The README's examples, as they stand but for the ports.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::tempdir;

use crate::support::{Up, data_dir};

/// The shell block of the README that begins like this.
fn block(beginning: &str) -> String {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md")).unwrap();
    let mut blocks = readme.split("```sh\n").filter_map(|rest| rest.split_once("```")).map(|(block, _)| block);
    blocks.find(|block| block.starts_with(beginning)).unwrap().to_owned()
}

#[test]
fn the_walk_with_curl_runs_as_it_stands() {
    let dir = tempdir().unwrap();
    let up = Up::start(&dir, &[]);
    std::os::unix::fs::symlink(data_dir(&dir), dir.path().join(".opshook")).unwrap();
    let walk = block(". .opshook/settings.env")
        .replace("http://127.0.0.1:8080", &up.receive)
        .replace("http://127.0.0.1:8081", &up.query_events)
        .replace("http://127.0.0.1:8082", &up.emit_retry);
    for _ in 0..2 {
        // `curl -s` ends no line: each answer gets one of its own.
        let script = format!("set -euo pipefail\ncurl() {{ command curl \"$@\"; echo; }}\n{walk}");
        let output = Command::new("bash").args(["-c", &script]).current_dir(dir.path()).stdin(Stdio::null()).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        let answers: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let [accepted, message, tickets, duplicate, session, closed] = answers.as_slice() else {
            panic!("not six answers: {text}");
        };
        assert_eq!(accepted["webhook_id"], message["webhook_id"]);
        assert_eq!(message["state"], "delivered");
        assert_eq!(tickets["items"].as_array().unwrap().len(), 1);
        assert_eq!((&duplicate["outcome"], &duplicate["payload_changed"]), (&"duplicate".into(), &false.into()));
        assert_eq!(duplicate["ticket_id"], tickets["items"][0]["ticket_id"]);
        assert_eq!(session["items"][0]["outcome"], "ticket_created");
        assert_eq!((&closed["ticket_id"], &closed["status"]), (&duplicate["ticket_id"], &"closed".into()));
    }
}

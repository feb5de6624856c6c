//! `opshook demo`: what a person sees first.

use serde_json::Value;
use tempfile::tempdir;

use crate::support::{End as _, FREE_PORTS, Up, data_dir, one_line, opshook, stderr, stdout};

fn demo(dir: &tempfile::TempDir, more: &[&str]) -> std::process::Command {
    let mut command = opshook(&["demo", "--once", "--data-dir", data_dir(dir).to_str().unwrap()]);
    command.args(FREE_PORTS).args(more);
    command
}

#[test]
fn it_ends_with_a_ticket_and_says_what_happened() {
    let dir = tempdir().unwrap();
    let output = demo(&dir, &[]).end();
    let page = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{page}{}", stderr(&output));
    assert_eq!(page.matches('✔').count(), 7, "{page}");
    for promised in ["202", "tkt_", "200 duplicate", "domain.validated", "dns.applied", "onboarding.completed"] {
        assert!(page.contains(promised), "{promised} is missing: {page}");
    }
    for promised in ["401 signature_mismatch", "settings.env", "curl -s", "README.md", "ARCHITECTURE.md"] {
        assert!(page.contains(promised), "{promised} is missing: {page}");
    }
    assert!(!page.contains('\u{1b}'), "colours are for terminals");
    assert_eq!(stderr(&output), "", "the log is quiet");
    let (steps, _) = page.split_once("Read it back").unwrap();
    for line in steps.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
}

#[test]
fn in_json_each_step_is_a_line_and_each_run_makes_one_new_ticket() {
    let dir = tempdir().unwrap();
    let mut tickets = Vec::new();
    for _ in 0..2 {
        let output = demo(&dir, &["--json"]).end();
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let lines: Vec<Value> = stdout(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let steps: Vec<_> = lines.iter().map(|line| line["step"].as_str().unwrap()).collect();
        let order = ["started", "accepted", "delivered", "ticket", "same_again", "funnel", "forged", "summary"];
        assert_eq!(steps, order);
        assert!(lines.iter().all(|line| line["ok"] == true));
        assert_eq!(lines[4]["tickets"], 1);
        assert_eq!(lines[4]["ticket_id"], lines[3]["ticket_id"]);
        assert_ne!(lines[4]["webhook_id"], lines[1]["webhook_id"]);
        assert_eq!(lines[5]["records"].as_array().unwrap().len(), 5);
        tickets.push(lines[7]["ticket_id"].as_str().unwrap().to_owned());
    }
    assert_ne!(tickets[0], tickets[1]);
}

#[test]
fn a_step_that_did_not_happen_is_shown_with_what_was_seen_and_is_exit_status_1() {
    let dir = tempdir().unwrap();
    let output = demo(&dir, &[]).env("OPS_WEBHOOK_ENABLED", "false").end();
    let page = stdout(&output);
    assert!(one_line(&output, 1).contains("5 of 6 steps"));
    assert!(page.contains("✘ accepted") && page.contains("200 disabled"), "{page}");
    assert!(page.contains("✔ forged"), "{page}");

    let output = demo(&dir, &["--json"]).env("TICKET_EVENTS", "other").end();
    assert_eq!(output.status.code(), Some(1));
    let line = stdout(&output).lines().find(|line| line.contains(r#""step":"delivered""#)).unwrap().to_owned();
    let step: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&step["ok"], &step["seen"]), (&false.into(), &"delivered, answered 200".into()));
}

#[tokio::test]
async fn the_lines_to_paste_work_as_they_stand() {
    let dir = tempdir().unwrap();
    let page = stdout(&demo(&dir, &[]).end());
    let up = Up::start(&dir, &[]);
    // Those of the ended demo, on the ports of what is up now.
    let (_, after) = page.split_once("in another terminal").unwrap();
    let (lines, _) = after.split_once("Where to look next").unwrap();
    let (_, lines) = lines.split_once('\n').unwrap();
    let mut script = String::from("set -eu\n");
    for line in lines.lines() {
        let base = [("/desk/", &up.query_events), ("/webhooks/", &up.query_events), ("/outbox/", &up.emit_retry)]
            .into_iter()
            .find(|(path, _)| line.contains(path));
        match (base, line.find("http://"), line.find("/api/")) {
            (Some((_, base)), Some(from), Some(to)) => {
                script.push_str(&format!("{}{base}{}; echo\n", &line[..from], &line[to..]));
            }
            _ => script.push_str(&format!("{line}\n")),
        }
    }
    let output = std::process::Command::new("sh").args(["-c", &script]).end();
    let answers: Vec<Value> = stdout(&output)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{script}\n{line}")))
        .collect();
    assert_eq!(answers.len(), 3, "{script}{}", stderr(&output));
    assert_eq!(answers[0]["items"].as_array().unwrap().len(), 1);
    assert_eq!(answers[1]["items"].as_array().unwrap().len(), 5);
    assert_eq!(answers[2]["state"], "delivered");
}

//! Faults of the settings and of the files that they stand in.

use contract::signature::DEVELOPMENT_SECRET;

use super::{Files, doctor, portal, query, receive, run, with};

const NOWHERE: &str = "http://127.0.0.1:1";
/// Nothing listens there, and nothing need: what is looked at here are the settings.
const AWAY: &str = "127.0.0.1:1";

fn of_files(told: &super::Told) -> Vec<(String, String)> {
    let checks = told.report["checks"].as_array().unwrap().iter();
    let checks = checks.filter(|finding| {
        ["settings file", "receive settings", "query-events settings", "emit-retry settings"]
            .iter()
            .any(|name| finding["check"] == *name)
            && finding["status"] != "ok"
    });
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    checks
        .map(|finding| (format!("{} {}", text(&finding["status"]), text(&finding["saw"])), text(&finding["remedy"])))
        .collect()
}

#[tokio::test]
async fn a_file_with_a_secret_that_others_can_read_is_a_fault() {
    let files = Files::new();
    let text = format!("WEBHOOK_SECRET={}\n", super::SECRET);
    for (mode, is_fault) in [(0o600, false), (0o400, false), (0o640, true), (0o604, true)] {
        let path = files.put_text("receive.env", &text, mode);
        let told = files.doctor("ops", &[&path]).await;
        let of_mode: Vec<_> = of_files(&told).into_iter().filter(|(saw, _)| saw.contains("has mode")).collect();
        assert_eq!(!of_mode.is_empty(), is_fault, "{mode:o}: {:#}", told.report);
        if let Some((saw, remedy)) = of_mode.first() {
            assert!(saw.starts_with("fail") && saw.contains(&format!("{mode:04o}")), "{saw}");
            assert_eq!(*remedy, format!("chmod 600 {path}"));
        }
    }
    let open = files.put_text("ops.env", "TABLE_PREFIX=mine_\n", 0o644);
    assert!(!of_files(&files.doctor("ops", &[&open]).await).iter().any(|(saw, _)| saw.contains("mode")));
    let written = files.put_text("ops.env", "TABLE_PREFIX=mine_\n", 0o666);
    let told = of_files(&files.doctor("ops", &[&written]).await);
    assert!(told.iter().any(|(saw, remedy)| saw.contains("can write") && remedy.starts_with("chmod go-w")), "{told:?}");
}

#[tokio::test]
async fn a_line_that_systemd_leaves_out_is_named_and_not_quoted() {
    let files = Files::new();
    let text = format!("# one\nexport OPS_API_TOKEN={}\n", super::OPS_TOKEN);
    let path = files.put_text("query-events.env", &text, 0o600);
    let told = of_files(&files.doctor("ops", &[&path]).await);
    let line = format!("fail line 2 of {path} is no setting, and systemd leaves it out");
    assert!(told.iter().any(|(saw, remedy)| *saw == line && remedy.contains("without `export`")), "{told:?}");
    assert!(told.iter().any(|(saw, _)| saw.starts_with("fail OPS_API_TOKEN: is required")), "{told:?}");
}

#[tokio::test]
async fn settings_that_are_missing_or_wrong_are_told_by_the_function_itself() {
    let files = Files::new();
    let wrong =
        files.put("receive.env", &[("WEBHOOK_SECRET", "whsec_x"), ("LISTEN_ADDR", "here"), ("AWS_REGION", "local")]);
    let told = files.doctor("ops", &[&wrong]).await;
    assert_eq!(told.status, 1);
    let told = of_files(&told);
    for start in
        ["WEBHOOK_SECRET", "LISTEN_ADDR: must be an IP address", "AWS_ACCESS_KEY_ID: is required", "OPS_API_TOKEN: is"]
    {
        let found = told.iter().find(|(saw, _)| saw.strip_prefix("fail ").is_some_and(|saw| saw.starts_with(start)));
        let (_, remedy) = found.unwrap_or_else(|| panic!("{start}: {told:?}"));
        let name = start.split(':').next().unwrap();
        assert!(remedy.contains(&format!("set {name} so")), "{remedy}");
    }
    // A file for one function says nothing of another, and a later file wins.
    let shared = files.put("shared.env", &[receive(NOWHERE, AWAY), query(NOWHERE, AWAY)].concat());
    let told = files.doctor("ops", &[&wrong, &shared]).await;
    assert!(of_files(&told).is_empty(), "{:#}", told.report);
}

#[tokio::test]
async fn weak_secrets_are_told_and_refused_where_anyone_could_use_them() {
    let files = Files::new();
    let development = with(receive(NOWHERE, AWAY), "WEBHOOK_SECRET", DEVELOPMENT_SECRET);
    let look = async |settings: &[(&str, &str)], host: &str| of_files(&doctor(&[host], settings).await);
    let told = look(&development, "ops").await;
    assert!(
        told.iter().any(|(saw, remedy)| saw.starts_with("warn WEBHOOK_SECRET holds the development secret")
            && remedy.contains("opshook secret new")),
        "{told:?}"
    );
    let told = look(&with(development, "LISTEN_ADDR", "0.0.0.0:1"), "ops").await;
    assert!(
        told.iter().any(|(saw, _)| saw.starts_with("fail WEBHOOK_SECRET: holds the development secret")),
        "{told:?}"
    );
    for (token, fault) in [("short", "must be at least 24"), ("change-me-change-me-change-me", "looks made up")] {
        let told = look(&with(query(NOWHERE, AWAY), "OPS_API_TOKEN", token), "ops").await;
        assert!(told.iter().any(|(saw, _)| saw.starts_with("fail OPS_API_TOKEN") && saw.contains(fault)), "{told:?}");
        let told = look(&with(portal(NOWHERE, AWAY, NOWHERE), "EMIT_API_TOKEN", token), "portal").await;
        assert!(told.iter().any(|(saw, _)| saw.starts_with("fail EMIT_API_TOKEN") && saw.contains(fault)), "{told:?}");
    }
    drop(files);
}

#[tokio::test]
async fn wrong_usage_is_exit_status_2_and_one_line() {
    for (arguments, word) in [
        (&["doctor"][..], "which host is this?"),
        (&["doctor", "--env-file", "/nonexistent/receive.env"], "/nonexistent/receive.env: can't be read"),
        (&["doctor", "--data-dir", "/nonexistent"], "which host is this?"),
    ] {
        let (status, said) = run(arguments, &[]).await;
        assert_eq!((status, said.lines().count()), (2, 1), "{said}");
        assert!(said.contains(word), "{said}");
    }
    assert_eq!(run(&["doctor", "laptop"], &[]).await.0, 2);
    assert_eq!(run(&["doctor", "ops", "--receive-addr", "127.0.0.1:1"], &[]).await.0, 2);
    let (status, said) = run(&["doctor", "--help"], &[]).await;
    assert!(status == 0 && said.contains("Examples:") && said.contains("--env-file"), "{said}");
}

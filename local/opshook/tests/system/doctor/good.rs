//! Hosts that are well: the real binaries, each with a file of settings as on a VM.

use serde_json::json;

use super::{Files, doctor, local, owned, portal, query, receive, run};
use crate::harness::{ONBOARD, Server, engine, eventually, get};
use crate::process::{OPSHOOK, Process, free_port, function_binary};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_good_hosts_every_check_is_ok() {
    let engine = engine().await;
    let endpoint = local(engine.addr());
    let addresses: [String; 3] = std::array::from_fn(|_| format!("127.0.0.1:{}", free_port()));
    let url = format!("http://{}{ONBOARD}", addresses[0]);
    let files = Files::new();
    let settings =
        [receive(&endpoint, &addresses[0]), query(&endpoint, &addresses[1]), portal(&endpoint, &addresses[2], &url)];
    let names = ["receive", "query-events", "emit-retry"];
    let mut processes = Vec::new();
    for ((name, settings), address) in names.iter().zip(&settings).zip(&addresses) {
        let mut process = Process::start(&function_binary(name), &[], settings.iter().copied());
        process.line_with(address).await;
        processes.push(process);
    }
    let paths: Vec<String> =
        names.iter().zip(&settings).map(|(name, settings)| files.put(&format!("{name}.env"), settings)).collect();

    let ops = files.doctor("ops", &[&paths[0], &paths[1]]).await;
    let portal = files.doctor("portal", &[&paths[2]]).await;
    for told in [&ops, &portal] {
        assert_eq!((told.status, &told.report["ok"]), (0, &json!(true)), "{:#}", told.report);
        assert_eq!((&told.report["failed"], &told.report["warned"]), (&json!(0), &json!(0)), "{:#}", told.report);
        for finding in told.report["checks"].as_array().unwrap() {
            let keys: Vec<&str> = finding.as_object().unwrap().keys().map(String::as_str).collect();
            assert_eq!(keys, ["check", "remedy", "saw", "status"]);
            assert_eq!((&finding["status"], &finding["remedy"]), (&json!("ok"), &json!(null)), "{finding}");
            assert!(finding["saw"].as_str().is_some_and(|saw| !saw.is_empty()));
        }
    }
    let checked = |told: &super::Told| -> Vec<String> {
        told.report["checks"].as_array().unwrap().iter().map(|f| f["check"].as_str().unwrap().to_owned()).collect()
    };
    let of_ops = [
        "settings file",
        "settings file",
        "receive settings",
        "query-events settings",
        "receive tables",
        "receive server",
        "receive ready",
        "receive secret",
        "query-events tables",
        "query-events server",
        "query-events ready",
        "same tables",
    ];
    assert_eq!(checked(&ops), of_ops);
    let of_portal = [
        "settings file",
        "emit-retry settings",
        "emit-retry tables",
        "emit-retry server",
        "emit-retry ready",
        "ops reach",
        "ops secret",
        "ops clock",
        "outbox pending",
        "outbox dead",
        "outbox parked",
    ];
    assert_eq!(checked(&portal), of_portal);

    // Looking left nothing behind.
    let list = crate::harness::call(
        reqwest::Method::GET,
        &format!("http://{}/api/v1/webhooks/events", addresses[1]),
        &[("authorization", &format!("Bearer {}", super::OPS_TOKEN))],
        "",
    )
    .await;
    assert_eq!((list.status, list.body["items"].as_array().map(Vec::len)), (200, Some(0)), "{list:?}");

    // For a person it is a line a check; the host is known by its settings; and the environment does as well.
    let all = ["doctor", "--env-file", &paths[0], "--env-file", &paths[1], "--env-file", &paths[2]];
    let (status, said) = run(&all, &[]).await;
    assert_eq!((status, said.lines().count()), (0, of_ops.len() + of_portal.len()), "{said}");
    assert!(said.lines().all(|line| line.starts_with("ok    ")), "{said}");
    let told = doctor(&[], &settings[2]).await;
    assert_eq!((told.status, checked(&told)), (0, of_portal[1..].iter().map(ToString::to_string).collect()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_up_started_is_looked_at_by_its_data_directory() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data").to_str().unwrap().to_owned();
    let ports: [String; 4] = std::array::from_fn(|_| format!("127.0.0.1:{}", free_port()));
    let places = ["--receive-addr", &ports[0], "--query-addr", &ports[1], "--emit-addr", &ports[2]];
    let places = [&places[..], &["--dynamodb-addr", &ports[3], "--data-dir", &data]].concat();
    let home = [("HOME", "/")];
    let mut up = Process::start(OPSHOOK.as_ref(), &[&["up"], places.as_slice()].concat(), home);
    up.line_with("settings").await;
    let told = doctor(&places, &home).await;
    assert_eq!((told.status, &told.report["failed"]), (0, &json!(0)), "{:#}", told.report);
    for check in ["receive secret", "ops secret", "ops clock", "same tables", "outbox dead", "disk", "settings file"] {
        assert_ne!(told.of(check)["status"], "fail");
    }
    let made = std::fs::read_to_string(dir.path().join("data/settings.env")).unwrap();
    for line in made.lines().filter_map(|line| line.split_once('=')) {
        assert!(!told.report.to_string().contains(line.1), "{} is in the report", line.0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_differs_is_a_warning_and_sending_that_is_disabled_too() {
    let engine = engine().await;
    let endpoint = local(engine.addr());
    let settings = super::with(portal(&endpoint, "127.0.0.1:0", "http://127.0.0.1:1/"), "OPS_WEBHOOK_ENABLED", "false");
    let emit = Server::emit(owned(&settings)).await;
    eventually(5, "there", async || (get(&emit.url("/health"), &[]).await.status == 200).then_some(())).await;
    let address = emit.addr.to_string();
    let told = doctor(&["portal"], &super::with(settings, "LISTEN_ADDR", &address)).await;
    assert_eq!(told.status, 0, "{:#}", told.report);
    told.assert_warned("ops reach", "dropped", "set it to true");
    let old =
        super::ops::fake(|_| super::ops::answer(200, r#"{"status":"ok","function":"receive","version":"0.0.9"}"#))
            .await;
    let told = doctor(&["ops"], &receive(&endpoint, &old.to_string())).await;
    told.assert_warned("receive server", "receive 0.0.9", "same version");
}

//! Functions that do not run, or not as their settings say.

use super::{OTHER_SECRET, doctor, local, owned, query, receive, with};
use crate::harness::{Server, engine};
use crate::process::free_port;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_function_that_does_not_run_or_is_another_is_told() {
    let engine = engine().await;
    let endpoint = local(engine.addr());
    let query_events = Server::query(owned(&query(&endpoint, "127.0.0.1:0"))).await;
    let address = query_events.addr.to_string();
    let files = super::Files::new();
    let look = async |receive_at: &str| {
        let paths = [
            files.put("receive.env", &receive(&endpoint, receive_at)),
            files.put("query-events.env", &query(&endpoint, &address)),
        ];
        files.doctor("ops", &[&paths[0], &paths[1]]).await
    };
    let nobody = format!("127.0.0.1:{}", free_port());
    look(&nobody).await.assert_failed(
        &["receive server"],
        &["nothing listens", &nobody],
        &["start receive", "LISTEN_ADDR"],
    );
    look(&address).await.assert_failed(&["receive server"], &[&address, "is not receive"], &["LISTEN_ADDR"]);
    let engine_at = engine.addr().to_string();
    look(&engine_at).await.assert_failed(&["receive server"], &["is not receive"], &["LISTEN_ADDR"]);
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = silent.local_addr().map(|address| (address.to_string(), silent)).unwrap();
    look(&silent.0).await.assert_failed(&["receive server"], &["no answer within 5 s"], &["restart"]);
    let told = look("127.0.0.1:0").await;
    told.assert_warned("receive server", "port 0", "a port");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receive_that_was_not_restarted_after_its_secret_changed_is_told() {
    let engine = engine().await;
    let endpoint = local(engine.addr());
    let before = with(receive(&endpoint, "127.0.0.1:0"), "WEBHOOK_SECRET", OTHER_SECRET);
    let running = Server::receive(owned(&before)).await;
    let address = running.addr.to_string();
    let files = super::Files::new();
    let paths = [
        files.put("receive.env", &receive(&endpoint, &address)),
        files.put("query-events.env", &query(&endpoint, "127.0.0.1:0")),
    ];
    let told = files.doctor("ops", &[&paths[0], &paths[1]]).await;
    told.assert_failed(&["receive secret"], &["another WEBHOOK_SECRET"], &["restart receive"]);
}

#[tokio::test]
async fn a_data_directory_that_is_not_there_is_told_and_free_space_is_counted() {
    let settings = receive("http://127.0.0.1:1", "127.0.0.1:0");
    let told = doctor(&["ops", "--data-dir", "/nonexistent/data"], &settings).await;
    let finding = told.of("disk");
    assert_eq!((told.status, finding["status"].as_str()), (1, Some("fail")));
    assert!(finding["remedy"].as_str().unwrap().contains("--data-dir"));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let told = doctor(&["ops", "--data-dir", path], &settings).await;
    let saw = told.of("disk")["saw"].as_str().unwrap();
    let free: u64 = saw.split(' ').next().unwrap().parse().unwrap();
    assert!(free > 0 && saw.ends_with(&format!("MiB are free for {path}")), "{saw}");
}

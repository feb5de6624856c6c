//! Who invokes it, told by the shape of what comes.

use serde_json::{Value, json};

use super::runtime::Lambda;
use super::{Site, TIME, all_recorded, emit_settings, sequence, sweep};
use crate::harness::{ONBOARD, TOKEN, account_created, eventually, settings};
use crate::ops::{self, Ops};
use crate::parity;
use crate::proxy::{Fault, Proxy, pass};
use crate::raw::Raw;

fn as_http(request: &Raw) -> String {
    parity::event(request, "$default").to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_direct_invocation_accepts_its_event_once_for_each_request_id() {
    let ops = Ops::start(|_, _| ops::status(200, "")).await;
    let site = Site::start(&ops, "1s").await;
    let event = r#" {"event":"account.created","session_id":"onb-1","domain":"Bücher.example","data":{"n": 1e999,"big":123456789012345678901234567890.10}} "#;
    let first = site.lambda.invoke_as("8476a536-e9f4-11e8-9739-2dfe598c3fcd", event, TIME).await.0.success();
    assert_eq!(first["state"], "pending");
    assert_eq!(first.as_object().unwrap().len(), 2, "{first}");
    // Lambda tries an asynchronous invocation again under its id.
    let again = site.lambda.invoke_as("8476a536-e9f4-11e8-9739-2dfe598c3fcd", event, TIME).await.0.success();
    assert_eq!(first, again);
    let another = site.lambda.invoke_as("another", event, TIME).await.0.success();
    assert_ne!(first["webhook_id"], another["webhook_id"]);
    let id = first["webhook_id"].as_str().unwrap().to_owned();
    let stream = site.stream(std::slice::from_ref(&id)).await;
    assert_eq!(site.lambda.invoke(stream, TIME).await.success(), all_recorded());
    let sent = ops.of(&id);
    let [sent] = &sent[..] else { panic!("{sent:?}") };
    sent.assert_delivery(contract::signature::DEVELOPMENT_SECRET);
    // Numbers are as they came, and so is all of `data`.
    assert!(sent.body.ends_with(r#""data":{"n": 1e999,"big":123456789012345678901234567890.10}}"#), "{}", sent.body);
    assert_eq!(site.message(&id).await["state"], "delivered");
    let known = site.lambda.invoke_as("8476a536-e9f4-11e8-9739-2dfe598c3fcd", event, TIME).await.0.success();
    assert_eq!(known, json!({"webhook_id": id, "state": "delivered"}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_accepted_on_lambda_is_leased_to_nobody_and_waits_for_a_trigger() {
    let ops = Ops::start(|_, _| ops::status(200, "")).await;
    let site = Site::start(&ops, "1s").await;
    // Of all that a process knows after a sweep, nothing makes it work on what it accepts.
    assert_eq!(site.lambda.invoke(sweep(), TIME).await.success(), Value::Null);
    let direct = site.accept("direct").await;
    let request = Raw::json("POST", "/api/v1/events", account_created("http", "example.com"));
    let answer = site.lambda.invoke(as_http(&request), TIME).await.success();
    assert_eq!(answer["statusCode"], 401, "a caller by HTTP needs a token: {answer}");
    let answer = site.lambda.invoke(as_http(&request.header("authorization", format!("Bearer {TOKEN}"))), TIME).await;
    let answer = answer.success();
    assert_eq!(answer["statusCode"], 202, "{answer}");
    let body: Value = serde_json::from_str(answer["body"].as_str().unwrap()).unwrap();
    let ids = [direct, body["webhook_id"].as_str().unwrap().to_owned()];
    for id in &ids {
        let item = site.item(id).await;
        assert_eq!((&item["state"]["S"], &item["attempts_total"]["N"]), (&json!("pending"), &json!("0")), "{item}");
        assert_eq!((item.get("claim_id"), item.get("lease_until")), (None, None), "{item}");
        assert_eq!(item["due_at"], item["accepted_at"]);
    }
    assert_eq!(ops.seen().len(), 0, "nothing runs after an answer");
    assert_eq!(site.lambda.invoke(sweep(), TIME).await.success(), Value::Null);
    assert_eq!(ops.seen().len(), 2);
    for id in &ids {
        assert_eq!(site.message(id).await["state"], "delivered");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_is_refused_or_can_not_be_kept_fails_its_invocation() {
    let ops = Ops::start(|_, _| ops::status(200, "")).await;
    let mut site = Site::start(&ops, "1s").await;
    let secret = "secret-4711";
    let of = |text: &str| text.to_owned();
    for (event, code, part) in [
        (of(r#"{"session_id":"s"}"#), "invalid_event", "/event is required"),
        (of(r#"{"event":"a","session_id":"s","mailto":"x"}"#), "invalid_event", "/mailto is not a field of an event"),
        (of(r#"{"event":"a","type":"a","session_id":"s","source":"aws.events"}"#), "invalid_event", "/source"),
        (of(r#"{"event":"a","session_id":"s","Records":[]}"#), "invalid_event", "/Records"),
        (of(r#"{"event":"a","session_id":"s","session_id":"t"}"#), "malformed_json", "twice"),
        (format!(r#"{{"event":"a","session_id":"s","data":{{"x":"{secret}","x":1}}}}"#), "malformed_json", "twice"),
        (of("{}"), "invalid_event", "/event is required"),
        (of("[]"), "invalid_event", "object"),
        (of("null"), "invalid_event", "object"),
        (of(r#""text""#), "invalid_event", "object"),
        (account_created(&"x".repeat(70_000), ""), "payload_too_large", "65536"),
    ] {
        let text = site.lambda.invoke(event, TIME).await.failure(code);
        assert!(text.contains(part) && !text.contains(secret), "{text}");
    }
    // The same id with another event is no repetition.
    let event = |session| account_created(session, "example.com");
    site.lambda.invoke_as("one-id", event("a"), TIME).await.0.success();
    site.lambda.invoke_as("one-id", event("b"), TIME).await.0.failure("idempotency_mismatch");
    // Storage away: never a success.
    site.storage.set_plan(|_| Fault::Hang);
    let (answer, took) = site.lambda.invoke_as("kept", event("kept"), TIME).await;
    let text = answer.failure("storage_unavailable");
    assert!(text.contains("try again") && took.as_secs() < 3, "{text}, {took:?}");
    let line = site.lambda.line_with("storage_unavailable").await;
    assert!(line.contains("kept") && line.contains("PutItem"), "the log names the invocation and the cause: {line}");
    site.storage.set_plan(|_| Fault::Pass);
    site.lambda.invoke_as("kept", event("kept"), TIME).await.0.success();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn triggers_of_another_kind_fail_clearly_and_store_nothing() {
    let ops = Ops::start(|_, _| ops::status(200, "")).await;
    let site = Site::start(&ops, "1s").await;
    let event = account_created("onb-1", "example.com");
    for foreign in [
        json!({"Records": [{"messageId": "1", "body": event, "eventSource": "aws:sqs"}]}),
        json!({"Records": [{"EventSource": "aws:sns", "Sns": {"Message": event}}]}),
        json!({"version": "0", "source": "portal", "detail-type": "account.created", "detail": {}}),
        json!({"httpMethod": "POST", "path": "/api/v1/events", "requestContext": {"elb": {}}, "body": event}),
        json!({"version": "1.0", "httpMethod": "POST", "requestContext": {"httpMethod": "POST"}, "body": event}),
        json!({"opshook": "stop"}),
    ] {
        let text = site.lambda.invoke(foreign.to_string(), TIME).await.failure("unknown_trigger");
        assert!(text.contains("bare event") && !text.contains("onb-1"), "{text}");
    }
    assert_eq!(site.lambda.invoke(sweep(), TIME).await.success(), Value::Null);
    assert_eq!(ops.seen().len(), 0);
    // What is no HTTP is for emit-retry alone.
    let secret = [("WEBHOOK_SECRET", "whsec_cGFyaXR5LXBhcml0eS1wYXJpdHktcGFyaXR5LTMy")];
    let receive = Lambda::start("receive", settings(site.engine.addr(), &secret)).await;
    let id = site.accept("onb-1").await;
    for event in [site.stream(&[id]).await, sweep(), event] {
        let text = receive.invoke(event, TIME).await.failure("unknown_trigger");
        assert!(text.starts_with("receive is invoked by an HTTP API"), "{text}");
    }
    let answer = receive.invoke(as_http(&Raw::json("POST", ONBOARD, "{}")), TIME).await.success();
    assert_eq!(answer["statusCode"], 401, "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_sending_is_disabled_its_triggers_succeed_and_leave_all_as_it_is() {
    let ops = Ops::start(|_, _| ops::status(200, "")).await;
    let site = Site::start(&ops, "1s").await;
    let id = site.accept("onb-1").await;
    let storage = Proxy::start(site.engine.addr(), pass()).await;
    let mut settings = emit_settings(&storage, &ops, "1s");
    settings.insert("OPS_WEBHOOK_ENABLED".to_owned(), "false".to_owned());
    let disabled = Lambda::start("emit-retry", settings).await;
    let event = account_created("onb-2", "example.com");
    assert_eq!(disabled.invoke(event, TIME).await.success(), json!({"state": "disabled"}));
    disabled.invoke("{}", TIME).await.failure("invalid_event");
    assert_eq!(disabled.invoke(sweep(), TIME).await.success(), Value::Null);
    let stream = site.stream(std::slice::from_ref(&id)).await;
    assert_eq!(disabled.invoke(stream, TIME).await.success(), all_recorded());
    assert_eq!((ops.seen().len(), &site.message(&id).await["state"]), (0, &json!("pending")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_has_its_new_messages_sent_and_of_the_others_none() {
    let ops = Ops::start(|_, _| ops::status(200, "")).await;
    let site = Site::start(&ops, "1s").await;
    let ids = site.accept_all(&["new", "modified", "new-2", "waits"]).await;
    let mut event: Value = serde_json::from_str(&site.stream(&ids[..3]).await).unwrap();
    event["Records"][1]["eventName"] = json!("MODIFY");
    event["Records"].as_array_mut().unwrap().push(json!({
        "eventName": "INSERT", "eventSource": "aws:dynamodb",
        "dynamodb": {"Keys": {"pk": {"S": "act_1"}}, "NewImage": {"state": {"S": "warn"}}, "SequenceNumber": sequence(9)}
    }));
    assert_eq!(site.lambda.invoke(event.to_string(), TIME).await.success(), all_recorded());
    assert_eq!(ops.counts().keys().collect::<std::collections::BTreeSet<_>>(), [&ids[0], &ids[2]].into());
    // The stream is a hint, and comes again where it is in doubt: nothing is sent twice for that.
    assert_eq!(site.lambda.invoke(event.to_string(), TIME).await.success(), all_recorded());
    assert_eq!(ops.seen().len(), 2);
    // The sweep is the truth.
    site.lambda.invoke(sweep(), TIME).await.success();
    eventually(1, "all is delivered", async || (ops.counts().len() == 4).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_log_holds_what_an_event_says() {
    let ops = Ops::start(|_, _| ops::status(500, "ana@example.com")).await;
    let site = Site::start(&ops, "1s").await;
    let storage = Proxy::start(site.engine.addr(), pass()).await;
    let mut settings = emit_settings(&storage, &ops, "1s");
    settings.insert("RUST_LOG".to_owned(), "trace".to_owned());
    let lambda = Lambda::start("emit-retry", settings).await;
    let event = account_created("onb-1", "example.com");
    let accepted = lambda.invoke(event.clone(), TIME).await.success();
    let id = accepted["webhook_id"].as_str().unwrap().to_owned();
    lambda.invoke(site.stream(&[id]).await, TIME).await.success();
    lambda.invoke(event.replace("session_id", "ana@example.com"), TIME).await.failure("invalid_event");
    lambda
        .invoke(event.replace("{", "{\"ana@example.com\":1,\"ana@example.com\":2,"), TIME)
        .await
        .failure("malformed_json");
    lambda.invoke(json!({"Records": [{"eventSource": "aws:sqs", "body": event}]}).to_string(), TIME).await;
    let request = Raw::json("POST", "/api/v1/events", event).header("authorization", format!("Bearer {TOKEN}"));
    lambda.invoke(as_http(&request), TIME).await.success();
    let log = lambda.log().await;
    for said in ["malformed_json", "invalid_event", "unknown_trigger", "the attempt failed", "TRACE"] {
        assert!(log.contains(said), "{said} is missing: {log}");
    }
    for secret in ["ana@", TOKEN] {
        let line = log.lines().find(|line| line.contains(secret));
        assert_eq!(line, None);
    }
}

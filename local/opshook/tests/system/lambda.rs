//! emit-retry as a Lambda: the real binary, driven by a fake of the Lambda Runtime API. Nothing runs after an answer, so the
//! stream and the schedule do all the work.

mod deadline;
mod outcomes;
mod runtime;
mod triggers;

use std::time::Duration;

use serde_json::{Value, json};

use self::runtime::Lambda;
use crate::dynamo::{Dynamo, operation};
use crate::harness::{Settings, TOKEN, account_created, engine, settings};
use crate::ops::Ops;
use crate::parity;
use crate::proxy::{Proxy, pass};
use crate::raw::Raw;

/// What Lambda gives an invocation here, where the test is not about that.
const TIME: Duration = Duration::from_secs(20);

fn sweep() -> String {
    json!({"opshook": "sweep"}).to_string()
}

/// The settings of an emit-retry that delivers to `ops`.
fn emit_settings(storage: &Proxy, ops: &Ops, schedule: &str) -> Settings {
    let url = ops.url();
    let more = [("OPS_WEBHOOK_URL", url.as_str()), ("OPS_WEBHOOK_RETRY_SCHEDULE", schedule), ("EMIT_API_TOKEN", TOKEN)];
    settings(storage.addr, &more)
}

/// emit-retry as a Lambda, on an engine behind a proxy.
struct Site {
    lambda: Lambda,
    storage: Proxy,
    engine: Dynamo,
}

impl Site {
    async fn start(ops: &Ops, schedule: &str) -> Self {
        let engine = engine().await;
        let storage = Proxy::start(engine.addr(), pass()).await;
        let lambda = Lambda::start("emit-retry", emit_settings(&storage, ops, schedule)).await;
        Self { lambda, storage, engine }
    }

    /// Accepts an event of a session by direct invocation.
    async fn accept(&self, session: &str) -> String {
        let answer = self.lambda.invoke(account_created(session, "example.com"), TIME).await;
        let body = answer.success();
        assert_eq!(body["state"], "pending", "{body}");
        body["webhook_id"].as_str().unwrap().to_owned()
    }

    async fn accept_all(&self, sessions: &[&str]) -> Vec<String> {
        let mut ids = Vec::new();
        for session in sessions {
            ids.push(self.accept(session).await);
        }
        ids
    }

    /// A message, asked for by HTTP of the same process.
    async fn message(&self, id: &str) -> Value {
        let request = Raw::get(&format!("/api/v1/outbox/{id}")).header("authorization", format!("Bearer {TOKEN}"));
        let answer = self.lambda.invoke(parity::event(&request, "$default").to_string(), TIME).await.success();
        assert_eq!(answer["statusCode"], 200, "{answer}");
        serde_json::from_str(answer["body"].as_str().unwrap()).unwrap()
    }

    /// A message's item as the engine has it.
    async fn item(&self, id: &str) -> Value {
        let request = json!({"TableName": "opshook_outbox", "Key": {"pk": {"S": id}}});
        operation(self.engine.addr(), "GetItem", &request).await["Item"].take()
    }

    /// What the outbox's stream hands on when these were accepted. The number of each is in its sequence number.
    async fn stream(&self, ids: &[String]) -> String {
        let mut records = Vec::new();
        for (number, id) in ids.iter().enumerate() {
            records.push(json!({
                "eventID": format!("{number:032x}"), "eventName": "INSERT", "eventVersion": "1.1",
                "eventSource": "aws:dynamodb", "awsRegion": "eu-central-1",
                "dynamodb": {
                    "ApproximateCreationDateTime": 1795515330, "Keys": {"pk": {"S": id}},
                    "NewImage": self.item(id).await, "SequenceNumber": sequence(number), "SizeBytes": 700,
                    "StreamViewType": "NEW_IMAGE"
                },
                "eventSourceARN": "arn:aws:dynamodb:eu-central-1:123456789012:table/opshook_outbox/stream/x"
            }));
        }
        json!({"Records": records}).to_string()
    }
}

fn sequence(number: usize) -> String {
    format!("11170000000000000000{number:03}")
}

/// What a stream's invocation answers where all that was to be recorded is.
fn all_recorded() -> Value {
    json!({"batchItemFailures": []})
}

//! What invokes this function on Lambda beside HTTP: the outbox's stream, a schedule, and callers with a bare event. Each
//! is known by its own shape. An invocation has failed only where an event was not accepted, or where what came of an
//! attempt could not be recorded: a delivery that failed and is recorded is a success, or Lambda would try again outside
//! the schedule, and hold up the stream.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use contract::json::{TopLevel, top_level};
use futures_util::future::join;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use service::host::{Invocation, Invoke, InvokeError};

use crate::App;
use crate::accept;
use crate::dispatch::{Dispatcher, FOR_THE_ANSWER};
use crate::figures;

/// Fields that other triggers' events have and an event of ours has not.
const FOREIGN: [&str; 9] = [
    "Records",
    "records",
    "source",
    "detail-type",
    "requestContext",
    "httpMethod",
    "awslogs",
    "triggerSource",
    "opshook",
];

/// What the figures of the outbox may take; a sweep has other things to do.
const FOR_FIGURES: Duration = Duration::from_millis(1_800);

/// Answers invocations. `dispatcher` works on messages while one is under way; there is none while sending is disabled.
/// `function` is Lambda's name of this function.
pub fn invoke(app: Arc<App>, dispatcher: Option<Arc<Dispatcher>>, function: String) -> Invoke {
    let function: Arc<str> = function.into();
    Arc::new(move |invocation| {
        let (app, dispatcher, function) = (Arc::clone(&app), dispatcher.clone(), Arc::clone(&function));
        Box::pin(async move { answer(&app, dispatcher.as_ref(), &function, invocation).await })
    })
}

async fn answer(
    app: &App,
    dispatcher: Option<&Arc<Dispatcher>>,
    function: &str,
    invocation: Invocation,
) -> Result<Value, InvokeError> {
    let Invocation { payload, request_id, time } = invocation;
    match (Trigger::of(&payload)?, dispatcher) {
        (Trigger::Direct, _) => {
            let accepted = accept::take(app, payload.as_bytes(), Some(&request_id)).await?;
            Ok(json!(accepted))
        }
        (Trigger::Schedule, dispatcher) => {
            let limit = time.saturating_sub(FOR_THE_ANSWER).min(FOR_FIGURES);
            let told = figures::tell(&app.store, function, app.clock.now(), limit);
            // Beside the work, which may take all the time there is.
            let (swept, ()) = join(sweep(dispatcher, time), told).await;
            swept
        }
        (Trigger::Stream(inserts), Some(dispatcher)) => {
            let ids: Vec<String> = inserts.iter().map(|insert| insert.webhook_id.clone()).collect();
            let unrecorded = dispatcher.attempt_now(&ids, time).await;
            Ok(failed_from(&inserts, &unrecorded))
        }
        (Trigger::Stream(_), None) => Ok(failed_from(&[], &[])),
    }
}

async fn sweep(dispatcher: Option<&Arc<Dispatcher>>, time: Duration) -> Result<Value, InvokeError> {
    let Some(dispatcher) = dispatcher else { return Ok(Value::Null) };
    match dispatcher.work(time).await.len() {
        0 => Ok(Value::Null),
        unrecorded => Err(InvokeError::Unrecorded(unrecorded)),
    }
}

/// The stream's answer: from the first message on whose outcome could not be recorded, the batch is to come again.
fn failed_from(inserts: &[Insert], unrecorded: &[String]) -> Value {
    let first = inserts.iter().find(|insert| unrecorded.contains(&insert.webhook_id));
    let failures: Vec<Value> = first.iter().map(|first| json!({"itemIdentifier": first.sequence_number})).collect();
    json!({"batchItemFailures": failures})
}

/// What an invocation is about.
#[derive(Debug, PartialEq, Eq)]
enum Trigger {
    /// These messages were accepted a moment ago, in this order.
    Stream(Vec<Insert>),
    /// It is time to look at what is due.
    Schedule,
    /// The payload is an event of ours, or else nothing that anyone takes.
    Direct,
}

/// A message that was put into the outbox.
#[derive(Debug, PartialEq, Eq)]
struct Insert {
    webhook_id: String,
    sequence_number: String,
}

impl Trigger {
    /// Tells what a payload is by its fields.
    fn of(payload: &str) -> Result<Self, InvokeError> {
        // What is no JSON object is told what is wrong where events are read.
        let Ok(TopLevel::Object(fields)) = top_level(payload.as_bytes()) else { return Ok(Self::Direct) };
        if fields.contains_key("event") || fields.contains_key("type") {
            return Ok(Self::Direct);
        }
        let text = |name: &str| fields.get(name).and_then(|raw| serde_json::from_str::<String>(raw.get()).ok());
        let source = text("source");
        if matches!(source.as_deref(), Some("aws.events" | "aws.scheduler"))
            || text("opshook").as_deref() == Some("sweep")
        {
            return Ok(Self::Schedule);
        }
        let records = fields.get("Records").and_then(|raw| serde_json::from_str::<Vec<Record>>(raw.get()).ok());
        let of_a_stream = |records: &Vec<Record>| !records.is_empty() && records.iter().all(Record::is_of_a_stream);
        if let Some(records) = records.filter(of_a_stream) {
            return Ok(Self::Stream(inserts(records)));
        }
        match FOREIGN.into_iter().find(|name| fields.contains_key(*name)) {
            Some(name) => Err(InvokeError::Trigger(format!(
                "emit-retry is invoked by an HTTP API, by its outbox's stream, by a schedule of EventBridge, or with a \
                 bare event; this is none of these: it has `{name}`"
            ))),
            None => Ok(Self::Direct),
        }
    }
}

/// A record of a DynamoDB stream, as far as it matters.
#[derive(Deserialize)]
struct Record {
    #[serde(rename = "eventSource")]
    source: String,
    #[serde(rename = "eventName", default)]
    name: String,
    #[serde(rename = "dynamodb", default)]
    change: Change,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Change {
    keys: BTreeMap<String, Text>,
    /// Not there where the stream carries keys alone.
    new_image: Option<BTreeMap<String, Box<RawValue>>>,
    sequence_number: String,
}

/// A DynamoDB string; none for an attribute of another type.
#[derive(Deserialize)]
struct Text {
    #[serde(rename = "S")]
    text: Option<String>,
}

impl Record {
    fn is_of_a_stream(&self) -> bool {
        self.source == "aws:dynamodb"
    }

    /// Whether it may be a message that waits for its first attempt: whether it still does, its claim will tell.
    fn is_new_message(&self) -> bool {
        let pending = |image: &BTreeMap<String, Box<RawValue>>| {
            let state = image.get("state").and_then(|raw| serde_json::from_str::<Text>(raw.get()).ok());
            state.and_then(|state| state.text).as_deref() == Some("pending")
        };
        self.name == "INSERT" && self.change.new_image.as_ref().is_none_or(pending)
    }
}

fn inserts(records: Vec<Record>) -> Vec<Insert> {
    let mut inserts = Vec::<Insert>::new();
    for mut record in records.into_iter().filter(Record::is_new_message) {
        let key = record.change.keys.remove("pk").and_then(|key| key.text);
        let Some(webhook_id) = key.filter(|key| key.starts_with("msg_")) else { continue };
        if inserts.iter().all(|insert| insert.webhook_id != webhook_id) {
            inserts.push(Insert { webhook_id, sequence_number: record.change.sequence_number });
        }
    }
    inserts
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn record(name: &str, key: &str, image: Value, number: u32) -> Value {
        json!({
            "eventID": "c4", "eventName": name, "eventVersion": "1.1", "eventSource": "aws:dynamodb",
            "awsRegion": "eu-central-1", "eventSourceARN": "arn:aws:dynamodb:eu-central-1:123456789012:table/t/stream/x",
            "dynamodb": {
                "ApproximateCreationDateTime": 1795515330, "Keys": {"pk": {"S": key}}, "NewImage": image,
                "SequenceNumber": format!("100{number}"), "SizeBytes": 26, "StreamViewType": "NEW_IMAGE"
            }
        })
    }

    fn of(payload: Value) -> Result<Trigger, InvokeError> {
        Trigger::of(&payload.to_string())
    }

    #[test]
    fn of_a_stream_the_new_pending_messages_are_taken_once_each() {
        let pending = || json!({"state": {"S": "pending"}, "attempts_total": {"N": "0"}, "x": {"NULL": true}});
        let mut keys_only = record("INSERT", "msg_4", Value::Null, 9);
        keys_only["dynamodb"].as_object_mut().unwrap().remove("NewImage");
        let records = json!([
            record("MODIFY", "msg_1", pending(), 1),
            record("INSERT", "msg_2", json!({"state": {"S": "delivered"}}), 2),
            record("INSERT", "act_0", json!({"state": {"S": "info"}}), 3),
            record("INSERT", "act_1", pending(), 4),
            record("REMOVE", "msg_1", Value::Null, 5),
            record("INSERT", "msg_1", pending(), 6),
            record("INSERT", "msg_3", pending(), 7),
            record("INSERT", "msg_1", pending(), 8),
            keys_only,
        ]);
        let Trigger::Stream(inserts) = of(json!({"Records": records})).unwrap() else { unreachable!() };
        let taken: Vec<_> = inserts.iter().map(|i| (i.webhook_id.as_str(), i.sequence_number.as_str())).collect();
        assert_eq!(taken, [("msg_1", "1006"), ("msg_3", "1007"), ("msg_4", "1009")]);
        let failed = |ids: &[&str]| {
            let ids: Vec<String> = ids.iter().map(|id| (*id).to_owned()).collect();
            failed_from(&inserts, &ids)
        };
        assert_eq!(failed(&[]), json!({"batchItemFailures": []}));
        assert_eq!(failed(&["msg_4", "msg_3"]), json!({"batchItemFailures": [{"itemIdentifier": "1007"}]}));
    }

    #[test]
    fn a_schedule_is_known_by_its_source_or_by_what_its_target_sends() {
        let rule = json!({
            "version": "0", "id": "53dc4d37", "detail-type": "Scheduled Event", "source": "aws.events",
            "account": "123456789012", "time": "2026-11-24T10:15:30Z", "region": "eu-central-1",
            "resources": ["arn:aws:events:eu-central-1:123456789012:rule/sweep"], "detail": {}
        });
        for event in [rule, json!({"source": "aws.scheduler", "detail": "{}"}), json!({"opshook": "sweep"})] {
            assert_eq!(of(event.clone()).unwrap(), Trigger::Schedule, "{event}");
        }
    }

    #[test]
    fn other_triggers_are_refused_and_all_else_is_read_as_an_event() {
        for (event, field) in [
            (json!({"Records": [{"eventSource": "aws:sqs", "body": "x"}]}), "Records"),
            (json!({"Records": [{"EventSource": "aws:sns"}]}), "Records"),
            (json!({"Records": [record("INSERT", "msg_1", json!({}), 1), {"eventSource": "aws:s3"}]}), "Records"),
            (json!({"Records": []}), "Records"),
            (json!({"records": {}}), "records"),
            (json!({"source": "aws.s3", "detail-type": "Object Created", "detail": {}}), "source"),
            (json!({"requestContext": {"elb": {}}, "httpMethod": "GET"}), "requestContext"),
            (json!({"awslogs": {"data": ""}}), "awslogs"),
            (json!({"opshook": "stop"}), "opshook"),
        ] {
            let error = of(event.clone()).unwrap_err();
            assert_eq!(error.code(), "unknown_trigger");
            assert!(error.to_string().ends_with(&format!("it has `{field}`")), "{event}: {error}");
        }
        let event = json!({"event": "account.created", "session_id": "s", "data": {"Records": []}});
        // Such an event is refused by its field that is none: it must not be taken for a trigger and get lost.
        let odd = json!({"type": "account.created", "session_id": "s", "source": "aws.events"});
        for payload in
            [event.to_string(), odd.to_string(), "{}".to_owned(), "[]".to_owned(), "{".to_owned(), "null".to_owned()]
        {
            assert_eq!(Trigger::of(&payload).unwrap(), Trigger::Direct, "{payload}");
        }
    }
}

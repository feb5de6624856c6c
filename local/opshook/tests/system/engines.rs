//! What we depend on of an engine, without the SDK: the embedded one and DynamoDB Local (`OPSHOOK_TEST_DYNAMODB`) have to
//! give these answers, both of them.

use serde_json::{Value, json};

use crate::dynamo::{Dynamo, ask, items, operation};
use crate::harness::engine;

const OUTBOX: &str = "opshook_outbox";

/// A message's row, as far as the indexes are concerned.
fn row(number: usize, due_at: Option<usize>) -> Value {
    let mut item = json!({
        "pk": {"S": format!("msg_{number:02}")},
        "state_key": {"S": "pending#0"},
        "accepted_key": {"S": format!("2026-11-24T10:00:{number:02}.000Z#msg_{number:02}")},
        "state": {"S": "pending"},
        "body": {"S": "{}"},
    });
    if let Some(due_at) = due_at {
        item["due_key"] = json!({"S": "due#0"});
        item["due_at"] = json!({"N": due_at.to_string()});
    }
    item
}

async fn put(engine: &Dynamo, item: &Value) {
    operation(engine.addr(), "PutItem", &json!({"TableName": OUTBOX, "Item": item})).await;
}

fn ids(answer: &Value) -> Vec<String> {
    answer["Items"].as_array().unwrap().iter().map(|item| item["pk"]["S"].as_str().unwrap().to_owned()).collect()
}

fn kind(body: &Value) -> &str {
    body["__type"].as_str().unwrap().rsplit('#').next().unwrap()
}

#[tokio::test]
async fn a_conditional_put_that_fails_answers_with_the_old_item() {
    let engine = engine().await;
    put(&engine, &row(1, None)).await;
    let again = json!({
        "TableName": OUTBOX, "Item": row(1, Some(5)), "ConditionExpression": "attribute_not_exists(pk)",
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD"
    });
    let reply = ask(engine.addr(), "PutItem", &again).await;
    assert_eq!((reply.status, kind(&reply.body)), (400, "ConditionalCheckFailedException"));
    assert_eq!(reply.body["Item"], row(1, None));
}

#[tokio::test]
async fn a_conditional_update_answers_with_the_new_item_or_the_old_one() {
    let engine = engine().await;
    put(&engine, &row(1, Some(5))).await;
    let mut change = json!({
        "TableName": OUTBOX, "Key": {"pk": {"S": "msg_01"}},
        "UpdateExpression": "SET claim_id = :claim REMOVE due_key, due_at",
        "ConditionExpression": "attribute_not_exists(claim_id) OR lease_until <= :now",
        "ExpressionAttributeValues": {":claim": {"S": "a"}, ":now": {"N": "9"}},
        "ReturnValues": "ALL_NEW", "ReturnValuesOnConditionCheckFailure": "ALL_OLD"
    });
    let mut expected = row(1, None);
    expected["claim_id"] = json!({"S": "a"});
    assert_eq!(operation(engine.addr(), "UpdateItem", &change).await["Attributes"], expected);
    change["ExpressionAttributeValues"][":claim"] = json!({"S": "b"});
    let reply = ask(engine.addr(), "UpdateItem", &change).await;
    assert_eq!((reply.status, kind(&reply.body)), (400, "ConditionalCheckFailedException"));
    assert_eq!(reply.body["Item"], expected);
}

#[tokio::test]
async fn a_cancelled_transaction_says_which_condition_failed_and_on_what_and_changes_nothing() {
    let engine = engine().await;
    put(&engine, &row(1, None)).await;
    let part = |number| {
        json!({"Put": {
            "TableName": OUTBOX, "Item": row(number, None), "ConditionExpression": "attribute_not_exists(pk)",
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD"
        }})
    };
    let reply = ask(engine.addr(), "TransactWriteItems", &json!({"TransactItems": [part(2), part(1)]})).await;
    assert_eq!((reply.status, kind(&reply.body)), (400, "TransactionCanceledException"));
    let reasons = &reply.body["CancellationReasons"];
    assert_eq!((&reasons[0]["Code"], &reasons[1]["Code"]), (&json!("None"), &json!("ConditionalCheckFailed")));
    assert_eq!(reasons[1]["Item"], row(1, None));
    let absent = json!({"TableName": OUTBOX, "Key": {"pk": {"S": "msg_02"}}});
    assert_eq!(operation(engine.addr(), "GetItem", &absent).await.get("Item"), None);
    // One key may stand in a transaction once; the two name the refusal differently.
    let reply = ask(engine.addr(), "TransactWriteItems", &json!({"TransactItems": [part(3), part(3)]})).await;
    assert_eq!(reply.status, 400, "{reply:?}");
    assert_eq!(items(engine.addr(), OUTBOX).await, 1);
}

#[tokio::test]
async fn a_sparse_index_is_in_order_both_ways_in_pages_and_without_what_left_it() {
    let engine = engine().await;
    for number in [3, 1, 5, 2, 4] {
        put(&engine, &row(number, Some(100 - number))).await;
    }
    put(&engine, &row(6, None)).await;
    let query = |forward: bool, start: &Value| {
        let mut query = json!({
            "TableName": OUTBOX, "IndexName": "due_key", "KeyConditionExpression": "due_key = :key AND due_at <= :now",
            "ExpressionAttributeValues": {":key": {"S": "due#0"}, ":now": {"N": "98"}},
            "ScanIndexForward": forward, "Limit": 2
        });
        if !start.is_null() {
            query["ExclusiveStartKey"] = start.clone();
        }
        query
    };
    for (forward, expected) in
        [(true, ["msg_05", "msg_04", "msg_03", "msg_02"]), (false, ["msg_02", "msg_03", "msg_04", "msg_05"])]
    {
        let (mut found, mut start) = (Vec::new(), Value::Null);
        for _ in 0..5 {
            let page = operation(engine.addr(), "Query", &query(forward, &start)).await;
            assert!(page["Items"].as_array().unwrap().len() <= 2, "{page}");
            found.extend(ids(&page));
            start = page["LastEvaluatedKey"].clone();
            if start.is_null() {
                break;
            }
            let names: Vec<&String> = start.as_object().unwrap().keys().collect();
            assert_eq!(names, ["due_at", "due_key", "pk"]);
        }
        assert_eq!(found, expected, "forward {forward}");
    }
    let leave = json!({
        "TableName": OUTBOX, "Key": {"pk": {"S": "msg_05"}}, "UpdateExpression": "REMOVE due_key, due_at"
    });
    operation(engine.addr(), "UpdateItem", &leave).await;
    assert_eq!(ids(&operation(engine.addr(), "Query", &query(true, &Value::Null)).await), ["msg_04", "msg_03"]);
}

#[tokio::test]
async fn an_index_projects_what_it_was_told_to_and_a_batch_reads_the_rest() {
    let engine = engine().await;
    put(&engine, &row(1, Some(1))).await;
    let query = json!({
        "TableName": OUTBOX, "IndexName": "state_key", "KeyConditionExpression": "state_key = :key",
        "ExpressionAttributeValues": {":key": {"S": "pending#0"}}
    });
    let page = operation(engine.addr(), "Query", &query).await;
    assert_eq!(page["Count"], 1);
    let item = page["Items"][0].as_object().unwrap();
    assert_eq!((item.get("state"), item.get("body")), (Some(&json!({"S": "pending"})), None));
    let keys = json!([{"pk": {"S": "msg_01"}}, {"pk": {"S": "msg_99"}}]);
    let batch = json!({"RequestItems": {OUTBOX: {"Keys": keys}}});
    let answer = operation(engine.addr(), "BatchGetItem", &batch).await;
    assert_eq!(answer["Responses"][OUTBOX], json!([row(1, Some(1))]));
    assert!(answer["UnprocessedKeys"].as_object().is_none_or(serde_json::Map::is_empty), "{answer}");
}

#[tokio::test]
async fn what_expires_is_said_of_each_table_and_a_missing_table_has_its_own_error() {
    let engine = engine().await;
    for table in [OUTBOX, "opshook_webhook_events"] {
        let told = operation(engine.addr(), "DescribeTimeToLive", &json!({"TableName": table})).await;
        let told = &told["TimeToLiveDescription"];
        assert_eq!((&told["TimeToLiveStatus"], &told["AttributeName"]), (&json!("ENABLED"), &json!("expires_at")));
    }
    let reply = ask(engine.addr(), "GetItem", &json!({"TableName": "none", "Key": {"pk": {"S": "a"}}})).await;
    assert_eq!((reply.status, kind(&reply.body)), (400, "ResourceNotFoundException"));
}

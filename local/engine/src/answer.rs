//! DynamoDB's JSON protocol over a database, with no socket.

use dynoxide::{Database, DynoxideError};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::describe::describe_table;

/// What stands before the operation in `x-amz-target`.
const TARGET_PREFIX: &str = "DynamoDB_20120810.";

/// Runs one operation, named by an `x-amz-target` such as `DynamoDB_20120810.PutItem`, and answers with the HTTP status
/// and the JSON that DynamoDB would answer with.
///
/// It blocks: a write returns when it is synced. An operation that the project doesn't use, or no operation at all, is
/// 400 `UnknownOperationException`.
pub fn answer(db: &Database, target: &str, body: &str) -> (u16, String) {
    let outcome = match target.strip_prefix(TARGET_PREFIX) {
        Some(operation) => dispatch(db, operation, body),
        None => Outcome::Unknown,
    };
    match outcome {
        Outcome::Done(json) => (200, json),
        Outcome::Failed(error) => (error.status_code(), error.to_json()),
        Outcome::Unknown => (400, r#"{"__type":"com.amazon.coral.service#UnknownOperationException"}"#.to_owned()),
    }
}

enum Outcome {
    Done(String),
    Failed(DynoxideError),
    Unknown,
}

/// One arm for each operation: its name on the wire and the method that does it.
macro_rules! operations {
    ($db:ident, $operation:ident, $body:ident, { $($name:literal => $method:ident,)* }) => {
        match $operation {
            $($name => run($body, |request| $db.$method(request)),)*
            _ => Outcome::Unknown,
        }
    };
}

fn dispatch(db: &Database, operation: &str, body: &str) -> Outcome {
    if operation == "DescribeTable" {
        return run(body, |request| describe_table(db, request));
    }
    operations!(db, operation, body, {
        "CreateTable" => create_table,
        "DeleteTable" => delete_table,
        "ListTables" => list_tables,
        "UpdateTable" => update_table,
        "UpdateTimeToLive" => update_time_to_live,
        "DescribeTimeToLive" => describe_time_to_live,
        "PutItem" => put_item,
        "GetItem" => get_item,
        "UpdateItem" => update_item,
        "DeleteItem" => delete_item,
        "Query" => query,
        "Scan" => scan,
        "BatchGetItem" => batch_get_item,
        "BatchWriteItem" => batch_write_item,
        "TransactWriteItems" => transact_write_items,
        "TransactGetItems" => transact_get_items,
    })
}

fn run<Q: DeserializeOwned, A: Serialize>(body: &str, act: impl FnOnce(Q) -> dynoxide::Result<A>) -> Outcome {
    let request = match serde_json::from_str(body) {
        Ok(request) => request,
        Err(error) => return Outcome::Failed(unreadable(&error)),
    };
    match act(request).map(|answer| serde_json::to_string(&answer)) {
        Ok(Ok(json)) => Outcome::Done(json),
        Ok(Err(_)) => Outcome::Failed(DynoxideError::InternalServerError("the answer can't be written as JSON".into())),
        Err(error) => Outcome::Failed(error),
    }
}

/// dynoxide's own request types mark what they refuse with the class that DynamoDB would answer with. Anything else is
/// named by its place only: serde's words quote the value.
fn unreadable(error: &serde_json::Error) -> DynoxideError {
    let text = error.to_string();
    for marker in ["VALIDATION:", "VALIDATION_REQUEST:", "VALIDATION_AS_READ:"] {
        if let Some(message) = text.strip_prefix(marker) {
            return DynoxideError::ValidationException(without_position(message).to_owned());
        }
    }
    for marker in ["SERIALIZATION:", "SERIALIZATION_AS_READ:"] {
        if let Some(message) = text.strip_prefix(marker) {
            return DynoxideError::SerializationException(without_position(message).to_owned());
        }
    }
    if text.contains("missing field") || text.contains("unknown variant") || text.contains("invalid type: null") {
        return DynoxideError::ValidationException(text);
    }
    if text.contains("Supplied AttributeValue") || text.contains("empty AttributeValue") {
        return DynoxideError::ValidationException(without_position(&text).to_owned());
    }
    DynoxideError::SerializationException(format!(
        "the request can't be read at line {} column {}",
        error.line(),
        error.column()
    ))
}

/// Without the ` at line 1 column 42` that serde_json puts at the end.
fn without_position(message: &str) -> &str {
    message.rfind(" at line ").map_or(message, |end| &message[..end])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    const TABLE: &str = r#"{"TableName":"things","BillingMode":"PAY_PER_REQUEST",
        "AttributeDefinitions":[{"AttributeName":"pk","AttributeType":"S"}],
        "KeySchema":[{"AttributeName":"pk","KeyType":"HASH"}]}"#;

    fn call(db: &Database, operation: &str, body: &str) -> (u16, String) {
        answer(db, &format!("{TARGET_PREFIX}{operation}"), body)
    }

    fn error_type(json: &str) -> String {
        let value: serde_json::Value = serde_json::from_str(json).unwrap();
        value["__type"].as_str().unwrap().rsplit('#').next().unwrap().to_owned()
    }

    #[test]
    fn a_condition_that_fails_answers_with_the_old_item() {
        let db = Database::memory().unwrap();
        assert_eq!(call(&db, "CreateTable", TABLE).0, 200);
        let put = r#"{"TableName":"things","Item":{"pk":{"S":"a"},"by":{"S":"first"}},
            "ConditionExpression":"attribute_not_exists(pk)","ReturnValuesOnConditionCheckFailure":"ALL_OLD"}"#;
        assert_eq!(call(&db, "PutItem", put), (200, "{}".into()));
        let (status, json) = call(&db, "PutItem", &put.replace("first", "second"));
        assert_eq!((status, error_type(&json).as_str()), (400, "ConditionalCheckFailedException"));
        assert!(json.contains(r#""by":{"S":"first"}"#), "{json}");
    }

    #[test]
    fn a_cancelled_transaction_answers_with_its_reasons_and_the_old_item() {
        let db = Database::memory().unwrap();
        assert_eq!(call(&db, "CreateTable", TABLE).0, 200);
        let put = r#"{"TransactItems":[{"Put":{"TableName":"things","Item":{"pk":{"S":"a"}},
            "ConditionExpression":"attribute_not_exists(pk)","ReturnValuesOnConditionCheckFailure":"ALL_OLD"}}]}"#;
        assert_eq!(call(&db, "TransactWriteItems", put).0, 200);
        let (status, json) = call(&db, "TransactWriteItems", put);
        assert_eq!((status, error_type(&json).as_str()), (400, "TransactionCanceledException"));
        assert!(json.contains(r#""Item":{"pk":{"S":"a"}}"#), "{json}");
    }

    #[test]
    fn what_is_no_operation_of_ours_is_unknown() {
        let db = Database::memory().unwrap();
        for target in ["", "PutItem", "DynamoDB_20120810.", "DynamoDB_20120810.ExecuteStatement", "Other.PutItem"] {
            let (status, json) = answer(&db, target, "{}");
            assert_eq!((status, error_type(&json).as_str()), (400, "UnknownOperationException"), "{target}");
        }
    }

    #[test]
    fn a_body_that_is_no_request_is_refused_without_being_quoted() {
        let db = Database::memory().unwrap();
        for body in ["", "nonsense", r#"{"TableName":["ana@example.com"]}"#, r#"{"TableName":"#] {
            let (status, json) = call(&db, "GetItem", body);
            assert_eq!((status, error_type(&json).as_str()), (400, "SerializationException"), "{body}: {json}");
            assert!(!json.contains("ana@"), "{json}");
        }
        let (status, json) = call(&db, "PutItem", r#"{"TableName":"things","Item":{"pk":{"S":"a","N":"1"}}}"#);
        assert_eq!((status, error_type(&json).as_str()), (400, "ValidationException"), "{json}");
        assert!(!json.contains("VALIDATION") && !json.contains("column"), "{json}");
    }

    #[test]
    fn a_table_that_is_missing_is_named_as_missing() {
        let db = Database::memory().unwrap();
        let (status, json) = call(&db, "DescribeTable", r#"{"TableName":"things"}"#);
        assert_eq!((status, error_type(&json).as_str()), (400, "ResourceNotFoundException"));
    }
}

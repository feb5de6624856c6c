//! `DescribeTable` without counting.
//!
//! dynoxide counts a table's items, and those of each index, anew for each description, and everyone else waits
//! meanwhile. DynamoDB tells what it counted some hours ago. `/ready` asks for a description each few seconds, so here
//! it costs the same however large the table is, and says nothing of sizes.

use dynoxide::actions::describe_table::DescribeTableRequest;
use dynoxide::{Database, Result, TableMetadata};
use serde_json::{Value, json};

/// Describes a table by what is noted of it: keys, indexes and state.
pub(crate) fn describe_table(db: &Database, request: DescribeTableRequest) -> Result<Value> {
    match db.get_table_metadata(&request.table_name)? {
        Some(table) => Ok(json!({ "Table": description(&table) })),
        // With no table there is nothing to count, and dynoxide knows how to say so.
        None => db.describe_table(request).map(|answer| json!(answer)),
    }
}

fn description(table: &TableMetadata) -> Value {
    let mut described = json!({
        "TableName": table.table_name,
        "TableId": table.table_id,
        "TableStatus": table.table_status,
        "CreationDateTime": table.created_at,
        "KeySchema": parsed(&table.key_schema),
        "AttributeDefinitions": parsed(&table.attribute_definitions),
        "DeletionProtectionEnabled": table.deletion_protection_enabled,
    });
    if let Some(mode) = &table.billing_mode {
        described["BillingModeSummary"] = json!({ "BillingMode": mode });
    }
    if let Some(indexes) = &table.gsi_definitions {
        described["GlobalSecondaryIndexes"] = with_state(parsed(indexes));
    }
    if let Some(indexes) = &table.lsi_definitions {
        described["LocalSecondaryIndexes"] = parsed(indexes);
    }
    described
}

/// What dynoxide keeps as JSON.
fn parsed(json: &str) -> Value {
    serde_json::from_str(json).unwrap_or_default()
}

/// Indexes as they were asked for become indexes as they are: an index is there as soon as its table is.
fn with_state(mut indexes: Value) -> Value {
    for index in indexes.as_array_mut().into_iter().flatten() {
        index["IndexStatus"] = json!("ACTIVE");
    }
    indexes
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn described(db: &Database) -> Value {
        let (status, json) = crate::answer(db, "DynamoDB_20120810.DescribeTable", r#"{"TableName":"things"}"#);
        assert_eq!(status, 200, "{json}");
        serde_json::from_str(&json).unwrap()
    }

    #[test]
    fn a_description_says_what_the_table_is_and_counts_nothing() {
        let db = Database::memory().unwrap();
        let keys = |hash: &str| json!([{"AttributeName": hash, "KeyType": "HASH"}]);
        let index =
            json!({"IndexName": "by_owner", "KeySchema": keys("by"), "Projection": {"ProjectionType": "KEYS_ONLY"}});
        let attributes =
            json!([{"AttributeName": "pk", "AttributeType": "S"}, {"AttributeName": "by", "AttributeType": "S"}]);
        let table = json!({"TableName": "things", "BillingMode": "PAY_PER_REQUEST", "KeySchema": keys("pk"),
            "AttributeDefinitions": attributes, "GlobalSecondaryIndexes": [index]});
        assert_eq!(crate::answer(&db, "DynamoDB_20120810.CreateTable", &table.to_string()).0, 200);

        let described = &described(&db)["Table"];
        assert_eq!(described["TableStatus"], "ACTIVE");
        assert_eq!(described["KeySchema"], keys("pk"));
        assert_eq!(described["AttributeDefinitions"], attributes);
        let index_now = &described["GlobalSecondaryIndexes"][0];
        assert_eq!((&index_now["IndexName"], &index_now["IndexStatus"]), (&json!("by_owner"), &json!("ACTIVE")));
        assert_eq!((&index_now["KeySchema"], &index_now["Projection"]), (&index["KeySchema"], &index["Projection"]));
        // To know these it would have had to read the table.
        for size in ["ItemCount", "TableSizeBytes"] {
            assert!(described.get(size).is_none() && index_now.get(size).is_none(), "{described}");
        }
    }

    #[test]
    fn a_name_that_is_none_is_refused_as_ever() {
        let db = Database::memory().unwrap();
        for (name, error) in [("things", "ResourceNotFoundException"), ("a", "ValidationException")] {
            let request = json!({"TableName": name}).to_string();
            let (status, json) = crate::answer(&db, "DynamoDB_20120810.DescribeTable", &request);
            assert!(status == 400 && json.contains(error), "{name}: {status} {json}");
        }
    }
}

//! Rows as DynamoDB keeps them, and as the rest of the store means them.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::StoreError;
use crate::tables::KEY;

/// A row: attribute names and values.
pub(crate) type Item = HashMap<String, AttributeValue>;

/// Writes a row.
pub(crate) fn write(row: &impl Serialize) -> Result<Item, StoreError> {
    serde_dynamo::to_item(row).map_err(|error| StoreError::Damaged { key: "new".to_owned(), fault: error.to_string() })
}

/// Reads a row.
pub(crate) fn read<T: DeserializeOwned>(item: Item) -> Result<T, StoreError> {
    let key = text(&item, KEY).unwrap_or_default().to_owned();
    serde_dynamo::from_item(item).map_err(|error| StoreError::Damaged { key, fault: error.to_string() })
}

/// The text of an attribute, if it is there and is one.
pub(crate) fn text<'a>(item: &'a Item, name: &str) -> Option<&'a str> {
    item.get(name).and_then(|value| value.as_s().ok()).map(String::as_str)
}

/// The number of an attribute, if it is there and is a whole one.
pub(crate) fn number(item: &Item, name: &str) -> Option<i64> {
    item.get(name).and_then(|value| value.as_n().ok()).and_then(|digits| digits.parse().ok())
}

/// A text value.
pub(crate) fn s(text: impl Into<String>) -> AttributeValue {
    AttributeValue::S(text.into())
}

/// A number value.
pub(crate) fn n(number: i64) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

/// What everything is written to under one key is a hot partition, so such keys are spread over this many.
pub(crate) const SHARDS: u8 = 4;

/// The shard of an id: from its last digit, which is random.
pub(crate) fn shard(id: &str) -> u8 {
    id.bytes().last().unwrap_or_default() % SHARDS
}

/// A key that is spread: `name#shard`.
pub(crate) fn sharded(name: &str, shard: u8) -> String {
    format!("{name}#{shard}")
}

//! Reads many rows by their keys.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::KeysAndAttributes;

use crate::client::{Deadline, Store, call};
use crate::error::StoreError;
use crate::item::{Item, s, text};
use crate::tables::KEY;

/// DynamoDB's limit of keys in one `BatchGetItem`.
const MAX_KEYS: usize = 100;

impl Store {
    /// These attributes of the rows of these keys, in their order, each read by `read` as it comes. A row that has gone
    /// in between is left out, and so is a key that stands again.
    pub(crate) async fn rows<T>(
        &self,
        table: &str,
        fields: &[&str],
        keys: Vec<String>,
        deadline: Deadline,
        read: impl Fn(Item) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        let mut rows = HashMap::new();
        for chunk in keys.chunks(MAX_KEYS) {
            let mut wanted = Some(wanted(fields, chunk)?);
            while let Some(asked) = wanted.take() {
                let request = self.client.batch_get_item().request_items(table, asked);
                let output = call("BatchGetItem", table, deadline, request.send()).await?;
                for item in output.responses.and_then(|mut tables| tables.remove(table)).unwrap_or_default() {
                    let key = text(&item, KEY).unwrap_or_default().to_owned();
                    rows.insert(key, read(item)?);
                }
                wanted = output.unprocessed_keys.and_then(|mut tables| tables.remove(table));
            }
        }
        Ok(keys.iter().filter_map(|key| rows.remove(key)).collect())
    }
}

fn wanted(fields: &[&str], keys: &[String]) -> Result<KeysAndAttributes, StoreError> {
    let names: Vec<String> = (0..fields.len()).map(|place| format!("#f{place}")).collect();
    let named = names.iter().cloned().zip(fields.iter().map(ToString::to_string)).collect();
    // DynamoDB refuses a key that stands twice.
    let mut keys = keys.to_vec();
    keys.sort_unstable();
    keys.dedup();
    KeysAndAttributes::builder()
        .set_keys(Some(keys.iter().map(|key| Item::from([(KEY.to_owned(), s(key))])).collect()))
        .projection_expression(names.join(", "))
        .set_expression_attribute_names(Some(named))
        // The index may be ahead of the replica that an eventually consistent read asks.
        .consistent_read(true)
        .build()
        .map_err(|error| StoreError::Refused { operation: "BatchGetItem", reason: error.to_string() })
}

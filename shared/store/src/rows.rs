//! Reads many rows by their keys.

use std::collections::HashMap;
use std::io;

use aws_sdk_dynamodb::types::KeysAndAttributes;
use serde::Serialize;

use crate::client::{Deadline, Store, call};
use crate::error::StoreError;
use crate::item::{Item, s, text};
use crate::tables::KEY;
use crate::walk::Found;

/// Keys in one `BatchGetItem`: DynamoDB takes 100, but rows of 64 KiB have to come within the time that one try of a call has.
const MAX_KEYS: usize = 20;
/// A page ends before its items have this many bytes as they stand in a Lambda's answer, whose limit is 6 MB.
const MAX_PAGE_BYTES: usize = 4_900_000;

/// What is read of which rows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub(crate) table: &'a str,
    pub(crate) fields: &'a [&'a str],
    pub(crate) deadline: Deadline,
}

impl Store {
    /// These attributes of the rows of these keys. A row that has gone in between is left out.
    pub(crate) async fn rows(&self, rows: Rows<'_>, keys: &[&str]) -> Result<Vec<Item>, StoreError> {
        let mut read = HashMap::new();
        for chunk in keys.chunks(MAX_KEYS) {
            self.read_rows(rows, chunk, &mut read).await?;
        }
        Ok(read.into_values().collect())
    }

    /// What `show` makes of the rows that were found, in their order, and where the next page goes on: after the last one
    /// for which there was room and time, or else at `more_from`. A row that has gone in between is left out, and so is a
    /// key that stands again.
    pub(crate) async fn shown<T: Serialize>(
        &self,
        rows: Rows<'_>,
        found: &[Found],
        more_from: Option<String>,
        show: impl Fn(Item) -> Option<T>,
    ) -> Result<(Vec<T>, Option<String>), StoreError> {
        let (mut items, mut bytes, mut last) = (Vec::new(), 0, None);
        for chunk in found.chunks(MAX_KEYS) {
            let keys: Vec<&str> = chunk.iter().map(|found| found.key.as_str()).collect();
            let mut read = HashMap::new();
            let mut answer = self.read_rows(rows, &keys, &mut read).await;
            for found in chunk {
                let Some(item) = read.remove(&found.key) else {
                    match std::mem::replace(&mut answer, Ok(())) {
                        // What was read counts, where there is no time for the rest.
                        Err(StoreError::Unavailable(_)) if last.is_some() => return Ok((items, last)),
                        answer => answer?,
                    }
                    continue;
                };
                if let Some(item) = show(item) {
                    bytes += bytes_in_an_answer(&item);
                    if bytes > MAX_PAGE_BYTES && !items.is_empty() {
                        return Ok((items, last));
                    }
                    items.push(item);
                }
                last = Some(found.position.clone());
            }
        }
        Ok((items, more_from))
    }

    /// Reads the rows of at most [`MAX_KEYS`] keys into `read`, by their keys; some of them where it fails.
    async fn read_rows(
        &self,
        rows: Rows<'_>,
        keys: &[&str],
        read: &mut HashMap<String, Item>,
    ) -> Result<(), StoreError> {
        let Rows { table, fields, deadline } = rows;
        let (mut wanted, mut round) = (Some(wanted(fields, keys)?), 0);
        while let Some(asked) = wanted.take() {
            let request = self.client.batch_get_item().request_items(table, asked);
            let output = call("BatchGetItem", table, deadline, request.send()).await?;
            for item in output.responses.and_then(|mut tables| tables.remove(table)).unwrap_or_default() {
                read.insert(text(&item, KEY).unwrap_or_default().to_owned(), item);
            }
            wanted = output.unprocessed_keys.and_then(|mut tables| tables.remove(table));
            if wanted.is_some() {
                // Storage had no capacity for them, and would have none at once.
                let late = |()| StoreError::Unavailable("BatchGetItem: keys stay unprocessed".to_owned());
                deadline.back_off(round).await.map_err(late)?;
                round += 1;
            }
        }
        Ok(())
    }
}

fn wanted(fields: &[&str], keys: &[&str]) -> Result<KeysAndAttributes, StoreError> {
    let names: Vec<String> = (0..fields.len()).map(|place| format!("#f{place}")).collect();
    let named = names.iter().cloned().zip(fields.iter().map(ToString::to_string)).collect();
    // DynamoDB refuses a key that stands twice.
    let mut keys = keys.to_vec();
    keys.sort_unstable();
    keys.dedup();
    KeysAndAttributes::builder()
        .set_keys(Some(keys.iter().map(|key| Item::from([(KEY.to_owned(), s(*key))])).collect()))
        .projection_expression(names.join(", "))
        .set_expression_attribute_names(Some(named))
        // The index may be ahead of the replica that an eventually consistent read asks.
        .consistent_read(true)
        .build()
        .map_err(|error| StoreError::Refused { operation: "BatchGetItem", reason: error.to_string() })
}

/// How long an item's JSON is in a Lambda's answer, where the body is a text in JSON once more; with a comma.
fn bytes_in_an_answer(item: &impl Serialize) -> usize {
    let mut escaped = Escaped(1);
    // Nothing that is written fails: what can't be JSON is not sent either.
    let _ = serde_json::to_writer(&mut escaped, item);
    escaped.0
}

/// Counts bytes as they are in a JSON text.
struct Escaped(usize);

impl io::Write for Escaped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = |byte: &u8| match byte {
            b'"' | b'\\' | b'\n' | b'\r' | b'\t' => 2,
            0..=0x1f => 6,
            _ => 1,
        };
        self.0 += bytes.iter().map(length).sum::<usize>();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_is_as_long_as_its_json_is_in_the_json_of_a_lambda() {
        for text in ["", "plain", "\"quoted\" \\ and\nbroken\r\t", "ä€😀", "\u{0}\u{1f}\u{7f}\u{2028}"] {
            let item = serde_json::json!({"text": text, "inner": {"a": [1, text]}});
            let body = item.to_string();
            assert_eq!(bytes_in_an_answer(&item), serde_json::Value::from(body).to_string().len() - 2 + 1, "{text:?}");
        }
    }
}

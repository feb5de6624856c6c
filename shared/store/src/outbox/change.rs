//! One change of one row of the outbox under a condition, alone or together with the activity that tells of it.

use std::collections::HashMap;

use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{
    AttributeValue, CancellationReason, Put, ReturnValuesOnConditionCheckFailure, TransactWriteItem, Update,
};

use crate::client::{Deadline, Store, call_keeping};
use crate::error::StoreError;
use crate::item::{Item, s, write};
use crate::outbox::activity::{ActivityRow, Entry};
use crate::tables::KEY;

/// How a refused part of a transaction is named.
const CONDITION_FAILED: &str = "ConditionalCheckFailed";

/// A change of a row. Its values are named as the expressions name them.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    key: String,
    update: String,
    condition: String,
    names: HashMap<String, String>,
    values: HashMap<String, AttributeValue>,
}

impl Change {
    /// A change of the row `key`. `#state` stands for its attribute `state`, which is a reserved word.
    pub(crate) fn of(key: &str, update: impl Into<String>, condition: impl Into<String>) -> Self {
        Self {
            key: key.to_owned(),
            update: update.into(),
            condition: condition.into(),
            names: HashMap::new(),
            values: HashMap::new(),
        }
    }

    /// A change that makes the row `key` what `item` says, and removes `absent`.
    pub(crate) fn rewriting(key: &str, item: Item, absent: &[&str], condition: impl Into<String>) -> Self {
        let mut change = Self::of(key, "SET ", condition);
        for (place, (name, value)) in item.into_iter().filter(|(name, _)| name != KEY).enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            change.update.push_str(&format!("{comma}#s{place} = :s{place}"));
            change.names.insert(format!("#s{place}"), name);
            change.values.insert(format!(":s{place}"), value);
        }
        for (place, name) in absent.iter().enumerate() {
            change.update.push_str(&format!("{} #r{place}", if place == 0 { " REMOVE" } else { "," }));
            change.names.insert(format!("#r{place}"), (*name).to_owned());
        }
        change
    }

    /// Gives a value that the expressions name.
    pub(crate) fn with(mut self, name: &str, value: AttributeValue) -> Self {
        self.values.insert(name.to_owned(), value);
        self
    }

    /// The names that the expressions use; a name that none uses is refused by DynamoDB.
    fn names(&self) -> Option<HashMap<String, String>> {
        let mut names = self.names.clone();
        if self.update.contains("#state") || self.condition.contains("#state") {
            names.insert("#state".to_owned(), "state".to_owned());
        }
        (!names.is_empty()).then_some(names)
    }

    fn values(&self) -> Option<HashMap<String, AttributeValue>> {
        (!self.values.is_empty()).then(|| self.values.clone())
    }
}

impl Store {
    /// Makes a change. With `entries` all is written or nothing. Answers the row as it is where the condition failed;
    /// a row that is not there is empty. `change_id` names the entries, so that a write whose answer was lost is the same
    /// when it is sent again.
    pub(crate) async fn change(
        &self,
        change: &Change,
        change_id: &str,
        entries: &[Entry],
        deadline: Deadline,
    ) -> Result<Option<Item>, StoreError> {
        if entries.is_empty() {
            self.update(change, deadline).await
        } else {
            self.transact(change, change_id, entries, deadline).await
        }
    }

    async fn update(&self, change: &Change, deadline: Deadline) -> Result<Option<Item>, StoreError> {
        let request = self
            .client
            .update_item()
            .table_name(&self.outbox_table)
            .key(KEY, s(&change.key))
            .update_expression(&change.update)
            .condition_expression(&change.condition)
            .set_expression_attribute_names(change.names())
            .set_expression_attribute_values(change.values())
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let answer = call_keeping("UpdateItem", &self.outbox_table, deadline, request.send(), |error| match error {
            UpdateItemError::ConditionalCheckFailedException(failed) => Some(failed.item.clone().unwrap_or_default()),
            _ => None,
        });
        Ok(answer.await?.err())
    }

    async fn transact(
        &self,
        change: &Change,
        change_id: &str,
        entries: &[Entry],
        deadline: Deadline,
    ) -> Result<Option<Item>, StoreError> {
        let update = Update::builder()
            .table_name(&self.outbox_table)
            .key(KEY, s(&change.key))
            .update_expression(&change.update)
            .condition_expression(&change.condition)
            .set_expression_attribute_names(change.names())
            .set_expression_attribute_values(change.values())
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .build()
            .map_err(|error| built(&error))?;
        let mut parts = vec![TransactWriteItem::builder().update(update).build()];
        for entry in entries {
            let id = format!("act_{change_id}_{}", entry.code);
            let row = write(&ActivityRow::of(&id, entry))?;
            let put = Put::builder().table_name(&self.outbox_table).set_item(Some(row)).build();
            parts.push(TransactWriteItem::builder().put(put.map_err(|error| built(&error))?).build());
        }
        loop {
            let request = self.client.transact_write_items().set_transact_items(Some(parts.clone()));
            let send = request.send();
            let answer = call_keeping("TransactWriteItems", &self.outbox_table, deadline, send, |error| match error {
                TransactWriteItemsError::TransactionCanceledException(cancelled) => {
                    Some(cancelled.cancellation_reasons.clone().unwrap_or_default())
                }
                _ => None,
            });
            let Err(reasons) = answer.await? else { return Ok(None) };
            let of = |code: &str| reasons.iter().find(|reason| reason.code() == Some(code));
            if let Some(failed) = of(CONDITION_FAILED) {
                return Ok(Some(failed.item.clone().unwrap_or_default()));
            }
            if !reasons.iter().all(may_pass) {
                let reason = reasons.iter().filter_map(CancellationReason::code).collect::<Vec<_>>().join(", ");
                return Err(StoreError::Refused { operation: "TransactWriteItems", reason });
            }
            deadline.pause().await.map_err(|()| StoreError::Unavailable("TransactWriteItems: conflicts".to_owned()))?;
        }
    }
}

/// Whether a part of a transaction was refused only because others were there at that moment.
fn may_pass(reason: &CancellationReason) -> bool {
    matches!(
        reason.code(),
        None | Some("None" | "TransactionConflict" | "ThrottlingError" | "ProvisionedThroughputExceeded")
    )
}

fn built(error: &dyn std::fmt::Display) -> StoreError {
    StoreError::Refused { operation: "TransactWriteItems", reason: error.to_string() }
}

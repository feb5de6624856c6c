//! What the desk reads and changes.

use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{ReturnValue, ReturnValuesOnConditionCheckFailure};
use contract::ticket::TicketId;
use contract::time;
use contract::wire::{Ticket, TicketStatus};
use jiff::Timestamp;

use crate::client::{Deadline, Store, call_keeping};
use crate::error::StoreError;
use crate::events::status_key;
use crate::item::{Item, s};
use crate::tables::KEY;
use crate::view::ticket_of;

impl Store {
    /// One ticket, if it is there. What can't be read of it is left empty.
    ///
    /// # Errors
    /// When storage can't be reached.
    pub async fn ticket(&self, id: &TicketId, deadline: Deadline) -> Result<Option<Ticket>, StoreError> {
        let item = self.get(&self.events_table, id.as_str(), deadline).await?;
        Ok(item.as_ref().map(ticket_of))
    }

    /// Opens or closes a ticket, and answers it as it is then; none when there is no such ticket. To set what is set
    /// already changes nothing.
    ///
    /// # Errors
    /// When storage can't be reached.
    pub async fn set_ticket_status(
        &self,
        id: &TicketId,
        status: TicketStatus,
        now: Timestamp,
        deadline: Deadline,
    ) -> Result<Option<Ticket>, StoreError> {
        let closed = match status {
            TicketStatus::Closed => "SET #status = :status, status_key = :key, updated_at = :now, closed_at = :now",
            TicketStatus::Open => "SET #status = :status, status_key = :key, updated_at = :now REMOVE closed_at",
        };
        let request = self
            .client
            .update_item()
            .table_name(&self.events_table)
            .key(KEY, s(id.as_str()))
            .update_expression(closed)
            .condition_expression("attribute_exists(pk) AND #status <> :status")
            .expression_attribute_names("#status", "status")
            .expression_attribute_values(":status", s(status.as_str()))
            .expression_attribute_values(":key", s(status_key(id.as_str(), status)))
            .expression_attribute_values(":now", s(time::format_ms(now)))
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let answer = call_keeping("UpdateItem", &self.events_table, deadline, request.send(), |error| match error {
            UpdateItemError::ConditionalCheckFailedException(failed) => Some(failed.item.clone()),
            _ => None,
        });
        // When the condition failed, the ticket is as it should be (perhaps by our own write whose answer was lost), or
        // it is not there.
        let item: Option<Item> = match answer.await? {
            Ok(output) => output.attributes,
            Err(old) => old,
        };
        Ok(item.filter(|item| !item.is_empty()).as_ref().map(ticket_of))
    }
}

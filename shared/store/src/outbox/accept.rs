//! A message becomes durable, and is read back.

use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::types::ReturnValuesOnConditionCheckFailure;
use contract::event::Event;
use contract::id::WebhookId;
use contract::time;
use contract::wire::{Message, MessageState};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use crate::client::{Deadline, Store, call_keeping};
use crate::error::StoreError;
use crate::events::is_expired;
use crate::item::{n, text, write};
use crate::outbox::lease::{Claim, Leased};
use crate::outbox::row::{OutboxRow, VERSION, accepted_key, due_key, leased_key, session_key, state_key};
use crate::outbox::view::{is_message, message_of};

/// A message to take in.
#[derive(Debug, Clone, Copy)]
pub struct NewMessage<'a> {
    /// Its id: new, or made from an `Idempotency-Key`.
    pub webhook_id: &'a WebhookId,
    /// The event.
    pub event: &'a Event,
    /// What will be sent.
    pub body: &'a str,
    /// What the portal sent.
    pub request: &'a [u8],
    /// Now.
    pub accepted_at: Timestamp,
}

/// What became of a message that was handed in.
#[derive(Debug, Clone)]
pub enum Acceptance {
    /// It is durable, and leased by the claim that it was handed in with, if there was one.
    Accepted(Option<Box<Leased>>),
    /// It was there already, and this is its state.
    Known(MessageState),
    /// Another message was there: the key was used with another body.
    Another,
}

impl Store {
    /// Makes a message durable. With `claim` it is leased from the start, so that the good path costs two writes.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when there was no answer by the deadline: the message may be there then, and is
    /// delivered in that case.
    pub async fn accept(
        &self,
        message: &NewMessage<'_>,
        claim: Option<&Claim>,
        deadline: Deadline,
    ) -> Result<Acceptance, StoreError> {
        let row = row_of(message, claim);
        let request = self
            .client
            .put_item()
            .table_name(&self.outbox_table)
            .set_item(Some(write(&row)?))
            // What has expired counts as absent: engines remove it late, or only when told.
            .condition_expression("attribute_not_exists(pk) OR expires_at <= :now")
            .expression_attribute_values(":now", n(message.accepted_at.as_second()))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let answer = call_keeping("PutItem", &self.outbox_table, deadline, request.send(), |error| match error {
            PutItemError::ConditionalCheckFailedException(failed) => Some(failed.item.clone().unwrap_or_default()),
            _ => None,
        });
        let Err(old) = answer.await? else {
            return Ok(Acceptance::Accepted(claim.map(|claim| Box::new(Leased::of(&row, claim)))));
        };
        if text(&old, "request_sha256") != Some(&row.request_sha256) {
            return Ok(Acceptance::Another);
        }
        match claim.filter(|claim| text(&old, "claim_id") == Some(&claim.id)) {
            // Our own write took effect and its answer was lost: the lease is ours.
            Some(claim) => Ok(Acceptance::Accepted(Some(Box::new(Leased::of(&OutboxRow::of(old)?, claim))))),
            // A row that can't be read is parked, or will be.
            None => {
                Ok(Acceptance::Known(text(&old, "state").and_then(MessageState::parse).unwrap_or(MessageState::Parked)))
            }
        }
    }

    /// One message with its attempts, if it is there and has not expired. What can't be read of it is left empty.
    ///
    /// # Errors
    /// When storage can't be reached.
    pub async fn message(
        &self,
        id: &WebhookId,
        now: Timestamp,
        deadline: Deadline,
    ) -> Result<Option<Message>, StoreError> {
        if !is_message(id.as_str()) {
            return Ok(None);
        }
        let item = self.get(&self.outbox_table, id.as_str(), deadline).await?;
        Ok(item.filter(|item| !is_expired(item, now)).as_ref().map(message_of))
    }
}

fn row_of(message: &NewMessage<'_>, claim: Option<&Claim>) -> OutboxRow {
    let id = message.webhook_id.as_str();
    let session_id = message.event.session_id.as_str();
    let accepted_at = time::unix_ms(message.accepted_at);
    let lease_until = claim.map(Claim::until_ms);
    OutboxRow {
        pk: id.to_owned(),
        version: VERSION,
        state: MessageState::Pending,
        event: message.event.event.as_str().to_owned(),
        session_id: session_id.to_owned(),
        domain: message.event.domain.as_str().to_owned(),
        body: message.body.to_owned(),
        request_sha256: hex(&Sha256::digest(message.request)),
        accepted_at,
        next_attempt_at: Some(accepted_at),
        delivered_at: None,
        attempts: "[]".to_owned(),
        attempts_total: 0,
        step: 0,
        replay: 0,
        tried_at: None,
        claim_id: claim.map(|claim| claim.id.clone()),
        lease_until,
        recorded_by: None,
        expires_at: None,
        due_key: Some(if claim.is_some() { leased_key(id) } else { due_key(id, 0) }),
        due_at: Some(lease_until.unwrap_or(accepted_at)),
        state_key: state_key(id, MessageState::Pending),
        session_key: session_key(id, session_id),
        accepted_key: accepted_key(id, accepted_at),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

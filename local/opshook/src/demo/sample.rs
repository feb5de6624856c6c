//! The sample onboarding: each step is taken over HTTP, and what it promised is read back the same way.

use std::time::Duration;

use contract::signature::Secrets;
use contract::wire::{Accepted, EventRecord, Message, MessageState, Outcome};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::client::Client;
use super::step::{Happened, Missed, Report, Row, Step, Steps};
use crate::outcome::Failure;
use crate::secret::{new_secret, new_suffix};
use crate::send::signed;

/// How long a step may take to be seen: a delivery that fails at first is tried again within it, and a list on AWS may
/// lag.
const SEEN_LIMIT: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

const FIRST: &str = "account.created";
const FUNNEL: [&str; 3] = ["domain.validated", "dns.applied", "onboarding.completed"];

/// One onboarding that nobody has seen before.
pub(crate) struct Sample {
    client: Client,
    pub(crate) session_id: String,
    pub(crate) domain: String,
}

impl Sample {
    pub(crate) fn new(client: Client) -> Result<Self, Failure> {
        let suffix = new_suffix()?;
        Ok(Self { client, session_id: format!("onb-{suffix}"), domain: format!("ana-{suffix}.example.com") })
    }

    /// Takes all steps. One that was missed ends the way, but for the last, which stands alone.
    ///
    /// # Errors
    ///
    /// When they can't be told.
    pub(crate) async fn run<F>(&self, steps: &mut Steps<F>) -> Result<(), Failure>
    where
        F: FnMut(&Report) -> Result<(), Failure>,
    {
        self.way(steps).await?;
        steps.skip_to(Step::Forged)?;
        steps.came(Step::Forged, self.forged().await)?;
        Ok(())
    }

    async fn way<F>(&self, steps: &mut Steps<F>) -> Result<(), Failure>
    where
        F: FnMut(&Report) -> Result<(), Failure>,
    {
        let accepted = self.accepted().await;
        let first = accepted.as_ref().ok().map(|(_, id)| id.clone());
        let held = steps.came(Step::Accepted, accepted.map(|(happened, _)| happened))?;
        let Some(first) = first.filter(|_| held) else { return Ok(()) };
        if !steps.came(Step::Delivered, self.delivered(&first).await)? {
            return Ok(());
        }
        let ticket = self.ticket(&first).await;
        let ticket_id = match &ticket {
            Ok(Happened::Ticket { ticket_id, .. }) => ticket_id.clone(),
            _ => String::new(),
        };
        if steps.came(Step::Ticket, ticket)? && steps.came(Step::SameAgain, self.same_again(&ticket_id).await)? {
            steps.came(Step::Funnel, self.funnel().await)?;
        }
        Ok(())
    }

    async fn accepted(&self) -> Result<(Happened, String), Missed> {
        let expected = "202 from emit-retry, and a webhook_id";
        let answer = self.client.emit(self.body(FIRST)).await.map_err(|failure| missed(expected, failure.text))?;
        let accepted = answer.read::<Accepted>();
        match (answer.status, accepted) {
            (202, Some(Accepted { webhook_id: Some(webhook_id), state })) => {
                let happened = Happened::Accepted {
                    status: answer.status,
                    webhook_id: webhook_id.clone(),
                    state,
                    event: FIRST.to_owned(),
                    session_id: self.session_id.clone(),
                    domain: self.domain.clone(),
                    ms: answer.ms,
                };
                Ok((happened, webhook_id))
            }
            (_, Some(Accepted { state, .. })) => Err(missed(expected, format!("{} {state}", answer.status))),
            _ => Err(missed(expected, answer.summary())),
        }
    }

    async fn delivered(&self, webhook_id: &str) -> Result<Happened, Missed> {
        let expected = "the message delivered and answered 201";
        let message = self.delivery_of(webhook_id, expected).await?;
        let Some(last) = message.attempts.last() else { return Err(missed(expected, "no attempt")) };
        match (last.status, message.delivered_at) {
            (Some(201), Some(delivered_at)) => Ok(Happened::Delivered {
                webhook_id: webhook_id.to_owned(),
                at: last.at.clone(),
                status: 201,
                attempts: message.attempts_total,
                accepted_at: message.accepted_at,
                delivered_at,
                ms: last.ms,
            }),
            (status, _) => Err(missed(expected, format!("delivered, answered {}", status_text(status)))),
        }
    }

    async fn ticket(&self, webhook_id: &str) -> Result<Happened, Missed> {
        let expected = "an event record with outcome ticket_created, and its open ticket";
        let record = self.record_of(webhook_id, expected).await?;
        let ticket_id = match (record.outcome, &record.ticket_id) {
            (Outcome::TicketCreated, Some(ticket_id)) => ticket_id,
            (outcome, _) => return Err(missed(expected, format!("outcome {}", outcome.as_str()))),
        };
        let ticket = self.client.ticket(ticket_id).await.map_err(|failure| missed(expected, failure.text))?;
        if ticket.event_id != record.event_id {
            return Err(missed(expected, "a ticket that another event record opened"));
        }
        Ok(Happened::Ticket {
            event_id: record.event_id,
            received_at: record.received_at,
            ticket_id: ticket.ticket_id,
            subject: ticket.subject,
            status: ticket.status.as_str().to_owned(),
        })
    }

    async fn same_again(&self, ticket_id: &str) -> Result<Happened, Missed> {
        let expected = "a new message, answered 200 duplicate with the same ticket, and one ticket in all";
        let webhook_id = self.taken(FIRST, expected).await?;
        let message = self.delivery_of(&webhook_id, expected).await?;
        let status = message.attempts.last().and_then(|attempt| attempt.status);
        let record = self.record_of(&webhook_id, expected).await?;
        let tickets = self.client.tickets(&self.domain).await.map_err(|failure| missed(expected, failure.text))?;
        let same = record.ticket_id.as_deref() == Some(ticket_id) && !record.payload_changed;
        match status {
            Some(200) if same && record.outcome == Outcome::Duplicate && tickets.len() == 1 => {
                Ok(Happened::SameAgain {
                    webhook_id,
                    event_id: record.event_id,
                    outcome: record.outcome.as_str().to_owned(),
                    ticket_id: ticket_id.to_owned(),
                    status: 200,
                    tickets: 1,
                })
            }
            _ => {
                let (status, outcome) = (status_text(status), record.outcome.as_str());
                Err(missed(expected, format!("{status} {outcome}, {} tickets", tickets.len())))
            }
        }
    }

    async fn funnel(&self) -> Result<Happened, Missed> {
        let expected = "five event records in the session, the last three recorded without a ticket";
        for event in FUNNEL {
            // One after the other: in which order messages arrive is not promised.
            let webhook_id = self.taken(event, expected).await?;
            self.delivery_of(&webhook_id, expected).await?;
        }
        let records = until(|| self.client.records(&self.session_id), |records| records.len() >= 2 + FUNNEL.len())
            .await
            .map_err(|failure| missed(expected, failure.text))?;
        let seen: Vec<_> =
            records.iter().map(|record| (record.event.as_str(), record.outcome, record.ticket_id.is_some())).collect();
        let mut promised = vec![(FIRST, Outcome::TicketCreated, true), (FIRST, Outcome::Duplicate, true)];
        promised.extend(FUNNEL.map(|event| (event, Outcome::Recorded, false)));
        if seen == promised {
            return Ok(Happened::Funnel { records: records.iter().map(Row::from).collect() });
        }
        let seen: Vec<_> = seen.iter().map(|(event, outcome, _)| format!("{event} {}", outcome.as_str())).collect();
        Err(missed(expected, if seen.is_empty() { "none".to_owned() } else { seen.join(", ") }))
    }

    async fn forged(&self) -> Result<Happened, Missed> {
        let expected = "401 signature_mismatch, and nothing stored";
        let failed = |failure: Failure| missed(expected, failure.text);
        let before = self.client.records(&self.session_id).await.map_err(failed)?.len();
        let body = self.body(FIRST);
        let forger = Secrets::from(new_secret().map_err(failed)?);
        let headers = signed(&forger, None, body.as_bytes()).map_err(failed)?;
        let answer = self.client.deliver(headers, body).await.map_err(failed)?;
        let after = self.client.records(&self.session_id).await.map_err(failed)?.len();
        let value = answer.value();
        let code = value.get("code").and_then(Value::as_str).unwrap_or_default();
        if answer.status == 401 && code == "signature_mismatch" && after == before {
            return Ok(Happened::Forged { status: 401, code: code.to_owned(), records: after, ms: answer.ms });
        }
        Err(missed(expected, format!("{}, {} more event records", answer.summary(), after.saturating_sub(before))))
    }

    /// Hands an event to emit-retry; its message's id.
    async fn taken(&self, event: &str, expected: &str) -> Result<String, Missed> {
        let answer = self.client.emit(self.body(event)).await.map_err(|failure| missed(expected, failure.text))?;
        match answer.read::<Accepted>().and_then(|accepted| accepted.webhook_id) {
            Some(webhook_id) if answer.status == 202 => Ok(webhook_id),
            _ => Err(missed(expected, format!("{event}: emit-retry answered {}", answer.summary()))),
        }
    }

    /// A message when it is delivered.
    async fn delivery_of(&self, webhook_id: &str, expected: &str) -> Result<Message, Missed> {
        let message = until(|| self.client.message(webhook_id), |message| message.state != MessageState::Pending)
            .await
            .map_err(|failure| missed(expected, failure.text))?;
        if message.state == MessageState::Delivered {
            return Ok(message);
        }
        let last = message.attempts.last().map_or_else(
            || "not tried yet".to_owned(),
            |last| format!("last answer: {}", last.error.clone().unwrap_or_else(|| status_text(last.status))),
        );
        Err(missed(expected, format!("{} after {} attempts, {last}", message.state.as_str(), message.attempts_total)))
    }

    /// The event record of a message.
    async fn record_of(&self, webhook_id: &str, expected: &str) -> Result<EventRecord, Missed> {
        let is_it = |record: &EventRecord| record.webhook_id == webhook_id;
        let records = until(|| self.client.records(&self.session_id), |records| records.iter().any(is_it))
            .await
            .map_err(|failure| missed(expected, failure.text))?;
        records.into_iter().find(is_it).ok_or_else(|| missed(expected, "no event record of the message"))
    }

    fn body(&self, event: &str) -> String {
        let data = match event {
            FIRST => json!({
                "email": "ana@example.com",
                "account_verified": true,
                "needs_review": false,
                "dns_mode": "cloudflare",
                "mail_aliases": ["postmaster", "abuse"],
            }),
            _ => json!({ "dns_mode": "cloudflare" }),
        };
        json!({ "event": event, "session_id": self.session_id, "domain": self.domain, "data": data }).to_string()
    }
}

fn missed(expected: &str, seen: impl Into<String>) -> Missed {
    Missed { expected: expected.to_owned(), seen: seen.into() }
}

fn status_text(status: Option<u16>) -> String {
    status.map_or_else(|| "nothing".to_owned(), |status| status.to_string())
}

/// Looks until it is so, or the time for it is over; what was there last.
async fn until<T>(look: impl AsyncFn() -> Result<T, Failure>, is_so: impl Fn(&T) -> bool) -> Result<T, Failure> {
    let deadline = Instant::now() + SEEN_LIMIT;
    loop {
        let seen = look().await;
        let done = seen.as_ref().is_ok_and(&is_so);
        if done || Instant::now() >= deadline {
            return seen;
        }
        sleep(LOOK_AGAIN).await;
    }
}

//! The steps of the sample, and what each came to.

use contract::wire::EventRecord;
use serde::Serialize;

use super::sample::Sample;
use crate::outcome::Failure;

/// One step, in the order of an event's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Step {
    /// emit-retry took the event: 202.
    Accepted,
    /// It was signed, sent and answered 2xx.
    Delivered,
    /// receive verified it and opened a ticket, which query-events shows.
    Ticket,
    /// The same event again is a duplicate, and there is one ticket.
    SameAgain,
    /// The events that make no ticket are recorded.
    Funnel,
    /// An event with a forged signature is refused.
    Forged,
}

impl Step {
    pub(crate) const ALL: [Self; 6] =
        [Self::Accepted, Self::Delivered, Self::Ticket, Self::SameAgain, Self::Funnel, Self::Forged];
}

/// What happened, as it was read back.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Happened {
    Accepted {
        status: u16,
        webhook_id: String,
        state: String,
        event: String,
        session_id: String,
        domain: String,
        ms: u64,
    },
    Delivered {
        webhook_id: String,
        at: String,
        status: u16,
        attempts: u64,
        accepted_at: String,
        delivered_at: String,
        ms: u64,
    },
    Ticket {
        event_id: String,
        received_at: String,
        ticket_id: String,
        subject: String,
        status: String,
    },
    SameAgain {
        webhook_id: String,
        event_id: String,
        outcome: String,
        ticket_id: String,
        status: u16,
        tickets: usize,
    },
    Funnel {
        records: Vec<Row>,
    },
    Forged {
        status: u16,
        code: String,
        records: usize,
        ms: u64,
    },
}

/// One event record of the session.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) received_at: String,
    pub(crate) event: String,
    pub(crate) outcome: String,
    pub(crate) ticket_id: Option<String>,
    pub(crate) event_id: String,
    pub(crate) webhook_id: String,
}

impl From<&EventRecord> for Row {
    fn from(record: &EventRecord) -> Self {
        Self {
            received_at: record.received_at.clone(),
            event: record.event.clone(),
            outcome: record.outcome.as_str().to_owned(),
            ticket_id: record.ticket_id.clone(),
            event_id: record.event_id.clone(),
            webhook_id: record.webhook_id.clone(),
        }
    }
}

/// A step that did not happen as promised.
#[derive(Debug, Serialize)]
pub(crate) struct Missed {
    /// What was promised.
    pub(crate) expected: String,
    /// What was there instead.
    pub(crate) seen: String,
}

/// What a step came to.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Came {
    Held(Happened),
    Missed(Missed),
    /// An earlier one that it needs was missed.
    Skipped {
        skipped: bool,
    },
}

/// A step and what it came to.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) step: Step,
    pub(crate) ok: bool,
    #[serde(flatten)]
    pub(crate) came: Came,
}

/// The end of it all.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    step: &'static str,
    pub(crate) ok: bool,
    pub(crate) failed: usize,
    session_id: String,
    domain: String,
    pub(crate) webhook_id: Option<String>,
    pub(crate) ticket_id: Option<String>,
    ms: u64,
}

/// Tells each step as it comes, and counts.
pub(crate) struct Steps<F> {
    tell: F,
    told: Vec<Step>,
    failed: usize,
    webhook_id: Option<String>,
    ticket_id: Option<String>,
}

impl Steps<()> {
    pub(crate) const COUNT: usize = Step::ALL.len();
}

impl<F: FnMut(&Report) -> Result<(), Failure>> Steps<F> {
    pub(crate) fn new(tell: F) -> Self {
        Self { tell, told: Vec::new(), failed: 0, webhook_id: None, ticket_id: None }
    }

    /// Tells what a step came to; answers whether it held.
    pub(crate) fn came(&mut self, step: Step, came: Result<Happened, Missed>) -> Result<bool, Failure> {
        match &came {
            Ok(Happened::Accepted { webhook_id, .. }) => self.webhook_id = Some(webhook_id.clone()),
            Ok(Happened::Ticket { ticket_id, .. }) => self.ticket_id = Some(ticket_id.clone()),
            _ => {}
        }
        let ok = came.is_ok();
        self.report(step, came.map_or_else(Came::Missed, Came::Held))?;
        Ok(ok)
    }

    /// Tells of the steps before `last` that could not be taken.
    pub(crate) fn skip_to(&mut self, last: Step) -> Result<(), Failure> {
        for step in Step::ALL.into_iter().take_while(|step| *step != last) {
            if !self.told.contains(&step) {
                self.report(step, Came::Skipped { skipped: true })?;
            }
        }
        Ok(())
    }

    fn report(&mut self, step: Step, came: Came) -> Result<(), Failure> {
        let ok = matches!(came, Came::Held(_));
        self.failed += usize::from(!ok);
        self.told.push(step);
        (self.tell)(&Report { step, ok, came })
    }

    pub(crate) fn summary(self, sample: &Sample, ms: u64) -> Summary {
        Summary {
            step: "summary",
            ok: self.failed == 0,
            failed: self.failed,
            session_id: sample.session_id.clone(),
            domain: sample.domain.clone(),
            webhook_id: self.webhook_id,
            ticket_id: self.ticket_id,
            ms,
        }
    }
}

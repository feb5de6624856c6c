//! A row of the outbox as the judge sees it, and what may become of it.

use serde_json::Value;

/// The attempts of the default schedule.
pub const MOST_STEPS: i64 = 12;

/// A message's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub state: String,
    pub step: i64,
    pub replay: i64,
    pub attempts_total: i64,
    pub body: String,
    pub claim_id: Option<String>,
    pub lease_until: Option<i64>,
    pub next_attempt_at: Option<i64>,
    pub due_at: Option<i64>,
    pub delivered_at: Option<i64>,
    pub expires_at: Option<i64>,
    pub accepted_at: Option<i64>,
    due_key: Option<String>,
}

pub fn text(item: &Value, name: &str) -> Option<String> {
    item[name]["S"].as_str().map(str::to_owned)
}

pub fn number(item: &Value, name: &str) -> Option<i64> {
    item[name]["N"].as_str().and_then(|number| number.parse().ok())
}

impl Row {
    pub fn of(item: &Value) -> Self {
        let count = |name| number(item, name).unwrap_or_default();
        Self {
            state: text(item, "state").unwrap_or_default(),
            step: count("step"),
            replay: count("replay"),
            attempts_total: count("attempts_total"),
            body: text(item, "body").unwrap_or_default(),
            claim_id: text(item, "claim_id"),
            lease_until: number(item, "lease_until"),
            next_attempt_at: number(item, "next_attempt_at"),
            due_at: number(item, "due_at"),
            delivered_at: number(item, "delivered_at"),
            expires_at: number(item, "expires_at"),
            accepted_at: number(item, "accepted_at"),
            due_key: text(item, "due_key"),
        }
    }

    pub fn is(&self, state: &str) -> bool {
        self.state == state
    }

    pub fn has_expired(&self, true_ms: i64) -> bool {
        self.expires_at.is_some_and(|seconds| seconds <= true_ms / 1_000)
    }

    /// What is wrong with it by itself.
    pub fn fault(&self) -> Option<&'static str> {
        let pending = self.is("pending");
        let took = self.due_key.as_deref().is_some_and(|key| key.starts_with("delivered#"));
        match () {
            () if pending && (took || self.due_key.is_none() || self.due_at.is_none()) => {
                Some("pending, and never due")
            }
            () if !pending && !took && self.due_key.is_some() => Some("at rest, and due"),
            () if took != self.is("delivered") => Some("what is delivered, and only that, is found as that"),
            () if took && self.due_at != self.delivered_at => Some("found by another time than that of its delivery"),
            () if !pending && self.claim_id.is_some() => Some("at rest, and leased"),
            () if self.is("delivered") != self.expires_at.is_some() => Some("only what is delivered expires"),
            () if self.is("delivered") && self.delivered_at.is_none() => Some("delivered, and it is not said when"),
            () if self.step > MOST_STEPS => Some("more attempts than the schedule has"),
            () => None,
        }
    }

    /// What is wrong with its having become `new`. `told` says that an activity entry about it was written with it.
    pub fn fault_in_becoming(&self, new: &Row, told: bool) -> Option<&'static str> {
        let replayed = new.replay == self.replay + 1;
        match () {
            () if new.body != self.body || new.accepted_at != self.accepted_at => Some("what is sent has changed"),
            () if new.replay != self.replay && !replayed => Some("a replay too many"),
            () if replayed && (!new.is("pending") || new.step != 0) => Some("replayed, and not from the start"),
            () if replayed && self.is("pending") => Some("replayed while it was pending"),
            () if replayed => (!told).then_some("replayed, and nothing says so"),
            () if self.is("delivered") && !new.is("delivered") => Some("delivered is final"),
            () if self.is("parked") && new.is("pending") => Some("at work again without a replay"),
            () if self.is("dead") && new.is("pending") => Some("at work again without a replay"),
            () if new.attempts_total < self.attempts_total => Some("attempts are gone"),
            () if new.attempts_total > self.attempts_total + 1 => Some("two attempts at once"),
            () if new.step > self.step + 1 || new.step < self.step => Some("the schedule jumps"),
            () if new.step > self.step && new.attempts_total == self.attempts_total => {
                Some("a step without an attempt")
            }
            () if new.state != self.state && new.attempts_total == self.attempts_total && !told => {
                Some("a change of state that nothing tells of")
            }
            () => None,
        }
    }
}

//! What people are told in the activity log (contract §5), in words that say what to do. Pure. No content of an event is
//! in it, and nothing that ops answered: that may repeat what was sent.

use contract::wire::{Attempt, Level};
use jiff::{SignedDuration, Timestamp};
use store::outbox::{Entry, Leased};

use crate::breaker::Verdict;
use crate::schedule::Next;

/// A warning is written when this retry has failed.
const WARNED_RETRY: u32 = 3;
/// Signatures hold this long either way (contract §2).
const TOLERANCE_SECONDS: i64 = 300;

/// What is told of an attempt that failed.
pub fn of_attempt(leased: &Leased, attempt: &Attempt, next: Next, now: Timestamp) -> Vec<Entry> {
    let why = reason(attempt);
    let about = |code, message| Entry {
        at: now,
        level: Level::Warn,
        code,
        message,
        webhook_id: Some(leased.webhook_id.clone()),
        session_id: Some(leased.session_id.clone()),
    };
    let mut entries = Vec::new();
    if leased.is_scheduled && leased.step == WARNED_RETRY && matches!(next, Next::Wait(_) | Next::Die) {
        entries.push(about("third_retry_failed", format!("the third retry failed: {why}")));
    }
    match next {
        Next::Die => {
            let message = format!("the last attempt failed: {why}; when the cause is mended, replay the message");
            entries.push(about("message_dead", message));
        }
        Next::Park => {
            let message =
                format!("the endpoint says that it is gone ({why}): look at OPS_WEBHOOK_URL, then replay the message");
            entries.push(about("message_parked", message));
        }
        Next::Done | Next::Wait(_) | Next::AsBefore => {}
    }
    entries
}

/// What is told when the endpoint goes down, or refuses us. `ahead` is how far its clock is ahead of ours.
pub fn endpoint_down(verdict: Verdict, attempt: &Attempt, ahead: Option<SignedDuration>, now: Timestamp) -> Entry {
    let why = reason(attempt);
    let (code, message) = if verdict == Verdict::Refuses {
        let clocks = clocks(ahead);
        let message = format!(
            "the endpoint refuses us ({why}): OPS_WEBHOOK_SECRET here must hold a secret that WEBHOOK_SECRET holds there; \
             {clocks}. Messages wait, and one at a time probes"
        );
        ("endpoint_refuses", message)
    } else {
        let message = format!(
            "the endpoint is down: messages in a row failed, the latest with {why}. The others wait, one probes"
        );
        ("endpoint_down", message)
    };
    Entry { at: now, level: Level::Warn, code, message, webhook_id: None, session_id: None }
}

/// What is told when it is back. `since` is when it went down.
pub fn endpoint_up(since: Timestamp, now: Timestamp) -> Entry {
    let seconds = now.duration_since(since).as_secs().max(0);
    let message = format!("the endpoint is back after {seconds} s: what waited is sent now, oldest first");
    Entry { at: now, level: Level::Info, code: "endpoint_up", message, webhook_id: None, session_id: None }
}

fn reason(attempt: &Attempt) -> String {
    match (attempt.status, &attempt.error) {
        (Some(status), _) => format!("status {status}"),
        (None, Some(error)) => error.clone(),
        (None, None) => "no answer".to_owned(),
    }
}

fn clocks(ahead: Option<SignedDuration>) -> String {
    let Some(ahead) = ahead else { return "its answer has no Date to compare the clocks by".to_owned() };
    let seconds = ahead.as_secs();
    let side = if seconds < 0 { "behind" } else { "ahead of" };
    let off = seconds.saturating_abs();
    let advice = if off >= TOLERANCE_SECONDS {
        format!("; more than {TOLERANCE_SECONDS} s are refused: set the clock that is wrong")
    } else {
        String::new()
    };
    format!("its clock is {off} s {side} ours{advice}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn attempt(status: Option<u16>) -> Attempt {
        let error = status.is_none().then(|| "can't connect: Connection refused".to_owned());
        Attempt { at: String::new(), status, error, ms: 1, answer: Some("ana@example.com".to_owned()) }
    }

    #[test]
    fn a_refusal_names_both_settings_and_how_far_the_clocks_differ() {
        let now = Timestamp::UNIX_EPOCH;
        let told = |ahead: Option<i64>| {
            endpoint_down(Verdict::Refuses, &attempt(Some(401)), ahead.map(SignedDuration::from_secs), now).message
        };
        for part in ["status 401", "OPS_WEBHOOK_SECRET", "WEBHOOK_SECRET holds there", "1 s behind ours"] {
            assert!(told(Some(-1)).contains(part), "{part}");
        }
        assert!(!told(Some(-1)).contains("set the clock"));
        assert!(told(Some(3_600)).contains("3600 s ahead of ours; more than 300 s are refused: set the clock"));
        assert!(told(None).contains("no Date"));
        assert!(!told(None).contains("ana@"));
    }

    #[test]
    fn what_is_told_of_the_endpoint_says_why_and_for_how_long() {
        let now = Timestamp::UNIX_EPOCH;
        let down = endpoint_down(Verdict::Down, &attempt(None), None, now);
        assert!(down.message.contains("Connection refused") && down.code == "endpoint_down");
        let up = endpoint_up(now, now + SignedDuration::from_secs(90));
        assert!(up.message.contains("after 90 s") && up.level == Level::Info);
    }
}

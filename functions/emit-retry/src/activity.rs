//! What people are told in the activity log (contract §5), in words that say what to do. Pure. No content of an event is
//! in it, and nothing that ops answered: that may repeat what was sent.

use contract::wire::{Attempt, Level};
use jiff::{SignedDuration, Timestamp};
use store::outbox::{Endpoint, Entry, Leased};

use crate::endpoint::News;
use crate::schedule::Next;

/// A warning is written when this retry has failed.
const WARNED_RETRY: u32 = 3;
/// Signatures hold this long either way (contract §2).
const TOLERANCE_SECONDS: i64 = 300;

/// What is told of an attempt that failed. `clock_ahead` is how far ops's clock is ahead of ours.
pub fn of_attempt(
    leased: &Leased,
    attempt: &Attempt,
    clock_ahead: Option<SignedDuration>,
    next: Next,
    now: Timestamp,
) -> Vec<Entry> {
    let mut why = reason(attempt);
    if matches!(attempt.status, Some(401 | 403)) {
        why = format!("{why}: {}", about_us(clock_ahead.map(|ahead| ahead.as_secs())));
    }
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

/// What is told of the endpoint, as it is now.
pub fn of_endpoint(news: News, endpoint: &Endpoint, now: Timestamp) -> Entry {
    let why = &endpoint.why;
    let lasted = |since: Timestamp| now.duration_since(since).as_secs().max(0);
    let (level, code, message) = match news {
        News::Down => {
            let message = format!(
                "the endpoint is down: different messages failed in a row, the latest with {why}. Messages wait, and one \
                 at a time is tried"
            );
            (Level::Warn, "endpoint_down", message)
        }
        News::Refuses => {
            let message = format!(
                "the endpoint refuses us ({why}): {}. Messages wait, and one at a time is tried",
                about_us(endpoint.clock_ahead_s)
            );
            (Level::Warn, "endpoint_refuses", message)
        }
        News::Up(since) => {
            let message = format!("the endpoint is back after {} s: what waited is sent now", lasted(since));
            (Level::Info, "endpoint_up", message)
        }
        News::Replaced(since) => {
            let message = format!(
                "OPS_WEBHOOK_URL names another endpoint than the one that was down for {} s: what waited is sent there",
                lasted(since)
            );
            (Level::Info, "endpoint_up", message)
        }
    };
    Entry { at: now, level, code, message, webhook_id: None, session_id: None }
}

/// Why an attempt failed, in a few words that hold nothing of what ops answered.
pub fn reason(attempt: &Attempt) -> String {
    match (attempt.status, &attempt.error) {
        (Some(status), _) => format!("status {status}"),
        (None, Some(error)) => error.clone(),
        (None, None) => "no answer".to_owned(),
    }
}

/// What to look at after a 401 or 403. `ahead` is how many seconds the endpoint's clock is ahead of ours.
fn about_us(ahead: Option<i64>) -> String {
    let clocks = match ahead {
        None => "its answer has no Date to compare the clocks by".to_owned(),
        Some(ahead) => {
            let side = if ahead < 0 { "behind" } else { "ahead of" };
            let off = ahead.saturating_abs();
            let advice = if off >= TOLERANCE_SECONDS {
                format!("; more than {TOLERANCE_SECONDS} s are refused: set the clock that is wrong")
            } else {
                String::new()
            };
            format!("its clock is {off} s {side} ours{advice}")
        }
    };
    format!("OPS_WEBHOOK_SECRET here must hold a secret that WEBHOOK_SECRET holds there; {clocks}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(news: News, why: &str, clock_ahead_s: Option<i64>) -> Entry {
        let endpoint = Endpoint { why: why.to_owned(), clock_ahead_s, ..Endpoint::new("endpoint") };
        of_endpoint(news, &endpoint, Timestamp::UNIX_EPOCH + SignedDuration::from_secs(90))
    }

    #[test]
    fn a_refusal_names_both_settings_and_how_far_the_clocks_differ() {
        let told = |ahead| told(News::Refuses, "status 401", ahead).message;
        for part in ["status 401", "OPS_WEBHOOK_SECRET", "WEBHOOK_SECRET holds there", "1 s behind ours"] {
            assert!(told(Some(-1)).contains(part), "{part}");
        }
        assert!(!told(Some(-1)).contains("set the clock"));
        assert!(told(Some(3_600)).contains("3600 s ahead of ours; more than 300 s are refused: set the clock"));
        assert!(told(None).contains("no Date"));
    }

    #[test]
    fn what_is_told_of_the_endpoint_says_why_and_for_how_long() {
        let down = told(News::Down, "can't connect: Connection refused", None);
        assert!(down.message.contains("Connection refused") && down.code == "endpoint_down");
        for news in [News::Up(Timestamp::UNIX_EPOCH), News::Replaced(Timestamp::UNIX_EPOCH)] {
            let up = told(news, "", None);
            assert!(up.message.contains("90 s") && up.level == Level::Info && up.code == "endpoint_up");
        }
    }

    #[test]
    fn what_ops_answered_is_not_told() {
        let answer = Some("ana@example.com".to_owned());
        let attempt = Attempt { at: String::new(), status: Some(401), error: None, ms: 1, answer };
        assert_eq!(reason(&attempt), "status 401");
    }
}

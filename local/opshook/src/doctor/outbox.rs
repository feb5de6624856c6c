//! What waits in the outbox, and what rests there until someone does something.

use std::net::SocketAddr;
use std::time::Duration;

use contract::time;
use contract::wire::MessageState;
use jiff::Timestamp;
use store::outbox::MessageRef;
use store::{Deadline, Store, StoreError};

use super::finding::Finding;
use crate::up::reached_at;

/// More are not counted.
const MOST: usize = 1_000;
/// Of so many it is looked whether they can be read: their rows are large.
const MOST_ROWS: usize = 100;
const TIME: Duration = Duration::from_secs(4);
/// A message is delivered at once where ops is there.
const USUAL_SECONDS: i64 = 60;
/// By then the third retry has failed long ago.
const LONG_SECONDS: i64 = 3_600;

/// Messages, oldest first, and whether there are more.
type Listed = (Vec<MessageRef>, bool);

/// Looks at what is there. `listen` is where emit-retry can be asked about it.
pub(crate) async fn check(store: &Store, listen: SocketAddr, has_token: bool, now: Timestamp) -> Vec<Finding> {
    let (pending, dead, parked) = tokio::join!(
        pending(store, now),
        resting(store, MessageState::Dead, now),
        resting(store, MessageState::Parked, now)
    );
    let (pending, dead, parked) = match (pending, dead, parked) {
        (Ok(pending), Ok(dead), Ok(parked)) => (pending, dead, parked),
        // Why is told with the function's tables.
        (Err(_), _, _) | (_, Err(_), _) | (_, _, Err(_)) => {
            let remedy = "mend what the line `emit-retry tables` says";
            return vec![Finding::warn("outbox", "it can't be looked at", remedy)];
        }
    };
    let token = if has_token { " -H \"Authorization: Bearer $EMIT_API_TOKEN\"" } else { "" };
    let base = format!("http://{}/api/v1/outbox", reached_at(listen));
    let again = |state: &str| {
        format!(
            "see why with curl -s{token} '{base}?state={state}', mend the cause, then have them sent again with \
             curl -s{token} {base}/replay -H 'Content-Type: application/json' -d '{{\"state\":\"{state}\"}}'"
        )
    };
    let mut findings = vec![of_pending(&pending, now)];
    for (state, (messages, more)) in [("dead", &dead), ("parked", &parked)] {
        findings.push(match messages.first() {
            None => Finding::ok(format!("outbox {state}"), format!("no message is {state}")),
            Some(oldest) => {
                let saw =
                    format!("{} {state}, the oldest accepted at {}", counted(messages, *more), oldest.accepted_at());
                Finding::fail(format!("outbox {state}"), saw, again(state))
            }
        });
    }
    findings.extend(newer(store, &pending.0, &parked.0).await);
    findings
}

async fn pending(store: &Store, now: Timestamp) -> Result<Listed, StoreError> {
    let messages = store.oldest_pending(None, MOST, now, Deadline::within(TIME)).await?;
    let more = messages.len() == MOST;
    Ok((messages, more))
}

async fn resting(store: &Store, state: MessageState, now: Timestamp) -> Result<Listed, StoreError> {
    let (messages, next) = store.in_state(state, None, None, MOST, now, Deadline::within(TIME)).await?;
    Ok((messages, next.is_some()))
}

fn counted(messages: &[MessageRef], more: bool) -> String {
    match (messages.len(), more) {
        (1, false) => "1 message is".to_owned(),
        (count, false) => format!("{count} messages are"),
        (count, true) => format!("{count} messages or more are"),
    }
}

fn of_pending((messages, more): &Listed, now: Timestamp) -> Finding {
    let check = "outbox pending";
    let Some(oldest) = messages.first() else { return Finding::ok(check, "nothing waits") };
    let accepted = time::parse_rfc3339(oldest.accepted_at());
    let age = accepted.map_or(0, |accepted| now.duration_since(accepted).as_secs().max(0));
    let saw = format!("{} pending, the oldest for {}", counted(messages, *more), lasted(age));
    let remedy =
        "see why with the lines about ops above and the activity log; once ops takes them, they go by themselves";
    if age <= USUAL_SECONDS {
        Finding::ok(check, saw)
    } else if age <= LONG_SECONDS {
        Finding::warn(check, saw, remedy)
    } else {
        Finding::fail(check, saw, remedy)
    }
}

fn lasted(seconds: i64) -> String {
    match seconds {
        i64::MIN..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        172_800.. => format!("{} days", seconds / 86_400),
    }
}

/// Messages that a newer emit-retry wrote: an older one parks them.
async fn newer(store: &Store, pending: &[MessageRef], parked: &[MessageRef]) -> Option<Finding> {
    let some: Vec<MessageRef> = pending.iter().take(MOST_ROWS).chain(parked.iter().take(MOST_ROWS)).cloned().collect();
    let count = store.newer(&some, Deadline::within(TIME)).await.unwrap_or_default();
    (count > 0).then(|| {
        let saw = format!("{count} of its messages were written by a newer emit-retry than this version can read");
        let remedy =
            "upgrade emit-retry and opshook on this host to the version that wrote them, then replay what is parked";
        Finding::fail("outbox format", saw, remedy)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::doctor::finding::Status;

    #[test]
    fn what_waits_for_an_hour_is_a_fault() {
        let now: Timestamp = "2026-11-24T12:00:00Z".parse().unwrap();
        let waiting = |since: &str| {
            let key = format!("{since}#msg_1");
            of_pending(&(vec![MessageRef { webhook_id: "msg_1".to_owned(), accepted_key: key }], false), now)
        };
        assert_eq!(waiting("2026-11-24T11:59:30.000Z").status, Status::Ok);
        assert_eq!(waiting("2026-11-24T11:30:00.000Z").status, Status::Warn);
        let long = waiting("2026-11-24T09:00:00.000Z");
        assert_eq!((long.status, long.saw.as_str()), (Status::Fail, "1 message is pending, the oldest for 3 h"));
        assert_eq!(waiting("2026-11-24T12:05:00.000Z").status, Status::Ok, "a clock may be behind");
        assert_eq!(of_pending(&(Vec::new(), false), now).saw, "nothing waits");
    }
}

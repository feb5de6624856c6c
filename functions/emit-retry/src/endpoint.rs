//! When the endpoint counts as down, and who probes it. Pure: the rules of contract §5 and their numbers, with the time
//! passed in; [`crate::gate`] does what they say.

use std::time::Duration;

use contract::time::{after, until};
use jiff::Timestamp;
use store::outbox::Endpoint;

/// The endpoint is down when this many different messages have failed in a row,
const MOST_FAILED: usize = 5;
/// or this many, if all of them were refused;
const MOST_REFUSED: usize = 2;
/// and nothing has got through for this long: a process notes its successes each second, and each one that contradicts
/// what it has read, and reads each second.
const DOUBT: Duration = Duration::from_millis(1_500);
const NOTED_EACH: Duration = Duration::from_secs(1);
/// The wait before the first probe; it doubles with each that fails.
const FIRST_PROBE_WAIT: Duration = Duration::from_secs(1);
const LONGEST_PROBE_WAIT: Duration = Duration::from_secs(30);
/// A probe's `Retry-After` is honoured up to this.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);
/// How long a probe has to report what came of it; then another message probes. An attempt takes 5 s at most.
const PROBE_LIMIT: Duration = Duration::from_secs(10);
/// A time this far ahead was set by a wrong clock, and doesn't count.
const CLOCKS_DIFFER: Duration = Duration::from_secs(30);
/// How many messages are remembered as having probed; after that they begin again.
pub const MOST_PROBED: usize = 48;

/// What an attempt says about the endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It lives: it took the message, or has something to say about it.
    Lives,
    /// It can't take that many at once: 429, 503, no answer in time, or no connection.
    TooMuch,
    /// It does not work, or not for this message.
    Fails,
    /// It does not let us in: that is about our settings or clock, or about this message.
    Refuses,
}

/// What a status says about the endpoint.
pub fn verdict(status: u16) -> Verdict {
    match status {
        401 | 403 => Verdict::Refuses,
        429 | 503 => Verdict::TooMuch,
        300..=399 | 404 | 405 | 408 | 500..=599 => Verdict::Fails,
        _ => Verdict::Lives,
    }
}

/// An attempt that failed and may be the endpoint's fault.
#[derive(Debug, Clone)]
pub struct Failed<'a> {
    /// The message.
    pub webhook_id: &'a str,
    /// Whether the endpoint refused it (401 or 403).
    pub is_refusal: bool,
    /// When the attempt began.
    pub began: Timestamp,
    /// When the message was attempted before, if it was.
    pub tried_at: Option<Timestamp>,
    /// Why it failed, such as `status 503`.
    pub why: &'a str,
    /// How many seconds the endpoint's clock is ahead of ours, as far as its answer says.
    pub clock_ahead_s: Option<i64>,
    /// The answer's `Retry-After`.
    pub retry_after: Option<Duration>,
}

/// What people are told of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// The endpoint is down.
    Down,
    /// It refuses us.
    Refuses,
    /// It is back; it went down at this time.
    Up(Timestamp),
    /// `OPS_WEBHOOK_URL` names another endpoint than the one that was down since this time.
    Replaced(Timestamp),
}

/// What the row becomes, and what people are told; none where nothing changes.
pub type Next = Option<(Endpoint, Option<News>)>;

/// Whether so many messages have failed in a row that the next ones go slowly, one at a time.
pub fn is_in_doubt(seen: &Endpoint) -> bool {
    let all_refused = seen.refused >= seen.failed.len();
    !seen.is_down && seen.failed.len() >= if all_refused { MOST_REFUSED } else { MOST_FAILED }
}

/// A message failed. One that began, or failed before, earlier than another got through says nothing about the endpoint.
pub fn failed(seen: &Endpoint, failed: &Failed<'_>, now: Timestamp) -> Next {
    let is_known = seen.failed.iter().any(|id| id == failed.webhook_id);
    let last_success = Some(seen.last_success).filter(|at| until(*at, now) < CLOCKS_DIFFER).unwrap_or(now);
    let is_outlived = failed.began < last_success || failed.tried_at.is_some_and(|at| at < last_success);
    if seen.is_down || is_known || is_outlived || seen.failed.len() >= MOST_FAILED {
        return concluded(seen, now);
    }
    let mut next = with_reason(seen, failed);
    if seen.failed.is_empty() {
        (next.failing_since, next.refused) = (now, 0);
    }
    next.failed.push(failed.webhook_id.to_owned());
    next.refused += usize::from(failed.is_refusal);
    next.next_probe_at = seen.next_probe_at.max(after(now, asked(failed.retry_after)));
    Some(concluded(&next, now).unwrap_or((next, None)))
}

/// The endpoint goes down, where enough have failed for long enough.
pub fn concluded(seen: &Endpoint, now: Timestamp) -> Next {
    if !is_in_doubt(seen) || !until_concluded(seen, now).is_zero() {
        return None;
    }
    let refuses = seen.refused >= seen.failed.len();
    let asked = Some(seen.next_probe_at).filter(|at| until(*at, now) <= MAX_RETRY_AFTER).unwrap_or(now);
    let down = Endpoint {
        is_down: true,
        since: now,
        failed: Vec::new(),
        refused: 0,
        failed_probes: 0,
        next_probe_at: after(now, FIRST_PROBE_WAIT).max(asked),
        probed: Vec::new(),
        refusal_told: refuses,
        ..seen.clone()
    };
    Some((down, Some(if refuses { News::Refuses } else { News::Down })))
}

/// How long until [`concluded`] may say more than now.
pub fn until_concluded(seen: &Endpoint, now: Timestamp) -> Duration {
    let wait = until(after(seen.failing_since, DOUBT), now);
    if wait > DOUBT + CLOCKS_DIFFER { Duration::ZERO } else { wait }
}

/// A message got through while `width` could be under way at once.
pub fn passed(seen: &Endpoint, width: u32, now: Timestamp) -> Next {
    let is_noted = until(now, seen.last_success) < NOTED_EACH && until(seen.last_success, now) < CLOCKS_DIFFER;
    if !seen.is_down && seen.failed.is_empty() && is_noted {
        return None;
    }
    let since = if seen.is_down { now } else { seen.since };
    let next = Endpoint {
        is_down: false,
        since,
        failed: Vec::new(),
        refused: 0,
        last_success: now,
        width,
        probed: Vec::new(),
        refusal_told: false,
        ..seen.clone()
    };
    Some((next, seen.is_down.then_some(News::Up(seen.since))))
}

/// The row is about another endpoint than ours.
pub fn replaced(seen: &Endpoint, key: &str, now: Timestamp) -> Next {
    let next = Endpoint { stamp: seen.stamp.clone(), since: now, ..Endpoint::new(key) };
    (seen.key != key).then_some((next, seen.is_down.then_some(News::Replaced(seen.since))))
}

/// How long until the next probe may be made; nothing when it may be made now.
pub fn until_probe(seen: &Endpoint, now: Timestamp) -> Duration {
    let wait = until(seen.next_probe_at, now);
    if wait > MAX_RETRY_AFTER + CLOCKS_DIFFER { Duration::ZERO } else { wait }
}

/// Which message probes: in turn the oldest, the newest and any of those that have not probed in this outage, or of all when
/// each has. `random` is from 0 up to 1.
pub fn prober<'a>(
    seen: &Endpoint,
    oldest: &'a [String],
    newest: &'a [String],
    any: &'a [String],
    random: f64,
) -> Option<&'a String> {
    let is_new = |id: &&'a String| !seen.probed.contains(id);
    let one_of = |ids: Vec<&'a String>| ids.get((random * ids.len() as f64) as usize).copied();
    let in_turn = match seen.failed_probes % 3 {
        0 => oldest.iter().find(is_new),
        1 => newest.iter().find(is_new),
        _ => one_of(any.iter().filter(is_new).collect()),
    };
    let ends = || oldest.iter().chain(newest);
    let is_not_last = |id: &&'a String| seen.probed.last() != Some(*id);
    in_turn
        .or_else(|| one_of(ends().filter(is_new).collect()))
        .or_else(|| one_of(ends().filter(is_not_last).collect()))
        .or_else(|| oldest.first())
}

/// A message probes; none when it is not the time for that.
pub fn probing(seen: &Endpoint, webhook_id: &str, now: Timestamp) -> Next {
    let mut next = Endpoint { next_probe_at: after(now, PROBE_LIMIT), ..seen.clone() };
    if next.probed.len() >= MOST_PROBED || next.probed.iter().any(|id| id == webhook_id) {
        next.probed.clear();
    }
    next.probed.push(webhook_id.to_owned());
    (seen.is_down && until_probe(seen, now).is_zero()).then_some((next, None))
}

/// The probe failed.
pub fn probe_failed(seen: &Endpoint, failed: &Failed<'_>, now: Timestamp) -> Endpoint {
    let mut next = with_reason(seen, failed);
    if failed.is_refusal && !next.failed.iter().any(|id| id == failed.webhook_id) && next.failed.len() < MOST_REFUSED {
        next.failed.push(failed.webhook_id.to_owned());
        next.refused = next.failed.len();
    }
    next.failed_probes = seen.failed_probes.saturating_add(1);
    let doubled = FIRST_PROBE_WAIT.saturating_mul(2_u32.saturating_pow(next.failed_probes)).min(LONGEST_PROBE_WAIT);
    next.next_probe_at = after(now, doubled.max(asked(failed.retry_after)));
    next
}

/// People are told once in an outage that the endpoint refuses us, when it refused different messages.
pub fn refusal_news(next: &mut Endpoint) -> Option<News> {
    let is_news = next.is_down && !next.refusal_told && next.refused >= MOST_REFUSED;
    next.refusal_told |= is_news;
    is_news.then_some(News::Refuses)
}

/// There was nothing to probe with.
pub fn probe_put_back(seen: &Endpoint, now: Timestamp) -> Endpoint {
    Endpoint { next_probe_at: after(now, FIRST_PROBE_WAIT), ..seen.clone() }
}

fn with_reason(seen: &Endpoint, failed: &Failed<'_>) -> Endpoint {
    Endpoint { why: failed.why.to_owned(), clock_ahead_s: failed.clock_ahead_s, ..seen.clone() }
}

fn asked(retry_after: Option<Duration>) -> Duration {
    retry_after.unwrap_or_default().min(MAX_RETRY_AFTER)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn at(ms: u64) -> Timestamp {
        after("2026-11-24T10:00:00Z".parse().unwrap(), Duration::from_millis(ms))
    }

    fn failure(webhook_id: &str, began: u64) -> Failed<'_> {
        let why = "status 500";
        let (is_refusal, tried_at, clock_ahead_s, retry_after) = (false, None, None, None);
        Failed { webhook_id, is_refusal, began: at(began), tried_at, why, clock_ahead_s, retry_after }
    }

    fn refusal(webhook_id: &str, began: u64) -> Failed<'_> {
        Failed { is_refusal: true, why: "status 401", ..failure(webhook_id, began) }
    }

    /// Each fails, at the millisecond that its place says times a hundred.
    fn after_failures(failures: &[Failed<'_>]) -> Endpoint {
        let fail = |seen: Endpoint, (place, failed_one): (u64, &Failed<'_>)| {
            failed(&seen, failed_one, at(place * 100)).map_or(seen, |(next, _)| next)
        };
        (0..).zip(failures).fold(Endpoint::new("endpoint"), fail)
    }

    fn five() -> Endpoint {
        after_failures(&["a", "b", "c", "d", "e"].map(|id| failure(id, 0)))
    }

    fn down() -> Endpoint {
        concluded(&five(), at(1_500)).unwrap().0
    }

    #[test]
    fn five_different_messages_mean_down_when_nothing_got_through_for_long_enough() {
        let seen = five();
        assert!(is_in_doubt(&seen) && !seen.is_down);
        assert_eq!(concluded(&seen, at(1_499)), None);
        let (next, news) = concluded(&seen, at(1_500)).unwrap();
        assert_eq!((next.is_down, news, until_probe(&next, at(1_500)).as_secs()), (true, Some(News::Down), 1));
        let four = after_failures(&["a", "b", "c", "d", "a", "b"].map(|id| failure(id, 0)));
        assert!(!is_in_doubt(&four) && concluded(&four, at(60_000)).is_none(), "the same ones prove nothing");
    }

    #[test]
    fn two_different_ones_are_enough_where_all_were_refused() {
        let seen = after_failures(&[refusal("a", 0), refusal("b", 0)]);
        assert_eq!(concluded(&seen, at(2_000)).unwrap().1, Some(News::Refuses));
        let mixed = after_failures(&[refusal("a", 0), failure("b", 0)]);
        assert!(!is_in_doubt(&mixed));
        let one = after_failures(&[refusal("a", 0), refusal("a", 0)]);
        assert!(!is_in_doubt(&one));
    }

    #[test]
    fn whoever_gets_through_ends_the_doubt_and_the_outage() {
        let (next, news) = passed(&five(), 7, at(600)).unwrap();
        assert_eq!((next.failed.len(), next.width, next.is_down, news), (0, 7, false, None));
        let (next, news) = passed(&down(), 7, at(9_000)).unwrap();
        assert_eq!((next.is_down, news), (false, Some(News::Up(at(1_500)))));
        assert_eq!(passed(&next, 7, at(9_900)), None, "it is noted once a second");
        assert!(passed(&next, 7, at(10_000)).is_some());
    }

    #[test]
    fn what_failed_before_another_got_through_says_nothing_about_the_endpoint() {
        let seen = passed(&Endpoint::new("endpoint"), 4, at(1_000)).unwrap().0;
        assert_eq!(failed(&seen, &failure("began before it", 900), at(2_000)), None);
        let outlived = Failed { tried_at: Some(at(500)), ..failure("poison", 2_000) };
        assert_eq!(failed(&seen, &outlived, at(2_000)), None);
        let not = Failed { tried_at: Some(at(1_500)), ..failure("other", 2_000) };
        assert_eq!(failed(&seen, &not, at(2_000)).unwrap().0.failed, ["other"]);
        let wrong_clock = Endpoint { last_success: at(3_600_000), ..Endpoint::new("endpoint") };
        assert!(failed(&wrong_clock, &failure("a", 2_000), at(2_000)).is_some());
    }

    #[test]
    fn probes_come_after_1_2_4_up_to_30_seconds_and_honour_retry_after_up_to_a_minute() {
        let mut seen = down();
        let now = at(1_500);
        let mut waits = vec![until_probe(&seen, now).as_secs()];
        for _ in 0..6 {
            seen = probe_failed(&seen, &failure("a", 0), now);
            waits.push(until_probe(&seen, now).as_secs());
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
        let asked = |seconds| {
            let retry_after = Some(Duration::from_secs(seconds));
            let failed = Failed { retry_after, ..failure("a", 0) };
            until_probe(&probe_failed(&seen, &failed, now), now).as_secs()
        };
        assert_eq!((asked(1), asked(45), asked(86_400)), (30, 45, 60));
        assert!(until_probe(&seen, at(0)) <= MAX_RETRY_AFTER + CLOCKS_DIFFER);
    }

    #[test]
    fn one_probes_at_a_time_and_one_that_never_reports_is_overtaken() {
        let seen = down();
        assert_eq!(probing(&seen, "a", at(2_400)), None, "not yet");
        let (taken, _) = probing(&seen, "a", at(2_500)).unwrap();
        assert_eq!(probing(&taken, "b", at(12_400)), None);
        assert!(probing(&taken, "b", at(12_500)).is_some());
        assert_eq!(probing(&five(), "a", at(2_500)), None, "it is not down");
    }

    #[test]
    fn each_probe_is_another_message_the_oldest_the_newest_and_any_in_turn() {
        let ids = |from: u32, to: u32| (from..to).map(|number| number.to_string()).collect::<Vec<_>>();
        let (oldest, mut newest, any) = (ids(0, 9), ids(0, 9), ids(3, 6));
        newest.reverse();
        let mut seen = Endpoint { next_probe_at: at(0), ..down() };
        let mut probed = Vec::new();
        for number in 0..9 {
            seen.failed_probes = number;
            let id = prober(&seen, &oldest, &newest, &any, 0.5).unwrap().clone();
            seen = Endpoint { next_probe_at: at(0), ..probing(&seen, &id, at(60_000)).unwrap().0 };
            probed.push(id);
        }
        assert_eq!(probed[..6], ["0", "8", "4", "1", "7", "5"]);
        let mut all = probed.clone();
        all.sort_unstable();
        assert_eq!(all, oldest, "each once");
        for random in [0.0, 0.3, 0.6, 0.99] {
            let again = prober(&seen, &oldest, &newest, &any, random);
            assert!(again.is_some() && again != seen.probed.last(), "then they begin again, and none twice in a row");
        }
        assert_eq!(prober(&seen, &seen.probed[8..], &[], &[], 0.5), seen.probed.last(), "but where it is alone");
        assert_eq!(prober(&seen, &[], &[], &[], 0.5), None);
    }

    #[test]
    fn a_refusal_in_an_outage_is_told_once_two_messages_were_refused() {
        let mut seen = down();
        let mut news = Vec::new();
        for id in ["a", "a", "b", "c"] {
            seen = probe_failed(&seen, &refusal(id, 0), at(2_000));
            news.push(refusal_news(&mut seen));
        }
        assert_eq!(news, [None, None, Some(News::Refuses), None]);
    }

    #[test]
    fn another_endpoint_takes_the_row_over_and_closes_what_was_open() {
        let (next, news) = replaced(&down(), "another", at(9_000)).unwrap();
        assert_eq!((next.is_down, next.key.as_str(), news), (false, "another", Some(News::Replaced(at(1_500)))));
        assert_eq!(replaced(&next, "another", at(9_000)), None);
    }
}

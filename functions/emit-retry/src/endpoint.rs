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
    in_turn.or_else(|| one_of(ends().filter(is_new).collect())).or_else(|| one_of(ends().collect()))
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

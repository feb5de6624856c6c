//! When the endpoint counts as down, who probes it, and how the backlog drains. Pure: the rules of contract §5 and their
//! numbers, with the time passed in; [`crate::gate`] does what they say.

use std::collections::VecDeque;
use std::time::Duration;

use contract::time::{after, until};
use jiff::Timestamp;
use store::outbox::{Breaker, Phase};

/// So many different messages in a row open it.
const TO_OPEN: usize = 5;
/// A message that failed so often just before others passed opens it no more: five such would open it again and again, and
/// each time that it closes all that is pending is sent.
const TO_BLAME: u32 = 3;
/// So many of them are remembered.
const MOST_SUSPECTS: usize = 64;
/// The wait before the first probe; it doubles with each that fails,
const FIRST_PROBE_WAIT: Duration = Duration::from_secs(1);
/// up to this.
const LONGEST_PROBE_WAIT: Duration = Duration::from_secs(30);
/// A probe's `Retry-After` is honoured up to this.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);
/// Whoever probes has this long to say what came of it; then another probes. An attempt takes 5 s at most.
const PROBE_LIMIT: Duration = Duration::from_secs(10);
/// A probe further ahead was set by a wrong clock, and counts as due.
const CLOCKS_DIFFER: Duration = Duration::from_secs(30);
/// At most so many messages are under way while the backlog drains.
const WIDEST: u32 = 32;

/// What an answer says about the endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It lives: it took the message, or has something to say about it.
    Lives,
    /// It does not work: no answer, or one that any message would have got.
    Down,
    /// It does not let us in: that is about our settings or clock.
    Refuses,
}

/// What a status says about the endpoint; none stands for no answer.
pub fn verdict(status: Option<u16>) -> Verdict {
    match status {
        Some(401 | 403) => Verdict::Refuses,
        None | Some(300..=399 | 404 | 408 | 429 | 500..=599) => Verdict::Down,
        Some(_) => Verdict::Lives,
    }
}

/// The different messages that failed at the endpoint in a row, as this process saw it, and those that are known to fail
/// while it works.
#[derive(Debug, Default)]
pub struct Streak {
    /// Since the endpoint last showed that it lives, or was last known to be down.
    failed: Vec<String>,
    /// Before it was known to be down, and by probes.
    failed_before: Vec<String>,
    /// How often others showed that the endpoint lives just after these had failed; the latest at the end.
    outlived: VecDeque<(String, u32)>,
}

impl Streak {
    /// Takes in what an attempt on a message said; true when the breaker has to open.
    pub fn note(&mut self, webhook_id: &str, verdict: Verdict) -> bool {
        match verdict {
            Verdict::Lives => self.lives(webhook_id),
            Verdict::Refuses => return true,
            Verdict::Down => {
                let is_new = self.failed.len() < TO_OPEN && !self.failed.iter().any(|id| id == webhook_id);
                if is_new && !self.is_its_own_fault(webhook_id) {
                    self.failed.push(webhook_id.to_owned());
                }
            }
        }
        self.failed.len() >= TO_OPEN
    }

    /// The endpoint is known to be down: the count begins anew.
    pub fn clear(&mut self) {
        for id in self.failed.drain(..) {
            // Who probes again and again in one outage has failed in one.
            if self.failed_before.len() < MOST_SUSPECTS && !self.failed_before.contains(&id) {
                self.failed_before.push(id);
            }
        }
    }

    /// Whether a message has failed since it last passed, as far as that is remembered.
    pub fn has_failed(&self, webhook_id: &str) -> bool {
        let mut failed = self.failed.iter().chain(&self.failed_before).chain(self.outlived.iter().map(|(id, _)| id));
        failed.any(|id| id == webhook_id)
    }

    /// Who failed before this one passed has failed perhaps by its own fault.
    fn lives(&mut self, webhook_id: &str) {
        self.clear();
        self.outlived.retain(|(id, _)| id != webhook_id);
        for id in std::mem::take(&mut self.failed_before).into_iter().filter(|id| id != webhook_id) {
            match self.outlived.iter_mut().find(|(known, _)| *known == id) {
                Some((_, times)) => *times = times.saturating_add(1),
                None => self.outlived.push_back((id, 1)),
            }
        }
        let over = self.outlived.len().saturating_sub(MOST_SUSPECTS);
        self.outlived.drain(..over);
    }

    fn is_its_own_fault(&self, webhook_id: &str) -> bool {
        self.outlived.iter().any(|(id, times)| id == webhook_id && *times >= TO_BLAME)
    }
}

/// It opens; none when it is open already.
pub fn opened(seen: &Breaker, now: Timestamp, verdict: Verdict, retry_after: Option<Duration>) -> Option<Breaker> {
    // It was not back after all: whoever passes and fails in turns is not asked each second, with all that is pending.
    let failed_probes = if seen.phase == Phase::Draining { seen.failed_probes.saturating_add(1) } else { 0 };
    (seen.phase != Phase::Open).then(|| Breaker {
        phase: Phase::Open,
        since: now,
        failed_probes,
        next_probe_at: after(now, probe_wait(failed_probes, retry_after)),
        refused: verdict == Verdict::Refuses,
        stamp: seen.stamp.clone(),
    })
}

/// How long until the next probe may be made; nothing when it may be made now.
pub fn until_probe(seen: &Breaker, now: Timestamp) -> Duration {
    let wait = until(seen.next_probe_at, now);
    if wait > MAX_RETRY_AFTER + CLOCKS_DIFFER { Duration::ZERO } else { wait }
}

/// Someone probes; none when it is not the time for that.
pub fn probing(seen: &Breaker, now: Timestamp) -> Option<Breaker> {
    let may = seen.phase == Phase::Open && until_probe(seen, now).is_zero();
    may.then(|| Breaker { next_probe_at: after(now, PROBE_LIMIT), ..seen.clone() })
}

/// The probe failed.
pub fn probe_failed(seen: &Breaker, now: Timestamp, verdict: Verdict, retry_after: Option<Duration>) -> Breaker {
    let failed_probes = seen.failed_probes.saturating_add(1);
    Breaker {
        failed_probes,
        next_probe_at: after(now, probe_wait(failed_probes, retry_after)),
        refused: seen.refused || verdict == Verdict::Refuses,
        ..seen.clone()
    }
}

/// There was nothing to probe with: the probe may be made again at once.
pub fn probe_put_back(seen: &Breaker, now: Timestamp) -> Breaker {
    Breaker { next_probe_at: after(now, FIRST_PROBE_WAIT), ..seen.clone() }
}

/// A probe got through; none when another's did before.
pub fn back(seen: &Breaker, now: Timestamp) -> Option<Breaker> {
    let draining = || Breaker { phase: Phase::Draining, since: now, refused: false, ..seen.clone() };
    (seen.phase == Phase::Open).then(draining)
}

/// What was pending when the endpoint came back is done; none when it is no longer draining since then.
pub fn drained(seen: &Breaker, since: Timestamp, now: Timestamp) -> Option<Breaker> {
    let is_same = seen.phase == Phase::Draining && seen.since == since;
    is_same.then(|| Breaker { phase: Phase::Closed, since: now, failed_probes: 0, ..seen.clone() })
}

/// 1, 2, 4, 8, 16, 30, 30 … s, or what the endpoint asked for.
fn probe_wait(failed: u32, retry_after: Option<Duration>) -> Duration {
    let wait = FIRST_PROBE_WAIT.saturating_mul(2_u32.saturating_pow(failed)).min(LONGEST_PROBE_WAIT);
    wait.max(retry_after.unwrap_or_default().min(MAX_RETRY_AFTER))
}

/// How many messages are under way at once while the backlog drains: 1, 4, 16, then 32; half as many after a failure of
/// the endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ramp {
    width: u32,
    passed: u32,
}

impl Default for Ramp {
    fn default() -> Self {
        Self { width: 1, passed: 0 }
    }
}

impl Ramp {
    /// How many may be under way.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Takes in what an attempt said.
    pub fn note(&mut self, verdict: Verdict) {
        if verdict != Verdict::Lives {
            *self = Self { width: (self.width / 2).max(1), passed: 0 };
            return;
        }
        self.passed += 1;
        if self.passed >= self.width {
            *self = Self { width: self.width.saturating_mul(4).min(WIDEST), passed: 0 };
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn now() -> Timestamp {
        "2026-11-24T10:00:00Z".parse().unwrap()
    }

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn what_is_about_the_message_shows_that_the_endpoint_lives() {
        for status in [200, 204, 299, 400, 409, 410, 413, 415, 418, 422] {
            assert_eq!(verdict(Some(status)), Verdict::Lives, "{status}");
        }
        for status in [300, 301, 308, 404, 408, 429, 500, 502, 503, 599] {
            assert_eq!(verdict(Some(status)), Verdict::Down, "{status}");
        }
        assert_eq!(verdict(None), Verdict::Down);
        assert_eq!((verdict(Some(401)), verdict(Some(403))), (Verdict::Refuses, Verdict::Refuses));
    }

    #[test]
    fn five_different_messages_in_a_row_open_it_and_the_same_one_never_does() {
        let mut streak = Streak::default();
        assert!(!(0..100).any(|_| streak.note("a", Verdict::Down)));
        assert!(!["b", "c", "d"].into_iter().any(|id| streak.note(id, Verdict::Down)));
        assert!(!streak.note("e", Verdict::Lives));
        assert!(!["a", "b", "c", "d"].into_iter().any(|id| streak.note(id, Verdict::Down)));
        assert!(streak.note("e", Verdict::Down));
        assert!(streak.note("a", Verdict::Down), "until it is cleared");
        streak.clear();
        assert!(!streak.note("a", Verdict::Down));
        assert!(streak.note("a", Verdict::Refuses), "a refusal opens at once");
    }

    #[test]
    fn messages_that_fail_while_others_pass_open_it_three_times_and_no_more() {
        let mut streak = Streak::default();
        let poison = ["a", "b", "c", "d", "e", "f"];
        for round in 0..5 {
            let opened = poison.into_iter().any(|id| streak.note(id, Verdict::Down));
            assert_eq!(opened, round < 3, "round {round}");
            streak.clear();
            assert!(!streak.note("new", Verdict::Lives));
        }
        let others = ["g", "h", "i", "j", "k"].map(|id| streak.note(id, Verdict::Down));
        assert_eq!(others, [false, false, false, false, true], "what failed never before still opens it");
        streak.clear();
        assert!(poison.iter().all(|id| streak.has_failed(id)) && !streak.has_failed("new"));
        assert!(!poison.into_iter().any(|id| streak.note(id, Verdict::Lives)), "they were taken");
        assert!(!poison.iter().any(|id| streak.has_failed(id)));
        assert!(poison.into_iter().any(|id| streak.note(id, Verdict::Down)), "and so are like any other");
    }

    #[test]
    fn one_outage_counts_once_however_often_a_message_probed_in_it() {
        let mut streak = Streak::default();
        for _ in 0..20 {
            ["a", "b", "c", "d", "e"].into_iter().for_each(|id| _ = streak.note(id, Verdict::Down));
            streak.clear();
        }
        assert!(!streak.note("probe", Verdict::Lives));
        assert!(["a", "b", "c", "d", "e"].into_iter().any(|id| streak.note(id, Verdict::Down)), "it is down again");
    }

    #[test]
    fn what_is_remembered_of_failures_is_bounded() {
        let mut streak = Streak::default();
        for round in 0..1_000 {
            (0..10).for_each(|number| _ = streak.note(&format!("{round}.{number}"), Verdict::Down));
            streak.clear();
            (round % 100 == 99).then(|| streak.note("passes", Verdict::Lives));
        }
        assert_eq!((streak.failed_before.len(), streak.outlived.len()), (0, MOST_SUSPECTS));
    }

    #[test]
    fn probes_come_at_1_2_4_up_to_30_seconds_and_honour_retry_after_up_to_a_minute() {
        let mut seen = opened(&Breaker::closed(), now(), Verdict::Down, None).unwrap();
        let mut waits = vec![until_probe(&seen, now()).as_secs()];
        for _ in 0..7 {
            seen = probe_failed(&seen, now(), Verdict::Down, None);
            waits.push(until_probe(&seen, now()).as_secs());
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30, 30]);
        let asked = |seconds_asked| {
            until_probe(&probe_failed(&seen, now(), Verdict::Down, Some(seconds(seconds_asked))), now()).as_secs()
        };
        assert_eq!((asked(1), asked(45), asked(86_400)), (30, 45, 60));
    }

    #[test]
    fn one_probes_at_a_time_and_one_that_never_says_what_came_of_it_is_overtaken() {
        let open = opened(&Breaker::closed(), now(), Verdict::Down, None).unwrap();
        assert_eq!(probing(&open, now()), None, "not yet");
        let later = after(now(), seconds(1));
        let taken = probing(&open, later).unwrap();
        assert_eq!(probing(&taken, after(later, seconds(9))), None);
        assert!(probing(&taken, after(later, seconds(10))).is_some());
    }

    #[test]
    fn a_clock_an_hour_ahead_keeps_nobody_from_probing() {
        let wrong = after(now(), seconds(3_600));
        let seen = opened(&Breaker::closed(), wrong, Verdict::Refuses, None).unwrap();
        assert!(probing(&seen, now()).is_some());
        assert_eq!(probing(&Breaker::closed(), now()), None);
    }

    #[test]
    fn a_breaker_opens_once_drains_once_and_closes_by_the_drain_that_it_began() {
        let open = opened(&Breaker::closed(), now(), Verdict::Down, None).unwrap();
        assert_eq!(opened(&open, now(), Verdict::Down, None), None);
        let draining = back(&open, now()).unwrap();
        assert_eq!(back(&draining, now()), None);
        assert_eq!(drained(&draining, after(now(), seconds(1)), now()), None);
        let closed = drained(&draining, now(), now()).unwrap();
        assert_eq!((closed.phase, drained(&closed, now(), now())), (Phase::Closed, None));
        let again = opened(&draining, now(), Verdict::Down, None).unwrap();
        assert_eq!(until_probe(&again, now()), seconds(2), "it was not back after all");
        let again = opened(&back(&again, now()).unwrap(), now(), Verdict::Down, None).unwrap();
        assert_eq!(until_probe(&again, now()), seconds(4));
        let closed = drained(&back(&again, now()).unwrap(), now(), now()).unwrap();
        let anew = opened(&closed, now(), Verdict::Down, None).unwrap();
        assert_eq!(until_probe(&anew, now()), seconds(1), "it was");
    }

    #[test]
    fn the_backlog_drains_1_4_16_then_32_at_a_time_and_half_of_that_after_a_failure() {
        let mut ramp = Ramp::default();
        let mut widths = Vec::new();
        for _ in 0..60 {
            widths.push(ramp.width());
            ramp.note(Verdict::Lives);
        }
        widths.dedup();
        assert_eq!(widths, [1, 4, 16, 32]);
        ramp.note(Verdict::Down);
        assert_eq!(ramp.width(), 16);
        (0..9).for_each(|_| ramp.note(Verdict::Down));
        assert_eq!(ramp.width(), 1);
    }
}
